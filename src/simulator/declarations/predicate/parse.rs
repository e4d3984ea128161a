//! The tree of a predicate.
//!
//! NOT binds closest, then AND, then OR; brackets may surround predicates and expressions.
//!
//! **Invariant:** no more than [`DEEPEST`] brackets, NOTs and subqueries stand inside each other.

use serde_json::Value as Json;

use super::lex::{Word, words};

const DEEPEST: usize = 64;
/// A bracket is read as a predicate first and as an expression if it was none; that has to end.
const PATIENCE: usize = 10_000;
const TOO_DEEP: &str = "the predicate is nested too deeply";

/// A predicate that was read.
#[derive(Debug)]
pub(in super::super) enum Predicate {
    Constant(bool),
    Not(Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
    Compare(Box<Comparison>),
}

/// Left, operator, right.
#[derive(Debug)]
pub(in super::super) struct Comparison {
    pub(super) many: Many,
    pub(super) left: Expression,
    pub(super) operator: Operator,
    pub(super) right: Expression,
    /// `[c]`: letters in capitals or not are the same.
    pub(super) ignores_case: bool,
}

/// Which elements of the left side must fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Many {
    TheWhole,
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
    In,
    Between,
}

#[derive(Debug)]
pub(super) enum Expression {
    Constant(Json),
    List(Vec<Expression>),
    Status(String),
    Property(String),
    Variable(String),
    /// `expression.name` and `expression.@key(name)`.
    Key(Box<Expression>, String),
    /// `expression.@count`.
    Count(Box<Expression>),
    Subquery {
        of: Box<Expression>,
        variable: String,
        predicate: Box<Predicate>,
    },
}

impl Predicate {
    /// Reads the text of a Predicate key.
    pub(in super::super) fn read(text: &str) -> Result<Self, String> {
        let mut reader = Reader { words: words(text)?, at: 0, depth: 0, steps: 0 };
        let predicate = reader.any_of()?;
        match reader.peek() {
            None => Ok(predicate),
            Some(word) => Err(format!("{word:?} stands after the end of the predicate")),
        }
    }
}

struct Reader {
    words: Vec<Word>,
    at: usize,
    depth: usize,
    steps: usize,
}

impl Reader {
    fn peek(&self) -> Option<&Word> {
        self.words.get(self.at)
    }

    fn next(&mut self) -> Result<Word, String> {
        let word = self.peek().cloned().ok_or("the predicate ends too soon")?;
        self.at += 1;
        Ok(word)
    }

    fn takes(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Word::Sign(found)) if *found == sign);
        self.at += usize::from(found);
        found
    }

    fn takes_name(&mut self, names: &[&str]) -> bool {
        let found = matches!(self.peek(), Some(Word::Name { upper, .. }) if names.contains(&upper.as_str()));
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        if self.takes(sign) { Ok(()) } else { Err(format!("`{sign}` is missing before {:?}", self.peek())) }
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        if self.depth == DEEPEST {
            return Err(TOO_DEEP.to_owned());
        }
        self.depth += 1;
        let found = read(self);
        self.depth -= 1;
        found
    }

    fn any_of(&mut self) -> Result<Predicate, String> {
        let mut found = vec![self.all_of()?];
        while self.takes_name(&["OR"]) || self.takes("||") {
            found.push(self.all_of()?);
        }
        Ok(if found.len() == 1 { found.remove(0) } else { Predicate::Or(found) })
    }

    fn all_of(&mut self) -> Result<Predicate, String> {
        let mut found = vec![self.single()?];
        while self.takes_name(&["AND"]) || self.takes("&&") {
            found.push(self.single()?);
        }
        Ok(if found.len() == 1 { found.remove(0) } else { Predicate::And(found) })
    }

    fn single(&mut self) -> Result<Predicate, String> {
        self.steps += 1;
        if self.steps >= PATIENCE {
            return Err("the predicate is too long".to_owned());
        }
        if self.takes_name(&["NOT"]) || self.takes("!") {
            return self.deeper(|reader| Ok(Predicate::Not(Box::new(reader.single()?))));
        }
        if self.takes_name(&["TRUEPREDICATE"]) {
            return Ok(Predicate::Constant(true));
        }
        if self.takes_name(&["FALSEPREDICATE"]) {
            return Ok(Predicate::Constant(false));
        }
        let start = self.at;
        if self.takes("(") {
            let inner = self.deeper(|reader| {
                let inner = reader.any_of()?;
                reader.expect(")")?;
                Ok(inner)
            });
            match inner {
                Ok(predicate) => return Ok(predicate),
                Err(words) if self.steps >= PATIENCE || words == TOO_DEEP => return Err(words),
                Err(_) => self.at = start,
            }
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Predicate, String> {
        let many = if self.takes_name(&["ANY", "SOME"]) {
            Many::Any
        } else if self.takes_name(&["ALL"]) {
            Many::All
        } else if self.takes_name(&["NONE"]) {
            Many::None
        } else {
            Many::TheWhole
        };
        let left = self.expression()?;
        let operator = self.operator()?;
        let mut ignores_case = false;
        if self.takes("[") {
            let Word::Name { text, .. } = self.next()? else {
                return Err("`[` is followed by no options".into());
            };
            if !text.chars().all(|option| matches!(option, 'c' | 'd' | 'n' | 'l')) {
                return Err(format!("`[{text}]` is no option"));
            }
            ignores_case = text.contains('c');
            self.expect("]")?;
        }
        let right = self.expression()?;
        if operator == Operator::Between && !matches!(&right, Expression::List(list) if list.len() == 2) {
            return Err("BETWEEN needs a list of two".to_owned());
        }
        Ok(Predicate::Compare(Box::new(Comparison { many, left, operator, right, ignores_case })))
    }

    fn operator(&mut self) -> Result<Operator, String> {
        Ok(match self.next()? {
            Word::Sign("=" | "==") => Operator::Equal,
            Word::Sign("!=" | "<>") => Operator::NotEqual,
            Word::Sign("<") => Operator::Less,
            Word::Sign("<=" | "=<") => Operator::LessOrEqual,
            Word::Sign(">") => Operator::Greater,
            Word::Sign(">=" | "=>") => Operator::GreaterOrEqual,
            Word::Name { upper, text } => match upper.as_str() {
                "BEGINSWITH" => Operator::BeginsWith,
                "ENDSWITH" => Operator::EndsWith,
                "CONTAINS" => Operator::Contains,
                "LIKE" => Operator::Like,
                "IN" => Operator::In,
                "BETWEEN" => Operator::Between,
                _ => return Err(format!("`{text}` is no operator")),
            },
            word => return Err(format!("{word:?} is no operator")),
        })
    }

    fn expression(&mut self) -> Result<Expression, String> {
        let mut found = self.deeper(Self::primary)?;
        while self.takes(".") {
            found = match self.next()? {
                Word::At(name) if name == "count" => Expression::Count(Box::new(found)),
                Word::At(name) if name == "key" => Expression::Key(Box::new(found), self.argument()?),
                Word::Name { text, .. } => Expression::Key(Box::new(found), text),
                word => return Err(format!("{word:?} is no key")),
            };
        }
        Ok(found)
    }

    fn primary(&mut self) -> Result<Expression, String> {
        match self.next()? {
            Word::Text(text) => Ok(Expression::Constant(text.into())),
            Word::Number(number) => Ok(Expression::Constant(number.into())),
            Word::Variable(name) => Ok(Expression::Variable(name)),
            Word::At(name) => match name.as_str() {
                "status" => Ok(Expression::Status(self.argument()?)),
                "property" => Ok(Expression::Property(self.argument()?)),
                _ => Err(format!("`@{name}` is not known")),
            },
            Word::Sign("(") => {
                let inner = self.expression()?;
                self.expect(")")?;
                Ok(inner)
            }
            Word::Sign("{") => {
                let mut list = Vec::new();
                while !self.takes("}") {
                    if !list.is_empty() {
                        self.expect(",")?;
                    }
                    list.push(self.expression()?);
                }
                Ok(Expression::List(list))
            }
            Word::Name { text, upper } => match upper.as_str() {
                "TRUE" | "YES" => Ok(Expression::Constant(true.into())),
                "FALSE" | "NO" => Ok(Expression::Constant(false.into())),
                "NULL" | "NIL" => Ok(Expression::Constant(Json::Null)),
                "SUBQUERY" => self.subquery(),
                _ => Err(format!("`{text}` is no value; a status item is read as @status({text})")),
            },
            word @ Word::Sign(_) => Err(format!("{word:?} is no value")),
        }
    }

    fn subquery(&mut self) -> Result<Expression, String> {
        self.expect("(")?;
        let of = Box::new(self.expression()?);
        self.expect(",")?;
        let Word::Variable(variable) = self.next()? else { return Err("SUBQUERY needs a $variable".into()) };
        self.expect(",")?;
        let predicate = Box::new(self.any_of()?);
        self.expect(")")?;
        Ok(Expression::Subquery { of, variable, predicate })
    }

    /// `(name)`, where the name may have dots and need not be quoted.
    fn argument(&mut self) -> Result<String, String> {
        self.expect("(")?;
        let mut name = String::new();
        while !self.takes(")") {
            match self.next()? {
                Word::Name { text, .. } | Word::Text(text) => name.push_str(&text),
                Word::Sign(".") => name.push('.'),
                Word::Number(number) => name.push_str(&number.to_string()),
                word => return Err(format!("{word:?} is no part of a name")),
            }
        }
        if name.is_empty() { Err("the brackets are empty".to_owned()) } else { Ok(name) }
    }
}
