//! One connection to see who answers: name, port, TLS, and whose certificate.
//!
//! **Invariant:** nothing is sent beyond the handshake, and what is learned is told and never trusted: a certificate
//! that does not hold ends no handshake here, it is reported.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs::default_provider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, ProtocolVersion, RootCertStore, SignatureScheme,
};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::clock::Seconds;
use crate::id;
use crate::pki::certificate::Certificate;

/// For a name, a connection, and a handshake each.
const PATIENCE: Duration = Duration::from_secs(5);

/// How far a connection came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reached {
    /// The handshake was done, whatever the certificate.
    Tls(Tls),
    /// The port is open, and whoever listens does not speak TLS: in words.
    NoTls(String),
    /// The name has no address: in words.
    NoName(String),
    Refused,
    /// Nothing came back: something on the way drops it.
    Silent,
    /// There is no way there from this machine.
    NoRoute,
}

/// Who answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// DER, the leaf first, as they were sent.
    pub chain: Vec<CertificateDer<'static>>,
    /// Why the certificate does not hold for this name and these roots; none if it does.
    pub wrong: Option<String>,
    /// `TLS 1.3`.
    pub version: &'static str,
    /// As IANA names it.
    pub cipher: String,
}

impl Tls {
    /// Who issued the certificate at the end of what was sent, as people read it.
    pub fn issuer(&self) -> String {
        let last = self.chain.last().and_then(|der| Certificate::from_der(der).ok());
        last.map(|last| id::printable(&last.issuer().to_string())).unwrap_or_default()
    }
}

/// What a probe found.
#[derive(Clone, Debug)]
pub struct Probe {
    /// What the name resolved to; the one that was connected to first.
    pub addresses: Vec<SocketAddr>,
    pub reached: Reached,
    /// From the first packet to the end.
    pub took: Duration,
}

/// Connects to `host`, or to `instead` where that is given, and shakes hands for `host`.
pub async fn probe(
    host: &str,
    port: u16,
    instead: Option<SocketAddr>,
    roots: &RootCertStore,
    now: Seconds,
) -> Probe {
    let begun = Instant::now();
    let found = match instead {
        Some(address) => Ok(vec![address]),
        None => match timeout(PATIENCE, lookup_host((host, port))).await {
            Ok(Ok(found)) => Ok(found.collect::<Vec<_>>()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the name servers did not answer within 5 seconds".to_owned()),
        },
    };
    let mut addresses = match found {
        Ok(addresses) if !addresses.is_empty() => addresses,
        Ok(_) => return no_name("it has no address", begun),
        Err(words) => return no_name(&words, begun),
    };
    let mut reached = Reached::NoRoute;
    for place in 0..addresses.len().min(4) {
        reached = connect(addresses[place], host, roots, now).await;
        if !matches!(reached, Reached::NoRoute) {
            addresses.swap(0, place);
            break;
        }
    }
    Probe { addresses, reached, took: begun.elapsed() }
}

fn no_name(words: &str, begun: Instant) -> Probe {
    Probe { addresses: Vec::new(), reached: Reached::NoName(id::printable(words)), took: begun.elapsed() }
}

async fn connect(address: SocketAddr, host: &str, roots: &RootCertStore, now: Seconds) -> Reached {
    let stream = match timeout(PATIENCE, TcpStream::connect(address)).await {
        Err(_) => return Reached::Silent,
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return match error.kind() {
                ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Reached::Refused,
                ErrorKind::TimedOut => Reached::Silent,
                _ => Reached::NoRoute,
            };
        }
    };
    let no_tls = |words: &dyn std::fmt::Display| Reached::NoTls(id::printable(&words.to_string()));
    let Ok(name) = ServerName::try_from(host.to_owned()) else {
        return no_tls(&"the name is none of the DNS");
    };
    let verifier = match Recorder::new(roots, now) {
        Ok(verifier) => Arc::new(verifier),
        Err(error) => return no_tls(&error),
    };
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions();
    let config = match config {
        Ok(builder) => {
            builder.dangerous().with_custom_certificate_verifier(verifier.clone()).with_no_client_auth()
        }
        Err(error) => return no_tls(&error),
    };
    match timeout(PATIENCE, TlsConnector::from(Arc::new(config)).connect(name, stream)).await {
        Err(_) => no_tls(&"the handshake was not answered within 5 seconds"),
        Ok(Err(error)) => match verifier.seen() {
            // It said who it is, and then wanted something that a stranger does not have.
            (chain, wrong) if !chain.is_empty() => {
                Reached::Tls(Tls { chain, wrong, version: "", cipher: String::new() })
            }
            _ => no_tls(&error),
        },
        Ok(Ok(stream)) => {
            let (_, connection) = stream.get_ref();
            let (chain, wrong) = verifier.seen();
            let version = match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
                Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
                _ => "an older TLS",
            };
            let cipher = connection.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
            Reached::Tls(Tls { chain, wrong, version, cipher: cipher.unwrap_or_default() })
        }
    }
}

/// Notes which certificates came and what is wrong with them, and lets every handshake go on.
#[derive(Debug)]
struct Recorder {
    inner: Option<Arc<WebPkiServerVerifier>>,
    provider: CryptoProvider,
    now: Seconds,
    seen: Mutex<(Vec<CertificateDer<'static>>, Option<String>)>,
}

impl Recorder {
    fn new(roots: &RootCertStore, now: Seconds) -> Result<Self, String> {
        let provider = default_provider();
        // Without any root there is nobody to trust.
        let inner = match roots.is_empty() {
            true => None,
            false => Some(
                WebPkiServerVerifier::builder_with_provider(
                    Arc::new(roots.clone()),
                    Arc::new(provider.clone()),
                )
                .build()
                .map_err(|error| error.to_string())?,
            ),
        };
        Ok(Self { inner, provider, now, seen: Mutex::default() })
    }

    fn seen(&self) -> (Vec<CertificateDer<'static>>, Option<String>) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(self.now.max(0).unsigned_abs()));
        let wrong = match &self.inner {
            None => Some("no root certificates are known here".to_owned()),
            Some(inner) => {
                let verified = inner.verify_server_cert(leaf, intermediates, name, ocsp, now);
                verified.err().map(|error| id::printable(&error.to_string()))
            }
        };
        let chain =
            std::iter::once(leaf).chain(intermediates).map(|der| der.clone().into_owned()).take(16).collect();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = (chain, wrong);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
