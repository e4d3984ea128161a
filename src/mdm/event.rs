//! What devices did that a person may want to know of, a sentence each.
//!
//! Written in the transaction of what happened, so that neither exists without the other.

use rusqlite::{Connection, params};
use serde::Serialize;

use crate::clock::Seconds;
use crate::error::Result;
use crate::id;
use crate::storage::Tx;

/// One event.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    pub id: i64,
    pub at: Seconds,
    pub kind: String,
    pub enrollment_id: Option<String>,
    pub words: String,
}

/// Records an event. What a device said of itself may stand in `words`: it is made printable.
pub fn record(tx: &Tx<'_>, kind: &'static str, enrollment_id: Option<&str>, words: &str) -> Result<()> {
    tx.prepare_cached("INSERT INTO events (at, kind, enrollment_id, words) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![tx.now(), kind, enrollment_id, id::printable(words)])?;
    Ok(())
}

/// Removes events older than `before`.
pub fn thin(tx: &Tx<'_>, before: Seconds) -> Result<()> {
    tx.prepare_cached("DELETE FROM events WHERE at < ?1")?.execute([before])?;
    Ok(())
}

/// The newest events of one enrollment or of all, newest first.
pub fn newest(conn: &Connection, enrollment_id: Option<&str>, limit: u32) -> Result<Vec<Event>> {
    let mut statement = conn.prepare_cached(
        "SELECT id, at, kind, enrollment_id, words FROM events
         WHERE ?1 IS NULL OR enrollment_id = ?1
         ORDER BY id DESC LIMIT ?2",
    )?;
    let events = statement.query_map(params![enrollment_id, limit], |row| {
        Ok(Event {
            id: row.get(0)?,
            at: row.get(1)?,
            kind: row.get(2)?,
            enrollment_id: row.get(3)?,
            words: row.get(4)?,
        })
    })?;
    Ok(events.collect::<Result<_, _>>()?)
}
