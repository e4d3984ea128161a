//! The certificates that the enrollment CA issued to devices, and whom each speaks for.
//!
//! A presented certificate is looked up by its SHA-256: only what stands here is ours, whatever its
//! issuer's name says. Enrollment sessions and SCEP (`enroll`) write the rows, `mdm` pins them.
//!
//! **Invariant:** an identity speaks for one enrollment at the most, for ever: `pinned` is reached
//! from `issued` or `claim` only, and nothing leads out of `dead`.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::clock::{DAY, Seconds};
use crate::error::Result;
use crate::storage::Tx;

/// SHA-256 of a certificate's DER.
pub type Fingerprint = [u8; 32];

/// How long an identity works on after its successor was first used: the device may still have an
/// answer under way that it signed with the old one.
pub const OVERLAP: Seconds = 7 * DAY;

/// For so long after its expiry a pinned identity may connect, only to be renewed.
pub const RENEWAL_GRACE: Seconds = 365 * DAY;

/// What an identity may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Issued, and not yet used: it may say Authenticate.
    Issued,
    /// Speaks for its enrollment.
    Pinned,
    /// Speaks for its enrollment until [`OVERLAP`] has passed: a newer one is in use.
    Superseded,
    /// Said Authenticate for a live enrollment and waits for a decision (`mdm::claim`).
    Claim,
    /// Worth nothing any more.
    Dead,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Pinned => "pinned",
            Self::Superseded => "superseded",
            Self::Claim => "claim",
            Self::Dead => "dead",
        }
    }

    fn from_word(word: &str) -> Self {
        match word {
            "issued" => Self::Issued,
            "pinned" => Self::Pinned,
            "superseded" => Self::Superseded,
            "claim" => Self::Claim,
            _ => Self::Dead,
        }
    }
}

/// One row.
#[derive(Clone, Debug)]
pub struct Identity {
    pub fingerprint: Fingerprint,
    pub session_id: String,
    pub not_after: Seconds,
    pub state: State,
    pub state_since: Seconds,
    /// The device channel that it speaks for or claims.
    pub enrollment_id: Option<String>,
}

impl Identity {
    /// Whether its dates have passed.
    pub fn is_expired(&self, now: Seconds) -> bool {
        self.not_after < now
    }
}

/// A certificate as it was issued.
pub struct Issued<'a> {
    pub certificate: &'a [u8],
    pub serial_number: &'a str,
    pub session_id: &'a str,
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub public_key: &'a [u8; 32],
    pub not_before: Seconds,
    pub not_after: Seconds,
}

/// Records a certificate that may say Authenticate.
pub fn insert(tx: &Tx<'_>, issued: &Issued<'_>) -> Result<Fingerprint> {
    let fingerprint = crate::id::sha256(issued.certificate);
    tx.prepare_cached(
        "INSERT INTO identities (fingerprint, serial_number, session_id, public_key, certificate,
                                 not_before, not_after, issued_at, state, state_since)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'issued', ?8)",
    )?
    .execute(params![
        fingerprint,
        issued.serial_number,
        issued.session_id,
        issued.public_key,
        issued.certificate,
        issued.not_before,
        issued.not_after,
        tx.now(),
    ])?;
    Ok(fingerprint)
}

const COLUMNS: &str = "fingerprint, session_id, not_after, state, state_since, enrollment_id";

fn read(row: &Row<'_>) -> rusqlite::Result<Identity> {
    Ok(Identity {
        fingerprint: row.get(0)?,
        session_id: row.get(1)?,
        not_after: row.get(2)?,
        state: State::from_word(row.get_ref(3)?.as_str()?),
        state_since: row.get(4)?,
        enrollment_id: row.get(5)?,
    })
}

/// The identity with this fingerprint, if we issued it.
pub fn find(conn: &Connection, fingerprint: &Fingerprint) -> Result<Option<Identity>> {
    Ok(conn
        .prepare_cached(&format!("SELECT {COLUMNS} FROM identities WHERE fingerprint = ?1"))?
        .query_row([fingerprint], read)
        .optional()?)
}

/// The certificate that this session got for this public key, if it is still worth something: the
/// same request repeated gets the same certificate.
pub fn issued_for(conn: &Connection, session_id: &str, public_key: &[u8; 32]) -> Result<Option<Vec<u8>>> {
    Ok(conn
        .prepare_cached(
            "SELECT certificate FROM identities
             WHERE session_id = ?1 AND public_key = ?2 AND state <> 'dead'",
        )?
        .query_row(params![session_id, public_key], |row| row.get(0))
        .optional()?)
}

/// What a device got for this public key when it renewed `signer` before: the certificate, if it is
/// still good. Later rows were issued later; the key may be that of `signer` itself.
pub fn renewed_for(
    conn: &Connection,
    enrollment_id: &str,
    public_key: &[u8; 32],
    signer: &Fingerprint,
    now: Seconds,
) -> Result<Option<Vec<u8>>> {
    Ok(conn
        .prepare_cached(
            "SELECT certificate FROM identities
             WHERE enrollment_id = ?1 AND public_key = ?2 AND state = 'pinned' AND not_after > ?4
               AND rowid > (SELECT rowid FROM identities WHERE fingerprint = ?3)
             ORDER BY rowid DESC LIMIT 1",
        )?
        .query_row(params![enrollment_id, public_key, signer, now], |row| row.get(0))
        .optional()?)
}

/// How many identities speak for a device now.
pub fn count_in_use(conn: &Connection, enrollment_id: &str, now: Seconds) -> Result<u32> {
    Ok(conn
        .prepare_cached(
            "SELECT COUNT(*) FROM identities
             WHERE enrollment_id = ?1
               AND (state = 'pinned' OR (state = 'superseded' AND state_since >= ?2))",
        )?
        .query_row(params![enrollment_id, now - OVERLAP], |row| row.get(0))?)
}

/// The newest identity that speaks for a device.
pub fn newest_of(conn: &Connection, enrollment_id: &str) -> Result<Option<Identity>> {
    Ok(conn
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM identities
             WHERE enrollment_id = ?1 AND state = 'pinned'
             ORDER BY not_after DESC LIMIT 1"
        ))?
        .query_row([enrollment_id], read)
        .optional()?)
}

/// Devices whose newest identity ends before `end`, oldest first.
pub fn ending_before(conn: &Connection, end: Seconds) -> Result<Vec<String>> {
    let mut statement = conn.prepare_cached(
        "SELECT enrollment_id FROM identities
         WHERE state = 'pinned' AND enrollment_id IS NOT NULL
         GROUP BY enrollment_id HAVING MAX(not_after) < ?1
         ORDER BY MAX(not_after)",
    )?;
    Ok(statement.query_map([end], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

fn move_to(tx: &Tx<'_>, fingerprint: &Fingerprint, state: State, enrollment_id: Option<&str>) -> Result<()> {
    tx.prepare_cached(
        "UPDATE identities SET state = ?2, state_since = ?3, enrollment_id = COALESCE(?4, enrollment_id)
         WHERE fingerprint = ?1",
    )?
    .execute(params![fingerprint, state.word(), tx.now(), enrollment_id])?;
    Ok(())
}

/// From now on this identity speaks for this device.
pub fn pin(tx: &Tx<'_>, fingerprint: &Fingerprint, enrollment_id: &str) -> Result<()> {
    move_to(tx, fingerprint, State::Pinned, Some(enrollment_id))
}

/// From now on this identity waits for a decision on its claim.
pub fn claim(tx: &Tx<'_>, fingerprint: &Fingerprint, enrollment_id: &str) -> Result<()> {
    move_to(tx, fingerprint, State::Claim, Some(enrollment_id))
}

/// Ends one identity.
pub fn kill(tx: &Tx<'_>, fingerprint: &Fingerprint) -> Result<()> {
    move_to(tx, fingerprint, State::Dead, None)
}

/// Ends every identity of a session that was never used, for instance since another key came with the
/// same challenge. It spoke for nobody, so nothing of it is kept: keys can be sent without end.
pub fn remove_unused(tx: &Tx<'_>, session_id: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM identities WHERE session_id = ?1 AND state = 'issued'")?
        .execute([session_id])?;
    Ok(())
}

/// Removes every identity of a session, whatever it was.
pub fn remove_of(tx: &Tx<'_>, session_id: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM identities WHERE session_id = ?1")?.execute([session_id])?;
    Ok(())
}

/// Removes identities that ended long before `before`, at most `limit`; answers how many. What speaks
/// for a device or waits for a decision stays, and a dead one until its dates have passed, since its
/// holder may still be told that it has ended.
pub fn thin(tx: &Tx<'_>, before: Seconds, limit: u32) -> Result<usize> {
    Ok(tx
        .prepare_cached(
            "DELETE FROM identities WHERE fingerprint IN (
                 SELECT fingerprint FROM identities
                 WHERE (state IN ('issued', 'dead') AND not_after < ?1)
                    OR (state = 'superseded' AND state_since < ?1)
                 LIMIT ?2)",
        )?
        .execute(params![before, limit])?)
}

/// The device used `fingerprint`: those that it got before end after [`OVERLAP`]. One that it got
/// later and has not used yet stays, or the device would be left with what ends soon.
pub fn supersede_earlier(tx: &Tx<'_>, enrollment_id: &str, fingerprint: &Fingerprint) -> Result<()> {
    tx.prepare_cached(
        "UPDATE identities SET state = 'superseded', state_since = ?3
         WHERE enrollment_id = ?1 AND fingerprint <> ?2 AND state = 'pinned'
           -- In the order in which they were issued, whatever the clock said.
           AND rowid < (SELECT rowid FROM identities WHERE fingerprint = ?2)",
    )?
    .execute(params![enrollment_id, fingerprint, tx.now()])?;
    Ok(())
}

/// Ends every identity that speaks for a device; claims on it are not touched.
pub fn kill_all_of(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    tx.prepare_cached(
        "UPDATE identities SET state = 'dead', state_since = ?2
         WHERE enrollment_id = ?1 AND state IN ('pinned', 'superseded')",
    )?
    .execute(params![enrollment_id, tx.now()])?;
    Ok(())
}
