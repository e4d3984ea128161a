//! How often one device may make us write.
//!
//! A healthy device sends a handful of Authenticate and TokenUpdate messages in its life. One that
//! sends hundreds a minute is broken or hostile; it is asked to wait, and nobody else notices it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::clock::{MINUTE, Seconds};
use crate::pki::identity::Fingerprint;

/// Check-ins that one identity may have written in a minute.
const A_MINUTE: u32 = 100;
/// When so many are remembered, those of earlier minutes are forgotten.
const REMEMBERED: usize = 4096;

/// What was spent, in memory: after a restart everyone begins anew.
#[derive(Default)]
pub(super) struct Limits {
    spent: Mutex<HashMap<Fingerprint, (Seconds, u32)>>,
    told: Mutex<HashMap<String, Seconds>>,
}

impl Limits {
    /// Whether this identity has something left of this minute.
    pub(super) fn spend(&self, identity: &Fingerprint, now: Seconds) -> bool {
        let minute = now / MINUTE;
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        if spent.len() >= REMEMBERED {
            spent.retain(|_, (of, _)| *of == minute);
        }
        let entry = spent.entry(*identity).or_insert((minute, 0));
        if entry.0 != minute {
            *entry = (minute, 0);
        }
        entry.1 += 1;
        entry.1 <= A_MINUTE
    }

    /// Whether this was not said within the last `pause` seconds.
    pub(super) fn once(&self, what: &str, now: Seconds, pause: Seconds) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= REMEMBERED {
            told.retain(|_, at| *at + pause > now);
        }
        match told.get(what) {
            // Said later than now: the clock was wrong then.
            Some(at) if (*at..*at + pause).contains(&now) => false,
            _ => {
                told.insert(what.to_owned(), now);
                true
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
    fn something_is_said_once_in_a_while() {
        let limits = Limits::default();
        assert!(limits.once("a", 0, 60));
        assert!(!limits.once("a", 59, 60));
        assert!(limits.once("b", 59, 60));
        assert!(limits.once("a", 60, 60));
        assert!(limits.once("a", 0, 60), "the clock was set back");
    }
}
