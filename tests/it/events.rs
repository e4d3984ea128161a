//! What happens, told while it happens.

use russet::simulator::Kind;
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::support::Appliance;

/// An open stream of events.
struct Stream {
    socket: UnixStream,
    text: String,
}

impl Stream {
    async fn open(appliance: &Appliance, query: &str, last: Option<i64>) -> Self {
        Self::try_open(appliance, query, last).await.expect("there is room")
    }

    /// None where there is no room.
    async fn try_open(appliance: &Appliance, query: &str, last: Option<i64>) -> Option<Self> {
        let path = appliance.config.data_dir.join(russet::server::SOCKET);
        let mut socket = UnixStream::connect(path).await.unwrap();
        let last = last.map_or_else(String::new, |last| format!("last-event-id: {last}\r\n"));
        let request = format!("GET /api/v1/events/stream{query} HTTP/1.1\r\nhost: a\r\n{last}\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut stream = Self { socket, text: String::new() };
        stream.until("\r\n\r\n").await;
        if stream.text.starts_with("HTTP/1.1 503") {
            return None;
        }
        stream.until(": open\n\n").await;
        assert!(stream.text.contains("content-type: text/event-stream"), "{}", stream.text);
        Some(stream)
    }

    /// Reads until `words` came, or the end.
    async fn until(&mut self, words: &str) -> bool {
        let mut piece = [0; 4096];
        while !self.text.contains(words) {
            match self.socket.read(&mut piece).await {
                Ok(0) | Err(_) => return false,
                Ok(read) => self.text.push_str(&String::from_utf8_lossy(&piece[..read])),
            }
        }
        true
    }

    fn events(&self) -> Vec<Json> {
        let data = self.text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(|json| serde_json::from_str(json).unwrap()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_what_happens_after_it_was_opened_and_what_was_missed() {
    let mut appliance = Appliance::start().await;
    let first = appliance.enroll(Kind::IPhone).await;
    let mut stream = Stream::open(&appliance, "", None).await;
    let second = appliance.enroll(Kind::IPad).await;
    assert!(stream.until("\"enrolled\",\"enrollment_id\":").await);
    let told = stream.events();
    assert!(told.iter().all(|event| event["enrollment_id"] == second.udid.as_str()), "{told:?}");
    let kinds: Vec<_> = told.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["authenticate", "enrolled"]);

    // Whoever comes back names the last that was seen.
    let mut again = Stream::open(&appliance, "?kind=enrolled", Some(0)).await;
    assert!(again.until(&second.udid).await);
    let of: Vec<_> = again.events().iter().map(|event| event["enrollment_id"].clone()).collect();
    assert_eq!(of, [first.udid.as_str(), second.udid.as_str()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_counted_and_end_with_the_server() {
    let mut appliance = Appliance::start().await;
    let mut streams = Vec::new();
    for _ in 0..64 {
        streams.push(Stream::open(&appliance, "", None).await);
    }
    let (status, refused) = appliance.api("GET", "/api/v1/events/stream", None).await;
    assert_eq!(status, 503, "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains("64 event streams are open"));
    // Readers that are gone make room: the next event finds them out.
    let mut left = streams.split_off(60);
    drop(streams);
    appliance.enroll(Kind::Mac).await;
    let another = loop {
        match Stream::try_open(&appliance, "", None).await {
            Some(stream) => break stream,
            None => drop(appliance.enroll(Kind::Mac).await),
        }
    };
    left.push(another);

    // Nobody is waited for: stopping takes no longer than the streams take to end.
    appliance.running.take().unwrap().stop().await;
    for stream in &mut left {
        assert!(!stream.until("nothing says this").await, "it ends");
    }
}
