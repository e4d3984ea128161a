//! Who keeps a place that others wait for.

use super::*;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// A connection that has been there for `age`.
fn connection(age: Duration) -> (DuplexStream, JoinHandle<()>, Arc<Notify>, watch::Sender<Phase>) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (phase, crowded) = (watch::Sender::new(Phase::Open), Arc::new(Notify::new()));
    let signals = Signals { phase: phase.subscribe(), crowded: crowded.clone() };
    let mut activity = Activity::new(&Budget::new(0));
    activity.began = Instant::now().checked_sub(age).unwrap();
    let pending = get(|| async {
        std::future::pending::<()>().await;
    });
    let router = Router::new().route("/", get(|| async { "served" })).route("/pending", pending);
    let serving = tokio::spawn(serve(near, false, router, Peer::Socket, activity, signals));
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
