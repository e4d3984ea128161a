//! The reserved words, and the words that people bring from other languages.
//!
//! Called by the reader for every word, and by [`super::print`] to know which keys cannot stand bare.
//!
//! **Invariant:** case makes no difference to a reserved word.

use super::tree::{Operator, Quantifier};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    And,
    Or,
    Not,
    Predicate(bool),
    Boolean(bool),
    Null,
    Quantifier(Quantifier),
    Operator(Operator),
    Subquery,
    Cast,
    Itself,
}

/// The reserved word that this is.
pub(super) fn keyword(word: &str) -> Option<Keyword> {
    // Longer than any of them.
    if word.len() > 14 {
        return None;
    }
    Some(match word.to_ascii_uppercase().as_str() {
        "AND" => Keyword::And,
        "OR" => Keyword::Or,
        "NOT" => Keyword::Not,
        "TRUEPREDICATE" => Keyword::Predicate(true),
        "FALSEPREDICATE" => Keyword::Predicate(false),
        "TRUE" | "YES" => Keyword::Boolean(true),
        "FALSE" | "NO" => Keyword::Boolean(false),
        "NULL" | "NIL" => Keyword::Null,
        "ANY" | "SOME" => Keyword::Quantifier(Quantifier::Any),
        "ALL" => Keyword::Quantifier(Quantifier::All),
        "NONE" => Keyword::Quantifier(Quantifier::None),
        "BEGINSWITH" => Keyword::Operator(Operator::BeginsWith),
        "ENDSWITH" => Keyword::Operator(Operator::EndsWith),
        "CONTAINS" => Keyword::Operator(Operator::Contains),
        "LIKE" => Keyword::Operator(Operator::Like),
        "MATCHES" => Keyword::Operator(Operator::Matches),
        "IN" => Keyword::Operator(Operator::In),
        "BETWEEN" => Keyword::Operator(Operator::Between),
        "SUBQUERY" => Keyword::Subquery,
        "CAST" => Keyword::Cast,
        "SELF" => Keyword::Itself,
        _ => return None,
    })
}

/// The operator that a word of another language stands for.
pub(super) fn foreign_operator(word: &str) -> Option<&'static str> {
    if word.len() > 14 {
        return None;
    }
    Some(match word.to_ascii_lowercase().as_str() {
        "is" | "equals" | "equal" | "eq" => "==",
        "isnt" | "ne" | "neq" => "!=",
        "lt" => "<",
        "le" | "lte" => "<=",
        "gt" => ">",
        "ge" | "gte" => ">=",
        "startswith" => "BEGINSWITH",
        "includes" | "contain" | "has" => "CONTAINS",
        "match" | "regex" => "MATCHES",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_makes_no_difference() {
        for word in ["beginswith", "BeginsWith", "BEGINSWITH"] {
            assert_eq!(keyword(word), Some(Keyword::Operator(Operator::BeginsWith)));
        }
        assert_eq!(keyword("falsepredicate"), Some(Keyword::Predicate(false)));
        assert_eq!(keyword("device.model"), None);
        assert_eq!(keyword(&"x".repeat(1 << 20)), None);
    }
}
