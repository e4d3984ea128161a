//! Putting a backup back.
//!
//! `russet restore` calls it, while no server runs. Everything is unpacked and checked in a new folder
//! beside the data folder, and only then do the two trade names, in one step of the file system. What the
//! server has to do once it starts from there is left in a [`MARKER`].
//!
//! **Invariant:** at every moment the data folder is the old one, whole, or the new one, whole; the old one
//! is never removed.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{CWD, RenameFlags, renameat_with, statvfs};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::archive;
use super::make::{self, private, sync_folder};
use super::manifest::{FILES, Manifest, Member};
use super::recovery_key::{self, RecoveryKey};
use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::pki::seal::Seal;
use crate::storage::{self, Lock};

/// Says in a data folder that it was just restored.
pub const MARKER: &str = "restored.json";
/// What is left free on the disk.
const SPARE: u64 = 64 * 1024 * 1024;

/// What is to be restored, and where.
pub struct Restore<'a> {
    pub file: &'a Path,
    /// The recovery key's file; the data folder's own where nobody names one.
    pub key_file: Option<&'a Path>,
    pub data_dir: &'a Path,
    pub now: Seconds,
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    pub manifest: Manifest,
    /// Where what was there before is now.
    pub moved_to: Option<PathBuf>,
}

/// What the next start is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// When the backup was made; RFC 3339.
    pub created_at: String,
    /// When it was restored, in seconds since 1970.
    pub restored_at: Seconds,
    /// The file's name.
    pub name: String,
}

impl Restore<'_> {
    /// Restores.
    ///
    /// # Errors
    /// `Conflict` while a server or another command works on the data folder; [`Error::Invalid`] in words for
    /// a file that is not whole, of another key, or newer; the disk's. Nothing was changed then.
    pub fn run(&self) -> Result<Restored> {
        let own_key = self.data_dir.join(recovery_key::FILE);
        let key_file = self.key_file.unwrap_or(&own_key);
        if self.key_file.is_none() && !own_key.exists() {
            return Err(Error::invalid(format!(
                "there is no recovery key at {}; name the file that holds it with --key-file",
                own_key.display()
            )));
        }
        let key = RecoveryKey::read(key_file)?;
        let was_there = self.data_dir.exists();
        // Held until the end, so that no server starts from a folder that is about to go.
        let lock = if was_there { Some(Lock::take(self.data_dir)?) } else { None };
        if let Some(parent) = self.data_dir.parent() {
            std::fs::create_dir_all(parent).map_err(|error| {
                Error::invalid(format!(
                    "{} cannot be made: {error}; restore as a user who may",
                    parent.display()
                ))
            })?;
        }
        let unpacked = Folder::make(beside(self.data_dir, "restoring", self.now)?)?;
        let manifest = self.unpack(&unpacked.0, &key)?;
        self.finish(&unpacked.0, &key, &manifest)?;
        let moved_to = if was_there {
            Some(trade(unpacked, self.data_dir, self.now)?)
        } else {
            rename(&unpacked.0, self.data_dir)?;
            unpacked.keep();
            None
        };
        drop(lock);
        Ok(Restored { manifest, moved_to })
    }

    fn unpack(&self, folder: &Path, key: &RecoveryKey) -> Result<Manifest> {
        let mut begin = |manifest: &Manifest| {
            let known = storage::known_schema();
            if manifest.schema > known {
                return Err(Error::invalid(format!(
                    "this backup was made by russet {} (schema {}), which is newer than this program (schema {known}); \
                     install that version, then restore",
                    crate::id::printable(&manifest.program),
                    manifest.schema
                )));
            }
            if manifest.members.iter().any(|member| member.name.starts_with(FILES)) {
                make_folder(&folder.join(FILES.trim_end_matches('/')))?;
            }
            let needed = manifest.size().saturating_add(SPARE);
            let there = statvfs(folder).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
            if there < needed {
                return Err(Error::invalid(format!(
                    "the backup needs {} MiB, and {} has {} MiB free; make room, then restore",
                    needed >> 20,
                    folder.display(),
                    there >> 20
                )));
            }
            Ok(())
        };
        let mut take = |member: &Member, bytes: &mut dyn std::io::Read| {
            let path = folder.join(&member.name);
            let written = private(&path).and_then(|mut file| {
                std::io::copy(bytes, &mut file)?;
                file.flush()?;
                file.sync_all()
            });
            written.map_err(|error| {
                Error::invalid(format!("{} of the backup cannot be unpacked: {error}", member.name))
            })
        };
        archive::read(self.file, key, &mut begin, &mut take)
    }

    /// Opens what was unpacked, and adds what is not in a backup.
    fn finish(&self, folder: &Path, key: &RecoveryKey, manifest: &Manifest) -> Result<()> {
        let seal = Seal::open(folder, None, false)?;
        let database = folder.join(storage::FILE);
        let opened = Connection::open_with_flags(&database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        make::check(&opened, &seal).map_err(|error| super::manifest::damaged(&error.chain()))?;
        let schema: i64 = opened.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if schema != manifest.schema {
            return Err(super::manifest::damaged("its database has another schema than it says"));
        }
        drop(opened);
        let marker = Marker {
            created_at: manifest.created_at.clone(),
            restored_at: self.now,
            name: self.file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        };
        let marker = serde_json::to_vec(&marker)
            .map_err(|source| Error::caused("a note cannot be written", source))?;
        // The key that opened it stays the key of this server.
        for (name, bytes) in [(MARKER, marker), (recovery_key::FILE, key.text(self.now).into_bytes())] {
            crate::pki::seal::write_private(&folder.join(name), &bytes)?;
        }
        let synced = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|source| Error::caused("the restored folder cannot be written", source))?;
        give_to_owner_of(self.data_dir, folder)
    }
}

/// The data folder becomes the unpacked one, in one step, and the old one gets the name that says so.
fn trade(unpacked: Folder, data_dir: &Path, now: Seconds) -> Result<PathBuf> {
    let old = beside(data_dir, "before-restore", now)?;
    renameat_with(CWD, &unpacked.0, CWD, data_dir, RenameFlags::EXCHANGE).map_err(|error| match error {
        Errno::BUSY | Errno::XDEV => Error::invalid(format!(
            "{} is a mount point, which cannot be traded for another folder; make a folder in it, name that one with \
             data_dir, and restore again",
            data_dir.display()
        )),
        error => Error::caused(
            format!(
                "the file system of {} cannot trade two folders in one step; restore into a new folder, and name that \
                 one with data_dir",
                data_dir.display()
            ),
            error,
        ),
    })?;
    // What has this name now is the old folder.
    let traded = unpacked.keep();
    sync(data_dir)?;
    rename(&traded, &old)?;
    Ok(old)
}

/// `<data_dir>.<what>-<time>`; never something that is there.
fn beside(data_dir: &Path, what: &str, now: Seconds) -> Result<PathBuf> {
    let name = data_dir.file_name().ok_or_else(|| {
        Error::invalid(format!("{} is no folder that can be restored into; name another", data_dir.display()))
    })?;
    (0..1000)
        .map(|more| {
            let mut name = name.to_owned();
            name.push(format!(".{what}-{}", now + more));
            data_dir.with_file_name(name)
        })
        .find(|path| !path.exists())
        .ok_or_else(|| {
            Error::invalid("there are too many earlier restores beside the data folder; remove some")
        })
}

fn make_folder(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new().mode(0o700).create(path).map_err(|error| {
        Error::invalid(format!("{} cannot be made: {error}; restore as a user who may", path.display()))
    })
}

/// Removed unless it is kept.
struct Folder(PathBuf);

impl Folder {
    fn make(path: PathBuf) -> Result<Self> {
        make_folder(&path)?;
        Ok(Self(path))
    }

    fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).map_err(|source| {
        Error::caused(format!("{} cannot be renamed to {}", from.display(), to.display()), source)
    })?;
    sync(to)
}

fn sync(path: &Path) -> Result<()> {
    sync_folder(path).map_err(|source| {
        Error::caused(format!("the folder of {} cannot be written", path.display()), source)
    })
}

/// Root restores for the user that the server runs as.
fn give_to_owner_of(data_dir: &Path, folder: &Path) -> Result<()> {
    let Ok(owner) = std::fs::metadata(data_dir) else { return Ok(()) };
    let give = |path: &Path| -> std::io::Result<()> {
        let now = std::fs::metadata(path)?;
        if (now.uid(), now.gid()) != (owner.uid(), owner.gid()) {
            std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid()))?;
        }
        Ok(())
    };
    let all = || -> std::io::Result<()> {
        for path in std::fs::read_dir(folder)? {
            let path = path?.path();
            if path.is_dir() {
                for inner in std::fs::read_dir(&path)? {
                    give(&inner?.path())?;
                }
            }
            give(&path)?;
        }
        give(folder)
    };
    all().map_err(|source| Error::caused("the restored files cannot be given to the server's user", source))
}
