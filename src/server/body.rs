//! A request's body on its way in, and a reply's on its way out.
//!
//! `layers` hands handlers an [`Arriving`] body; `connection` sends a [`Leaving`] one.
//!
//! **Invariant:** whatever the sender does, a body that is being read ends: by its length, by its
//! route's limit, or by falling behind [`PATIENCE`] and [`SLOWEST`].

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, Bytes};
use hyper::Version;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::request::Allowance;

/// How long any body may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes a second that buy a longer one more time.
const SLOWEST: u64 = 32 * 1024;

/// How much of a body that is too large is read and thrown away over HTTP/2, where ending a stream
/// that the client still sends on makes most clients report an error instead of the 413.
const THROWN_AWAY: u64 = 16 * 1024 * 1024;

/// What a handler reads as the end of a body that is not let in.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("the body is larger than this route takes")]
    TooLarge,
    #[error("the body came too slowly")]
    TooSlow,
}

/// A body that is bounded in size and in time.
pub(super) struct Arriving {
    incoming: Incoming,
    allowance: Arc<Allowance>,
    arrived: u64,
    /// Bytes that may still be thrown away before the refusal.
    patience: u64,
    began: Instant,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Arriving {
    pub(super) fn new(incoming: Incoming, allowance: Arc<Allowance>, version: Version) -> Self {
        // Over HTTP/1 the connection reads on after its last reply (`linger`).
        let patience = if version == Version::HTTP_2 { THROWN_AWAY } else { 0 };
        Self { incoming, allowance, arrived: 0, patience, began: Instant::now(), deadline: None }
    }

    fn due(&self) -> Instant {
        self.began + PATIENCE + Duration::from_secs(self.arrived / SLOWEST)
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        // What is still to come, as far as it was declared: refused before it is read.
        let mut refused = this.allowance.refuses(this.arrived + this.incoming.size_hint().lower());
        let frame = loop {
            if refused && this.patience == 0 {
                return Poll::Ready(Some(Err(Refused::TooLarge.into())));
            }
            match Pin::new(&mut this.incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                    this.arrived += length;
                    refused = refused || this.allowance.refuses(this.arrived);
                    if !refused {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    this.patience = this.patience.saturating_sub(length);
                }
                Poll::Ready(None) if refused => this.patience = 0,
                other => break other,
            }
        };
        match frame {
            Poll::Ready(ended) => Poll::Ready(ended.map(|frame| frame.map_err(Into::into))),
            Poll::Pending => {
                let due = this.due();
                let deadline = this.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
                while deadline.as_mut().poll(cx).is_ready() {
                    if deadline.deadline() >= due {
                        this.allowance.set_late();
                        return Poll::Ready(Some(Err(Refused::TooSlow.into())));
                    }
                    deadline.as_mut().reset(due);
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// A request that is being answered, until the last byte of the reply was taken.
pub(super) struct Busy(Arc<AtomicUsize>);

impl Busy {
    /// Counts one more in `counter` until it is dropped.
    pub(super) fn new(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A reply's body, which keeps its connection busy.
pub(super) struct Leaving {
    body: Body,
    _busy: Busy,
}

impl Leaving {
    pub(super) fn new(body: Body, busy: Busy) -> Self {
        Self { body, _busy: busy }
    }
}

impl HttpBody for Leaving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
