//! Figures for Prometheus: what is counted while the program runs, and the text in which it is shown.
//!
//! A part that counts has a `static` [`Counter`] (or [`Gauge`], [`Histogram`]) beside the code that does the
//! work; it is shown from its first use on. What can be looked up when it is asked for is written straight
//! into a [`Text`] by whoever answers `GET /metrics`. See Prometheus, "Text-based format", version 0.0.4.
//!
//! **Invariant:** labels are words of the program or bounded by who counts: no device and no stranger can
//! make a series.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Upper bounds of a histogram, in seconds.
const BOUNDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// How many values the label of a histogram has at the most; the others are `other`.
const MOST_VALUES: usize = 500;

/// Everything that was used.
static USED: Mutex<Vec<&'static (dyn Shown + Sync)>> = Mutex::new(Vec::new());

trait Shown {
    fn show(&self, text: &mut Text);
}

/// What every counted figure is called.
struct Named {
    name: &'static str,
    help: &'static str,
    is_used: AtomicBool,
}

impl Named {
    const fn new(name: &'static str, help: &'static str) -> Self {
        Self { name, help, is_used: AtomicBool::new(false) }
    }

    fn used(&self, by: &'static (dyn Shown + Sync)) {
        if !self.is_used.load(Ordering::Relaxed) && !self.is_used.swap(true, Ordering::Relaxed) {
            locked(&USED).push(by);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts something by kind since the program started.
pub struct Counter {
    named: Named,
    label: &'static str,
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl Counter {
    /// A counter whose name ends in `_total`; `label` is what the kinds are called.
    pub const fn new(name: &'static str, help: &'static str, label: &'static str) -> Self {
        Self { named: Named::new(name, help), label, counts: Mutex::new(BTreeMap::new()) }
    }

    /// One more of this kind.
    pub fn add(&'static self, kind: &'static str) {
        self.named.used(self);
        *locked(&self.counts).entry(kind).or_default() += 1;
    }
}

impl Shown for Counter {
    fn show(&self, text: &mut Text) {
        for (kind, count) in &*locked(&self.counts) {
            text.counter(self.named.name, self.named.help, &[(self.label, kind)], *count);
        }
    }
}

/// How many of something there are now.
pub struct Gauge {
    named: Named,
    value: AtomicI64,
}

impl Gauge {
    /// None yet.
    pub const fn new(name: &'static str, help: &'static str) -> Self {
        Self { named: Named::new(name, help), value: AtomicI64::new(0) }
    }

    /// One more, until what is answered is dropped.
    pub fn enter(&'static self) -> Inside {
        self.named.used(self);
        self.value.fetch_add(1, Ordering::Relaxed);
        Inside(self)
    }
}

impl Shown for Gauge {
    fn show(&self, text: &mut Text) {
        text.gauge(self.named.name, self.named.help, &[], self.value.load(Ordering::Relaxed));
    }
}

/// One of those that a [`Gauge`] counts.
pub struct Inside(&'static Gauge);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.value.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long something took, by kind.
pub struct Histogram {
    named: Named,
    label: &'static str,
    kinds: Mutex<BTreeMap<String, Took>>,
}

#[derive(Default)]
struct Took {
    /// As many as were no longer than each bound, and longer than the one before.
    within: [u64; BOUNDS.len()],
    count: u64,
    seconds: f64,
}

impl Histogram {
    /// A histogram whose name ends in `_seconds`; `label` is what the kinds are called.
    pub const fn new(name: &'static str, help: &'static str, label: &'static str) -> Self {
        Self { named: Named::new(name, help), label, kinds: Mutex::new(BTreeMap::new()) }
    }

    /// One of this kind took so long.
    pub fn took(&'static self, kind: &str, time: Duration) {
        self.named.used(self);
        let mut kinds = locked(&self.kinds);
        if !kinds.contains_key(kind) {
            let kind = if kinds.len() < MOST_VALUES { kind } else { "other" };
            kinds.entry(kind.to_owned()).or_default();
        }
        let known = if kinds.contains_key(kind) { kind } else { "other" };
        let Some(took) = kinds.get_mut(known) else { return };
        let seconds = time.as_secs_f64();
        if let Some(bound) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            took.within[bound] += 1;
        }
        took.count += 1;
        took.seconds += seconds;
    }
}

impl Shown for Histogram {
    fn show(&self, text: &mut Text) {
        let Named { name, help, .. } = self.named;
        for (kind, took) in &*locked(&self.kinds) {
            text.head(name, help, "histogram");
            let mut so_far = 0;
            for (bound, within) in BOUNDS.iter().zip(took.within) {
                so_far += within;
                text.sample(name, "_bucket", &[(self.label, kind), ("le", &bound.to_string())], so_far);
            }
            text.sample(name, "_bucket", &[(self.label, kind), ("le", "+Inf")], took.count);
            text.sample(name, "_sum", &[(self.label, kind)], took.seconds);
            text.sample(name, "_count", &[(self.label, kind)], took.count);
        }
    }
}

/// Figures as Prometheus reads them. Those of one name are written one after the other.
#[derive(Default)]
pub struct Text {
    written: String,
    headed: BTreeSet<String>,
}

impl Text {
    /// How much of something there is now. `labels` are names and values.
    pub fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: impl Display) {
        self.head(name, help, "gauge");
        self.sample(name, "", labels, value);
    }

    /// How much of something there was since the program started; the name ends in `_total`.
    pub fn counter(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: impl Display) {
        self.head(name, help, "counter");
        self.sample(name, "", labels, value);
    }

    /// Everything that was counted so far.
    pub fn counted(&mut self) {
        // A figure that is counted meanwhile must not wait for who is being shown.
        let used = locked(&USED).clone();
        used.iter().for_each(|figure| figure.show(self));
    }

    /// The whole text.
    pub fn finish(self) -> String {
        self.written
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        if self.headed.insert(name.to_owned()) {
            let help = help.replace('\\', "\\\\").replace('\n', "\\n");
            let _ = writeln!(self.written, "# HELP {name} {help}\n# TYPE {name} {kind}");
        }
    }

    fn sample(&mut self, name: &str, end: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.written, "{name}{end}");
        for (number, (label, value)) in labels.iter().enumerate() {
            let before = if number == 0 { '{' } else { ',' };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.written, "{before}{label}=\"{value}\"");
        }
        let _ = writeln!(self.written, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_each_name_has_one_head() {
        let mut text = Text::default();
        text.gauge("a", "What \\ is\nthis.", &[("x", "1\\2\"3\n4"), ("y", "")], 1);
        text.gauge("a", "What \\ is\nthis.", &[], -2.5);
        assert_eq!(
            text.finish(),
            "# HELP a What \\\\ is\\nthis.\n# TYPE a gauge\na{x=\"1\\\\2\\\"3\\n4\",y=\"\"} 1\na -2.5\n"
        );
    }

    #[test]
    fn what_is_counted_is_shown_from_its_first_use() {
        static COUNTER: Counter = Counter::new("test_things_total", "Things.", "kind");
        static GAUGE: Gauge = Gauge::new("test_inside", "Inside.");
        static TIMES: Histogram = Histogram::new("test_seconds", "Times.", "kind");
        let shown = || {
            let mut text = Text::default();
            text.counted();
            text.finish()
        };
        assert!(!shown().contains("test_things_total"));
        COUNTER.add("a");
        COUNTER.add("a");
        let inside = GAUGE.enter();
        assert!(shown().contains("test_things_total{kind=\"a\"} 2\n") && shown().contains("test_inside 1\n"));
        drop(inside);
        TIMES.took("x", Duration::from_millis(3));
        TIMES.took("x", Duration::from_secs(60));
        for line in [
            "test_inside 0",
            "test_seconds_bucket{kind=\"x\",le=\"0.0025\"} 0",
            "test_seconds_bucket{kind=\"x\",le=\"0.005\"} 1",
            "test_seconds_bucket{kind=\"x\",le=\"10\"} 1",
            "test_seconds_bucket{kind=\"x\",le=\"+Inf\"} 2",
            "test_seconds_sum{kind=\"x\"} 60.003",
            "test_seconds_count{kind=\"x\"} 2",
        ] {
            assert!(shown().contains(&format!("{line}\n")), "{line} in\n{}", shown());
        }
        for number in 0..2 * MOST_VALUES {
            TIMES.took(&number.to_string(), Duration::ZERO);
        }
        assert!(locked(&TIMES.kinds).len() <= MOST_VALUES + 1);
    }
}
