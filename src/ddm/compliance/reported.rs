//! Facts that are one status item each.
//!
//! **Invariant:** a value that came is believed, whether the table expects it of this device or not.

use rusqlite::Connection;
use serde_json::Value as Json;

use super::{Fact, LONGEST_SAID};
use crate::ddm::status::item::{self, Item};
use crate::ddm::subject::Subject;
use crate::error::Result;
use crate::schema::status::status_item;

/// What a device says of an item, or why it does not.
enum Said {
    It(Item),
    /// A device like this never says it; a sentence.
    Never(String),
    NotYet,
}

fn said(conn: &Connection, subject: &Subject, name: &str) -> Result<Said> {
    if let Some(item) = item::find(conn, &subject.id, name)? {
        return Ok(Said::It(item));
    }
    Ok(cannot_tell(subject, name).map_or(Said::NotYet, Said::Never))
}

/// Why a device like this cannot tell an item, if it cannot.
fn cannot_tell(subject: &Subject, name: &str) -> Option<String> {
    let platform = subject.platform?;
    let system = platform.name();
    let Some(support) = status_item(name).and_then(|item| item.os.get(system)) else {
        return Some(format!("{system} does not tell this."));
    };
    let version = subject.version.as_deref();
    if !support.includes(version) {
        let since = support.since.as_deref().unwrap_or("a later version");
        return Some(format!(
            "{system} tells this from {since} on; it runs {}.",
            version.unwrap_or("another")
        ));
    }
    if support.enrollments.as_ref().is_some_and(|allowed| !allowed.contains(&subject.enrollment)) {
        return Some(format!("{system} does not tell this of a device that is enrolled like this."));
    }
    if support.scopes.as_ref().is_some_and(|scopes| !scopes.contains(&subject.channel)) {
        return Some(format!("{system} does not tell this on this channel."));
    }
    None
}

/// A fact from an item; `read` makes a value and a sentence of what was said.
fn fact(
    conn: &Connection,
    subject: &Subject,
    name: &'static str,
    item: &str,
    read: impl Fn(&Json) -> (Option<bool>, String),
) -> Result<Fact> {
    Ok(match said(conn, subject, item)? {
        Said::Never(words) => Fact::not_applicable(name, words),
        Said::NotYet => Fact::new(
            name,
            None,
            "It has not said so far; devices report of themselves once something is declared for them.",
        ),
        Said::It(item) => {
            let value = item.value.unwrap_or_default();
            let reported = if value.to_string().len() <= LONGEST_SAID { value.clone() } else { Json::Null };
            let (value, words) = read(&value);
            Fact { reported, since: Some(item.reported_at), ..Fact::new(name, value, words) }
        }
    })
}

fn yes_or_no(yes: &'static str, no: &'static str) -> impl Fn(&Json) -> (Option<bool>, String) {
    move |value| match value.as_bool() {
        Some(true) => (Some(true), yes.to_owned()),
        Some(false) => (Some(false), no.to_owned()),
        None => (None, "What it said cannot be understood.".to_owned()),
    }
}

/// Without a declaration that asks for one, having no passcode is nobody's fault.
pub(super) fn passcode_present(conn: &Connection, subject: &Subject, is_asked_for: bool) -> Result<Fact> {
    let read = yes_or_no("It has a passcode.", "It has no passcode.");
    let fact = fact(conn, subject, "passcode_present", "passcode.is-present", read)?;
    Ok(if is_asked_for { fact } else { fact.noted() })
}

pub(super) fn passcode_compliant(conn: &Connection, subject: &Subject) -> Result<Fact> {
    let read = yes_or_no(
        "Its passcode is as the passcode settings of this device ask for.",
        "Its passcode is not as its passcode settings ask for; the user has to choose another.",
    );
    fact(conn, subject, "passcode_compliant", "passcode.is-compliant", read)
}

pub(super) fn filevault(conn: &Connection, subject: &Subject) -> Result<Fact> {
    let read = yes_or_no("FileVault is on.", "FileVault is off: whoever has this Mac can read its disk.");
    fact(conn, subject, "filevault", "diskmanagement.filevault.enabled", read)
}

pub(super) fn lockdown_mode(conn: &Connection, subject: &Subject) -> Result<Fact> {
    let read = yes_or_no("Lockdown Mode is on.", "Lockdown Mode is off.");
    Ok(fact(conn, subject, "lockdown_mode", "security.lockdown-mode", read)?.noted())
}

pub(super) fn battery_health(conn: &Connection, subject: &Subject) -> Result<Fact> {
    let read = |value: &Json| match value.as_str().unwrap_or_default() {
        "normal" => (Some(true), "Its battery is as it should be.".to_owned()),
        "service-recommended" => (Some(false), "Its battery should be replaced.".to_owned()),
        "non-genuine" => (Some(false), "Its battery is not one of Apple's.".to_owned()),
        "unsupported" => (None, "It has no battery that it can judge.".to_owned()),
        _ => (None, "It does not know how its battery is.".to_owned()),
    };
    Ok(fact(conn, subject, "battery_health", "device.power.battery-health", read)?.noted())
}
