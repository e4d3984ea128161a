//! The last reports of each channel as they came, for whoever has to see what a device really said.
//!
//! **Invariant:** no more than [`MOST`] of a channel are kept, and none that is longer than [`LONGEST`].

use rusqlite::{Connection, params};

use crate::clock::Seconds;
use crate::error::Result;
use crate::storage::Tx;

pub const MOST: u32 = 10;
pub const LONGEST: usize = 256 * 1024;

pub(super) fn keep(tx: &Tx<'_>, enrollment_id: &str, report: &[u8]) -> Result<()> {
    if report.len() > LONGEST {
        return Ok(());
    }
    tx.prepare_cached("INSERT INTO status_reports (enrollment_id, report, reported_at) VALUES (?1, ?2, ?3)")?
        .execute(params![enrollment_id, report, tx.now()])?;
    tx.prepare_cached(
        "DELETE FROM status_reports WHERE id IN (
             SELECT id FROM status_reports WHERE enrollment_id = ?1 ORDER BY id DESC LIMIT -1 OFFSET ?2)",
    )?
    .execute(params![enrollment_id, MOST])?;
    Ok(())
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
