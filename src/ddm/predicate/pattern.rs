//! A regular expression to its pieces, and by [`super::program`] to what [`super::regex`] runs.
//!
//! Literals, `.`, classes, `\d \w \s` and their opposites, groups, `|`, `* + ? {m,n}`, `^` and `$`, and
//! `(?i)` at the beginning. A lazy quantifier matches the same whole texts as a greedy one. Everything
//! else that ICU knows (references, lookaround, `\b`, `\p`, possessive quantifiers, set operations) is
//! not read; neither is what no expression is.
//!
//! **Invariant:** the pieces nest no deeper than [`MAX_DEPTH`] groups.

use std::iter::Peekable;
use std::str::Chars;

use super::fold::fold;
use super::program::{Part, Piece, Program, Set, steps};
use super::tree::Options;

/// The deepest nesting of groups.
const MAX_DEPTH: usize = 30;
/// The most repetitions that are counted.
const MAX_REPEAT: usize = 1000;

/// The program for a pattern; nothing if it has what is not read here.
pub(super) fn compile(pattern: &str, mut options: Options) -> Option<Program> {
    let flagged = pattern.strip_prefix("(?i)");
    options.case |= flagged.is_some();
    let mut reader =
        Reader { chars: flagged.unwrap_or(pattern).chars().peekable(), sets: Vec::new(), options, depth: 0 };
    let whole = reader.either()?;
    // A parenthesis too many is left over.
    if reader.chars.next().is_some() {
        return None;
    }
    Some(Program { steps: steps(&whole)?, sets: reader.sets, options })
}

struct Reader<'a> {
    chars: Peekable<Chars<'a>>,
    sets: Vec<Set>,
    options: Options,
    depth: usize,
}

impl Reader<'_> {
    fn takes(&mut self, c: char) -> bool {
        self.chars.next_if_eq(&c).is_some()
    }

    fn either(&mut self) -> Option<Piece> {
        let mut branches = vec![self.sequence()?];
        while self.takes('|') {
            branches.push(self.sequence()?);
        }
        Some(Piece::Either(branches))
    }

    fn sequence(&mut self) -> Option<Piece> {
        let mut pieces = Vec::new();
        while self.chars.peek().is_some_and(|c| !matches!(c, '|' | ')')) {
            let piece = self.atom()?;
            pieces.push(self.repeated(piece)?);
        }
        Some(Piece::Sequence(pieces))
    }

    fn atom(&mut self) -> Option<Piece> {
        Some(match self.chars.next()? {
            '(' => return self.group(),
            '[' => {
                let set = self.class()?;
                self.set(set)
            }
            '.' => {
                let breaks = ['\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}'];
                let parts = breaks.map(|c| Part::Range(c, c)).into();
                self.set(Set { negated: true, parts })
            }
            '^' => Piece::Start,
            '$' => Piece::End,
            '\\' => match self.escape()? {
                Part::Range(c, _) => self.literal(c),
                kind @ Part::Kind(..) => self.set(Set { negated: false, parts: vec![kind] }),
            },
            '*' | '+' | '?' | '{' | '}' | ']' | ')' => return None,
            c => self.literal(c),
        })
    }

    fn group(&mut self) -> Option<Piece> {
        // Of what begins with a question mark only the group without a number is read.
        if self.takes('?') && !self.takes(':') || self.depth == MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        let inside = self.either()?;
        self.depth -= 1;
        self.takes(')').then_some(inside)
    }

    fn set(&mut self, set: Set) -> Piece {
        self.sets.push(set);
        Piece::Letter(self.sets.len() - 1)
    }

    /// A letter as the text has it after folding, where it may have become two or none.
    fn literal(&mut self, c: char) -> Piece {
        let letters: Vec<char> = fold(c.encode_utf8(&mut [0; 4]), self.options).chars().collect();
        let sets = letters.into_iter().map(|c| Set { negated: false, parts: vec![Part::Range(c, c)] });
        Piece::Sequence(sets.map(|set| self.set(set)).collect())
    }

    fn escape(&mut self) -> Option<Part> {
        let c = self.chars.next()?;
        let literal = |c| Some(Part::Range(c, c));
        match c {
            'd' | 'w' | 's' => Some(Part::Kind(c, true)),
            'D' | 'W' | 'S' => Some(Part::Kind(c.to_ascii_lowercase(), false)),
            'n' => literal('\n'),
            't' => literal('\t'),
            'r' => literal('\r'),
            // Letters and digits after a backslash have meanings of their own.
            c if c.is_alphanumeric() => None,
            c => literal(c),
        }
    }

    fn class(&mut self) -> Option<Set> {
        let mut set = Set { negated: self.takes('^'), parts: Vec::new() };
        loop {
            let part = match self.chars.next()? {
                ']' if set.parts.is_empty() => return None,
                ']' => return Some(set),
                '\\' => self.escape()?,
                // A class in the class, and what may be an operation on sets.
                '[' | '&' => return None,
                c => Part::Range(c, c),
            };
            set.parts.push(match part {
                Part::Range(first, _) if self.takes('-') => match self.chars.next()? {
                    // A dash at the end stands for itself.
                    ']' => {
                        set.parts.extend([self.single(first), Part::Range('-', '-')]);
                        return Some(set);
                    }
                    '[' | '&' | '-' => return None,
                    '\\' => match self.escape()? {
                        Part::Range(last, _) if first <= last => Part::Range(first, last),
                        _ => return None,
                    },
                    last if first <= last => Part::Range(first, last),
                    _ => return None,
                },
                Part::Range(c, _) => self.single(c),
                kind @ Part::Kind(..) => kind,
            });
        }
    }

    /// A letter in a class, folded where that leaves one letter.
    fn single(&self, c: char) -> Part {
        let folded = fold(c.encode_utf8(&mut [0; 4]), self.options).chars().collect::<Vec<char>>();
        let c = if let [only] = folded.as_slice() { *only } else { c };
        Part::Range(c, c)
    }

    fn repeated(&mut self, piece: Piece) -> Option<Piece> {
        let (least, most) = match self.chars.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => return self.counted(piece),
            _ => return Some(piece),
        };
        self.chars.next();
        self.finished(piece, least, most)
    }

    fn counted(&mut self, piece: Piece) -> Option<Piece> {
        self.chars.next();
        let least = self.count()?;
        let most = if !self.takes(',') {
            Some(least)
        } else if self.chars.peek() == Some(&'}') {
            None
        } else {
            Some(self.count()?)
        };
        if most.is_some_and(|most| most < least) {
            return None;
        }
        if !self.takes('}') {
            return None;
        }
        self.finished(piece, least, most)
    }

    fn finished(&mut self, piece: Piece, least: usize, most: Option<usize>) -> Option<Piece> {
        self.takes('?');
        // A second quantifier is possessive or a mistake.
        let again = self.chars.peek().is_some_and(|c| matches!(c, '*' | '+' | '?' | '{'));
        (!again).then(|| Piece::Repeat(Box::new(piece), least, most))
    }

    fn count(&mut self) -> Option<usize> {
        let mut count = None;
        while let Some(digit) = self.chars.peek().and_then(|c| c.to_digit(10)) {
            self.chars.next();
            let next = count.unwrap_or(0) * 10 + usize::try_from(digit).ok()?;
            count = Some(next).filter(|count| *count <= MAX_REPEAT);
            count?;
        }
        count
    }
}
