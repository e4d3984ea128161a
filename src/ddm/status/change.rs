//! What became of the values that people watch: which version when, since when FileVault is on.
//!
//! **Invariant:** of each item of a channel no more than `MOST` changes are kept, and of none a value that
//! is longer than [`LARGEST`].

use rusqlite::{Connection, params};
use serde_json::Value as Json;

use crate::clock::Seconds;
use crate::error::Result;
use crate::storage::Tx;

/// The items whose history is kept.
pub const WATCHED: [&str; 15] = [
    "device.operating-system.version",
    "device.operating-system.build-version",
    "device.operating-system.supplemental.build-version",
    "device.operating-system.supplemental.extra-version",
    "device.power.battery-health",
    "device.system.health",
    "diskmanagement.filevault.enabled",
    "passcode.is-compliant",
    "passcode.is-present",
    "security.lockdown-mode",
    "softwareupdate.beta-enrollment",
    "softwareupdate.failure-reason",
    "softwareupdate.install-reason",
    "softwareupdate.install-state",
    "softwareupdate.pending-version",
];
const MOST: u32 = 100;
/// The largest value of which the history is kept, as JSON. Those that people watch are a few words long.
pub const LARGEST: usize = 1024;

/// A change of an item.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub path: String,
    /// What it became; nothing when it is no longer reported, or was too large.
    pub value: Option<Json>,
    /// The bytes of a value that was too large.
    pub size: Option<u64>,
    pub at: Seconds,
}

/// An item became this, or is no longer reported.
pub(super) fn note(tx: &Tx<'_>, enrollment_id: &str, path: &str, value: Option<&str>) -> Result<()> {
    if !WATCHED.contains(&path) {
        return Ok(());
    }
    let large = value.map(str::len).filter(|size| *size > LARGEST);
    let size = large.map(|size| i64::try_from(size).unwrap_or(i64::MAX));
    tx.prepare_cached(
        "INSERT INTO status_changes (enrollment_id, path, value, size, at) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![enrollment_id, path, value.filter(|_| size.is_none()), size, tx.now()])?;
    tx.prepare_cached(
        "DELETE FROM status_changes WHERE id IN (
             SELECT id FROM status_changes WHERE enrollment_id = ?1 AND path = ?2
             ORDER BY id DESC LIMIT -1 OFFSET ?3)",
    )?
    .execute(params![enrollment_id, path, MOST])?;
    Ok(())
}

/// The changes of a channel's items, newest first.
pub fn changes(conn: &Connection, enrollment_id: &str, limit: u32) -> Result<Vec<Change>> {
    let mut statement = conn.prepare_cached(
        "SELECT path, value, size, at FROM status_changes WHERE enrollment_id = ?1 ORDER BY id DESC LIMIT ?2",
    )?;
    let changes = statement.query_map(params![enrollment_id, limit], |row| {
        let text: Option<String> = row.get(1)?;
        let value = text.and_then(|text| serde_json::from_str(&text).ok());
        let size: Option<i64> = row.get(2)?;
        Ok(Change { path: row.get(0)?, value, size: size.map(i64::unsigned_abs), at: row.get(3)? })
    })?;
    Ok(changes.collect::<Result<_, _>>()?)
}

/// Removes changes from before this time, but the latest of each item; answers how many.
pub fn thin(tx: &Tx<'_>, before: Seconds, limit: u32) -> Result<usize> {
    Ok(tx
        .prepare_cached(
            "DELETE FROM status_changes WHERE id IN (
                 SELECT old.id FROM status_changes AS old
                 WHERE old.at < ?1
                   AND EXISTS (SELECT 1 FROM status_changes AS newer
                               WHERE newer.enrollment_id = old.enrollment_id
                                 AND newer.path = old.path AND newer.id > old.id)
                 LIMIT ?2)",
        )?
        .execute(params![before, limit])?)
}

/// Removes the history of a channel.
pub(in crate::ddm) fn forget(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM status_changes WHERE enrollment_id = ?1")?.execute([enrollment_id])?;
    Ok(())
}
