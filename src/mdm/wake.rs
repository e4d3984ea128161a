//! Who has something to be woken for, and when it is pushed.
//!
//! Whoever creates work marks the channel as due in the same transaction; after the commit this
//! looks. A push carries no command and several coalesce, so one is enough however much waits. A
//! device that does not come is pushed again with growing pauses; what APNs could not take is tried
//! again within two seconds, doubling to an hour. The two are counted apart: an outage of Apple's does
//! not make the pauses of a device long, nor the other way round.
//!
//! **Invariant:** work and wake-up cannot drift apart: a crash between them leaves the row that says
//! the push is due.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use tokio::task::JoinSet;

use super::{Mdm, contact, enrollment, event, pass};
use crate::apns::{Push, PushResult, Verdict};
use crate::clock::{DAY, HOUR, MINUTE, Seconds};
use crate::error::{Error, Result};
use crate::id;
use crate::metric::Counter;
use crate::storage::Tx;

/// Pauses before a device that did not come is pushed again; the last repeats.
const PAUSES: [Seconds; 5] = [15 * MINUTE, HOUR, 4 * HOUR, 12 * HOUR, DAY];
/// The longest pause after a push that could not be delivered.
const LONGEST_RETRY: Seconds = HOUR;
/// How many pushes are on their way at most.
const MOST: usize = 500;
/// How long the task waits after a failure of the database.
const SOON: Duration = Duration::from_secs(1);
/// The longest that the task sleeps without looking.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// There is work for this channel: it is pushed after the commit.
pub fn due(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO wakes (enrollment_id, due_at) VALUES (?1, ?2)
         ON CONFLICT DO UPDATE SET due_at = excluded.due_at, attempts = 0, failures = 0",
    )?
    .execute(params![enrollment_id, tx.now()])?;
    tx.wake();
    Ok(())
}

/// There will be work for this channel: it is pushed then, unless it is pushed for something else before.
pub fn by(tx: &Tx<'_>, enrollment_id: &str, at: Seconds) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO wakes (enrollment_id, due_at) VALUES (?1, ?2)
         ON CONFLICT DO UPDATE SET due_at = MIN(due_at, excluded.due_at)",
    )?
    .execute(params![enrollment_id, at])?;
    Ok(())
}

/// The channel is here and has more to come for: it is pushed only if it does not come back.
pub fn later(tx: &Tx<'_>, enrollment_id: &str, pause: Seconds) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO wakes (enrollment_id, due_at) VALUES (?1, ?2)
         ON CONFLICT DO UPDATE SET due_at = excluded.due_at, attempts = 0, failures = 0",
    )?
    .execute(params![enrollment_id, tx.now() + pause])?;
    Ok(())
}

/// When a channel is pushed next, and what was counted.
pub struct Planned {
    due_at: Seconds,
    attempts: u32,
    failures: u32,
}

/// What is planned for a channel.
pub fn planned(conn: &Connection, enrollment_id: &str) -> Result<Option<Planned>> {
    Ok(conn
        .prepare_cached("SELECT due_at, attempts, failures FROM wakes WHERE enrollment_id = ?1")?
        .query_row([enrollment_id], |row| {
            Ok(Planned { due_at: row.get(0)?, attempts: row.get(1)?, failures: row.get(2)? })
        })
        .optional()?)
}

/// Leaves everything as it was planned before: what was queued since is not to be pushed for.
pub fn put_back(tx: &Tx<'_>, enrollment_id: &str, planned: Option<&Planned>) -> Result<()> {
    let Some(planned) = planned else { return nothing_due(tx, enrollment_id) };
    tx.prepare_cached("UPDATE wakes SET due_at = ?2, attempts = ?3, failures = ?4 WHERE enrollment_id = ?1")?
        .execute(params![enrollment_id, planned.due_at, planned.attempts, planned.failures])?;
    Ok(())
}

/// A topic has a new push certificate: who was not reached with the old one is pushed at once, and
/// what Apple said of tokens while another certificate was in use counts no more.
pub fn due_on_topic(tx: &Tx<'_>, topic: &str) -> Result<()> {
    enrollment::accept_tokens(tx, topic)?;
    tx.prepare_cached(
        "UPDATE wakes SET due_at = ?2, attempts = 0, failures = 0
         WHERE due_at > ?2 AND enrollment_id IN (SELECT id FROM enrollments WHERE topic = ?1)",
    )?
    .execute(params![topic, tx.now()])?;
    Ok(())
}

/// Nothing waits for this channel.
pub fn nothing_due(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM wakes WHERE enrollment_id = ?1")?.execute([enrollment_id])?;
    Ok(())
}

/// Nothing waits for a device and its users.
pub fn nothing_due_for_all(tx: &Tx<'_>, device_id: &str) -> Result<()> {
    tx.prepare_cached(
        "DELETE FROM wakes
         WHERE enrollment_id IN (SELECT ?1 UNION SELECT id FROM enrollments WHERE parent_id = ?1)",
    )?
    .execute([device_id])?;
    Ok(())
}

/// Apple refuses the certificate of a topic: until somebody acts, one push an hour asks again for all.
fn hold_topic(tx: &Tx<'_>, topic: &str, asks: &str) -> Result<()> {
    let again = tx.now() + LONGEST_RETRY;
    tx.prepare_cached(
        "UPDATE wakes SET due_at = CASE enrollment_id WHEN ?4 THEN ?2 ELSE ?3 END
         WHERE due_at < ?3 AND enrollment_id IN (SELECT id FROM enrollments WHERE topic = ?1)",
    )?
    .execute(params![topic, again, again + MINUTE, asks])?;
    Ok(())
}

/// The pause after a command was handed out, or refused with NotNow `attempts` times.
pub fn pause_after(attempts: u32) -> Seconds {
    PAUSES[usize::try_from(attempts).unwrap_or(usize::MAX).min(PAUSES.len() - 1)]
}

struct Due {
    enrollment_id: String,
    attempts: u32,
    failures: u32,
    /// It was due, and not asked for by somebody.
    planned: bool,
    token_at: Seconds,
    push: Push,
}

/// Takes what is due and says at once when it is due again, so that a crash repeats nothing and
/// work that comes while the push is under way gets one of its own.
///
/// CROSS JOIN is SQLite's word for this order: what is due is a handful, enrollments are thousands.
fn take(tx: &Tx<'_>, most: usize) -> Result<Vec<Due>> {
    // No pause is longer than a day: only a wrong clock can have put a push farther away.
    tx.prepare_cached("UPDATE wakes SET due_at = ?1 WHERE due_at > ?2")?
        .execute(params![tx.now(), tx.now() + 2 * DAY])?;
    let due: Vec<Due> = tx
        .prepare_cached(
            "SELECT w.enrollment_id, w.attempts, w.failures, e.push_token_at, e.topic, e.push_token, e.push_magic
             FROM wakes AS w CROSS JOIN enrollments AS e ON e.id = w.enrollment_id
             WHERE w.due_at <= ?1 AND e.push_token IS NOT NULL AND e.push_rejected = 0
             ORDER BY w.due_at LIMIT ?2",
        )?
        .query_map(params![tx.now(), i64::try_from(most).unwrap_or(i64::MAX)], |row| {
            Ok(Due {
                enrollment_id: row.get(0)?,
                attempts: row.get(1)?,
                failures: row.get(2)?,
                planned: true,
                token_at: row.get(3)?,
                push: Push { topic: row.get(4)?, token: row.get(5)?, magic: row.get(6)? },
            })
        })?
        .collect::<Result<_, _>>()?;
    let mut again =
        tx.prepare_cached("UPDATE wakes SET due_at = ?2, attempts = attempts + 1 WHERE enrollment_id = ?1")?;
    for due in &due {
        again.execute(params![due.enrollment_id, tx.now() + pause_after(due.attempts)])?;
    }
    Ok(due)
}

/// When the next push is due, if any.
fn next_due(conn: &Connection) -> Result<Option<Seconds>> {
    Ok(conn
        .prepare_cached(
            "SELECT w.due_at FROM wakes AS w CROSS JOIN enrollments AS e ON e.id = w.enrollment_id
             WHERE e.push_token IS NOT NULL AND e.push_rejected = 0
             ORDER BY w.due_at LIMIT 1",
        )?
        .query_row([], |row| row.get(0))
        .optional()?)
}

/// Pushes that are on their way.
#[derive(Default)]
struct UnderWay(JoinSet<(Due, PushResult)>);

impl UnderWay {
    /// Sends what is due, as far as there is room; answers how many.
    async fn send_due(&mut self, mdm: &Mdm) -> Result<usize> {
        let room = MOST.saturating_sub(self.0.len());
        if room == 0 {
            return Ok(0);
        }
        let due = mdm.store.write("wake.take", move |tx| take(tx, room)).await?;
        let taken = due.len();
        for due in due {
            let apns = mdm.apns.clone();
            self.0.spawn(async move {
                let answer = apns.push(&due.push).await;
                (due, answer)
            });
        }
        Ok(taken)
    }

    /// Waits for an answer, for ever if nothing is on its way, and takes all that came with it.
    async fn answers(&mut self) -> Vec<(Due, PushResult)> {
        let Some(first) = self.0.join_next().await else { return std::future::pending().await };
        // A push that panicked is due again by itself.
        let mut answers: Vec<_> = first.ok().into_iter().collect();
        while let Some(next) = self.0.try_join_next() {
            answers.extend(next.ok());
        }
        answers
    }
}

/// Writes answers down; those that the database is too busy for are left for the next time.
async fn note_all(mdm: &Mdm, answers: &mut Vec<(Due, PushResult)>) -> Result<()> {
    if answers.is_empty() {
        return Ok(());
    }
    let all = Arc::new(std::mem::take(answers));
    let noted = all.clone();
    let work = move |tx: &Tx<'_>| noted.iter().try_for_each(|(due, answer)| note(tx, due, answer));
    let done = mdm.store.write("wake.answers", work).await;
    if done.is_err() {
        *answers = Arc::try_unwrap(all).unwrap_or_default();
    }
    done
}

/// Pushes everything that is due now and waits for all the answers; answers how many.
///
/// # Errors
/// The database's. What APNs answers is never an error here: it is written down and acted on.
pub async fn round(mdm: &Mdm) -> Result<usize> {
    pass::round(mdm).await?;
    let (mut under_way, mut pushed) = (UnderWay::default(), 0);
    loop {
        let taken = under_way.send_due(mdm).await?;
        pushed += taken;
        if taken == 0 && under_way.0.is_empty() {
            return Ok(pushed);
        }
        note_all(mdm, &mut under_way.answers().await).await?;
    }
}

/// Pushes by what came of them.
static PUSHES: Counter = Counter::new("russet_pushes_total", "Pushes by what Apple answered.", "outcome");

fn note(tx: &Tx<'_>, due: &Due, answer: &PushResult) -> Result<()> {
    PUSHES.add(match &answer.verdict {
        Verdict::Delivered => "delivered",
        Verdict::TokenRejected { .. } => "token-rejected",
        Verdict::TryAgain { .. } => "try-again",
        Verdict::CertificateProblem => "certificate",
        Verdict::Refused => "refused",
    });
    contact::pushed(tx, &due.enrollment_id, &answer.to_json().to_string())?;
    let retry = |at: Seconds| -> Result<()> {
        tx.prepare_cached(
            "UPDATE wakes SET due_at = MIN(due_at, ?2), attempts = MAX(attempts - ?3, 0), failures = failures + 1
             WHERE enrollment_id = ?1",
        )?
        // Apple did not take it, so it was no attempt; `take` counted it as one.
        .execute(params![due.enrollment_id, at, due.planned])?;
        tx.wake();
        Ok(())
    };
    match answer.verdict.clone() {
        Verdict::Delivered if due.failures == 0 => Ok(()),
        Verdict::Delivered => {
            tx.prepare_cached("UPDATE wakes SET failures = 0 WHERE enrollment_id = ?1")?
                .execute([&due.enrollment_id])?;
            Ok(())
        }
        Verdict::TokenRejected { since } => {
            reject(tx, &due.enrollment_id, &due.push.token, due.token_at, since)
        }
        Verdict::TryAgain { after } => {
            retry(tx.now() + jittered(due.failures).max(after.unwrap_or(0).min(LONGEST_RETRY)))
        }
        // Somebody has to act first; nothing is lost by asking again in a while.
        Verdict::CertificateProblem => {
            tracing::error!(
                topic = due.push.topic,
                answer = answer.words,
                "Apple refuses a push certificate"
            );
            retry(tx.now() + LONGEST_RETRY)?;
            hold_topic(tx, &due.push.topic, &due.enrollment_id)
        }
        // What is planned stays as it is planned.
        Verdict::Refused if !due.planned => Ok(()),
        Verdict::Refused => {
            tracing::error!(enrollment.id = due.enrollment_id, answer = answer.words, "a push was refused");
            retry(tx.now() + LONGEST_RETRY)
        }
    }
}

/// Pushes a channel now, whatever is due for it; answers what APNs said.
///
/// # Errors
/// `NotFound`; `Conflict` in words when there is nothing to push with.
pub async fn push_now(mdm: &Mdm, enrollment_id: &str) -> Result<PushResult> {
    let found = mdm.store.peek(|conn| match enrollment::find(conn, enrollment_id)? {
        Some(_) => enrollment::push_of(conn, enrollment_id),
        None => Err(Error::NotFound("such enrollment".into())),
    })?;
    let (push, token_at) = match found {
        Some((push, token_at, false)) => (push, token_at),
        Some((_, _, true)) => {
            return Err(Error::conflict(
                "Apple no longer accepts this push token; the device can be woken again after its next TokenUpdate",
            ));
        }
        None => {
            return Err(Error::conflict(
                "there is no push token: the device has not finished enrolling, or it has left",
            ));
        }
    };
    let answer = mdm.apns.push(&push).await;
    let due = Due {
        enrollment_id: enrollment_id.to_owned(),
        attempts: 0,
        failures: 0,
        planned: false,
        token_at,
        push,
    };
    let noted = answer.clone();
    mdm.store.write("wake.now", move |tx| note(tx, &due, &noted)).await?;
    Ok(answer)
}

/// APNs said that a token is no longer good. Only if it came before that moment is it about this one.
pub fn reject(
    tx: &Tx<'_>,
    enrollment_id: &str,
    token: &[u8],
    token_at: Seconds,
    since: Option<Seconds>,
) -> Result<()> {
    if since.is_some_and(|since| token_at > since) {
        return Ok(());
    }
    enrollment::reject_token(tx, enrollment_id, token)?;
    event::record(
        tx,
        "push-token-rejected",
        Some(enrollment_id),
        "Apple no longer accepts this device's push token; it cannot be woken until it comes by itself and brings another",
    )
}

/// One second doubled for each failure, at most an hour, a random part of it left out.
fn jittered(failures: u32) -> Seconds {
    let whole = 2_i64.saturating_pow(failures.min(12)).clamp(2, LONGEST_RETRY);
    whole - i64::from(id::random::<1>()[0]) * (whole / 2) / 255
}

/// Looks after each commit that made work, and when the next push is due, for as long as it runs.
/// A push that Apple does not answer holds up no other.
pub async fn run(mdm: Mdm) {
    let (mut under_way, mut heard) = (UnderWay::default(), Vec::new());
    let mut pass = pass::Pass::default();
    loop {
        // After an edit, channels are looked at and pushed batch by batch.
        let looked = pass.step(&mdm).await;
        let sent = under_way.send_due(&mdm).await;
        let wait = match (&sent, mdm.store.peek(next_due)) {
            _ if looked.is_err() => SOON,
            _ if matches!(looked, Ok(true)) => Duration::ZERO,
            // There may be more than there was room for; an answer makes room.
            _ if under_way.0.len() >= MOST => LONGEST_SLEEP,
            (Ok(_), Ok(Some(at))) => {
                let seconds = u64::try_from(at - mdm.store.clock().now()).unwrap_or(0);
                Duration::from_secs(seconds.max(1)).min(LONGEST_SLEEP)
            }
            (Ok(_), Ok(None)) => LONGEST_SLEEP,
            (Err(_), _) | (_, Err(_)) => SOON,
        };
        tokio::select! {
            answers = under_way.answers() => heard.extend(answers),
            () = mdm.store.woken().notified() => {}
            () = tokio::time::sleep(if heard.is_empty() { wait } else { SOON }) => {}
        }
        let noted = note_all(&mdm, &mut heard).await;
        for error in [looked.err(), sent.err(), noted.err()].into_iter().flatten() {
            tracing::error!(error = error.chain(), "waking devices failed; it is tried again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_start_within_two_seconds_and_double_to_an_hour() {
        for _ in 0..100 {
            assert!((1..=2).contains(&jittered(0)));
            assert!((1800..=3600).contains(&jittered(30)));
        }
    }

    #[test]
    fn pauses_grow() {
        assert!((0..10).map(pause_after).is_sorted());
        assert_eq!(pause_after(u32::MAX), DAY);
    }
}
