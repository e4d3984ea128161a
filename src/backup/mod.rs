//! Backups: one encrypted, checked file each, from which the whole server comes back.
//!
//! `server` makes them on schedule, `admin` on demand, `russet restore` puts one back. A file is
//! age(gzip(tar)): a manifest first, then the database as it was at one moment, the key that seals its
//! secrets, and the uploaded files. It is encrypted to the recovery key, which lies in the data folder and
//! on the paper in the administrator's drawer.
//!
//! **Invariant:** a file has its name only when it was read again from the disk, whole, and everything in it
//! is what the manifest says.

mod archive;
mod directory;
mod finding;
mod kept;
mod make;
mod manifest;
mod recovery_key;
mod restore;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::clock::{MINUTE, Seconds};
use crate::config::Config;
use crate::content::Contents;
use crate::error::{Error, Result};
use crate::mdm::event;
use crate::pki::seal::Seal;
use crate::storage::Store;

pub use archive::{verify, verify_decrypted};
pub use directory::Listed;
pub use finding::findings;
pub use kept::{Attempt, last_success};
pub use make::Made;
pub use manifest::Manifest;
pub use recovery_key::{FILE as RECOVERY_KEY, Known, RecoveryKey, acknowledge, known};
pub use restore::{MARKER, Marker, Restore, Restored};

/// The sealing key, encrypted to the recovery key, for those who copy the database by other means.
pub const SEALING_KEY: &str = "sealing-key.age";

/// The pause after a failed backup; it doubles with each that follows, up to four hours.
const FIRST_PAUSE: Seconds = 15 * MINUTE;
const LONGEST_PAUSE: Seconds = 240 * MINUTE;

/// Makes backups; a cheap handle.
#[derive(Clone)]
pub struct Backups(Arc<Inner>);

struct Inner {
    store: Store,
    seal: Seal,
    contents: Contents,
    data_dir: PathBuf,
    settings: crate::config::Backup,
    public_url: String,
    host: String,
    /// One at a time: they share the snapshot's place.
    busy: Mutex<()>,
}

impl Backups {
    /// Finds the recovery key or, where there was never one, makes it, and keeps `sealing-key.age` current.
    ///
    /// # Errors
    /// The disk's and the database's; a `recovery-key.txt` that is no such key.
    pub async fn open(config: &Config, store: &Store, seal: &Seal, contents: &Contents) -> Result<Self> {
        let key = recovery_key::open(store, &config.data_dir).await?;
        let backups = Self(Arc::new(Inner {
            store: store.clone(),
            seal: seal.clone(),
            contents: contents.clone(),
            data_dir: config.data_dir.clone(),
            settings: config.backup.clone(),
            public_url: config.server.public_url.to_string(),
            host: config.public_host().to_owned(),
            busy: Mutex::new(()),
        }));
        recovery_key::keep_sealing_key(store, seal, &key, &config.data_dir.join(SEALING_KEY)).await?;
        Ok(backups)
    }

    /// Where the configuration wants backups.
    pub fn directory(&self) -> Option<&Path> {
        self.0.settings.directory.as_deref()
    }

    /// The recovery key's private half, unless it lies elsewhere.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a file that is no key.
    pub fn recovery_key(&self) -> Result<Option<RecoveryKey>> {
        let path = self.recovery_key_path();
        if path.exists() { RecoveryKey::read(&path).map(Some) } else { Ok(None) }
    }

    /// The recovery key's file.
    pub fn recovery_key_path(&self) -> PathBuf {
        self.0.data_dir.join(RECOVERY_KEY)
    }

    /// Makes a backup in the configured directory, and removes those that are too many.
    ///
    /// # Errors
    /// `Conflict` when no directory is configured or another backup is being made; else what was in the
    /// way, in words. It is written down either way.
    pub async fn make(&self) -> Result<Made> {
        let Some(directory) = self.0.settings.directory.clone() else {
            return Err(Error::conflict(
                "no folder for backups is configured; write [backup] directory = \"/path\" in russet.toml, or make one \
                 file with `russet backup FILE`",
            ));
        };
        let _busy = self.busy()?;
        let now = self.0.store.clock().now();
        let name = directory::name(&self.0.host, now);
        let made = self.attempt(&directory, &name, now).await;
        self.note(&made).await?;
        made
    }

    async fn attempt(&self, directory: &Path, name: &str, now: Seconds) -> Result<Made> {
        // Made by nobody but its owner: a stick that is not plugged in must not become a folder of the card.
        if !directory.is_dir() {
            return Err(Error::internal(format!(
                "the folder for backups {} is not there; plug in or mount what it is on, or correct [backup] directory",
                directory.display()
            )));
        }
        let made = self.write(directory.join(name), now).await?;
        self.copy_sealing_key(directory);
        let keep = usize::try_from(self.0.settings.keep).unwrap_or(usize::MAX);
        directory::thin(directory, &self.0.host, name, keep);
        Ok(made)
    }

    /// Makes a backup as a file that goes with what is answered.
    ///
    /// # Errors
    /// As [`Backups::make`], without a directory.
    pub async fn make_once(&self) -> Result<(Made, Once)> {
        let _busy = self.busy()?;
        let now = self.0.store.clock().now();
        let once = Once(self.0.data_dir.join(make::ONCE));
        let mut made = self.write(once.0.clone(), now).await?;
        made.name = directory::name(&self.0.host, now);
        Ok((made, once))
    }

    /// Makes one if the time has come; a background task's.
    ///
    /// # Errors
    /// As [`Backups::make`].
    pub async fn make_if_due(&self) -> Result<()> {
        let clock = self.0.store.clock();
        if self.0.settings.directory.is_none() || !clock.is_sane() {
            return Ok(());
        }
        let (now, every) = (clock.now(), self.0.settings.every);
        if self.0.store.peek(|conn| kept::is_due(conn, now, every))? {
            self.make().await?;
        }
        Ok(())
    }

    /// What lies in the configured directory, newest first.
    ///
    /// # Errors
    /// The database's.
    pub fn list(&self) -> Result<Vec<Listed>> {
        let Some(directory) = self.directory() else { return Ok(Vec::new()) };
        let found = directory::list(directory, &self.0.host);
        self.0.store.peek(|conn| kept::verified(conn, found))
    }

    /// A file of the list, by its name.
    pub fn file(&self, name: &str) -> Option<PathBuf> {
        let directory = self.directory()?;
        let found = directory::list(directory, &self.0.host).into_iter().any(|listed| listed.name == name);
        found.then(|| directory.join(name))
    }

    fn busy(&self) -> Result<tokio::sync::MutexGuard<'_, ()>> {
        self.0
            .busy
            .try_lock()
            .map_err(|_| Error::conflict("a backup is being made; wait until it is finished, then ask again"))
    }

    async fn write(&self, target: PathBuf, now: Seconds) -> Result<Made> {
        let inner = self.0.clone();
        let work = move || make::make(&inner.job(), &target, now);
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|source| Error::caused("the backup did not finish", source))?
    }

    /// Writes down how it ended. Of failures in a row the first is an event: the finding tells of the rest.
    async fn note(&self, made: &Result<Made>) -> Result<()> {
        let attempt = match made {
            Ok(made) => Attempt::success(made),
            Err(error) => Attempt::failure(error.chain()),
        };
        self.0
            .store
            .write("backup.note", move |tx| {
                let failed_before = kept::newest(tx)?.is_some_and(|newest| newest.error.is_some());
                kept::note(tx, &attempt)?;
                match &attempt.error {
                    None => event::record(
                        tx,
                        "backup-made",
                        None,
                        &format!("The backup {} was made.", attempt.name),
                    ),
                    Some(words) if !failed_before => event::record(
                        tx,
                        "backup-failed",
                        None,
                        &format!("A backup could not be made: {words}"),
                    ),
                    Some(_) => Ok(()),
                }
            })
            .await
    }

    /// Beside the backups too, where those look who put a server together again.
    fn copy_sealing_key(&self, directory: &Path) {
        let copied = std::fs::read(self.0.data_dir.join(SEALING_KEY)).and_then(|bytes| {
            let target = directory.join(SEALING_KEY);
            if std::fs::read(&target).is_ok_and(|there| there == bytes) {
                return Ok(());
            }
            std::fs::write(target, bytes)
        });
        if let Err(error) = copied {
            tracing::warn!(%error, "sealing-key.age could not be copied beside the backups");
        }
    }
}

impl Inner {
    fn job(&self) -> make::Job<'_> {
        make::Job {
            store: &self.store,
            seal: &self.seal,
            contents: &self.contents,
            data_dir: &self.data_dir,
            public_url: &self.public_url,
            packages: self.settings.packages,
        }
    }
}

/// A file that is removed when nobody needs it.
pub struct Once(PathBuf);

impl Once {
    /// Opens it for reading.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(&self) -> Result<std::fs::File> {
        std::fs::File::open(&self.0)
            .map_err(|source| Error::caused(format!("{} cannot be read", self.0.display()), source))
    }
}

impl Drop for Once {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
