//! Tree and facts to truth.
//!
//! Values are borrowed from the facts and from the tree. A quantifier looks at each element on the
//! left; a single value there counts as one element, and `null` as none. A key of a list is the list
//! of the elements' keys, as in Foundation; what an element does not have is `null`.
//!
//! **Invariant:** each fact is asked for once; knowing more never turns true into false.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde_json::Value;

use super::budget::Budget;
use super::compare::Comparer;
use super::tree::{Base, Comparison, Expr, Fact, Node, Path, Quantifier, Source, Step, Subquery};
use super::{Dialect, Facts, Truth};

/// A value while it is looked at.
#[derive(Clone)]
pub(super) enum Given<'a> {
    Unknown,
    Json(&'a Value),
    Count(usize),
    Date(f64),
    List(Rc<[Given<'a>]>),
}

const NULL: &Value = &Value::Null;

impl<'a> Given<'a> {
    /// The elements, if this is a list.
    pub(super) fn elements(&self) -> Option<Vec<Given<'a>>> {
        match self {
            Self::Json(Value::Array(elements)) => Some(elements.iter().map(Given::Json).collect()),
            Self::List(elements) => Some(elements.to_vec()),
            _ => None,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Json(Value::Null))
    }

    /// How many elements there are to look at; 1 for whatever is no list.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Json(Value::Array(elements)) => elements.len(),
            Self::List(elements) => elements.len(),
            _ => 1,
        }
    }
}

pub(super) fn evaluate(root: &Node, dialect: Dialect, facts: &dyn Facts) -> Truth {
    let mut names = BTreeSet::new();
    root.facts(&mut names);
    let known = names.into_iter().map(|fact| {
        let value = match fact.source {
            Source::Status => facts.status(&fact.name),
            Source::Property => facts.property(&fact.name),
            Source::Key => facts.key(&fact.name),
        };
        (fact, value)
    });
    let (known, budget) = (known.collect(), Budget::new());
    Run { known: &known, dialect, budget: &budget }.node(root, None)
}

struct Run<'r> {
    known: &'r BTreeMap<&'r Fact, Option<Value>>,
    dialect: Dialect,
    budget: &'r Budget,
}

/// The variables of the SUBQUERYs around.
#[derive(Clone, Copy)]
struct Scope<'s, 'r> {
    name: &'s str,
    element: &'s Given<'r>,
    outer: Option<&'s Scope<'s, 'r>>,
}

impl<'r> Run<'r> {
    fn node(&self, node: &'r Node, scope: Option<&Scope<'_, 'r>>) -> Truth {
        if !self.budget.spend(1) {
            return Truth::Unknown;
        }
        match node {
            Node::Constant(constant) => Truth::from(*constant),
            Node::Not(node) => !self.node(node, scope),
            Node::And(nodes) => every(nodes, |node| self.node(node, scope)),
            Node::Or(nodes) => !every(nodes, |node| !self.node(node, scope)),
            Node::Compare(comparison) => self.compare(comparison, scope),
        }
    }

    fn compare(&self, comparison: &'r Comparison, scope: Option<&Scope<'_, 'r>>) -> Truth {
        let left = self.value(&comparison.left, scope);
        let right = self.value(&comparison.right, scope);
        let comparer = Comparer { dialect: self.dialect, options: comparison.options, budget: self.budget };
        let holds = |left: &Given<'r>| comparer.holds(left, comparison.operator, &right);
        let Some(quantifier) = comparison.quantifier else { return holds(&left) };
        if matches!(left, Given::Unknown) || !self.budget.spend(left.size()) {
            return Truth::Unknown;
        }
        let elements = match left.elements() {
            Some(elements) => elements,
            None if left.is_null() => Vec::new(),
            None => vec![left],
        };
        match quantifier {
            Quantifier::All => every(&elements, holds),
            Quantifier::None => every(&elements, |element| !holds(element)),
            Quantifier::Any => !every(&elements, |element| !holds(element)),
        }
    }

    fn value(&self, expr: &'r Expr, scope: Option<&Scope<'_, 'r>>) -> Given<'r> {
        if !self.budget.spend(1) {
            return Given::Unknown;
        }
        match expr {
            Expr::Literal(value) => Given::Json(value),
            Expr::Date(seconds) => seconds.as_f64().map_or(Given::Unknown, Given::Date),
            Expr::List(elements) => {
                Given::List(elements.iter().map(|element| self.value(element, scope)).collect())
            }
            Expr::Path(path) => self.path(path, scope),
        }
    }

    fn path(&self, path: &'r Path, scope: Option<&Scope<'_, 'r>>) -> Given<'r> {
        let base = match &path.base {
            Base::Fact(fact) => {
                self.known.get(fact).and_then(Option::as_ref).map_or(Given::Unknown, Given::Json)
            }
            Base::Variable(name) => variable(name, scope),
            Base::Subquery(subquery) => self.subquery(subquery, scope),
        };
        path.steps.iter().fold(base, |value, step| match step {
            Step::Key(key) => self.key(value, key),
            Step::Count => count(&value),
        })
    }

    fn key(&self, value: Given<'r>, key: &str) -> Given<'r> {
        match value {
            Given::Unknown => Given::Unknown,
            Given::Json(Value::Object(object)) => Given::Json(object.get(key).unwrap_or(NULL)),
            list => match list.elements() {
                None => Given::Json(NULL),
                Some(_) if !self.budget.spend(list.size()) => Given::Unknown,
                Some(elements) => {
                    Given::List(elements.into_iter().map(|element| member(&element, key)).collect())
                }
            },
        }
    }

    /// The elements for which the condition is true. For one of them not known to be, the list is not
    /// known either.
    fn subquery(&self, subquery: &'r Subquery, scope: Option<&Scope<'_, 'r>>) -> Given<'r> {
        let collection = self.value(&subquery.collection, scope);
        if matches!(collection, Given::Unknown) || !self.budget.spend(collection.size()) {
            return Given::Unknown;
        }
        // What is not a list has no elements.
        let mut elements = collection.elements().unwrap_or_default();
        let mut unknown = false;
        elements.retain(|element| {
            let inner = Scope { name: &subquery.variable, element, outer: scope };
            let truth = if unknown { Truth::Unknown } else { self.node(&subquery.condition, Some(&inner)) };
            unknown |= truth == Truth::Unknown;
            truth == Truth::True
        });
        if unknown { Given::Unknown } else { Given::List(elements.into()) }
    }
}

/// Whether it holds for all, by Kleene: one false decides.
pub(super) fn every<'i, T: 'i>(
    items: impl IntoIterator<Item = &'i T>,
    mut holds: impl FnMut(&'i T) -> Truth,
) -> Truth {
    let mut all = Truth::True;
    for item in items {
        all = all.and(holds(item));
        if all == Truth::False {
            break;
        }
    }
    all
}

fn variable<'r>(name: &str, mut scope: Option<&Scope<'_, 'r>>) -> Given<'r> {
    while let Some(inner) = scope {
        if inner.name == name {
            return inner.element.clone();
        }
        scope = inner.outer;
    }
    Given::Unknown
}

/// A key of one element. Lists in lists are not entered, so there is nothing to descend.
fn member<'r>(element: &Given<'r>, key: &str) -> Given<'r> {
    match element {
        Given::Unknown => Given::Unknown,
        Given::Json(Value::Object(object)) => Given::Json(object.get(key).unwrap_or(NULL)),
        _ => Given::Json(NULL),
    }
}

fn count<'r>(value: &Given<'r>) -> Given<'r> {
    match value {
        Given::Unknown => Given::Unknown,
        Given::Json(Value::Array(_)) | Given::List(_) => Given::Count(value.size()),
        Given::Json(Value::Object(object)) => Given::Count(object.len()),
        Given::Json(Value::Null) => Given::Count(0),
        _ => Given::Json(NULL),
    }
}
