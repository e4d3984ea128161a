//! What was measured, as the tables of `docs/performance.md`.
//!
//! **Invariant:** the tables hold what this run measured and nothing else.

use std::fmt::Write;
use std::path::Path;

use crate::change::Change;
use crate::scenario::{Compared, Scenario};
use crate::{Failed, Result};

/// The share of the ceiling that has to be reached.
const GATE: f64 = 0.6;
/// And at how many connections.
const GATE_AT: usize = 64;

/// Between which marks the tables go.
const BEGIN: &str = "<!-- measured: written by `cargo bench --bench load -- --write` -->";
const BEGIN_DECLARED: &str = "<!-- declarative: written by `cargo bench --bench load -- --write` -->";
const END: &str = "<!-- end of what was measured -->";

/// One row.
pub(crate) struct Figure {
    pub(crate) scenario: Scenario,
    pub(crate) enrollments: usize,
    pub(crate) connections: usize,
    pub(crate) measured: Compared,
}

/// What one server held, in KiB, and its database in bytes.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) enrollments: usize,
    /// Whether anything was declared.
    pub(crate) declared: bool,
    pub(crate) started: u64,
    pub(crate) loaded: u64,
    pub(crate) enrolled: u64,
    pub(crate) highest: u64,
    pub(crate) newcomers: usize,
    pub(crate) database_before: u64,
    pub(crate) database_after: u64,
}

#[derive(Default)]
pub(crate) struct Report {
    pub(crate) figures: Vec<Figure>,
    pub(crate) changes: Vec<Change>,
    pub(crate) memory: Vec<Memory>,
}

impl Report {
    /// A sentence for each row that misses the gate.
    pub(crate) fn below_the_gate(&self) -> Vec<String> {
        let at = self.figures.iter().filter(|figure| figure.connections == GATE_AT);
        at.filter(|figure| figure.measured.ratio() < GATE)
            .map(|figure| {
                format!(
                    "{} with {} enrollments reaches {:.2} of its ceiling at {GATE_AT} connections; the gate is {GATE}",
                    figure.scenario.name(),
                    figure.enrollments,
                    figure.measured.ratio()
                )
            })
            .collect()
    }

    /// The tables, each beneath its mark: those of a server for which nothing is declared, and of one for
    /// which there is; as far as they were measured.
    pub(crate) fn tables(&self) -> Vec<(&'static str, String)> {
        let measured = |declared: bool| self.memory.iter().any(|memory| memory.declared == declared);
        let both = [(BEGIN, false), (BEGIN_DECLARED, true)];
        let tables = both.into_iter().filter(|(_, declared)| measured(*declared));
        tables.map(|(mark, declared)| (mark, self.markdown(declared))).collect()
    }

    fn markdown(&self, declared: bool) -> String {
        let mut text = format!("{}\n\n", machine());
        text.push_str(
            "| scenario | enrollments | connections | per second | p50 ms | p99 ms | CPU µs | HTTP alone | CPU µs \
             | commits alone | HTTP and commits | ratio | and signatures | ratio |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        );
        for figure in self.figures.iter().filter(|figure| figure.scenario.is_declarative() == declared) {
            let Compared { server, bare, proven, writing } = &figure.measured;
            let (composed, commits) = match writing {
                Some((composed, commits)) => {
                    (format!("{:.0}", composed.per_second()), format!("{:.0}", commits.per_second()))
                }
                None => ("–".into(), "–".into()),
            };
            let _ = writeln!(
                text,
                "| {} | {} | {} | **{:.0}** | {:.1} | {:.1} | {:.0} | {:.0} | {:.0} | {commits} | {composed} | **{:.2}** | {:.0} | {:.2} |",
                figure.scenario.name(),
                figure.enrollments,
                figure.connections,
                server.per_second(),
                server.latency(0.5),
                server.latency(0.99),
                server.cpu_micros(),
                bare.per_second(),
                bare.cpu_micros(),
                figure.measured.ratio(),
                proven.per_second(),
                figure.measured.ratio_proven(),
            );
        }
        if declared && !self.changes.is_empty() {
            text.push_str(
                "\n| one declaration of all is changed, enrollments | answered after ms | every token right after s \
                 | every push answered after s | pushes | CPU ms | written |\n|--:|--:|--:|--:|--:|--:|--:|\n",
            );
        }
        for change in self.changes.iter().filter(|_| declared) {
            let _ = writeln!(
                text,
                "| {} | {} | **{:.2}** | {:.2} | {} | {} | {} |",
                change.enrollments,
                change.answered.as_millis(),
                change.right.as_secs_f64(),
                change.pushed.as_secs_f64(),
                change.pushes,
                change.cpu.as_millis(),
                mebibytes(change.written / 1024),
            );
        }
        text.push_str(
            "\n| enrollments | resident at start | under load | enrolled meanwhile | resident then \
             | highest | database at start | at the end |\n|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        );
        for memory in self.memory.iter().filter(|memory| memory.declared == declared) {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {} |",
                memory.enrollments,
                mebibytes(memory.started),
                mebibytes(memory.loaded),
                memory.newcomers,
                mebibytes(memory.enrolled),
                mebibytes(memory.highest),
                mebibytes(memory.database_before / 1024),
                mebibytes(memory.database_after / 1024),
            );
        }
        text
    }
}

fn mebibytes(kibibytes: u64) -> String {
    format!("{}.{} MiB", kibibytes / 1024, kibibytes % 1024 * 10 / 1024)
}

/// What it was measured on.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let information = read("/proc/cpuinfo");
    let model = information.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split_once(':')).map_or("an unnamed processor", |(_, name)| name);
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    format!(
        "Measured on {processors} × {}, Linux {}, with a load average of {} from all that ran before.",
        model.trim(),
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/loadavg").split_whitespace().next().unwrap_or("?")
    )
}

/// Puts tables where the file has their mark.
pub(crate) fn write_into(file: &Path, mark: &str, tables: &str) -> Result<()> {
    let text = std::fs::read_to_string(file)?;
    let unmarked = || Failed(format!("{} has not the marks between which the tables go", file.display()));
    let (before, rest) = text.split_once(mark).ok_or_else(unmarked)?;
    let (_, after) = rest.split_once(END).ok_or_else(unmarked)?;
    Ok(std::fs::write(file, format!("{before}{mark}\n\n{tables}\n{END}{after}"))?)
}
