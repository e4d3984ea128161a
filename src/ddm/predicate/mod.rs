//! Predicates: conditions in Apple's NSPredicate language, over what is known of a device.
//!
//! An activation carries one that its device evaluates; a group's rule is one that the server
//! evaluates. [`parse()`] reads the text, `Display` writes it back in one canonical form, and
//! [`Predicate::evaluate`] says what it comes to, by Kleene's logic: what is not known stays unknown.
//! See Apple's "Predicate Format String Syntax"; `@status`, `@property` and `@key` are additions of
//! declarative management.
//!
//! **Invariant:** no text and no fact makes any of this panic, nest deeper than [`MAX_DEPTH`] or work
//! longer than its budget; canonical text parses to the tree that it was written from.

mod budget;
mod compare;
mod comparison;
mod evaluate;
mod fold;
mod keyword;
mod lex;
mod like;
mod literal;
mod operand;
mod parse;
mod pattern;
mod print;
mod program;
mod regex;
mod slip;
mod tree;
mod version;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde_json::Value;

pub use slip::ParseError;
use tree::{Fact, Node, Source};

/// The longest text that is read, in bytes; the canonical text is not longer either.
pub const MAX_LENGTH: usize = 8 << 10;
/// The deepest nesting of parentheses, NOT, lists and SUBQUERY.
pub const MAX_DEPTH: usize = 40;
/// The most conditions and values in one predicate.
pub const MAX_NODES: usize = 2000;

/// Who evaluates the predicate, and so what it may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// A device does. Values come from `@status`, `@property` and, of the elements in a SUBQUERY,
    /// `@key`. Versions are equal only when they are the same string.
    Device,
    /// The server does. Bare keys name what it knows itself, and 17.0 equals 17.
    Rule,
}

/// A condition that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Predicate {
    dialect: Dialect,
    root: Node,
}

/// What a condition comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    True,
    False,
    /// Something that it depends on is not known, or cannot be evaluated here.
    Unknown,
}

impl Truth {
    /// True only if both are; false if either is.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::False, _) | (_, Self::False) => Self::False,
            (Self::True, Self::True) => Self::True,
            _ => Self::Unknown,
        }
    }

    /// True if either is; false only if both are.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        !(!self).and(!other)
    }
}

impl std::ops::Not for Truth {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::True => Self::False,
            Self::False => Self::True,
            Self::Unknown => Self::Unknown,
        }
    }
}

impl From<bool> for Truth {
    fn from(known: bool) -> Self {
        if known { Self::True } else { Self::False }
    }
}

/// What is known. Nothing means that it is not known, `null` that there is known to be none.
///
/// Each is asked for at most once in an evaluation.
pub trait Facts {
    /// A status item by its whole name, which may lead into one: `management.declarations.configurations`.
    fn status(&self, item: &str) -> Option<Value>;
    /// A key of the device's `com.apple.management.properties`.
    fn property(&self, name: &str) -> Option<Value>;
    /// A bare key of a rule, with its dots.
    fn key(&self, name: &str) -> Option<Value>;
}

/// Reads a predicate.
///
/// # Errors
/// Where it stops being one, in words, with the corrected text if the slip is a common one.
pub fn parse(text: &str, dialect: Dialect) -> Result<Predicate, ParseError> {
    match parse::read(text, dialect) {
        Ok(root) => Ok(Predicate { dialect, root }),
        Err(slip) => Err(ParseError::new(text, dialect, slip)),
    }
}

impl Predicate {
    /// The status items that it reads.
    pub fn status_items(&self) -> BTreeSet<String> {
        self.names(Source::Status)
    }

    /// The keys of `com.apple.management.properties` that it reads.
    pub fn properties(&self) -> BTreeSet<String> {
        self.names(Source::Property)
    }

    /// The bare keys that it reads. A device's predicate has none. In a rule, a string that lost its
    /// quotes is among them, so whoever knows the keys should check.
    pub fn keys(&self) -> BTreeSet<String> {
        self.names(Source::Key)
    }

    fn names(&self, source: Source) -> BTreeSet<String> {
        let mut facts: BTreeSet<&Fact> = BTreeSet::new();
        self.root.facts(&mut facts);
        facts.into_iter().filter(|fact| fact.source == source).map(|fact| fact.name.clone()).collect()
    }

    /// What it comes to over these facts; the modules `evaluate` and `compare` say by which rules.
    pub fn evaluate(&self, facts: &dyn Facts) -> Truth {
        evaluate::evaluate(&self.root, self.dialect, facts)
    }
}

impl std::fmt::Display for Predicate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.root.fmt(f)
    }
}
