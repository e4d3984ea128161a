//! One backup, from the running database to a file that was read again.
//!
//! Blocks; `mod.rs` calls it beside the requests of others. The database is copied by `VACUUM INTO` from a
//! connection of its own: one state of it, without keeping the writer from its work. Files are copied as
//! they lie there: their names are their hashes, so they cannot change.
//!
//! **Invariant:** whatever goes wrong, nothing is left at the target, and nothing that was there is changed.

use std::fs::File;
use std::io::{BufWriter, Cursor, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rusqlite::{Connection, OpenFlags};

use super::archive;
use super::manifest::{DATABASE, FILES, Manifest, Member, SEAL};
use super::recovery_key::{self, RecoveryKey};
use crate::clock::{Seconds, rfc3339};
use crate::content::{self, Contents};
use crate::error::{Error, Result};
use crate::id;
use crate::pki::authority;
use crate::pki::seal::{Seal, folder_of};
use crate::storage::Store;

/// The copy of the database, in the data folder, while a backup is made.
const SNAPSHOT: &str = "russet.db.for-backup";
/// A backup that somebody fetches, in the data folder.
pub(super) const ONCE: &str = "once.backup";
/// How often it is begun anew because a file was released while it was copied.
const TRIES: usize = 3;

/// What a backup is made of.
pub(super) struct Job<'a> {
    pub(super) store: &'a Store,
    pub(super) seal: &'a Seal,
    pub(super) contents: &'a Contents,
    pub(super) data_dir: &'a Path,
    pub(super) public_url: &'a str,
    pub(super) packages: bool,
}

/// A backup that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    pub name: String,
    pub made_at: Seconds,
    /// In bytes.
    pub size: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
    /// Whether it was opened again; not possible while the recovery key lies elsewhere.
    pub verified: bool,
    /// How long it took.
    pub milliseconds: u64,
    /// What it is encrypted to.
    pub public_key: String,
}

/// Makes a backup at `target`.
pub(super) fn make(job: &Job<'_>, target: &Path, now: Seconds) -> Result<Made> {
    let mut tries = 0;
    loop {
        tries += 1;
        let unfinished = Unfinished(target.with_added_extension("unfinished"));
        match attempt(job, &unfinished.0, now) {
            Ok(mut made) => {
                std::fs::rename(&unfinished.0, target).and_then(|()| sync_folder(target)).map_err(
                    |source| Error::caused(format!("{} cannot be written", target.display()), source),
                )?;
                made.name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
                return Ok(made);
            }
            // What was released between the database's copy and its own is not in the next copy.
            Err(Error::NotFound(_)) if tries < TRIES => {}
            Err(error) => return Err(error),
        }
    }
}

fn attempt(job: &Job<'_>, unfinished: &Path, now: Seconds) -> Result<Made> {
    let begun = Instant::now();
    let known = job.store.peek(recovery_key::known)?;
    let known = known
        .ok_or_else(|| Error::internal("there is no recovery key; restart the server, which makes one"))?;
    let snapshot = Snapshot::take(job.store.path(), job.data_dir)?;
    let copy = snapshot.open()?;
    check(&copy, job.seal)?;
    let schema = copy.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let (sha256, size) = archive::hash(&snapshot.path)?;
    let mut members = vec![Member { name: DATABASE.into(), size, sha256 }];
    let sealing = job.seal.bytes();
    members.push(Member { name: SEAL.into(), size: 32, sha256: id::hex(&id::sha256(sealing)) });
    members.extend(content::files_of(&copy, job.packages)?.into_iter().map(|(sha256, size)| Member {
        name: format!("{FILES}{sha256}"),
        size,
        sha256,
    }));
    drop(copy);
    let manifest = Manifest::new(schema, rfc3339(now), job.public_url, job.packages, members);
    let out = private(unfinished)
        .map_err(|source| Error::caused(format!("{} cannot be written", unfinished.display()), source))?;
    let written = archive::write(BufWriter::new(out), &known.recipient()?, &manifest, |member| {
        Ok(match member.name.as_str() {
            DATABASE => Box::new(reading(&snapshot.path)?) as Box<dyn Read>,
            SEAL => Box::new(Cursor::new(*sealing)),
            _ => Box::new(job.contents.open_file(&member.sha256)?),
        })
    })?;
    let failed =
        |source| Error::caused("the backup cannot be written; look whether the disk is full", source);
    let mut file = written.into_inner().map_err(|error| failed(error.into_error()))?;
    file.flush().and_then(|()| file.sync_all()).map_err(failed)?;
    drop(file);
    let key = job.data_dir.join(recovery_key::FILE);
    let verified = key.exists();
    if verified && archive::verify(unfinished, &RecoveryKey::read(&key)?)? != manifest {
        return Err(Error::internal(
            "the backup that was written is not what was to be written; check the disk",
        ));
    }
    let (sha256, size) = archive::hash(unfinished)?;
    let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Made {
        name: String::new(),
        made_at: now,
        size,
        sha256,
        verified,
        milliseconds,
        public_key: known.public_key,
    })
}

/// Whether a database is whole, and belongs to this sealing key.
pub(super) fn check(conn: &Connection, seal: &Seal) -> Result<()> {
    let found: String = conn
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .unwrap_or_else(|error| error.to_string());
    if found != "ok" {
        return Err(Error::internal(format!(
            "the database is damaged ({found}); restore the last good backup"
        )));
    }
    authority::prove(conn, seal)
}

/// A copy of the database, removed at the end.
struct Snapshot {
    path: PathBuf,
}

impl Snapshot {
    fn take(database: &Path, data_dir: &Path) -> Result<Self> {
        let taken = Self { path: data_dir.join(SNAPSHOT) };
        // What a power cut left.
        let _ = std::fs::remove_file(&taken.path);
        // SQLite writes into an empty file and leaves its permissions: nobody else reads this one.
        private(&taken.path).map_err(|source| {
            Error::caused("the database cannot be copied; look whether the disk is full", source)
        })?;
        let source = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        source.busy_timeout(std::time::Duration::from_secs(5))?;
        source.execute("VACUUM INTO ?1", [taken.path.to_string_lossy()]).map_err(|source| {
            Error::caused("the database cannot be copied; look whether the disk is full", source)
        })?;
        Ok(taken)
    }

    fn open(&self) -> Result<Connection> {
        Ok(Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Removed unless it was renamed.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn reading(path: &Path) -> Result<File> {
    File::open(path).map_err(|source| Error::caused(format!("{} cannot be read", path.display()), source))
}

/// A new file that only its owner reads; what a power cut left of an earlier one is written over.
pub(super) fn private(path: &Path) -> std::io::Result<File> {
    let _ = std::fs::remove_file(path);
    File::options().create_new(true).write(true).mode(0o600).open(path)
}

pub(super) fn sync_folder(of: &Path) -> std::io::Result<()> {
    File::open(folder_of(of))?.sync_all()
}
