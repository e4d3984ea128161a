//! HTTP by hand over TLS, so that a test says exactly what goes over the wire.
//!
//! **Invariant:** every answer that is read on a device route is checked for 401 and 403.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::Appliance;

/// A request, header by header; Host and Content-Length are added.
#[derive(Clone)]
pub struct Request {
    method: &'static str,
    path: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    /// Certificate and key (PKCS #8) that are presented in TLS.
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Request {
    pub fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: Vec::new(), body: Vec::new(), identity: None }
    }

    pub fn put(path: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::new("PUT", path) }
    }

    pub fn post(path: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::new("POST", path) }
    }

    pub fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path)
    }

    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub fn presenting(mut self, identity: &russet::simulator::Identity) -> Self {
        self.identity = Some((identity.certificate.clone(), identity.pkcs8().to_vec()));
        self
    }

    pub fn presenting_der(mut self, certificate: &[u8], pkcs8: &[u8]) -> Self {
        self.identity = Some((certificate.to_vec(), pkcs8.to_vec()));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\nhost: localhost\r\n", self.method, self.path).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend(name.as_bytes());
            bytes.extend(b": ");
            bytes.extend(value);
            bytes.extend(b"\r\n");
        }
        if !self.headers.iter().any(|(name, _)| name == "content-length" || name == "transfer-encoding") {
            bytes.extend(format!("content-length: {}\r\n", self.body.len()).bytes());
        }
        bytes.extend(b"connection: close\r\n\r\n");
        bytes.extend(&self.body);
        bytes
    }

    /// Sends it on a connection of its own.
    pub async fn send(&self, appliance: &Appliance) -> Answer {
        let stream = open(appliance, self.identity.as_ref()).await;
        let answer = exchange(stream, &self.bytes()).await;
        assert!(
            self.path.starts_with("/api/") || ![401, 403].contains(&answer.status),
            "{} {} was answered {}",
            self.method,
            self.path,
            answer.status
        );
        answer
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// The address that the server listens on.
pub fn address(appliance: &Appliance) -> SocketAddr {
    appliance.config.server.listen[0]
}

/// A TLS connection that believes any server.
pub async fn open(appliance: &Appliance, identity: Option<&(Vec<u8>, Vec<u8>)>) -> TlsStream<TcpStream> {
    connect(appliance, identity, "http/1.1").await
}

/// As [`open`], for HTTP/2.
pub async fn open_http2(appliance: &Appliance) -> TlsStream<TcpStream> {
    connect(appliance, None, "h2").await
}

async fn connect(
    appliance: &Appliance,
    identity: Option<&(Vec<u8>, Vec<u8>)>,
    protocol: &str,
) -> TlsStream<TcpStream> {
    let builder = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from(certificate.clone())],
                PrivateKeyDer::Pkcs8(key.clone().into()),
            )
            .unwrap(),
    };
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(address(appliance)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

/// Sends bytes and reads the answer at the same time, as a server that refuses early answers and closes
/// before all of it was sent.
pub async fn exchange(stream: impl AsyncRead + AsyncWrite, request: &[u8]) -> Answer {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut bytes = Vec::new();
    let write = async {
        let _ = writer.write_all(request).await;
        let _ = writer.flush().await;
    };
    // The server may close without TLS's good-bye once it has answered.
    let _ = tokio::join!(write, reader.read_to_end(&mut bytes));
    parse(&bytes)
}

/// Sends what is still kept back and reads an answer to the end of the connection.
pub async fn read(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) -> Answer {
    let mut bytes = Vec::new();
    let _ = stream.flush().await;
    // The server may close without TLS's good-bye once it has answered.
    let _ = stream.read_to_end(&mut bytes).await;
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head");
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head, body: bytes[end + 4..].to_vec() }
}

#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
