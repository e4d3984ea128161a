//! What is enforced, and by when: one version, or the latest so many days after its release.
//!
//! `{"version": "26.1", "build": null, "at": "2026-12-01T18:00"}` or
//! `{"latest": true, "days": 7, "at": "18:00", "major": false}`. Times are those of the device's own
//! clock, as Apple's TargetLocalDateTime is.
//!
//! **Invariant:** a [`Rule`] that exists has a date and a time that exist, and no time zone.

use serde_json::{Map, Value as Json};
use time::{Date, Month};

use crate::error::{Error, Result};
use crate::id::printable;
use crate::schema::check::child;

/// The most days after a release.
const MOST_DAYS: u64 = 365;

/// What a device is to be updated to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Version {
        version: String,
        build: Option<String>,
        /// TargetLocalDateTime.
        at: String,
    },
    Latest {
        days: u16,
        /// `HH:MM:SS`.
        at: String,
        /// Whether it may lead to another major version.
        major: bool,
    },
}

impl Rule {
    /// Reads a rule that stands at this pointer.
    pub(super) fn read(json: &Json, at: &str) -> Result<Self> {
        let Json::Object(members) = json else {
            let words =
                "This must be an object: {\"version\", \"at\"} or {\"latest\": true, \"days\", \"at\"}.";
            return Err(Error::invalid_at(at, words));
        };
        let is_latest = match present(members, "latest") {
            None => false,
            Some(Json::Bool(latest)) => *latest,
            Some(_) => return Err(wrong(at, "latest", "This must be true or false.")),
        };
        let known: &[&str] = if is_latest {
            &["latest", "days", "at", "major"]
        } else {
            &["latest", "version", "build", "at"]
        };
        if let Some(name) = members.keys().find(|name| !known.contains(&name.as_str())) {
            let name = printable(name);
            let words = match (is_latest, name.as_str()) {
                (true, "version" | "build") => {
                    "Either a version is enforced or the latest; leave one of them out.".to_owned()
                }
                (false, "days" | "major") => {
                    format!("{name} belongs to \"latest\": true; write that, or leave {name} out.")
                }
                _ => format!("{name:?} is not known here; write {}.", known.join(", ")),
            };
            return Err(Error::invalid_at(child(at, &name), words));
        }
        if is_latest { Self::latest(members, at) } else { Self::version(members, at) }
    }

    fn version(members: &Map<String, Json>, at: &str) -> Result<Self> {
        let Some(version) = text(members, "version", at)? else {
            return Err(wrong(
                at,
                "version",
                "version is missing, as in \"26.1\"; or write \"latest\": true.",
            ));
        };
        if !is_version(version) {
            return Err(wrong(
                at,
                "version",
                "This must be a version of one to three numbers, as in \"26.1\".",
            ));
        }
        let build = text(members, "build", at)?;
        if build.is_some_and(|build| !is_build(build)) {
            return Err(wrong(at, "build", "This must be a build, as in \"23B85\", or null."));
        }
        let Some(when) = text(members, "at", at)? else {
            return Err(wrong(at, "at", "at is missing: the date and time, as in \"2026-12-01T18:00\"."));
        };
        let when = date_time(when, &child(at, "at"))?;
        Ok(Self::Version { version: version.to_owned(), build: build.map(str::to_owned), at: when })
    }

    fn latest(members: &Map<String, Json>, at: &str) -> Result<Self> {
        let days = present(members, "days").map_or(Some(0), Json::as_u64).filter(|days| *days <= MOST_DAYS);
        let Some(days) = days.and_then(|days| u16::try_from(days).ok()) else {
            let words = format!("This must be a whole number of days after the release, 0 to {MOST_DAYS}.");
            return Err(wrong(at, "days", &words));
        };
        let Some(when) = text(members, "at", at)? else {
            return Err(wrong(at, "at", "at is missing: the time of day, as in \"18:00\"."));
        };
        let place = child(at, "at");
        if when.contains('T') || when.len() > 8 {
            let words = "For the latest this is a time of day without a date, as in \"18:00\".";
            return Err(Error::invalid_at(place, words));
        }
        let major = match present(members, "major") {
            None => true,
            Some(Json::Bool(major)) => *major,
            Some(_) => return Err(wrong(at, "major", "This must be true or false.")),
        };
        Ok(Self::Latest { days, at: time_of_day(when, &place)?, major })
    }
}

fn present<'a>(members: &'a Map<String, Json>, name: &str) -> Option<&'a Json> {
    members.get(name).filter(|value| !value.is_null())
}

fn text<'a>(members: &'a Map<String, Json>, name: &str, at: &str) -> Result<Option<&'a str>> {
    match present(members, name) {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        // 26.10 is not 26.1, and as a number it would be.
        Some(Json::Number(_)) => Err(wrong(at, name, "This must be a string: put it into quotes.")),
        Some(_) => Err(wrong(at, name, "This must be a string.")),
    }
}

fn wrong(at: &str, name: &str, words: &str) -> Error {
    Error::invalid_at(child(at, name), words)
}

pub(super) fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let number = |part: &&str| (1..=4).contains(&part.len()) && part.bytes().all(|c| c.is_ascii_digit());
    (1..=3).contains(&parts.len()) && parts.iter().all(number)
}

/// As `23B85` or, with a supplement, `23B85a`.
pub(super) fn is_build(text: &str) -> bool {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let major = digits(text);
    let rest = &text[major..];
    let Some(letter) = rest.bytes().next() else { return false };
    let number = digits(&rest[usize::from(letter.is_ascii())..]);
    let end = rest.get(1 + number..).unwrap_or("!");
    (1..=3).contains(&major)
        && letter.is_ascii_uppercase()
        && (1..=6).contains(&number)
        && end.len() <= 1
        && end.bytes().all(|c| c.is_ascii_lowercase())
}

/// `2026-12-01T18:00[:00]` as Apple writes it.
fn date_time(text: &str, at: &str) -> Result<String> {
    let form = || {
        let words = "This must be a date and a time of day, as in \"2026-12-01T18:00\".";
        Error::invalid_at(at, words)
    };
    let Some((day, time)) = text.split_once(['T', ' ']) else { return Err(form()) };
    date(day).ok_or_else(|| match day_numbers(day) {
        Some(_) => Error::invalid_at(at, format!("There is no day {}.", printable(day))),
        None => form(),
    })?;
    let time = time_of_day(time, at).map_err(|error| match error {
        Error::Invalid { words, pointer, suggestion } => {
            let suggestion = suggestion.map(|time| format!("{day}T{time}"));
            Error::Invalid { words, pointer, suggestion }
        }
        error => error,
    })?;
    Ok(format!("{day}T{time}"))
}

/// A day that exists, of `2026-12-01`.
pub(super) fn date(text: &str) -> Option<Date> {
    let (year, month, day) = day_numbers(text)?;
    let month = Month::try_from(month).ok()?;
    Date::from_calendar_date(year, month, day).ok().filter(|_| (2000..=2199).contains(&year))
}

fn day_numbers(text: &str) -> Option<(i32, u8, u8)> {
    let bytes = text.as_bytes();
    let is_digit =
        |(at, byte): (usize, &u8)| if at == 4 || at == 7 { *byte == b'-' } else { byte.is_ascii_digit() };
    if bytes.len() != 10 || !bytes.iter().enumerate().all(is_digit) {
        return None;
    }
    Some((text[..4].parse().ok()?, text[5..7].parse().ok()?, text[8..].parse().ok()?))
}

/// `18:00[:00]`, answered with seconds.
fn time_of_day(text: &str, at: &str) -> Result<String> {
    let local = text.trim_end_matches(|c: char| c != ':' && !c.is_ascii_digit());
    let local = local.split(['+', '-']).next().unwrap_or_default();
    let parts: Vec<&str> = local.split(':').collect();
    let below = |part: &&str, most: u8| part.len() == 2 && part.parse().is_ok_and(|number: u8| number < most);
    let fits = match parts.as_slice() {
        [hour, minute] => below(hour, 24) && below(minute, 60),
        [hour, minute, second] => below(hour, 24) && below(minute, 60) && below(second, 60),
        _ => false,
    };
    if !fits {
        let words = "This must have a time of day from \"00:00\" to \"23:59\", as in \"18:00\".";
        return Err(Error::invalid_at(at, words));
    }
    if local != text {
        let words = "Write the time without a time zone: each device takes it as its own local time.";
        return Err(Error::invalid_at(at, words).suggesting(local));
    }
    Ok(if parts.len() == 2 { format!("{local}:00") } else { local.to_owned() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(rule: &Json) -> (String, String, Option<String>) {
        match Rule::read(rule, "/enforce") {
            Err(Error::Invalid { words, pointer, suggestion }) => (pointer.unwrap(), words, suggestion),
            other => panic!("{rule}: {other:?}"),
        }
    }

    #[test]
    fn a_rule_is_a_version_or_the_latest() {
        let rule =
            Rule::read(&json!({"version": "26.1", "build": null, "at": "2026-12-01T18:00"}), "").unwrap();
        let at = "2026-12-01T18:00:00".to_owned();
        assert_eq!(rule, Rule::Version { version: "26.1".into(), build: None, at });
        let rule =
            Rule::read(&json!({"latest": true, "days": 7, "at": "18:00", "major": false}), "").unwrap();
        assert_eq!(rule, Rule::Latest { days: 7, at: "18:00:00".into(), major: false });
        let rule = Rule::read(&json!({"latest": true, "at": "06:30:15"}), "").unwrap();
        assert_eq!(rule, Rule::Latest { days: 0, at: "06:30:15".into(), major: true });
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (rule, place, words) in [
            (json!("26.1"), "", "must be an object"),
            (json!({}), "/version", "missing"),
            (json!({"version": 26.1, "at": "2026-12-01T18:00"}), "/version", "quotes"),
            (json!({"version": "26.x", "at": "2026-12-01T18:00"}), "/version", "26.1"),
            (json!({"version": "26.1.2.3", "at": "2026-12-01T18:00"}), "/version", "26.1"),
            (json!({"version": "26.1", "build": "ü", "at": "2026-12-01T18:00"}), "/build", "23B85"),
            (json!({"version": "26.1"}), "/at", "missing"),
            (json!({"version": "26.1", "at": "18:00"}), "/at", "2026-12-01T18:00"),
            (json!({"version": "26.1", "at": "2026-02-30T18:00"}), "/at", "no day 2026-02-30"),
            (json!({"version": "26.1", "at": "2026-13-01T18:00"}), "/at", "no day"),
            (json!({"version": "26.1", "at": "2026-12-01T24:00"}), "/at", "23:59"),
            (json!({"version": "26.1", "at": "2026-12-0١T18:00"}), "/at", "2026-12-01T18:00"),
            (json!({"version": "26.1", "days": 3, "at": "2026-12-01T18:00"}), "/days", "latest"),
            (json!({"latest": true, "version": "26.1", "at": "18:00"}), "/version", "Either"),
            (json!({"latest": true, "days": -1, "at": "18:00"}), "/days", "0 to 365"),
            (json!({"latest": true, "days": 366, "at": "18:00"}), "/days", "0 to 365"),
            (json!({"latest": true, "days": 1.5, "at": "18:00"}), "/days", "0 to 365"),
            (json!({"latest": true, "at": "2026-12-01T18:00"}), "/at", "without a date"),
            (json!({"latest": true}), "/at", "missing"),
            (json!({"latest": "yes", "at": "18:00"}), "/latest", "true or false"),
            (json!({"latest": true, "at": "18:00", "major": 1}), "/major", "true or false"),
            (json!({"latest": true, "at": "18:00", "mayor": false}), "/mayor", "not known"),
        ] {
            let (pointer, said, _) = refused(&rule);
            assert_eq!(pointer, format!("/enforce{place}"), "{rule}");
            assert!(said.contains(words), "{rule}: {said}");
        }
    }

    #[test]
    fn a_time_zone_is_refused_with_the_time_that_was_meant() {
        for (zone, meant) in
            [("Z", "18:00:00"), ("+01:00", "18:00:00"), (" UTC", "18:00:00"), ("-08:00", "18:00:00")]
        {
            let (pointer, words, suggestion) =
                refused(&json!({"version": "26.1", "at": format!("2026-12-01T18:00:00{zone}")}));
            assert_eq!(pointer, "/enforce/at");
            assert!(words.contains("local time"), "{words}");
            assert_eq!(suggestion.unwrap(), format!("2026-12-01T{meant}"));
        }
    }

    #[test]
    fn builds_look_like_apples() {
        for build in ["23B85", "20A242a", "24G5054d", "9A1"] {
            assert!(is_build(build), "{build}");
        }
        for wrong in ["", "B85", "23", "23B", "23b85", "23B85ab", "23B85A", "ü1", "23ü85", "1234B1"] {
            assert!(!is_build(wrong), "{wrong}");
        }
    }
}
