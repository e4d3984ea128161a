//! Where each channel stands: the token of the set that it should have, and the one it was last told.
//!
//! `mdm` calls [`refresh`] when a channel's set may have changed, asks [`is_pending`] whether it has to
//! synchronise, and hands the endpoints through. A channel counts as told when it was answered
//! `declaration-items`; until then it is asked again, with growing pauses. What a device says of itself
//! may change its set, too; one that does so again and again is told no more than `MOST_MOVES` times an
//! hour.
//!
//! **Invariant:** the row of a channel names a set that is kept, and a change of the set that is worth a
//! push is answered as such once.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::json;

use super::manifest::Plan;
use super::subject::Subject;
use super::{personal_address, snapshot};
use crate::clock::{self, HOUR, MINUTE, Seconds};
use crate::error::Result;
use crate::schema::declarations::{Kind, is_identifier};
use crate::storage::Tx;

/// Pauses before a channel that did not ask for the items is asked again; the last repeats.
const PAUSES: [Seconds; 4] = [15 * MINUTE, HOUR, 4 * HOUR, 12 * HOUR];

/// How often in an hour a channel is asked because its set changed without an edit: a device that
/// enrolls changes it two or three times with what it reports.
const MOST_MOVES: u32 = 6;

/// One channel.
#[derive(Clone, Debug)]
pub struct Sync {
    pub generation: i64,
    /// The generation that the edits are at.
    edits: i64,
    /// The DeclarationsToken that it should have.
    pub token: String,
    pub told_token: Option<String>,
    pub told_at: Option<Seconds>,
    pub held: bool,
    quiet: bool,
    asked_at: Option<Seconds>,
    pub asks: u32,
    /// What is known of its device changed since.
    stale: bool,
    moved_at: Option<Seconds>,
    moves: u32,
}

impl Sync {
    /// Whether it has not been told what it should have, and can be.
    pub fn is_outstanding(&self) -> bool {
        !self.held && self.told_token.as_deref() != Some(&self.token)
    }

    /// Whether its set has to be looked at anew.
    pub fn is_stale(&self, now: Seconds) -> bool {
        let was_put_off = self.moves > MOST_MOVES && self.restless_until(now).is_none();
        self.stale || self.generation != self.edits || was_put_off
    }

    /// Until when it is left alone, because it changed its set too often by itself.
    fn restless_until(&self, now: Seconds) -> Option<Seconds> {
        let began = self.moved_at?;
        // What lies in the future was written by a wrong clock.
        (self.moves > MOST_MOVES && (began..began + HOUR).contains(&now)).then_some(began + HOUR)
    }

    /// Whether it is to be asked to synchronise now.
    fn is_due(&self, now: Seconds) -> bool {
        let asked = self.asked_at.is_some_and(|at| {
            let asks = usize::try_from(self.asks.saturating_sub(1)).unwrap_or(usize::MAX);
            // What lies in the future was written by a wrong clock.
            (at..at + PAUSES[asks.min(PAUSES.len() - 1)]).contains(&now)
        });
        self.is_outstanding() && !asked && self.restless_until(now).is_none()
    }
}

/// What became of a channel whose set was looked at anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refreshed {
    /// It should have another set than before.
    pub changed: bool,
    /// And is to be woken for it.
    pub wake: bool,
    /// But not before this.
    pub not_before: Option<Seconds>,
}

/// Where a channel stands.
pub fn find(conn: &Connection, enrollment_id: &str) -> Result<Option<Sync>> {
    Ok(conn
        .prepare_cached(
            "SELECT generation, token, told_token, told_at, held, quiet, asked_at, asks,
                    (SELECT generation FROM generations), stale, moved_at, moves
             FROM syncs WHERE enrollment_id = ?1",
        )?
        .query_row([enrollment_id], |row| {
            Ok(Sync {
                generation: row.get(0)?,
                token: row.get(1)?,
                told_token: row.get(2)?,
                told_at: row.get(3)?,
                held: row.get(4)?,
                quiet: row.get(5)?,
                asked_at: row.get(6)?,
                asks: row.get(7)?,
                edits: row.get(8)?,
                stale: row.get(9)?,
                moved_at: row.get(10)?,
                moves: row.get(11)?,
            })
        })
        .optional()?)
}

/// Whether something was edited, or its device changed, since a channel's set was looked at.
pub fn is_stale(conn: &Connection, enrollment_id: &str, now: Seconds) -> Result<bool> {
    Ok(find(conn, enrollment_id)?.is_none_or(|sync| sync.is_stale(now)))
}

/// A person changed what is known of a channel: that is heeded at once, however restless its device is.
///
/// # Errors
/// The database's.
pub fn calm(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    tx.prepare_cached("UPDATE syncs SET moved_at = NULL, moves = 0 WHERE enrollment_id = ?1")?
        .execute([enrollment_id])?;
    Ok(())
}

/// A channel's set has to be looked at anew, by whoever comes first: the background or the channel itself.
///
/// # Errors
/// The database's.
pub fn mark(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    let marked = tx
        .prepare_cached("UPDATE syncs SET stale = 1 WHERE enrollment_id = ?1 AND stale = 0")?
        .execute([enrollment_id])?;
    if marked > 0 {
        tx.wake();
    }
    Ok(())
}

/// A channel that is no longer told anything need not be looked at.
///
/// # Errors
/// The database's.
pub fn unmark(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    tx.prepare_cached("UPDATE syncs SET stale = 0 WHERE enrollment_id = ?1 AND stale = 1")?
        .execute([enrollment_id])?;
    Ok(())
}

/// Channels that were marked, those after `after`.
pub fn marked(conn: &Connection, after: &str, limit: u32) -> Result<Vec<String>> {
    let mut statement = conn.prepare_cached(
        "SELECT enrollment_id FROM syncs WHERE stale = 1 AND enrollment_id > ?1
         ORDER BY enrollment_id LIMIT ?2",
    )?;
    Ok(statement.query_map(params![after, limit], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Whether a channel is to be asked to synchronise at this contact, as far as is known without looking
/// at its set: what every Idle asks.
pub fn is_pending(conn: &Connection, enrollment_id: &str, now: Seconds) -> Result<bool> {
    Ok(find(conn, enrollment_id)?.is_none_or(|sync| sync.is_stale(now) || sync.is_due(now)))
}

/// Looks at a channel's set anew. The plan is that of the present generation. A channel that nothing is
/// declared for is left alone: what the server itself would declare comes along with the first thing
/// that somebody wants.
///
/// # Errors
/// The database's.
pub fn refresh(tx: &Tx<'_>, plan: &Plan, subject: &Subject) -> Result<Refreshed> {
    let manifest = plan.manifest(tx, subject)?;
    let row = find(tx, &subject.id)?;
    let changed = row.as_ref().is_none_or(|row| row.token != manifest.token);
    let pace = Pace::after(row.as_ref(), changed, plan.generation.generation, tx.now());
    // A device that makes its set another all day would fill the disk with sets that nobody asks for.
    if changed && pace.moves > MOST_MOVES {
        tx.prepare_cached("UPDATE syncs SET stale = 0, moved_at = ?2, moves = ?3 WHERE enrollment_id = ?1")?
            .execute(params![subject.id, pace.moved_at, pace.moves])?;
        return Ok(Refreshed { changed: false, wake: !subject.held, not_before: pace.not_before });
    }
    if changed {
        snapshot::keep(tx, &manifest)?;
        personal_address::keep_only(tx, &subject.id, &plan.packages_of(&manifest))?;
    }
    let told = row.as_ref().and_then(|row| row.told_token.as_deref()) == Some(&manifest.token);
    let of_now = |row: &Sync| row.generation == plan.generation.generation;
    let edits_notify = row.as_ref().is_none_or(|row| plan.generation.notify > row.generation);
    // What changed without an edit, as a device's version, is always worth a push.
    let notify = edits_notify || row.as_ref().is_some_and(|row| of_now(row) || row.stale);
    let was_held = row.as_ref().is_some_and(|row| row.held);
    let was_quiet = row.as_ref().is_some_and(|row| row.quiet);
    let was_told = row.as_ref().is_some_and(|row| row.told_token.is_some());
    let held = subject.held || !(was_told || plan.wants_something_of(&manifest));
    let untold = !told && !held;
    let wake = untold && ((notify && (changed || was_held)) || (edits_notify && was_quiet));
    let quiet = untold && !wake && (was_quiet || changed);
    let is_same = row
        .as_ref()
        .is_some_and(|row| !changed && !row.stale && of_now(row) && row.held == held && row.quiet == quiet);
    if !is_same {
        tx.prepare_cached(
            "INSERT INTO syncs (enrollment_id, generation, token, held, quiet, asked_at, asks, moved_at, moves)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT DO UPDATE SET
                 generation = excluded.generation, token = excluded.token, held = excluded.held,
                 quiet = excluded.quiet, stale = 0, asked_at = excluded.asked_at, asks = excluded.asks,
                 moved_at = excluded.moved_at, moves = excluded.moves",
        )?
        .execute(params![
            subject.id,
            plan.generation.generation,
            manifest.token,
            held,
            quiet,
            pace.asked_at,
            pace.asks,
            pace.moved_at,
            pace.moves
        ])?;
    }
    Ok(Refreshed { changed, wake, not_before: pace.not_before })
}

/// How soon a channel may be asked about a set, which depends on why it changed.
#[derive(Default)]
struct Pace {
    asked_at: Option<Seconds>,
    asks: u32,
    moved_at: Option<Seconds>,
    moves: u32,
    not_before: Option<Seconds>,
}

impl Pace {
    fn after(row: Option<&Sync>, changed: bool, generation: i64, now: Seconds) -> Self {
        let Some(row) = row else { return Self::default() };
        let mut pace = Self {
            asked_at: row.asked_at,
            asks: row.asks,
            moved_at: row.moved_at,
            moves: row.moves,
            not_before: row.restless_until(now),
        };
        if !changed {
            return pace;
        }
        if row.generation != generation {
            // Somebody edited: that is said at once, whatever was before.
            return Self::default();
        }
        if row.moved_at.is_some_and(|began| (began..began + HOUR).contains(&now)) {
            pace.moves = row.moves.saturating_add(1);
        } else {
            (pace.moved_at, pace.moves) = (Some(now), 1);
        }
        if pace.moves > MOST_MOVES {
            pace.not_before = pace.moved_at.map(|began| began + HOUR);
        } else {
            (pace.asked_at, pace.asks) = (None, 0);
        }
        pace
    }
}

/// The data of the command that asks a channel to synchronise, if it is to be asked now: it is written
/// down that it was.
///
/// # Errors
/// The database's.
pub fn ask(tx: &Tx<'_>, enrollment_id: &str) -> Result<Option<Vec<u8>>> {
    let Some(sync) = find(tx, enrollment_id)?.filter(|sync| sync.is_due(tx.now())) else { return Ok(None) };
    tx.prepare_cached("UPDATE syncs SET asked_at = ?2, asks = asks + 1 WHERE enrollment_id = ?1")?
        .execute(params![enrollment_id, tx.now()])?;
    Ok(Some(tokens_of(&sync.token, tx.now())))
}

/// When a channel that did not ask for the items is to be woken again: in so many seconds, if at all.
pub fn pause(conn: &Connection, enrollment_id: &str, now: Seconds) -> Result<Option<Seconds>> {
    let sync = find(conn, enrollment_id)?.filter(Sync::is_outstanding);
    Ok(sync.map(|sync| {
        let asks = usize::try_from(sync.asks.saturating_sub(1)).unwrap_or(usize::MAX);
        match sync.restless_until(now) {
            Some(until) => until - now,
            None => PAUSES[asks.min(PAUSES.len() - 1)],
        }
    }))
}

/// A channel was given the items of this token.
///
/// # Errors
/// The database's.
pub fn told(tx: &Tx<'_>, enrollment_id: &str, token: &str) -> Result<()> {
    tx.prepare_cached("UPDATE syncs SET told_token = ?2, told_at = ?3, quiet = 0 WHERE enrollment_id = ?1")?
        .execute(params![enrollment_id, token, tx.now()])?;
    Ok(())
}

/// The answer to `tokens`. Whole seconds: devices do not read fractions.
fn tokens_of(token: &str, now: Seconds) -> Vec<u8> {
    json!({"SyncTokens": {"DeclarationsToken": token, "Timestamp": clock::rfc3339(now)}})
        .to_string()
        .into_bytes()
}

/// What a device asks of declarative management.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Tokens,
    Items,
    Declaration(Kind, String),
}

impl Endpoint {
    /// Reads Apple's word; nothing for one that is none, status among them.
    pub fn named(text: &str) -> Option<Self> {
        match text {
            "tokens" => Some(Self::Tokens),
            "declaration-items" => Some(Self::Items),
            text => {
                let (kind, identifier) = text.strip_prefix("declaration/")?.split_once('/')?;
                is_identifier(identifier)
                    .then(|| Some(Self::Declaration(Kind::named(kind)?, identifier.to_owned())))?
            }
        }
    }
}

/// An answer, and the token that the channel is told by it, if that is news.
pub struct Answer {
    pub body: Vec<u8>,
    pub tells: Option<String>,
}

/// What a device is answered; nothing when this channel has no such thing.
///
/// # Errors
/// The database's.
pub fn answer(
    conn: &Connection,
    enrollment_id: &str,
    endpoint: &Endpoint,
    now: Seconds,
) -> Result<Option<Answer>> {
    match find(conn, enrollment_id)? {
        Some(sync) => answer_by(conn, &sync, endpoint, now),
        None => Ok(None),
    }
}

/// As [`answer`], for a channel that was looked up already.
///
/// # Errors
/// The database's.
pub fn answer_by(
    conn: &Connection,
    sync: &Sync,
    endpoint: &Endpoint,
    now: Seconds,
) -> Result<Option<Answer>> {
    let (body, tells) = match endpoint {
        Endpoint::Tokens => (Some(tokens_of(&sync.token, now)), None),
        Endpoint::Items => {
            let items = snapshot::items(conn, &sync.token)?.map(String::into_bytes);
            (items, Some(sync.token.clone()).filter(|token| sync.told_token.as_ref() != Some(token)))
        }
        Endpoint::Declaration(kind, identifier) => {
            // First what it was told; a device that did not ask for the items has the present set.
            let mut found = None;
            for token in sync.told_token.iter().chain([&sync.token]) {
                if found.is_none() {
                    found = snapshot::declaration(conn, token, *kind, identifier)?;
                }
            }
            (found.map(String::into_bytes), None)
        }
    };
    Ok(body.map(|body| Answer { body, tells }))
}

pub(super) fn forget(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM syncs WHERE enrollment_id = ?1")?.execute([enrollment_id])?;
    Ok(())
}
