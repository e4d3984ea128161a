//! The TLS connection beneath HTTP/2, remembering what was heard on it.
//!
//! In TLS 1.3 the client finishes its handshake before the server has looked at the client
//! certificate (RFC 8446 section 4.4.2.4 leaves the refusal to a later alert), so a refused push
//! certificate arrives as an alert in the middle of HTTP/2, where the layers above turn it into
//! "connection closed". `client.rs` asks here what it really was.
//!
//! **Invariant:** bytes pass unchanged; only the first error and the fact of having read are noted.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use rustls::AlertDescription;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// What was heard on a connection so far.
#[derive(Debug, Default)]
pub(super) struct Heard {
    alert: OnceLock<AlertDescription>,
    anything: AtomicBool,
}

impl Heard {
    /// The alert with which the other side ended the connection.
    pub(super) fn alert(&self) -> Option<AlertDescription> {
        self.alert.get().copied()
    }

    /// Whether a single byte of HTTP/2 came. The server's first frame is sent once it has accepted
    /// the handshake, client certificate included.
    pub(super) fn anything(&self) -> bool {
        self.anything.load(Ordering::Relaxed)
    }
}

/// The connection itself.
pub(super) struct Wire {
    stream: TlsStream<TcpStream>,
    heard: Arc<Heard>,
}

impl Wire {
    pub(super) fn new(stream: TlsStream<TcpStream>) -> (Self, Arc<Heard>) {
        let heard = Arc::new(Heard::default());
        (Self { stream, heard: Arc::clone(&heard) }, heard)
    }
}

/// The alert inside an error of a TLS stream.
pub(super) fn alert(error: &io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        match &read {
            Ok(()) if buffer.filled().len() > before => self.heard.anything.store(true, Ordering::Relaxed),
            Ok(()) => {}
            Err(error) => {
                // Only the first alert counts; a second read after it repeats it.
                if let Some(alert) = alert(error) {
                    let _ = self.heard.alert.set(alert);
                }
            }
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }
}
