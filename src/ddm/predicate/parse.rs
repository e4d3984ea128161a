//! Text to tree: conditions. [`super::comparison`] and [`super::operand`] read what they are made of.
//!
//! By recursive descent: OR of AND of NOT of a comparison. Parentheses may hold a condition or a value,
//! which only the token after them tells apart, so both are read by one function and nothing is read
//! twice.
//!
//! **Invariant:** every recursion passes through [`Parser::deeper`], every node through
//! [`Parser::counted`].

use std::ops::Range;

use super::keyword::{Keyword, keyword};
use super::lex::{Lexeme, Lexer, Token};
use super::slip::{Slip, column, shown};
use super::tree::{Expr, Node};
use super::{Dialect, MAX_DEPTH, MAX_LENGTH, MAX_NODES};

/// Reads the whole text.
pub(super) fn read(text: &str, dialect: Dialect) -> Result<Node, Slip> {
    if text.len() > MAX_LENGTH {
        let words = format!("the predicate goes on after {} KiB, the most that is read.", MAX_LENGTH >> 10);
        return Err(Slip::new(text.floor_char_boundary(MAX_LENGTH), words));
    }
    if let Some(at) = text.find('\0') {
        return Err(Slip::new(at, "there is a NUL in the predicate; remove it."));
    }
    let mut parser =
        Parser { lexer: Lexer::new(text), peeked: None, dialect, depth: 0, nodes: 0, variables: Vec::new() };
    let whole = parser.disjunction()?;
    let node = parser.condition(whole)?;
    let next = parser.peek()?;
    match next.token {
        Token::End => {}
        Token::Symbol(")") => return Err(Slip::new(next.start, "this \")\" closes nothing.")),
        _ => return Err(parser.unexpected("AND, OR or the end")),
    }
    // The canonical text has spaces where this one may have none.
    if node.to_string().len() > MAX_LENGTH {
        let words = format!("written out, the predicate is longer than {} KiB.", MAX_LENGTH >> 10);
        return Err(Slip::new(0, words));
    }
    Ok(node)
}

/// What was read, when it can be either.
pub(super) enum Thing {
    Condition(Node),
    /// And where it stands.
    Value(Expr, Range<usize>),
}

pub(super) struct Parser<'a> {
    pub(super) lexer: Lexer<'a>,
    peeked: Option<Lexeme<'a>>,
    pub(super) dialect: Dialect,
    depth: usize,
    nodes: usize,
    /// Of the SUBQUERYs around, the innermost last.
    pub(super) variables: Vec<&'a str>,
}

/// What an operand is there for; only corrections depend on it.
#[derive(Clone, Copy)]
pub(super) enum Role {
    Subject,
    /// Compared with a value that was looked up, so probably a string.
    Object,
    Collection,
}

impl<'a> Parser<'a> {
    pub(super) fn next(&mut self) -> Result<Lexeme<'a>, Slip> {
        self.peeked.take().map_or_else(|| self.lexer.next(), Ok)
    }

    pub(super) fn peek(&mut self) -> Result<&Lexeme<'a>, Slip> {
        let next = self.next()?;
        Ok(self.peeked.insert(next))
    }

    pub(super) fn takes(&mut self, symbol: &str) -> Result<bool, Slip> {
        let there = matches!(self.peek()?.token, Token::Symbol(there) if there == symbol);
        if there {
            self.next()?;
        }
        Ok(there)
    }

    fn takes_word(&mut self, word: Keyword, symbol: &str) -> Result<bool, Slip> {
        let there = matches!(self.peek()?.token, Token::Word(there) if keyword(there) == Some(word));
        if there {
            self.next()?;
        }
        Ok(there || self.takes(symbol)?)
    }

    /// Takes the symbol that closes or continues what began at `opened`.
    pub(super) fn expect(&mut self, symbol: &str, opened: usize) -> Result<usize, Slip> {
        let next = self.peek()?;
        if matches!(next.token, Token::Symbol(there) if there == symbol) {
            return Ok(self.next()?.end);
        }
        let column = column(self.lexer.text(), opened);
        Err(self.unexpected(&format!("{symbol:?} for what begins at column {column}")))
    }

    /// The slip that the next token is none of what may come here.
    pub(super) fn unexpected(&mut self, expected: &str) -> Slip {
        let text = self.lexer.text();
        match self.next() {
            Ok(Lexeme { token: Token::End, start, .. }) => {
                Slip::new(start, format!("the predicate ends where {expected} was expected."))
            }
            Ok(next) => {
                let found = shown(text.get(next.start..next.end).unwrap_or_default());
                Slip::new(next.start, format!("{expected} was expected, not {found}."))
            }
            Err(slip) => slip,
        }
    }

    pub(super) fn deeper<T>(
        &mut self,
        at: usize,
        inside: impl FnOnce(&mut Self) -> Result<T, Slip>,
    ) -> Result<T, Slip> {
        if self.depth == MAX_DEPTH {
            return Err(Slip::new(at, format!("this is nested more than {MAX_DEPTH} levels deep.")));
        }
        self.depth += 1;
        let done = inside(self);
        self.depth -= 1;
        done
    }

    pub(super) fn counted(&mut self, at: usize) -> Result<(), Slip> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Slip::new(at, format!("the predicate has more than {MAX_NODES} parts.")));
        }
        Ok(())
    }

    pub(super) fn disjunction(&mut self) -> Result<Thing, Slip> {
        self.list(Self::conjunction, Keyword::Or, "||", Node::any)
    }

    fn conjunction(&mut self) -> Result<Thing, Slip> {
        self.list(Self::negation, Keyword::And, "&&", Node::all)
    }

    fn list(
        &mut self,
        item: fn(&mut Self) -> Result<Thing, Slip>,
        word: Keyword,
        symbol: &str,
        join: fn(Vec<Node>) -> Node,
    ) -> Result<Thing, Slip> {
        let first = item(self)?;
        if !self.takes_word(word, symbol)? {
            return Ok(first);
        }
        let mut nodes = vec![self.condition(first)?];
        loop {
            let at = self.peek()?.start;
            self.counted(at)?;
            let next = item(self)?;
            nodes.push(self.condition(next)?);
            if !self.takes_word(word, symbol)? {
                return Ok(Thing::Condition(join(nodes)));
            }
        }
    }

    fn negation(&mut self) -> Result<Thing, Slip> {
        let at = self.peek()?.start;
        if !self.takes_word(Keyword::Not, "!")? {
            return self.comparison();
        }
        self.counted(at)?;
        let inner = self.deeper(at, Self::negation)?;
        Ok(Thing::Condition(Node::Not(Box::new(self.condition(inner)?))))
    }

    /// The condition that was read, if it was one.
    pub(super) fn condition(&mut self, thing: Thing) -> Result<Node, Slip> {
        match thing {
            Thing::Condition(node) => Ok(node),
            Thing::Value(value, place) => {
                let found = shown(self.lexer.text().get(place.clone()).unwrap_or_default());
                let words = format!("{found} is a value, not a condition; compare it, as in == TRUE.");
                let slip = Slip::new(place.start, words);
                Err(if matches!(value, Expr::Path(_)) {
                    slip.fixed_by(place.end..place.end, " == TRUE")
                } else {
                    slip
                })
            }
        }
    }
}
