//! The one file: `russet.db`, its one writer and its readers.
//!
//! [`Store::write`] runs a named closure in a transaction on the writer thread and answers after the
//! commit is on the disk; closures that wait together share one commit, each in a savepoint of its
//! own. [`Store::read`] and [`Store::peek`] use read-only connections. SQL lives with its noun: this
//! module knows no table but SQLite's own. See <https://sqlite.org/wal.html>.
//!
//! **Invariant:** what `write` answered with `Ok` survives a power cut (`synchronous = FULL`).

mod lock;
mod migrate;
mod reader;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::error::{Error, Result};

pub use lock::Lock;
pub use migrate::known_schema;
pub use reader::Reading;
pub use writer::Tx;

/// The file's name inside the data folder.
pub const FILE: &str = "russet.db";

/// A cheap handle on the database.
#[derive(Clone)]
pub struct Store {
    // First, so that the writer is the last to close the file and takes the log away.
    readers: Arc<reader::Readers>,
    writer: writer::Writer,
    clock: Clock,
    path: Arc<PathBuf>,
}

impl Store {
    /// Opens `<data_dir>/russet.db`, creating or upgrading it; the caller holds the folder's [`Lock`].
    ///
    /// # Errors
    /// The disk's, in words; a schema that a newer program wrote; a damaged file.
    pub fn open(data_dir: &Path, clock: Clock) -> Result<Self> {
        let path = data_dir.join(FILE);
        let mut connection = Connection::open(&path).map_err(|source| {
            Error::caused(format!("the database {} cannot be opened", path.display()), source)
        })?;
        keep_private(&path)?;
        connection.execute_batch(
            // WAL: readers never wait for the writer. FULL: a commit is on the disk before it is
            // answered. The cache is small because a Pi's memory is. The log grows to 16 MiB before it
            // is copied into the file: what changes often is copied once for many commits. What a
            // savepoint would restore stays in memory; by default SQLite writes it to a temporary file.
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA foreign_keys = ON;
             PRAGMA trusted_schema = OFF;
             PRAGMA cache_size = -4000;
             PRAGMA temp_store = MEMORY;
             PRAGMA wal_autocheckpoint = 4000;
             PRAGMA journal_size_limit = 16777216;
             PRAGMA busy_timeout = 5000;",
        )?;
        connection.set_prepared_statement_cache_capacity(128);
        migrate::migrate(&mut connection, &path, clock.now())?;
        let readers = Arc::new(reader::Readers::new(&path));
        let writer = writer::Writer::start(connection, clock.clone())?;
        Ok(Self { writer, readers, clock, path: Arc::new(path) })
    }

    /// Runs `work` in a transaction named `name` and answers when it is durable.
    ///
    /// `Err` and panics roll back what this closure did and nothing else.
    ///
    /// # Errors
    /// What `work` answered; [`Error::Busy`] when too much is waiting; the disk's, in words.
    pub async fn write<T, F>(&self, name: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
    {
        self.writer.write(name, work).await
    }

    /// Runs `work` on a read-only connection, away from the threads that serve requests.
    ///
    /// # Errors
    /// What `work` answered.
    pub async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let readers = self.readers.clone();
        tokio::task::spawn_blocking(move || readers.with(work))
            .await
            .map_err(|source| Error::caused("a read of the database did not finish", source))?
    }

    /// Runs `work` here and now on a read-only connection: for look-ups by key, which take microseconds.
    ///
    /// # Errors
    /// What `work` answered.
    pub fn peek<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.readers.with(work)
    }

    /// Begins to read here and now: for a request whose look-ups by key are far apart in the code.
    ///
    /// # Errors
    /// The disk's.
    pub fn reading(&self) -> Result<Reading<'_>> {
        self.readers.begin()
    }

    /// How many writes wait for the writer.
    pub fn writes_waiting(&self) -> usize {
        self.writer.waiting()
    }

    /// Told after each commit in which a transaction called [`Tx::wake`].
    pub fn woken(&self) -> &Notify {
        self.writer.woken()
    }

    /// Changes after each commit in which a transaction called [`Tx::happened`].
    pub fn events(&self) -> tokio::sync::watch::Receiver<u64> {
        self.writer.events()
    }

    /// Ends when all handles are gone and the file is closed; it holds none itself.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        self.writer.closed()
    }

    /// The clock that stamps transactions.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The database, its log and its copies hold names and tokens: nobody else on the machine reads them.
fn keep_private(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(|source| {
        Error::caused(format!("the permissions of {} cannot be set", path.display()), source)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::clock::EARLIEST_SANE;

    /// A store in a folder that goes with the returned guard.
    pub(crate) fn temporary() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Clock::set_to(EARLIEST_SANE)).unwrap();
        (folder, store)
    }

    #[tokio::test]
    async fn a_write_that_fails_leaves_nothing_and_disturbs_nobody() {
        let (_folder, store) = temporary();
        let insert = |name: &'static str| {
            move |tx: &Tx<'_>| {
                tx.execute("INSERT INTO facts (name, value) VALUES (?1, 'x')", [name])?;
                Ok(())
            }
        };
        let bad = store.write("bad", move |tx| {
            insert("bad")(tx)?;
            Err::<(), _>(Error::invalid("no"))
        });
        let (good, bad) = tokio::join!(store.write("good", insert("good")), bad);
        good.unwrap();
        assert!(matches!(bad, Err(Error::Invalid { .. })));
        let names = store
            .peek(|conn| {
                Ok(conn
                    .prepare("SELECT name FROM facts")?
                    .query_map([], |row| row.get(0))?
                    .collect::<Result<Vec<String>, _>>()?)
            })
            .unwrap();
        assert_eq!(names, ["good"]);
    }

    #[tokio::test]
    async fn a_panic_ends_one_write_and_not_the_writer() {
        let (_folder, store) = temporary();
        let ended = store
            .write("panics", |tx| -> Result<()> {
                tx.execute("INSERT INTO facts (name, value) VALUES ('panic', 'x')", [])?;
                panic!("on purpose");
            })
            .await;
        assert!(matches!(ended, Err(Error::Internal { .. })));
        store
            .write("goes on", |tx| {
                let count: i64 = tx.query_row("SELECT COUNT(*) FROM facts", [], |row| row.get(0))?;
                assert_eq!(count, 0);
                Ok(())
            })
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_closed_store_leaves_one_file_without_a_log() {
        let (folder, store) = temporary();
        store.peek(|_| Ok(())).unwrap();
        let closed = store.closed();
        drop(store);
        closed.await;
        let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names.collect::<Vec<_>>(), [FILE]);
    }

    #[tokio::test]
    async fn readers_cannot_write() {
        let (_folder, store) = temporary();
        let refused = store
            .read(|conn| Ok(conn.execute("INSERT INTO facts (name, value) VALUES ('a', 'b')", [])?))
            .await;
        assert!(refused.is_err());
    }

    #[tokio::test]
    async fn a_wake_is_told_after_the_commit() {
        let (_folder, store) = temporary();
        store
            .write("work", |tx| {
                tx.wake();
                Ok(())
            })
            .await
            .unwrap();
        store.woken().notified().await;
    }

    #[test]
    fn a_newer_schema_is_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        drop(Store::open(folder.path(), Clock::set_to(EARLIEST_SANE)).unwrap());
        let connection = Connection::open(folder.path().join(FILE)).unwrap();
        connection.pragma_update(None, "user_version", 9999).unwrap();
        drop(connection);
        let refused = Store::open(folder.path(), Clock::set_to(EARLIEST_SANE)).err().unwrap();
        assert!(refused.to_string().contains("newer version of russet"), "{refused}");
    }
}
