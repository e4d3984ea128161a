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
use super::enrollment::{self, Push};
use super::escrow;
use super::ids::Ids;
use super::{event, sync};
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
    /// The Authenticate message as it came.
    pub authenticate: Vec<u8>,
    pub has_token: bool,
    pub state: String,
    pub created_at: Seconds,
    pub decided_at: Option<Seconds>,
    pub decided_by: Option<String>,
}

const COLUMNS: &str = "id, enrollment_id, fingerprint, session_id, authenticate, push_token IS NOT NULL, state, \
                       created_at, decided_at, decided_by";

fn read(row: &Row<'_>) -> rusqlite::Result<Claim> {
    Ok(Claim {
        id: row.get(0)?,
        enrollment_id: row.get(1)?,
        fingerprint: row.get(2)?,
        session_id: row.get(3)?,
        authenticate: row.get(4)?,
        has_token: row.get(5)?,
        state: row.get(6)?,
        created_at: row.get(7)?,
        decided_at: row.get(8)?,
        decided_by: row.get(9)?,
    })
}

/// The claims on an enrollment, newest first, decided ones too.
pub fn of_enrollment(conn: &Connection, enrollment_id: &str) -> Result<Vec<Claim>> {
    let mut statement = conn.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM claims WHERE enrollment_id = ?1 ORDER BY created_at DESC, id LIMIT 100"
    ))?;
    Ok(statement.query_map([enrollment_id], read)?.collect::<Result<_, _>>()?)
}

/// One claim.
pub fn find(conn: &Connection, id: &str) -> Result<Option<Claim>> {
    Ok(conn
        .prepare_cached(&format!("SELECT {COLUMNS} FROM claims WHERE id = ?1"))?
        .query_row([id], read)
        .optional()?)
}

/// How many claims on an enrollment wait.
pub fn waiting(conn: &Connection, enrollment_id: &str) -> Result<i64> {
    Ok(conn
        .prepare_cached("SELECT COUNT(*) FROM claims WHERE enrollment_id = ?1 AND state = 'waiting'")?
        .query_row([enrollment_id], |row| row.get(0))?)
}

/// An identity said Authenticate with the UDID of a live enrollment.
///
/// # Errors
/// `Invalid` when too many wait already.
pub fn open(tx: &Tx<'_>, enrollment_id: &str, identity: &Identity, message: &[u8]) -> Result<()> {
    if waiting(tx, enrollment_id)? >= MOST_WAITING {
        return Err(Error::invalid(
            "too many identities claim this device already; an administrator has to decide first",
        ));
    }
    tx.prepare_cached(
        "INSERT INTO claims (id, enrollment_id, fingerprint, session_id, authenticate, state, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, 'waiting', ?6)",
    )?
    .execute(params![
        id::hex(&id::random::<8>()),
        enrollment_id,
        identity.fingerprint,
        identity.session_id,
        message,
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

/// Whether the claim of this identity was rejected: then it is told to unenroll.
pub fn was_rejected(conn: &Connection, fingerprint: &Fingerprint) -> Result<bool> {
    Ok(conn
        .prepare_cached("SELECT 1 FROM claims WHERE fingerprint = ?1 AND state = 'rejected'")?
        .exists([fingerprint])?)
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
        "UPDATE claims SET topic = ?2, push_magic = ?3, push_token = ?4,
                           sealed_unlock_token = COALESCE(?5, sealed_unlock_token), token_update = ?6
         WHERE fingerprint = ?1 AND state = 'waiting'",
    )?
    .execute(params![fingerprint, push.topic, push.magic, push.token, sealed, message])?;
    Ok(())
}

/// The claiming device went away by itself.
pub fn withdraw(tx: &Tx<'_>, fingerprint: &Fingerprint) -> Result<()> {
    tx.prepare_cached(
        "UPDATE claims SET state = 'gone', decided_at = ?2 WHERE fingerprint = ?1 AND state = 'waiting'",
    )?
    .execute(params![fingerprint, tx.now()])?;
    identity::kill(tx, fingerprint)
}

/// The device that is claimed is forgotten: what waited comes to nothing.
pub fn forget(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    let waiting: Vec<Fingerprint> = tx
        .prepare_cached("SELECT fingerprint FROM claims WHERE enrollment_id = ?1 AND state = 'waiting'")?
        .query_map([enrollment_id], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    waiting.iter().try_for_each(|fingerprint| withdraw(tx, fingerprint))
}

/// Lets the claiming identity in: it is the device from now on, the earlier one is not.
///
/// # Errors
/// `NotFound`; `Conflict` when it was decided already.
pub fn approve(tx: &Tx<'_>, seal: &Seal, claim_id: &str, by: &str) -> Result<Claim> {
    let claim = decide(tx, claim_id, "approved", by)?;
    let message = plist::parse_dict(&claim.authenticate)?;
    let ids = Ids::of(&message)?;
    let session = session::find(tx, &claim.session_id)?
        .ok_or_else(|| Error::internal("the enrollment session of a claim is missing"))?;
    // Counted now, or the TokenUpdate of a device that was let in could be refused for a spent link.
    session::count_use(tx, &session)?;
    let invitation = session.invitation(tx)?;
    begin::begin(tx, &ids, &session, invitation.as_ref(), &claim.fingerprint, &message)?;
    type Token = (Option<String>, Option<String>, Option<Vec<u8>>, Option<Vec<u8>>);
    let (topic, magic, token, sealed): Token = tx
        .prepare_cached(
            "SELECT topic, push_magic, push_token, sealed_unlock_token FROM claims WHERE id = ?1",
        )?
        .query_row([claim_id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    if let (Some(topic), Some(magic), Some(token)) = (topic, magic, token) {
        let push = Push { topic: &topic, magic: &magic, token: &token };
        enrollment::update_token(tx, &ids, &push, None)?;
        if let Some(sealed) = sealed {
            let unlock = seal.open_sealed(&seal_name(&claim.fingerprint), &sealed)?;
            escrow::store(tx, seal, &ids.enrollment_id, escrow::Kind::UnlockToken, &unlock)?;
        }
        sync::reachable(tx, &ids.enrollment_id)?;
    }
    event::record(
        tx,
        "claim-approved",
        Some(&claim.enrollment_id),
        &format!("The claim was approved by {by}: the new identity is this device now."),
    )?;
    Ok(claim)
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
    tx.prepare_cached("UPDATE claims SET state = ?2, decided_at = ?3, decided_by = ?4 WHERE id = ?1")?
        .execute(params![claim_id, state, tx.now(), by])?;
    Ok(claim)
}

fn seal_name(fingerprint: &Fingerprint) -> String {
    format!("claim/{}", id::hex(fingerprint))
}
