//! The last reports of each channel as they came, for whoever has to see what a device really said.
//!
//! Of one that is too long only that it came is kept, so that the last is always the last.
//!
//! **Invariant:** no more than [`MOST`] of a channel are kept, and none that is longer than [`LONGEST`].

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::json;

use crate::clock::{HOUR, Seconds};
use crate::error::Result;
use crate::storage::Tx;

pub const MOST: u32 = 10;
pub const LONGEST: usize = 256 * 1024;

pub(super) fn keep(tx: &Tx<'_>, enrollment_id: &str, report: &[u8]) -> Result<()> {
    let instead = (report.len() > LONGEST).then(|| {
        let words =
            format!("A report of {} bytes is not shown; {LONGEST} are the most that is kept.", report.len());
        json!({"RussetNotKept": words}).to_string().into_bytes()
    });
    let report = instead.as_deref().unwrap_or(report);
    tx.prepare_cached("INSERT INTO status_reports (enrollment_id, report, reported_at) VALUES (?1, ?2, ?3)")?
        .execute(params![enrollment_id, report, tx.now()])?;
    tx.prepare_cached(
        "DELETE FROM status_reports WHERE id IN (
             SELECT id FROM status_reports WHERE enrollment_id = ?1 ORDER BY id DESC LIMIT -1 OFFSET ?2)",
    )?
    .execute(params![enrollment_id, MOST])?;
    Ok(())
}

/// Whether a channel's last report was this one, within the hour: to take it again would change nothing but
/// its time.
pub(super) fn is_last(conn: &Connection, enrollment_id: &str, report: &[u8], now: Seconds) -> Result<bool> {
    let last = conn
        .prepare_cached(
            "SELECT reported_at, report = ?2 FROM status_reports WHERE enrollment_id = ?1
             ORDER BY id DESC LIMIT 1",
        )?
        .query_row(params![enrollment_id, report], |row| Ok((row.get::<_, Seconds>(0)?, row.get(1)?)))
        .optional()?;
    Ok(last.is_some_and(|(at, same): (Seconds, bool)| same && (at..at + HOUR).contains(&now)))
}

/// Removes reports from before this time, but the last of each channel; answers how many.
pub fn thin(tx: &Tx<'_>, before: Seconds, limit: u32) -> Result<usize> {
    Ok(tx
        .prepare_cached(
            "DELETE FROM status_reports WHERE id IN (
                 SELECT old.id FROM status_reports AS old
                 WHERE old.reported_at < ?1
                   AND EXISTS (SELECT 1 FROM status_reports AS newer
                               WHERE newer.enrollment_id = old.enrollment_id AND newer.id > old.id)
                 LIMIT ?2)",
        )?
        .execute(params![before, limit])?)
}

/// The last reports of a channel, newest first, with their times.
pub fn reports(conn: &Connection, enrollment_id: &str) -> Result<Vec<(Seconds, Vec<u8>)>> {
    let mut statement = conn.prepare_cached(
        "SELECT reported_at, report FROM status_reports WHERE enrollment_id = ?1 ORDER BY id DESC",
    )?;
    let reports = statement.query_map([enrollment_id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(reports.collect::<Result<_, _>>()?)
}

/// When a channel reported last.
pub fn last(conn: &Connection, enrollment_id: &str) -> Result<Option<Seconds>> {
    Ok(conn
        .prepare_cached("SELECT MAX(reported_at) FROM status_reports WHERE enrollment_id = ?1")?
        .query_row([enrollment_id], |row| row.get(0))?)
}

pub(super) fn forget(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM status_reports WHERE enrollment_id = ?1")?.execute([enrollment_id])?;
    Ok(())
}
