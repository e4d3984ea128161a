//! The tree of a predicate.
//!
//! [`super::parse()`] makes it, [`super::print`] writes it and [`super::evaluate`] reads it.
//!
//! **Invariant:** there is one tree for each meaning that the text distinguishes: `SOME` is `ANY`, a
//! name after a dot is a key, and `AND` within `AND`, as `OR` within `OR`, is one list.

use std::collections::BTreeSet;

use serde_json::{Number, Value};

/// A condition.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Constant(bool),
    Not(Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    Compare(Box<Comparison>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Comparison {
    pub(super) quantifier: Option<Quantifier>,
    pub(super) left: Expr,
    pub(super) operator: Operator,
    pub(super) options: Options,
    pub(super) right: Expr,
}

/// How many elements on the left the comparison must hold for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quantifier {
    Any,
    All,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    BeginsWith,
    EndsWith,
    Contains,
    Like,
    Matches,
    In,
    Between,
}

/// What stands in brackets after an operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// `c`: letters are equal whatever their case.
    pub(super) case: bool,
    /// `d`: letters are equal whatever their accents.
    pub(super) diacritics: bool,
    /// `n`: the strings are normalised already. Of no consequence here.
    pub(super) normalized: bool,
    /// `l`: compared as the locale does. Of no consequence here.
    pub(super) locale: bool,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    /// Null, a boolean, a number or a string.
    Literal(Value),
    /// Seconds since the beginning of 2001, as NSDate counts.
    Date(Number),
    List(Vec<Expr>),
    Path(Path),
}

/// A value found by name, and what is read of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Path {
    pub(super) base: Base,
    pub(super) steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Base {
    Fact(Fact),
    Variable(String),
    Subquery(Box<Subquery>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fact {
    pub(super) source: Source,
    pub(super) name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Status,
    Property,
    Key,
}

/// The elements of a collection for which a condition holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Subquery {
    pub(super) collection: Expr,
    pub(super) variable: String,
    pub(super) condition: Node,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Count,
}

impl Node {
    /// All of two or more conditions.
    pub(super) fn all(nodes: Vec<Self>) -> Self {
        let inner = |node| if let Self::And(inner) = node { inner } else { vec![node] };
        Self::And(nodes.into_iter().flat_map(inner).collect())
    }

    /// Any of two or more conditions.
    pub(super) fn any(nodes: Vec<Self>) -> Self {
        let inner = |node| if let Self::Or(inner) = node { inner } else { vec![node] };
        Self::Or(nodes.into_iter().flat_map(inner).collect())
    }

    /// Adds every fact that is read.
    pub(super) fn facts<'a>(&'a self, facts: &mut BTreeSet<&'a Fact>) {
        match self {
            Self::Constant(_) => {}
            Self::Not(node) => node.facts(facts),
            Self::And(nodes) | Self::Or(nodes) => nodes.iter().for_each(|node| node.facts(facts)),
            Self::Compare(comparison) => {
                comparison.left.facts(facts);
                comparison.right.facts(facts);
            }
        }
    }
}

impl Expr {
    fn facts<'a>(&'a self, facts: &mut BTreeSet<&'a Fact>) {
        match self {
            Self::Literal(_) | Self::Date(_) => {}
            Self::List(elements) => elements.iter().for_each(|element| element.facts(facts)),
            Self::Path(path) => match &path.base {
                Base::Variable(_) => {}
                Base::Fact(fact) => {
                    facts.insert(fact);
                }
                Base::Subquery(subquery) => {
                    subquery.collection.facts(facts);
                    subquery.condition.facts(facts);
                }
            },
        }
    }
}
