//! How far the requests of one connection have come, and who is to move next: the server or the client.
//!
//! `connection` makes a [`Busy`] for each request and puts its body and its reply's into a [`Watched`].
//! Bytes on the wire say nothing of this: over HTTP/2 a client that takes no reply still answers PINGs.
//!
//! **Invariant:** a request counts from its header to the last frame of its reply; it waits for its
//! client while its body is still to come, and when its reply is only still to be taken.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use hyper::body::{Body as HttpBody, Frame, SizeHint};

/// What is known of the requests of one connection.
#[derive(Default)]
pub(super) struct Progress {
    under_way: AtomicUsize,
    /// Those of them that do not wait for their client.
    working: AtomicUsize,
    steps: AtomicU64,
}

impl Progress {
    /// Requests that began, and frames of bodies that were taken, on either side.
    pub(super) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Whether any request is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) > 0
    }

    /// Whether nobody here works for this connection: it has no request, or each waits for the client.
    pub(super) fn is_up_to_client(&self) -> bool {
        self.working.load(Ordering::Relaxed) == 0
    }

    fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }
}

/// A request that is being answered, until the last of the reply was taken.
///
/// Whoever holds one and a [`Waiting`] of the same request lets go of the latter first.
pub(super) struct Busy(Arc<Progress>);

impl Busy {
    /// A request has begun.
    pub(super) fn new(progress: &Arc<Progress>) -> Self {
        progress.step();
        progress.under_way.fetch_add(1, Ordering::Relaxed);
        progress.working.fetch_add(1, Ordering::Relaxed);
        Self(progress.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.working.fetch_sub(1, Ordering::Relaxed);
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request that waits for its client, until it is dropped.
struct Waiting(Arc<Progress>);

impl Waiting {
    fn new(progress: &Arc<Progress>) -> Self {
        progress.working.fetch_sub(1, Ordering::Relaxed);
        Self(progress.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.working.fetch_add(1, Ordering::Relaxed);
    }
}

/// A body each frame of which is a step.
pub(super) struct Watched<B> {
    body: B,
    progress: Arc<Progress>,
    /// Until the last frame has arrived.
    to_come: Option<Waiting>,
    /// Until the whole reply is let go of: its last frame may lie there for as long as the client likes.
    _to_take: Option<(Waiting, Busy)>,
}

impl<B: HttpBody> Watched<B> {
    /// A request's body.
    pub(super) fn arriving(body: B, busy: &Busy) -> Self {
        let to_come = (!body.is_end_stream()).then(|| Waiting::new(&busy.0));
        Self { body, progress: busy.0.clone(), to_come, _to_take: None }
    }

    /// A reply's body, with which the request ends.
    pub(super) fn leaving(body: B, busy: Busy) -> Self {
        let progress = busy.0.clone();
        Self { body, to_come: None, _to_take: Some((Waiting::new(&progress), busy)), progress }
    }
}

impl<B: HttpBody + Unpin> HttpBody for Watched<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let next = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(next, Poll::Ready(Some(Ok(_)))) {
            self.progress.step();
        }
        if matches!(next, Poll::Ready(None | Some(Err(_)))) || self.body.is_end_stream() {
            self.to_come = None;
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
