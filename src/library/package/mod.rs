//! Packages and in-house apps: `.pkg` and `.ipa` files, which `com.apple.configuration.package` and
//! `….app.managed` point to by their manifests.
//!
//! [`prepare`] reads what was uploaded and computes the hashes that devices hold it against, outside of
//! any transaction; [`put`] keeps it and tells [`crate::ddm::served`]. What it is, its content says,
//! whatever the sender called it. `mdm` serves manifests and packages.
//!
//! **Invariant:** a package that a declaration points to is here, with the hashes of exactly these bytes.

pub mod manifest;
pub mod summary;

mod ipa;
mod pkg;
mod source;
mod xar;
mod zip;

use std::io::{Read, SeekFrom};

use aws_lc_rs::digest::{Context, SHA256};
use rusqlite::{Connection, OptionalExtension, Row, params};

use self::source::Source;
use self::summary::{Kind, Summary};
use super::{check_name, served as content_of};
use crate::clock::Seconds;
use crate::content::{self, Contents, Kept, ReadSeek, Received};
use crate::ddm::declaration::User;
use crate::ddm::{Edit, served};
use crate::error::{Error, Result};
use crate::storage::Tx;

/// How much of a package devices hold against one hash.
pub const CHUNK: usize = 10 * 1024 * 1024;
const PIECE: usize = 64 * 1024;

/// A package as it is kept.
#[derive(Clone, Debug)]
pub struct Package {
    pub identifier: String,
    pub summary: Summary,
    pub kept: Kept,
    /// SHA-256 of each [`CHUNK`], 32 bytes each.
    pub hashes: Vec<u8>,
    pub created_at: Seconds,
    pub created_by: String,
    pub updated_at: Seconds,
    pub updated_by: String,
}

/// What was uploaded, read.
#[derive(Debug)]
pub struct Prepared {
    received: Received,
    pub summary: Summary,
    hashes: Vec<u8>,
}

/// What became of a package that was sent.
#[derive(Debug)]
pub struct Put {
    pub created: bool,
    pub changed: bool,
}

/// Reads what was uploaded; blocks, as long as it takes to read all of it.
///
/// # Errors
/// `Invalid`, in words; the disk's.
pub fn prepare(received: Received, now: Seconds) -> Result<Prepared> {
    let (summary, hashes) = {
        let mut reader = received.reader()?;
        let summary = read(&mut *reader, now)?;
        (summary, hashes(&mut *reader)?)
    };
    Ok(Prepared { received, summary, hashes })
}

/// Reads what an app or a package says of itself.
///
/// # Errors
/// `Invalid`, in words; the disk's.
pub fn read(reader: &mut dyn ReadSeek, now: Seconds) -> Result<Summary> {
    let mut source = Source::new(reader)?;
    let length = source.length.min(4);
    match source.bytes(0, length)?.as_slice() {
        b"PK\x03\x04" => ipa::read(&mut source, now),
        b"xar!" => pkg::read(&mut source),
        _ => Err(Error::invalid(
            "This is neither an app (.ipa) nor an installer package (.pkg); nothing was kept.",
        )),
    }
}

fn hashes(reader: &mut dyn ReadSeek) -> Result<Vec<u8>> {
    let unreadable = |source| Error::caused("what was uploaded cannot be read again", source);
    reader.seek(SeekFrom::Start(0)).map_err(unreadable)?;
    let (mut hashes, mut piece) = (Vec::new(), vec![0; PIECE]);
    loop {
        let (mut context, mut size) = (Context::new(&SHA256), 0);
        let mut chunk = Read::take(&mut *reader, CHUNK as u64);
        loop {
            let count = chunk.read(&mut piece).map_err(unreadable)?;
            if count == 0 {
                break;
            }
            context.update(&piece[..count]);
            size += count;
        }
        if size == 0 {
            return Ok(hashes);
        }
        hashes.extend_from_slice(context.finish().as_ref());
    }
}

const COLUMNS: &str = "identifier, summary, hashes, created_at, created_by, updated_at, updated_by";

/// As [`crate::content`] knows who uses the bytes.
fn user(identifier: &str) -> String {
    format!("package {identifier}")
}

/// The package of this identifier.
///
/// # Errors
/// The database's.
pub fn get(conn: &Connection, identifier: &str) -> Result<Option<Package>> {
    let row = conn
        .prepare_cached(&format!("SELECT {COLUMNS} FROM packages WHERE identifier = ?1"))?
        .query_row([identifier], |row| Ok(read_row(row)))
        .optional()?;
    row.map(|package| with_content(conn, package?)).transpose()
}

/// Packages in the order of their identifiers, those after `after`.
///
/// # Errors
/// The database's.
pub fn list(conn: &Connection, after: Option<&str>, limit: u32) -> Result<Vec<Package>> {
    let mut statement = conn.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM packages WHERE identifier > ?1 ORDER BY identifier LIMIT ?2"
    ))?;
    let rows = statement.query_map(params![after.unwrap_or_default(), limit], |row| Ok(read_row(row)))?;
    rows.map(|row| with_content(conn, row??)).collect()
}

fn read_row(row: &Row<'_>) -> Result<Package> {
    let summary: String = row.get(1)?;
    Ok(Package {
        identifier: row.get(0)?,
        summary: serde_json::from_str(&summary)
            .map_err(|source| Error::caused("what was read of a package is damaged", source))?,
        kept: Kept { id: String::new(), size: 0, secret: false },
        hashes: row.get(2)?,
        created_at: row.get(3)?,
        created_by: row.get(4)?,
        updated_at: row.get(5)?,
        updated_by: row.get(6)?,
    })
}

fn with_content(conn: &Connection, mut package: Package) -> Result<Package> {
    let identifier = &package.identifier;
    package.kept = content::find(conn, &user(identifier))?
        .ok_or_else(|| Error::internal(format!("the bytes of the package {identifier} are gone")))?;
    Ok(package)
}

/// The declarations that point to it.
///
/// # Errors
/// The database's.
pub fn users(conn: &Connection, identifier: &str) -> Result<Vec<User>> {
    served::users(conn, served::Kind::Package, identifier)
}

/// Keeps a package; one of the same identifier is replaced.
///
/// # Errors
/// `Invalid` for a name that cannot be one; `Conflict` when declarations point to an app and this is a
/// package, or the other way round.
pub fn put(
    tx: &Tx<'_>,
    contents: &Contents,
    identifier: &str,
    prepared: &Prepared,
    edit: Edit<'_>,
) -> Result<Put> {
    check_name(identifier)?;
    let before = get(tx, identifier)?;
    let is_other = |before: &Package| before.summary.kind != prepared.summary.kind;
    if before.as_ref().is_some_and(is_other) && !users(tx, identifier)?.is_empty() {
        return Err(Error::conflict(format!(
            "declarations point to {identifier}, which is of another kind (.ipa, .pkg); upload this as something else"
        )));
    }
    let kept = contents.keep(tx, &user(identifier), &prepared.received, false)?;
    let content = content_of(&kept, prepared.summary.kind.media_type());
    served::set(tx, served::Kind::Package, identifier, &content, edit)?;
    let changed =
        before.as_ref().is_none_or(|before| before.kept != kept || before.summary != prepared.summary);
    if changed {
        let summary = serde_json::to_string(&prepared.summary)
            .map_err(|source| Error::caused("what was read of a package cannot be kept", source))?;
        tx.prepare_cached(
            "INSERT INTO packages (identifier, summary, hashes, created_at, created_by, updated_at, updated_by)
             VALUES (?1, ?2, ?3, ?4, ?5, ?4, ?5)
             ON CONFLICT DO UPDATE SET summary = excluded.summary, hashes = excluded.hashes,
                 updated_at = excluded.updated_at, updated_by = excluded.updated_by",
        )?
        .execute(params![identifier, summary, prepared.hashes, tx.now(), edit.actor])?;
    }
    Ok(Put { created: before.is_none(), changed })
}

/// Removes a package that no declaration points to.
///
/// # Errors
/// `NotFound`; `Conflict` with `users` when it is used.
pub fn delete(tx: &Tx<'_>, identifier: &str) -> Result<()> {
    if get(tx, identifier)?.is_none() {
        return Err(Error::NotFound("such package".into()));
    }
    served::remove(tx, served::Kind::Package, identifier)?;
    content::release(tx, &user(identifier))?;
    tx.prepare_cached("DELETE FROM packages WHERE identifier = ?1")?.execute([identifier])?;
    Ok(())
}

impl Summary {
    /// Whether it is a package for macOS.
    pub fn is_pkg(&self) -> bool {
        self.kind == Kind::Pkg
    }
}

#[cfg(test)]
mod tests;
