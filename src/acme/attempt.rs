//! How the conversations with the CA ended, and how long the next one waits: table `acme_attempts`.
//!
//! **Invariant:** after the n-th failure in a row it waits twice as long as after the one before, up to
//! half a day: public CAs lock out who fails more than five times an hour.

use rusqlite::{Connection, params};

use crate::clock::{HOUR, MINUTE, Seconds};
use crate::error::Result;
use crate::storage::Tx;

/// The pause after the first failure.
const FIRST_PAUSE: Seconds = 15 * MINUTE;
const LONGEST_PAUSE: Seconds = 12 * HOUR;
/// How many are remembered.
const KEPT: i64 = 100;

/// One conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub at: Seconds,
    /// A sentence: what was issued, or why nothing was.
    pub words: String,
    pub failed: bool,
    /// When it is tried again; after a success, when it is renewed.
    pub next_at: Seconds,
}

/// Keeps how one ended. `failures` is none after a success, else how many failed in a row before it.
pub(super) fn note(
    tx: &Tx<'_>,
    host: &str,
    words: &str,
    failures: Option<u32>,
    next_at: Seconds,
) -> Result<()> {
    let next_at = failures.map_or(next_at, |failures| tx.now() + pause_after(failures));
    tx.prepare_cached(
        "INSERT INTO acme_attempts (at, host, words, failed, next_at) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![tx.now(), host, words, failures.is_some(), next_at])?;
    tx.prepare_cached("DELETE FROM acme_attempts WHERE id <= (SELECT MAX(id) FROM acme_attempts) - ?1")?
        .execute([KEPT])?;
    Ok(())
}

fn pause_after(failures: u32) -> Seconds {
    FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE)
}

/// How many failed since the last success.
pub(super) fn failures_in_a_row(conn: &Connection, host: &str) -> Result<u32> {
    Ok(conn
        .prepare_cached(
            "SELECT COUNT(*) FROM acme_attempts WHERE host = ?1 AND failed = 1
               AND id > (SELECT IFNULL(MAX(id), 0) FROM acme_attempts WHERE host = ?1 AND failed = 0)",
        )?
        .query_row([host], |row| row.get(0))?)
}

/// All that are remembered of a host, newest first.
pub(super) fn newest(conn: &Connection, host: &str) -> Result<Vec<Attempt>> {
    let mut statement = conn.prepare_cached(
        "SELECT at, words, failed, next_at FROM acme_attempts WHERE host = ?1 ORDER BY id DESC",
    )?;
    let attempts = statement.query_map([host], |row| {
        Ok(Attempt { at: row.get(0)?, words: row.get(1)?, failed: row.get(2)?, next_at: row.get(3)? })
    })?;
    Ok(attempts.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::tests::temporary;

    #[tokio::test]
    async fn each_failure_in_a_row_doubles_the_pause_and_a_success_ends_the_row() {
        let (_folder, store) = temporary();
        let pauses = store
            .write("test.attempts", |tx| {
                let mut pauses = Vec::new();
                for _ in 0..8 {
                    let failures = failures_in_a_row(tx, "a.example")?;
                    note(tx, "a.example", "No.", Some(failures), 0)?;
                    pauses.push(newest(tx, "a.example")?[0].next_at - tx.now());
                }
                assert_eq!(failures_in_a_row(tx, "b.example")?, 0);
                note(tx, "a.example", "Yes.", None, tx.now() + 5)?;
                assert_eq!(failures_in_a_row(tx, "a.example")?, 0);
                Ok(pauses)
            })
            .await
            .unwrap();
        let minutes: Vec<_> = pauses.iter().map(|pause| pause / MINUTE).collect();
        assert_eq!(minutes, [15, 30, 60, 120, 240, 480, 720, 720]);
    }
}
