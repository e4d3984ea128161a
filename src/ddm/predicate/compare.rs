//! One comparison of two values.
//!
//! Strings compare with strings, numbers and booleans with numbers and booleans (`TRUE` is 1), dates
//! with dates, `null` with `null`. What does not compare is not equal: `==` and every other operator
//! are false, `!=` is true. Where both sides are dotted versions, `<`, `<=`, `>`, `>=` and `BETWEEN`
//! compare by component. `==` on a device compares the strings; in a rule versions are equal by
//! component too, and a date compares with an RFC 3339 string.
//!
//! **Invariant:** an unknown side makes the comparison unknown, unless the other decides it.

use std::cmp::Ordering;

use serde_json::Value;

use super::budget::Budget;
use super::evaluate::{Given, every};
use super::fold::fold;
use super::tree::{Operator, Options};
use super::{Dialect, Truth, like, regex, version};

pub(super) struct Comparer<'a> {
    pub(super) dialect: Dialect,
    pub(super) options: Options,
    pub(super) budget: &'a Budget,
}

/// A single value.
enum Scalar<'a> {
    Null,
    Whole(i128),
    Real(f64),
    Text(&'a str),
    Date(f64),
}

impl Comparer<'_> {
    pub(super) fn holds(&self, left: &Given<'_>, operator: Operator, right: &Given<'_>) -> Truth {
        match operator {
            Operator::Equal => self.equal(left, right),
            Operator::NotEqual => !self.equal(left, right),
            Operator::Less => self.ordered(left, right, Ordering::is_lt),
            Operator::LessOrEqual => self.ordered(left, right, Ordering::is_le),
            Operator::Greater => self.ordered(left, right, Ordering::is_gt),
            Operator::GreaterOrEqual => self.ordered(left, right, Ordering::is_ge),
            Operator::BeginsWith => self.texts(left, right, |left, right| left.starts_with(right).into()),
            Operator::EndsWith => self.texts(left, right, |left, right| left.ends_with(right).into()),
            Operator::Like => self.texts(left, right, |left, right| like::matches(right, left, self.budget)),
            Operator::Matches => self.matches(left, right),
            Operator::Contains => self.within(right, left),
            Operator::In => self.within(left, right),
            Operator::Between => self.between(left, right),
        }
    }

    /// Whether both may be looked at once; folding copies them letter by letter.
    fn looks_at(&self, left: &str, right: &str) -> bool {
        let length = left.len().saturating_add(right.len());
        let folds = self.options.case || self.options.diacritics;
        self.budget.look_at(if folds { length.saturating_mul(4) } else { length })
    }

    fn equal(&self, left: &Given<'_>, right: &Given<'_>) -> Truth {
        if !self.budget.spend(1) || either_unknown(left, right) {
            return Truth::Unknown;
        }
        match (scalar(left), scalar(right)) {
            (Some(Scalar::Text(left)), Some(Scalar::Text(right))) => self.same(left, right),
            (Some(left), Some(right)) => (self.order(&left, &right) == Some(Ordering::Equal)).into(),
            (Some(_), None) | (None, Some(_)) => Truth::False,
            (None, None) => self.equal_collections(left, right),
        }
    }

    fn equal_collections(&self, left: &Given<'_>, right: &Given<'_>) -> Truth {
        if !self.budget.spend(left.size()) {
            return Truth::Unknown;
        }
        match (left.elements(), right.elements()) {
            (Some(left), Some(right)) if left.len() == right.len() => {
                let pairs: Vec<_> = left.iter().zip(&right).collect();
                every(&pairs, |(left, right)| self.equal(left, right))
            }
            // Two dictionaries: no text says one, so nobody means to compare them.
            (None, None) => Truth::Unknown,
            _ => Truth::False,
        }
    }

    fn same(&self, left: &str, right: &str) -> Truth {
        if !self.looks_at(left, right) {
            return Truth::Unknown;
        }
        let same = fold(left, self.options) == fold(right, self.options);
        (same || self.dialect == Dialect::Rule && version::same(left, right)).into()
    }

    fn ordered(&self, left: &Given<'_>, right: &Given<'_>, holds: fn(Ordering) -> bool) -> Truth {
        if either_unknown(left, right) {
            return Truth::Unknown;
        }
        let (Some(left), Some(right)) = (scalar(left), scalar(right)) else { return Truth::False };
        if let (Scalar::Text(left), Scalar::Text(right)) = (&left, &right)
            && !self.looks_at(left, right)
        {
            return Truth::Unknown;
        }
        // Being as absent as the other says nothing of an order.
        let null = matches!(left, Scalar::Null);
        (!null && self.order(&left, &right).is_some_and(holds)).into()
    }

    /// How two values compare; nothing if they do not.
    fn order(&self, left: &Scalar<'_>, right: &Scalar<'_>) -> Option<Ordering> {
        let rule = self.dialect == Dialect::Rule;
        match (left, right) {
            (Scalar::Null, Scalar::Null) => Some(Ordering::Equal),
            (Scalar::Whole(left), Scalar::Whole(right)) => Some(left.cmp(right)),
            (Scalar::Text(left), Scalar::Text(right)) => version::compare(left, right)
                .or_else(|| Some(fold(left, self.options).cmp(&fold(right, self.options)))),
            (Scalar::Date(left), Scalar::Date(right)) => left.partial_cmp(right),
            (Scalar::Date(left), Scalar::Text(right)) if rule => left.partial_cmp(&version::moment(right)?),
            (Scalar::Text(left), Scalar::Date(right)) if rule => version::moment(left)?.partial_cmp(right),
            _ => real(left)?.partial_cmp(&real(right)?),
        }
    }

    /// Two strings, folded as the options say.
    fn texts(&self, left: &Given<'_>, right: &Given<'_>, holds: impl Fn(&str, &str) -> Truth) -> Truth {
        if either_unknown(left, right) {
            return Truth::Unknown;
        }
        let (Some(Scalar::Text(left)), Some(Scalar::Text(right))) = (scalar(left), scalar(right)) else {
            return Truth::False;
        };
        if !self.looks_at(left, right) {
            return Truth::Unknown;
        }
        holds(&fold(left, self.options), &fold(right, self.options))
    }

    fn matches(&self, left: &Given<'_>, right: &Given<'_>) -> Truth {
        if either_unknown(left, right) {
            return Truth::Unknown;
        }
        match (scalar(left), scalar(right)) {
            (Some(Scalar::Text(text)), Some(Scalar::Text(pattern))) => {
                regex::matches(pattern, text, self.options, self.budget)
            }
            _ => Truth::False,
        }
    }

    /// Whether it is an element of the other, or part of the string.
    fn within(&self, item: &Given<'_>, whole: &Given<'_>) -> Truth {
        if !self.budget.spend(whole.size()) {
            return Truth::Unknown;
        }
        match whole.elements() {
            Some(elements) => !every(&elements, |element| !self.equal(item, element)),
            None => self.texts(item, whole, |item, whole| whole.contains(item).into()),
        }
    }

    fn between(&self, value: &Given<'_>, bounds: &Given<'_>) -> Truth {
        if matches!(bounds, Given::Unknown) {
            return Truth::Unknown;
        }
        if bounds.size() != 2 {
            return Truth::False;
        }
        match bounds.elements().as_deref() {
            Some([least, most]) => {
                let above = self.ordered(value, least, Ordering::is_ge);
                above.and(self.ordered(value, most, Ordering::is_le))
            }
            _ => Truth::False,
        }
    }
}

fn either_unknown(left: &Given<'_>, right: &Given<'_>) -> bool {
    matches!(left, Given::Unknown) || matches!(right, Given::Unknown)
}

/// Nothing for lists and dictionaries.
fn scalar<'a>(given: &'a Given<'_>) -> Option<Scalar<'a>> {
    Some(match given {
        Given::Json(Value::Bool(boolean)) => Scalar::Whole(i128::from(*boolean)),
        Given::Json(Value::Number(number)) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Scalar::Whole(whole.into()),
            (None, Some(whole)) => Scalar::Whole(whole.into()),
            (None, None) => Scalar::Real(number.as_f64()?),
        },
        Given::Json(Value::String(text)) => Scalar::Text(text),
        Given::Json(Value::Null) => Scalar::Null,
        Given::Count(count) => Scalar::Whole(i128::try_from(*count).ok()?),
        Given::Date(seconds) => Scalar::Date(*seconds),
        Given::Json(Value::Array(_) | Value::Object(_)) | Given::List(_) | Given::Unknown => return None,
    })
}

fn real(scalar: &Scalar<'_>) -> Option<f64> {
    match scalar {
        // Only where the other side is a double itself.
        Scalar::Whole(whole) => Some(*whole as f64),
        Scalar::Real(real) => Some(*real),
        _ => None,
    }
}
