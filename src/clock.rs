//! What time it is: the system's clock, or one that a test sets.
//!
//! Everything that issues, expires or retries asks a [`Clock`], so that a test can let a year pass
//! in a line. Times are whole seconds since 1970 (UTC) in the program and in the database.
//!
//! **Invariant:** no other file of the server reads the system's clock to decide anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Seconds since 1970-01-01T00:00:00Z.
pub type Seconds = i64;

/// One minute, in seconds.
pub const MINUTE: Seconds = 60;
/// One hour, in seconds.
pub const HOUR: Seconds = 60 * MINUTE;
/// One day, in seconds.
pub const DAY: Seconds = 24 * HOUR;

/// 2026-01-01T00:00:00Z: the program is younger than that, so an earlier clock is wrong.
pub const EARLIEST_SANE: Seconds = 1_767_225_600;

/// 2036-01-01T00:00:00Z: a later clock is as wrong, since no release of the program is in use for so
/// long. What was declared expired by it could not be taken back. Releases move both.
pub const LATEST_SANE: Seconds = 2_082_758_400;

/// A cheap handle on the time.
#[derive(Clone, Debug)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands still until [`Clock::advance`] moves it.
    pub fn set_to(now: Seconds) -> Self {
        Self(Some(Arc::new(AtomicI64::new(now))))
    }

    /// The time now.
    pub fn now(&self) -> Seconds {
        match &self.0 {
            Some(set) => set.load(Ordering::SeqCst),
            None => seconds(SystemTime::now()),
        }
    }

    /// Moves a set clock by `by` seconds; the system's clock is left alone.
    pub fn advance(&self, by: Seconds) {
        if let Some(set) = &self.0 {
            set.fetch_add(by, Ordering::SeqCst);
        }
    }

    /// Whether the time can be right. A Pi without a clock boots in 1970: then nothing is issued,
    /// expired or enforced, and the pages say so.
    pub fn is_sane(&self) -> bool {
        is_sane(self.now())
    }
}

/// As [`Clock::is_sane`], for a time that was read before.
pub fn is_sane(now: Seconds) -> bool {
    (EARLIEST_SANE..LATEST_SANE).contains(&now)
}

/// A system time in whole seconds; before 1970 it is negative.
pub fn seconds(time: SystemTime) -> Seconds {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
    }
}

/// RFC 3339 in UTC without fractions, e.g. `2026-01-31T12:00:00Z`.
pub fn rfc3339(at: Seconds) -> String {
    OffsetDateTime::from_unix_timestamp(at)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| "9999-12-31T23:59:59Z".to_owned())
}

/// Reads RFC 3339 with any offset.
pub fn parse_rfc3339(text: &str) -> Option<Seconds> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(OffsetDateTime::unix_timestamp)
}

/// Reads a length of time as people write it: `90d`, `12h`, `30m`, `45s`.
///
/// Units: `s` seconds, `m` minutes, `h` hours, `d` days, `w` weeks. Answers `None` for anything
/// else, for zero and for more than a hundred years.
pub fn parse_duration(text: &str) -> Option<Seconds> {
    let text = text.trim();
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => MINUTE,
        'h' => HOUR,
        'd' => DAY,
        'w' => 7 * DAY,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let length = digits.parse::<i64>().ok()?.checked_mul(unit)?;
    (1..=100 * 366 * DAY).contains(&length).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(parse_duration("90d"), Some(90 * DAY));
        assert_eq!(parse_duration("2w"), Some(14 * DAY));
        assert_eq!(parse_duration("45s"), Some(45));
        for wrong in ["", "d", "-1d", "0h", "7", "7 days", "99999999999999999999d", "1000000d", "٣d"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times_are_written_without_fractions_and_read_back() {
        assert_eq!(rfc3339(EARLIEST_SANE), "2026-01-01T00:00:00Z");
        assert_eq!(parse_rfc3339("2026-01-01T01:00:00+01:00"), Some(EARLIEST_SANE));
        assert_eq!(parse_rfc3339("yesterday"), None);
    }

    #[test]
    fn a_set_clock_moves_only_when_told() {
        let clock = Clock::set_to(EARLIEST_SANE);
        let other = clock.clone();
        other.advance(DAY);
        assert_eq!(clock.now(), EARLIEST_SANE + DAY);
        assert!(clock.is_sane());
        for wrong in [i64::MIN, 0, EARLIEST_SANE - 1, LATEST_SANE, i64::MAX] {
            assert!(!Clock::set_to(wrong).is_sane(), "{wrong}");
        }
    }
}
