//! `GET /api/v1/events` and `GET /api/v1/events/stream`: what devices did, and what happened to the server.
//!
//! The stream is one of server-sent events (HTML standard, section 9.2): whoever comes back with
//! `Last-Event-ID` misses nothing that is still kept.
//!
//! **Invariant:** a stream holds nothing but the number of the last event it sent: what a reader does not
//! take is not gathered. It ends by itself after ten minutes, so that nobody reads on who was signed out.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use http_body_util::channel::{Channel, Sender};
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};

use super::Admin;
use super::query::{Parameters, page};
use super::reply::Refusal;
use crate::clock::rfc3339;
use crate::error::{Error, Result};
use crate::mdm::event::{self, Event, Wanted};
use crate::storage::Store;

/// Streams at a time: a few for each of the people of a school.
const ROOM: usize = 64;
/// How many events are read at once.
const AT_ONCE: u32 = 100;
/// A line that says nothing, so that nobody in between takes the connection for dead.
const BREATH: Duration = Duration::from_secs(15);
const LIFE: Duration = Duration::from_secs(600);
/// How long a reader may take for one piece.
const PATIENCE: Duration = Duration::from_secs(60);

/// The streams that are open.
#[derive(Debug)]
pub(super) struct Streams {
    room: Arc<Semaphore>,
    ending: watch::Sender<bool>,
}

impl Default for Streams {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(ROOM)), ending: watch::Sender::new(false) }
    }
}

impl Streams {
    /// Ends all of them, and those that still come.
    pub(super) fn end(&self) {
        self.ending.send_replace(true);
    }
}

fn to_json(event: &Event) -> Value {
    json!({
        "id": event.id,
        "at": rfc3339(event.at),
        "kind": event.kind,
        "enrollment_id": event.enrollment_id,
        "words": event.words,
    })
}

fn wanted(parameters: &Parameters) -> Result<Wanted> {
    Ok(Wanted {
        kind: parameters.text("kind").map(str::to_owned),
        enrollment_id: parameters.text("enrollment").map(str::to_owned),
        since: parameters.moment("since")?,
        until: parameters.moment("until")?,
    })
}

pub(super) async fn list(State(admin): State<Admin>, parameters: Parameters) -> Result<Json<Value>, Refusal> {
    let (limit, before) = (parameters.limit()?, parameters.cursor::<i64>()?);
    let wanted = wanted(&parameters)?;
    let found = admin.mdm.store.read(move |conn| event::list(conn, &wanted, before, limit)).await?;
    Ok(Json(page(found.iter().map(|event| (event.id, to_json(event))).collect(), limit)))
}

pub(super) async fn stream(
    State(admin): State<Admin>,
    headers: HeaderMap,
    parameters: Parameters,
) -> Result<Response, Refusal> {
    let wanted = wanted(&parameters)?;
    let seen = match headers.get("last-event-id").map(|value| value.to_str().unwrap_or_default()) {
        Some(text) => Some(text.parse().map_err(|_| {
            Error::invalid("Last-Event-ID must be the `id` of an event; leave it out to begin now")
        })?),
        None => None,
    };
    let permit = admin.streams.room.clone().try_acquire_owned().map_err(|_| {
        Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{ROOM} event streams are open, which is the most; close one, or try again in a minute"),
        )
    })?;
    let newest = admin.mdm.store.read(event::last).await?;
    // A number from before the database was put back from a backup names nothing.
    let last = seen.map_or(newest, |seen: i64| seen.min(newest));
    let (sender, body) = Channel::new(1);
    let stream = Stream { sender, wanted, last, _permit: permit };
    let (store, ending) = (admin.mdm.store.clone(), admin.streams.ending.subscribe());
    tokio::spawn(stream.run(store, ending));
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // A proxy that gathers would hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

struct Stream {
    sender: Sender<Bytes>,
    wanted: Wanted,
    last: i64,
    _permit: OwnedSemaphorePermit,
}

impl Stream {
    async fn run(mut self, store: Store, mut ending: watch::Receiver<bool>) {
        let mut events = store.events();
        let end = Instant::now() + LIFE;
        // At once, so that whoever opened it knows that it is open.
        let mut open = self.send(": open\n\n".to_owned()).await;
        while open && Instant::now() < end && !*ending.borrow() {
            events.mark_unchanged();
            match self.next(&store).await {
                Err(error) => {
                    tracing::warn!(error = error.chain(), "an event stream ends: the events cannot be read");
                    return;
                }
                Ok(text) if !text.is_empty() => {
                    open = self.send(text).await;
                    continue;
                }
                Ok(_) => {}
            }
            tokio::select! {
                changed = events.changed() => open = changed.is_ok(),
                _ = ending.changed() => {}
                () = sleep(BREATH) => open = self.send(": still here\n\n".to_owned()).await,
            }
        }
    }

    /// What happened since the last that was sent.
    async fn next(&mut self, store: &Store) -> Result<String> {
        let (wanted, last) = (self.wanted.clone(), self.last);
        let found =
            store.read(move |conn| Ok((event::last(conn)?, event::after(conn, &wanted, last, AT_ONCE)?)));
        let (newest, found) = found.await?;
        // What was looked at and is not wanted is not looked at again.
        let is_all = found.len() < AT_ONCE as usize;
        self.last = match found.last() {
            Some(event) if is_all => event.id.max(newest),
            Some(event) => event.id,
            None => self.last.max(newest),
        };
        // JSON has no line ends, and a kind is ours.
        Ok(found
            .iter()
            .map(|event| format!("id: {}\nevent: {}\ndata: {}\n\n", event.id, event.kind, to_json(event)))
            .collect())
    }

    /// Whether the reader is still there.
    async fn send(&mut self, text: String) -> bool {
        matches!(timeout(PATIENCE, self.sender.send_data(Bytes::from(text))).await, Ok(Ok(())))
    }
}
