//! Ports of the loopback interface that belong to a test until it ends.
//!
//! A port that was only asked for and let go of can be handed to a test beside this one. So it is
//! kept by a socket that is bound and never listens: a server that reuses addresses, as ours does,
//! listens on it, ends and listens again, and in between whoever connects is refused.
//!
//! **Invariant:** while a [`Port`] lives, the system hands its number to nobody.

use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

/// A port of 127.0.0.1.
pub struct Port {
    address: SocketAddr,
    _kept: Socket,
}

impl Port {
    pub fn reserve() -> Self {
        let kept = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        kept.set_reuse_address(true).unwrap();
        kept.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        Self { address: kept.local_addr().unwrap().as_socket().unwrap(), _kept: kept }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn number(&self) -> u16 {
        self.address.port()
    }
}
