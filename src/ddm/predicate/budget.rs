//! How much work an evaluation may still do.
//!
//! A SUBQUERY in a SUBQUERY multiplies, and facts are as long as a device makes them. So whatever
//! loops over facts pays for each round.
//!
//! **Invariant:** once the budget is spent, nothing more is done and everything undecided is unknown.

use std::cell::Cell;

/// Enough for some thousand elements and conditions; well under a second.
const MOST_STEPS: usize = 4_000_000;

pub(super) struct Budget(Cell<usize>);

impl Budget {
    pub(super) fn new() -> Self {
        Self(Cell::new(MOST_STEPS))
    }

    /// Whether there was enough left for this.
    #[must_use]
    pub(super) fn spend(&self, steps: usize) -> bool {
        let left = self.0.get().checked_sub(steps);
        self.0.set(left.unwrap_or(0));
        left.is_some()
    }

    /// Whether a text of this length may be looked at once, by something quick.
    #[must_use]
    pub(super) fn look_at(&self, length: usize) -> bool {
        self.spend(1 + length / 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_is_spent() {
        let budget = Budget::new();
        assert!(budget.spend(MOST_STEPS));
        assert!(budget.spend(0));
        assert!(!budget.spend(1));
        let budget = Budget::new();
        assert!(!budget.look_at(usize::MAX));
        assert!(!budget.spend(1));
    }
}
