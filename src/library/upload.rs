//! Bytes that were sent ahead: an apply names them by their hash, since they would not fit into it.
//!
//! **Invariant:** what nobody came to use is gone after a day.

use rusqlite::params;

use crate::clock::DAY;
use crate::content::{self, Contents, Kept, Received};
use crate::error::Result;
use crate::storage::Tx;

fn user(sha256: &str) -> String {
    format!("upload {sha256}")
}

/// Keeps bytes for a day.
///
/// # Errors
/// The database's.
pub fn put(tx: &Tx<'_>, contents: &Contents, received: &Received) -> Result<Kept> {
    let kept = contents.keep(tx, &user(&received.sha256), received, false)?;
    tx.prepare_cached(
        "INSERT INTO uploads (sha256, at) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET at = excluded.at",
    )?
    .execute(params![kept.id, tx.now()])?;
    Ok(kept)
}

/// Lets go of what was sent more than a day ago; a background task's.
///
/// # Errors
/// The database's.
pub fn thin(tx: &Tx<'_>) -> Result<()> {
    let mut old = tx.prepare_cached("SELECT sha256 FROM uploads WHERE at < ?1")?;
    let old = old.query_map([tx.now() - DAY], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    for sha256 in old {
        content::release(tx, &user(&sha256))?;
        tx.prepare_cached("DELETE FROM uploads WHERE sha256 = ?1")?.execute([sha256])?;
    }
    Ok(())
}
