//! Whether this machine has memory left.

use crate::finding::{Finding, Severity};

/// In KiB: less than this and the kernel begins to end programs.
const LITTLE: u64 = 64 * 1024;

pub(super) fn findings() -> Option<Finding> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok()?;
    let own = std::fs::read_to_string("/proc/self/status").ok()?;
    let free = field(&machine, "MemAvailable:")?;
    let used = field(&own, "VmRSS:")?;
    let seen = format!("{} MiB are free; this server has {} MiB.", free / 1024, used / 1024);
    if free >= LITTLE {
        return Some(Finding::ok("memory", "memory", seen));
    }
    Some(Finding {
        code: "memory-low",
        subject: "memory".into(),
        severity: Severity::Warning,
        seen,
        means: "The system ends programs when there is none left, this one among them.".into(),
        remedy: "End what is not needed on this machine; see what takes it: top.".into(),
    })
}

/// A number of KiB behind its name.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}
