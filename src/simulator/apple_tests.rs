//! The loopback push service, spoken to by a plain HTTP/2 client.

use hyper::client::conn::http2 as client;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::*;
use crate::simulator::push_certificate;

const TOPIC: &str = "com.apple.mgmt.External.test";
const TOKEN: [u8; 32] = [0xab; 32];

type Sender = client::SendRequest<Full<Bytes>>;

async fn start(limits: Limits) -> Apple {
    Apple::start(limits, Clock::set_to(1_800_000_000)).await.unwrap()
}

fn register(apple: &Apple) -> mpsc::UnboundedReceiver<Channel> {
    let (waker, woken) = mpsc::unbounded_channel();
    apple.register(&TOKEN, TOPIC, "magic", Channel::Device, waker);
    woken
}

async fn connect(apple: &Apple) -> Sender {
    let (certificate, key) = push_certificate(TOPIC).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(apple.root_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(apple.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap();
    let (sender, connection) = client::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn push(apple: &Apple, headers: &[(&'static str, &'static str)], body: &'static str) -> Request<Full<Bytes>> {
    let mut request = Request::post(format!("{}/3/device/{}", apple.url(), id::hex(&TOKEN)));
    for (name, value) in [
        ("apns-push-type", "mdm"),
        ("apns-topic", TOPIC),
        ("apns-priority", "10"),
        ("apns-expiration", "1800600000"),
    ] {
        let value = headers.iter().find(|(other, _)| *other == name).map_or(value, |(_, value)| value);
        if !value.is_empty() {
            request = request.header(name, value);
        }
    }
    request.body(Full::from(body)).unwrap()
}

async fn send(sender: &mut Sender, request: Request<Full<Bytes>>) -> (u16, HeaderMap, Value) {
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status.as_u16(), parts.headers, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn a_push_wakes_the_device_that_registered() {
    let apple = start(Limits::default()).await;
    let mut woken = register(&apple);
    let mut sender = connect(&apple).await;
    let (status, headers, _) = send(&mut sender, push(&apple, &[], r#"{"mdm":"magic"}"#)).await;
    assert_eq!(status, 200);
    assert!(headers.contains_key("apns-id"));
    assert_eq!(woken.recv().await, Some(Channel::Device));
    let received = apple.answered(1).await;
    assert_eq!((received[0].token.as_str(), received[0].topic.as_str()), (id::hex(&TOKEN).as_str(), TOPIC));
    assert_eq!(received[0].expiration, Some(1_800_600_000));
}

#[tokio::test]
async fn each_mistake_gets_the_reason_that_apple_documents() {
    let apple = start(Limits::default()).await;
    let _woken = register(&apple);
    let mut sender = connect(&apple).await;
    let body = r#"{"mdm":"magic"}"#;
    for (headers, body, status, reason) in [
        (&[("apns-push-type", "alert")][..], body, 400, "InvalidPushType"),
        (&[("apns-topic", "")], body, 400, "MissingTopic"),
        (&[("apns-topic", "com.apple.mgmt.External.other")], body, 400, "TopicDisallowed"),
        (&[("apns-priority", "5")], body, 400, "BadPriority"),
        (&[("apns-expiration", "tomorrow")], body, 400, "BadExpirationDate"),
        (&[], "", 400, "PayloadEmpty"),
        (&[], r#"{"aps":{}}"#, 400, "PayloadEmpty"),
    ] {
        let (got, _, answer) = send(&mut sender, push(&apple, headers, body)).await;
        assert_eq!((got, answer["reason"].as_str()), (status, Some(reason)));
    }
    let mut upper = push(&apple, &[], body);
    *upper.uri_mut() =
        format!("{}/3/device/{}", apple.url(), id::hex(&TOKEN).to_uppercase()).parse().unwrap();
    assert_eq!(send(&mut sender, upper).await.2["reason"], "BadDeviceToken");
    let mut unknown = push(&apple, &[], body);
    *unknown.uri_mut() = format!("{}/3/device/00", apple.url()).parse().unwrap();
    assert_eq!(send(&mut sender, unknown).await.2["reason"], "BadDeviceToken");
}

#[tokio::test]
async fn it_misbehaves_as_it_is_told() {
    let apple = start(Limits::default()).await;
    let _woken = register(&apple);
    let mut sender = connect(&apple).await;
    let busy = Misbehaviour { retry_after: Some(7), ..refusal(503, "ServiceUnavailable") };
    apple.misbehave(1, &busy);
    let body = r#"{"mdm":"magic"}"#;
    let (status, headers, _) = send(&mut sender, push(&apple, &[], body)).await;
    assert_eq!((status, headers["retry-after"].to_str().unwrap()), (503, "7"));
    assert_eq!(send(&mut sender, push(&apple, &[], body)).await.0, 200);
    apple.unregister(&TOKEN, 1_799_000_000_123);
    let (status, _, answer) = send(&mut sender, push(&apple, &[], body)).await;
    assert_eq!((status, &answer["reason"]), (410, &json!("Unregistered")));
    assert_eq!(answer["timestamp"], json!(1_799_000_000_123_u64));
}

#[tokio::test]
async fn a_connection_ends_with_goaway_after_its_requests() {
    let apple = start(Limits { requests_per_connection: 2, ..Limits::default() }).await;
    let _woken = register(&apple);
    let mut sender = connect(&apple).await;
    for _ in 0..2 {
        assert_eq!(send(&mut sender, push(&apple, &[], r#"{"mdm":"magic"}"#)).await.0, 200);
    }
    let closed = loop {
        match sender.ready().await {
            Err(_) => break true,
            Ok(()) if sender.is_closed() => break true,
            Ok(()) => tokio::task::yield_now().await,
        }
    };
    assert!(closed);
}

#[tokio::test]
async fn a_device_that_is_gone_is_unregistered() {
    let apple = start(Limits::default()).await;
    drop(register(&apple));
    let mut sender = connect(&apple).await;
    let (status, _, answer) = send(&mut sender, push(&apple, &[], r#"{"mdm":"magic"}"#)).await;
    assert_eq!((status, &answer["timestamp"]), (410, &json!(1_800_000_000_000_u64)));
}

#[tokio::test]
async fn a_stranger_to_the_service_has_no_topic() {
    let (certificate, _) = push_certificate(TOPIC).unwrap();
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    assert_eq!(apple_tls::user_id(&der).as_deref(), Some(TOPIC));
    assert_eq!(apple_tls::user_id(b"no certificate"), None);
}
