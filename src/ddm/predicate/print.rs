//! Tree to text, in one form: what the canonical text of a predicate is.
//!
//! Single quotes, `==`, words for AND, OR and NOT, and parentheses only where they change the meaning.
//!
//! **Invariant:** [`super::parse()`] makes the same tree of it, which is no deeper than that of any other
//! text with this meaning.

use std::fmt::{Display, Formatter, Result, Write as _};

use serde_json::Value;

use super::lex::is_bare;
use super::tree::{Base, Comparison, Expr, Fact, Node, Operator, Options, Path, Quantifier, Source, Step};

impl Display for Node {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Constant(true) => f.write_str("TRUEPREDICATE"),
            Self::Constant(false) => f.write_str("FALSEPREDICATE"),
            Self::Not(node) => {
                f.write_str("NOT ")?;
                grouped(node, matches!(**node, Self::And(_) | Self::Or(_)), f)
            }
            Self::And(nodes) => {
                list(nodes, " AND ", f, |node, f| grouped(node, matches!(node, Self::Or(_)), f))
            }
            Self::Or(nodes) => list(nodes, " OR ", f, Display::fmt),
            Self::Compare(comparison) => comparison.fmt(f),
        }
    }
}

fn grouped(node: &Node, group: bool, f: &mut Formatter<'_>) -> Result {
    if group { write!(f, "({node})") } else { node.fmt(f) }
}

fn list<T>(
    items: &[T],
    between: &str,
    f: &mut Formatter<'_>,
    write: impl Fn(&T, &mut Formatter<'_>) -> Result,
) -> Result {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(between)?;
        }
        write(item, f)?;
    }
    Ok(())
}

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self.quantifier {
            None => "",
            Some(Quantifier::Any) => "ANY ",
            Some(Quantifier::All) => "ALL ",
            Some(Quantifier::None) => "NONE ",
        })?;
        write!(f, "{} {}{} {}", self.left, self.operator.text(), self.options, self.right)
    }
}

impl Operator {
    pub(super) const ALL: [Self; 13] = [
        Self::Equal,
        Self::NotEqual,
        Self::Less,
        Self::LessOrEqual,
        Self::Greater,
        Self::GreaterOrEqual,
        Self::BeginsWith,
        Self::EndsWith,
        Self::Contains,
        Self::Like,
        Self::Matches,
        Self::In,
        Self::Between,
    ];

    /// Whether it is one of the six that compare single values.
    pub(super) fn is_order(self) -> bool {
        Self::ALL.iter().take(6).any(|operator| *operator == self)
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::BeginsWith => "BEGINSWITH",
            Self::EndsWith => "ENDSWITH",
            Self::Contains => "CONTAINS",
            Self::Like => "LIKE",
            Self::Matches => "MATCHES",
            Self::In => "IN",
            Self::Between => "BETWEEN",
        }
    }
}

impl Display for Options {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let letters = [(self.case, 'c'), (self.diacritics, 'd'), (self.normalized, 'n'), (self.locale, 'l')];
        let letters: String = letters.into_iter().filter_map(|(set, letter)| set.then_some(letter)).collect();
        if letters.is_empty() { Ok(()) } else { write!(f, "[{letters}]") }
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Literal(Value::String(text)) => quoted(text, f),
            Self::Literal(Value::Bool(true)) => f.write_str("TRUE"),
            Self::Literal(Value::Bool(false)) => f.write_str("FALSE"),
            Self::Literal(Value::Number(number)) => number.fmt(f),
            // The reader makes no other literal.
            Self::Literal(_) => f.write_str("NULL"),
            Self::Date(seconds) => write!(f, "CAST({seconds}, \"NSDate\")"),
            Self::List(elements) => {
                f.write_char('{')?;
                list(elements, ", ", f, Display::fmt)?;
                f.write_char('}')
            }
            Self::Path(path) => path.fmt(f),
        }
    }
}

impl Display for Path {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match &self.base {
            Base::Fact(fact) => fact.fmt(f)?,
            Base::Variable(name) => write!(f, "${name}")?,
            Base::Subquery(subquery) => {
                let (collection, condition) = (&subquery.collection, &subquery.condition);
                write!(f, "SUBQUERY({collection}, ${}, {condition})", subquery.variable)?;
            }
        }
        list(&self.steps, "", f, |step, f| match step {
            Step::Count => f.write_str(".@count"),
            Step::Key(key) => write!(f, ".@key({key})"),
        })
    }
}

impl Display for Fact {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.source {
            Source::Status => write!(f, "@status({})", self.name),
            Source::Property => write!(f, "@property({})", self.name),
            Source::Key if is_bare(&self.name) => f.write_str(&self.name),
            Source::Key => write!(f, "@key({})", self.name),
        }
    }
}

fn quoted(text: &str, f: &mut Formatter<'_>) -> Result {
    f.write_char('\'')?;
    for c in text.chars() {
        match c {
            '\'' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            '\r' => f.write_str("\\r")?,
            c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('\'')
}
