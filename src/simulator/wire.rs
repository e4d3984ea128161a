//! HTTP over TLS as a device speaks it: one kept-alive HTTP/1.1 connection, opened anew when needed.
//!
//! The identity certificate is presented only if the server asks for one and the list of acceptable
//! issuers, if it sends one, names the certificate's issuer (RFC 8446 section 4.2.4): a server that
//! asks wrongly loses its devices, so a simulated one must notice.
//!
//! **Invariant:** nothing is sent in the clear; an `http` address is refused before it is opened.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::ber::Reader;
use super::certificate::Certificate;
use super::fault::Fault;
use super::identity::Identity;
use super::trust::Trust;
use crate::clock::Clock;

/// A device gives up on an exchange after a minute.
const PATIENCE: Duration = Duration::from_secs(60);
/// More than any answer of a device management service.
const LARGEST_ANSWER: usize = 64 << 20;

/// What a server answered.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Vec<u8>,
    /// From the first byte sent, connecting included, to the last byte read.
    pub took: Duration,
}

impl Reply {
    /// The Content-Type without parameters, in lower case.
    pub fn content_type(&self) -> String {
        let value = self.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or("");
        value.split(';').next().unwrap_or("").trim().to_lowercase()
    }

    /// The beginning of the body, fit for a report.
    pub(super) fn words(&self) -> String {
        crate::id::printable(String::from_utf8_lossy(&self.body).trim())
    }
}

/// The network side of one device.
#[derive(Debug)]
pub(super) struct Wire {
    clock: Clock,
    trust: Trust,
    /// What a name server of its own would say: names, and where they lead.
    names: Vec<(String, IpAddr)>,
    identity: Option<Identity>,
    tls: Option<Arc<ClientConfig>>,
    open: Option<(String, SendRequest<Full<Bytes>>)>,
}

impl Wire {
    pub(super) fn new(trust: Trust, clock: Clock) -> Self {
        Self { clock, trust, names: Vec::new(), identity: None, tls: None, open: None }
    }

    /// Presents another identity, or none, from the next connection on.
    pub(super) fn present(&mut self, identity: Option<Identity>) {
        self.identity = identity;
        self.reset();
    }

    pub(super) fn trust_also(&mut self, root: &[u8]) -> Result<(), Fault> {
        self.trust = self.trust.and_der(root)?;
        self.reset();
        Ok(())
    }

    /// Lets a name lead to an address, whatever the machine's name servers say.
    pub(super) fn resolve(&mut self, name: &str, address: IpAddr) {
        self.names.push((name.to_owned(), address));
        self.open = None;
    }

    /// Ends the connection, as a device does that goes to sleep.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    fn reset(&mut self) {
        self.tls = None;
        self.open = None;
    }

    /// Sends one request and reads the whole answer.
    ///
    /// A kept connection that the server had closed meanwhile is replaced, once and silently.
    pub(super) async fn send(
        &mut self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Reply, Fault> {
        let begun = Instant::now();
        let body = Bytes::from(body);
        let answer = tokio::time::timeout(PATIENCE, self.exchange(&method, url, &headers, &body)).await;
        let Ok(answer) = answer else {
            self.open = None;
            let words = format!("the server did not answer within {} s", PATIENCE.as_secs());
            return Err(Fault::Unreachable(words));
        };
        let (status, headers, body) = answer?;
        Ok(Reply { status, headers, body, took: begun.elapsed() })
    }

    async fn exchange(
        &mut self,
        method: &Method,
        url: &str,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<(u16, HeaderMap, Vec<u8>), Fault> {
        let target = Target::read(url)?;
        let mut is_fresh = self.ready(&target).await?;
        loop {
            let (_, connection) =
                self.open.as_mut().ok_or_else(|| Fault::Unreachable("the connection is gone".into()))?;
            let mut request = Request::new(Full::new(body.clone()));
            *request.method_mut() = method.clone();
            *request.uri_mut() = target.path.clone();
            *request.headers_mut() = headers.clone();
            request.headers_mut().insert(HOST, target.host.clone());
            match connection.send_request(request).await {
                Ok(response) => {
                    let (parts, body) = response.into_parts();
                    let collected = Limited::new(body, LARGEST_ANSWER).collect().await.map_err(|error| {
                        self.open = None;
                        Fault::Unreachable(format!("the answer broke off: {error}"))
                    })?;
                    return Ok((parts.status.as_u16(), parts.headers, collected.to_bytes().to_vec()));
                }
                Err(error) => {
                    self.open = None;
                    if is_fresh {
                        return Err(Fault::Unreachable(format!("the connection broke: {}", chain(&error))));
                    }
                    self.ready(&target).await?;
                    is_fresh = true;
                }
            }
        }
    }

    /// Makes sure that a connection to `target` is open; answers whether it is new.
    async fn ready(&mut self, target: &Target) -> Result<bool, Fault> {
        if let Some((authority, connection)) = &mut self.open
            && *authority == target.authority
            && connection.ready().await.is_ok()
        {
            return Ok(false);
        }
        let unreachable = |error: &dyn std::error::Error| {
            Fault::Unreachable(format!("no connection to {}: {}", target.authority, chain(error)))
        };
        let stream = match self.names.iter().find(|(name, _)| *name == target.name) {
            Some((_, address)) => TcpStream::connect((*address, target.port)).await,
            None => TcpStream::connect((target.name.as_str(), target.port)).await,
        };
        let stream = stream.map_err(|error| unreachable(&error))?;
        stream.set_nodelay(true).map_err(|error| unreachable(&error))?;
        let name = ServerName::try_from(target.name.clone()).map_err(|error| unreachable(&error))?;
        let tls = TlsConnector::from(self.tls()?).connect(name, stream).await;
        let tls = tls.map_err(|error| unreachable(&error))?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(tls)).await.map_err(|error| unreachable(&error))?;
        // The task ends with the connection, which ends when the sender is dropped.
        tokio::spawn(connection);
        self.open = Some((target.authority.clone(), sender));
        Ok(true)
    }

    fn tls(&mut self) -> Result<Arc<ClientConfig>, Fault> {
        if let Some(tls) = &self.tls {
            return Ok(tls.clone());
        }
        let unusable = |error: rustls::Error| {
            Fault::unacceptable(format!("the identity cannot be used for TLS: {error}"))
        };
        let provider = Arc::new(provider::default_provider());
        let builder = ClientConfig::builder_with_details(provider, Arc::new(DeviceTime(self.clock.clone())))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_root_certificates(self.trust.roots());
        let mut tls = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                builder.with_client_cert_resolver(Arc::new(Presented::new(identity).map_err(unusable)?))
            }
        };
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let tls = Arc::new(tls);
        self.tls = Some(tls.clone());
        Ok(tls)
    }
}

/// An address, taken apart.
struct Target {
    authority: String,
    name: String,
    port: u16,
    path: Uri,
    host: HeaderValue,
}

impl Target {
    fn read(url: &str) -> Result<Self, Fault> {
        let wrong = || Fault::unacceptable(format!("`{url}` is not an https address"));
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        if uri.scheme_str() != Some("https") {
            return Err(wrong());
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            authority: authority.to_string(),
            name: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(443),
            path: path.parse().map_err(|_| wrong())?,
            host: authority.as_str().parse().map_err(|_| wrong())?,
        })
    }
}

/// TLS dates are judged by the device's clock, which a test may have set.
#[derive(Debug)]
struct DeviceTime(Clock);

impl TimeProvider for DeviceTime {
    fn current_time(&self) -> Option<UnixTime> {
        let now = u64::try_from(self.0.now()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(now)))
    }
}

#[derive(Debug)]
struct Presented {
    certified: Arc<CertifiedKey>,
    issuer: Vec<u8>,
}

impl Presented {
    fn new(identity: &Identity) -> Result<Self, rustls::Error> {
        let key = PrivateKeyDer::Pkcs8(identity.pkcs8().to_vec().into());
        let key = provider::sign::any_supported_type(&key)?;
        let chain = vec![CertificateDer::from(identity.certificate.clone())];
        let issuer = Certificate::read(&identity.certificate).map_or(&[][..], |c| c.issuer);
        // TLS hints are Names with their SEQUENCE header, as certificates hold them.
        let issuer = Reader(issuer).next().ok().flatten().map_or_else(Vec::new, |e| e.whole.to_vec());
        Ok(Self { certified: Arc::new(CertifiedKey::new(chain, key)), issuer })
    }
}

impl ResolvesClientCert for Presented {
    fn resolve(&self, issuers: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let wanted = issuers.is_empty() || issuers.contains(&self.issuer.as_slice());
        wanted.then(|| self.certified.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        source = cause.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart_and_http_is_refused() {
        let target = Target::read("https://[::1]:8443/mdm/connect?x=1").unwrap();
        assert_eq!((target.name.as_str(), target.port), ("::1", 8443));
        assert_eq!(
            (target.path.to_string(), target.host),
            ("/mdm/connect?x=1".into(), "[::1]:8443".parse().unwrap())
        );
        assert_eq!(Target::read("https://mdm.example.org").unwrap().port, 443);
        for wrong in ["http://mdm.example.org/", "/enroll/x", "", "https://"] {
            assert!(Target::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_certificate_is_presented_only_where_its_issuer_is_welcome() {
        let key = crate::simulator::Key::generate(2048).unwrap();
        let certificate = crate::simulator::identity::throw_away(&key, 1_800_000_000).unwrap();
        let presented = Presented::new(&Identity::new(Arc::new(key), certificate)).unwrap();
        let own = presented.issuer.clone();
        assert!(presented.resolve(&[], &[]).is_some());
        assert!(presented.resolve(&[b"somebody", &own], &[]).is_some());
        assert!(presented.resolve(&[b"somebody"], &[]).is_none());
    }

    #[tokio::test]
    async fn nobody_listening_is_said_in_words() {
        let mut wire = Wire::new(Trust::nobody(), Clock::set_to(1_800_000_000));
        // Port 1 of the loopback interface is reserved and closed.
        let url = "https://127.0.0.1:1/";
        let fault = wire.send(Method::GET, url, HeaderMap::new(), Vec::new()).await.unwrap_err();
        assert!(fault.to_string().starts_with("no connection to 127.0.0.1:1"), "{fault}");
    }
}
