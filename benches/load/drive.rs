//! Windows of load: so many connections for so long, and what they came to.
//!
//! [`Load`] keeps its connections open from one window to the next. Windows of the server and of its
//! ceilings take turns, so that whatever else the machine does hits them alike.
//!
//! **Invariant:** an operation is counted when its last reply was read, never before.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rusqlite::params;
use russet::storage::Store;
use tokio::task::JoinSet;

use crate::client::{Address, Connection, Expected};
use crate::process::Process;
use crate::requests::Operation;
use crate::{Failed, Result};

/// Operations in the order in which they are begun.
pub(crate) struct Operations {
    all: Vec<Operation>,
    next: AtomicUsize,
    /// Whether the first may follow the last.
    again: bool,
}

impl Operations {
    /// Operations that each happen once.
    pub(crate) fn once(all: Vec<Operation>) -> Self {
        Self { all, next: AtomicUsize::new(0), again: false }
    }

    /// Operations that may be repeated for ever.
    pub(crate) fn again(all: Vec<Operation>) -> Self {
        Self { again: true, ..Self::once(all) }
    }

    /// The same operations for a ceiling, which does not mind repetitions.
    pub(crate) fn replayed(&self) -> Self {
        Self::again(self.all.clone())
    }

    fn take(&self, end: usize) -> Option<&Operation> {
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        if self.again { self.all.get(at % self.all.len()) } else { self.all[..end].get(at) }
    }

    /// Up to where one window may go, so that it leaves their share to those that follow.
    fn end(&self, windows_left: usize) -> usize {
        let begun = self.next.load(Ordering::Relaxed).min(self.all.len());
        begun + (self.all.len() - begun) / windows_left
    }

    /// Whoever found nothing left has counted on all the same; the next window begins where it should.
    fn settle(&self, end: usize) {
        if !self.again {
            self.next.fetch_min(end, Ordering::Relaxed);
        }
    }
}

/// What one or several windows came to.
#[derive(Clone, Default)]
pub(crate) struct Measured {
    /// Operations per second, of each window.
    rates: Vec<f64>,
    done: usize,
    cpu: Duration,
    latencies: Vec<Duration>,
}

impl Measured {
    fn add(&mut self, elapsed: Duration, cpu: Duration, latencies: Vec<Duration>) {
        self.done += latencies.len();
        self.rates.push(count(latencies.len()) / elapsed.as_secs_f64());
        self.cpu += cpu;
        self.latencies.extend(latencies);
    }

    /// The median of the windows.
    pub(crate) fn per_second(&self) -> f64 {
        let mut rates = self.rates.clone();
        rates.sort_by(f64::total_cmp);
        rates.get(rates.len() / 2).copied().unwrap_or_default()
    }

    /// Microseconds of CPU of the serving process for each operation, over all windows.
    pub(crate) fn cpu_micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / count(self.done.max(1))
    }

    /// How long an operation took, in milliseconds, at most for this share of them.
    pub(crate) fn latency(&self, share: f64) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index below the length"
        )]
        let at = (share * count(sorted.len())) as usize;
        sorted.get(at.min(sorted.len().saturating_sub(1))).map_or(0.0, |took| took.as_secs_f64() * 1e3)
    }
}

#[expect(clippy::cast_precision_loss, reason = "nobody counts to 2^52 here")]
pub(crate) fn count(number: usize) -> f64 {
    number as f64
}

/// Connections to one server, with what they ask of it.
pub(crate) struct Load<'a> {
    process: &'a Process,
    connections: Vec<Connection>,
    operations: Arc<Operations>,
    /// For a ceiling: a success is enough.
    any_success: bool,
    pub(crate) measured: Measured,
}

impl<'a> Load<'a> {
    pub(crate) async fn open(
        process: &'a Process,
        address: &Address,
        connections: usize,
        operations: Operations,
        any_success: bool,
    ) -> Result<Self> {
        let mut open = Vec::with_capacity(connections);
        for _ in 0..connections {
            open.push(address.connect().await?);
        }
        let operations = Arc::new(operations);
        Ok(Self { process, connections: open, operations, any_success, measured: Measured::default() })
    }

    /// Does every operation once; nothing is measured.
    pub(crate) async fn once(&mut self) -> Result<()> {
        let once = Arc::new(Operations::once(self.operations.all.clone()));
        let (end, far) = (once.all.len(), Instant::now() + Duration::from_secs(3600));
        let mut running = JoinSet::new();
        for connection in self.connections.drain(..) {
            running.spawn(ask(connection, once.clone(), far, end, self.any_success));
        }
        while let Some(ended) = running.join_next().await {
            self.connections.push(ended??.0);
        }
        Ok(())
    }

    /// Asks for as long as `window`, or until this window's share of the operations is done.
    pub(crate) async fn window(&mut self, window: Duration, windows_left: usize) -> Result<()> {
        let end = self.operations.end(windows_left);
        let cpu = self.process.cpu()?;
        let began = Instant::now();
        let mut running = JoinSet::new();
        for connection in self.connections.drain(..) {
            let (operations, any) = (self.operations.clone(), self.any_success);
            running.spawn(ask(connection, operations, began + window, end, any));
        }
        let mut latencies = Vec::new();
        while let Some(ended) = running.join_next().await {
            let (connection, took) = ended??;
            self.connections.push(connection);
            latencies.extend(took);
        }
        let elapsed = began.elapsed();
        self.operations.settle(end);
        if latencies.is_empty() {
            return Err(Failed("a window ended with nothing done".into()).into());
        }
        self.measured.add(elapsed, self.process.cpu()?.saturating_sub(cpu), latencies);
        Ok(())
    }
}

async fn ask(
    mut connection: Connection,
    operations: Arc<Operations>,
    until: Instant,
    end: usize,
    any_success: bool,
) -> Result<(Connection, Vec<Duration>)> {
    let mut took = Vec::new();
    while Instant::now() < until {
        let Some(operation) = operations.take(end) else { break };
        let began = Instant::now();
        for request in operation {
            let expected = if any_success { Expected::Success } else { request.expected };
            connection.ask(&request.bytes, expected).await?;
        }
        took.push(began.elapsed());
    }
    Ok((connection, took))
}

/// The bare group commit: no network, as many callers as there are connections, one row for each
/// request of an operation, as large as its body.
pub(crate) struct Commits {
    store: Store,
    callers: usize,
    operations: Arc<Operations>,
    pub(crate) measured: Measured,
}

impl Commits {
    pub(crate) fn new(store: &Store, callers: usize, operations: Operations) -> Self {
        let operations = Arc::new(operations);
        Self { store: store.clone(), callers, operations, measured: Measured::default() }
    }

    pub(crate) async fn window(&mut self, window: Duration) -> Result<()> {
        let began = Instant::now();
        let mut running = JoinSet::new();
        for _ in 0..self.callers {
            let (store, operations) = (self.store.clone(), self.operations.clone());
            running.spawn(async move {
                let mut took = Vec::new();
                while began.elapsed() < window {
                    let Some(operation) = operations.take(0) else { break };
                    let began = Instant::now();
                    for request in operation {
                        insert(&store, request.body().to_vec()).await?;
                    }
                    took.push(began.elapsed());
                }
                Ok::<_, russet::error::Error>(took)
            });
        }
        let mut latencies = Vec::new();
        while let Some(ended) = running.join_next().await {
            latencies.extend(ended??);
        }
        self.measured.add(began.elapsed(), Duration::ZERO, latencies);
        Ok(())
    }
}

/// Makes the table of the ceilings in a database that is otherwise Russet's.
pub(crate) async fn prepare(store: &Store) -> Result<()> {
    let table = "CREATE TABLE IF NOT EXISTS bench_rows (id INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT";
    Ok(store.write("bench.table", move |tx| Ok(tx.execute_batch(table)?)).await?)
}

/// One row, in a transaction of its own; answered when it is on the disk.
pub(crate) async fn insert(store: &Store, body: Vec<u8>) -> russet::error::Result<()> {
    store
        .write("bench.row", move |tx| {
            tx.prepare_cached("INSERT INTO bench_rows (body) VALUES (?1)")?.execute(params![body])?;
            Ok(())
        })
        .await
}
