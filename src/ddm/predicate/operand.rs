//! Text to tree: values, and what to write where a device could not read one.
//!
//! Continues [`super::parse()`]. A bare key path means nothing on a device, though it is how Apple's
//! language is written elsewhere; what was probably meant is told by its place.
//!
//! **Invariant:** in a device's predicate every value is a literal or is reached from `@status`,
//! `@property` or a variable.

use serde_json::Value;

use super::Dialect;
use super::comparison::arithmetic;
use super::keyword::{Keyword, keyword};
use super::lex::{Lexeme, Token};
use super::parse::{Parser, Role, Thing};
use super::slip::{Slip, shown};
use super::tree::{Base, Expr, Fact, Node, Path, Source, Step, Subquery};

impl<'a> Parser<'a> {
    pub(super) fn operand(&mut self, role: Role) -> Result<Thing, Slip> {
        let Lexeme { token, start, end } = self.peek()?.clone();
        let literal = match token {
            Token::Number(number) => Some(Value::Number(number)),
            Token::Text(text) => Some(Value::String(text)),
            Token::Word(word) => match keyword(word) {
                Some(Keyword::Boolean(boolean)) => Some(Value::Bool(boolean)),
                Some(Keyword::Null) => Some(Value::Null),
                other => return self.word(word, other, role),
            },
            Token::Symbol("(") => return self.parenthesis(),
            Token::Symbol("{") => return self.braces(),
            Token::Symbol("-" | "+") => return Err(arithmetic(start)),
            Token::Variable(name) => return self.variable(name),
            Token::At(name) => return self.at(name),
            Token::Symbol(_) | Token::End => None,
        };
        let Some(literal) = literal else { return Err(self.unexpected("a value")) };
        self.next()?;
        self.counted(start)?;
        Ok(Thing::Value(Expr::Literal(literal), start..end))
    }

    fn value(&mut self, role: Role) -> Result<Expr, Slip> {
        let at = self.peek()?.start;
        match self.operand(role)? {
            Thing::Value(value, _) => Ok(value),
            Thing::Condition(_) => Err(Slip::new(at, "a value was expected, not a condition.")),
        }
    }

    fn parenthesis(&mut self) -> Result<Thing, Slip> {
        let start = self.next()?.start;
        let inside = self.deeper(start, Self::disjunction)?;
        let end = self.expect(")", start)?;
        Ok(match inside {
            Thing::Value(Expr::Path(path), _) => self.steps(path, start)?,
            Thing::Value(value, _) => Thing::Value(value, start..end),
            condition @ Thing::Condition(_) => condition,
        })
    }

    fn braces(&mut self) -> Result<Thing, Slip> {
        let start = self.next()?.start;
        self.counted(start)?;
        let mut elements = Vec::new();
        if self.takes("}")? {
            return Ok(Thing::Value(Expr::List(elements), start..start + 1));
        }
        loop {
            elements.push(self.deeper(start, |parser| parser.value(Role::Object))?);
            if !self.takes(",")? {
                let end = self.expect("}", start)?;
                return Ok(Thing::Value(Expr::List(elements), start..end));
            }
        }
    }

    fn variable(&mut self, name: &str) -> Result<Thing, Slip> {
        let start = self.next()?.start;
        if !self.variables.contains(&name) {
            let words = format!("no SUBQUERY around this names the variable ${name}.");
            return Err(Slip::new(start, words));
        }
        self.path(Base::Variable(name.to_owned()), start)
    }

    fn at(&mut self, name: &str) -> Result<Thing, Slip> {
        let Lexeme { start, end, .. } = self.next()?;
        let source = match name {
            "status" => Source::Status,
            "property" => Source::Property,
            "key" => Source::Key,
            _ => return Err(self.unknown_at(name, start, end)),
        };
        let argument = self.lexer.argument(name)?;
        if source == Source::Key && self.dialect == Dialect::Device {
            let words = "@key reads from an element in a SUBQUERY; write the variable before it, as in $app.@key(state).";
            let slip = Slip::new(start, words);
            return Err(match self.variables.last() {
                Some(variable) => slip.fixed_by(start..start, format!("${variable}.")),
                None => slip,
            });
        }
        self.path(Base::Fact(Fact { source, name: argument.to_owned() }), start)
    }

    fn unknown_at(&self, name: &str, start: usize, end: usize) -> Slip {
        let words = format!(
            "@{name} means nothing here; there are @status(…), @property(…) and, after a dot, @key(…) and @count."
        );
        let slip = Slip::new(start, words);
        let lower = name.to_ascii_lowercase();
        match lower.as_str() {
            "status" | "property" | "key" | "count" if lower != name => slip.fixed_by(start + 1..end, lower),
            "properties" => slip.fixed_by(start + 1..end, "property"),
            _ => slip,
        }
    }

    fn path(&mut self, base: Base, start: usize) -> Result<Thing, Slip> {
        self.counted(start)?;
        self.steps(Path { base, steps: Vec::new() }, start)
    }

    /// What follows a value after dots.
    fn steps(&mut self, mut path: Path, start: usize) -> Result<Thing, Slip> {
        let mut end = self.peek()?.start;
        while self.takes(".")? {
            let Lexeme { token, start: at, end: after } = self.next()?;
            self.counted(at)?;
            if path.steps.last() == Some(&Step::Count) {
                return Err(Slip::new(at, "nothing can be read of the number that @count is."));
            }
            match token {
                Token::At("count") => path.steps.push(Step::Count),
                Token::At("key") => path.steps.push(Step::Key(self.lexer.argument("key")?.to_owned())),
                Token::At(name @ ("sum" | "avg" | "min" | "max")) => {
                    return Err(Slip::new(
                        at,
                        format!("@{name} is not supported; of the collection operators, @count is."),
                    ));
                }
                Token::At(name) => return Err(self.unknown_at(name, at, after)),
                Token::Word(word) if self.dialect == Dialect::Rule => {
                    for key in word.split('.') {
                        self.counted(at)?;
                        path.steps.push(Step::Key(key.to_owned()));
                    }
                }
                Token::Word(word) => {
                    let keys: Vec<String> = word.split('.').map(|key| format!("@key({key})")).collect();
                    let words = format!(
                        "a device reads what is in a value only with @key(…), not by the bare name {}.",
                        shown(word)
                    );
                    return Err(Slip::new(at, words).fixed_by(at..after, keys.join(".")));
                }
                _ => return Err(Slip::new(at, "@key(…) or @count was expected after the dot.")),
            }
            end = self.lexer.text().len() - self.lexer.rest().len();
        }
        // Without a dot the place ends before the space in front of the next token.
        let place = self.lexer.text().get(start..end).unwrap_or_default().trim_end().len();
        Ok(Thing::Value(Expr::Path(path), start..start + place))
    }

    fn word(&mut self, word: &'a str, keyword: Option<Keyword>, role: Role) -> Result<Thing, Slip> {
        match keyword {
            Some(Keyword::Predicate(constant)) => {
                self.next()?;
                Ok(Thing::Condition(Node::Constant(constant)))
            }
            Some(Keyword::Subquery) => self.subquery(),
            Some(Keyword::Cast) => self.cast(),
            Some(Keyword::Itself) => {
                let at = self.next()?.start;
                Err(Slip::new(at, "SELF is not supported; name the value that is meant."))
            }
            Some(_) => Err(self.unexpected("a value")),
            None => self.bare(word, role),
        }
    }

    fn bare(&mut self, word: &'a str, role: Role) -> Result<Thing, Slip> {
        let Lexeme { start, end, .. } = self.next()?;
        if matches!(self.peek()?.token, Token::Symbol("(")) {
            let words = format!("{} is not a function of this language; SUBQUERY and CAST are.", shown(word));
            let slip = Slip::new(start, words);
            return Err(match word.to_ascii_lowercase().as_str() {
                "status" | "property" => slip.fixed_by(start..end, format!("@{}", word.to_ascii_lowercase())),
                _ => slip,
            });
        }
        if self.dialect == Dialect::Rule {
            return self.path(Base::Fact(Fact { source: Source::Key, name: word.to_owned() }), start);
        }
        let found = shown(word);
        if matches!(role, Role::Object) {
            let end = self.rest_of_words(end)?;
            let string = self.lexer.text().get(start..end).unwrap_or(word);
            let words =
                format!("{found} is no value that a device knows; a string needs quotes, as in '{word}'.");
            return Err(Slip::new(start, words).fixed_by(start..end, format!("'{string}'")));
        }
        // Every status item has a dot in its name, and hardly a property or the key of an element.
        let meant = match self.variables.last() {
            _ if word.contains('.') => format!("@status({word})"),
            Some(variable) => format!("${variable}.@key({word})"),
            None => format!("@property({word})"),
        };
        let words = format!("{found} is a bare key path, which a device does not evaluate; write {meant}.");
        Err(Slip::new(start, words).fixed_by(start..end, meant))
    }

    /// Where a string of several words that lost its quotes ends.
    fn rest_of_words(&mut self, mut end: usize) -> Result<usize, Slip> {
        loop {
            match self.peek()?.token {
                Token::Word(word) if keyword(word).is_none() => end = self.next()?.end,
                _ => return Ok(end),
            }
        }
    }

    fn subquery(&mut self) -> Result<Thing, Slip> {
        let start = self.next()?.start;
        if !self.takes("(")? {
            return Err(self.unexpected("\"(\" after SUBQUERY"));
        }
        let subquery = self.deeper(start, |parser| {
            let collection = parser.value(Role::Collection)?;
            parser.expect(",", start)?;
            let Token::Variable(variable) = parser.peek()?.token else {
                return Err(parser
                    .unexpected("a variable such as $app, the second of the three parts of a SUBQUERY,"));
            };
            parser.next()?;
            parser.expect(",", start)?;
            parser.variables.push(variable);
            let condition = parser.disjunction();
            let condition = condition.and_then(|condition| parser.condition(condition));
            parser.variables.pop();
            Ok(Subquery { collection, variable: variable.to_owned(), condition: condition? })
        })?;
        self.expect(")", start)?;
        self.path(Base::Subquery(Box::new(subquery)), start)
    }

    fn cast(&mut self) -> Result<Thing, Slip> {
        let start = self.next()?.start;
        self.counted(start)?;
        let wrong = Slip::new(
            start,
            "of CAST only dates are supported, as in CAST(817036200, \"NSDate\"): the seconds since 2001.",
        );
        if !self.takes("(")? {
            return Err(wrong);
        }
        let Token::Number(seconds) = self.next()?.token else { return Err(wrong) };
        if !self.takes(",")? || self.next()?.token != Token::Text("NSDate".to_owned()) {
            return Err(wrong);
        }
        let end = self.expect(")", start)?;
        Ok(Thing::Value(Expr::Date(seconds), start..end))
    }
}
