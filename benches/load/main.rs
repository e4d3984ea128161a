//! `cargo bench --bench load`: how fast the server is, held against what this machine could do.
//!
//! Real sockets, real TLS, the server in a process of its own, everything durable. Each scenario runs
//! in short windows that take turns with those of its ceilings, and the medians are compared;
//! `docs/performance.md` explains the figures. Progress goes to stderr, the tables to stdout.
//!
//! **Invariant:** no clock runs while keys, signatures or identifiers are made.

mod ceiling;
mod change;
mod client;
mod declared;
mod drive;
mod prepare;
mod process;
mod requests;
mod scenario;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use russet::clock::Clock;
use russet::simulator::{Apple, Limits};
use russet::storage::Store;

use crate::client::Address;
use crate::prepare::Prepared;
use crate::process::Process;
use crate::scenario::{Ceilings, DECLARATIVE, SCENARIOS, Scenario};
use crate::table::{Figure, Memory, Report};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// What went wrong, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failed(String);

/// Measures Russet, and what the same machine does without it.
#[derive(Parser)]
#[command(name = "load")]
struct Arguments {
    /// idle, cycle, enrollment, tokens, items, declaration, status, again; all of them when left out.
    scenarios: Vec<String>,
    /// 100 enrollments and a second for each scenario: whether it works, not how fast.
    #[arg(long, conflicts_with = "gate")]
    smoke: bool,
    /// Fails when a ratio at 64 connections is below 0.6.
    #[arg(long)]
    gate: bool,
    /// How many enrollments there are; several, separated by commas.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1_000, 10_000])]
    enrollments: Vec<usize>,
    /// How many connections there are; several, separated by commas.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64])]
    connections: Vec<usize>,
    /// How many windows of one second each figure is the median of.
    #[arg(long, default_value_t = 5)]
    windows: usize,
    /// A folder on the disk to be measured.
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    folder: PathBuf,
    /// Writes the tables into this file too, between its two marks.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Internal: be the ceiling, in this folder.
    #[arg(long, hide = true)]
    ceiling: Option<PathBuf>,
    /// Cargo says so; nothing follows from it.
    #[arg(long, hide = true)]
    bench: bool,
}

const WINDOW: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if arguments.smoke {
        (arguments.enrollments, arguments.connections, arguments.windows) = (vec![100], vec![16], 1);
    }
    let done = tokio::runtime::Runtime::new().map_err(Into::into).and_then(|runtime| {
        runtime.block_on(async {
            match &arguments.ceiling {
                Some(folder) => Box::pin(ceiling::serve(folder)).await.map(|()| true),
                None => Box::pin(run(&arguments)).await,
            }
        })
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the load could not be measured: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Answers whether the gate is passed, or not asked for.
async fn run(arguments: &Arguments) -> Result<bool> {
    let scenarios = chosen(&arguments.scenarios)?;
    let folder = tempfile::Builder::new().prefix("load").tempdir_in(&arguments.folder)?;
    let apple = Apple::start(Limits::default(), Clock::system()).await?;
    let ceilings = ceilings(&folder.path().join("ceiling")).await?;

    let mut report = Report::default();
    // A server for which nothing is declared, and one for which there is.
    for part in [&SCENARIOS[..], &DECLARATIVE] {
        let scenarios: Vec<Scenario> =
            scenarios.iter().copied().filter(|scenario| part.contains(scenario)).collect();
        if scenarios.is_empty() {
            continue;
        }
        for &enrollments in &arguments.enrollments {
            let own = tempfile::tempdir_in(folder.path())?;
            Box::pin(measure(arguments, &scenarios, own.path(), &apple, &ceilings, enrollments, &mut report))
                .await?;
        }
    }
    for (mark, tables) in report.tables() {
        println!("{tables}");
        if let Some(file) = &arguments.write {
            table::write_into(file, mark, &tables)?;
        }
    }
    let missed = report.below_the_gate();
    for words in &missed {
        eprintln!("{words}");
    }
    Ok(missed.is_empty() || !arguments.gate)
}

fn chosen(words: &[String]) -> Result<Vec<Scenario>> {
    let all = || SCENARIOS.into_iter().chain(DECLARATIVE);
    let known = |word: &String| all().find(|scenario| scenario.word() == word);
    let unknown = |word: &String| {
        let words: Vec<&str> = all().map(Scenario::word).collect();
        Failed(format!("there is no scenario {word}: {}", words.join(", ")))
    };
    if words.is_empty() {
        return Ok(all().collect());
    }
    words.iter().map(|word| Ok(known(word).ok_or_else(|| unknown(word))?)).collect()
}

async fn ceilings(folder: &std::path::Path) -> Result<Ceilings> {
    std::fs::create_dir_all(folder.join("commits"))?;
    let (process, ports) = Process::ceiling(folder)?;
    let anchor = std::fs::read(folder.join(ceiling::ANCHOR))?;
    let store = Store::open(&folder.join("commits"), Clock::system())?;
    drive::prepare(&store).await?;
    let at = |port: u16| Address::new(port, &anchor);
    let [bare, writing, proving, both] = ports;
    Ok(Ceilings {
        process,
        bare: at(bare)?,
        writing: at(writing)?,
        proving: at(proving)?,
        proving_and_writing: at(both)?,
        store,
    })
}

/// All scenarios with so many enrollments, on a server of their own.
async fn measure(
    arguments: &Arguments,
    scenarios: &[Scenario],
    folder: &std::path::Path,
    apple: &Apple,
    ceilings: &Ceilings,
    enrollments: usize,
    report: &mut Report,
) -> Result<()> {
    eprintln!("{enrollments} enrollments: making identities …");
    let newcomers = if scenarios.contains(&Scenario::Enrollment) {
        let each = |&connections: &usize| Scenario::Enrollment.most(connections) * arguments.windows;
        arguments.connections.iter().map(each).sum()
    } else {
        0
    };
    let declared = scenarios.iter().any(|scenario| scenario.is_declarative());
    let mut prepared = Prepared::new(folder, apple, enrollments, newcomers, declared).await?;
    prepared.register(apple);
    let server = Process::serve(&prepared.config, prepared.port)?;
    if declared {
        prepared.make_token("admin")?;
    } else if scenarios.contains(&Scenario::Cycle) {
        prepared.make_token("command")?;
    }
    let address = Address::new(prepared.port, &prepared.anchor)?;
    let mut memory = Memory {
        enrollments,
        declared,
        started: server.memory("VmRSS")?,
        database_before: prepared.database()?,
        ..Memory::default()
    };
    for &scenario in scenarios {
        for &connections in &arguments.connections {
            eprint!("{enrollments} enrollments, {connections} connections, {} …", scenario.name());
            let operations = scenario.operations(&mut prepared, connections, arguments.windows)?;
            let measured = scenario
                .measure((&server, &address), ceilings, connections, operations, arguments.windows)
                .await?;
            let figure = Figure { scenario, enrollments, connections, measured };
            eprintln!(
                " {:.0}/s, {:.2} of the ceiling, {:.2} of the one with signatures",
                figure.measured.server.per_second(),
                figure.measured.ratio(),
                figure.measured.ratio_proven()
            );
            report.figures.push(figure);
        }
        if scenario != Scenario::Enrollment {
            memory.loaded = server.memory("VmRSS")?;
        }
    }
    if declared {
        eprint!("{enrollments} enrollments, one declaration of all is changed …");
        let change = change::measure(&prepared, &server, &address).await?;
        eprintln!(" {:.2} s until every token is right", change.right.as_secs_f64());
        report.changes.push(change);
    }
    memory.enrolled = server.memory("VmRSS")?;
    memory.highest = server.memory("VmHWM")?;
    memory.database_after = prepared.database()?;
    memory.newcomers = newcomers - prepared.newcomers.len();
    report.memory.push(memory);
    Ok(())
}

/// Does something `number` times on all processors; the results in order.
fn parallel<T: Send>(number: usize, make: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    let processors = std::thread::available_parallelism()?.get();
    let share = number.div_ceil(processors).max(1);
    std::thread::scope(|scope| {
        let make = &make;
        let ranges = (0..number).step_by(share).map(|from| from..number.min(from + share));
        let threads: Vec<_> = ranges.map(|range| scope.spawn(move || range.map(make).collect())).collect();
        let mut all = Vec::with_capacity(number);
        for thread in threads {
            let made: Result<Vec<T>> = thread.join().map_err(|_| Failed("a thread panicked".into()))?;
            all.extend(made?);
        }
        Ok(all)
    })
}
