//! The things that are measured, and how each takes turns with its ceilings.
//!
//! An operation is what a person would count: an Idle, a command from the API to its answer, an
//! enrollment, a question about declarations, a status report. The ceilings get the very same requests.
//!
//! **Invariant:** operations go round all enrollments; no device is asked for by two connections at
//! once unless there are fewer devices than connections.

use std::sync::Arc;

use russet::clock::Clock;
use russet::storage::Store;

use crate::client::Address;
use crate::declared::EVERYBODYS;
use crate::drive::{Commits, Load, Measured, Operations};
use crate::prepare::Prepared;
use crate::process::Process;
use crate::requests::Device;
use crate::{Failed, Result, WINDOW, parallel};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    Idle,
    Cycle,
    Enrollment,
    /// The device asks for its DeclarationsToken.
    Tokens,
    /// And for the list.
    Items,
    /// And for one declaration of it.
    Declaration,
    /// A status report in which something is new.
    Status,
    /// The report before once more.
    Again,
}

/// In the order in which they are measured: enrollments come last, because they change how many there are.
pub(crate) const SCENARIOS: [Scenario; 3] = [Scenario::Idle, Scenario::Cycle, Scenario::Enrollment];

/// Those of declarative management, measured on a server of their own.
pub(crate) const DECLARATIVE: [Scenario; 5] =
    [Scenario::Tokens, Scenario::Items, Scenario::Declaration, Scenario::Status, Scenario::Again];

/// What everything is held against.
pub(crate) struct Ceilings {
    pub(crate) process: Process,
    /// Answers an empty 200.
    pub(crate) bare: Address,
    /// Writes one row for each request first.
    pub(crate) writing: Address,
    /// Verifies a signature first.
    pub(crate) proving: Address,
    /// Verifies, then writes.
    pub(crate) proving_and_writing: Address,
    /// For commits without any network.
    pub(crate) store: Store,
}

/// A scenario and its ceilings, measured in turns.
pub(crate) struct Compared {
    pub(crate) server: Measured,
    pub(crate) bare: Measured,
    /// The ceiling of the ratio with the signatures verified.
    pub(crate) proven: Measured,
    /// Where the scenario writes: the composed ceiling, and the commits alone.
    pub(crate) writing: Option<(Measured, Measured)>,
}

impl Compared {
    /// How much of the ceiling the server reaches.
    pub(crate) fn ratio(&self) -> f64 {
        let ceiling = self.writing.as_ref().map_or(&self.bare, |(composed, _)| composed);
        self.server.per_second() / ceiling.per_second()
    }

    /// As [`Compared::ratio`], of the ceiling that verifies signatures too.
    pub(crate) fn ratio_proven(&self) -> f64 {
        self.server.per_second() / self.proven.per_second()
    }
}

impl Scenario {
    /// As it is named on the command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Cycle => "cycle",
            Self::Enrollment => "enrollment",
            Self::Tokens => "tokens",
            Self::Items => "items",
            Self::Declaration => "declaration",
            Self::Status => "status",
            Self::Again => "again",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Cycle => "Command cycle",
            Self::Enrollment => "Enrollment",
            Self::Tokens => "`tokens`",
            Self::Items => "`declaration-items`",
            Self::Declaration => "`declaration/…`",
            Self::Status => "Status report",
            Self::Again => "The same report again",
        }
    }

    /// Whether it needs a server for which something is declared.
    pub(crate) fn is_declarative(self) -> bool {
        DECLARATIVE.contains(&self)
    }

    fn writes(self) -> bool {
        matches!(self, Self::Cycle | Self::Enrollment | Self::Status)
    }

    /// Whether each operation happens once before the clock starts: what is measured is the repetition.
    fn is_repetition(self) -> bool {
        self == Self::Again
    }

    /// How many operations are prepared for one window.
    pub(crate) fn most(self, connections: usize) -> usize {
        match (self, connections) {
            // They are repeated for ever.
            (Self::Idle | Self::Tokens | Self::Items | Self::Declaration | Self::Status | Self::Again, _) => {
                0
            }
            (Self::Cycle, ..4) => 300,
            (Self::Cycle, ..32) => 2000,
            (Self::Cycle, _) => 4000,
            // Each needs a certificate and leaves an enrollment behind.
            (Self::Enrollment, ..4) => 200,
            (Self::Enrollment, ..32) => 600,
            (Self::Enrollment, _) => 1000,
        }
    }

    /// Makes all requests of all windows.
    pub(crate) fn operations(
        self,
        prepared: &mut Prepared,
        connections: usize,
        windows: usize,
    ) -> Result<Operations> {
        let now = Clock::system().now();
        let number = self.most(connections) * windows;
        let topic = prepared.topic;
        let devices = &prepared.enrolled;
        Ok(match self {
            Self::Idle => {
                Operations::again(parallel(devices.len(), |at| Ok(vec![Arc::new(devices[at].idle(now)?)]))?)
            }
            Self::Tokens => Operations::again(parallel(devices.len(), |at| devices[at].ask(now, "tokens"))?),
            Self::Items => {
                Operations::again(parallel(devices.len(), |at| devices[at].ask(now, "declaration-items"))?)
            }
            Self::Declaration => {
                let endpoint = format!("declaration/configuration/{EVERYBODYS}");
                Operations::again(parallel(devices.len(), |at| devices[at].ask(now, &endpoint))?)
            }
            // Each device says the one and then the other: what it says is always news.
            Self::Status => Operations::again(parallel(devices.len() * 2, |at| {
                devices[at % devices.len()].report(now, at / devices.len())
            })?),
            Self::Again => Operations::again(parallel(devices.len(), |at| devices[at].report(now, 2))?),
            Self::Cycle => {
                let token = prepared.token.as_str();
                let idles = parallel(devices.len().min(number), |at| devices[at].idle(now))?;
                Operations::once(parallel(number, |at| {
                    let at = at % devices.len();
                    devices[at].cycle(now, token, &idles[at])
                })?)
            }
            Self::Enrollment => {
                let left = prepared.newcomers.len().checked_sub(number);
                let left = left.ok_or_else(|| Failed("there are too few identities".into()))?;
                let some: Vec<Device> = prepared.newcomers.split_off(left);
                Operations::once(parallel(number, |at| some[at].enroll(now, topic))?)
            }
        })
    }

    /// Windows of the server and of its ceilings in turns.
    pub(crate) async fn measure(
        self,
        (process, address): (&Process, &Address),
        ceilings: &Ceilings,
        connections: usize,
        operations: Operations,
        windows: usize,
    ) -> Result<Compared> {
        let replayed = operations.replayed();
        let mut bare = Load::open(&ceilings.process, &ceilings.bare, connections, replayed, true).await?;
        let replayed = operations.replayed();
        let proving = if self.writes() { &ceilings.proving_and_writing } else { &ceilings.proving };
        let mut proven = Load::open(&ceilings.process, proving, connections, replayed, true).await?;
        let mut writing = None;
        if self.writes() {
            let composed = operations.replayed();
            let composed =
                Load::open(&ceilings.process, &ceilings.writing, connections, composed, true).await?;
            writing = Some((composed, Commits::new(&ceilings.store, connections, operations.replayed())));
        }
        let mut server = Load::open(process, address, connections, operations, false).await?;
        if self.is_repetition() {
            server.once().await?;
        }
        for left in (1..=windows).rev() {
            server.window(WINDOW, left).await?;
            bare.window(WINDOW, left).await?;
            proven.window(WINDOW, left).await?;
            if let Some((composed, commits)) = &mut writing {
                composed.window(WINDOW, left).await?;
                commits.window(WINDOW).await?;
            }
        }
        let writing = writing.map(|(composed, commits)| (composed.measured, commits.measured));
        Ok(Compared { server: server.measured, bare: bare.measured, proven: proven.measured, writing })
    }
}
