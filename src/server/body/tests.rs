//! Bodies that come in pieces, too late, or when there is no memory for them.

use super::*;
use http_body_util::BodyExt;
use tokio::sync::mpsc;

use crate::server::budget::Budget;

/// A body whose pieces come as they are sent; of a declared length, so much is left.
struct Sent(mpsc::UnboundedReceiver<Bytes>, Option<u64>);

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let next = self.0.poll_recv(cx);
        if let (Poll::Ready(Some(piece)), Some(left)) = (&next, &mut self.1) {
            *left -= piece.len() as u64;
        }
        next.map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        self.1.map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_closed() && self.0.is_empty()
    }
}

struct Upload {
    pieces: Option<mpsc::UnboundedSender<Bytes>>,
    body: Arriving<Sent>,
    allowance: Arc<Allowance>,
}

impl Upload {
    fn new(budget: &Arc<Budget>) -> Self {
        let (pieces, sent) = mpsc::unbounded_channel();
        let allowance = Arc::new(Allowance::default());
        let body = Arriving::new(Sent(sent, None), allowance.clone(), Version::HTTP_11, &Purse::new(budget));
        Self { pieces: Some(pieces), body, allowance }
    }

    fn send(&self, length: usize) {
        self.pieces.as_ref().unwrap().send(Bytes::from(vec![7; length])).unwrap();
    }

    /// What a handler reads; nothing while there is more to come.
    async fn read(&mut self) -> Option<Result<Bytes, String>> {
        let next = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut self.body).poll_frame(cx))).await;
        let Poll::Ready(frame) = next else { return None };
        Some(
            frame
                .expect("a frame")
                .map(|frame| frame.into_data().unwrap())
                .map_err(|error| error.to_string()),
        )
    }

    async fn whole(&mut self) -> Bytes {
        self.pieces = None;
        let whole = self.read().await.unwrap().unwrap();
        assert!(self.body.is_end_stream() && self.body.frame().await.is_none());
        whole
    }
}

#[tokio::test]
async fn a_body_in_pieces_comes_whole_and_an_empty_one_is_empty() {
    let budget = Budget::new(0);
    let mut upload = Upload::new(&budget);
    for length in [1, 2000, 3] {
        upload.send(length);
        assert!(upload.read().await.is_none());
    }
    assert_eq!(upload.whole().await, [7; 2004][..]);
    let mut one = Upload::new(&budget);
    one.send(5);
    assert_eq!(one.whole().await, [7; 5][..]);
    let mut empty = Upload::new(&budget);
    empty.pieces = None;
    assert!(empty.body.frame().await.is_none());
}

#[tokio::test]
async fn a_large_body_is_paid_for_until_the_last_of_it_is_gone() {
    // Room for the part of one body that its connection does not pay for.
    let budget = Budget::new(300 * 1024);
    let mut first = Upload::new(&budget);
    first.send(250 * 1024);
    assert!(first.read().await.is_none());

    let mut second = Upload::new(&budget);
    second.send(100 * 1024);
    let refused = second.read().await.unwrap().unwrap_err();
    assert!(refused.contains("too many") && second.allowance.crowded() && !second.allowance.exceeded());

    let mut small = Upload::new(&budget);
    small.send(64 * 1024);
    assert_eq!(small.whole().await.len(), 64 * 1024, "what devices say all day is always let in");

    // The handler's bytes, and what it keeps of them, still take up the room.
    let kept = first.whole().await.slice(10..20);
    drop(first);
    let full = async || {
        let mut upload = Upload::new(&budget);
        upload.send(100 * 1024);
        upload.read().await.is_some()
    };
    assert!(full().await);
    drop(kept);
    assert!(!full().await);
}

#[tokio::test]
async fn the_room_that_a_body_takes_up_is_paid_for_and_not_its_bytes_alone() {
    const K: usize = 1024;
    // What is free, what was declared, and the room that ten more bytes find.
    for (free, declared, room) in
        [(300, None, 200), (300, Some(110), 110), (300, Some(500), 200), (150, None, 110), (100, None, 110)]
    {
        let budget = Budget::new((free * K) as u64);
        let mut upload = Upload::new(&budget);
        upload.body.incoming.1 = declared.map(|length: usize| (length * K) as u64);
        for length in [100, 10] {
            upload.send(length * K);
            assert!(upload.read().await.is_none());
        }
        assert_eq!(upload.body.gathered.capacity(), room * K, "{free} {declared:?}");
        // Others find what is left; ten are little enough to be the connection's own.
        let left = free - if room == 110 { 100 } else { room };
        let fits = async |length: usize| {
            let mut other = Upload::new(&budget);
            other.send(length);
            other.read().await.is_none()
        };
        assert!(left < 64 || fits(left * K).await, "{free} {declared:?}");
        assert!(!fits(left.max(64) * K + 1).await, "{free} {declared:?}");
    }
}

#[tokio::test]
async fn what_is_given_up_is_given_back() {
    let budget = Budget::new(100 * 1024);
    for _ in 0..3 {
        let mut cut = Upload::new(&budget);
        cut.send(100 * 1024);
        assert!(cut.read().await.is_none());
        let mut large = Upload::new(&budget);
        large.send(2 << 20);
        assert!(large.read().await.unwrap().unwrap_err().contains("larger") && large.allowance.exceeded());
    }
}

#[tokio::test]
async fn a_body_that_falls_behind_ends() {
    let budget = Budget::new(0);
    let mut slow = Upload::new(&budget);
    slow.send(1);
    assert!(slow.read().await.is_none() && !slow.allowance.late());
    let Some(earlier) = slow.body.began.checked_sub(PATIENCE) else { return };
    (slow.body.began, slow.body.deadline) = (earlier, None);
    let late = slow.body.frame().await.unwrap().unwrap_err().to_string();
    assert!(late.contains("slowly") && slow.allowance.late());
}

#[tokio::test]
async fn pieces_are_handed_on_and_cost_what_is_held_of_them() {
    let budget = Budget::new(0);
    let mut upload = Upload::new(&budget);
    upload.allowance = Arc::new(Allowance::default());
    let route = crate::request::limit_in_pieces(1 << 30);
    let mut request = hyper::Request::new(axum::body::Body::empty());
    request.extensions_mut().insert(upload.allowance.clone());
    let inner = tower::service_fn(async |_| Ok::<_, std::convert::Infallible>(()));
    tower::Service::call(&mut tower::Layer::layer(&route, inner), request).await.unwrap();
    upload.body.allowance = upload.allowance.clone();
    for _ in 0..100 {
        upload.send(60 * 1024);
        assert_eq!(upload.read().await.unwrap().unwrap().len(), 60 * 1024);
    }
    upload.send(60 * 1024);
    let held = upload.read().await.unwrap().unwrap();
    upload.send(60 * 1024);
    assert!(upload.read().await.unwrap().unwrap_err().contains("too many"), "somebody holds one too long");
    drop(held);
    let mut short = Upload::new(&budget);
    short.pieces = None;
    assert!(short.body.frame().await.is_none());
}
