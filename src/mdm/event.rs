//! What devices did that a person may want to know of, a sentence each.
//!
//! Written in the transaction of what happened, so that neither exists without the other. Where there
//! is a webhook, its outbox is given each of them in the same transaction.

use rusqlite::{Connection, Row, params};
use serde::Serialize;

use super::outbox;
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
    let words = id::printable(words);
    tx.prepare_cached("INSERT INTO events (at, kind, enrollment_id, words) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![tx.now(), kind, enrollment_id, words])?;
    tx.happened();
    outbox::event(tx, tx.last_insert_rowid(), kind, enrollment_id, &words)
}

/// Which events are wanted; what is none excludes nothing.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub kind: Option<String>,
    pub enrollment_id: Option<String>,
    /// Not before, and before.
    pub since: Option<Seconds>,
    pub until: Option<Seconds>,
}

/// Events newest first, `limit` and one more, that are older than the one with the id `before`.
pub fn list(conn: &Connection, wanted: &Wanted, before: Option<i64>, limit: u32) -> Result<Vec<Event>> {
    let order = "AND (?5 IS NULL OR id < ?5) ORDER BY id DESC LIMIT ?6";
    select(conn, wanted, order, before, limit.saturating_add(1))
}

/// Events oldest first, at most `limit`, that are younger than the one with the id `after`.
pub fn after(conn: &Connection, wanted: &Wanted, after: i64, limit: u32) -> Result<Vec<Event>> {
    select(conn, wanted, "AND id > ?5 ORDER BY id LIMIT ?6", Some(after), limit)
}

/// The id of the newest event; 0 while there is none.
pub fn last(conn: &Connection) -> Result<i64> {
    Ok(conn.query_row("SELECT IFNULL(MAX(id), 0) FROM events", [], |row| row.get(0))?)
}

fn select(
    conn: &Connection,
    wanted: &Wanted,
    order: &str,
    place: Option<i64>,
    limit: u32,
) -> Result<Vec<Event>> {
    // The index of an enrollment's events is used only where the question names one.
    let of = if wanted.enrollment_id.is_some() { "enrollment_id = ?1" } else { "?1 IS NULL" };
    let mut statement = conn.prepare_cached(&format!(
        "SELECT id, at, kind, enrollment_id, words FROM events
         WHERE {of} AND (?2 IS NULL OR kind = ?2) AND (?3 IS NULL OR at >= ?3) AND (?4 IS NULL OR at < ?4) {order}"
    ))?;
    let Wanted { kind, enrollment_id, since, until } = wanted;
    let events = statement.query_map(params![enrollment_id, kind, since, until, place, limit], read)?;
    Ok(events.collect::<Result<_, _>>()?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Event> {
    Ok(Event {
        id: row.get(0)?,
        at: row.get(1)?,
        kind: row.get(2)?,
        enrollment_id: row.get(3)?,
        words: row.get(4)?,
    })
}

/// Events older than `before`, but the latest of each kind of each enrollment.
pub fn outlived(conn: &Connection, before: Seconds) -> Result<Vec<i64>> {
    let mut statement = conn.prepare_cached(
        "SELECT old.id FROM events AS old
         WHERE old.at < ?1
           AND EXISTS (SELECT 1 FROM events AS newer
                       WHERE newer.enrollment_id IS old.enrollment_id
                         AND newer.kind = old.kind AND newer.id > old.id)",
    )?;
    Ok(statement.query_map([before], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Removes these events.
pub fn remove(tx: &Tx<'_>, ids: &[i64]) -> Result<()> {
    let mut statement = tx.prepare_cached("DELETE FROM events WHERE id = ?1")?;
    ids.iter().try_for_each(|id| Ok(statement.execute([id]).map(drop)?))
}

/// The newest events of one enrollment or of all, newest first.
pub fn newest(conn: &Connection, enrollment_id: Option<&str>, limit: u32) -> Result<Vec<Event>> {
    let mut statement = conn.prepare_cached(
        "SELECT id, at, kind, enrollment_id, words FROM events
         WHERE ?1 IS NULL OR enrollment_id = ?1
         ORDER BY id DESC LIMIT ?2",
    )?;
    let events = statement.query_map(params![enrollment_id, limit], read)?;
    Ok(events.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::tests::temporary;

    #[tokio::test]
    async fn the_latest_of_each_kind_of_each_device_is_kept() {
        let (_folder, store) = temporary();
        let left = store
            .write("test.events", |tx| {
                for (kind, of) in
                    [("a", Some("A")), ("a", Some("A")), ("b", Some("A")), ("a", None), ("a", None)]
                {
                    record(tx, kind, of, "words")?;
                }
                assert!(outlived(tx, tx.now())?.is_empty(), "nothing is old enough");
                remove(tx, &outlived(tx, tx.now() + 1)?)?;
                newest(tx, None, 10)
            })
            .await
            .unwrap();
        let left: Vec<_> = left.iter().rev().map(|event| (event.id, event.kind.as_str())).collect();
        assert_eq!(left, [(2, "a"), (3, "b"), (5, "a")]);
    }
}
