//! One connection, from the accepted stream to its end.
//!
//! `network` spawns [`serve`] for each. HTTP/2 or HTTP/1.1 is settled by ALPN (RFC 7301), so nothing
//! is guessed from the first bytes. The bounds are those of THREATS: headers, streams, resets
//! (CVE-2023-44487), time.
//!
//! **Invariant:** a connection that neither asks nor takes anything ends by itself, whatever else it
//! sends: within three minutes when idle, within six when a reply is not taken, whatever it asks meanwhile. Where others wait for
//! its place and nobody here works for it, within [`HURRY`] of being asked to leave; a body that is
//! still to come and a reply that is not taken keep nobody out.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, interval_at};
use tracing::debug;

use crate::metric::Gauge;
use crate::request::Peer;
use crate::server::budget::{Budget, Purse};
use crate::server::layers;
use crate::server::progress::{Busy, Progress, Watched};

/// Every how long a connection is looked at; also how long HTTP/1.1 waits for the next request's
/// header to be complete.
const LOOK: Duration = Duration::from_secs(60);
/// How long a connection that is up to its client may keep its place while others wait for one: from its
/// first byte when it never had a request, and from when it was asked to leave when it had.
const HURRY: Duration = Duration::from_secs(10);
/// How many looks without a step of any request, or of one that waits for its client, end a connection.
const STALLED_LOOKS: u32 = 5;
/// All header fields of a request; an `Mdm-Signature` with its chain takes about 6 KiB.
const HEADERS: u32 = 64 * 1024;

/// Connections of devices and people, after their TLS handshake.
static CONNECTIONS: Gauge = Gauge::new("russet_connections", "Open connections.");

/// What the network tells its connections.
#[derive(Clone)]
pub(super) struct Signals {
    pub(super) phase: watch::Receiver<Phase>,
    /// Told when there is no room for another connection.
    pub(super) crowded: Arc<Notify>,
}

/// The life of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Connections come and go.
    Open,
    /// Requests under way are finished, no new ones are taken.
    Draining,
    /// Whatever is left is dropped.
    Closed,
}

/// What is known of one connection's doings.
pub(super) struct Activity {
    began: Instant,
    /// What pays for the bodies of its requests.
    purse: Arc<Purse>,
    /// How far its requests have come.
    progress: Arc<Progress>,
}

impl Activity {
    /// That of a connection which was just accepted.
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Self { began: Instant::now(), purse: Purse::new(budget), progress: Arc::default() }
    }
}

/// Serves requests on `io` until it ends.
pub(super) async fn serve<I>(
    io: I,
    is_http2: bool,
    router: Router,
    peer: Peer,
    activity: Activity,
    signals: Signals,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let _counted = CONNECTIONS.enter();
    let activity = Arc::new(activity);
    let seen = activity.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let busy = Busy::new(&seen.progress);
        let request = request.map(|body| Watched::arriving(body, &busy));
        let (router, peer, purse) = (router.clone(), peer.clone(), seen.purse.clone());
        async move {
            let response = layers::answer(router, request, peer, &purse).await;
            Ok::<_, Infallible>(response.map(|body| Watched::leaving(body, busy)))
        }
    });
    let io = TokioIo::new(io);
    if is_http2 {
        attend(http2().serve_connection(io, service), &activity, signals).await;
    } else {
        attend(http1().serve_connection(io, service), &activity, signals).await;
    }
}

fn http1() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(LOOK).max_header_size(HEADERS as usize);
    builder
}

fn http2() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(128)
        .max_header_list_size(HEADERS)
        .max_pending_accept_reset_streams(32)
        .max_local_error_reset_streams(128)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

async fn attend<C: GracefulConnection>(connection: C, activity: &Activity, mut signals: Signals) {
    let mut connection = pin!(connection);
    let mut looks = interval_at(Instant::now() + LOOK, LOOK);
    let progress = &activity.progress;
    // Since when it is asked to leave, once its requests under way are answered.
    let mut asked = None;
    loop {
        tokio::select! {
            // The connection first: the rest matters once in a minute.
            biased;
            _ended = connection.as_mut() => return,
            changed = signals.phase.changed() => {
                if changed.is_err() || *signals.phase.borrow() == Phase::Closed {
                    return;
                }
                connection.as_mut().graceful_shutdown();
                asked.get_or_insert_with(Instant::now);
            }
            () = signals.crowded.notified() => {
                // Who waits for a client makes room for whoever waits: asked, if there is one to ask.
                let since = asked.or_else(|| (!progress.has_asked()).then_some(activity.began));
                match since {
                    _ if !progress.is_up_to_client() => {}
                    None => {
                        connection.as_mut().graceful_shutdown();
                        asked = Some(Instant::now());
                    }
                    Some(since) if since.elapsed() >= HURRY => {
                        debug!("a connection is dropped that waits for its client, since others wait");
                        return;
                    }
                    Some(_) => {}
                }
            }
            _ = looks.tick() => {
                let look = progress.look();
                if look.still >= STALLED_LOOKS || (look.is_idle && asked.is_some()) {
                    debug!("a connection is dropped that takes nothing");
                    return;
                }
                if look.is_idle {
                    connection.as_mut().graceful_shutdown();
                    asked = Some(Instant::now());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
