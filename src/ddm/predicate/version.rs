//! Versions and moments: texts that compare otherwise than letter by letter.
//!
//! A version is digits with dots between them. It is compared component by component, and a missing
//! one is 0, so 17.4 comes before 17.10 and 17 is 17.0. A moment is RFC 3339, as status items write it.
//!
//! **Invariant:** components have any number of digits; nothing overflows.

use std::cmp::Ordering;

/// The seconds between 1970 and 2001, where NSDate begins to count.
const NSDATE_EPOCH: i64 = 978_307_200;

/// How two versions compare; nothing if either is none.
pub(super) fn compare(a: &str, b: &str) -> Option<Ordering> {
    if !is_version(a) || !is_version(b) {
        return None;
    }
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let (x, y) = match (a.next(), b.next()) {
            (None, None) => return Some(Ordering::Equal),
            (x, y) => (x.unwrap_or(""), y.unwrap_or("")),
        };
        let (x, y) = (x.trim_start_matches('0'), y.trim_start_matches('0'));
        // Without leading zeros the longer number is the larger.
        match x.len().cmp(&y.len()).then_with(|| x.cmp(y)) {
            Ordering::Equal => {}
            decided => return Some(decided),
        }
    }
}

/// Whether two texts are the same version. Digits alone are rather a serial number or a code, whose
/// zeros matter: one of the two must have a dot.
pub(super) fn same(a: &str, b: &str) -> bool {
    (a.contains('.') || b.contains('.')) && compare(a, b) == Some(Ordering::Equal)
}

fn is_version(text: &str) -> bool {
    text.split('.').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The seconds from the beginning of 2001 to a moment like 2026-11-22T10:30:00.5+01:00.
pub(super) fn moment(text: &str) -> Option<f64> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = text.get(range)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let marks: Vec<u8> =
        [4, 7, 10, 13, 16].iter().filter_map(|at| text.as_bytes().get(*at).copied()).collect();
    if !matches!(marks.as_slice(), [b'-', b'-', b'T' | b't' | b' ', b':', b':']) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let valid =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    let (fraction, zone) = split_fraction(text.get(19..)?)?;
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset(zone)?;
    // Years of four digits: far from what a double cannot hold.
    valid.then_some((seconds - NSDATE_EPOCH) as f64 + fraction)
}

fn split_fraction(rest: &str) -> Option<(f64, &str)> {
    let Some(digits) = rest.strip_prefix('.') else { return Some((0.0, rest)) };
    let end = digits.bytes().take_while(u8::is_ascii_digit).count();
    Some((rest.get(..=end)?.parse().ok()?, digits.get(end..)?))
}

/// The seconds by which a zone is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    let sign = match zone.as_bytes() {
        [b'Z' | b'z'] => return Some(0),
        [b'+', _, _, b':', _, _] => 1,
        [b'-', _, _, b':', _, _] => -1,
        _ => return None,
    };
    let (hours, minutes): (u8, u8) = (zone.get(1..3)?.parse().ok()?, zone.get(4..6)?.parse().ok()?);
    Some(sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60))
}

/// The days from 1970 to a date, in years that begin in March so that the leap day is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month < 3 { year - 1 } else { year };
    let in_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + in_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_component() {
        for (a, b, order) in [
            ("17.4", "17.10", Ordering::Less),
            ("17", "17.0.0", Ordering::Equal),
            ("17.04", "17.4", Ordering::Equal),
            ("9", "10", Ordering::Less),
            ("17.4.1", "17.4", Ordering::Greater),
            ("1.99999999999999999999999999", "1.100000000000000000000000000", Ordering::Less),
        ] {
            assert_eq!(compare(a, b), Some(order), "{a} {b}");
            assert_eq!(compare(b, a), Some(order.reverse()), "{b} {a}");
        }
        for none in ["", ".", "17.", ".4", "17..4", "17.4b1", "21E219", "-1", "١٧"] {
            assert_eq!(compare(none, "17"), None, "{none}");
        }
        assert!(same("17.0", "17"));
        assert!(!same("017", "17"));
    }

    #[test]
    fn moments_count_from_2001() {
        assert_eq!(moment("2001-01-01T00:00:00Z"), Some(0.0));
        assert_eq!(moment("2001-01-01T01:00:00.25+01:00"), Some(0.25));
        assert_eq!(moment("2000-02-29T12:00:00Z"), Some(-26_481_600.0));
        assert_eq!(moment("2026-11-22T10:30:00Z"), Some(817_036_200.0));
        for none in [
            "",
            "2026",
            "2026-13-01T00:00:00Z",
            "2026-11-22T10:30:00",
            "2026-11-22T10:30:00.Z+",
            "ééééééééééé",
        ] {
            assert_eq!(moment(none), None, "{none}");
        }
    }
}
