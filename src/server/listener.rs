//! The addresses that the server listens on, and what is said when it cannot.
//!
//! `server` binds all listeners before anything else starts, so that a port in use is told at once;
//! `network` accepts from them. Port 0 takes any free port, which [`Listener::addresses`] tells.
//!
//! **Invariant:** a wildcard of IPv6 takes IPv4 as well, whatever the machine's default is.

use std::io::{Error as IoError, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::error::{Error, Result};

/// How many connections the kernel keeps while none is accepted.
const BACKLOG: i32 = 1024;

/// TCP listeners that belong together.
#[derive(Debug)]
pub struct Listener {
    pub(super) sockets: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
}

impl Listener {
    /// Listens on all `addresses`; `setting` is the configuration's name for them (`[server] listen`).
    ///
    /// # Errors
    /// A sentence for the first address that cannot be had: in use, not permitted, not ours.
    pub fn bind(addresses: &[SocketAddr], setting: &str) -> Result<Self> {
        let mut sockets = Vec::new();
        for address in addresses {
            // Both wildcards of one port are asked for by name: then neither takes the other's.
            let both =
                addresses.contains(&SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()));
            let socket = match open(*address, both) {
                // A machine without IPv6 still has its IPv4.
                Err(refused) if has_no_ipv6(&refused) && address.ip().is_unspecified() && !both => {
                    open(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()), false)
                }
                opened => opened,
            };
            sockets.push(socket.map_err(|refused| unbound(*address, setting, refused))?);
        }
        let addresses = sockets
            .iter()
            .map(TcpListener::local_addr)
            .collect::<Result<_, _>>()
            .map_err(|source| Error::caused("the system does not say what it listens on", source))?;
        Ok(Self { sockets, addresses })
    }

    /// What is really listened on, in the order that was asked for.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

fn open(address: SocketAddr, only_ipv6: bool) -> Result<TcpListener, IoError> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(only_ipv6)?;
    }
    // A restart takes the port over while old connections of it are still remembered.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn has_no_ipv6(refused: &IoError) -> bool {
    /// EAFNOSUPPORT: the kernel was started without IPv6.
    const NOT_SUPPORTED: i32 = 97;
    refused.kind() == ErrorKind::AddrNotAvailable || refused.raw_os_error() == Some(NOT_SUPPORTED)
}

fn unbound(address: SocketAddr, setting: &str, refused: IoError) -> Error {
    let words = match refused.kind() {
        ErrorKind::AddrInUse => format!(
            "{address} is in use by another program (or another russet); stop that, or choose another port in {setting}"
        ),
        ErrorKind::PermissionDenied => format!(
            "{address} may not be listened on by this user: ports below 1024 need the capability \
             CAP_NET_BIND_SERVICE, which the systemd unit gives; or choose a higher port in {setting}"
        ),
        ErrorKind::AddrNotAvailable => {
            format!(
                "{address} is not an address of this machine; correct {setting}, or use [::] for all of them"
            )
        }
        _ => format!("{address} cannot be listened on; see {setting}"),
    };
    Error::caused(words, refused)
}

/// The socket by which the command line reaches the running server.
#[derive(Debug)]
pub struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens on `path`, which only the server's user may open. What an earlier server left there
    /// goes: the caller holds the data folder's lock, so nobody answers on it.
    ///
    /// # Errors
    /// The path is too long for a socket (107 bytes), or the folder is not writable.
    pub fn bind(path: &Path) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let failed = |source: IoError| {
            Error::caused(
                format!(
                    "the socket {} cannot be made; the data folder has to be writable and its path short \
                     (the socket's at most 107 bytes)",
                    path.display()
                ),
                source,
            )
        };
        // Made under another name, so that nobody finds it before its permissions are set.
        let new = path.with_extension("new");
        remove(&new).map_err(failed)?;
        let listener = UnixListener::bind(&new).map_err(failed)?;
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        std::fs::rename(&new, path).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned() })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // What stays is removed by the next start.
        let _ = remove(&self.path);
    }
}

fn remove(path: &Path) -> Result<(), IoError> {
    match std::fs::remove_file(path) {
        Err(refused) if refused.kind() != ErrorKind::NotFound => Err(refused),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_said_in_a_sentence() {
        let first = Listener::bind(&["127.0.0.1:0".parse().unwrap()], "[server] listen").unwrap();
        let refused = Listener::bind(first.addresses(), "[server] listen").unwrap_err().to_string();
        assert!(refused.contains("in use") && refused.contains("[server] listen"), "{refused}");
        let refused =
            Listener::bind(&["192.0.2.1:0".parse().unwrap()], "[server] listen").unwrap_err().to_string();
        assert!(refused.contains("not an address of this machine"), "{refused}");
    }

    #[tokio::test]
    async fn the_wildcard_takes_both_families() {
        let listener = Listener::bind(&["[::]:0".parse().unwrap()], "[server] listen").unwrap();
        let port = listener.addresses()[0].port();
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    }

    #[tokio::test]
    async fn the_socket_is_private_and_replaces_a_stale_one() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("russet.sock");
        std::fs::write(&path, "stale").unwrap();
        let socket = Socket::bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        tokio::net::UnixStream::connect(&path).await.unwrap();
        drop(socket);
        assert!(!path.exists());
    }
}
