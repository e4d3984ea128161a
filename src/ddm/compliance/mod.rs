//! Facts about the security of a device, gathered from what it reports and what is declared for it.
//!
//! `admin` shows them for a device, a group and all. Which items a system reports at all is in Apple's
//! table ([`crate::schema::status`]); what a device cannot tell is not held against it.
//!
//! **Invariant:** what is not known is unknown, never good and never bad; and no device can make a fact
//! long.

mod declared;
mod reported;
mod system;

use rusqlite::Connection;
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;

use super::manifest::Plan;
use super::status::declared::states;
use super::status::report;
use super::subject::Subject;
use crate::clock::{DAY, HOUR, MINUTE, Seconds, rfc3339};
use crate::error::{Error, Result};
use crate::id::printable;

/// The names of all facts, in the order in which they are shown.
pub const NAMES: [&str; 10] = [
    "declarations",
    "services",
    "passcode_present",
    "passcode_compliant",
    "filevault",
    "os_current",
    "lockdown_mode",
    "battery_health",
    "supervised",
    "contact",
];

/// What a device says is shown up to here: a page has many of them.
const LONGEST_SAID: usize = 300;
/// A device that nobody has seen for longer may have become anything.
const RECENT: Seconds = 14 * DAY;

/// What an administrator wants beyond what is wanted by itself, and what they do not mind.
#[derive(Clone, Debug, Default)]
pub struct Wants {
    want: BTreeSet<String>,
    ignore: BTreeSet<String>,
}

/// One fact about a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    pub name: &'static str,
    /// Whether it is so; nothing when that is not known.
    pub value: Option<bool>,
    /// Whether it should be so; otherwise it is only noted.
    pub wanted: bool,
    /// Whether a device like this can tell.
    pub applicable: bool,
    /// What the device said.
    pub reported: Json,
    /// A sentence.
    pub words: String,
    /// Since when it is so.
    pub since: Option<Seconds>,
}

/// How a fact stands beside what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Ok,
    Failing,
    Unknown,
    NotApplicable,
    Noted,
}

/// All facts about one device.
#[derive(Clone, Debug)]
pub struct Compliance {
    pub facts: Vec<Fact>,
    pub last_seen_at: Option<Seconds>,
    pub last_report_at: Option<Seconds>,
}

impl Wants {
    /// Reads two lists of names.
    ///
    /// # Errors
    /// `Invalid` for a name that is none.
    pub fn read(want: &str, ignore: &str) -> Result<Self> {
        let names = |text: &str, parameter: &str| {
            let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
            let known = |name: &str| match NAMES.contains(&name) {
                true => Ok(name.to_owned()),
                false => Err(Error::invalid(format!("{parameter} takes these names: {}", NAMES.join(", ")))),
            };
            names.map(known).collect::<Result<BTreeSet<String>>>()
        };
        Ok(Self { want: names(want, "want")?, ignore: names(ignore, "ignore")? })
    }
}

impl Standing {
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failing => "failing",
            Self::Unknown => "unknown",
            Self::NotApplicable => "not_applicable",
            Self::Noted => "noted",
        }
    }
}

impl Fact {
    fn new(name: &'static str, value: Option<bool>, words: impl Into<String>) -> Self {
        let words = words.into();
        Self { name, value, wanted: true, applicable: true, reported: Json::Null, words, since: None }
    }

    /// One that a device like this cannot tell.
    fn not_applicable(name: &'static str, words: impl Into<String>) -> Self {
        Self { applicable: false, ..Self::new(name, None, words) }
    }

    /// It is shown and nobody minds.
    fn noted(self) -> Self {
        Self { wanted: false, ..self }
    }

    pub fn standing(&self) -> Standing {
        match (self.applicable, self.wanted, self.value) {
            (false, ..) => Standing::NotApplicable,
            (true, false, _) => Standing::Noted,
            (true, true, None) => Standing::Unknown,
            (true, true, Some(true)) => Standing::Ok,
            (true, true, Some(false)) => Standing::Failing,
        }
    }

    /// As the API shows it.
    pub fn shown(&self) -> Json {
        json!({
            "name": self.name,
            "state": self.standing().word(),
            "value": self.value,
            "wanted": self.wanted.then_some(true),
            "words": self.words,
            "reported": self.reported,
            "since": self.since.map(rfc3339),
        })
    }
}

impl Compliance {
    /// Whether everything that is wanted is so; nothing when that is not known.
    pub fn compliant(&self) -> Option<bool> {
        let has = |standing| self.facts.iter().any(|fact| fact.standing() == standing);
        match (has(Standing::Failing), has(Standing::Unknown)) {
            (true, _) => Some(false),
            (false, true) => None,
            (false, false) => Some(true),
        }
    }
}

/// Gathers the facts about a channel; `last_seen_at` is its last contact.
///
/// # Errors
/// The database's.
pub fn of(
    conn: &Connection,
    plan: &Plan,
    subject: &Subject,
    last_seen_at: Option<Seconds>,
    now: Seconds,
    wants: &Wants,
) -> Result<Compliance> {
    let manifest = plan.manifest(conn, subject)?;
    let states = states(conn, &subject.id)?;
    let last_report_at = report::last(conn, &subject.id)?;
    let should_have = declared::Declared { plan, manifest: &manifest, states: &states, subject };
    let mut facts = vec![
        should_have.declarations(),
        should_have.services(conn)?,
        reported::passcode_present(conn, subject, should_have.asks_for_passcode())?,
        reported::passcode_compliant(conn, subject)?,
        reported::filevault(conn, subject)?,
        system::current(conn, subject, &should_have.enforced(), now)?,
        reported::lockdown_mode(conn, subject)?,
        reported::battery_health(conn, subject)?,
        supervised(subject),
        contact(last_seen_at, last_report_at, now),
    ];
    for fact in &mut facts {
        fact.wanted = (fact.wanted || wants.want.contains(fact.name)) && !wants.ignore.contains(fact.name);
    }
    Ok(Compliance { facts, last_seen_at, last_report_at })
}

fn supervised(subject: &Subject) -> Fact {
    let value = subject.keys.get("supervised").and_then(Json::as_bool);
    let words = match value {
        Some(true) => "It is supervised.",
        Some(false) => "It is not supervised: some settings and items are for supervised devices only.",
        None => "It has not said whether it is supervised.",
    };
    Fact { reported: value.into(), ..Fact::new("supervised", value, words) }.noted()
}

fn contact(seen: Option<Seconds>, reported: Option<Seconds>, now: Seconds) -> Fact {
    let value = seen.map(|seen| now.saturating_sub(seen) <= RECENT);
    let words = match (seen, reported) {
        (None, _) => "It has not connected yet.".to_owned(),
        (Some(seen), None) => format!("It connected {}, and has reported nothing of itself.", ago(now, seen)),
        (Some(seen), Some(reported)) => {
            format!("It connected {}; it last reported something {}.", ago(now, seen), ago(now, reported))
        }
    };
    Fact { since: seen, ..Fact::new("contact", value, words) }
}

/// A text of a device, fit for a sentence.
fn said(text: &str) -> String {
    printable(text).chars().take(LONGEST_SAID).collect()
}

/// How long ago that was, as people say it.
fn ago(now: Seconds, at: Seconds) -> String {
    let past = now.saturating_sub(at).max(0);
    let (count, unit) = match past {
        past if past < 2 * MINUTE => return "just now".to_owned(),
        past if past < 2 * HOUR => (past / MINUTE, "minutes"),
        past if past < 2 * DAY => (past / HOUR, "hours"),
        past => (past / DAY, "days"),
    };
    format!("{count} {unit} ago")
}

#[cfg(test)]
mod tests;
