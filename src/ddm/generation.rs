//! Generations: a number that each edit makes larger.
//!
//! An edit writes this one row and no other of any device; each channel's row in `syncs` says of which
//! generation it is, so everybody sees by one look whether it has to be computed anew. A hundred edits
//! together cost one computation.
//!
//! **Invariant:** what devices should have changes only together with the generation.

use rusqlite::Connection;

use crate::error::Result;
use crate::storage::Tx;

/// Where the edits stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    pub generation: i64,
    /// The last that devices are woken for.
    pub notify: i64,
    /// Tells an edit from one that was rolled back and counted the same.
    stamp: i64,
}

/// Where the edits stand now.
pub fn now(conn: &Connection) -> Result<Generation> {
    Ok(conn
        .prepare_cached("SELECT generation, notify_generation, stamp FROM generations")?
        .query_row([], |row| {
            Ok(Generation { generation: row.get(0)?, notify: row.get(1)?, stamp: row.get(2)? })
        })?)
}

/// Something was edited. Without `notify` devices learn of it at their next contact; with it those are
/// woken too whom earlier edits concerned that did not notify.
pub fn advance(tx: &Tx<'_>, notify: bool) -> Result<()> {
    tx.prepare_cached(
        "UPDATE generations SET generation = generation + 1, stamp = random(),
             notify_generation = CASE WHEN ?1 THEN generation + 1 ELSE notify_generation END",
    )?
    .execute([notify])?;
    tx.wake();
    Ok(())
}

/// Writes what stands there already: whether anything can be written at all.
///
/// # Errors
/// The database's.
pub fn probe(tx: &Tx<'_>) -> Result<()> {
    tx.prepare_cached("UPDATE generations SET stamp = stamp")?.execute([])?;
    Ok(())
}

/// The payload of `management.organization-info`, as JSON.
pub(super) fn organization(conn: &Connection) -> Result<String> {
    Ok(conn.prepare_cached("SELECT organization FROM generations")?.query_row([], |row| row.get(0))?)
}

pub(super) fn set_organization(tx: &Tx<'_>, payload: &str) -> Result<()> {
    tx.prepare_cached("UPDATE generations SET organization = ?1")?.execute([payload])?;
    Ok(())
}
