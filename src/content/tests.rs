//! What is kept, found again, shared, and thrown away.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::Frame;
use hyper::header::RANGE;

use super::*;
use crate::storage::tests::temporary;

fn contents(folder: &Path) -> Contents {
    Contents::open(folder, &Seal::open(folder, None, true).unwrap()).unwrap()
}

async fn keep(store: &Store, contents: &Contents, user: &'static str, bytes: &[u8], secret: bool) -> Kept {
    let received = contents.receive(Body::from(bytes.to_vec())).await.unwrap();
    let contents = contents.clone();
    store.write("keep", move |tx| contents.keep(tx, user, &received, secret)).await.unwrap()
}

fn large(byte: u8) -> Vec<u8> {
    vec![byte; usize::try_from(IN_DATABASE).unwrap() + 1]
}

#[tokio::test]
async fn small_and_large_are_found_again_and_kept_once() {
    let (folder, store) = temporary();
    let contents = contents(folder.path());
    for bytes in [b"small".to_vec(), Vec::new(), large(1)] {
        let kept = keep(&store, &contents, "profile a", &bytes, false).await;
        assert_eq!(kept.sha256(), Some(id::hex(&id::sha256(&bytes)).as_str()));
        assert_eq!(kept, keep(&store, &contents, "profile b", &bytes, false).await);
        assert_eq!(store.peek(|conn| contents.load(conn, &kept)).unwrap(), bytes);
        assert_eq!(store.peek(|conn| find(conn, "profile b")).unwrap(), Some(kept));
    }
    let rows: i64 = store
        .peek(|conn| Ok(conn.query_row("SELECT COUNT(*) FROM contents", [], |row| row.get(0))?))
        .unwrap();
    assert_eq!(rows, 1, "what nobody uses is gone");
}

#[tokio::test]
async fn a_file_outlives_its_users_until_it_is_swept_and_no_longer() {
    let (folder, store) = temporary();
    let contents = contents(folder.path());
    let kept = keep(&store, &contents, "package a", &large(1), false).await;
    keep(&store, &contents, "package b", &large(1), false).await;
    let path = contents.path(&kept.id);
    store.write("release", |tx| release(tx, "package a")).await.unwrap();
    contents.sweep(&store).await.unwrap();
    assert!(path.exists(), "somebody uses it");
    let again = contents.receive_bytes(&large(1)).unwrap();
    store.write("release", |tx| release(tx, "package b")).await.unwrap();
    contents.sweep(&store).await.unwrap();
    assert!(path.exists(), "somebody is about to use it");
    drop(again);
    contents.sweep(&store).await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn what_breaks_off_leaves_nothing() {
    let (folder, store) = temporary();
    let contents = contents(folder.path());
    let broken = Pieces([Ok(large(1).into()), Err(std::io::Error::other("cut"))].into());
    let refused = contents.receive(Body::new(broken)).await.unwrap_err();
    assert!(refused.to_string().contains("did not arrive whole"), "{refused}");
    assert_eq!(std::fs::read_dir(contents.path("")).unwrap().count(), 0);
    // What a power cut left is thrown away at the next start.
    std::fs::write(contents.path("incoming-1"), b"half").unwrap();
    drop(store);
    let again = self::contents(folder.path());
    assert!(!again.path("incoming-1").exists());
}

/// A body that comes in these pieces.
struct Pieces(VecDeque<Result<Bytes, std::io::Error>>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.pop_front().map(|piece| piece.map(Frame::data)))
    }
}

#[tokio::test]
async fn a_secret_tells_nothing_of_itself() {
    let (folder, store) = temporary();
    let contents = contents(folder.path());
    let kept = keep(&store, &contents, "asset a", b"hunter2", true).await;
    assert!(kept.sha256().is_none() && !kept.id.contains(&id::hex(&id::sha256(b"hunter2"))));
    assert_eq!(kept, keep(&store, &contents, "asset a", b"hunter2", true).await, "nothing changed");
    let other = keep(&store, &contents, "asset b", b"hunter2", true).await;
    assert_ne!(kept.id, other.id);
    let stored: Vec<u8> = store
        .peek(|conn| {
            Ok(conn.query_row("SELECT bytes FROM contents WHERE id = ?1", [&kept.id], |row| row.get(0))?)
        })
        .unwrap();
    assert!(!stored.windows(7).any(|window| window == b"hunter2"));
    let received = contents.receive_bytes(&large(1)).unwrap();
    let too_large = store.write("keep", move |tx| contents.keep(tx, "asset c", &received, true)).await;
    assert!(matches!(too_large, Err(Error::Invalid { .. })));
}

#[tokio::test]
async fn a_range_is_answered_from_memory_and_from_a_file() {
    let (folder, store) = temporary();
    let contents = contents(folder.path());
    for bytes in [b"0123456789".to_vec(), [b"0123456789".to_vec(), large(1)].concat()] {
        let kept = keep(&store, &contents, "package a", &bytes, false).await;
        let asked = HeaderMap::from_iter([(RANGE, "bytes=2-4".parse().unwrap())]);
        let part = contents.respond(&store, &kept, "application/octet-stream", &asked).await.unwrap();
        assert_eq!(part.status(), 206);
        assert_eq!(part.headers()["content-range"], format!("bytes 2-4/{}", bytes.len()));
        assert_eq!(axum::body::to_bytes(part.into_body(), usize::MAX).await.unwrap(), "234");
        let whole = contents.respond(&store, &kept, "text/plain", &HeaderMap::new()).await.unwrap();
        assert_eq!(whole.headers()["content-length"], bytes.len().to_string());
        assert_eq!(axum::body::to_bytes(whole.into_body(), usize::MAX).await.unwrap(), bytes);
    }
}

#[tokio::test]
async fn a_reply_holds_its_place_until_the_last_of_it_is_let_go_of() {
    let (folder, store) = temporary();
    let contents = contents(folder.path());
    for bytes in [b"small".to_vec(), large(1)] {
        let kept = keep(&store, &contents, "asset a", &bytes, false).await;
        let place = Arc::new(());
        let (asked, held) = (HeaderMap::new(), place.clone());
        let reply = contents.respond_holding(&store, &kept, "text/plain", &asked, held).await.unwrap();
        assert_eq!(Arc::strong_count(&place), 2, "also while nobody has taken anything");
        let mut body = reply.into_body();
        let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(!piece.is_empty());
        assert_eq!(Arc::strong_count(&place), 2, "a small one is held by its bytes");
        drop((piece, body));
        assert_eq!(Arc::strong_count(&place), 1);
    }
}
