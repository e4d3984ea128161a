//! Secrets that devices entrust to us: unlock tokens and bootstrap tokens.
//!
//! TokenUpdate and SetBootstrapToken write them, ClearPasscode and GetBootstrapToken need them back
//! byte for byte. A new one supersedes the old, which stays as history: a wiped or re-enrolled Mac's
//! token can still be the one that opens its disk.
//!
//! **Invariant:** values are sealed under the enrollment's ID, so one device's can never be handed
//! to another.

use rusqlite::{Connection, OptionalExtension, params};

use crate::error::Result;
use crate::pki::seal::Seal;
use crate::storage::Tx;

/// How many of each kind are kept for each enrollment; a healthy device sends a few in its life.
const HISTORY: u32 = 100;

/// What kind of secret.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    UnlockToken,
    BootstrapToken,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::UnlockToken => "unlock-token",
            Self::BootstrapToken => "bootstrap-token",
        }
    }
}

fn name(enrollment_id: &str, kind: Kind) -> String {
    format!("{}/{enrollment_id}", kind.word())
}

/// Stores a secret as the current one; the same value again changes nothing.
pub fn store(tx: &Tx<'_>, seal: &Seal, enrollment_id: &str, kind: Kind, value: &[u8]) -> Result<()> {
    if current(tx, seal, enrollment_id, kind)?.as_deref() == Some(value) {
        return Ok(());
    }
    retire(tx, enrollment_id, kind)?;
    tx.prepare_cached(
        "INSERT INTO escrow (enrollment_id, kind, sealed_value, stored_at, current) VALUES (?1, ?2, ?3, ?4, 1)",
    )?
    .execute(params![
        enrollment_id,
        kind.word(),
        seal.seal(&name(enrollment_id, kind), value),
        tx.now()
    ])?;
    // A device that sends a new one every second must not fill the disk.
    tx.prepare_cached(
        "DELETE FROM escrow WHERE enrollment_id = ?1 AND kind = ?2
           AND id NOT IN (SELECT id FROM escrow WHERE enrollment_id = ?1 AND kind = ?2 ORDER BY id DESC LIMIT ?3)",
    )?
    .execute(params![enrollment_id, kind.word(), HISTORY])?;
    Ok(())
}

/// The secret is used no more; it stays as history.
pub fn retire(tx: &Tx<'_>, enrollment_id: &str, kind: Kind) -> Result<()> {
    tx.prepare_cached(
        "UPDATE escrow SET current = 0 WHERE enrollment_id = ?1 AND kind = ?2 AND current = 1",
    )?
    .execute(params![enrollment_id, kind.word()])?;
    Ok(())
}

/// The secret in use.
///
/// # Errors
/// `Internal` when it does not open with our sealing key.
pub fn current(conn: &Connection, seal: &Seal, enrollment_id: &str, kind: Kind) -> Result<Option<Vec<u8>>> {
    let sealed: Option<Vec<u8>> = conn
        .prepare_cached(
            "SELECT sealed_value FROM escrow WHERE enrollment_id = ?1 AND kind = ?2 AND current = 1",
        )?
        .query_row(params![enrollment_id, kind.word()], |row| row.get(0))
        .optional()?;
    sealed.map(|sealed| seal.open_sealed(&name(enrollment_id, kind), &sealed)).transpose()
}
