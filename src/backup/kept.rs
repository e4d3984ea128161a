//! How the last backups ended: table `backups`, of which this file is the owner.
//!
//! `mod.rs` writes a row for each attempt; the list, the findings and the schedule read them.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::directory::Listed;
use super::make::Made;
use super::{FIRST_PAUSE, LONGEST_PAUSE};
use crate::clock::Seconds;
use crate::error::Result;
use crate::storage::Tx;

/// How many attempts are remembered.
const KEPT: i64 = 200;

/// An attempt to make a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The file; empty when there was none.
    pub name: String,
    /// When it ended.
    pub at: Seconds,
    pub size: u64,
    pub verified: bool,
    pub milliseconds: u64,
    /// Why there is no backup.
    pub error: Option<String>,
}

impl Attempt {
    pub(super) fn success(made: &Made) -> Self {
        Self {
            name: made.name.clone(),
            at: made.made_at,
            size: made.size,
            verified: made.verified,
            milliseconds: made.milliseconds,
            error: None,
        }
    }

    pub(super) fn failure(words: String) -> Self {
        Self { name: String::new(), at: 0, size: 0, verified: false, milliseconds: 0, error: Some(words) }
    }
}

pub(super) fn note(tx: &Tx<'_>, attempt: &Attempt) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO backups (name, at, size, verified, milliseconds, error) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        attempt.name,
        tx.now(),
        attempt.size.cast_signed(),
        attempt.verified,
        attempt.milliseconds.cast_signed(),
        attempt.error,
    ])?;
    // The last good one is remembered however many failed since.
    tx.prepare_cached(
        "DELETE FROM backups WHERE id <= (SELECT MAX(id) FROM backups) - ?1
           AND id <> (SELECT IFNULL(MAX(id), 0) FROM backups WHERE error IS NULL)",
    )?
    .execute([KEPT])?;
    Ok(())
}

/// The last attempt.
pub(super) fn newest(conn: &Connection) -> Result<Option<Attempt>> {
    one(conn, "ORDER BY id DESC LIMIT 1")
}

/// The last that was made.
///
/// # Errors
/// The database's.
pub fn last_success(conn: &Connection) -> Result<Option<Attempt>> {
    one(conn, "WHERE error IS NULL ORDER BY id DESC LIMIT 1")
}

/// Whether the next is to be made: the last is old enough, and what failed since had its pause.
pub(super) fn is_due(conn: &Connection, now: Seconds, every: Seconds) -> Result<bool> {
    let good = last_success(conn)?;
    // A clock that was set back must not put backups off for years.
    let is_old = good.as_ref().is_none_or(|good| now >= good.at + every || now < good.at);
    let since = good.map_or(0, |good| good.at);
    let (failures, last): (u32, Option<Seconds>) = conn
        .prepare_cached(
            "SELECT COUNT(*), MAX(at) FROM backups
             WHERE error IS NOT NULL AND id > (SELECT IFNULL(MAX(id), 0) FROM backups WHERE error IS NULL)",
        )?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let pause =
        FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST_PAUSE).min(every);
    let had_its_pause = last.is_none_or(|last| now >= last + pause || now < last);
    Ok(is_old && since <= now.max(since) && had_its_pause)
}

/// Which files of the list were opened again when they were made.
pub(super) fn verified(conn: &Connection, mut found: Vec<Listed>) -> Result<Vec<Listed>> {
    let mut query = conn.prepare_cached(
        "SELECT verified FROM backups WHERE name = ?1 AND error IS NULL ORDER BY id DESC LIMIT 1",
    )?;
    for listed in &mut found {
        listed.verified = query.query_row([&listed.name], |row| row.get(0)).optional()?.unwrap_or(false);
    }
    Ok(found)
}

fn one(conn: &Connection, rest: &str) -> Result<Option<Attempt>> {
    let sql = format!("SELECT name, at, size, verified, milliseconds, error FROM backups {rest}");
    Ok(conn.prepare_cached(&sql)?.query_row([], read).optional()?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Attempt> {
    Ok(Attempt {
        name: row.get(0)?,
        at: row.get(1)?,
        size: row.get::<_, i64>(2)?.cast_unsigned(),
        verified: row.get(3)?,
        milliseconds: row.get::<_, i64>(4)?.cast_unsigned(),
        error: row.get(5)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{DAY, EARLIEST_SANE, HOUR, MINUTE};
    use crate::storage::{Store, tests::temporary};

    async fn noted(store: &Store, error: Option<&str>) {
        let attempt = Attempt {
            name: "russet-a-20260101T000000Z.backup".into(),
            at: 0,
            size: 7,
            verified: true,
            milliseconds: 1,
            error: error.map(str::to_owned),
        };
        store.write("test", move |tx| note(tx, &attempt)).await.unwrap();
    }

    #[tokio::test]
    async fn a_backup_is_due_after_its_time_and_a_failed_one_after_a_growing_pause() {
        let (_folder, store) = temporary();
        let due = |now| store.peek(|conn| is_due(conn, now, DAY)).unwrap();
        assert!(due(EARLIEST_SANE), "there is none yet");
        noted(&store, None).await;
        assert!(!due(EARLIEST_SANE + DAY - 1) && due(EARLIEST_SANE + DAY));
        assert!(due(EARLIEST_SANE - 1), "the clock was set back");
        store.clock().advance(DAY);
        for pause in [15, 30, 60, 120, 240, 240] {
            noted(&store, Some("no stick")).await;
            let now = store.clock().now();
            assert!(!due(now + pause * MINUTE - 1) && due(now + pause * MINUTE), "{pause}");
        }
        let newest = store.peek(newest).unwrap().unwrap();
        assert_eq!(newest.error.as_deref(), Some("no stick"));
        assert_eq!(store.peek(last_success).unwrap().unwrap().at, EARLIEST_SANE);
        noted(&store, None).await;
        assert!(!due(store.clock().now() + HOUR));
    }

    #[tokio::test]
    async fn the_last_good_one_is_remembered_however_many_failed() {
        let (_folder, store) = temporary();
        noted(&store, None).await;
        for _ in 0..KEPT + 20 {
            noted(&store, Some("full")).await;
        }
        assert!(store.peek(last_success).unwrap().is_some());
        let rows: i64 = store
            .peek(|conn| Ok(conn.query_row("SELECT COUNT(*) FROM backups", [], |row| row.get(0))?))
            .unwrap();
        assert_eq!(rows, KEPT + 1);
    }
}
