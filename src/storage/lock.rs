//! One process per data folder.
//!
//! The server and the commands that open the database themselves take the same lock, so there are
//! never two writers. The operating system lets go of it when the process ends, however it ends.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::error::{Error, Result};

/// Held for as long as it lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Creates the data folder (mode 0700) where it is missing and takes its lock.
    ///
    /// # Errors
    /// The folder cannot be made or written; another process works on it.
    pub fn take(data_dir: &Path) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(|source| {
            Error::caused(
                format!(
                    "the data folder {} cannot be made; create it, or name another with data_dir or --data-dir",
                    data_dir.display()
                ),
                source,
            )
        })?;
        let path = data_dir.join("russet.lock");
        let file = File::options().create(true).append(true).open(&path).map_err(|source| {
            Error::caused(
                format!(
                    "the data folder {} cannot be written; make it writable for this user",
                    data_dir.display()
                ),
                source,
            )
        })?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::conflict(format!(
                "another russet works on {}; stop it first, or name another folder with --data-dir",
                data_dir.display()
            ))),
            Err(TryLockError::Error(source)) => {
                Err(Error::caused(format!("the data folder {} cannot be locked", data_dir.display()), source))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_processes_never_share_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let held = Lock::take(&data).unwrap();
        let refused = Lock::take(&data).unwrap_err();
        assert!(refused.to_string().contains("another russet"), "{refused}");
        drop(held);
        Lock::take(&data).unwrap();
    }
}
