//! The last lines of the log, for the support bundle.
//!
//! `serve` lets its log go through [`Tee`]; the lines stay in memory.
//!
//! **Invariant:** at most 1000 lines of at most 2000 characters. What is never logged (THREATS D5 38) is not here either.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

const LINES: usize = 1000;
const LONGEST: usize = 2000;

static RECENT: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// Writes to stderr, and remembers.
#[derive(Debug, Default)]
pub struct Tee;

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        note(&String::from_utf8_lossy(bytes));
        io::stderr().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn note(text: &str) {
    let mut recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    for line in text.lines() {
        if recent.len() == LINES {
            recent.pop_front();
        }
        recent.push_back(line.chars().take(LONGEST).collect());
    }
}

/// What was logged last, oldest first.
pub fn lines() -> Vec<String> {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_lines_are_kept_than_are_promised() {
        for number in 0..LINES + 10 {
            note(&format!("line {number}\n"));
        }
        note(&"x".repeat(LONGEST + 5));
        let lines = lines();
        assert_eq!(lines.len(), LINES);
        assert_eq!(lines.last().unwrap().len(), LONGEST);
    }
}
