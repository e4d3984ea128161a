//! What is wrong with a text, in words, and what it should have been.
//!
//! The reader stops at the first slip. If its correction is certain enough to propose, the slip
//! carries it as an edit of the text; the corrected text is read again, so that a proposal mends all
//! that is wrong or is not made.
//!
//! **Invariant:** a suggestion is a predicate that parses.

use std::fmt;
use std::ops::Range;

use super::Dialect;
use super::parse::read;

/// The most corrections in one suggestion; a text with more was not meant as a predicate.
const MOST_FIXES: usize = 200;

/// Why a text is not a predicate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The byte of the text at which it goes wrong.
    pub position: usize,
    /// A sentence for the person who wrote it.
    pub words: String,
    /// The whole text, corrected, when a common slip explains what is wrong.
    pub suggestion: Option<String>,
}

impl ParseError {
    pub(super) fn new(text: &str, dialect: Dialect, slip: Slip) -> Self {
        let column = column(text, slip.position);
        let words = format!("At column {column}: {}", slip.words);
        let suggestion = slip.fix.and_then(|fix| corrected(text, dialect, fix));
        Self { position: slip.position, words, suggestion }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for ParseError {}

/// The first thing that is wrong.
#[derive(Debug)]
pub(super) struct Slip {
    position: usize,
    words: String,
    fix: Option<(Range<usize>, String)>,
}

impl Slip {
    pub(super) fn new(position: usize, words: impl Into<String>) -> Self {
        Self { position, words: words.into(), fix: None }
    }

    /// With other text in this place it would be right, as far as this slip goes.
    pub(super) fn fixed_by(mut self, place: Range<usize>, text: impl Into<String>) -> Self {
        self.fix = Some((place, text.into()));
        self
    }
}

/// The column of a byte, counted from 1 in characters. A text of several lines has one count.
pub(super) fn column(text: &str, position: usize) -> usize {
    text.char_indices().take_while(|(at, _)| *at < position).count() + 1
}

/// A piece of the text as it can be shown in a sentence: short, and nothing in it invisible.
pub(super) fn shown(piece: &str) -> String {
    let start: String = piece.chars().take(40).collect();
    let more = if start.len() < piece.len() { "…" } else { "" };
    format!("{start:?}{more}")
}

fn corrected(text: &str, dialect: Dialect, mut fix: (Range<usize>, String)) -> Option<String> {
    let mut text = text.to_owned();
    for _ in 0..MOST_FIXES {
        text.replace_range(fix.0, &fix.1);
        match read(&text, dialect) {
            Ok(_) => return Some(text),
            Err(slip) => fix = slip.fix?,
        }
    }
    None
}
