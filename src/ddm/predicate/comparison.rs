//! Text to tree: one comparison, with what stands before, between and after its values.
//!
//! Continues [`super::parse()`]. Knows the words that other languages have in place of the operators, and
//! what Apple's language has that is not supported here.
//!
//! **Invariant:** a comparison that is read is one that can be evaluated: BETWEEN has its two bounds,
//! and no SUBQUERY is compared with a number as the list that it is.

use std::ops::Range;

use super::keyword::{Keyword, foreign_operator, keyword};
use super::lex::Token;
use super::parse::{Parser, Role, Thing};
use super::slip::{Slip, shown};
use super::tree::{Base, Comparison, Expr, Node, Operator, Options, Path};

impl Parser<'_> {
    pub(super) fn comparison(&mut self) -> Result<Thing, Slip> {
        let at = self.peek()?.start;
        self.counted(at)?;
        let quantifier = match self.peek()?.token {
            Token::Word(word) => match keyword(word) {
                Some(Keyword::Quantifier(quantifier)) => Some(quantifier),
                _ => None,
            },
            _ => None,
        };
        if quantifier.is_some() {
            self.next()?;
        }
        let (left, place) = match self.operand(Role::Subject)? {
            Thing::Value(left, place) => (left, place),
            Thing::Condition(Node::Compare(mut inner))
                if quantifier.is_some() && inner.quantifier.is_none() =>
            {
                inner.quantifier = quantifier;
                return Ok(Thing::Condition(Node::Compare(inner)));
            }
            Thing::Condition(_) if quantifier.is_some() => {
                return Err(Slip::new(
                    at,
                    "ANY, ALL and NONE stand before a comparison, as in ANY tags == 'x'.",
                ));
            }
            condition @ Thing::Condition(_) => return Ok(condition),
        };
        let Some(operator) = self.operator()? else {
            if quantifier.is_none() && self.ends_value()? {
                return Ok(Thing::Value(left, place));
            }
            return Err(self.no_operator());
        };
        let options = self.options()?;
        let role = match operator {
            Operator::In | Operator::Between => Role::Collection,
            _ if matches!(left, Expr::Path(_)) => Role::Object,
            _ => Role::Subject,
        };
        let (right, right_place) = match self.operand(role)? {
            Thing::Value(right, place) => (right, place),
            Thing::Condition(_) => {
                return Err(Slip::new(at, "a value was expected after the operator, not a condition."));
            }
        };
        if matches!((&right, operator), (Expr::List(list), Operator::Between) if list.len() != 2) {
            return Err(Slip::new(
                right_place.start,
                "BETWEEN needs a list of two values, as in BETWEEN {1, 5}.",
            ));
        }
        if quantifier.is_none() && operator.is_order() {
            for (value, place) in [(&left, &place), (&right, &right_place)] {
                uncounted(value, place)?;
            }
        }
        Ok(Thing::Condition(Node::Compare(Box::new(Comparison {
            quantifier,
            left,
            operator,
            options,
            right,
        }))))
    }

    fn operator(&mut self) -> Result<Option<Operator>, Slip> {
        let operator = match self.peek()?.token {
            Token::Symbol(symbol) => Operator::ALL.into_iter().find(|operator| operator.text() == symbol),
            Token::Word(word) => match keyword(word) {
                Some(Keyword::Operator(operator)) => Some(operator),
                _ => None,
            },
            _ => None,
        };
        if operator.is_some() {
            self.next()?;
        }
        Ok(operator)
    }

    fn options(&mut self) -> Result<Options, Slip> {
        let mut options = Options::default();
        let at = self.peek()?.start;
        if !self.takes("[")? {
            return Ok(options);
        }
        let next = self.next()?;
        let Token::Word(letters) = next.token else { return Err(bad_options(at)) };
        for letter in letters.chars() {
            match letter.to_ascii_lowercase() {
                'c' => options.case = true,
                'd' => options.diacritics = true,
                'n' => options.normalized = true,
                'l' => options.locale = true,
                _ => return Err(bad_options(at)),
            }
        }
        self.expect("]", at)?;
        Ok(options)
    }

    /// Whether a value may stand before the next token without being compared.
    fn ends_value(&mut self) -> Result<bool, Slip> {
        Ok(match self.peek()?.token {
            Token::End | Token::Symbol(")" | "&&" | "||") => true,
            Token::Word(word) => matches!(keyword(word), Some(Keyword::And | Keyword::Or)),
            _ => false,
        })
    }

    fn no_operator(&mut self) -> Slip {
        let next = match self.peek() {
            Ok(next) => next.clone(),
            Err(slip) => return slip,
        };
        match next.token {
            Token::Word(word) => {
                if let Some(operator) = foreign_operator(word) {
                    let words = format!("{} is no operator of this language; write {operator}.", shown(word));
                    return Slip::new(next.start, words).fixed_by(next.start..next.end, operator);
                }
                if keyword(word) == Some(Keyword::Not) {
                    let words = "NOT stands before the whole comparison, as in NOT (x IN {1, 2}).";
                    return Slip::new(next.start, words);
                }
            }
            Token::Symbol("+" | "-" | "*" | "/") => return arithmetic(next.start),
            Token::Number(number) if number.as_f64().is_some_and(f64::is_sign_negative) => {
                return arithmetic(next.start);
            }
            Token::Symbol("[") => {
                return Slip::new(
                    next.start,
                    "elements cannot be read by their index; use SUBQUERY, ANY or .@count.",
                );
            }
            _ => {}
        }
        self.unexpected("an operator such as ==, <= or CONTAINS")
    }
}

pub(super) fn arithmetic(at: usize) -> Slip {
    Slip::new(at, "arithmetic is not supported; compare with the value that it would come to.")
}

fn bad_options(at: usize) -> Slip {
    Slip::new(at, "[c], [d] or [cd] may follow an operator, to ignore case or accents.")
}

/// A SUBQUERY is a list; who compares it means how long it is.
fn uncounted(value: &Expr, place: &Range<usize>) -> Result<(), Slip> {
    match value {
        Expr::Path(Path { base: Base::Subquery(_), steps }) if steps.is_empty() => {
            let words = "a SUBQUERY is a list of elements; compare their number, with .@count after it.";
            Err(Slip::new(place.start, words).fixed_by(place.end..place.end, ".@count"))
        }
        _ => Ok(()),
    }
}
