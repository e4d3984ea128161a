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

mod listed;
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
const LONGEST_PATH: usize = 255;
/// The item that is about declarations.
const DECLARATIONS: &str = "management.declarations";

/// What a report was about.
#[derive(Debug, Default)]
pub struct Taken {
    /// The items whose values are others now.
    pub changed: BTreeSet<String>,
}

/// Takes a report.
///
/// # Errors
/// `Invalid` when it is not a JSON object; whatever else is odd about it is passed over.
pub fn take(tx: &Tx<'_>, enrollment_id: &str, raw: &[u8]) -> Result<Taken> {
    if raw.len() > LONGEST {
        check(raw)?;
        let words = format!("A status report of {} bytes was not read; {LONGEST} are the most.", raw.len());
        error::note(tx, enrollment_id, "", &words)?;
        return Ok(Taken::default());
    }
    let report: Json = serde_json::from_slice(raw)
        .map_err(|error| Error::invalid(format!("the status report is not a JSON object: {error}")))?;
    let report =
        report.as_object().ok_or_else(|| Error::invalid("the status report is not a JSON object"))?;
    let full = report.get("FullReport").and_then(Json::as_bool).unwrap_or(false);
    let mut items = report.get("StatusItems").map(flatten).unwrap_or_default();
    let declarations = match items.remove(DECLARATIONS) {
        Some(declarations) => declared::replace(tx, enrollment_id, declarations)?,
        None => false,
    };
    let mut changed = item::merge(tx, enrollment_id, &items, full)?;
    changed.extend(declarations.then(|| DECLARATIONS.to_owned()));
    if full {
        error::forget(tx, enrollment_id)?;
    }
    if let Some(errors) = report.get("Errors").and_then(Json::as_array) {
        error::add(tx, enrollment_id, errors)?;
    }
    report::keep(tx, enrollment_id, raw)?;
    Ok(Taken { changed })
}

/// The items of a report by their dotted names. Apple nests them; an item ends where the table says, or
/// where there is no object any more.
fn flatten(items: &Json) -> BTreeMap<String, &Json> {
    let mut flat = BTreeMap::new();
    let mut next = vec![(String::new(), items)];
    while let Some((path, value)) = next.pop() {
        let is_item = !path.is_empty() && (status_item(&path).is_some() || path == DECLARATIONS);
        match value {
            Json::Object(members) if !is_item => {
                for (name, value) in members {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    if path.len() <= LONGEST_PATH {
                        next.push((path, value));
                    }
                }
            }
            _ if path.is_empty() => {}
            value => {
                if flat.len() < MOST_ITEMS {
                    flat.insert(path, value);
                }
            }
        }
    }
    flat
}

/// The value of an item by its name, which may lead into one; nothing when it is not known.
pub fn value(conn: &Connection, enrollment_id: &str, name: &str) -> Result<Option<Json>> {
    let ends = name.match_indices('.').map(|(at, _)| at).chain([name.len()]);
    for end in ends.collect::<Vec<_>>().into_iter().rev() {
        let value = match &name[..end] {
            DECLARATIONS => listed::value(conn, enrollment_id)?,
            item => item::value(conn, enrollment_id, item)?,
        };
        if let Some(value) = value {
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
