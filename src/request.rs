//! What the network knows about a request before anybody reads it.
//!
//! `server` puts a [`Peer`] and a [`RequestId`] into the extensions of every request, and bounds
//! its body to [`DEFAULT_LIMIT`] bytes unless the route says otherwise with [`limit`]. `mdm` and
//! `admin` read them; they stand above neither.
//!
//! **Invariant:** a body is refused by its declared length before any of it is read, and by what
//! arrives where no length is declared.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use hyper::Request;
use tower::{Layer, Service};

use crate::id;

/// How large a body may be where the route says nothing: 1 MiB.
pub const DEFAULT_LIMIT: u64 = 1024 * 1024;

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub enum Peer {
    /// Somebody on the network.
    Network {
        /// Where from; IPv4 as IPv4, whatever the listener.
        address: SocketAddr,
        /// X.509, DER, as presented in the TLS handshake. Possession of its key is proven and
        /// nothing else: neither issuer nor dates were looked at.
        client_certificate: Option<Arc<[u8]>>,
    },
    /// The command line on this machine, through the socket that only the server's user may open.
    Socket,
}

impl Peer {
    /// The address, unless it is the socket.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Network { address, .. } => Some(address.ip()),
            Self::Socket => None,
        }
    }

    /// The certificate that was presented, DER.
    pub fn client_certificate(&self) -> Option<&Arc<[u8]>> {
        match self {
            Self::Network { client_certificate, .. } => client_certificate.as_ref(),
            Self::Socket => None,
        }
    }
}

/// Names a request in the log and in the `x-request-id` of its reply: twelve hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId([u8; 12]);

impl RequestId {
    /// The next name; unique in this run of the server.
    pub fn next() -> Self {
        static COUNT: LazyLock<AtomicU64> =
            LazyLock::new(|| AtomicU64::new(u64::from_be_bytes(id::random())));
        // An odd factor makes names that follow each other look different, and repeats none of them
        // within 2^48.
        let mut number = COUNT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut digits = [b'0'; 12];
        for digit in &mut digits {
            *digit = b"0123456789abcdef"[usize::from((number & 15) as u8)];
            number >>= 4;
        }
        Self(digits)
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// What one body may still do; shared by the body and the connection that reads it.
#[derive(Debug)]
pub struct Allowance {
    limit: AtomicU64,
    exceeded: AtomicBool,
    crowded: AtomicBool,
    late: AtomicBool,
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            limit: AtomicU64::new(DEFAULT_LIMIT),
            exceeded: AtomicBool::new(false),
            crowded: AtomicBool::new(false),
            late: AtomicBool::new(false),
        }
    }
}

impl Allowance {
    /// Whether `bytes` are more than the route takes; once they were, [`Allowance::exceeded`] says so.
    pub fn refuses(&self, bytes: u64) -> bool {
        let refused = bytes > self.limit.load(Ordering::Relaxed);
        if refused {
            self.exceeded.store(true, Ordering::Relaxed);
        }
        refused
    }

    /// Whether the body was larger than allowed.
    pub fn exceeded(&self) -> bool {
        self.exceeded.load(Ordering::Relaxed)
    }

    /// There was no memory left for the body.
    pub fn set_crowded(&self) {
        self.crowded.store(true, Ordering::Relaxed);
    }

    /// Whether there was no memory left for the body.
    pub fn crowded(&self) -> bool {
        self.crowded.load(Ordering::Relaxed)
    }

    /// The body came too slowly.
    pub fn set_late(&self) {
        self.late.store(true, Ordering::Relaxed);
    }

    /// Whether the body came too slowly.
    pub fn late(&self) -> bool {
        self.late.load(Ordering::Relaxed)
    }
}

/// A layer for routes whose bodies may be larger or have to be smaller than [`DEFAULT_LIMIT`]; a
/// larger body is answered 413, whatever the handler makes of the error that it reads.
pub fn limit(bytes: u64) -> Limit {
    Limit(bytes)
}

/// See [`limit`].
#[derive(Clone, Copy, Debug)]
pub struct Limit(u64);

impl<S> Layer<S> for Limit {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited { inner, bytes: self.0 }
    }
}

/// A route with a limit of its own.
#[derive(Clone, Debug)]
pub struct Limited<S> {
    inner: S,
    bytes: u64,
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for Limited<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        // Requests without a body carry no allowance.
        if let Some(allowance) = request.extensions().get::<Arc<Allowance>>() {
            allowance.limit.store(self.bytes, Ordering::Relaxed);
        }
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_twelve_digits_and_differ() {
        let (one, two) = (RequestId::next(), RequestId::next());
        assert_ne!(one, two);
        assert!(one.as_str().len() == 12 && one.as_str().bytes().all(|digit| digit.is_ascii_hexdigit()));
    }
}
