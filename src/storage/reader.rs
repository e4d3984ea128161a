//! Read-only connections, opened as they are needed and kept.
//!
//! Readers see the last commit and never wait for the writer; what one [`Reading`] reads is one state
//! of the database. There are as many as requests read at the same moment, but only a few are kept: each
//! holds a page cache of its own.

use std::num::NonZero;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags};

use crate::error::Result;

/// How many idle connections are kept at least; more where more threads serve requests.
const KEPT: usize = 4;
/// What all kept connections may cache together, in KiB.
const CACHE: usize = 8000;

pub(super) struct Readers {
    path: PathBuf,
    kept: usize,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(path: &Path) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self { path: path.to_owned(), kept: threads.max(KEPT), idle: Mutex::new(Vec::new()) }
    }

    pub(super) fn with<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        work(&*self.begin()?)
    }

    /// One transaction takes the file's locks once, where each statement by itself would.
    pub(super) fn begin(&self) -> Result<Reading<'_>> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.open()?,
        };
        connection.prepare_cached("BEGIN")?.execute([])?;
        Ok(Reading { readers: self, connection: Some(connection) })
    }

    fn open(&self) -> Result<Connection> {
        let connection = Connection::open_with_flags(
            &self.path,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.execute_batch(
            "PRAGMA query_only = ON;
             PRAGMA trusted_schema = OFF;
             PRAGMA busy_timeout = 5000;",
        )?;
        let cache = i64::try_from(CACHE / self.kept).unwrap_or_default();
        connection.pragma_update(None, "cache_size", -cache)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(connection)
    }
}

/// A read transaction, which ends when it is dropped; the disk is not waited for with one in hand.
pub struct Reading<'a> {
    readers: &'a Readers,
    connection: Option<Connection>,
}

impl Deref for Reading<'_> {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("it is taken out in `drop` alone")
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let ended = connection.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([]));
        let mut idle = self.readers.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // One that could not end its transaction is of no use to the next.
        if ended.is_ok() && idle.len() < self.readers.kept && connection.is_autocommit() {
            idle.push(connection);
        }
    }
}
