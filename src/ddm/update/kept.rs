//! The catalogue as it is kept: the last that was in order, and what became of the last attempt.
//!
//! `server` follows a URL or a file, an administrator may upload a document; the last one counts. It
//! is kept so that policies hold without a network.
//!
//! **Invariant:** a document that cannot be used changes no release, and a release that Apple posts
//! again keeps the day on which it was posted first.

use rusqlite::{Connection, params};
use std::collections::BTreeMap;

use super::catalogue::{Catalogue, Parsed, Release};
use super::policy;
use crate::clock::Seconds;
use crate::ddm::generation;
use crate::error::Result;
use crate::storage::Tx;

/// What is known of Apple's releases, and since when.
#[derive(Debug)]
pub struct Kept {
    pub releases: Vec<Release>,
    pub skipped: u32,
    /// A URL, a path, or who uploaded it.
    pub source: Option<String>,
    pub fetched_at: Option<Seconds>,
    /// Why the last attempt failed; nothing when it did not.
    pub error: Option<String>,
    pub error_at: Option<Seconds>,
}

/// What is kept.
///
/// # Errors
/// The database's.
pub fn read(conn: &Connection) -> Result<Kept> {
    Ok(conn
        .prepare_cached(
            "SELECT releases, skipped, source, fetched_at, error, error_at FROM update_catalogue",
        )?
        .query_row([], |row| {
            Ok(Kept {
                releases: serde_json::from_str(row.get_ref(0)?.as_str()?).unwrap_or_default(),
                skipped: row.get(1)?,
                source: row.get(2)?,
                fetched_at: row.get(3)?,
                error: row.get(4)?,
                error_at: row.get(5)?,
            })
        })?)
}

/// All releases that are known.
///
/// # Errors
/// The database's.
pub fn catalogue(conn: &Connection) -> Result<Catalogue> {
    Ok(Catalogue::new(read(conn)?.releases))
}

/// Whether this is the document that was followed last, and nothing went wrong since; with a `source`,
/// also whether what is kept is from there and not from an upload since.
///
/// # Errors
/// The database's.
pub fn is_followed(conn: &Connection, digest: &str, source: Option<&str>) -> Result<bool> {
    Ok(conn
        .prepare_cached(
            "SELECT 1 FROM update_catalogue
             WHERE digest = ?1 AND error IS NULL AND (?2 IS NULL OR source = ?2)",
        )?
        .exists(params![digest, source])?)
}

/// Keeps what was read of a document; answers whether any release is another. `followed` is the digest
/// of the document, if it comes from where the configuration says.
///
/// # Errors
/// The database's.
pub fn keep(tx: &Tx<'_>, parsed: Parsed, source: &str, followed: Option<&str>, notify: bool) -> Result<bool> {
    let before = read(tx)?.releases;
    let releases = with_first_days(parsed.releases, &before);
    let changed = releases != before;
    let text = serde_json::to_string(&releases).unwrap_or_else(|_| "[]".to_owned());
    let skipped = u32::try_from(parsed.skipped).unwrap_or(u32::MAX);
    tx.prepare_cached(
        "UPDATE update_catalogue SET releases = ?1, skipped = ?2, source = ?3, fetched_at = ?4,
             digest = COALESCE(?5, digest), error = NULL, error_at = NULL",
    )?
    .execute(params![text, skipped, source, tx.now(), followed])?;
    // Without a policy no device is told anything of it.
    if changed && policy::is_any(tx)? {
        generation::advance(tx, notify)?;
    }
    Ok(changed)
}

fn with_first_days(releases: Vec<Release>, before: &[Release]) -> Vec<Release> {
    let key = |release: &Release| (release.list.clone(), release.version.clone(), release.build.clone());
    let known: BTreeMap<_, &str> =
        before.iter().map(|release| (key(release), release.posted.as_str())).collect();
    let first = |mut release: Release| {
        if let Some(posted) = known.get(&key(&release)).filter(|posted| **posted < release.posted.as_str()) {
            (*posted).clone_into(&mut release.posted);
        }
        release
    };
    releases.into_iter().map(first).collect()
}

/// The document was read again and is the one that is known.
///
/// # Errors
/// The database's.
pub fn confirm(tx: &Tx<'_>) -> Result<()> {
    tx.prepare_cached("UPDATE update_catalogue SET fetched_at = ?1")?.execute([tx.now()])?;
    Ok(())
}

/// An attempt to read it failed; what is known stays.
///
/// # Errors
/// The database's.
pub fn failed(tx: &Tx<'_>, words: &str) -> Result<()> {
    tx.prepare_cached("UPDATE update_catalogue SET error = ?1, error_at = ?2")?
        .execute(params![words, tx.now()])?;
    Ok(())
}
