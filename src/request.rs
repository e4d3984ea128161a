//! What the network knows about a request before anybody reads it.
//!
//! `server` puts a [`Peer`] and a [`RequestId`] into the extensions of every request, and bounds
//! its body to [`DEFAULT_LIMIT`] bytes unless the route says otherwise with [`limit`]. `mdm` and
//! `admin` read them; they stand above neither. Where it matters from whom a request comes in the end,
//! [`forwarded`] puts the client that a trusted proxy names in the place of the proxy.
//!
//! **Invariant:** a body is refused by its declared length before any of it is read, and by what
//! arrives where no length is declared.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use hyper::{HeaderMap, Request};
use ipnet::IpNet;
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

/// A layer for routes that count what an address does: behind a proxy of `trusted` the [`Peer`] becomes
/// the client that the proxy names. Device routes go without it, since the proxy's own address is what
/// makes its other headers credible.
pub fn forwarded(trusted: &[IpNet]) -> Forwarded {
    Forwarded(trusted.into())
}

/// See [`forwarded`].
#[derive(Clone, Debug)]
pub struct Forwarded(Arc<[IpNet]>);

impl Forwarded {
    fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The last address of `X-Forwarded-For` that is no trusted proxy's. Each proxy adds who spoke to
    /// it at the end, so what stands before that was written by a stranger.
    fn client(&self, proxy: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = proxy;
        for value in headers.get_all("x-forwarded-for").iter().rev() {
            for hop in value.to_str().unwrap_or_default().rsplit(',') {
                if !self.trusts(client) {
                    return client;
                }
                let Some(address) = hop_address(hop.trim()) else { return client };
                client = address;
            }
        }
        client
    }
}

/// An address as proxies write it, some with a port.
fn hop_address(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|at| at.ip())).ok()?;
    Some(IpAddr::to_canonical(&address))
}

impl<S> Layer<S> for Forwarded {
    type Service = BehindProxy<S>;

    fn layer(&self, inner: S) -> BehindProxy<S> {
        BehindProxy { inner, forwarded: self.clone() }
    }
}

/// A route that sees clients and no proxies.
#[derive(Clone, Debug)]
pub struct BehindProxy<S> {
    inner: S,
    forwarded: Forwarded,
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for BehindProxy<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> S::Future {
        if let Some(Peer::Network { address, .. }) = request.extensions().get::<Peer>()
            && self.forwarded.trusts(address.ip())
        {
            let client = self.forwarded.client(address.ip(), request.headers());
            if let Some(Peer::Network { address, .. }) = request.extensions_mut().get_mut::<Peer>() {
                address.set_ip(client);
            }
        }
        self.inner.call(request)
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
    in_pieces: AtomicBool,
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            limit: AtomicU64::new(DEFAULT_LIMIT),
            exceeded: AtomicBool::new(false),
            crowded: AtomicBool::new(false),
            late: AtomicBool::new(false),
            in_pieces: AtomicBool::new(false),
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

    /// Whether the handler reads the body piece by piece, and never holds it as a whole.
    pub fn in_pieces(&self) -> bool {
        self.in_pieces.load(Ordering::Relaxed)
    }
}

/// A layer for routes whose bodies may be larger or have to be smaller than [`DEFAULT_LIMIT`]; a
/// larger body is answered 413, whatever the handler makes of the error that it reads.
pub fn limit(bytes: u64) -> Limit {
    Limit { bytes, in_pieces: false }
}

/// As [`limit`], for routes that write the body to the disk while it comes: it may be larger than memory.
pub fn limit_in_pieces(bytes: u64) -> Limit {
    Limit { bytes, in_pieces: true }
}

/// See [`limit`].
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    bytes: u64,
    in_pieces: bool,
}

impl<S> Layer<S> for Limit {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited { inner, limit: *self }
    }
}

/// A route with a limit of its own.
#[derive(Clone, Debug)]
pub struct Limited<S> {
    inner: S,
    limit: Limit,
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
            allowance.limit.store(self.limit.bytes, Ordering::Relaxed);
            allowance.in_pieces.store(self.limit.in_pieces, Ordering::Relaxed);
        }
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_the_last_hop_that_no_trusted_proxy_is() {
        let forwarded = forwarded(&["10.0.0.0/8".parse().unwrap(), "fd00::1/128".parse().unwrap()]);
        for (hops, client) in [
            (&[][..], "10.0.0.2"),
            (&["192.0.2.9"], "192.0.2.9"),
            (&["198.51.100.1, 192.0.2.9"], "192.0.2.9"),
            (&["198.51.100.1, 192.0.2.9, 10.0.0.3"], "192.0.2.9"),
            (&["198.51.100.1", "192.0.2.9", "10.0.0.3"], "192.0.2.9"),
            (&["10.0.0.3"], "10.0.0.3"),
            (&["[2001:db8::9]:4711"], "2001:db8::9"),
            (&["192.0.2.9:4711"], "192.0.2.9"),
            (&["::ffff:192.0.2.9, fd00::1"], "192.0.2.9"),
            (&["198.51.100.1, nonsense"], "10.0.0.2"),
            (&["198.51.100.1, "], "10.0.0.2"),
        ] {
            let mut headers = HeaderMap::new();
            for hop in hops {
                headers.append("x-forwarded-for", hop.parse().unwrap());
            }
            let found = forwarded.client("10.0.0.2".parse().unwrap(), &headers);
            assert_eq!(found, client.parse::<IpAddr>().unwrap(), "{hops:?}");
        }
    }

    #[test]
    fn request_ids_are_twelve_digits_and_differ() {
        let (one, two) = (RequestId::next(), RequestId::next());
        assert_ne!(one, two);
        assert!(one.as_str().len() == 12 && one.as_str().bytes().all(|digit| digit.is_ascii_hexdigit()));
    }
}
