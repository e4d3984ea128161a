//! How many files this process may have open, sockets included.
//!
//! A shell and a service manager give a program 1024 unless told otherwise, for programs that still
//! use `select`; the hard limit beside it is what may really be used. `server` raises the one to the
//! other before it listens, and makes the listeners' rooms no larger than what came of it.
//!
//! **Invariant:** connections alone never use up the files that the database needs.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::server::network::ROOM;

/// Enough for all listeners; some systems refuse a limit that is not a number of files they can have.
const WANTED: u64 = 64 * 1024;
/// The database, its readers, the connections to Apple, and the socket of the command line.
const KEPT_BACK: u64 = 512;

/// Connections for each of that many listeners.
pub(super) fn room(listeners: usize) -> usize {
    let files = raise();
    let room = share(files, listeners);
    if room < ROOM {
        tracing::warn!(
            "only {files} files may be open, so each listener takes {room} connections instead of {ROOM}; \
             raise LimitNOFILE in the systemd unit, or `ulimit -Hn`"
        );
    }
    room
}

/// Raises the limit as far as it may be; answers what it is.
fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let now = limit.current.unwrap_or(u64::MAX);
    let wanted = limit.maximum.unwrap_or(u64::MAX).min(WANTED);
    if now >= wanted {
        return now;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }) {
        Ok(()) => wanted,
        Err(refused) => {
            tracing::warn!("the number of files that may be open stays at {now}: {refused}");
            now
        }
    }
}

fn share(files: u64, listeners: usize) -> usize {
    let sockets = files - (files / 2).min(KEPT_BACK);
    usize::try_from(sockets).unwrap_or(usize::MAX).checked_div(listeners).unwrap_or(ROOM).clamp(16, ROOM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_share_what_the_database_leaves() {
        assert_eq!(share(1024, 1), 512);
        assert_eq!(share(1024, 2), 256);
        assert_eq!(share(256, 1), 128);
        assert_eq!(share(10, 3), 16);
        assert_eq!(share(u64::MAX, 3), ROOM);
        assert_eq!(share(WANTED, 3), ROOM);
        assert_eq!(share(1024, 0), ROOM);
    }

    #[test]
    fn the_limit_is_raised_to_what_may_be_had() {
        let raised = raise();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current.unwrap_or(u64::MAX), raised);
        assert!(raised >= limit.maximum.unwrap_or(u64::MAX).min(WANTED));
    }
}
