//! Whether a predicate holds.
//!
//! Nothing (`NULL`) equals only nothing and fits no other comparison, as in Foundation. Text is
//! compared character by character, so that `'9.0' > '26.1'`.
//!
//! **Invariant:** evaluation changes nothing and depends on the [`Source`] alone.

use std::cmp::Ordering;

use serde_json::Value as Json;

use super::parse::{Comparison, Expression, Many, Operator, Predicate};

/// Where the values come from.
pub(in super::super) trait Source {
    /// A status item; `None` if the device has no such item.
    fn status(&self, item: &str) -> Option<Json>;
    /// A key of `com.apple.management.properties`.
    fn property(&self, key: &str) -> Option<Json>;
}

struct Scope<'a> {
    source: &'a dyn Source,
    /// Variables of subqueries, the innermost last.
    variables: Vec<(String, Json)>,
}

impl Predicate {
    pub(in super::super) fn holds(&self, source: &dyn Source) -> Result<bool, String> {
        self.test(&mut Scope { source, variables: Vec::new() })
    }

    fn test(&self, scope: &mut Scope<'_>) -> Result<bool, String> {
        match self {
            Self::Constant(value) => Ok(*value),
            Self::Not(inner) => Ok(!inner.test(scope)?),
            Self::And(parts) => {
                for part in parts {
                    if !part.test(scope)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Self::Or(parts) => {
                for part in parts {
                    if part.test(scope)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Self::Compare(comparison) => comparison.test(scope),
        }
    }
}

impl Comparison {
    fn test(&self, scope: &mut Scope<'_>) -> Result<bool, String> {
        let (left, right) = (self.left.value(scope)?, self.right.value(scope)?);
        let list = match (self.many, &left) {
            (Many::TheWhole, _) => return self.fits(&left, &right),
            (_, Json::Array(list)) => &list[..],
            (_, Json::Null) => &[],
            _ => return Err("ANY, ALL and NONE need a list".to_owned()),
        };
        let mut fitting = 0;
        for element in list {
            fitting += usize::from(self.fits(element, &right)?);
        }
        Ok(match self.many {
            Many::All => fitting == list.len(),
            Many::None => fitting == 0,
            Many::Any | Many::TheWhole => fitting > 0,
        })
    }

    fn fits(&self, left: &Json, right: &Json) -> Result<bool, String> {
        Ok(match self.operator {
            Operator::Equal => self.equal(left, right),
            Operator::NotEqual => !self.equal(left, right),
            Operator::Less => self.order(left, right)? == Some(Ordering::Less),
            Operator::Greater => self.order(left, right)? == Some(Ordering::Greater),
            Operator::LessOrEqual => self.order(left, right)?.is_some_and(Ordering::is_le),
            Operator::GreaterOrEqual => self.order(left, right)?.is_some_and(Ordering::is_ge),
            Operator::Between => {
                let low = self.order(left, &right[0])?.is_some_and(Ordering::is_ge);
                low && self.order(left, &right[1])?.is_some_and(Ordering::is_le)
            }
            Operator::BeginsWith => self.texts(left, right)?.is_some_and(|(l, r)| l.starts_with(&r)),
            Operator::EndsWith => self.texts(left, right)?.is_some_and(|(l, r)| l.ends_with(&r)),
            Operator::Like => self.texts(left, right)?.is_some_and(|(l, r)| is_like(&l, &r)),
            Operator::Contains => self.contains(left, right)?,
            Operator::In => self.contains(right, left)?,
        })
    }

    fn contains(&self, whole: &Json, part: &Json) -> Result<bool, String> {
        if let Json::Array(list) = whole {
            return Ok(list.iter().any(|element| self.equal(element, part)));
        }
        Ok(self.texts(whole, part)?.is_some_and(|(whole, part)| whole.contains(&part)))
    }

    fn equal(&self, left: &Json, right: &Json) -> bool {
        match (left, right) {
            (Json::String(left), Json::String(right)) => self.fold(left) == self.fold(right),
            (Json::Null, Json::Null) => true,
            _ => match (number(left), number(right)) {
                (Some(left), Some(right)) => left.total_cmp(&right).is_eq(),
                _ => left == right,
            },
        }
    }

    fn order(&self, left: &Json, right: &Json) -> Result<Option<Ordering>, String> {
        match (left, right) {
            (Json::Null, _) | (_, Json::Null) => Ok(None),
            (Json::String(left), Json::String(right)) => Ok(Some(self.fold(left).cmp(&self.fold(right)))),
            _ => match (number(left), number(right)) {
                (Some(left), Some(right)) => Ok(left.partial_cmp(&right)),
                _ => Err("values of different types have no order".to_owned()),
            },
        }
    }

    fn texts(&self, left: &Json, right: &Json) -> Result<Option<(String, String)>, String> {
        match (left, right) {
            (Json::Null, _) | (_, Json::Null) => Ok(None),
            (Json::String(left), Json::String(right)) => Ok(Some((self.fold(left), self.fold(right)))),
            _ => Err("an operator for text was given something else".to_owned()),
        }
    }

    fn fold(&self, text: &str) -> String {
        if self.ignores_case { text.to_lowercase() } else { text.to_owned() }
    }
}

/// Booleans are numbers to Foundation.
fn number(value: &Json) -> Option<f64> {
    value.as_f64().or_else(|| value.as_bool().map(|yes| f64::from(u8::from(yes))))
}

impl Expression {
    fn value(&self, scope: &mut Scope<'_>) -> Result<Json, String> {
        Ok(match self {
            Self::Constant(value) => value.clone(),
            Self::List(list) => {
                Json::Array(list.iter().map(|element| element.value(scope)).collect::<Result<_, _>>()?)
            }
            Self::Status(item) => {
                scope.source.status(item).ok_or_else(|| format!("the device has no status item {item}"))?
            }
            Self::Property(key) => scope.source.property(key).unwrap_or_default(),
            Self::Variable(name) => {
                let found = scope.variables.iter().rev().find(|(variable, _)| variable == name);
                found.map(|(_, value)| value.clone()).ok_or_else(|| format!("${name} has no value"))?
            }
            Self::Key(of, name) => match of.value(scope)? {
                Json::Array(list) => list.iter().map(|element| element[name.as_str()].clone()).collect(),
                value => value[name.as_str()].clone(),
            },
            Self::Count(of) => match of.value(scope)? {
                Json::Array(list) => list.len().into(),
                Json::Null => 0.into(),
                _ => return Err("@count needs a list".to_owned()),
            },
            Self::Subquery { of, variable, predicate } => {
                let list = match of.value(scope)? {
                    Json::Array(list) => list,
                    Json::Null => Vec::new(),
                    _ => return Err("SUBQUERY needs a list".to_owned()),
                };
                let mut found = Vec::new();
                for element in list {
                    scope.variables.push((variable.clone(), element.clone()));
                    let fits = predicate.test(scope);
                    scope.variables.pop();
                    if fits? {
                        found.push(element);
                    }
                }
                Json::Array(found)
            }
        })
    }
}

/// `*` is any text, `?` any one character.
fn is_like(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
    let (mut at, mut wanted, mut star) = (0, 0, None);
    while at < text.len() {
        match pattern.get(wanted) {
            Some('*') => {
                star = Some((wanted, at));
                wanted += 1;
            }
            Some(character) if *character == '?' || *character == text[at] => {
                at += 1;
                wanted += 1;
            }
            _ => {
                // The last star takes one character more.
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                at = taken + 1;
                wanted = star_at + 1;
            }
        }
    }
    pattern[wanted..].iter().all(|character| *character == '*')
}
