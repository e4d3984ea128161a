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
/// The server's own remarks on one report; the rest are counted.
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

/// An error that is to be kept: the item, and its reasons as JSON.
pub(super) type Note = (String, String);

/// Reads the `Errors` of a report, the last of them.
pub(super) fn read(errors: &[Json]) -> Vec<Note> {
    let said = errors.iter().rev().take(MOST).rev().filter_map(|error| {
        let reasons = error["Reasons"].as_array().map(Vec::as_slice).unwrap_or_default();
        Some((id::printable(error["StatusItem"].as_str()?), bounded(reasons)))
    });
    said.collect()
}

/// The server's own remark on a report.
pub(super) fn not_kept(item: &str, words: &str) -> Note {
    (item.to_owned(), json!([{"Code": "Russet.NotKept", "Description": words}]).to_string())
}

/// Takes what was remarked on a report, and what the device said.
pub(super) fn add(tx: &Tx<'_>, enrollment_id: &str, notes: &[Note], errors: &[Note]) -> Result<()> {
    let rest = notes.len().saturating_sub(MOST_NOTES);
    let rest = (rest > 0).then(|| not_kept("", &format!("{rest} more items of a report were not kept.")));
    let all: Vec<&Note> = notes.iter().take(MOST_NOTES).chain(&rest).chain(errors).collect();
    for (item, reasons) in &all {
        insert(tx, enrollment_id, item, reasons)?;
    }
    if all.is_empty() { Ok(()) } else { trim(tx, enrollment_id) }
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

fn trim(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    tx.prepare_cached(
        "DELETE FROM status_errors WHERE id IN (
             SELECT id FROM status_errors WHERE enrollment_id = ?1 ORDER BY id DESC LIMIT -1 OFFSET ?2)",
    )?
    .execute(params![enrollment_id, i64::try_from(MOST).unwrap_or(i64::MAX)])?;
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

/// Removes errors from before this time, but the latest of each item; answers how many.
pub fn thin(tx: &Tx<'_>, before: Seconds, limit: u32) -> Result<usize> {
    Ok(tx
        .prepare_cached(
            "DELETE FROM status_errors WHERE id IN (
                 SELECT old.id FROM status_errors AS old
                 WHERE old.at < ?1
                   AND EXISTS (SELECT 1 FROM status_errors AS newer
                               WHERE newer.enrollment_id = old.enrollment_id
                                 AND newer.item = old.item AND newer.id > old.id)
                 LIMIT ?2)",
        )?
        .execute(params![before, limit])?)
}

pub(super) fn forget(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM status_errors WHERE enrollment_id = ?1")?.execute([enrollment_id])?;
    Ok(())
}
