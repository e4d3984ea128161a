//! Enrollment sessions: one for each profile that was handed out.
//!
//! A session holds what the profile said and the hash of its SCEP challenge, and its id stands in
//! the subject of the certificates issued for it. The first Authenticate binds it to one device, for
//! ever. A renewal is a session too: of the enrollment that it renews, with the same parameters.
//!
//! **Invariant:** a certificate of a session can speak for the device it was bound to and no other.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::invitation::{self, Invitation};
use crate::clock::{DAY, HOUR, MINUTE, Seconds};
use crate::error::{Error, Result};
use crate::id;
use crate::pki::identity;
use crate::storage::Tx;

/// How long the challenge of a renewal holds: the device may be in a drawer for the holidays.
const RENEWAL_LIFE: Seconds = 30 * DAY;
/// How long a device that has got its certificate may take to say Authenticate, at most so many of a link.
const ABOUT_TO_ENROLL: Seconds = 10 * MINUTE;
const MOST_ABOUT_TO_ENROLL: u32 = 1000;
/// How long after a renewal was sent and answered without effect the next is sent.
const RETRY: Seconds = 4 * HOUR;

/// What the profile says and can never change for a device (Apple: `com.apple.mdm`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    pub topic: String,
    pub server_url: String,
    pub check_in_url: String,
    pub scep_url: String,
    pub access_rights: u16,
    pub capabilities: Vec<String>,
    /// PayloadIdentifier of the whole profile; decides replace or add.
    pub identifier: String,
    pub organization: String,
    /// PayloadUUID of the MDM payload.
    pub mdm_uuid: String,
}

/// Where a session came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Invitation(String),
    Renewal(String),
}

/// One row.
#[derive(Clone, Debug)]
pub struct Session {
    pub id: String,
    pub origin: Origin,
    pub parameters: Parameters,
    pub enrollment_id: Option<String>,
    pub counted: bool,
    pub created_at: Seconds,
    pub expires_at: Seconds,
}

impl Session {
    /// The renewal of this very enrollment.
    pub fn renews(&self, enrollment_id: &str) -> bool {
        matches!(&self.origin, Origin::Renewal(renewed) if renewed == enrollment_id)
    }

    /// The enrollment that it renews, if it is a renewal.
    pub fn renewed(self) -> Option<String> {
        match self.origin {
            Origin::Renewal(enrollment) => Some(enrollment),
            Origin::Invitation(_) => None,
        }
    }

    /// The invitation it came from, as it stands now.
    ///
    /// # Errors
    /// `Internal` when the row is gone.
    pub fn invitation(&self, conn: &Connection) -> Result<Option<Invitation>> {
        match &self.origin {
            Origin::Invitation(code) => invitation::find(conn, code),
            Origin::Renewal(_) => Ok(None),
        }
    }
}

/// Opens a session whose id and challenge are chosen already: its profile was signed beforehand.
pub fn open_as(
    tx: &Tx<'_>,
    session: &str,
    challenge: &str,
    origin: &Origin,
    parameters: &Parameters,
    expires_at: Seconds,
) -> Result<()> {
    let (invitation, renews) = match origin {
        Origin::Invitation(code) => (Some(code), None),
        Origin::Renewal(enrollment) => (None, Some(enrollment)),
    };
    let parameters = serde_json::to_string(parameters)
        .map_err(|source| Error::caused("the parameters of a session cannot be written", source))?;
    tx.prepare_cached(
        "INSERT INTO sessions (id, invitation, renews, challenge_hash, parameters, created_at, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        session,
        invitation,
        renews,
        id::sha256(challenge.as_bytes()),
        parameters,
        tx.now(),
        expires_at
    ])?;
    Ok(())
}

/// Profiles that nobody installed: of each invitation only the newest are kept, with or without a
/// certificate, so that whoever holds a link cannot fill the disk with it. A device that has just got its
/// certificate is about to use it, and is given a while unless very many say so.
pub fn keep_newest(tx: &Tx<'_>, invitation: &str, count: u32) -> Result<()> {
    let mut statement = tx.prepare_cached(
        "SELECT id FROM (SELECT id, rowid AS number FROM sessions
                         WHERE invitation = ?1 AND counted = 0 AND enrollment_id IS NULL
                         ORDER BY created_at DESC, rowid DESC LIMIT -1 OFFSET ?2)
         WHERE ?3 IS NULL
            OR NOT EXISTS (SELECT 1 FROM identities WHERE identities.session_id = id AND issued_at > ?3)",
    )?;
    for (kept, since) in [(count, Some(tx.now() - ABOUT_TO_ENROLL)), (count.max(MOST_ABOUT_TO_ENROLL), None)]
    {
        let old: Vec<String> = statement
            .query_map(params![invitation, kept, since], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        old.iter().try_for_each(|session| remove(tx, session))?;
    }
    Ok(())
}

/// Sessions of an invitation whose devices said Authenticate and never TokenUpdate, but for the newest
/// `count`, with those devices: each costs whoever holds a link nothing.
pub fn unfinished(conn: &Connection, invitation: &str, count: u32) -> Result<Vec<(String, String)>> {
    Ok(conn
        .prepare_cached(
            "SELECT id, enrollment_id FROM sessions
             WHERE invitation = ?1 AND counted = 0 AND enrollment_id IS NOT NULL
             ORDER BY created_at DESC, rowid DESC LIMIT -1 OFFSET ?2",
        )?
        .query_map(params![invitation, count], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?)
}

/// Removes a session that came to nothing, and what was issued for it.
pub fn remove(tx: &Tx<'_>, session: &str) -> Result<()> {
    identity::remove_of(tx, session)?;
    tx.prepare_cached("DELETE FROM sessions WHERE id = ?1")?.execute([session])?;
    Ok(())
}

/// When the challenge of a renewal that is sent now ends.
pub fn renewal_expiry(now: Seconds) -> Seconds {
    now + RENEWAL_LIFE
}

const COLUMNS: &str = "id, invitation, renews, parameters, enrollment_id, counted, created_at, expires_at";

fn read(row: &Row<'_>) -> rusqlite::Result<Session> {
    let invitation: Option<String> = row.get(1)?;
    let renews: Option<String> = row.get(2)?;
    let parameters: String = row.get(3)?;
    Ok(Session {
        id: row.get(0)?,
        origin: match renews {
            Some(enrollment) => Origin::Renewal(enrollment),
            None => Origin::Invitation(invitation.unwrap_or_default()),
        },
        parameters: serde_json::from_str(&parameters).map_err(|source| {
            rusqlite::Error::FromSqlConversionFailure(3, rusqlite::types::Type::Text, Box::new(source))
        })?,
        enrollment_id: row.get(4)?,
        counted: row.get(5)?,
        created_at: row.get(6)?,
        expires_at: row.get(7)?,
    })
}

/// The session with this id.
pub fn find(conn: &Connection, id: &str) -> Result<Option<Session>> {
    Ok(conn
        .prepare_cached(&format!("SELECT {COLUMNS} FROM sessions WHERE id = ?1"))?
        .query_row([id], read)
        .optional()?)
}

/// The session whose challenge this is. Looking up the hash tells nothing about near misses.
pub fn by_challenge(conn: &Connection, challenge: &str) -> Result<Option<Session>> {
    Ok(conn
        .prepare_cached(&format!("SELECT {COLUMNS} FROM sessions WHERE challenge_hash = ?1"))?
        .query_row([id::sha256(challenge.as_bytes())], read)
        .optional()?)
}

/// Binds a session to the device that first said Authenticate with one of its certificates.
pub fn bind(tx: &Tx<'_>, session: &str, enrollment_id: &str) -> Result<()> {
    tx.prepare_cached("UPDATE sessions SET enrollment_id = ?2 WHERE id = ?1 AND enrollment_id IS NULL")?
        .execute([session, enrollment_id])?;
    Ok(())
}

/// Counts the use of the session's invitation, once.
///
/// # Errors
/// `Invalid` when the invitation's uses are all taken.
pub fn count_use(tx: &Tx<'_>, session: &Session) -> Result<()> {
    if let (Origin::Invitation(code), false) = (&session.origin, session.counted) {
        invitation::count(tx, code)?;
        tx.prepare_cached("UPDATE sessions SET counted = 1 WHERE id = ?1")?.execute([&session.id])?;
    }
    Ok(())
}

/// Ends every identity of a device, and the renewals that were sent to it and not used: whoever still
/// holds their challenge or certificate was the device in an earlier life and is not any more.
pub fn end_identities(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    let unused: Vec<String> = tx
        .prepare_cached(
            "UPDATE sessions SET expires_at = 0 WHERE renews = ?1 AND enrollment_id IS NULL RETURNING id",
        )?
        .query_map([enrollment_id], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    unused.iter().try_for_each(|session| identity::remove_unused(tx, session))?;
    identity::kill_all_of(tx, enrollment_id)
}

/// Removes identities and sessions that ended a month ago, at most `limit` of each; answers how many.
/// A session that a device enrolled with stays: its renewals repeat what it says.
pub fn thin(tx: &Tx<'_>, limit: u32) -> Result<usize> {
    let before = tx.now() - 30 * DAY;
    let identities = identity::thin(tx, before, limit)?;
    let sessions = tx
        .prepare_cached(
            "DELETE FROM sessions WHERE id IN (
                 SELECT id FROM sessions
                 WHERE expires_at < ?1 AND counted = 0
                   AND NOT EXISTS (SELECT 1 FROM identities WHERE identities.session_id = sessions.id)
                 LIMIT ?2)",
        )?
        .execute(params![before, limit])?;
    Ok(identities + sessions)
}

/// The newest renewal of a device.
pub fn newest_renewal(conn: &Connection, enrollment_id: &str) -> Result<Option<Session>> {
    Ok(conn
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM sessions WHERE renews = ?1 ORDER BY created_at DESC LIMIT 1"
        ))?
        .query_row([enrollment_id], read)
        .optional()?)
}

/// Whether a new renewal is to be sent: none is under way, or the last one came to nothing.
///
/// `waiting` says whether its command still waits in the queue; then it is sent again by itself
/// until its challenge ends.
pub fn renewal_is_due(last: Option<&Session>, waiting: bool, expired: bool, now: Seconds) -> bool {
    last.is_none_or(|last| renewal_next(last, waiting, expired) <= now)
}

/// When the renewal after this one is sent, unless this one arrives.
pub fn renewal_next(last: &Session, waiting: bool, expired: bool) -> Seconds {
    match waiting {
        true => last.expires_at,
        // An expired device has nothing else to do here; it is given the next try soon.
        false => last.created_at + if expired { MINUTE } else { RETRY },
    }
}
