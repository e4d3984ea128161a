//! Who keeps a place that others wait for, and for how long anybody keeps one.

use super::*;
use axum::body::{Body, Bytes};
use axum::routing::get;
use hyper::client::conn::http2;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

type Served = (DuplexStream, JoinHandle<()>, Arc<Notify>, watch::Sender<Phase>);

/// A connection that has been there for `age`.
fn connection(age: Duration) -> Served {
    speaking(age, false)
}

fn speaking(age: Duration, is_http2: bool) -> Served {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (phase, crowded) = (watch::Sender::new(Phase::Open), Arc::new(Notify::new()));
    let signals = Signals { phase: phase.subscribe(), crowded: crowded.clone() };
    let mut activity = Activity::new(&Budget::new(0));
    activity.began = Instant::now().checked_sub(age).unwrap();
    let pending = async |_: Bytes| std::future::pending::<()>().await;
    let router = Router::new()
        .route("/", get(async || "served").post(async |body: Bytes| body))
        .route("/empty", axum::routing::put(async |_: Bytes| ()))
        .route("/pending", get(pending).post(pending));
    let serving = tokio::spawn(serve(near, is_http2, router, Peer::Socket, activity, signals));
    (far, serving, crowded, phase)
}

/// Whether it ends while others wait, which is said again and again.
async fn leaves(serving: &mut JoinHandle<()>, crowded: &Notify) -> bool {
    for _ in 0..20 {
        crowded.notify_waiters();
        if timeout(Duration::from_millis(5), &mut *serving).await.is_ok() {
            return true;
        }
    }
    false
}

async fn say(peer: &mut DuplexStream, words: &str) {
    peer.write_all(words.as_bytes()).await.unwrap();
    sleep(Duration::from_millis(20)).await;
}

#[tokio::test]
async fn a_connection_that_never_asked_leaves_after_a_while() {
    for words in ["", "GET / HTTP/1.1\r\nhost: a\r\n"] {
        let (mut peer, mut serving, crowded, _phase) = connection(Duration::ZERO);
        say(&mut peer, words).await;
        assert!(!leaves(&mut serving, &crowded).await, "it has just come: {words:?}");
        let (mut peer, mut serving, crowded, _phase) = connection(HURRY);
        say(&mut peer, words).await;
        assert!(leaves(&mut serving, &crowded).await, "{words:?}");
    }
}

#[tokio::test]
async fn a_connection_that_was_served_is_asked_to_leave_and_one_under_way_is_not() {
    let (mut peer, mut serving, crowded, _phase) = connection(Duration::ZERO);
    say(&mut peer, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(leaves(&mut serving, &crowded).await);
    let mut answer = String::new();
    peer.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("served"), "{answer}");

    let (mut peer, mut serving, crowded, _phase) = connection(HURRY);
    say(&mut peer, "GET /pending HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(!leaves(&mut serving, &crowded).await);
}

/// Time stands still in these and moves on when nobody has anything to do.
#[tokio::test(start_paused = true)]
async fn a_body_that_is_still_to_come_keeps_no_place_for_long() {
    let (mut peer, mut serving, crowded, _phase) = connection(Duration::ZERO);
    say(&mut peer, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nab").await;
    assert!(!leaves(&mut serving, &crowded).await, "it is asked first");
    sleep(HURRY).await;
    assert!(leaves(&mut serving, &crowded).await);

    // Who hurries is answered.
    let (mut peer, mut serving, crowded, _phase) = connection(Duration::ZERO);
    say(&mut peer, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nab").await;
    assert!(!leaves(&mut serving, &crowded).await);
    say(&mut peer, "cdefghi").await;
    assert!(leaves(&mut serving, &crowded).await);
    let mut answer = String::new();
    peer.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("connection: close") && answer.ends_with("abcdefghi"), "{answer}");

    // What is worked on is finished, however long that takes.
    let (mut peer, mut serving, crowded, _phase) = connection(Duration::ZERO);
    say(&mut peer, "POST /pending HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nab").await;
    assert!(!leaves(&mut serving, &crowded).await);
    sleep(HURRY).await;
    assert!(!leaves(&mut serving, &crowded).await);
}

/// A client that answers every PING and has no room for a reply, which it never takes.
async fn takes_nothing() -> (Served, (http2::SendRequest<Body>, hyper::Response<Incoming>)) {
    let (peer, serving, crowded, phase) = speaking(Duration::ZERO, true);
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(0)
        .handshake(TokioIo::new(peer))
        .await
        .unwrap();
    tokio::spawn(connection);
    let answer = sender.send_request(Request::get("https://a/").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    // In the place of the stream, which the client has.
    let (stream, _) = tokio::io::duplex(1);
    ((stream, serving, crowded, phase), (sender, answer))
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_not_taken_ends_its_connection_though_the_client_lives() {
    let ((_, serving, _crowded, _phase), _held) = takes_nothing().await;
    let began = Instant::now();
    timeout(Duration::from_secs(3600), serving).await.unwrap().unwrap();
    let took = began.elapsed();
    assert!((LOOK * STALLED_LOOKS..=LOOK * (STALLED_LOOKS + 1)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_not_taken_keeps_no_place_for_long() {
    let ((_, mut serving, crowded, _phase), _held) = takes_nothing().await;
    assert!(!leaves(&mut serving, &crowded).await, "it is asked first");
    sleep(HURRY).await;
    assert!(leaves(&mut serving, &crowded).await);
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_not_taken_ends_its_connection_whatever_is_asked_beside_it() {
    // Asked and taken back; and small requests whose bodies and empty replies all move.
    for (method, body, is_taken_back) in [("GET", "", true), ("PUT", "a few bytes", false)] {
        let ((_, mut serving, _crowded, _phase), (mut sender, _held)) = takes_nothing().await;
        let began = Instant::now();
        let asks = async {
            loop {
                let uri = if is_taken_back { "https://a/" } else { "https://a/empty" };
                let request = Request::builder().method(method).uri(uri).body(Body::from(body)).unwrap();
                match sender.send_request(request).await {
                    Ok(answer) => drop(answer),
                    Err(_) => std::future::pending().await,
                }
                sleep(Duration::from_secs(7)).await;
            }
        };
        tokio::select! {
            ended = timeout(Duration::from_secs(3600), &mut serving) => ended.unwrap().unwrap(),
            () = asks => {}
        }
        let took = began.elapsed();
        assert!((LOOK * STALLED_LOOKS..=LOOK * (STALLED_LOOKS + 1)).contains(&took), "{method}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asks_now_and_then_and_is_answered_stays() {
    let (peer, mut serving, _crowded, _phase) = speaking(Duration::ZERO, true);
    let builder = http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) = builder.handshake(TokioIo::new(peer)).await.unwrap();
    tokio::spawn(connection);
    for uri in ["https://a/empty", "https://a/"].repeat(20) {
        let request = Request::put(uri).body(Body::empty()).unwrap();
        sender.send_request(request).await.unwrap();
        sleep(LOOK).await;
    }
    assert!(timeout(Duration::from_millis(1), &mut serving).await.is_err());
}
