//! Addresses of the calendar feed: table `calendar_feeds`, of which this file is the owner.
//!
//! A calendar cannot sign in, so its address has a token, made for nothing else: it opens the feed and no
//! route of the API, and each can be taken back alone.
//!
//! **Invariant:** only the token's hash is kept; it is shown once.

use rusqlite::{Connection, params};

use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::id;
use crate::storage::Tx;

/// So many addresses may be good at once.
const MOST: i64 = 100;

/// One address, without its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    pub id: i64,
    pub created_at: Seconds,
    pub created_by: String,
    pub revoked_at: Option<Seconds>,
}

/// Makes an address; answers its number and its token.
///
/// # Errors
/// `Conflict` when there are too many.
pub fn create(tx: &Tx<'_>, created_by: &str) -> Result<(i64, String)> {
    let good: i64 = tx
        .prepare_cached("SELECT COUNT(*) FROM calendar_feeds WHERE revoked_at IS NULL")?
        .query_row([], |row| row.get(0))?;
    if good >= MOST {
        return Err(Error::conflict(format!(
            "there are {good} addresses of the calendar already; revoke those that nobody uses"
        )));
    }
    let token = id::secret::<32>();
    tx.prepare_cached("INSERT INTO calendar_feeds (hash, created_at, created_by) VALUES (?1, ?2, ?3)")?
        .execute(params![id::sha256(token.as_bytes()), tx.now(), created_by])?;
    Ok((tx.last_insert_rowid(), token))
}

/// Every address, the newest first.
pub fn list(conn: &Connection) -> Result<Vec<Feed>> {
    let mut statement = conn.prepare_cached(
        "SELECT id, created_at, created_by, revoked_at FROM calendar_feeds ORDER BY id DESC",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(Feed {
            id: row.get(0)?,
            created_at: row.get(1)?,
            created_by: row.get(2)?,
            revoked_at: row.get(3)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// From now on this address opens nothing; answers whether it did.
pub fn revoke(tx: &Tx<'_>, id: i64) -> Result<bool> {
    let revoked = tx
        .prepare_cached("UPDATE calendar_feeds SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL")?
        .execute(params![id, tx.now()])?;
    Ok(revoked > 0)
}

/// Whether this token opens the feed. Looking up the hash tells nothing about near misses.
pub fn opens(conn: &Connection, token: &str) -> Result<bool> {
    Ok(conn
        .prepare_cached("SELECT 1 FROM calendar_feeds WHERE hash = ?1 AND revoked_at IS NULL")?
        .exists([id::sha256(token.as_bytes())])?)
}
