//! Bytes that this server hands out: profiles, asset data, packages.
//!
//! [`Contents::receive`] takes them from a request, [`Contents::keep`] says in a transaction who uses
//! them, [`Contents::respond`] sends them. Up to [`IN_DATABASE`] bytes lie in the database, sealed; more
//! lie as `<data_dir>/files/<sha256>`. The same bytes are kept once, whoever uses them, and are gone
//! when nobody does. Who may have them is for those who use them to say.
//!
//! **Invariant:** a file is on the disk under its hash before the row that names it, and is removed
//! after the last of them.

mod receive;
mod send;

use std::collections::HashMap;
use std::fs::File;
use std::io::{Cursor, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, params};

use crate::error::{Error, Result};
use crate::id;
use crate::pki::seal::Seal;
use crate::storage::{Store, Tx};

/// What is larger lies in a file of its own.
pub const IN_DATABASE: u64 = 1024 * 1024;
/// The largest that is kept at all.
pub const LARGEST: u64 = 8 * 1024 * 1024 * 1024;
/// The folder's name in the data folder.
const FOLDER: &str = "files";
/// How the names of files begin that are still being received.
const INCOMING: &str = "incoming-";

/// A cheap handle on what is kept.
#[derive(Clone, Debug)]
pub struct Contents(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    seal: Seal,
    /// Files that were received and that no row names yet, with how often each was.
    pending: Mutex<HashMap<String, usize>>,
}

/// Bytes that were received and are not kept yet; a file among them is removed by
/// [`Contents::sweep`] once this is dropped and nobody kept it.
#[derive(Debug)]
pub struct Received {
    /// Lower-case hexadecimal.
    pub sha256: String,
    pub size: u64,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Memory(Vec<u8>),
    File(Pending),
}

/// A file that [`Contents::sweep`] leaves alone while this lives.
#[derive(Debug)]
struct Pending {
    contents: Contents,
    name: String,
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut pending = self.contents.pending();
        if let Some(count) = pending.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                pending.remove(&self.name);
            }
        }
    }
}

/// Something that can be read and searched.
pub trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}

impl Received {
    /// The bytes, if they are few enough to have been kept in memory.
    pub fn bytes(&self) -> Option<&[u8]> {
        match &self.place {
            Place::Memory(bytes) => Some(bytes),
            Place::File(_) => None,
        }
    }

    /// Reads them wherever they are; blocks.
    ///
    /// # Errors
    /// The disk's.
    pub fn reader(&self) -> Result<Box<dyn ReadSeek + '_>> {
        Ok(match &self.place {
            Place::Memory(bytes) => Box::new(Cursor::new(bytes.as_slice())),
            Place::File(pending) => Box::new(pending.contents.file(&pending.name)?),
        })
    }
}

/// Bytes that are kept for somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Another with each change of the bytes.
    pub id: String,
    pub size: u64,
    pub secret: bool,
}

impl Kept {
    /// The SHA-256 of the bytes, lower-case hexadecimal; that of a secret could be guessed from, and is
    /// told to nobody.
    pub fn sha256(&self) -> Option<&str> {
        (!self.secret).then_some(self.id.as_str())
    }
}

impl Contents {
    /// Opens the folder, made on the first upload; throws away what was being received when the server
    /// ended.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(data_dir: &Path, seal: &Seal) -> Result<Self> {
        let folder = data_dir.join(FOLDER);
        for (name, path) in files(&folder)? {
            if name.starts_with(INCOMING) {
                remove(&path)?;
            }
        }
        Ok(Self(Arc::new(Inner { folder, seal: seal.clone(), pending: Mutex::default() })))
    }

    /// From now on `user` uses these bytes and no others. Answers what they are called: the same as
    /// before where they are the same.
    ///
    /// # Errors
    /// `Invalid` for a secret that is too large to be sealed; the database's.
    pub fn keep(&self, tx: &Tx<'_>, user: &str, received: &Received, secret: bool) -> Result<Kept> {
        let before = find(tx, user)?;
        if secret && received.bytes().is_none() {
            return Err(Error::invalid(format!(
                "A secret has at most {IN_DATABASE} bytes; send a smaller one."
            )));
        }
        if let Some(before) = before.filter(|before| before.secret == secret && before.size == received.size)
        {
            let same = match before.sha256() {
                Some(sha256) => sha256 == received.sha256,
                None => self.load(tx, &before)? == received.bytes().unwrap_or_default(),
            };
            if same {
                return Ok(before);
            }
        }
        let name =
            if secret { format!("secret-{}", id::hex(&id::random::<16>())) } else { received.sha256.clone() };
        let sealed = received.bytes().map(|bytes| self.0.seal.seal(&sealed_as(&name), bytes));
        tx.prepare_cached(
            "INSERT OR IGNORE INTO contents (id, size, bytes, secret) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![name, received.size.cast_signed(), sealed, secret])?;
        release(tx, user)?;
        tx.prepare_cached("INSERT INTO content_uses (user, content_id) VALUES (?1, ?2)")?
            .execute([user, &name])?;
        Ok(Kept { id: name, size: received.size, secret })
    }

    /// The bytes, all of them: for what is known to be small.
    ///
    /// # Errors
    /// `Internal` when they are too large to be held, or not there; the sealing key's.
    pub fn load(&self, conn: &Connection, kept: &Kept) -> Result<Vec<u8>> {
        let sealed: Option<Vec<u8>> = conn
            .prepare_cached("SELECT bytes FROM contents WHERE id = ?1")?
            .query_row([&kept.id], |row| row.get(0))
            .optional()?
            .ok_or_else(|| Error::NotFound("such content".into()))?;
        match sealed {
            Some(sealed) => self.0.seal.open_sealed(&sealed_as(&kept.id), &sealed),
            None if kept.size > 64 * IN_DATABASE => {
                Err(Error::internal("a large file was asked for as a whole"))
            }
            None => {
                let mut bytes = Vec::new();
                self.file(&kept.id)?.read_to_end(&mut bytes).map_err(|source| {
                    Error::caused(format!("the file {} cannot be read", kept.id), source)
                })?;
                Ok(bytes)
            }
        }
    }

    /// Bytes that are kept already, as if they were received again; nothing when these are not here, or
    /// only as a secret.
    ///
    /// # Errors
    /// The database's; the sealing key's.
    pub fn received(&self, conn: &Connection, sha256: &str) -> Result<Option<Received>> {
        // Whoever looks between the row and this would remove the file.
        let mut pending = self.pending();
        let Some(kept) = known(conn, sha256)? else { return Ok(None) };
        let place = if kept.size <= IN_DATABASE {
            drop(pending);
            Place::Memory(self.load(conn, &kept)?)
        } else {
            *pending.entry(kept.id.clone()).or_default() += 1;
            drop(pending);
            Place::File(Pending { contents: self.clone(), name: kept.id.clone() })
        };
        Ok(Some(Received { sha256: kept.id, size: kept.size, place }))
    }

    /// Removes files that no row names and nobody is about to keep; a background task's.
    ///
    /// # Errors
    /// The disk's and the database's.
    pub async fn sweep(&self, store: &Store) -> Result<()> {
        let contents = self.clone();
        store
            .read(move |conn| {
                for (name, path) in files(&contents.0.folder)? {
                    // Nobody begins to keep this one between the look and the removal.
                    let pending = contents.pending();
                    let used = pending.contains_key(&name)
                        || name.starts_with(INCOMING)
                        || conn.prepare_cached("SELECT 1 FROM contents WHERE id = ?1")?.exists([&name])?;
                    if !used {
                        remove(&path)?;
                    }
                }
                Ok(())
            })
            .await
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.folder.join(name)
    }

    /// Opens a file that a copy of the database names, for a backup.
    ///
    /// # Errors
    /// `NotFound` when it was released since; the disk's.
    pub fn open_file(&self, name: &str) -> Result<File> {
        if self.path(name).exists() { self.file(name) } else { Err(Error::NotFound("such file".into())) }
    }

    fn file(&self, name: &str) -> Result<File> {
        let path = self.path(name);
        File::open(&path).map_err(|source| {
            Error::caused(
                format!(
                    "the file {} is missing or unreadable; restore it, or upload it again",
                    path.display()
                ),
                source,
            )
        })
    }
}

/// What this user uses.
///
/// # Errors
/// The database's.
pub fn find(conn: &Connection, user: &str) -> Result<Option<Kept>> {
    Ok(conn
        .prepare_cached(
            "SELECT contents.id, contents.size, contents.secret
             FROM content_uses JOIN contents ON contents.id = content_uses.content_id
             WHERE content_uses.user = ?1",
        )?
        .query_row([user], |row| {
            let size: i64 = row.get(1)?;
            Ok(Kept { id: row.get(0)?, size: size.cast_unsigned(), secret: row.get(2)? })
        })
        .optional()?)
}

/// What is kept under this hash, for whomever; no secret.
///
/// # Errors
/// The database's.
pub fn known(conn: &Connection, sha256: &str) -> Result<Option<Kept>> {
    Ok(conn
        .prepare_cached("SELECT id, size FROM contents WHERE id = ?1 AND secret = 0")?
        .query_row([sha256], |row| {
            let size: i64 = row.get(1)?;
            Ok(Kept { id: row.get(0)?, size: size.cast_unsigned(), secret: false })
        })
        .optional()?)
}

/// The files that this database names, with their sizes; those that only packages use if `packages` says so.
///
/// # Errors
/// The database's.
pub fn files_of(conn: &Connection, packages: bool) -> Result<Vec<(String, u64)>> {
    let mut query = conn.prepare_cached(
        "SELECT id, size FROM contents
         WHERE bytes IS NULL
           AND (?1 OR EXISTS (SELECT 1 FROM content_uses
                              WHERE content_id = contents.id AND user NOT LIKE 'package %'))
         ORDER BY id",
    )?;
    let files =
        query.query_map([packages], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned())))?;
    Ok(files.collect::<Result<_, _>>()?)
}

/// This user uses nothing any more; what nobody uses is gone.
///
/// # Errors
/// The database's.
pub fn release(tx: &Tx<'_>, user: &str) -> Result<()> {
    let Some(kept) = find(tx, user)? else { return Ok(()) };
    tx.prepare_cached("DELETE FROM content_uses WHERE user = ?1")?.execute([user])?;
    tx.prepare_cached(
        "DELETE FROM contents WHERE id = ?1
           AND NOT EXISTS (SELECT 1 FROM content_uses WHERE content_uses.content_id = contents.id)",
    )?
    .execute([&kept.id])?;
    Ok(())
}

fn sealed_as(name: &str) -> String {
    format!("content {name}")
}

/// The files of the folder, if there is one.
fn files(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let failed = |source| Error::caused(format!("the folder {} cannot be read", folder.display()), source);
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed(source)),
    };
    entries
        .map(|entry| {
            let entry = entry.map_err(failed)?;
            Ok((entry.file_name().to_string_lossy().into_owned(), entry.path()))
        })
        .collect()
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::caused(format!("the file {} cannot be removed", path.display()), source))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
