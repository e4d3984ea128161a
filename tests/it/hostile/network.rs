//! The network itself: TLS, slow clients, floods, requests that two readers read differently
//! (THREATS D5 40).

use russet::simulator::{Channel, Kind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::raw::{self, Request};
use crate::support::{Appliance, Port};

/// ECDHE with AES-GCM, for either kind of key.
const GOOD: [u16; 2] = [0xc02b, 0xc02f];

/// A ClientHello by hand: what libraries no longer send.
struct Hello<'a> {
    version: u16,
    suites: &'a [u16],
    extended_master_secret: bool,
    server_name: &'a str,
    padding: usize,
}

impl Default for Hello<'_> {
    fn default() -> Self {
        Self {
            version: 0x0303,
            suites: &GOOD,
            extended_master_secret: true,
            server_name: "localhost",
            padding: 0,
        }
    }
}

fn prefixed(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn words(numbers: &[u16]) -> Vec<u8> {
    prefixed(&numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<_>>())
}

impl Hello<'_> {
    fn bytes(&self) -> Vec<u8> {
        let extension = |kind: u16, content: &[u8]| [&kind.to_be_bytes()[..], &prefixed(content)].concat();
        let name = [&[0][..], &prefixed(self.server_name.as_bytes())].concat();
        let mut extensions = [
            extension(0, &prefixed(&name)),
            extension(10, &words(&[0x001d, 0x0017])),
            extension(11, &[1, 0]),
            extension(13, &words(&[0x0403, 0x0804, 0x0401, 0x0201])),
        ]
        .concat();
        if self.extended_master_secret {
            extensions.extend(extension(23, &[]));
        }
        if self.padding > 0 {
            extensions.extend(extension(21, &vec![0; self.padding]));
        }
        let content = [
            &self.version.to_be_bytes()[..],
            &[7; 32],
            &[0],
            &words(self.suites),
            &[1, 0],
            &prefixed(&extensions),
        ]
        .concat();
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        let handshake = [&[1][..], &length[1..], &content].concat();
        let records = handshake.chunks(16_000).map(|part| [&[22, 3, 1][..], &prefixed(part)].concat());
        records.collect::<Vec<_>>().concat()
    }

    /// The type of the first record of the answer: 22 for a ServerHello, 21 for an alert; none if the
    /// connection just ends.
    async fn answer(&self, appliance: &Appliance) -> Option<u8> {
        let mut stream = TcpStream::connect(raw::address(appliance)).await.unwrap();
        let _ = stream.write_all(&self.bytes()).await;
        let mut first = [0; 1];
        stream.read_exact(&mut first).await.ok().map(|_| first[0])
    }
}

/// 40: old versions, weak suites, no extended master secret, hellos without end.
#[tokio::test]
async fn old_and_weak_tls_is_refused() {
    let appliance = Appliance::start().await;
    assert_eq!(Hello::default().answer(&appliance).await, Some(22), "TLS 1.2 as it should be is served");
    for version in [0x0300, 0x0301, 0x0302] {
        let hello = Hello { version, ..Hello::default() };
        assert_eq!(hello.answer(&appliance).await, Some(21), "{version:x}");
    }
    // RC4, 3DES, CBC with SHA-1 and SHA-2, RSA key exchange, export, anonymous, NULL.
    for suite in
        [0x0005, 0x000a, 0xc009, 0xc013, 0xc023, 0xc027, 0x009c, 0x002f, 0x0003, 0x0034, 0x0002, 0xc011]
    {
        let hello = Hello { suites: &[suite], ..Hello::default() };
        assert_eq!(hello.answer(&appliance).await, Some(21), "{suite:x}");
    }
    let hello = Hello { extended_master_secret: false, ..Hello::default() };
    assert_eq!(hello.answer(&appliance).await, Some(21));

    let mut stream = TcpStream::connect(raw::address(&appliance)).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "no HTTP without TLS");
}

/// 40: a hello of four records is read, one that says it has 16 MiB ends at once, and a wrong name
/// gets the one certificate that there is: it is for the client to judge.
#[tokio::test]
async fn a_huge_hello_is_refused_and_a_wrong_name_gets_the_same_certificate() {
    let appliance = Appliance::start().await;
    let hello = Hello { padding: 60_000, ..Hello::default() };
    assert_eq!(hello.answer(&appliance).await, Some(22));
    for server_name in ["evil.example", "localhost.evil.example", "xn--", "a", &"a.".repeat(120)] {
        let hello = Hello { server_name, ..Hello::default() };
        assert!([Some(22), Some(21)].contains(&hello.answer(&appliance).await), "{server_name}");
    }
    let mut stream = TcpStream::connect(raw::address(&appliance)).await.unwrap();
    stream.write_all(&[&[22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff][..]].concat()).await.unwrap();
    // It does not wait for the rest: without that, this would wait with it.
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.first().is_none_or(|kind| *kind == 21), "at most an alert: {answer:?}");
}

/// 40: a hundred that say half a word, and one that wants something. Each costs two file descriptors of
/// this process, which the tests beside this one share.
#[tokio::test]
async fn half_open_connections_and_slow_headers_keep_nobody_out() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let mut held = Vec::new();
    for number in 0..100 {
        let mut stream = TcpStream::connect(raw::address(&appliance)).await.unwrap();
        if number % 3 == 0 {
            stream.write_all(&Hello::default().bytes()[..20]).await.unwrap();
        }
        held.push(stream);
    }
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut stream = raw::open(&appliance, None).await;
        stream.write_all(b"PUT /mdm/connect HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n").await.unwrap();
        slow.push(stream);
    }
    assert!(phone.connect(Channel::Device).await.is_ok());
    drop((held, slow));
}

/// Sends a request on a kept connection and reads its answer; answers the status.
pub(super) async fn ask_on(stream: &mut TlsStream<TcpStream>, request: &str) -> u16 {
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "the connection ended: {}", String::from_utf8_lossy(&bytes));
        bytes.extend(&buffer[..read]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if bytes.len() >= end + 4 + length.expect("a length") {
            return head.split(' ').nth(1).unwrap().parse().unwrap();
        }
    }
}

/// Bodies are bounded before anybody is asked who they are, declared or not.
#[tokio::test]
async fn a_body_is_refused_by_its_size_before_its_sender_is_looked_at() {
    let appliance = Appliance::start().await;
    for (path, limit) in
        [("/mdm/connect", 10 << 20), ("/mdm/checkin", 10 << 20), ("/scep?operation=PKIOperation", 64 << 10)]
    {
        let method = if path.starts_with("/scep") { "POST" } else { "PUT" };
        // Declared and never sent: nothing waits for it.
        let mut stream = raw::open(&appliance, None).await;
        let head = format!("{method} {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", limit + 1);
        stream.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(raw::read(&mut stream).await.status, 413, "{path}");

        let stream = raw::open(&appliance, None).await;
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").into_bytes();
        let chunk = [b"8000\r\n".to_vec(), vec![b'a'; 0x8000], b"\r\n".to_vec()].concat();
        request.extend(chunk.repeat(limit / 0x8000 + 1));
        assert_eq!(raw::exchange(stream, &request).await.status, 413, "{path} in chunks");
    }
}

/// Headers without end, and without sense.
#[tokio::test]
async fn endless_headers_are_431_and_senseless_ones_400() {
    let appliance = Appliance::start().await;
    let large = Request::put("/mdm/connect", "").header("x", "a".repeat(70_000));
    assert_eq!(large.send(&appliance).await.status, 431);
    let mut many = Request::put("/mdm/connect", "");
    for number in 0..200 {
        many = many.header(&format!("x-{number}"), "a");
    }
    assert_eq!(many.send(&appliance).await.status, 431);
}

/// 40: two readers must not see two requests where one sees one.
#[tokio::test]
async fn requests_with_two_lengths_are_refused_or_read_one_way() {
    let appliance = Appliance::start().await;
    let smuggled = "GET /ca.crt HTTP/1.1\r\nhost: a\r\n\r\n";
    for (head, body) in [
        ("content-length: 5\r\ncontent-length: 6\r\n", "aaaaaa"),
        ("content-length: 5, 6\r\n", "aaaaaa"),
        ("content-length: +5\r\n", "aaaaa"),
        ("content-length: -1\r\n", "aaaaa"),
        ("transfer-encoding: xchunked\r\n", "0\r\n\r\n"),
        ("transfer-encoding: chunked, identity\r\n", "0\r\n\r\n"),
        ("transfer-encoding: chunked\r\n", "fffffffffffffffff\r\na"),
        ("transfer-encoding: chunked\r\n", "-1\r\na"),
        ("content-length : 5\r\n", "aaaaa"),
        ("x: a\r\n content-length: 5\r\n", "aaaaa"),
    ] {
        let mut stream = raw::open(&appliance, None).await;
        let request = format!("PUT /mdm/connect HTTP/1.1\r\nhost: a\r\n{head}\r\n{body}{smuggled}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = raw::read(&mut stream).await;
        assert_eq!(answer.status, 400, "{head:?}: {answer:?}");
        assert!(!answer.text().contains("HTTP/1.1 "), "{head:?}: {answer:?}");
    }
    // Both: the coding counts (RFC 9112 section 6.3), so what looks like the second request is one.
    let mut stream = raw::open(&appliance, None).await;
    let request = format!(
        "PUT /mdm/connect HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}",
        5 + smuggled.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 400");
}

/// 40: streams opened and reset, thousands of times (CVE-2023-44487).
#[tokio::test(flavor = "multi_thread")]
async fn a_rapid_reset_ends_its_connection_and_no_other() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let mut stream = raw::open_http2(&appliance).await;
    let frame = |kind: u8, flags: u8, id: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &id.to_be_bytes(), payload].concat()
    };
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    // :method GET, :scheme https, :path /, :authority a; from HPACK's static table.
    let headers = [0x82, 0x87, 0x84, 0x41, 1, b'a'];
    let (mut reader, mut writer) = tokio::io::split(stream);
    let flood = async {
        for number in 0..20_000_u32 {
            let id = number * 2 + 1;
            let open = [frame(1, 5, id, &headers), frame(3, 0, id, &8_u32.to_be_bytes())].concat();
            if writer.write_all(&open).await.is_err() {
                break;
            }
        }
        let _ = writer.flush().await;
    };
    // The server ends it: without that, this would wait for ever.
    let mut frames = Vec::new();
    let _ = tokio::join!(flood, reader.read_to_end(&mut frames));
    assert!(phone.connect(Channel::Device).await.is_ok());
}

/// 40: without TLS there is the way to TLS, the trust anchor, and nothing else.
#[tokio::test]
async fn without_tls_there_is_only_the_way_to_it() {
    let port = Port::reserve();
    let plain = port.address();
    let appliance = Appliance::bare(|config| config.server.http_listen = vec![plain]).await;
    let ask = async |request: String| {
        let mut stream = TcpStream::connect(plain).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        raw::read(&mut stream).await
    };
    let get = async |path: &str| {
        ask(format!("GET {path} HTTP/1.1\r\nhost: evil\r\nconnection: close\r\n\r\n")).await
    };
    let public = appliance.config.server.public_url.to_string();
    for path in [
        "/",
        "/mdm/connect",
        "/mdm/checkin",
        "/scep?operation=GetCACaps",
        "/enroll/code",
        "/enroll/code/profile",
        "/healthz",
        "/metrics",
        "/api/v1/enrollments",
        "//evil.example/x",
        "/\\evil.example",
    ] {
        let answer = get(path).await;
        assert!([308, 400].contains(&answer.status), "{path}: {}", answer.status);
        let location = answer.header("location").unwrap_or(&public);
        assert!(location.starts_with(&format!("{public}/")) || location == public, "{location}");
    }
    for path in ["/ca.crt", "/trust.mobileconfig"] {
        assert_eq!(get(path).await.status, 200, "{path}");
    }
    for method in ["PUT", "POST", "DELETE", "CONNECT", "TRACE", "OPTIONS"] {
        let request = format!(
            "{method} /mdm/checkin HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        assert_eq!(ask(request).await.status, 400, "{method}");
    }
}

/// Methods and paths that are nobody's.
#[tokio::test]
async fn no_route_answers_what_it_is_not_for() {
    let appliance = Appliance::start().await;
    for path in super::DEVICE_ROUTES {
        for method in ["GET", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
            let answer = Request::new(method, path).send(&appliance).await;
            assert_eq!(answer.status, 405, "{method} {path}");
        }
    }
    for path in
        ["/mdm/connect/", "/mdm//connect", "/mdm/../mdm/connect", "/MDM/connect", "/mdm", "/mdm/%63onnect"]
    {
        let status = Request::put(path, "").send(&appliance).await.status;
        assert!([400, 404, 405].contains(&status), "{path}: {status}");
    }
}
