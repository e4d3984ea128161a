//! The queue: what waits for each channel, what was handed out, what came back.
//!
//! Order is priority, then arrival. Delivery is at least once: what was handed out and not answered
//! is handed out again. A NotNow is not repeated before the device's next Idle (or a while later,
//! since a device forgets what it refused); a command that a device never answers goes behind the
//! others. See Apple's "Sending MDM commands" and "Handling NotNow status responses".
//!
//! **Invariant:** the first final answer of a command stands; reports that are repeated, unknown or
//! somebody else's change nothing.

mod report;

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, params};

use crate::clock::{self, MINUTE, Seconds};
use crate::error::{Error, Result};
use crate::pki::seal::Seal;
use crate::storage::Tx;

pub use report::{Report, Status};

/// A command that was refused with NotNow is offered again after this, even without an Idle.
const NOT_NOW_PAUSE: Seconds = 10 * MINUTE;
/// A command handed out so often without any answer goes behind the others.
const STUCK: u32 = 3;

/// The longest answer to a command of the server's own that is kept: how often there is one may be the
/// device's doing.
const LONGEST_TO_SYNC: usize = 4 * 1024;

const REQUEST_SEALED: u8 = 1;
const ANSWER_SEALED: u8 = 2;

/// Who caused a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A person or a script.
    Asked,
    /// The server, to renew the device's identity.
    Renewal,
    /// The server, to have declarations synchronised.
    Sync,
}

impl Purpose {
    fn word(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Renewal => "renewal",
            Self::Sync => "sync",
        }
    }
}

/// A command to be queued.
pub struct New<'a> {
    pub uuid: &'a str,
    pub request_type: &'a str,
    /// The property list that the device gets, byte for byte.
    pub request: &'a [u8],
    pub secret: bool,
    pub urgent: bool,
    pub purpose: Purpose,
    pub queued_by: &'a str,
    pub expires_at: Option<Seconds>,
}

fn seal_name(enrollment_id: &str, uuid: &str) -> String {
    format!("command/{enrollment_id}/{uuid}")
}

/// Queues a command.
///
/// # Errors
/// `Conflict` when this enrollment has a command of that UUID already.
pub fn enqueue(tx: &Tx<'_>, seal: &Seal, enrollment_id: &str, new: &New<'_>) -> Result<()> {
    let sealed = new.secret.then(|| seal.seal(&seal_name(enrollment_id, new.uuid), new.request));
    let queued = tx
        .prepare_cached(
            "INSERT INTO commands (enrollment_id, uuid, request_type, purpose, priority, status, request, sealed,
                                   queued_at, queued_by, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, 'Pending', ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            enrollment_id,
            new.uuid,
            new.request_type,
            new.purpose.word(),
            i32::from(new.urgent),
            sealed.as_deref().unwrap_or(new.request),
            if sealed.is_some() { REQUEST_SEALED } else { 0 },
            tx.now(),
            new.queued_by,
            new.expires_at,
        ])?;
    if queued == 0 {
        return Err(Error::conflict(format!(
            "a command with the UUID {} is queued for {enrollment_id} already; leave CommandUUID out to be given a new one",
            crate::id::printable(new.uuid)
        )));
    }
    super::wake::due(tx, enrollment_id)
}

/// Whether anything waits for a channel; for the Idle that has nothing to hear.
pub fn has_open(conn: &Connection, enrollment_id: &str) -> Result<bool> {
    Ok(conn
        .prepare_cached(
            "SELECT 1 FROM commands WHERE enrollment_id = ?1 AND status IN ('Pending', 'Sent', 'NotNow') LIMIT 1",
        )?
        .exists([enrollment_id])?)
}

/// Whether a channel may still answer this command although nothing waits: it was canceled or expired
/// after it was sent.
pub fn was_sent(conn: &Connection, enrollment_id: &str, uuid: &str) -> Result<bool> {
    Ok(conn
        .prepare_cached(
            "SELECT 1 FROM commands
             WHERE enrollment_id = ?1 AND uuid = ?2
               AND status IN ('Canceled', 'Expired') AND sent_at IS NOT NULL",
        )?
        .exists([enrollment_id, uuid])?)
}

/// Whether a renewal waits for a device.
pub fn has_open_renewal(conn: &Connection, enrollment_id: &str) -> Result<bool> {
    Ok(conn
        .prepare_cached(
            "SELECT 1 FROM commands
             WHERE enrollment_id = ?1 AND status IN ('Pending', 'Sent', 'NotNow') AND purpose = 'renewal' LIMIT 1",
        )?
        .exists([enrollment_id])?)
}

/// Whether the command to synchronise waits for a channel.
pub fn has_open_sync(conn: &Connection, enrollment_id: &str) -> Result<bool> {
    Ok(conn
        .prepare_cached(
            "SELECT 1 FROM commands
             WHERE enrollment_id = ?1 AND status IN ('Pending', 'Sent', 'NotNow') AND purpose = 'sync' LIMIT 1",
        )?
        .exists([enrollment_id])?)
}

/// What a device gets next, marked as sent.
///
/// `only_renewal`: its identity has expired, and it gets the renewal and nothing else.
pub fn next(tx: &Tx<'_>, seal: &Seal, enrollment_id: &str, only_renewal: bool) -> Result<Option<Vec<u8>>> {
    expire(tx, enrollment_id)?;
    let found = tx
        .prepare_cached(
            "SELECT id, uuid, request, sealed FROM commands
             WHERE enrollment_id = ?1 AND status IN ('Pending', 'Sent', 'NotNow')
               AND (deferred = 0 OR not_now_at <= ?2)
               AND (?3 = 0 OR purpose = 'renewal')
             ORDER BY attempts >= ?4, priority DESC, id LIMIT 1",
        )?
        .query_row(params![enrollment_id, tx.now() - NOT_NOW_PAUSE, only_renewal, STUCK], |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, Vec<u8>>(2)?,
                row.get::<_, u8>(3)?,
            ))
        })
        .optional()?;
    let Some((id, uuid, request, sealed)) = found else { return Ok(None) };
    tx.prepare_cached(
        "UPDATE commands SET status = 'Sent', sent_at = ?2, attempts = attempts + 1, deferred = 0 WHERE id = ?1",
    )?
    .execute(params![id, tx.now()])?;
    Ok(Some(if sealed & REQUEST_SEALED == 0 {
        request
    } else {
        seal.open_sealed(&seal_name(enrollment_id, &uuid), &request)?
    }))
}

/// A new poll: what the device refused before may be offered again.
pub fn idle(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    tx.prepare_cached(
        "UPDATE commands SET deferred = 0
         WHERE enrollment_id = ?1 AND status IN ('Pending', 'Sent', 'NotNow') AND deferred = 1",
    )?
    .execute([enrollment_id])?;
    Ok(())
}

/// The command that a report is about.
pub struct Answered {
    pub request_type: String,
    pub purpose_is_renewal: bool,
    /// It is not answered: the device asks for it later, and did not say so before.
    pub later: bool,
}

/// The RequestType of a command that a channel was given.
pub fn request_type(conn: &Connection, enrollment_id: &str, uuid: &str) -> Result<Option<String>> {
    Ok(conn
        .prepare_cached("SELECT request_type FROM commands WHERE enrollment_id = ?1 AND uuid = ?2")?
        .query_row([enrollment_id, uuid], |row| row.get(0))
        .optional()?)
}

/// Stores a report; answers what it was about, or nothing when it changes nothing.
pub fn report(
    tx: &Tx<'_>,
    seal: &Seal,
    enrollment_id: &str,
    uuid: &str,
    report: &Report<'_>,
) -> Result<Option<Answered>> {
    let found = tx
        .prepare_cached(
            "SELECT id, request_type, sealed, purpose FROM commands
             WHERE enrollment_id = ?1 AND uuid = ?2
               -- What was canceled or expired after it was sent was done all the same: its answer is the truth.
               AND (status IN ('Pending', 'Sent', 'NotNow')
                    OR (status IN ('Canceled', 'Expired') AND sent_at IS NOT NULL))",
        )?
        .query_row([enrollment_id, uuid], |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, u8>(2)?,
                row.get::<_, String>(3)?,
            ))
        })
        .optional()?;
    let Some((id, request_type, sealed, purpose)) = found else { return Ok(None) };
    if report.status == Status::NotNow {
        let said_before = tx
            .prepare_cached("SELECT 1 FROM commands WHERE id = ?1 AND status NOT IN ('Pending', 'Sent')")?
            .exists([id])?;
        tx.prepare_cached(
            "UPDATE commands SET status = 'NotNow', not_now_at = ?2, deferred = 1
             WHERE id = ?1 AND status IN ('Pending', 'Sent', 'NotNow')",
        )?
        .execute(params![id, tx.now()])?;
        let later = Answered { request_type, purpose_is_renewal: purpose == "renewal", later: true };
        return Ok(Some(later).filter(|_| !said_before));
    }
    let name = seal_name(enrollment_id, uuid);
    let secret = crate::schema::secrets::has_secrets(&request_type, report.answer);
    let (status, chain) = report.outcome(&request_type);
    let answer = secret.then(|| seal.seal(&name, report.body));
    let keeps = |length: usize| purpose != Purpose::Sync.word() || length <= LONGEST_TO_SYNC;
    tx.prepare_cached(
        "UPDATE commands SET status = ?2, answer = ?3, sealed = ?4, error_chain = ?5, answered_at = ?6, deferred = 0
         WHERE id = ?1",
    )?
    .execute(params![
        id,
        status.word(),
        Some(answer.as_deref().unwrap_or(report.body)).filter(|answer| keeps(answer.len())),
        sealed | if secret { ANSWER_SEALED } else { 0 },
        chain.map(|chain| chain.to_string()).filter(|chain| keeps(chain.len())),
        tx.now(),
    ])?;
    Ok(Some(Answered { request_type, purpose_is_renewal: purpose == "renewal", later: false }))
}

/// Whether anything still waits for a channel, and how often the least offered of it was offered:
/// the more often, the longer the pause before it is pushed for.
pub fn open_attempts(conn: &Connection, enrollment_id: &str) -> Result<Option<u32>> {
    Ok(conn
        .prepare_cached(
            "SELECT MIN(attempts) FROM commands
             WHERE enrollment_id = ?1 AND status IN ('Pending', 'Sent', 'NotNow')",
        )?
        .query_row([enrollment_id], |row| row.get(0))?)
}

/// Marks what has expired; only what a device could still get is looked at.
fn expire(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    if !clock::is_sane(tx.now()) {
        return Ok(());
    }
    tx.prepare_cached(
        "UPDATE commands SET status = 'Expired', answered_at = ?2
         WHERE enrollment_id = ?1 AND status IN ('Pending', 'Sent', 'NotNow') AND expires_at <= ?2",
    )?
    .execute(params![enrollment_id, tx.now()])?;
    Ok(())
}

/// Marks what has expired for any device; a background task's. Who has nothing left to come for is
/// not pushed any more.
pub fn expire_all(tx: &Tx<'_>) -> Result<()> {
    if !clock::is_sane(tx.now()) {
        return Ok(());
    }
    let expired: BTreeSet<String> = tx
        .prepare_cached(
            "UPDATE commands SET status = 'Expired', answered_at = ?1
             WHERE status IN ('Pending', 'Sent', 'NotNow') AND expires_at <= ?1
             RETURNING enrollment_id",
        )?
        .query_map([tx.now()], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for enrollment_id in &expired {
        if !has_open(tx, enrollment_id)? {
            super::wake::nothing_due(tx, enrollment_id)?;
        }
    }
    Ok(())
}

/// Cancels one command that was not answered.
///
/// # Errors
/// `NotFound`; `Conflict` when it was answered or canceled already.
pub fn cancel(tx: &Tx<'_>, enrollment_id: &str, uuid: &str) -> Result<()> {
    let changed = tx
        .prepare_cached(
            "UPDATE commands SET status = 'Canceled', answered_at = ?3
             WHERE enrollment_id = ?1 AND uuid = ?2 AND status IN ('Pending', 'Sent', 'NotNow')",
        )?
        .execute(params![enrollment_id, uuid, tx.now()])?;
    if changed == 1 {
        return if has_open(tx, enrollment_id)? {
            Ok(())
        } else {
            super::wake::nothing_due(tx, enrollment_id)
        };
    }
    let status: Option<String> = tx
        .prepare_cached("SELECT status FROM commands WHERE enrollment_id = ?1 AND uuid = ?2")?
        .query_row([enrollment_id, uuid], |row| row.get(0))
        .optional()?;
    Err(match status {
        None => Error::NotFound("such command".into()),
        Some(status) => {
            Error::conflict(format!("the command cannot be canceled any more: its status is {status}"))
        }
    })
}

/// Cancels everything that waits for a device and its users: it starts anew or is gone.
pub fn cancel_all(tx: &Tx<'_>, device_id: &str) -> Result<()> {
    tx.prepare_cached(
        "UPDATE commands SET status = 'Canceled', answered_at = ?2
         WHERE status IN ('Pending', 'Sent', 'NotNow')
           AND enrollment_id IN (SELECT ?1 UNION SELECT id FROM enrollments WHERE parent_id = ?1)",
    )?
    .execute(params![device_id, tx.now()])?;
    Ok(())
}

/// Cancels what people asked of devices and what was not answered, of all of them: the database was restored,
/// and what it takes for unanswered may long have been done. Answers how many.
pub fn cancel_asked(tx: &Tx<'_>) -> Result<usize> {
    Ok(tx
        .prepare_cached(
            "UPDATE commands SET status = 'Canceled', answered_at = ?1
             WHERE status IN ('Pending', 'Sent', 'NotNow') AND purpose = 'asked'",
        )?
        .execute([tx.now()])?)
}

/// Cancels renewals that wait: a newer one takes their place, or the device was renewed.
pub fn cancel_renewals(tx: &Tx<'_>, device_id: &str) -> Result<()> {
    tx.prepare_cached(
        "UPDATE commands SET status = 'Canceled', answered_at = ?2
         WHERE enrollment_id = ?1 AND status IN ('Pending', 'NotNow') AND purpose = 'renewal'",
    )?
    .execute(params![device_id, tx.now()])?;
    Ok(())
}

/// Cancels commands to synchronise that wait: the set is another now.
pub fn cancel_syncs(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    tx.prepare_cached(
        "UPDATE commands SET status = 'Canceled', answered_at = ?2
         WHERE enrollment_id = ?1 AND status IN ('Pending', 'Sent', 'NotNow') AND purpose = 'sync'",
    )?
    .execute(params![enrollment_id, tx.now()])?;
    Ok(())
}

/// Ended commands older than `before`, but the latest of each kind of each enrollment: what was answered
/// last is kept, whatever was canceled or expired since.
pub fn outlived(conn: &Connection, before: Seconds) -> Result<Vec<i64>> {
    let mut statement = conn.prepare_cached(
        "SELECT old.id FROM commands AS old
         WHERE old.answered_at < ?1
           AND EXISTS (SELECT 1 FROM commands AS newer
                       WHERE newer.enrollment_id = old.enrollment_id
                         AND newer.request_type = old.request_type
                         AND newer.answered_at IS NOT NULL AND newer.id > old.id
                         AND (newer.answer IS NOT NULL OR old.answer IS NULL))",
    )?;
    Ok(statement.query_map([before], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Removes these commands.
pub fn remove(tx: &Tx<'_>, ids: &[i64]) -> Result<()> {
    let mut statement = tx.prepare_cached("DELETE FROM commands WHERE id = ?1")?;
    ids.iter().try_for_each(|id| Ok(statement.execute([id]).map(drop)?))
}

/// Removes the whole history of a device and its users.
pub fn forget(tx: &Tx<'_>, device_id: &str) -> Result<()> {
    tx.prepare_cached(
        "DELETE FROM commands
         WHERE enrollment_id IN (SELECT ?1 UNION SELECT id FROM enrollments WHERE parent_id = ?1)",
    )?
    .execute([device_id])?;
    Ok(())
}

/// Opens what a command's row holds, sealed or not: request and answer.
pub fn open_sealed(
    seal: &Seal,
    enrollment_id: &str,
    uuid: &str,
    sealed: u8,
    request: Vec<u8>,
    answer: Option<Vec<u8>>,
) -> Result<(Vec<u8>, Option<Vec<u8>>)> {
    let name = seal_name(enrollment_id, uuid);
    let request = if sealed & REQUEST_SEALED == 0 { request } else { seal.open_sealed(&name, &request)? };
    let answer = match answer {
        Some(answer) if sealed & ANSWER_SEALED != 0 => Some(seal.open_sealed(&name, &answer)?),
        other => other,
    };
    Ok((request, answer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Store, tests::temporary};

    async fn ended(store: &Store, uuid: &'static str, status: &'static str, answer: Option<&'static [u8]>) {
        store
            .write("test.ended", move |tx| {
                tx.execute(
                    "INSERT INTO commands (enrollment_id, uuid, request_type, purpose, priority, status, request,
                                           answer, sealed, queued_at, queued_by, answered_at)
                     VALUES ('A', ?1, 'SecurityInfo', 'asked', 0, ?2, x'', ?3, 0, 1, 'test', 1)",
                    params![uuid, status, answer],
                )?;
                Ok(())
            })
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_long_answer_to_the_servers_own_command_is_not_kept() {
        let (folder, store) = temporary();
        let seal = Seal::open(folder.path(), None, true).unwrap();
        let long = "x".repeat(LONGEST_TO_SYNC);
        let kept = store.write("test.answers", move |tx| {
            let answer = plist::Value::Dictionary([("ErrorChain".to_owned(), plist::Value::from(long.as_str()))].into_iter().collect());
            [Purpose::Sync, Purpose::Asked]
                .map(|purpose| {
                    let uuid = purpose.word();
                    let new = New {
                        uuid,
                        request_type: "DeclarativeManagement",
                        request: b"",
                        secret: false,
                        urgent: false,
                        purpose,
                        queued_by: "test",
                        expires_at: None,
                    };
                    enqueue(tx, &seal, "A", &new)?;
                    let body = format!("{long}.");
                    let said = Report { status: Status::Error, body: body.as_bytes(), answer: &answer };
                    report(tx, &seal, "A", uuid, &said)?;
                    let sql = "SELECT answer IS NOT NULL, error_chain IS NOT NULL, status FROM commands WHERE uuid = ?1";
                    Ok(tx.query_row(sql, [uuid], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?)
                })
                .into_iter()
                .collect::<Result<Vec<(bool, bool, String)>>>()
        });
        let ended = |kept| (kept, kept, "Error".to_owned());
        assert_eq!(kept.await.unwrap(), [ended(false), ended(true)]);
    }

    #[tokio::test]
    async fn the_latest_answer_is_kept_whatever_was_canceled_since() {
        let (_folder, store) = temporary();
        ended(&store, "1", "Acknowledged", Some(b"old")).await;
        ended(&store, "2", "Acknowledged", Some(b"new")).await;
        ended(&store, "3", "Canceled", None).await;
        ended(&store, "4", "Expired", None).await;
        store.write("test.thin", |tx| remove(tx, &outlived(tx, 100)?)).await.unwrap();
        let left = store
            .peek(|conn| {
                let mut statement = conn.prepare("SELECT uuid FROM commands ORDER BY id")?;
                Ok(statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?)
            })
            .unwrap();
        assert_eq!(left, ["2", "4"]);
    }
}
