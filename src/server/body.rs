//! A request's body on its way in.
//!
//! `layers` hands handlers an [`Arriving`] body. Most handlers take a body as a whole, so it is put
//! together here, where every byte that it takes up is counted; what the handler gets carries the
//! charge (`budget`) until the last of its bytes is let go of. A route that writes to the disk what may
//! be larger than memory gets the pieces as they come, each with its charge.
//!
//! **Invariant:** whatever the sender does, a body that is being read ends: by its length, by its
//! route's limit, by the listener's budget, or by falling behind [`PATIENCE`] and [`SLOWEST`].

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::BoxError;
use axum::body::Bytes;
use hyper::Version;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::request::Allowance;
use crate::server::budget::{Charge, Purse};

/// How long any body may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes a second that buy a longer one more time.
const SLOWEST: u64 = 32 * 1024;

/// How much of a body that is refused is read and thrown away over HTTP/2, where ending a stream that
/// the client still sends on makes most clients report an error instead of the 413.
const THROWN_AWAY: u64 = 16 * 1024 * 1024;

/// What a handler reads as the end of a body that is not let in.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("the body is larger than this route takes")]
    TooLarge,
    #[error("the body came too slowly")]
    TooSlow,
    #[error("too many large bodies are being read")]
    Crowded,
}

/// A body that is bounded in size and in time, and comes in one piece.
pub(super) struct Arriving<B> {
    incoming: B,
    allowance: Arc<Allowance>,
    charge: Charge,
    gathered: Vec<u8>,
    arrived: u64,
    refused: Option<Refused>,
    /// Bytes that may still be thrown away before the refusal.
    patience: u64,
    began: Instant,
    deadline: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl<B: HttpBody<Data = Bytes>> Arriving<B> {
    pub(super) fn new(incoming: B, allowance: Arc<Allowance>, version: Version, purse: &Arc<Purse>) -> Self {
        // Over HTTP/1 the connection reads on after its last reply (`linger`).
        let patience = if version == Version::HTTP_2 { THROWN_AWAY } else { 0 };
        Self {
            incoming,
            allowance,
            charge: Charge::new(purse),
            gathered: Vec::new(),
            arrived: 0,
            refused: None,
            patience,
            began: Instant::now(),
            deadline: None,
            ended: false,
        }
    }

    /// Takes a piece in; answers what the handler gets for it: the body when that was the last of it, or
    /// the piece where it reads pieces.
    fn take_in(&mut self, piece: Bytes) -> Option<Bytes> {
        let length = piece.len() as u64;
        self.arrived += length;
        // Most bodies are one piece, which is not copied.
        let in_pieces = self.allowance.in_pieces();
        let is_only = !in_pieces && self.gathered.is_empty() && self.incoming.is_end_stream();
        if self.allowance.refuses(self.arrived) {
            self.refuse(Refused::TooLarge);
        } else if self.refused.is_none()
            && !(if is_only || in_pieces { self.charge.hold(length) } else { self.make_room(piece.len()) })
        {
            self.allowance.set_crowded();
            self.refuse(Refused::Crowded);
        }
        if self.refused.is_some() {
            self.patience = self.patience.saturating_sub(length);
            return None;
        }
        if in_pieces {
            return Some(self.charged(piece));
        }
        if is_only {
            return Some(self.whole(piece));
        }
        self.gathered.extend_from_slice(&piece);
        None
    }

    /// Makes room for a piece that has arrived; what is paid for is the room and not what lies in it.
    fn make_room(&mut self, length: usize) -> bool {
        let (held, needed) = (self.gathered.capacity(), self.gathered.len() + length);
        if needed <= held {
            return true;
        }
        // Twice the room each time, so that a body of many pieces is not copied for each of them. A
        // declared length bounds it but is not taken at its word: to declare costs a stranger nothing.
        let declared = self.incoming.size_hint().upper().map(|left| self.arrived + left);
        let declared = declared.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX);
        for room in [held.saturating_mul(2).min(declared).max(needed), needed] {
            if self.charge.hold((room - held) as u64) {
                self.gathered.reserve_exact(room - self.gathered.len());
                return true;
            }
        }
        false
    }

    fn refuse(&mut self, refused: Refused) {
        self.refused.get_or_insert(refused);
        self.gathered = Vec::new();
        drop(self.charge.hand_over());
    }

    fn whole(&mut self, bytes: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        self.ended = true;
        self.charged(bytes)
    }

    fn charged(&mut self, bytes: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        Bytes::from_owner(Held { bytes, _charge: self.charge.hand_over() })
    }

    fn end(&mut self, refused: Refused) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.refuse(refused);
        self.ended = true;
        Poll::Ready(Some(Err(refused.into())))
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let due = self.began + PATIENCE + Duration::from_secs(self.arrived / SLOWEST);
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        while deadline.as_mut().poll(cx).is_ready() {
            if deadline.deadline() >= due {
                self.allowance.set_late();
                return self.end(Refused::TooSlow);
            }
            deadline.as_mut().reset(due);
        }
        Poll::Pending
    }
}

impl<B> HttpBody for Arriving<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        // What is still to come, as far as it was declared: refused before it is read.
        if this.allowance.refuses(this.arrived + this.incoming.size_hint().lower()) {
            this.refuse(Refused::TooLarge);
        }
        loop {
            if let (Some(refused), 0) = (this.refused, this.patience) {
                return this.end(refused);
            }
            match Pin::new(&mut this.incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    // Nobody reads trailers.
                    if let Some(bytes) = frame.into_data().ok().and_then(|piece| this.take_in(piece)) {
                        return Poll::Ready(Some(Ok(Frame::data(bytes))));
                    }
                }
                Poll::Ready(None) if this.refused.is_some() => this.patience = 0,
                Poll::Ready(None) => {
                    let gathered = std::mem::take(&mut this.gathered);
                    let whole = this.whole(gathered);
                    return Poll::Ready((!whole.is_empty()).then(|| Ok(Frame::data(whole))));
                }
                Poll::Ready(Some(Err(broken))) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(broken.into())));
                }
                Poll::Pending => return this.wait(cx),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        if self.ended { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}

/// A body in a handler's hands, with the charge for it.
struct Held<T> {
    bytes: T,
    _charge: Charge,
}

impl<T: AsRef<[u8]>> AsRef<[u8]> for Held<T> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

#[cfg(test)]
mod tests;
