//! How much memory the bodies of requests may take, all of a listener together.
//!
//! A body is read before anybody knows who sent it: what proves a device is a signature over the
//! whole of it. So every byte that is held is taken from somewhere first: from the [`OWN`] bytes of
//! its connection, which are enough for what devices say all day and which nobody else can use up,
//! and beyond them from the [`Budget`] that all connections share. `body` takes, and what it hands to
//! a handler carries its [`Charge`] with it wherever it goes, the writer's queue included.
//!
//! **Invariant:** bytes of bodies are held for as long as their charge and no longer; a listener
//! holds at most its budget and [`OWN`] for each connection.

use std::mem::take;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What all connections of a listener may hold beyond their own.
pub(super) const SHARED: u64 = 256 * 1024 * 1024;
/// What one connection may hold in any case, whatever the others do.
const OWN: u64 = 64 * 1024;

/// Bytes that are free for any connection of a listener.
pub(super) struct Budget(AtomicU64);

impl Budget {
    pub(super) fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(bytes)))
    }
}

/// Bytes that are free for the bodies of one connection.
pub(super) struct Purse {
    own: AtomicU64,
    shared: Arc<Budget>,
}

impl Purse {
    /// The purse of a new connection.
    pub(super) fn new(shared: &Arc<Budget>) -> Arc<Self> {
        Arc::new(Self { own: AtomicU64::new(OWN), shared: shared.clone() })
    }
}

/// What one body holds; given back when it is dropped.
pub(super) struct Charge {
    purse: Arc<Purse>,
    own: u64,
    shared: u64,
}

impl Charge {
    /// Nothing yet.
    pub(super) fn new(purse: &Arc<Purse>) -> Self {
        Self { purse: purse.clone(), own: 0, shared: 0 }
    }

    /// Holds `bytes` more; answers whether there was room for them.
    pub(super) fn hold(&mut self, bytes: u64) -> bool {
        if subtract(&self.purse.own, bytes) {
            self.own += bytes;
            return true;
        }
        let held = subtract(&self.purse.shared.0, bytes);
        self.shared += if held { bytes } else { 0 };
        held
    }

    /// Everything that is held, from now on in another's hands.
    pub(super) fn hand_over(&mut self) -> Self {
        Self { purse: self.purse.clone(), own: take(&mut self.own), shared: take(&mut self.shared) }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.own > 0 {
            self.purse.own.fetch_add(self.own, Ordering::Relaxed);
        }
        if self.shared > 0 {
            self.purse.shared.0.fetch_add(self.shared, Ordering::Relaxed);
        }
    }
}

fn subtract(free: &AtomicU64, bytes: u64) -> bool {
    free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(bytes)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(budget: &Budget) -> u64 {
        budget.0.load(Ordering::Relaxed)
    }

    #[test]
    fn a_connection_spends_its_own_before_what_is_everybodys() {
        let budget = Budget::new(1000);
        let purse = Purse::new(&budget);
        let mut small = Charge::new(&purse);
        assert!(small.hold(OWN - 10));
        assert_eq!(free(&budget), 1000);
        let mut second = Charge::new(&purse);
        assert!(second.hold(600));
        assert_eq!(free(&budget), 400);
        assert!(!second.hold(500), "all or nothing");
        assert_eq!(free(&budget), 400);
        assert!(Charge::new(&Purse::new(&budget)).hold(OWN), "another connection has its own");
        drop((small, second));
        assert_eq!(free(&budget), 1000);
        assert_eq!(purse.own.load(Ordering::Relaxed), OWN);
    }

    #[test]
    fn what_is_handed_over_is_given_back_by_who_holds_it_last() {
        let budget = Budget::new(OWN * 2);
        let mut charge = Charge::new(&Purse::new(&budget));
        assert!(charge.hold(OWN + 1));
        let holder = charge.hand_over();
        drop(charge);
        assert_eq!(free(&budget), OWN - 1);
        drop(holder);
        assert_eq!(free(&budget), OWN * 2);
    }
}
