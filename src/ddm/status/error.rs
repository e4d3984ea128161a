//! What devices could not report, and what of their reports was not kept.
//!
//! **Invariant:** of each channel no more than `MOST` are kept, the newest.

use rusqlite::{Connection, params};
use serde_json::{Value as Json, json};

use super::declared::bounded;
use crate::clock::Seconds;
use crate::error::Result;
use crate::id;
use crate::storage::Tx;

const MOST: usize = 100;
/// The remarks that one report is worth.
const MOST_NOTES: usize = 20;

/// One error of a channel.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusError {
    /// The status item; empty where it is about the whole report.
    pub item: String,
    /// A list, with the keys `Code`, `Description`, `Details`.
    pub reasons: Json,
    pub at: Seconds,
}

/// The server's own remarks on a report: item and words.
#[derive(Default)]
pub(super) struct Notes(Vec<(String, String)>);

impl Notes {
    /// Adds one, unless the report is worth no more.
    pub(super) fn add(&mut self, item: &str, words: &str) {
        if self.0.len() < MOST_NOTES {
            self.0.push((item.to_owned(), words.to_owned()));
        }
    }
}

/// Takes the `Errors` of a report, and the remarks on it.
pub(super) fn add(tx: &Tx<'_>, enrollment_id: &str, errors: &[Json], notes: &Notes) -> Result<()> {
    for error in errors.iter().rev().take(MOST).rev() {
        let Some(item) = error["StatusItem"].as_str() else { continue };
        let reasons = error["Reasons"].as_array().map(Vec::as_slice).unwrap_or_default();
        insert(tx, enrollment_id, &id::printable(item), &bounded(reasons))?;
    }
    for (item, words) in &notes.0 {
        let reasons = json!([{"Code": "Russet.NotKept", "Description": words}]);
        insert(tx, enrollment_id, item, &reasons.to_string())?;
    }
    if errors.is_empty() && notes.0.is_empty() {
        return Ok(());
    }
    tx.prepare_cached(
        "DELETE FROM status_errors WHERE id IN (
             SELECT id FROM status_errors WHERE enrollment_id = ?1 ORDER BY id DESC LIMIT -1 OFFSET ?2)",
    )?
    .execute(params![enrollment_id, i64::try_from(MOST).unwrap_or(i64::MAX)])?;
    Ok(())
}

/// The same again only makes the earlier one newer.
fn insert(tx: &Tx<'_>, enrollment_id: &str, item: &str, reasons: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM status_errors WHERE enrollment_id = ?1 AND item = ?2 AND reasons = ?3")?
        .execute([enrollment_id, item, reasons])?;
    tx.prepare_cached(
        "INSERT INTO status_errors (enrollment_id, item, reasons, at) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute(params![enrollment_id, item, reasons, tx.now()])?;
    Ok(())
}

/// The errors of a channel, newest first.
pub fn errors(conn: &Connection, enrollment_id: &str) -> Result<Vec<StatusError>> {
    let mut statement = conn.prepare_cached(
        "SELECT item, reasons, at FROM status_errors WHERE enrollment_id = ?1 ORDER BY id DESC",
    )?;
    let errors = statement.query_map([enrollment_id], |row| {
        let reasons = serde_json::from_str(row.get_ref(1)?.as_str()?).unwrap_or_default();
        Ok(StatusError { item: row.get(0)?, reasons, at: row.get(2)? })
    })?;
    Ok(errors.collect::<Result<_, _>>()?)
}

pub(super) fn forget(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM status_errors WHERE enrollment_id = ?1")?.execute([enrollment_id])?;
    Ok(())
}
