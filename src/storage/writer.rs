//! The one writer: a thread that owns the connection and commits in groups.
//!
//! A flush to an SD card takes milliseconds whether it carries one row or a hundred, so requests
//! that arrive while one is under way share the next. Each runs in a savepoint: one that fails or
//! panics takes nothing else with it.
//!
//! **Invariant:** nobody hears `Ok` before the COMMIT that carries their work returned.

use std::any::Any;
use std::cell::Cell;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use rusqlite::Connection;
use tokio::sync::{Notify, oneshot, watch};

use crate::clock::{Clock, Seconds};
use crate::error::{Error, Result};

/// How many writes may wait before callers are told that the server is busy.
const WAITING: usize = 4096;
/// How many writes share one commit at the most.
const GROUP: usize = 256;

/// A transaction: the connection, with the time that all its rows carry.
pub struct Tx<'a> {
    connection: &'a Connection,
    now: Seconds,
    wake: Cell<bool>,
    happened: Cell<bool>,
}

impl Tx<'_> {
    /// The time of this transaction; all rows written together agree about it.
    pub fn now(&self) -> Seconds {
        self.now
    }

    /// There is work for a device: after the commit, `mdm::wake` looks who has some.
    pub fn wake(&self) {
        self.wake.set(true);
    }

    /// Something happened that people may be looking at: after the commit, [`super::Store::events`] says so.
    pub fn happened(&self) {
        self.happened.set(true);
    }
}

impl Deref for Tx<'_> {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        self.connection
    }
}

/// What a closure left behind, type erased so that one queue carries them all.
type Outcome = Result<Box<dyn Any + Send>>;

struct Job {
    name: &'static str,
    work: Box<dyn FnOnce(&Tx<'_>) -> Outcome + Send>,
    reply: oneshot::Sender<Outcome>,
}

#[derive(Clone)]
pub(super) struct Writer {
    queue: SyncSender<Job>,
    /// How many were given and not taken yet.
    waiting: Arc<AtomicUsize>,
    woken: Arc<Notify>,
    /// Counts the commits in which something happened.
    events: watch::Receiver<u64>,
    /// Never told anything; ends when the thread has closed its connection.
    closed: watch::Receiver<()>,
}

impl Writer {
    pub(super) fn start(connection: Connection, clock: Clock) -> Result<Self> {
        let (queue, jobs) = sync_channel(WAITING);
        let waiting = Arc::new(AtomicUsize::new(0));
        let left = waiting.clone();
        let woken = Arc::new(Notify::new());
        let signal = woken.clone();
        let (open, closed) = watch::channel(());
        let (happened, events) = watch::channel(0);
        std::thread::Builder::new()
            .name("writer".into())
            .spawn(move || {
                run(&connection, &jobs, &left, &clock, &signal, &happened);
                drop(connection);
                drop(open);
            })
            .map_err(|source| Error::caused("the database's writer cannot be started", source))?;
        Ok(Self { queue, waiting, woken, events, closed })
    }

    pub(super) fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut closed = self.closed.clone();
        async move { while closed.changed().await.is_ok() {} }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(super) fn woken(&self) -> &Notify {
        &self.woken
    }

    pub(super) fn events(&self) -> watch::Receiver<u64> {
        self.events.clone()
    }

    pub(super) async fn write<T, F>(&self, name: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
    {
        let (reply, outcome) = oneshot::channel();
        let work = Box::new(move |tx: &Tx<'_>| work(tx).map(|value| Box::new(value) as Box<dyn Any + Send>));
        // Counted before it can be taken, so that the count never goes below nothing.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.queue.try_send(Job { name, work, reply }).map_err(|refused| {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            match refused {
                TrySendError::Full(_) => Error::Busy,
                TrySendError::Disconnected(_) => Error::internal("the database's writer has ended"),
            }
        })?;
        let value = outcome
            .await
            .map_err(|_| Error::internal("the database's writer ended before it answered"))??;
        value
            .downcast()
            .map(|value| *value)
            .map_err(|_| Error::internal("a transaction answered something else than it promised"))
    }
}

/// Takes what waits, runs it, commits, answers; until the last handle is gone.
fn run(
    connection: &Connection,
    jobs: &Receiver<Job>,
    waiting: &AtomicUsize,
    clock: &Clock,
    woken: &Notify,
    happened: &watch::Sender<u64>,
) {
    let mut group = Vec::with_capacity(GROUP);
    while let Ok(first) = jobs.recv() {
        group.push(first);
        while group.len() < GROUP {
            let Ok(next) = jobs.try_recv() else { break };
            group.push(next);
        }
        waiting.fetch_sub(group.len(), Ordering::Relaxed);
        let tx = Tx { connection, now: clock.now(), wake: Cell::new(false), happened: Cell::new(false) };
        let answers = commit(&tx, &mut group);
        if tx.wake.get() {
            woken.notify_one();
        }
        // One too many is no harm: whoever hears it looks what there is.
        if tx.happened.get() {
            happened.send_modify(|commits| *commits += 1);
        }
        for (reply, outcome) in answers {
            // Whoever asked may have gone away; the work is done all the same.
            let _ = reply.send(outcome);
        }
    }
    // Leaves a file without a log beside it, so that a copy of it is whole.
    // No PRAGMA optimize: with statistics of one day's rows the planner scans tables on another.
    let _ = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE);");
}

fn commit(tx: &Tx<'_>, group: &mut Vec<Job>) -> Vec<(oneshot::Sender<Outcome>, Outcome)> {
    if let Err(error) = tx.execute_batch("BEGIN IMMEDIATE") {
        return fail_all(group.drain(..).map(|job| job.reply), error.into());
    }
    let mut answers = Vec::with_capacity(group.len());
    let mut jobs = group.drain(..);
    while let Some(job) = jobs.next() {
        let woke = tx.wake.get();
        let outcome = savepoint(tx, job.name, job.work);
        if outcome.is_err() {
            tx.wake.set(woke);
        }
        // Some failures (a full disk, an I/O error) end the whole transaction behind our back.
        if tx.is_autocommit() {
            tx.wake.set(false);
            let cause = outcome.err().unwrap_or_else(|| Error::internal(LOST));
            let replies = answers.into_iter().map(|(reply, _)| reply);
            return fail_all(replies.chain([job.reply]).chain(jobs.map(|job| job.reply)), cause);
        }
        answers.push((job.reply, outcome));
    }
    drop(jobs);
    match tx.execute_batch("COMMIT") {
        Ok(()) => answers,
        Err(error) => {
            let _ = tx.execute_batch("ROLLBACK");
            tx.wake.set(false);
            fail_all(answers.into_iter().map(|(reply, _)| reply), error.into())
        }
    }
}

const LOST: &str =
    "the database ended a transaction: nothing was written; check the disk that holds the data folder";

fn savepoint(tx: &Tx<'_>, name: &'static str, work: Box<dyn FnOnce(&Tx<'_>) -> Outcome + Send>) -> Outcome {
    let _span = tracing::debug_span!("transaction", name).entered();
    tx.prepare_cached("SAVEPOINT request")?.execute([])?;
    let outcome = catch_unwind(AssertUnwindSafe(|| work(tx))).unwrap_or_else(|_| {
        tracing::error!(transaction = name, "a transaction panicked and was rolled back");
        Err(Error::internal(format!("the transaction {name} failed inside the server")))
    });
    if outcome.is_err() && !tx.is_autocommit() {
        tx.prepare_cached("ROLLBACK TO request")?.execute([])?;
    }
    if !tx.is_autocommit() {
        tx.prepare_cached("RELEASE request")?.execute([])?;
    }
    outcome
}

/// Everyone of the group hears the same cause: the commit that carried them all failed.
fn fail_all(
    replies: impl Iterator<Item = oneshot::Sender<Outcome>>,
    error: Error,
) -> Vec<(oneshot::Sender<Outcome>, Outcome)> {
    tracing::error!(error = error.chain(), "a commit failed");
    let cause = Arc::new(error);
    replies
        .map(|reply| {
            let source = Shared(cause.clone());
            (reply, Err(Error::Internal { words: cause.to_string(), source: Some(Box::new(source)) }))
        })
        .collect()
}

#[derive(Debug)]
struct Shared(Arc<Error>);

impl std::fmt::Display for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.chain())
    }
}

impl std::error::Error for Shared {}
