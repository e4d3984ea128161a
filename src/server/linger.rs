//! The TCP stream of a connection, which closes so that the last words arrive.
//!
//! `connection` wraps every accepted stream in it. Where a reply is sent before the request was read
//! to its end (413), closing at once makes the kernel send RST, and the client loses the reply. So
//! the end is said first, and what still comes is thrown away for a moment (RFC 9112 section 9.6).
//!
//! **Invariant:** closing ends within [`LINGER`] and [`THROWN_AWAY`], whatever the peer does, and a
//! peer that sends without a pause keeps no thread from its other work.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// How long a closed connection is still read.
const LINGER: Duration = Duration::from_secs(5);
/// How much of what still comes is read: a whole body of any route that holds bodies in memory.
const THROWN_AWAY: usize = 16 * 1024 * 1024;
/// How many reads may follow each other before others have their turn.
const IN_A_ROW: u32 = 32;

/// A stream that lingers.
pub(super) struct Linger<S> {
    stream: S,
    closing: Option<Closing>,
}

/// What is left of the moment for which a closed connection is still read.
struct Closing {
    end: Pin<Box<Sleep>>,
    bytes: usize,
}

impl<S> Linger<S> {
    /// A stream that was just accepted.
    pub(super) fn new(stream: S) -> Self {
        Self { stream, closing: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Linger<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Linger<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = &mut *self;
        if this.closing.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        let closing = this
            .closing
            .get_or_insert_with(|| Closing { end: Box::pin(tokio::time::sleep(LINGER)), bytes: THROWN_AWAY });
        // The end comes first: reads use up the turn that tokio gives a task, and a timer that is
        // asked after that never says that it is due.
        if closing.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        for _ in 0..IN_A_ROW {
            let mut thrown_away = [0; 4096];
            let mut buffer = ReadBuf::new(&mut thrown_away);
            match ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if (1..closing.bytes).contains(&buffer.filled().len()) => {
                    closing.bytes -= buffer.filled().len();
                }
                _ => return Poll::Ready(Ok(())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::AsyncWriteExt;

    /// A peer that sends without a pause and never ends.
    struct Flood {
        at_once: usize,
    }

    impl AsyncRead for Flood {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<Result<()>> {
            let length = self.at_once.min(buffer.remaining());
            buffer.put_slice(&[0; 4096][..length]);
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Flood {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_flood_is_read_in_turns_and_closed_in_time() {
        let mut stream = Linger::new(Flood { at_once: 1 });
        let mut turns = 0;
        let mut turn = async |life: Option<Duration>| {
            if let Some(life) = life {
                stream.closing.as_mut().unwrap().end = Box::pin(tokio::time::sleep(life));
            }
            poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll_shutdown(cx))).await
        };
        assert!(turn(None).await.is_pending(), "others have their turn");
        assert!(turn(Some(Duration::from_millis(50))).await.is_pending());
        while turn(None).await.is_pending() {
            turns += 1;
            tokio::task::yield_now().await;
        }
        assert!(turns > 0);
    }

    #[tokio::test]
    async fn a_flood_is_closed_after_so_many_bytes() {
        let began = tokio::time::Instant::now();
        let mut stream = Linger::new(Flood { at_once: 4096 });
        stream.shutdown().await.unwrap();
        let left = stream.closing.unwrap().bytes;
        assert!(left <= 4096 || began.elapsed() >= LINGER, "{left}");
    }

    #[tokio::test]
    async fn a_peer_that_has_ended_is_closed_at_once() {
        let (near, far) = tokio::io::duplex(64);
        drop(far);
        let began = tokio::time::Instant::now();
        Linger::new(near).shutdown().await.unwrap();
        assert!(began.elapsed() < LINGER);
    }
}
