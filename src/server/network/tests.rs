//! Conversations over real sockets.

use super::*;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::Extension;
use axum::routing::{get, post};
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, date_time_ymd};
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::request::RequestId;
use crate::server::client_certificates::ClientCertificates;
use crate::server::tls::{self, Pair, ServerCertificate};

struct Server {
    _network: Network,
    address: SocketAddr,
    certificate: ServerCertificate,
}

fn self_signed(key: &KeyPair) -> CertificateDer<'static> {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    params.self_signed(key).unwrap().der().clone()
}

fn pair() -> Pair {
    let key = KeyPair::generate().unwrap();
    Pair { chain: vec![self_signed(&key)], key: PrivatePkcs8KeyDer::from(key.serialize_der()).into() }
}

/// Says who asked: `none`, `socket` or the length of the certificate.
async fn who(Extension(peer): Extension<Peer>) -> String {
    match &peer {
        Peer::Socket => "socket".to_owned(),
        peer => peer.client_certificate().map_or("none".to_owned(), |der| der.len().to_string()),
    }
}

fn router() -> Router {
    Router::new()
        .route("/who", get(who))
        .route("/id", get(|Extension(id): Extension<RequestId>| async move { id.as_str().to_owned() }))
        .route("/small", post(|body: Bytes| async move { body.len().to_string() }).layer(layers::limit(1000)))
        .route(
            "/large",
            post(|body: Bytes| async move { body.len().to_string() }).layer(layers::limit(10 << 20)),
        )
        .route("/api/v1/usual", post(|body: Bytes| async move { body.len().to_string() }))
        .route("/panic", get(|| async { panic!("on purpose") as String }))
}

fn start(asks: bool) -> Server {
    let certificate = ServerCertificate::new(pair()).unwrap();
    let asked = ClientCertificates::default();
    asked.name_authority(&[0x30, 0x00]);
    let config = tls::config(&certificate, asks.then_some(&asked)).unwrap();
    let listener = Listener::bind(&["127.0.0.1:0".parse().unwrap()], "[server] listen").unwrap();
    let address = listener.addresses()[0];
    let network = Network::default();
    network.serve_tls(listener, config, router());
    Server { _network: network, address, certificate }
}

/// Takes any server and presents, if anything, what it is given.
#[derive(Debug)]
struct Client(Option<Arc<CertifiedKey>>);

impl ServerCertVerifier for Client {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ResolvesClientCert for Client {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

/// A certificate that is presented with a key, its own or not.
fn presents(certificate: CertificateDer<'static>, key: &KeyPair) -> Option<Arc<CertifiedKey>> {
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    Some(Arc::new(CertifiedKey::new(vec![certificate], key)))
}

async fn connect(
    address: SocketAddr,
    presented: Option<Arc<CertifiedKey>>,
    version: &'static SupportedProtocolVersion,
    protocol: &str,
) -> Result<TlsStream<TcpStream>, IoError> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Client(None)))
        .with_client_cert_resolver(Arc::new(Client(presented)));
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// A port that nobody else is given while the socket is kept: it is bound and never listens, and a
/// listener that reuses addresses, as ours does, takes it all the same.
fn reserve() -> (socket2::Socket, SocketAddr) {
    let reserved = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    reserved.set_reuse_address(true).unwrap();
    reserved.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = reserved.local_addr().unwrap().as_socket().unwrap();
    (reserved, address)
}

/// Sends bytes and reads meanwhile, until the server closes. It may answer and close before it has read
/// everything, so that writing fails; what counts is what it said.
async fn exchange(stream: impl AsyncRead + AsyncWrite, bytes: &[u8]) -> Result<String, IoError> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut answer = Vec::new();
    let write = async {
        let _ = writer.write_all(bytes).await;
        // What did not fit into the socket is still in the TLS session; reading does not send it.
        let _ = writer.flush().await;
    };
    let ((), read) = tokio::join!(write, reader.read_to_end(&mut answer));
    read?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

async fn ask(
    server: &Server,
    presented: Option<Arc<CertifiedKey>>,
    request: &[u8],
) -> Result<String, IoError> {
    exchange(connect(server.address, presented, &rustls::version::TLS13, "http/1.1").await?, request).await
}

const WHO: &[u8] = b"GET /who HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_client_without_a_certificate_is_let_in() {
    let server = start(true);
    let answer = ask(&server, None, WHO).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("none"), "{answer}");
}

#[tokio::test]
async fn an_expired_foreign_certificate_comes_through() {
    let server = start(true);
    for key in [KeyPair::generate().unwrap(), KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap()] {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let certificate = self_signed(&key);
            let length = certificate.len().to_string();
            let stream =
                connect(server.address, presents(certificate, &key), version, "http/1.1").await.unwrap();
            let answer = exchange(stream, WHO).await.unwrap();
            assert!(answer.ends_with(&length), "{version:?}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused() {
    let server = start(true);
    let certificate = self_signed(&KeyPair::generate().unwrap());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let thief = presents(certificate.clone(), &KeyPair::generate().unwrap());
        let talked = match connect(server.address, thief, version, "http/1.1").await {
            Ok(stream) => exchange(stream, WHO).await,
            Err(refused) => Err(refused),
        };
        assert!(talked.is_err(), "{talked:?}");
    }
}

#[tokio::test]
async fn the_administrators_listener_never_asks() {
    let server = start(false);
    let key = KeyPair::generate().unwrap();
    let answer = ask(&server, presents(self_signed(&key), &key), WHO).await.unwrap();
    assert!(answer.ends_with("none"), "{answer}");
}

#[tokio::test]
async fn a_new_certificate_is_presented_without_a_restart() {
    let server = start(true);
    let presented = async || {
        let stream = connect(server.address, None, &rustls::version::TLS13, "http/1.1").await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    };
    let first = presented().await;
    server.certificate.replace(pair()).unwrap();
    let second = presented().await;
    assert_ne!(first, second);
    assert_eq!(second, server.certificate.pair().chain[0]);
}

#[tokio::test]
async fn every_reply_names_its_request() {
    let server = start(true);
    let answer =
        ask(&server, None, b"GET /id HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let (head, id) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("x-request-id: {id}")), "{answer}");
}

#[tokio::test]
async fn an_oversize_header_is_431() {
    let server = start(true);
    let mut request = b"GET /who HTTP/1.1\r\nhost: a\r\nx: ".to_vec();
    request.extend([b'a'; 100_000]);
    request.extend(b"\r\n\r\n");
    let answer = ask(&server, None, &request).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn a_compressed_body_is_415() {
    let server = start(true);
    let request = |encoding: &str| {
        format!(
            "POST /api/v1/usual HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-encoding: {encoding}\r\n\
             content-length: 2\r\n\r\n{{}}"
        )
    };
    for encoding in ["gzip", "identity, br", "GZip"] {
        let answer = ask(&server, None, request(encoding).as_bytes()).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 415") && answer.contains("\"error\":{"), "{answer}");
    }
    let answer = ask(&server, None, request("identity").as_bytes()).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_body_over_its_routes_limit_is_413() {
    let server = start(true);
    for (path, size, status) in [
        ("/small", 1000, "200"),
        ("/small", 1001, "413"),
        ("/api/v1/usual", 1 << 20, "200"),
        ("/api/v1/usual", (1 << 20) + 1, "413"),
        ("/large", 10 << 20, "200"),
        ("/large", 12 << 20, "413"),
    ] {
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {size}\r\n\r\n");
        let mut declared = head.into_bytes();
        declared.resize(declared.len() + size, b'a');
        let answer = ask(&server, None, &declared).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path} {size}: {answer}");

        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        let mut chunked = format!("{head}{size:x}\r\n").into_bytes();
        chunked.resize(chunked.len() + size, b'a');
        chunked.extend(b"\r\n0\r\n\r\n");
        let answer = ask(&server, None, &chunked).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path} {size} chunked: {answer}");
    }
}

#[tokio::test]
async fn two_lengths_do_not_smuggle_a_second_request() {
    let server = start(true);
    let request =
        b"POST /small HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n\
                    0\r\n\r\nGET /who HTTP/1.1\r\nhost: a\r\n\r\n";
    let answer = ask(&server, None, request).await.unwrap();
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
}

#[tokio::test]
async fn a_panic_ends_one_request() {
    let server = start(true);
    let request =
        b"GET /panic HTTP/1.1\r\nhost: a\r\n\r\nGET /who HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = ask(&server, None, request).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 500") && answer.ends_with("none"), "{answer}");
}

#[tokio::test]
async fn http_2_carries_the_same() {
    let server = start(true);
    let key = KeyPair::generate().unwrap();
    let certificate = self_signed(&key);
    let length = certificate.len().to_string();
    let stream =
        connect(server.address, presents(certificate, &key), &rustls::version::TLS13, "h2").await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://localhost/who").body(Full::new(Bytes::new())).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), length);
    let request =
        Request::post("https://localhost/small").body(Full::new(Bytes::from(vec![0; 1001]))).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn the_socket_speaks_for_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("russet.sock");
    let network = Network::default();
    network.serve_socket(Socket::bind(&path).unwrap(), router());
    let answer = exchange(UnixStream::connect(&path).await.unwrap(), WHO).await.unwrap();
    assert!(answer.ends_with("socket"), "{answer}");
    network.stop(Duration::ZERO).await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_stop_finishes_what_is_under_way_and_takes_nothing_new() {
    // Bound and never listening: nobody else gets the port once the server has let go of it.
    let (_reserved, address) = reserve();
    let listener = Listener::bind(&[address], "[server] listen").unwrap();
    let (entered, inside) = oneshot::channel();
    let (release, released) = oneshot::channel();
    let once = Arc::new(std::sync::Mutex::new(Some((entered, released))));
    let slow = move || {
        let (entered, released) = once.lock().unwrap().take().unwrap();
        async move {
            entered.send(()).unwrap();
            released.await.unwrap();
            "finished"
        }
    };
    let network = Network::default();
    network.serve_plain(listener, Router::new().route("/slow", get(slow)));
    let mut idle = TcpStream::connect(address).await.unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let asked = tokio::spawn(async move { exchange(stream, b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await });
    inside.await.unwrap();
    let stopped = tokio::spawn(network.stop(Duration::from_secs(60)));
    // The idle connection's end shows that the stop has begun.
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);
    drop(idle);
    release.send(()).unwrap();
    assert!(asked.await.unwrap().unwrap().ends_with("finished"));
    stopped.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let listener = Listener::bind(&["127.0.0.1:0".parse().unwrap()], "[server] listen").unwrap();
    let address = listener.addresses()[0];
    let network = Network::default();
    let (entered, mut inside) = mpsc::channel::<()>(1);
    let stuck = move || {
        let entered = entered.clone();
        async move {
            entered.send(()).await.unwrap();
            std::future::pending::<()>().await;
        }
    };
    network.serve_plain(listener, Router::new().route("/stuck", get(stuck)));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /stuck HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    inside.recv().await.unwrap();
    network.stop(Duration::ZERO).await;
}

/// Time stands still here and moves on when nobody has anything to do: no minute is waited for.
#[tokio::test(start_paused = true)]
async fn headers_that_come_slowly_or_never_end_their_connection() {
    let listener = Listener::bind(&["127.0.0.1:0".parse().unwrap()], "[server] listen").unwrap();
    let address = listener.addresses()[0];
    let network = Network::default();
    network.serve_plain(listener, router());
    for begun in ["", "GET /who HT", "GET /who HTTP/1.1\r\nhost: a\r\n"] {
        let stream = TcpStream::connect(address).await.unwrap();
        let answer = exchange(stream, begun.as_bytes()).await.unwrap_or_default();
        assert!(!answer.contains("200"), "{begun:?}: {answer}");
    }
    // A line every ten seconds for ever.
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut lines = 0;
    stream.write_all(b"GET /who HTTP/1.1\r\n").await.unwrap();
    while stream.write_all(b"x: a\r\n").await.is_ok() {
        sleep(Duration::from_secs(10)).await;
        lines += 1;
    }
    assert!(lines < 60, "it went on for {lines} lines");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_listened_to_any_more_when_a_stop_returns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("russet.sock");
    let (_reserved, address) = reserve();
    for _ in 0..100 {
        let listener = Listener::bind(&[address], "[server] listen").unwrap();
        let network = Network::default();
        network.serve_plain(listener, router());
        network.serve_socket(Socket::bind(&path).unwrap(), router());
        network.stop(Duration::ZERO).await;
        assert!(std::net::TcpListener::bind(address).is_ok(), "the port is free");
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn a_full_room_is_left_by_who_was_served() {
    let listener = Listener::bind(&["127.0.0.1:0".parse().unwrap()], "[server] listen").unwrap();
    let address = listener.addresses()[0];
    let network = Network::with_room(2);
    network.serve_plain(listener, router());
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /who HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
        // It stays, and closes when the server does, as clients do.
        tokio::spawn(async move { stream.read(&mut [0; 1]).await });
    }
    let answer = exchange(TcpStream::connect(address).await.unwrap(), WHO).await.unwrap();
    assert!(answer.ends_with("none"), "{answer}");
}
