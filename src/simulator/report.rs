//! What a run of simulated devices came to: counts, errors, latencies.
//!
//! A [`Meter`] is shared by the devices of a run; [`Report`] is what `russet simulate` prints, as text
//! or as JSON. Percentiles are exact: every exchange is kept, four bytes each.
//!
//! **Invariant:** an error counts once, under the sentence that the device would have said; the exit
//! code depends on nothing else.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Examples kept of each error.
const EXAMPLES: usize = 3;

/// Counts what devices do; cheap to clone.
#[derive(Clone, Debug)]
pub struct Meter(Arc<Mutex<Counts>>);

#[derive(Debug)]
struct Counts {
    begun: Instant,
    /// Microseconds of each exchange, by step.
    steps: BTreeMap<String, Vec<u32>>,
    errors: BTreeMap<String, (u64, Vec<String>)>,
    enrolled: u64,
    connects: u64,
    commands: u64,
}

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}

impl Meter {
    /// Begins to measure now.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Counts {
            begun: Instant::now(),
            steps: BTreeMap::new(),
            errors: BTreeMap::new(),
            enrolled: 0,
            connects: 0,
            commands: 0,
        })))
    }

    /// Measures from now on; what was counted stays.
    pub(super) fn restart(&self) {
        self.counts().begun = Instant::now();
    }

    pub(super) fn took(&self, step: &str, duration: Duration) {
        let micros = u32::try_from(duration.as_micros()).unwrap_or(u32::MAX);
        let mut counts = self.counts();
        match counts.steps.get_mut(step) {
            Some(step) => step.push(micros),
            None => {
                counts.steps.insert(step.to_owned(), vec![micros]);
            }
        }
    }

    pub(super) fn failed(&self, words: &str, who: &str) {
        let mut counts = self.counts();
        let (count, examples) = counts.errors.entry(words.to_owned()).or_default();
        *count += 1;
        if examples.len() < EXAMPLES {
            examples.push(who.to_owned());
        }
    }

    pub(super) fn enrolled(&self) {
        self.counts().enrolled += 1;
    }

    pub(super) fn connected(&self, commands: usize) {
        let mut counts = self.counts();
        counts.connects += 1;
        counts.commands += u64::try_from(commands).unwrap_or(0);
    }

    /// What has been counted so far, by `devices` devices.
    pub fn report(&self, devices: u64) -> Report {
        let mut counts = self.counts();
        let seconds = counts.begun.elapsed().as_secs_f64();
        let mut requests = 0;
        let steps = counts
            .steps
            .iter_mut()
            .map(|(name, micros)| {
                micros.sort_unstable();
                requests += micros.len();
                Step {
                    step: name.clone(),
                    count: micros.len(),
                    p50_ms: percentile(micros, 50),
                    p95_ms: percentile(micros, 95),
                    p99_ms: percentile(micros, 99),
                }
            })
            .collect();
        let errors = counts
            .errors
            .iter()
            .map(|(error, (count, examples))| Trouble {
                error: error.clone(),
                count: *count,
                examples: examples.clone(),
            })
            .collect();
        #[expect(clippy::cast_precision_loss, reason = "a count of requests fits a double")]
        let per_second = if seconds > 0.0 { requests as f64 / seconds } else { 0.0 };
        Report {
            devices,
            enrolled: counts.enrolled,
            connects: counts.connects,
            commands: counts.commands,
            requests,
            seconds: rounded(seconds),
            requests_per_second: rounded(per_second),
            steps,
            errors,
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The nearest-rank percentile of sorted microseconds, in milliseconds.
fn percentile(sorted: &[u32], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    rounded(f64::from(sorted.get(rank).copied().unwrap_or(0)) / 1000.0)
}

fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// A finished run. Serializes to what `russet simulate --json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Devices that were to enroll.
    pub devices: u64,
    /// Devices that did.
    pub enrolled: u64,
    /// Times that a channel of a device connected and was served until the empty answer.
    pub connects: u64,
    /// Commands answered, whatever the answer.
    pub commands: u64,
    /// HTTP requests that were answered as they should be.
    pub requests: usize,
    /// From the first to the last.
    pub seconds: f64,
    /// `requests` over `seconds`.
    pub requests_per_second: f64,
    /// Latencies by what was sent.
    pub steps: Vec<Step>,
    /// What went wrong, grouped by sentence; empty if nothing.
    pub errors: Vec<Trouble>,
}

/// The latencies of one kind of exchange, in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// What was sent: `TokenUpdate`, `Idle`, `PKIOperation` …
    pub step: String,
    /// How often.
    pub count: usize,
    /// Half were faster.
    pub p50_ms: f64,
    /// One in twenty was slower.
    pub p95_ms: f64,
    /// One in a hundred was slower.
    pub p99_ms: f64,
}

/// One kind of error.
#[derive(Clone, Debug, Serialize)]
pub struct Trouble {
    /// The sentence.
    pub error: String,
    /// How often.
    pub count: u64,
    /// The first devices that it happened to.
    pub examples: Vec<String>,
}

impl Report {
    /// 0 if every device enrolled and nothing went wrong, else 1.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.errors.is_empty() || self.enrolled < self.devices)
    }

    /// One JSON object, on several lines.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(
            f,
            "{} of {} devices enrolled, {} connects, {} commands answered; {} requests in {} s ({}/s)",
            self.enrolled,
            self.devices,
            self.connects,
            self.commands,
            self.requests,
            self.seconds,
            self.requests_per_second
        )?;
        writeln!(f)?;
        writeln!(f, "{:<28}{:>9}{:>11}{:>11}{:>11}", "", "count", "p50 ms", "p95 ms", "p99 ms")?;
        for step in &self.steps {
            let Step { step, count, p50_ms, p95_ms, p99_ms } = step;
            writeln!(f, "{step:<28}{count:>9}{p50_ms:>11.2}{p95_ms:>11.2}{p99_ms:>11.2}")?;
        }
        if self.errors.is_empty() {
            return writeln!(f, "\nNo errors.");
        }
        writeln!(f, "\nErrors:")?;
        for Trouble { error, count, examples } in &self.errors {
            writeln!(f, "{count:>7} × {error} (first: {})", examples.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let micros: Vec<u32> = (1..=100).map(|n| n * 1000).collect();
        assert_eq!([50, 95, 99].map(|p| percentile(&micros, p)), [50.0, 95.0, 99.0]);
        assert_eq!(percentile(&[7000], 99), 7.0);
        assert_eq!(percentile(&[], 50), 0.0);
    }

    #[test]
    fn errors_are_grouped_by_sentence_and_decide_the_exit_code() {
        let meter = Meter::new();
        meter.enrolled();
        assert_eq!(meter.report(1).exit_code(), 0);
        assert_eq!(meter.report(2).exit_code(), 1);
        for device in ["a", "b", "c", "d"] {
            meter.failed("TokenUpdate was answered 500", device);
        }
        let report = meter.report(1);
        assert_eq!(report.exit_code(), 1);
        assert_eq!(report.errors.len(), 1);
        assert_eq!((report.errors[0].count, report.errors[0].examples.len()), (4, 3));
        assert!(report.to_string().contains("4 × TokenUpdate was answered 500 (first: a, b, c)"));
        assert!(report.json().contains("\"requests_per_second\""));
    }
}
