//! Predicates of activations, as a device reads and evaluates them (Apple: "Predicate Format String
//! Syntax"; `@status(…)`, `@property(…)` and `@key(…)` as the documents of ActivationSimple have them).
//!
//! [`lex`] makes words, [`parse`] a tree, [`evaluate`] the answer.
//!
//! **Invariant:** nesting is bounded, so that no text that a server sends exhausts the stack.

mod evaluate;
mod lex;
mod parse;

pub(super) use evaluate::Source;
pub(super) use parse::Predicate;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The text is no predicate.
    Parse(String),
    /// It reads what this device does not have, or asks what cannot be asked of it.
    Evaluate(String),
}

/// Reads a predicate and says whether it holds.
pub(super) fn holds(text: &str, source: &dyn Source) -> Result<bool, Failure> {
    let predicate = Predicate::read(text).map_err(Failure::Parse)?;
    predicate.holds(source).map_err(Failure::Evaluate)
}

#[cfg(test)]
mod tests;
