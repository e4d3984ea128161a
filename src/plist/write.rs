//! Writes property lists as XML, for devices; called wherever a command, a reply or a profile is made.
//!
//! The crate's writer is not used because it can fail, writes fractions of seconds, which Apple's
//! reader does not take, and leaves carriage returns to be read as line feeds.
//!
//! **Invariant:** [`super::parse`] reads back what was written, but for fractions of seconds.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Write as _;

use super::{Date, Value};

const HEAD: &str = concat!(
    r#"<?xml version="1.0" encoding="UTF-8"?>"#,
    "\n",
    r#"<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">"#,
    "\n",
    r#"<plist version="1.0">"#,
    "\n"
);

/// The list as XML with Apple's header, one element to a line, without indentation.
pub fn to_xml(value: &Value) -> Vec<u8> {
    let mut text = String::with_capacity(1024);
    text.push_str(HEAD);
    write_value(&mut text, value);
    text.push_str("</plist>\n");
    text.into_bytes()
}

fn write_value(text: &mut String, value: &Value) {
    match value {
        Value::Array(values) => {
            text.push_str("<array>\n");
            for value in values {
                write_value(text, value);
            }
            text.push_str("</array>\n");
        }
        Value::Dictionary(entries) => {
            text.push_str("<dict>\n");
            for (key, value) in entries {
                write_element(text, "key", key);
                write_value(text, value);
            }
            text.push_str("</dict>\n");
        }
        Value::Boolean(true) => text.push_str("<true/>\n"),
        Value::Boolean(false) => text.push_str("<false/>\n"),
        Value::String(string) => write_element(text, "string", string),
        Value::Data(bytes) => {
            text.push_str("<data>");
            STANDARD.encode_string(bytes, text);
            text.push_str("</data>\n");
        }
        Value::Date(date) => write_element(text, "date", &date_text(*date)),
        Value::Integer(integer) => write_number(text, "integer", integer),
        Value::Real(real) => write_real(text, *real),
        // As Apple's own writer says a UID in XML.
        Value::Uid(uid) => {
            text.push_str("<dict>\n<key>CF$UID</key>\n");
            write_number(text, "integer", &uid.get());
            text.push_str("</dict>\n");
        }
        // The crate's enum is open; there are no further kinds today.
        _ => text.push_str("<string/>\n"),
    }
}

fn write_element(text: &mut String, name: &str, content: &str) {
    text.push('<');
    text.push_str(name);
    text.push('>');
    let mut rest = content;
    while let Some(at) = rest.find(['&', '<', '>', '\r']) {
        text.push_str(&rest[..at]);
        text.push_str(match rest.as_bytes()[at] {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            // A bare carriage return would be read as a line feed.
            _ => "&#13;",
        });
        rest = &rest[at + 1..];
    }
    text.push_str(rest);
    text.push_str("</");
    text.push_str(name);
    text.push_str(">\n");
}

fn write_number(text: &mut String, name: &str, number: &dyn std::fmt::Display) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "<{name}>{number}</{name}>");
}

fn write_real(text: &mut String, real: f64) {
    if real.is_nan() {
        text.push_str("<real>nan</real>\n");
    } else if real.is_infinite() {
        text.push_str(if real > 0.0 { "<real>+infinity</real>\n" } else { "<real>-infinity</real>\n" });
    } else {
        write_number(text, "real", &real);
    }
}

/// `2026-11-22T10:30:00Z`. Dates come from [`super::parse`], which keeps them between the years 0
/// and 9999; any other is written as the nearest of these.
pub(super) fn date_text(date: Date) -> String {
    let time = time::OffsetDateTime::from(clamped(date));
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

fn clamped(date: Date) -> std::time::SystemTime {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};
    let earliest = UNIX_EPOCH - Duration::from_secs(62_167_219_200);
    let latest = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    SystemTime::from(date).clamp(earliest, latest)
}
