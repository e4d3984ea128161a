//! A stand-in for Apple's push service on the loopback interface: HTTP/2 over TLS.
//!
//! It is as strict as Apple documents ("Sending notification requests to APNs", "Handling
//! notification responses from APNs"): a client certificate must be presented and its UID be the
//! topic; path, headers and body must be those of an MDM notification. Devices register their tokens
//! and are woken; tests make it misbehave and read what it received. The demo runs one.
//!
//! **Invariant:** every request is answered with the status and reason that Apple documents for it,
//! and is recorded whatever the answer.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

use super::apple_tls;
use super::device::Channel;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::id;

/// Apple's limit for the body of an MDM notification.
const LARGEST_BODY: usize = 4096;

/// Limits of the service, changeable by tests.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// MAX_CONCURRENT_STREAMS.
    pub concurrent_streams: u32,
    /// Ends a connection with GOAWAY after that many requests; 0 never does.
    pub requests_per_connection: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { concurrent_streams: 1000, requests_per_connection: 0 }
    }
}

/// An answer to give instead of the right one.
#[derive(Clone, Debug)]
pub struct Misbehaviour {
    /// The HTTP status, e.g. 503.
    pub status: u16,
    /// Apple's reason, e.g. `ServiceUnavailable`.
    pub reason: &'static str,
    /// Milliseconds since 1970, which goes with 410.
    pub timestamp: Option<u64>,
    /// Seconds, as a Retry-After header.
    pub retry_after: Option<u64>,
}

/// A request as it came and as it was answered.
#[derive(Clone, Debug)]
pub struct Received {
    /// The token in the path, as it was written.
    pub token: String,
    /// `apns-topic`.
    pub topic: String,
    /// `apns-expiration`.
    pub expiration: Option<i64>,
    /// The HTTP status of the answer.
    pub status: u16,
    /// The reason in the answer.
    pub reason: Option<&'static str>,
}

/// The running service; it stops when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Apple {
    shared: Arc<Shared>,
    root_pem: Arc<str>,
    address: SocketAddr,
    /// Dropped with the last clone, which ends the listener and its connections.
    _running: Arc<watch::Sender<()>>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    limits: Limits,
    devices: Mutex<HashMap<String, Registered>>,
    misbehaviour: Mutex<VecDeque<Misbehaviour>>,
    received: Mutex<Vec<Received>>,
    count: watch::Sender<usize>,
}

#[derive(Debug)]
struct Registered {
    topic: String,
    magic: String,
    channel: Channel,
    waker: mpsc::UnboundedSender<Channel>,
    /// Milliseconds since 1970 from when on the token is no longer valid.
    unregistered: Option<u64>,
}

impl Apple {
    /// Listens on a free port of 127.0.0.1. Needs a Tokio runtime.
    pub async fn start(limits: Limits, clock: Clock) -> Result<Self> {
        let unusable = |error| Error::caused("the loopback push service cannot listen on 127.0.0.1", error);
        let (tls, root_pem) = apple_tls::server()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(unusable)?;
        let address = listener.local_addr().map_err(unusable)?;
        let shared = Arc::new(Shared {
            clock,
            limits,
            devices: Mutex::default(),
            misbehaviour: Mutex::default(),
            received: Mutex::default(),
            count: watch::Sender::new(0),
        });
        let (running, stopped) = watch::channel(());
        tokio::spawn(accept(listener, TlsAcceptor::from(tls), shared.clone(), stopped));
        Ok(Self { shared, root_pem: root_pem.into(), address, _running: Arc::new(running) })
    }

    /// For `[apns] server`, e.g. `https://localhost:40123`.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// For `[apns] trust`: the root of the service's certificate, PEM.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// Makes a token known; each push to it sends `channel` to `waker`.
    ///
    /// Registering a token again replaces what was registered. A token whose receiver is gone is
    /// answered 410, as one of a device that was erased. [`super::Device::hear`] does this for a device.
    pub fn register(
        &self,
        token: &[u8],
        topic: &str,
        magic: &str,
        channel: Channel,
        waker: mpsc::UnboundedSender<Channel>,
    ) {
        let (topic, magic) = (topic.to_owned(), magic.to_owned());
        let device = Registered { topic, magic, channel, waker, unregistered: None };
        lock(&self.shared.devices).insert(id::hex(token), device);
    }

    /// From now on the token is answered 410 `Unregistered` with this time, in milliseconds since 1970.
    pub fn unregister(&self, token: &[u8], since: u64) {
        if let Some(device) = lock(&self.shared.devices).get_mut(&id::hex(token)) {
            device.unregistered = Some(since);
        }
    }

    /// Answers the next `times` requests that are well formed with `misbehaviour`.
    pub fn misbehave(&self, times: usize, misbehaviour: &Misbehaviour) {
        lock(&self.shared.misbehaviour).extend(std::iter::repeat_n(misbehaviour.clone(), times));
    }

    /// Everything received so far, in order.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.shared.received).clone()
    }

    /// Waits until at least `count` requests have been answered.
    pub async fn answered(&self, count: usize) -> Vec<Received> {
        let mut counted = self.shared.count.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = counted.wait_for(|received| *received >= count).await;
        self.received()
    }
}

async fn accept(
    listener: TcpListener,
    tls: TlsAcceptor,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<()>,
) {
    loop {
        tokio::select! {
            _ = stopped.changed() => return,
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    tokio::spawn(serve(stream, tls.clone(), shared.clone(), stopped.clone()));
                }
            }
        }
    }
}

/// Serves one connection. Peers that break it are not worth a word.
async fn serve(stream: TcpStream, tls: TlsAcceptor, shared: Arc<Shared>, mut stopped: watch::Receiver<()>) {
    let _ = stream.set_nodelay(true);
    let Ok(stream) = tls.accept(stream).await else { return };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first().cloned());
    let topic = certificate.and_then(|der| apple_tls::user_id(&der));
    let served = AtomicUsize::new(0);
    let (full, mut is_full) = watch::channel(());
    let limits = shared.limits;
    let service = service_fn(|request| {
        let last = served.fetch_add(1, Ordering::Relaxed) + 1 == limits.requests_per_connection;
        if last {
            let _ = full.send(());
        }
        let (shared, topic) = (shared.clone(), topic.clone());
        async move { Ok::<_, Infallible>(shared.answer(request, topic.as_deref()).await) }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.max_concurrent_streams(limits.concurrent_streams);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = is_full.changed() => connection.as_mut().graceful_shutdown(),
            _ = stopped.changed() => return,
        }
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>, certified: Option<&str>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let body = Limited::new(body, LARGEST_BODY).collect().await.map(|body| body.to_bytes().to_vec());
        let token = parts.uri.path().strip_prefix("/3/device/").unwrap_or_default().to_owned();
        let own_id = header(&parts.headers, "apns-id").map(str::to_owned);
        let answer = match judge(&parts.method, parts.uri.path(), &parts.headers, &body, certified) {
            Err(refusal) => refusal,
            Ok(magic) => match lock(&self.misbehaviour).pop_front() {
                Some(misbehaviour) => misbehaviour,
                None => self.deliver(&token, certified.unwrap_or_default(), &magic),
            },
        };
        let reason = (answer.status != 200).then_some(answer.reason);
        let mut received = lock(&self.received);
        received.push(Received {
            token,
            topic: header(&parts.headers, "apns-topic").unwrap_or_default().to_owned(),
            expiration: header(&parts.headers, "apns-expiration").and_then(|text| text.parse().ok()),
            status: answer.status,
            reason,
        });
        self.count.send_replace(received.len());
        drop(received);
        reply(&answer, own_id)
    }

    fn deliver(&self, token: &str, topic: &str, magic: &str) -> Misbehaviour {
        let mut devices = lock(&self.devices);
        let Some(device) = devices.get_mut(token) else { return refusal(400, "BadDeviceToken") };
        if device.topic != topic {
            return refusal(400, "DeviceTokenNotForTopic");
        }
        if let Some(since) = device.unregistered {
            return Misbehaviour { timestamp: Some(since), ..refusal(410, "Unregistered") };
        }
        // Apple delivers any magic; the device ignores one that is not its own.
        if device.magic == magic && device.waker.send(device.channel).is_err() {
            let now = u64::try_from(self.clock.now()).unwrap_or(0) * 1000;
            device.unregistered = Some(now);
            return Misbehaviour { timestamp: Some(now), ..refusal(410, "Unregistered") };
        }
        refusal(200, "")
    }
}

/// Holds a request against Apple's documentation; answers the PushMagic in it.
fn judge(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    body: &Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>>,
    certified: Option<&str>,
) -> Result<String, Misbehaviour> {
    let must = |holds: bool, status, reason| if holds { Ok(()) } else { Err(refusal(status, reason)) };
    must(method == Method::POST, 405, "MethodNotAllowed")?;
    let token = path.strip_prefix("/3/device/").ok_or_else(|| refusal(404, "BadPath"))?;
    must(!token.is_empty(), 400, "MissingDeviceToken")?;
    must(id::from_hex(token).is_some() && token == token.to_lowercase(), 400, "BadDeviceToken")?;
    let certified = certified.ok_or_else(|| refusal(403, "BadCertificate"))?;
    let named = ["apns-push-type", "apns-topic", "apns-priority", "apns-expiration", "apns-id"];
    let duplicate = named.iter().any(|name| headers.get_all(*name).iter().count() > 1);
    must(!duplicate, 400, "DuplicateHeaders")?;
    must(header(headers, "apns-push-type") == Some("mdm"), 400, "InvalidPushType")?;
    let topic = header(headers, "apns-topic").ok_or_else(|| refusal(400, "MissingTopic"))?;
    must(topic.starts_with("com.apple.mgmt."), 400, "BadTopic")?;
    must(topic == certified, 400, "TopicDisallowed")?;
    must(header(headers, "apns-priority") == Some("10"), 400, "BadPriority")?;
    let expiration = header(headers, "apns-expiration").and_then(|text| text.parse::<i64>().ok());
    must(expiration.is_some_and(|at| at >= 0), 400, "BadExpirationDate")?;
    let has_id = header(headers, "apns-id").is_none_or(|id| uuid::Uuid::parse_str(id).is_ok());
    must(has_id, 400, "BadMessageId")?;
    let body = body.as_ref().map_err(|_| refusal(413, "PayloadTooLarge"))?;
    must(!body.is_empty(), 400, "PayloadEmpty")?;
    // A notification with other keys is one that a device would not take for management.
    let payload: Option<Value> = serde_json::from_slice(body).ok();
    let magic = payload.as_ref().and_then(Value::as_object).filter(|keys| keys.len() == 1);
    let magic = magic.and_then(|keys| keys.get("mdm")).and_then(Value::as_str);
    magic.map(str::to_owned).ok_or_else(|| refusal(400, "PayloadEmpty"))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn refusal(status: u16, reason: &'static str) -> Misbehaviour {
    Misbehaviour { status, reason, timestamp: None, retry_after: None }
}

fn reply(answer: &Misbehaviour, own_id: Option<String>) -> Response<Full<Bytes>> {
    let mut response =
        Response::builder().status(answer.status).header("apns-id", own_id.unwrap_or_else(id::uuid));
    if let Some(seconds) = answer.retry_after {
        response = response.header("retry-after", seconds);
    }
    let mut body = String::new();
    if answer.status != 200 {
        let mut reason = json!({ "reason": answer.reason });
        if let Some(timestamp) = answer.timestamp {
            reason["timestamp"] = timestamp.into();
        }
        body = reason.to_string();
        response = response.header("content-type", "application/json");
    }
    response.body(Full::new(body.into())).unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "apple_tests.rs"]
mod tests;
