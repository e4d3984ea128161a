//! How far the requests of one connection have come, and who is to move next: the server or the client.
//!
//! `connection` makes a [`Busy`] for each request and puts its body and its reply's into a [`Watched`].
//! Bytes on the wire say nothing of this: over HTTP/2 a client that takes no reply still answers PINGs, and
//! it can ask for ever, and take back what it asked.
//!
//! **Invariant:** a request counts from its header to the last frame of its reply; it waits for its
//! client while its body is still to come, and when its reply is only still to be taken. What moves for one
//! request does nothing for another.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hyper::body::{Body as HttpBody, Frame, SizeHint};

/// What is known of the requests of one connection.
#[derive(Default)]
pub(super) struct Progress(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// How often somebody looked.
    looks: u32,
    /// How many requests began.
    began: u64,
    /// How many began until the last look.
    began_before: u64,
    /// Whether anything moved since the last look.
    moved: bool,
    /// Looks in a row at which nothing had moved.
    still: u32,
    under_way: BTreeMap<u64, Request>,
}

/// A request under way.
struct Request {
    /// For what of its client's it waits: its body, that its reply is taken, or both.
    waits: u32,
    /// How often somebody had looked when it last moved.
    moved: u32,
}

/// What was found at a look.
pub(super) struct Look {
    /// For how many looks nothing had moved, or at least nothing of the request that is worst off and waits
    /// for its client.
    pub(super) still: u32,
    /// Since the last look there was no request.
    pub(super) is_idle: bool,
}

impl Progress {
    /// Looks, which is to be done at regular times.
    pub(super) fn look(&self) -> Look {
        let mut known = self.known();
        known.looks = known.looks.saturating_add(1);
        known.still = if known.moved { 0 } else { known.still.saturating_add(1) };
        let is_idle = !known.moved && known.under_way.is_empty() && known.began == known.began_before;
        (known.moved, known.began_before) = (false, known.began);
        let waiting = known.under_way.values().filter(|request| request.waits > 0);
        // It may have moved just before that look, or long before.
        let worst = waiting.map(|request| known.looks.saturating_sub(request.moved).saturating_sub(1)).max();
        Look { still: known.still.max(worst.unwrap_or(0)), is_idle }
    }

    /// Whether it ever asked for anything.
    pub(super) fn has_asked(&self) -> bool {
        self.known().began > 0
    }

    /// Whether nobody here works for this connection: it has no request, or each waits for the client.
    pub(super) fn is_up_to_client(&self) -> bool {
        self.known().under_way.values().all(|request| request.waits > 0)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was taken of a request, on either side.
    fn step(&self, id: u64) {
        let mut known = self.known();
        let looks = known.looks;
        known.moved = true;
        if let Some(request) = known.under_way.get_mut(&id) {
            request.moved = looks;
        }
    }
}

/// A request that is being answered, until the last of the reply was taken.
pub(super) struct Busy {
    progress: Arc<Progress>,
    id: u64,
}

impl Busy {
    /// A request has begun. Nothing moved by that.
    pub(super) fn new(progress: &Arc<Progress>) -> Self {
        let mut known = progress.known();
        let (id, moved) = (known.began, known.looks);
        known.began += 1;
        known.under_way.insert(id, Request { waits: 0, moved });
        drop(known);
        Self { progress: progress.clone(), id }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.progress.known().under_way.remove(&self.id);
    }
}

/// A request that waits for its client, until it is dropped.
struct Waiting {
    progress: Arc<Progress>,
    id: u64,
}

impl Waiting {
    /// It waits from now on.
    fn new(busy: &Busy) -> Self {
        let mut known = busy.progress.known();
        let looks = known.looks;
        if let Some(request) = known.under_way.get_mut(&busy.id) {
            request.waits += 1;
            request.moved = looks;
        }
        drop(known);
        Self { progress: busy.progress.clone(), id: busy.id }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(request) = self.progress.known().under_way.get_mut(&self.id) {
            request.waits -= 1;
        }
    }
}

/// A body each frame of which is a step.
pub(super) struct Watched<B> {
    body: B,
    progress: Arc<Progress>,
    id: u64,
    /// Until the last frame has arrived.
    to_come: Option<Waiting>,
    /// Until the whole reply is let go of: its last frame may lie there for as long as the client likes.
    _to_take: Option<(Waiting, Busy)>,
}

impl<B: HttpBody> Watched<B> {
    /// A request's body.
    pub(super) fn arriving(body: B, busy: &Busy) -> Self {
        let to_come = (!body.is_end_stream()).then(|| Waiting::new(busy));
        Self { body, progress: busy.progress.clone(), id: busy.id, to_come, _to_take: None }
    }

    /// A reply's body, with which the request ends. One that is empty has nothing that could be left lying.
    pub(super) fn leaving(body: B, busy: Busy) -> Self {
        let (progress, id) = (busy.progress.clone(), busy.id);
        if body.is_end_stream() {
            progress.step(id);
        }
        Self { body, to_come: None, _to_take: Some((Waiting::new(&busy), busy)), progress, id }
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
            self.progress.step(self.id);
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
