//! The calendar of what ends, as iCalendar (RFC 5545).
//!
//! One event for each certificate, at its end. What needs somebody has alarms at the days of the alerts;
//! what renews by itself has none and moves on with each renewal. Identities of devices are in it only
//! when their renewal failed or is late.
//!
//! **Invariant:** no line is longer than 75 octets, and no subject can end one.

use std::fmt::Write;

use time::OffsetDateTime;
use time::macros::format_description;

use super::{Ends, Expiry, Kind, alert};
use crate::clock::Seconds;
use crate::error::Result;

/// RFC 5545 section 3.1.
const LONGEST_LINE: usize = 75;
/// More events than that are a fleet that was off for a summer; the list has them all.
const MOST: usize = 500;

/// The whole calendar.
///
/// # Errors
/// The database's.
pub fn calendar(expiry: &Expiry) -> Result<String> {
    let parts = &expiry.0;
    let all = expiry.all()?;
    let shown = all
        .iter()
        .filter(|ends| !ends.succeeded && (ends.kind != Kind::DeviceIdentity || ends.needs_somebody()))
        .take(MOST);
    Ok(written(shown, &parts.organization, &parts.host, parts.store.clock().now()))
}

pub(super) fn written<'a>(
    all: impl Iterator<Item = &'a Ends>,
    organization: &str,
    host: &str,
    now: Seconds,
) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| fold(&mut text, &format!("{name}:{value}"));
    line("BEGIN", "VCALENDAR");
    line("VERSION", "2.0");
    line("PRODID", "-//Russet//Certificates//EN");
    line("METHOD", "PUBLISH");
    line("X-WR-CALNAME", &escaped(&format!("Certificates of {organization}")));
    line("REFRESH-INTERVAL;VALUE=DURATION", "PT12H");
    for ends in all {
        let summary = escaped(&format!("Ends: {} {}", ends.kind.words(), ends.subject));
        let words = if ends.needs_somebody() {
            ends.kind.remedy()
        } else {
            "The server renews it by itself; this date moves when it has."
        };
        line("BEGIN", "VEVENT");
        line("UID", &escaped(&format!("{}@{host}", ends.certificate)));
        line("DTSTAMP", &stamp(now));
        line("DTSTART", &stamp(ends.not_after));
        line("DURATION", "PT1H");
        line("SUMMARY", &summary);
        line("DESCRIPTION", &escaped(words));
        line("TRANSP", "TRANSPARENT");
        for days in alert::DAYS.iter().filter(|_| ends.needs_somebody()) {
            line("BEGIN", "VALARM");
            line("ACTION", "DISPLAY");
            line("DESCRIPTION", &summary);
            line("TRIGGER", &format!("-P{days}D"));
            line("END", "VALARM");
        }
        line("END", "VEVENT");
    }
    line("END", "VCALENDAR");
    text
}

/// A time in UTC, form #2 of RFC 5545 section 3.3.5.
fn stamp(at: Seconds) -> String {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let time = OffsetDateTime::from_unix_timestamp(at).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(&format).unwrap_or_default()
}

/// TEXT, RFC 5545 section 3.3.11; other control characters have no place in it.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' | ';' | ',' => {
                escaped.push('\\');
                escaped.push(letter);
            }
            '\n' => escaped.push_str("\\n"),
            letter if letter.is_control() => {}
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// Writes a content line, folded between characters, never within one.
fn fold(text: &mut String, line: &str) {
    let mut length = 0;
    for letter in line.chars() {
        if length + letter.len_utf8() > LONGEST_LINE {
            text.push_str("\r\n ");
            length = 1;
        }
        let _ = write!(text, "{letter}");
        length += letter.len_utf8();
    }
    text.push_str("\r\n");
}
