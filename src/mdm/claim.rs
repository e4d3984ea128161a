//! Claims: new identities that say Authenticate with the UDID of a live enrollment.
//!
//! The protocol has no other proof of who a device is, so whoever holds a stolen link could take
//! over a known UDID. Such an identity waits: it keeps push data of its own, is answered 200 with
//! nothing in it, and an administrator decides. The live device goes on as if nothing had happened.
//!
//! **Invariant:** nothing of the enrollment reaches a claim before it is approved: no command, no
//! declaration, no secret.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::begin;
use super::enrollment::{self, Facts, Push};
use super::escrow;
use super::event;
use super::ids::Ids;
use super::sync;
use crate::clock::Seconds;
use crate::enroll::session;
use crate::error::{Error, Result};
use crate::id;
use crate::pki::identity::{self, Fingerprint, Identity};
use crate::pki::seal::Seal;
use crate::plist;
use crate::storage::Tx;

/// How many claims on one enrollment wait at the most: a flood of them is not worth keeping.
const MOST_WAITING: i64 = 20;

/// One claim.
#[derive(Clone, Debug)]
pub struct Claim {
    pub id: String,
    pub enrollment_id: String,
    pub fingerprint: Fingerprint,
    pub session_id: String,
    /// What the device said of itself in Authenticate.
    pub serial_number: Option<String>,
    pub name: Option<String>,
    pub model: Option<String>,
    pub model_name: Option<String>,
    pub product_name: Option<String>,
    pub os_version: Option<String>,
    pub has_token: bool,
    pub state: String,
    pub created_at: Seconds,
    pub decided_at: Option<Seconds>,
    pub decided_by: Option<String>,
}

const COLUMNS: &str = "id, enrollment_id, fingerprint, session_id, serial_number, name, model, model_name, \
                       product_name, os_version, has_token, state, created_at, decided_at, decided_by";

/// A decided claim is worth a line in a list and nothing more.
const EMPTY: &str = "authenticate = NULL, token_update = NULL, topic = NULL, push_magic = NULL, push_token = NULL, \
                     sealed_unlock_token = NULL, sealed_bootstrap_token = NULL";

fn read(row: &Row<'_>) -> rusqlite::Result<Claim> {
    Ok(Claim {
        id: row.get(0)?,
        enrollment_id: row.get(1)?,
        fingerprint: row.get(2)?,
        session_id: row.get(3)?,
        serial_number: row.get(4)?,
        name: row.get(5)?,
        model: row.get(6)?,
        model_name: row.get(7)?,
        product_name: row.get(8)?,
        os_version: row.get(9)?,
        has_token: row.get(10)?,
        state: row.get(11)?,
        created_at: row.get(12)?,
        decided_at: row.get(13)?,
        decided_by: row.get(14)?,
    })
}

/// The claims on an enrollment before the one of this row number, newest first, with their row numbers.
pub fn list(
    conn: &Connection,
    enrollment_id: &str,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<(i64, Claim)>> {
    let mut statement = conn.prepare_cached(&format!(
        "SELECT {COLUMNS}, rowid FROM claims WHERE enrollment_id = ?1 AND rowid < ?2
         ORDER BY rowid DESC LIMIT ?3"
    ))?;
    let rows = statement.query_map(params![enrollment_id, before.unwrap_or(i64::MAX), limit], |row| {
        Ok((row.get(15)?, read(row)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// One claim.
pub fn find(conn: &Connection, id: &str) -> Result<Option<Claim>> {
    Ok(conn
        .prepare_cached(&format!("SELECT {COLUMNS} FROM claims WHERE id = ?1"))?
        .query_row([id], read)
        .optional()?)
}

/// How many claims on an enrollment wait.
pub fn waiting_in_all(conn: &Connection) -> Result<i64> {
    Ok(conn.query_row("SELECT COUNT(*) FROM claims WHERE state = 'waiting'", [], |row| row.get(0))?)
}

/// How many claims to one enrollment wait.
pub fn waiting(conn: &Connection, enrollment_id: &str) -> Result<i64> {
    Ok(conn
        .prepare_cached("SELECT COUNT(*) FROM claims WHERE enrollment_id = ?1 AND state = 'waiting'")?
        .query_row([enrollment_id], |row| row.get(0))?)
}

/// An identity said Authenticate with the UDID of a live enrollment.
///
/// # Errors
/// `Invalid` when too many wait already.
pub fn open(
    tx: &Tx<'_>,
    enrollment_id: &str,
    identity: &Identity,
    message: &[u8],
    facts: &Facts<'_>,
) -> Result<()> {
    if waiting(tx, enrollment_id)? >= MOST_WAITING {
        return Err(Error::invalid(
            "too many identities claim this device already; an administrator has to decide first",
        ));
    }
    tx.prepare_cached(
        "INSERT INTO claims (id, enrollment_id, fingerprint, session_id, authenticate, serial_number, name, model,
                             model_name, product_name, os_version, state, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 'waiting', ?12)",
    )?
    .execute(params![
        id::hex(&id::random::<8>()),
        enrollment_id,
        identity.fingerprint,
        identity.session_id,
        message,
        facts.serial_number,
        facts.name,
        facts.model,
        facts.model_name,
        facts.product_name,
        facts.os_version,
        tx.now()
    ])?;
    identity::claim(tx, &identity.fingerprint, enrollment_id)?;
    event::record(
        tx,
        "claim",
        Some(enrollment_id),
        "A new identity says it is this device, which is still enrolled. It gets nothing until someone approves or rejects the claim.",
    )
}

/// The claim of this identity, if it was rejected: then it is told to unenroll.
pub fn rejected(conn: &Connection, fingerprint: &Fingerprint) -> Result<Option<Claim>> {
    Ok(conn
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM claims WHERE fingerprint = ?1 AND state = 'rejected'"
        ))?
        .query_row([fingerprint], read)
        .optional()?)
}

/// Whether the identity of a session waits for a decision, or is still to hear that it was rejected.
pub fn matters(conn: &Connection, session_id: &str) -> Result<bool> {
    Ok(conn
        .prepare_cached("SELECT 1 FROM claims WHERE session_id = ?1 AND state IN ('waiting', 'rejected')")?
        .exists([session_id])?)
}

/// The TokenUpdate of a claiming identity: kept apart from the enrollment's.
pub fn update_token(
    tx: &Tx<'_>,
    seal: &Seal,
    fingerprint: &Fingerprint,
    push: &Push<'_>,
    unlock_token: Option<&[u8]>,
    message: &[u8],
) -> Result<()> {
    let sealed = unlock_token.map(|token| seal.seal(&seal_name(fingerprint), token));
    tx.prepare_cached(
        "UPDATE claims SET topic = ?2, push_magic = ?3, push_token = ?4, has_token = 1,
                           sealed_unlock_token = COALESCE(?5, sealed_unlock_token), token_update = ?6
         WHERE fingerprint = ?1 AND state = 'waiting'",
    )?
    .execute(params![fingerprint, push.topic, push.magic, push.token, sealed, message])?;
    Ok(())
}

/// The bootstrap token of a Mac that claims to be the device; an empty one takes it back. It comes once,
/// so it is kept for the day on which the claim is approved.
pub fn keep_bootstrap_token(tx: &Tx<'_>, seal: &Seal, fingerprint: &Fingerprint, token: &[u8]) -> Result<()> {
    let sealed = (!token.is_empty()).then(|| seal.seal(&seal_name(fingerprint), token));
    tx.prepare_cached(
        "UPDATE claims SET sealed_bootstrap_token = ?2 WHERE fingerprint = ?1 AND state = 'waiting'",
    )?
    .execute(params![fingerprint, sealed])?;
    Ok(())
}

/// The claiming device went away by itself.
pub fn withdraw(tx: &Tx<'_>, fingerprint: &Fingerprint) -> Result<()> {
    tx.prepare_cached(&format!(
        "UPDATE claims SET {EMPTY}, state = 'gone', decided_at = ?2
         WHERE fingerprint = ?1 AND state = 'waiting'"
    ))?
    .execute(params![fingerprint, tx.now()])?;
    identity::kill(tx, fingerprint)
}

/// Removes the claim of a session that came to nothing; what an administrator decided stays.
pub fn abandon(tx: &Tx<'_>, session_id: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM claims WHERE session_id = ?1 AND state = 'gone'")?
        .execute([session_id])?;
    Ok(())
}

/// Removes claims that were withdrawn before then, at most `limit`; answers how many.
pub fn thin(tx: &Tx<'_>, before: Seconds, limit: u32) -> Result<usize> {
    Ok(tx
        .prepare_cached(
            "DELETE FROM claims WHERE id IN (
                 SELECT id FROM claims WHERE state = 'gone' AND decided_at < ?1 LIMIT ?2)",
        )?
        .execute(params![before, limit])?)
}

/// The device that is claimed is forgotten: what waited comes to nothing.
pub fn forget(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    let waiting: Vec<Fingerprint> = tx
        .prepare_cached("SELECT fingerprint FROM claims WHERE enrollment_id = ?1 AND state = 'waiting'")?
        .query_map([enrollment_id], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    waiting.iter().try_for_each(|fingerprint| withdraw(tx, fingerprint))
}

/// What a claiming device said and entrusted to us, to be kept when it is let in.
struct Said {
    authenticate: Vec<u8>,
    token_update: Option<Vec<u8>>,
    push: Option<(String, String, Vec<u8>)>,
    unlock_token: Option<Vec<u8>>,
    bootstrap_token: Option<Vec<u8>>,
}

/// Nothing for a claim that was decided already.
fn said(conn: &Connection, seal: &Seal, claim: &Claim) -> Result<Option<Said>> {
    type Row = (Option<Vec<u8>>, Option<Vec<u8>>, [Option<String>; 2], [Option<Vec<u8>>; 3]);
    let (authenticate, token_update, [topic, magic], [token, unlock, bootstrap]): Row = conn
        .prepare_cached(
            "SELECT authenticate, token_update, topic, push_magic, push_token, sealed_unlock_token,
                    sealed_bootstrap_token FROM claims WHERE id = ?1",
        )?
        .query_row([&claim.id], |row| {
            let secrets = [row.get(4)?, row.get(5)?, row.get(6)?];
            Ok((row.get(0)?, row.get(1)?, [row.get(2)?, row.get(3)?], secrets))
        })?;
    let open = |sealed: Option<Vec<u8>>| {
        sealed.map(|sealed| seal.open_sealed(&seal_name(&claim.fingerprint), &sealed)).transpose()
    };
    let Some(authenticate) = authenticate else { return Ok(None) };
    Ok(Some(Said {
        authenticate,
        token_update,
        push: topic.zip(magic).zip(token).map(|((topic, magic), token)| (topic, magic, token)),
        unlock_token: open(unlock)?,
        bootstrap_token: open(bootstrap)?,
    }))
}

/// Lets the claiming identity in: it is the device from now on, the earlier one is not. Its users come
/// back by themselves, each with the TokenUpdate of the next login.
///
/// # Errors
/// `NotFound`; `Conflict` when it was decided already, or when its link was used up by others.
pub fn approve(tx: &Tx<'_>, seal: &Seal, claim_id: &str, by: &str) -> Result<Claim> {
    let waiting = find(tx, claim_id)?.ok_or_else(|| Error::NotFound("such claim".into()))?;
    let said = said(tx, seal, &waiting)?;
    let claim = decide(tx, claim_id, "approved", by)?;
    let said = said.ok_or_else(|| Error::internal("what a waiting claim said is missing"))?;
    let message = plist::parse_dict(&said.authenticate)?;
    let ids = Ids::of(&message)?;
    let session = session::find(tx, &claim.session_id)?
        .ok_or_else(|| Error::internal("the enrollment session of a claim is missing"))?;
    // Counted now, or the TokenUpdate of a device that was let in could be refused for a spent link.
    session::count_use(tx, &session).map_err(|error| match error {
        Error::Invalid { .. } => Error::conflict(
            "the link that this device came with was used up by other devices; reject the claim and give the device a new link",
        ),
        other => other,
    })?;
    let invitation = session.invitation(tx)?;
    begin::begin(tx, &ids, &session, invitation.as_ref(), &claim.fingerprint, &message)?;
    keep(tx, seal, &ids, &said)?;
    event::record(
        tx,
        "claim-approved",
        Some(&claim.enrollment_id),
        &format!("The claim was approved by {by}: the new identity is this device now."),
    )?;
    Ok(claim)
}

/// What it said as a claim counts as if it had said it now.
fn keep(tx: &Tx<'_>, seal: &Seal, ids: &Ids, said: &Said) -> Result<()> {
    let id = ids.enrollment_id.as_str();
    enrollment::keep_message(tx, id, "Authenticate", &said.authenticate)?;
    if let (Some(message), Some((topic, magic, token))) = (&said.token_update, &said.push) {
        let awaiting = plist::boolean(&plist::parse_dict(message)?, "AwaitingConfiguration")?;
        enrollment::update_token(tx, ids, &Push { topic, magic, token }, awaiting)?;
        enrollment::keep_message(tx, id, "TokenUpdate", message)?;
    }
    for (kind, token) in [
        (escrow::Kind::UnlockToken, &said.unlock_token),
        (escrow::Kind::BootstrapToken, &said.bootstrap_token),
    ] {
        if let Some(token) = token {
            escrow::store(tx, seal, id, kind, token)?;
        }
    }
    if said.push.is_some() { sync::reachable(tx, id) } else { Ok(()) }
}

/// Sends the claiming identity away: at its next contact it is told to unenroll.
///
/// # Errors
/// `NotFound`; `Conflict` when it was decided already.
pub fn reject(tx: &Tx<'_>, claim_id: &str, by: &str) -> Result<Claim> {
    let claim = decide(tx, claim_id, "rejected", by)?;
    identity::kill(tx, &claim.fingerprint)?;
    event::record(
        tx,
        "claim-rejected",
        Some(&claim.enrollment_id),
        &format!("The claim was rejected by {by}."),
    )?;
    Ok(claim)
}

fn decide(tx: &Tx<'_>, claim_id: &str, state: &str, by: &str) -> Result<Claim> {
    let claim = find(tx, claim_id)?.ok_or_else(|| Error::NotFound("such claim".into()))?;
    if claim.state != "waiting" {
        return Err(Error::conflict(format!("this claim is {} already", claim.state)));
    }
    tx.prepare_cached(&format!(
        "UPDATE claims SET {EMPTY}, state = ?2, decided_at = ?3, decided_by = ?4 WHERE id = ?1"
    ))?
    .execute(params![claim_id, state, tx.now(), by])?;
    Ok(claim)
}

fn seal_name(fingerprint: &Fingerprint) -> String {
    format!("claim/{}", id::hex(fingerprint))
}
