//! One warm HTTP/2 connection to APNs with one push certificate.
//!
//! `mod.rs` keeps one [`Client`] per topic. A client connects when it is first needed, multiplexes
//! its pushes, keeps the connection alive with PINGs and replaces it when Apple says GOAWAY or the
//! network breaks. Headers: "Sending notification requests to APNs"; MDM needs a certificate, never
//! a provider token ("Setting up push notifications for your MDM customers").
//!
//! **Invariant:** a push is sent again only where APNs gave no answer to it. That is harmless, since
//! APNs keeps one wake-up per device and topic.

use std::error::Error as StdError;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Method, Request, Uri, header};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{AlertDescription, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::Push;
use super::reply::{PushResult, Reply, certificate_reason};
use super::wire::{self, Heard, Wire};
use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::id;

/// The whole of DNS, TCP, TLS and the HTTP/2 preface.
const CONNECT: Duration = Duration::from_secs(20);
/// One address of several; a dead IPv6 route must not eat the whole of [`CONNECT`].
const CONNECT_ONE: Duration = Duration::from_secs(5);
/// Request and answer, body included.
const ANSWER: Duration = Duration::from_secs(30);
/// Below the five minutes after which home routers forget an idle connection.
const PING: Duration = Duration::from_secs(4 * 60);
/// How often one push moves to another connection. Twice, because with many streams in flight the
/// ones that a GOAWAY left over can fill the next connection up to its own GOAWAY.
const RESENDS: u32 = 2;
/// Pushes in flight on one connection; more wait before their time starts to run.
const IN_FLIGHT: usize = 1000;
/// APNs' error bodies are below 100 bytes.
const MAX_ANSWER: usize = 16 * 1024;

/// Where APNs is.
#[derive(Clone, Debug)]
pub(super) struct Server {
    host: String,
    port: u16,
    name: ServerName<'static>,
}

impl Server {
    /// Reads `[apns] server`: `https://` with host and optional port, nothing behind.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::invalid(format!(
                "[apns] server is {text:?}; write it like \"https://api.push.apple.com:443\""
            ))
        };
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        if uri.scheme_str() != Some("https") || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong());
        }
        let host = uri.host().ok_or_else(wrong)?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_| wrong())?;
        Ok(Self { host, port: uri.port_u16().unwrap_or(443), name })
    }

    pub(super) fn host_and_port(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// Where it is, for people.
    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == 443 { host } else { format!("{host}:{}", self.port) }
    }
}

/// A connection to APNs that is made, kept and replaced as needed.
pub(super) struct Client {
    server: Server,
    connector: TlsConnector,
    slot: Mutex<Slot>,
    room: Semaphore,
}

#[derive(Default)]
struct Slot {
    connection: Option<Connection>,
    /// When the last attempt to connect failed, so that those who waited for it share its outcome
    /// instead of trying one after the other.
    failure: Option<(Instant, Failure)>,
    connected: u64,
}

#[derive(Clone)]
struct Connection {
    number: u64,
    sender: SendRequest<Full<Bytes>>,
    heard: Arc<Heard>,
}

/// Why there is no answer, in words for people.
#[derive(Clone)]
enum Failure {
    Certificate(String),
    Connection(String),
}

impl From<Failure> for PushResult {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Certificate(words) => Self::certificate_problem(words),
            Failure::Connection(words) => Self::try_again(words),
        }
    }
}

impl Client {
    /// A client that presents `chain` (leaf first), whose private key is `key`.
    pub(super) fn new(
        server: Server,
        roots: Arc<RootCertStore>,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let unusable =
            |source: rustls::Error| Error::caused("the push certificate's key cannot be used", source);
        // Not `with_client_auth_cert`: it parses the certificate as strictly as if it had to trust it.
        let key = provider.key_provider.load_private_key(key).map_err(unusable)?;
        let pair = SingleCertAndKey::from(CertifiedKey::new(chain, key));
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::new(pair));
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            server,
            connector: TlsConnector::from(Arc::new(tls)),
            slot: Mutex::default(),
            room: Semaphore::new(IN_FLIGHT),
        })
    }

    /// Sends one push and waits for its answer; `expiration` is when APNs may forget it.
    pub(super) async fn push(&self, push: &Push, expiration: Seconds) -> PushResult {
        let Some(request) = self.request(push, expiration) else {
            return PushResult::refused(
                "This topic cannot be sent to APNs: it has characters that no header may have.",
            );
        };
        let Ok(_room) = self.room.acquire().await else {
            return PushResult::try_again("The server is stopping.");
        };
        let mut resends = 0;
        loop {
            let mut connection = match self.connection().await {
                Ok(connection) => connection,
                Err(failure) => return failure.into(),
            };
            let error = match timeout(ANSWER, exchange(&mut connection.sender, request.clone())).await {
                Ok(Ok(reply)) => return PushResult::answered(reply),
                Ok(Err(error)) => Some(error),
                Err(_) => None,
            };
            let Some(error) = error else {
                self.discard(&connection).await;
                return PushResult::try_again(format!(
                    "APNs did not answer within {} seconds. The push is sent again on a new connection.",
                    ANSWER.as_secs()
                ));
            };
            let error = chain(&*error);
            // A stream that was reset says nothing about its neighbours; everything else ends the connection.
            if !error.contains("stream error received") {
                self.discard(&connection).await;
            }
            if let Some(problem) = self.certificate_problem(&connection.heard, &error, resends) {
                return problem.into();
            }
            if resends == RESENDS {
                return PushResult::try_again(format!(
                    "The connection to APNs broke before it answered ({error}). The push is sent again later."
                ));
            }
            resends += 1;
        }
    }

    fn request(&self, push: &Push, expiration: Seconds) -> Option<Request<Full<Bytes>>> {
        let uri = format!("https://{}/3/device/{}", self.server.authority(), id::hex(&push.token));
        let body = serde_json::json!({ "mdm": push.magic }).to_string();
        Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header("apns-push-type", "mdm")
            .header("apns-topic", &push.topic)
            .header("apns-priority", "10")
            .header("apns-expiration", expiration.to_string())
            .body(Full::from(body))
            .ok()
    }

    /// The connection there is, or a new one.
    async fn connection(&self) -> Result<Connection, Failure> {
        let asked = Instant::now();
        let mut slot = self.slot.lock().await;
        if let Some(connection) = slot.connection.as_ref().filter(|open| !open.sender.is_closed()) {
            return Ok(connection.clone());
        }
        if let Some((_, failure)) = slot.failure.as_ref().filter(|(failed, _)| *failed >= asked) {
            return Err(failure.clone());
        }
        slot.connection = None;
        let attempt = timeout(CONNECT, self.connect())
            .await
            .unwrap_or_else(|_| Err(self.unreachable(&"no answer within 20 seconds")));
        match attempt {
            Ok((sender, heard)) => {
                slot.connected += 1;
                let connection = Connection { number: slot.connected, sender, heard };
                slot.connection = Some(connection.clone());
                Ok(connection)
            }
            Err(failure) => {
                slot.failure = Some((Instant::now(), failure.clone()));
                Err(failure)
            }
        }
    }

    /// Sends no more on `broken`, unless somebody else has already replaced it.
    async fn discard(&self, broken: &Connection) {
        let mut slot = self.slot.lock().await;
        if slot.connection.as_ref().is_some_and(|open| open.number == broken.number) {
            slot.connection = None;
        }
    }

    async fn connect(&self) -> Result<(SendRequest<Full<Bytes>>, Arc<Heard>), Failure> {
        let stream = self.dial().await.map_err(|error| self.unreachable(&error))?;
        // Without it a lone push waits 40 ms for the acknowledgement of the frame before.
        stream.set_nodelay(true).map_err(|error| self.unreachable(&error))?;
        let stream = self.connector.connect(self.server.name.clone(), stream).await.map_err(|error| {
            if let Some(problem) = wire::alert(&error).and_then(refused_by_alert) {
                return problem;
            }
            match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(rustls::Error::InvalidCertificate(why)) => self.untrusted(why),
                _ => self.unreachable(&error),
            }
        })?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(self.unreachable(&"it does not speak HTTP/2; is a proxy in between?"));
        }
        let (wire, heard) = Wire::new(stream);
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            // Apple allows one stream until the certificate has proved itself: send no more than that
            // before its SETTINGS say how many there may be.
            .initial_max_send_streams(1)
            .keep_alive_interval(PING)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(wire))
            .await
            .map_err(|error| self.unreachable(&chain(&error)))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = chain(&error), "connection to APNs ended");
            }
        });
        tracing::debug!(server = self.server.authority(), "connected to APNs");
        Ok((sender, heard))
    }

    async fn dial(&self) -> std::io::Result<TcpStream> {
        let addresses: Vec<SocketAddr> =
            tokio::net::lookup_host((self.server.host.as_str(), self.server.port)).await?.collect();
        let mut last = std::io::Error::other("the name has no address");
        for address in addresses {
            match timeout(CONNECT_ONE, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(_) => last = std::io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }

    /// Whether a connection ended because of our certificate: it said so, or (for the second time)
    /// it ended without a single byte.
    fn certificate_problem(&self, heard: &Heard, error: &str, resends: u32) -> Option<Failure> {
        if let Some(alert) = heard.alert() {
            return refused_by_alert(alert);
        }
        if let Some(words) = certificate_reason(error) {
            return Some(Failure::Certificate(words.to_owned()));
        }
        (!heard.anything() && resends > 0).then(|| {
            Failure::Certificate(format!(
                "APNs at {} closes the connection as soon as it has seen the push certificate. Look whether \
                 it expired or was revoked, renew it in Apple's portal and import it; if something between \
                 this server and Apple inspects TLS, exclude Apple's hosts from it.",
                self.server.authority()
            ))
        })
    }

    fn unreachable(&self, why: &dyn std::fmt::Display) -> Failure {
        Failure::Connection(format!(
            "APNs at {}:{} cannot be reached ({why}). Look at the network, the name server and the firewall; \
             the push is sent again later.",
            self.server.host, self.server.port
        ))
    }

    fn untrusted(&self, why: &rustls::CertificateError) -> Failure {
        Failure::Connection(format!(
            "The certificate that {} shows is not trusted ({why}). If something in between inspects TLS, \
             exclude Apple's hosts from it; the root of a proxy or test server goes into [apns] trust.",
            self.server.authority()
        ))
    }
}

async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<Reply, Box<dyn StdError + Send + Sync>> {
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    Ok(Reply::read(head.status.as_u16(), text("apns-id"), text(header::RETRY_AFTER.as_str()), &body))
}

/// Words for the alerts with which a server refuses a client certificate; other alerts are not
/// about it. `internal_error` is what Apple's servers say about an expired one.
fn refused_by_alert(alert: AlertDescription) -> Option<Failure> {
    let what = match alert {
        AlertDescription::CertificateExpired => "it is expired",
        AlertDescription::CertificateRevoked => "it was revoked",
        AlertDescription::UnknownCA => "it is not from Apple",
        AlertDescription::CertificateRequired => "it did not arrive",
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied
        | AlertDescription::InternalError => "it is expired, revoked or not a push certificate",
        _ => return None,
    };
    Some(Failure::Certificate(format!(
        "APNs refuses the push certificate: {what} (TLS alert {alert:?}). Renew it in Apple's portal (Renew, \
         not Create) and import it."
    )))
}

/// An error and its causes in one line.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words
}
