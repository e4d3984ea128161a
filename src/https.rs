//! One request to a server elsewhere, bounded in time and size: HTTP/1.1, over TLS or in the clear.
//!
//! Whoever asks says whom to trust ([`system_roots`]) and, where the address is not the administrator's own,
//! which addresses may be asked ([`Client::only`]). There are no redirects, no cookies and no proxies.
//!
//! **Invariant:** the address that was judged is the address that is asked: a name is resolved once.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes};
use hyper::client::conn::http1;
use hyper::http::request::Parts;
use hyper::{HeaderMap, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::error::{Error, Result};

/// One address of several.
const CONNECT_ONE: Duration = Duration::from_secs(10);

/// Asks servers; a cheap handle.
#[derive(Clone)]
pub struct Client {
    tls: TlsConnector,
    /// From the name to the last byte.
    patience: Duration,
    /// The largest answer, in bytes.
    largest: usize,
    allowed: fn(IpAddr) -> bool,
}

/// What a server answered, whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Client {
    /// A client that trusts `roots` and waits `patience` for an answer of at most `largest` bytes.
    ///
    /// # Errors
    /// The cryptography of this build has no protocol for it, which does not happen.
    pub fn new(roots: RootCertStore, patience: Duration, largest: usize) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unreachable_because)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: TlsConnector::from(Arc::new(tls)), patience, largest, allowed: |_| true })
    }

    /// Asks only those addresses for which `allowed` says so, whatever a name resolves to.
    #[must_use]
    pub fn only(self, allowed: fn(IpAddr) -> bool) -> Self {
        Self { allowed, ..self }
    }

    /// Sends `request`, whose address is absolute, and reads the whole answer. Host, User-Agent and the
    /// length are added. An answer with an error status is an answer.
    ///
    /// # Errors
    /// [`Error::Invalid`] in words: no such name, no way there, TLS, the time, the size.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Answer> {
        match timeout(self.patience, self.ask(request)).await {
            Ok(answered) => answered,
            Err(_) => Err(unreachable_because(format!(
                "there was no whole answer within {} seconds",
                self.patience.as_secs()
            ))),
        }
    }

    async fn ask(&self, request: Request<Bytes>) -> Result<Answer> {
        let (parts, body) = request.into_parts();
        let authority =
            parts.uri.authority().ok_or_else(|| unreachable_because("the address has no host"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_plain = parts.uri.scheme_str() == Some("http");
        let port = authority.port_u16().unwrap_or(if is_plain { 80 } else { 443 });
        let stream = self.dial(&host, port).await?;
        if is_plain {
            return self.exchange(stream, &parts, body).await;
        }
        let name = ServerName::try_from(host).map_err(unreachable_because)?;
        let stream = self.tls.connect(name, stream).await.map_err(|error| {
            Error::invalid(format!(
                "{error}; if something in between inspects TLS, exclude this host from it"
            ))
        })?;
        self.exchange(stream, &parts, body).await
    }

    async fn exchange<S>(&self, stream: S, parts: &Parts, body: Bytes) -> Result<Answer>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(unreachable_because)?;
        // Ends with the answer, and with this function if the time is over.
        let _driver = Driver(tokio::spawn(async { drop(connection.await) }));
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = path.parse().map_err(unreachable_because)?;
        *request.headers_mut() = parts.headers.clone();
        let authority = parts.uri.authority().map_or("", |authority| authority.as_str());
        let host = authority.parse().map_err(unreachable_because)?;
        request.headers_mut().insert(header::HOST, host);
        request
            .headers_mut()
            .entry(header::USER_AGENT)
            .or_insert(header::HeaderValue::from_static(concat!("russet/", env!("CARGO_PKG_VERSION"))));
        let answer = sender.send_request(request).await.map_err(unreachable_because)?;
        let (head, body) = answer.into_parts();
        let too_large = || unreachable_because(format!("the answer has more than {} bytes", self.largest));
        if body.size_hint().lower() > self.largest as u64 {
            return Err(too_large());
        }
        let body = Limited::new(body, self.largest).collect().await;
        let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => too_large(),
            None => unreachable_because(error),
        })?;
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
    }

    async fn dial(&self, host: &str, port: u16) -> Result<TcpStream> {
        let addresses: Vec<SocketAddr> =
            tokio::net::lookup_host((host, port)).await.map_err(unreachable_because)?.collect();
        let mut last = unreachable_because("the name has no address");
        for address in addresses {
            if !(self.allowed)(address.ip().to_canonical()) {
                last = unreachable_because(format!("{} may not be asked", address.ip()));
                continue;
            }
            match timeout(CONNECT_ONE, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = unreachable_because(error),
                Err(_) => last = unreachable_because(format!("{address} does not answer")),
            }
        }
        Err(last)
    }
}

/// The task that moves the bytes; it ends with whoever waits for them.
struct Driver(tokio::task::JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn unreachable_because(error: impl Display) -> Error {
    Error::invalid(format!("it cannot be reached: {error}"))
}

/// The roots of the system.
pub fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// The certificates of a PEM file, which the configuration names by `key`, added to `roots`.
///
/// # Errors
/// [`Error::Invalid`]: the file cannot be read, is damaged, or holds no certificate.
pub fn add_file(roots: &mut RootCertStore, path: &Path, key: &str) -> Result<()> {
    let pem =
        std::fs::read(path).map_err(|error| Error::invalid(format!("{key}: {}: {error}", path.display())))?;
    add_pem(roots, &pem, key)
}

/// The certificates of `pem`, added to `roots`; `key` is named when it is wrong.
///
/// # Errors
/// As [`add_file`].
pub fn add_pem(roots: &mut RootCertStore, pem: &[u8], key: &str) -> Result<()> {
    let mut found = false;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate =
            certificate.map_err(|_| Error::invalid(format!("{key} has a damaged PEM block")))?;
        roots.add(certificate).map_err(|error| {
            Error::invalid(format!("{key} has a certificate that cannot be a root: {error}"))
        })?;
        found = true;
    }
    if found { Ok(()) } else { Err(Error::invalid(format!("{key} holds no certificate in PEM"))) }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request in the clear with these bytes, and gives back what it was asked.
    async fn answering(answer: &'static [u8], ends: bool) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?a=b", listener.local_addr().unwrap());
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\nbody") {
                let mut piece = [0; 4096];
                let got = stream.read(&mut piece).await.unwrap();
                assert!(got > 0, "the request is not whole: {}", String::from_utf8_lossy(&request));
                request.extend_from_slice(&piece[..got]);
            }
            stream.write_all(answer).await.unwrap();
            if !ends {
                std::future::pending::<()>().await;
            }
            String::from_utf8_lossy(&request).into_owned()
        });
        (url, asked)
    }

    fn client() -> Client {
        Client::new(RootCertStore::empty(), Duration::from_secs(5), 1000).unwrap()
    }

    fn post(url: &str) -> Request<Bytes> {
        Request::post(url).header("x-kind", "test").body(Bytes::from_static(b"body")).unwrap()
    }

    #[tokio::test]
    async fn a_request_goes_out_whole_and_an_error_status_is_an_answer() {
        let (url, asked) =
            answering(b"HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 2\r\n\r\nno", true).await;
        let answer = client().send(post(&url)).await.unwrap();
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (503, &b"no"[..]));
        assert_eq!(answer.headers["retry-after"], "7");
        let asked = asked.await.unwrap();
        assert!(asked.starts_with("POST /hook?a=b HTTP/1.1\r\n"), "{asked}");
        for part in ["x-kind: test\r\n", "host: 127.0.0.1:", "user-agent: russet/", "content-length: 4\r\n"] {
            assert!(asked.contains(part), "{part} in {asked}");
        }
    }

    #[tokio::test]
    async fn an_address_that_may_not_be_asked_is_not_connected_to() {
        let (url, asked) = answering(b"", true).await;
        let refused = client().only(|address| !address.is_loopback()).send(post(&url)).await.unwrap_err();
        assert!(refused.to_string().contains("127.0.0.1 may not be asked"), "{refused}");
        assert!(!asked.is_finished());
        asked.abort();
    }

    #[tokio::test]
    async fn an_answer_without_end_and_one_too_large_are_refused() {
        let (url, asked) = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nslow", false).await;
        let patience = Duration::from_millis(300);
        let hasty = Client::new(RootCertStore::empty(), patience, 1000).unwrap();
        assert!(hasty.send(post(&url)).await.unwrap_err().to_string().contains("no whole answer"));
        asked.abort();
        let (url, asked) = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\nmuch", false).await;
        assert!(client().send(post(&url)).await.unwrap_err().to_string().contains("more than 1000 bytes"));
        asked.abort();
        assert!(client().send(post("https://name.invalid/")).await.is_err());
        assert!(client().send(Request::post("/path").body(Bytes::new()).unwrap()).await.is_err());
    }
}
