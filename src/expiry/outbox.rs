//! Mail that waits to be sent: table `outbox_mail`, of which this file is the owner.
//!
//! Whoever has something to say writes it in the transaction of what happened; [`round`] sends it, and
//! tries again for days. A row that was sent or given up stays for a while, to be shown.
//!
//! **Invariant:** a mail is sent at least once or given up with an event, and the table is bounded.

use rusqlite::{Connection, OptionalExtension, params};

use super::Expiry;
use crate::clock::{DAY, HOUR, MINUTE, Seconds};
use crate::error::Result;
use crate::mdm::event;
use crate::storage::Tx;

/// The pauses after each failure; then it is given up.
const PAUSES: [Seconds; 12] =
    [MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 4 * HOUR, 8 * HOUR, 12 * HOUR, DAY, DAY, DAY, DAY, DAY];
/// So many may wait; the oldest gives way.
const MOST_WAITING: i64 = 200;
/// How long what became of a mail is kept.
const KEPT: Seconds = 90 * DAY;

/// The newest trouble with mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub subject: String,
    pub answer: String,
    pub attempts: i64,
    /// None: it was given up.
    pub due_at: Option<Seconds>,
}

/// Writes a mail down to be sent after the commit.
///
/// # Errors
/// The database's.
pub fn enqueue(tx: &Tx<'_>, subject: &str, body: &str) -> Result<()> {
    let now = tx.now();
    tx.prepare_cached("DELETE FROM outbox_mail WHERE due_at IS NULL AND queued_at < ?1")?
        .execute([now - KEPT])?;
    tx.prepare_cached(
        "UPDATE outbox_mail SET due_at = NULL, answer = 'Too much mail waited; this gave way to newer.'
         WHERE id IN (SELECT id FROM outbox_mail WHERE due_at IS NOT NULL ORDER BY id DESC LIMIT -1 OFFSET ?1)",
    )?
    .execute([MOST_WAITING - 1])?;
    tx.prepare_cached("INSERT INTO outbox_mail (subject, body, queued_at, due_at) VALUES (?1, ?2, ?3, ?3)")?
        .execute(params![subject, body, now])?;
    Ok(())
}

struct Waiting {
    id: i64,
    subject: String,
    body: String,
    attempts: usize,
}

fn next(conn: &Connection, after: i64, now: Seconds) -> Result<Option<Waiting>> {
    Ok(conn
        .prepare_cached(
            "SELECT id, subject, body, attempts FROM outbox_mail
             WHERE due_at <= ?1 AND id > ?2 ORDER BY id LIMIT 1",
        )?
        .query_row(params![now, after], |row| {
            Ok(Waiting {
                id: row.get(0)?,
                subject: row.get(1)?,
                body: row.get(2)?,
                attempts: usize::try_from(row.get::<_, i64>(3)?).unwrap_or(usize::MAX),
            })
        })
        .optional()?)
}

/// Sends what is due, each once; a background task's. Answers how many were sent.
///
/// # Errors
/// The database's; that of the mail server is written down and tried again.
pub async fn round(expiry: &Expiry) -> Result<usize> {
    let Some(mailer) = &expiry.0.mailer else { return Ok(0) };
    let store = &expiry.0.store;
    let _sending = expiry.0.sending.lock().await;
    let (mut last, mut sent) = (0, 0);
    loop {
        let now = store.clock().now();
        let Some(waiting) = store.peek(|conn| next(conn, last, now))? else { return Ok(sent) };
        last = waiting.id;
        let done = mailer.send(&waiting.subject, &waiting.body, now).await;
        if let Err(not) = &done {
            tracing::warn!(answer = not.words, "a mail was not sent; it is tried again");
        }
        sent += usize::from(done.is_ok());
        let failed = done.is_err();
        store.write("mail.sent", move |tx| settle(tx, &waiting, done.map_err(|not| not.words))).await?;
        if failed {
            // The server that refused one has no time for the others now.
            return Ok(sent);
        }
    }
}

fn settle(tx: &Tx<'_>, waiting: &Waiting, done: Result<String, String>) -> Result<()> {
    let now = tx.now();
    let (answer, sent_at, due_at) = match done {
        Ok(answer) => (answer, Some(now), None),
        Err(words) => (words, None, PAUSES.get(waiting.attempts).map(|pause| now + pause)),
    };
    tx.prepare_cached(
        "UPDATE outbox_mail SET attempts = attempts + 1, answer = ?2, sent_at = ?3, due_at = ?4 WHERE id = ?1",
    )?
    .execute(params![waiting.id, answer, sent_at, due_at])?;
    if sent_at.is_none() && due_at.is_none() {
        let words = format!("A mail was given up after {} tries: {answer}", waiting.attempts + 1);
        event::record(tx, "mail-given-up", None, &words)?;
    }
    Ok(())
}

/// The trouble with the newest mail that was tried, if it is not sent.
pub(super) fn trouble(conn: &Connection) -> Result<Option<Trouble>> {
    let newest = conn
        .prepare_cached(
            "SELECT subject, answer, attempts, due_at, sent_at FROM outbox_mail
             WHERE attempts > 0 ORDER BY id DESC LIMIT 1",
        )?
        .query_row([], |row| {
            let trouble = Trouble {
                subject: row.get(0)?,
                answer: row.get::<_, Option<String>>(1)?.unwrap_or_default(),
                attempts: row.get(2)?,
                due_at: row.get(3)?,
            };
            Ok((trouble, row.get::<_, Option<Seconds>>(4)?))
        })
        .optional()?;
    Ok(newest.filter(|(_, sent_at)| sent_at.is_none()).map(|(trouble, _)| trouble))
}
