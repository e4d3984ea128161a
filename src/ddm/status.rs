//! Status reports: what devices say about their declarations and themselves.
//!
//! A report that is well-formed JSON is always taken: a device sends one that was refused again and
//! again (Apple: "StatusReport"). Reports are incremental: what one does not mention is as it was,
//! elements of arrays are known by their `identifier`, `_removed` takes one away, and a FullReport
//! replaces everything.
//!
//! A report is read before anything is written ([`Report::read`]), so that nobody waits for a long one.
//!
//! **Invariant:** a report is bounded in size, depth and count before it is kept, and touches nothing but
//! the rows of the channel that sent it.

pub mod change;
pub mod declared;
pub mod error;
pub mod item;
pub mod report;

mod listed;
mod read;
mod wellformed;

use std::collections::BTreeSet;

use rusqlite::Connection;
use serde_json::Value as Json;

use crate::clock::Seconds;
use crate::error::Result;
use crate::storage::Tx;

pub use read::Report;
pub use wellformed::check;

/// The most items of one report, and of one channel.
const MOST_ITEMS: usize = 2000;
/// The item that is about declarations.
const DECLARATIONS: &str = "management.declarations";

/// What a report was about.
#[derive(Debug, Default)]
pub struct Taken {
    /// The items whose values are others now.
    pub changed: BTreeSet<String>,
}

/// Reads a report and takes it.
///
/// # Errors
/// As [`Report::read`]; the database's.
pub fn take(tx: &Tx<'_>, enrollment_id: &str, raw: &[u8]) -> Result<Taken> {
    keep(tx, enrollment_id, &Report::read(raw.to_vec())?)
}

/// Takes a report that was read.
///
/// # Errors
/// The database's.
pub fn keep(tx: &Tx<'_>, enrollment_id: &str, report: &Report) -> Result<Taken> {
    report::keep(tx, enrollment_id, &report.raw)?;
    if report.full {
        error::forget(tx, enrollment_id)?;
    }
    let declarations = match &report.declarations {
        Some(declarations) => declared::replace(tx, enrollment_id, declarations)?,
        None => false,
    };
    let mut notes = report.notes.clone();
    let mut changed = item::merge(tx, enrollment_id, &report.items, report.full, &mut notes)?;
    changed.extend(declarations.then(|| DECLARATIONS.to_owned()));
    error::add(tx, enrollment_id, &notes, &report.errors)?;
    Ok(Taken { changed })
}

/// Whether a channel said just this a moment ago, and nothing else since: then there is nothing to write.
///
/// # Errors
/// The database's.
pub fn is_repeated(conn: &Connection, enrollment_id: &str, raw: &[u8], now: Seconds) -> Result<bool> {
    report::is_last(conn, enrollment_id, raw, now)
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
