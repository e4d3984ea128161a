//! How often one address may ask for codes and tokens that do not exist.
//!
//! They have at least 128 random bits, so guessing one is hopeless; what the limit protects is the
//! log and the machine, and it tells the administrator. Only misses count, and who has the right code
//! is served: 500 phones behind one address enroll while one of them guesses. The enrollment pages
//! and the API have a count each.
//!
//! **Invariant:** at most `REMEMBERED` addresses and one more entry are kept.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use crate::clock::{MINUTE, Seconds};

/// Misses that one address may have in a minute; a person who mistypes has a handful.
const A_MINUTE: u32 = 30;
const REMEMBERED: usize = 4096;

/// The misses of this minute, in memory: after a restart everyone begins anew.
#[derive(Default)]
pub struct Guesses(Mutex<HashMap<IpAddr, (Seconds, u32)>>);

impl Guesses {
    /// Counts a miss; answers whether these are too many. `what` was asked for, in the plural.
    pub fn miss(&self, address: Option<IpAddr>, what: &str, now: Seconds) -> bool {
        let minute = now.div_euclid(MINUTE);
        let mut misses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut network = network(address);
        if misses.len() >= REMEMBERED && !misses.contains_key(&network) {
            misses.retain(|_, (of, _)| *of == minute);
            if misses.len() >= REMEMBERED {
                // A flood from everywhere: the newcomers share one count.
                network = NOBODY;
            }
        }
        let entry = misses.entry(network).or_insert((minute, 0));
        if entry.0 != minute {
            *entry = (minute, 0);
        }
        entry.1 = entry.1.saturating_add(1);
        let count = entry.1;
        drop(misses);
        if count == A_MINUTE + 1 {
            tracing::warn!(
                address = %network,
                "somebody tries {what} that do not exist, {A_MINUTE} times in a minute"
            );
        }
        count > A_MINUTE
    }
}

const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The address, or for IPv6 its /64, where a single person has 2^64 to choose from.
fn network(address: Option<IpAddr>) -> IpAddr {
    match address.unwrap_or(NOBODY) {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    fn is_limited(guesses: &Guesses, from: &str, now: Seconds) -> bool {
        guesses.miss(address(from), "links", now)
    }

    #[test]
    fn misses_are_limited_for_a_minute_and_for_nobody_else() {
        let guesses = Guesses::default();
        assert!((0..A_MINUTE).all(|_| !is_limited(&guesses, "192.0.2.1", 0)));
        assert!(is_limited(&guesses, "192.0.2.1", 59));
        assert!(!is_limited(&guesses, "192.0.2.2", 59));
        assert!(!is_limited(&guesses, "192.0.2.1", 60));
    }

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let guesses = Guesses::default();
        for host in 0..A_MINUTE {
            assert!(!is_limited(&guesses, &format!("2001:db8:0:1::{host:x}"), 0));
        }
        assert!(is_limited(&guesses, "2001:db8:0:1:ffff::1", 0));
        assert!(!is_limited(&guesses, "2001:db8:0:2::1", 0));
    }

    #[test]
    fn a_flood_of_addresses_is_remembered_within_bounds() {
        let guesses = Guesses::default();
        for host in 0..u32::try_from(REMEMBERED).unwrap() * 2 {
            guesses.miss(Some(Ipv4Addr::from_bits(0x0a00_0000 + host).into()), "links", 0);
        }
        assert_eq!(guesses.0.lock().unwrap().len(), REMEMBERED + 1);
        assert!(is_limited(&guesses, "192.0.2.1", 0), "newcomers share one count");
        assert!(!is_limited(&guesses, "10.0.0.1", 0), "those who are known have their own");
        assert!(!is_limited(&guesses, "192.0.2.1", 60));
        assert_eq!(guesses.0.lock().unwrap().len(), 1, "earlier minutes are forgotten");
    }
}
