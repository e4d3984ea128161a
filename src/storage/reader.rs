//! Read-only connections, opened as they are needed and kept.
//!
//! Readers see the last commit and never wait for the writer; what one closure reads is one state of
//! the database. There are as many as requests read
//! at the same moment, but only a few are kept: each holds a page cache of its own.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags};

use crate::error::Result;

/// How many idle connections are kept.
const KEPT: usize = 4;

pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), idle: Mutex::new(Vec::new()) }
    }

    pub(super) fn with<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.open()?,
        };
        let answer = in_transaction(&connection, work);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // One that could not end its transaction is of no use to the next.
        if idle.len() < KEPT && connection.is_autocommit() {
            idle.push(connection);
        }
        answer
    }

    fn open(&self) -> Result<Connection> {
        let connection = Connection::open_with_flags(
            &self.path,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.execute_batch(
            "PRAGMA query_only = ON;
             PRAGMA trusted_schema = OFF;
             PRAGMA cache_size = -2000;
             PRAGMA busy_timeout = 5000;",
        )?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(connection)
    }
}

/// One transaction takes the file's locks once, where each statement by itself would.
fn in_transaction<T>(connection: &Connection, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    connection.prepare_cached("BEGIN")?.execute([])?;
    let answer = work(connection);
    connection.prepare_cached("COMMIT")?.execute([])?;
    answer
}
