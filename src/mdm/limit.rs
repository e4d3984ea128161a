//! How often one device may make us write.
//!
//! A healthy device sends a handful of Authenticate and TokenUpdate messages in its life. One that
//! sends hundreds a minute is broken or hostile; it is asked to wait, and nobody else notices it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::{MINUTE, Seconds};
use crate::id;
use crate::pki::identity::Fingerprint;

/// Check-ins that one identity may have written in a minute.
const A_MINUTE: u32 = 100;
/// Requests of one identity that may wait for the disk at once. A device has one, or two while it is
/// being renewed, and one for each user who is logged in.
const AT_ONCE: u32 = 8;
/// How many sayings are remembered.
const REMEMBERED: usize = 4096;

/// What was spent, in memory: after a restart everyone begins anew.
#[derive(Default)]
pub(super) struct Limits {
    /// The minute, and what was spent of it.
    spent: Mutex<(Seconds, HashMap<Fingerprint, u32>)>,
    waiting: Arc<Mutex<HashMap<Fingerprint, u32>>>,
    told: Mutex<HashMap<String, Seconds>>,
}

impl Limits {
    /// Whether this identity has something left of this minute.
    pub(super) fn spend(&self, identity: &Fingerprint, now: Seconds) -> bool {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        if spent.0 != now / MINUTE {
            *spent = (now / MINUTE, HashMap::new());
        }
        let count = spent.1.entry(*identity).or_default();
        *count += 1;
        *count <= A_MINUTE
    }

    /// A place among the requests that wait for the disk, until it is dropped; none when this identity
    /// has too many there.
    pub(super) fn wait(&self, identity: &Fingerprint) -> Option<Waiting> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.entry(*identity).or_default();
        if *count >= AT_ONCE {
            return None;
        }
        *count += 1;
        Some(Waiting { identity: *identity, all: self.waiting.clone() })
    }

    /// As [`Limits::wait`], for replies of which a device takes as long as it likes: they have a count of
    /// their own, so that a download keeps no check-in out.
    pub(super) fn wait_for_reply(&self, device: &str) -> Option<Waiting> {
        self.wait(&id::sha256(format!("reply {device}").as_bytes()))
    }

    /// As [`Limits::spend`], for what is counted apart from check-ins.
    pub(super) fn spend_on(&self, what: &str, device: &str, now: Seconds) -> bool {
        self.spend(&id::sha256(format!("{what} {device}").as_bytes()), now)
    }

    /// Whether this was not said within the last `pause` seconds.
    pub(super) fn once(&self, what: &str, now: Seconds, pause: Seconds) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match told.get(what) {
            // Said later than now: the clock was wrong then.
            Some(at) if (*at..*at + pause).contains(&now) => false,
            _ => {
                // Saying something twice is better than looking through thousands each time.
                if told.len() >= REMEMBERED {
                    told.clear();
                }
                told.insert(what.to_owned(), now);
                true
            }
        }
    }
}

/// One place among those who wait for the disk.
pub(super) struct Waiting {
    identity: Fingerprint,
    all: Arc<Mutex<HashMap<Fingerprint, u32>>>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = all.entry(self.identity) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_ends_with_the_minute_and_touches_nobody_else() {
        let limits = Limits::default();
        assert!((0..A_MINUTE).all(|_| limits.spend(&[1; 32], 0)));
        assert!(!limits.spend(&[1; 32], 59));
        assert!(limits.spend(&[2; 32], 59));
        assert!(limits.spend(&[1; 32], 60));
    }

    #[test]
    fn one_identity_has_so_many_places_and_gets_them_back() {
        let limits = Limits::default();
        let places: Vec<_> = (0..AT_ONCE).map(|_| limits.wait(&[1; 32]).unwrap()).collect();
        assert!(limits.wait(&[1; 32]).is_none());
        assert!(limits.wait(&[2; 32]).is_some());
        let replies: Vec<_> = (0..AT_ONCE).map(|_| limits.wait_for_reply("A").unwrap()).collect();
        assert!(limits.wait_for_reply("A").is_none() && limits.wait_for_reply("B").is_some());
        drop(replies);
        drop(places);
        assert!(limits.wait(&[1; 32]).is_some());
        assert!(limits.waiting.lock().unwrap().is_empty());
    }

    #[test]
    fn something_is_said_once_in_a_while() {
        let limits = Limits::default();
        assert!(limits.once("a", 0, 60));
        assert!(!limits.once("a", 59, 60));
        assert!(limits.once("b", 59, 60));
        assert!(limits.once("a", 60, 60));
        assert!(limits.once("a", 0, 60), "the clock was set back");
    }
}
