//! A push service on the loopback interface, for the tests of this module: TLS that demands a client
//! certificate, HTTP/2, and answers from a script.
//!
//! The simulator's stand-in for Apple lies in a layer above; this one also misbehaves on purpose.
//!
//! **Invariant:** every request to a script is in [`Loopback::seen`], also one that gets no answer.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Pair;
use crate::clock::EARLIEST_SANE;

/// What the script says to the n-th request, counted from 0.
pub(super) enum Answer {
    /// Status, headers, body.
    Say(u16, Vec<(&'static str, &'static str)>, &'static str),
    /// The connection ends without an answer.
    Cut,
}

/// 200 with an `apns-id`.
pub(super) fn delivered() -> Answer {
    Answer::Say(200, vec![("apns-id", "A-1")], "")
}

/// A connection that ends by GOAWAY while requests wait (RFC 9113 section 6.8). A server of hyper's
/// does that only gracefully, so this one writes its frames itself.
#[derive(Clone, Copy)]
pub(super) struct GoAway {
    /// How many requests to wait for.
    pub(super) requests: usize,
    /// How many of them get a 200.
    pub(super) answered: usize,
    /// GOAWAY's debug data.
    pub(super) data: &'static str,
}

impl GoAway {
    async fn serve(self, mut stream: TlsStream<TcpStream>) -> std::io::Result<()> {
        const HEADERS: u8 = 1;
        const SETTINGS: u8 = 4;
        const GOAWAY: u8 = 7;
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).await?;
        write_frame(&mut stream, SETTINGS, 0, 0, &[]).await?;
        let mut streams: Vec<u32> = Vec::new();
        while streams.len() < self.requests {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await?;
            let mut payload = vec![0; usize::from(head[1]) * 256 + usize::from(head[2])];
            stream.read_exact(&mut payload).await?;
            match head[3] {
                HEADERS => streams.push(u32::from_be_bytes([head[5], head[6], head[7], head[8]])),
                // Theirs is acknowledged (flag 1); their acknowledgement of ours needs nothing.
                SETTINGS if head[4] == 0 => write_frame(&mut stream, SETTINGS, 1, 0, &[]).await?,
                _ => {}
            }
        }
        let answered = &streams[..self.answered];
        for id in answered {
            // END_STREAM and END_HEADERS; 0x88 is `:status: 200` in HPACK's static table.
            write_frame(&mut stream, HEADERS, 5, *id, &[0x88]).await?;
        }
        let last = answered.last().copied().unwrap_or(0);
        let payload = [&last.to_be_bytes(), [0; 4].as_slice(), self.data.as_bytes()].concat();
        write_frame(&mut stream, GOAWAY, 0, 0, &payload).await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
        Ok(())
    }
}

async fn write_frame(
    stream: &mut TlsStream<TcpStream>,
    kind: u8,
    flags: u8,
    id: u32,
    payload: &[u8],
) -> std::io::Result<()> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let frame = [&length[1..], &[kind, flags], &id.to_be_bytes(), payload].concat();
    stream.write_all(&frame).await?;
    stream.flush().await
}

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) uri: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
    pub(super) client: Vec<u8>,
}

/// The running service; it ends with the test's runtime.
pub(super) struct Loopback {
    /// For `[apns] server`.
    pub(super) server: String,
    /// For `[apns] trust`.
    pub(super) trust: PathBuf,
    pub(super) seen: Arc<Mutex<Vec<Seen>>>,
    pub(super) connections: Arc<AtomicUsize>,
    _folder: tempfile::TempDir,
}

impl Loopback {
    /// Starts a service that lets in the holders of `clients` (PEM).
    pub(super) async fn start(
        clients: &[&str],
        script: impl Fn(usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(clients, None, script).await
    }

    /// As [`Loopback::start`], with a first connection that goes away.
    pub(super) async fn start_with(
        clients: &[&str],
        first: Option<GoAway>,
        script: impl Fn(usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let trust = folder.path().join("root.pem");
        std::fs::write(&trust, certified.cert.pem()).unwrap();

        let mut roots = RootCertStore::empty();
        for client in clients {
            roots.add(CertificateDer::from_pem_slice(client.as_bytes()).unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![certified.cert.der().clone()],
                PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()).into(),
            )
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let loopback = Self {
            server: format!("https://localhost:{}", listener.local_addr().unwrap().port()),
            trust,
            seen: Arc::default(),
            connections: Arc::default(),
            _folder: folder,
        };
        let (seen, connections) = (Arc::clone(&loopback.seen), Arc::clone(&loopback.connections));
        let (acceptor, script): (_, Arc<Script>) = (TlsAcceptor::from(Arc::new(tls)), Arc::new(script));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = connections.fetch_add(1, Ordering::SeqCst);
                let go_away = first.filter(|_| number == 0);
                let (acceptor, seen, script) = (acceptor.clone(), Arc::clone(&seen), Arc::clone(&script));
                tokio::spawn(async move {
                    match (acceptor.accept(stream).await, go_away) {
                        (Ok(stream), None) => serve(stream, seen, script).await,
                        // Its end is the client's closing the connection.
                        (Ok(stream), Some(go_away)) => drop(go_away.serve(stream).await),
                        (Err(_), _) => {}
                    }
                });
            }
        });
        loopback
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

type Script = dyn Fn(usize) -> Answer + Send + Sync;

/// What the requests of one connection share.
struct Line {
    client: Vec<u8>,
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Arc<Script>,
    cut: Notify,
}

async fn serve(stream: TlsStream<TcpStream>, seen: Arc<Mutex<Vec<Seen>>>, script: Arc<Script>) {
    let client = stream.get_ref().1.peer_certificates().map(|chain| chain[0].to_vec()).unwrap_or_default();
    let line = Arc::new(Line { client, seen, script, cut: Notify::new() });
    let answering = Arc::clone(&line);
    let service = service_fn(move |request| answer(Arc::clone(&answering), request));
    let connection =
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = connection => {}
        () = line.cut.notified() => {}
    }
}

async fn answer(line: Arc<Line>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let header =
        |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), value.to_str().unwrap().to_owned());
    let number = {
        let mut seen = line.seen.lock().unwrap();
        seen.push(Seen {
            uri: format!("{} {}", head.method, head.uri),
            headers: head.headers.iter().map(header).collect(),
            body: String::from_utf8(body.to_vec()).unwrap(),
            client: line.client.clone(),
        });
        seen.len() - 1
    };
    let Answer::Say(status, headers, body) = (line.script)(number) else {
        line.cut.notify_one();
        return std::future::pending().await;
    };
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::new(Bytes::from(body))).unwrap())
}

/// A pair as `openssl req -x509` would make it, for `com.apple.mgmt.External.<topic>`.
pub(super) fn pair(topic: &str, common_name: &str) -> Pair {
    let uid = rcgen::DnType::CustomDnType(vec![0, 9, 2342, 19_200_300, 100, 1, 1]);
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, common_name);
    params.distinguished_name.push(uid, format!("com.apple.mgmt.External.{topic}"));
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    Pair::from_parts(&[certificate.as_bytes(), key.serialize_pem().as_bytes()], None, EARLIEST_SANE).unwrap()
}
