//! Status reports: what devices say about their declarations and themselves.
//!
//! A report that is well-formed JSON is always taken: a device sends one that was refused again and
//! again (Apple: "StatusReport"). Reports are incremental: what one does not mention is as it was,
//! elements of arrays are known by their `identifier`, `_removed` takes one away, and a FullReport
//! replaces everything.
//!
//! **Invariant:** a report is bounded in size, depth and count before it is kept, and touches nothing but
//! the rows of the channel that sent it.

pub mod change;
pub mod declared;
pub mod error;
pub mod item;
pub mod report;

mod wellformed;

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;
use serde_json::Value as Json;

use crate::error::{Error, Result};
use crate::schema::status::status_item;
use crate::storage::Tx;

pub use wellformed::check;

/// A longer report is not read: none that devices send comes near.
const LONGEST: usize = 2 * 1024 * 1024;
/// The most items of one report, and of one channel.
const MOST_ITEMS: usize = 2000;
/// The most that is looked at to find the items of a report.
const MOST_PLACES: usize = 10_000;
const LONGEST_PATH: usize = 255;
/// The item that is about declarations.
const DECLARATIONS: &str = "management.declarations";

/// A report as it was read, before anything of it is kept.
#[derive(Debug, Default)]
pub struct Said {
    raw: Vec<u8>,
    full: bool,
    items: BTreeMap<String, Json>,
    /// What it says of declarations, if it speaks of them.
    declarations: Option<declared::States>,
    errors: Vec<Json>,
    /// What of it was not read, in words.
    unread: Option<String>,
}

/// What a report was about.
#[derive(Debug, Default)]
pub struct Taken {
    /// The items whose values are others now.
    pub changed: BTreeSet<String>,
}

impl Said {
    /// Reads a report: work for whoever received it, not for the writer.
    ///
    /// # Errors
    /// `Invalid` when it is not a JSON object; whatever else is odd about it is passed over.
    pub fn read(raw: Vec<u8>) -> Result<Self> {
        if raw.len() > LONGEST {
            check(&raw)?;
            let words =
                format!("A status report of {} bytes was not read; {LONGEST} are the most.", raw.len());
            return Ok(Self { unread: Some(words), ..Self::default() });
        }
        let refused =
            |words: String| Error::invalid(format!("the status report is not a JSON object{words}"));
        let report: Json = serde_json::from_slice(&raw).map_err(|error| refused(format!(": {error}")))?;
        let Json::Object(mut report) = report else { return Err(refused(String::new())) };
        let full = report.get("FullReport").and_then(Json::as_bool).unwrap_or(false);
        let (mut items, unread) = report.shift_remove("StatusItems").map(flatten).unwrap_or_default();
        let declarations = items.remove(DECLARATIONS).map(|said| declared::read(&said));
        let errors = match report.shift_remove("Errors") {
            Some(Json::Array(errors)) => errors,
            _ => Vec::new(),
        };
        Ok(Self { raw, full, items, declarations, errors, unread })
    }
}

/// Keeps what a report said.
///
/// # Errors
/// The database's.
pub fn take(tx: &Tx<'_>, enrollment_id: &str, said: &Said) -> Result<Taken> {
    let mut notes = error::Notes::default();
    if let Some(words) = &said.unread {
        notes.add("", words);
    }
    if let Some(declarations) = &said.declarations {
        declared::replace(tx, enrollment_id, declarations)?;
    }
    let changed = item::merge(tx, enrollment_id, &said.items, said.full, &mut notes)?;
    if said.full {
        error::forget(tx, enrollment_id)?;
    }
    error::add(tx, enrollment_id, &said.errors, &notes)?;
    if !said.raw.is_empty() {
        report::keep(tx, enrollment_id, &said.raw)?;
    }
    Ok(Taken { changed })
}

/// The items of a report by their dotted names, and what is to be said of those that were passed over.
/// Apple nests them; an item ends where the table says, or where there is no object any more.
fn flatten(items: Json) -> (BTreeMap<String, Json>, Option<String>) {
    let mut flat = BTreeMap::new();
    let mut next = vec![(String::new(), items)];
    let mut looked_at = 0;
    while let Some((path, value)) = next.pop() {
        looked_at += 1;
        if looked_at > MOST_PLACES || flat.len() >= MOST_ITEMS {
            let words = format!("A report named more than {MOST_ITEMS} items; the others were not read.");
            return (flat, Some(words));
        }
        let is_item = !path.is_empty() && (status_item(&path).is_some() || path == DECLARATIONS);
        match value {
            Json::Object(members) if !is_item => {
                for (name, value) in members {
                    let path = if path.is_empty() { name } else { format!("{path}.{name}") };
                    if path.len() <= LONGEST_PATH && next.len() < MOST_PLACES {
                        next.push((path, value));
                    }
                }
            }
            _ if path.is_empty() => {}
            value => {
                flat.insert(path, value);
            }
        }
    }
    (flat, None)
}

/// The value of an item by its name, which may lead into one; nothing when it is not known.
pub fn value(conn: &Connection, enrollment_id: &str, name: &str) -> Result<Option<Json>> {
    let ends = name.match_indices('.').map(|(at, _)| at).chain([name.len()]);
    for end in ends.collect::<Vec<_>>().into_iter().rev() {
        if let Some(value) = item::value(conn, enrollment_id, &name[..end])? {
            let mut inside = name[end..].split('.').filter(|part| !part.is_empty());
            let found = inside.try_fold(&value, |value, part| value.get(part));
            return Ok(Some(found.cloned().unwrap_or(Json::Null)));
        }
    }
    Ok(None)
}

/// Forgets what a channel reported. What became of values that people watch stays.
pub(super) fn forget(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    item::forget(tx, enrollment_id)?;
    declared::forget(tx, enrollment_id)?;
    error::forget(tx, enrollment_id)?;
    report::forget(tx, enrollment_id)
}

#[cfg(test)]
mod tests;
