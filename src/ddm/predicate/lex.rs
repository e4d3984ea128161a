//! Text to words, names and symbols; [`super::literal`] reads numbers and strings.
//!
//! Called by [`super::parse()`], one token at a time, so that the first slip in the text is the one that
//! is told of. Knows what people type instead: curly quotes, `===`, a single `&`, unquoted versions.
//!
//! **Invariant:** every token consumes at least a byte, and each range lies on character boundaries.

use serde_json::Number;

use super::keyword::keyword;
use super::slip::{Slip, shown};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    /// A reserved word or a bare key, with the dots and dashes in it.
    Word(&'a str),
    /// What follows `$`.
    Variable(&'a str),
    /// What follows `@`.
    At(&'a str),
    Number(Number),
    Text(String),
    /// Punctuation or an operator, in its canonical spelling.
    Symbol(&'static str),
    End,
}

#[derive(Clone, Debug)]
pub(super) struct Lexeme<'a> {
    pub(super) token: Token<'a>,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// As it is typed, as it is canonically, and whether it is a slip. The longest come first.
const SYMBOLS: [(&str, &str, bool); 31] = [
    ("===", "==", true),
    ("!==", "!=", true),
    ("==", "==", false),
    ("!=", "!=", false),
    ("<>", "!=", false),
    ("<=", "<=", false),
    ("=<", "<=", false),
    (">=", ">=", false),
    ("=>", ">=", false),
    ("&&", "&&", false),
    ("||", "||", false),
    ("=", "==", false),
    ("<", "<", false),
    (">", ">", false),
    ("!", "!", false),
    ("&", "&&", true),
    ("|", "||", true),
    ("≠", "!=", true),
    ("≤", "<=", true),
    ("≥", ">=", true),
    ("(", "(", false),
    (")", ")", false),
    ("{", "{", false),
    ("}", "}", false),
    ("[", "[", false),
    ("]", "]", false),
    (",", ",", false),
    (".", ".", false),
    ("+", "+", false),
    ("*", "*", false),
    ("/", "/", false),
];

pub(super) struct Lexer<'a> {
    text: &'a str,
    pub(super) at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// The text that is not read yet.
    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(super) fn next(&mut self) -> Result<Lexeme<'a>, Slip> {
        self.skip_space()?;
        let (start, rest) = (self.at, self.rest());
        let token = match rest.chars().next() {
            None => Token::End,
            Some('\'' | '"') => Token::Text(self.string()?),
            Some('$') => Token::Variable(self.sigil('$', "a variable such as $app")?),
            Some('@') => Token::At(self.sigil('@', "status(…), property(…), key(…) or count")?),
            Some('0'..='9') => Token::Number(self.number()?),
            Some('-') if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => Token::Number(self.number()?),
            Some('-') => {
                self.at += 1;
                Token::Symbol("-")
            }
            Some(c) if c.is_alphabetic() || c == '_' => {
                self.at += word_length(rest);
                Token::Word(&rest[..self.at - start])
            }
            Some(c) => Token::Symbol(self.symbol(c)?),
        };
        Ok(Lexeme { token, start, end: self.at })
    }

    /// The name in parentheses after `@status` and the like: not a token, since it may have dots, dashes
    /// and digits anywhere.
    pub(super) fn argument(&mut self, function: &str) -> Result<&'a str, Slip> {
        self.skip_space()?;
        if !self.rest().starts_with('(') {
            let words =
                format!("@{function} needs a name in parentheses, as in @{function}({}).", example(function));
            return Err(Slip::new(self.at, words));
        }
        self.at += 1;
        self.skip_space()?;
        let start = self.at;
        let name = self.rest();
        if name.starts_with(['\'', '"']) {
            let text = self.string()?;
            let words = format!("the name in @{function}(…) is written without quotes.");
            return Err(Slip::new(start, words).fixed_by(start..self.at, text));
        }
        let name = &name[..name.find(|c| !in_name(c)).unwrap_or(name.len())];
        let empty_part = function == "status" && name.split('.').any(str::is_empty);
        if name.is_empty() || empty_part {
            let words = format!("@{function}(…) needs a name, such as {}.", example(function));
            return Err(Slip::new(start, words));
        }
        self.at += name.len();
        self.skip_space()?;
        if !self.rest().starts_with(')') {
            let found = if self.rest().is_empty() { "the end".to_owned() } else { shown(self.rest()) };
            let words = format!("a \")\" was expected after the name in @{function}(…), not {found}.");
            return Err(Slip::new(self.at, words));
        }
        self.at += 1;
        Ok(name)
    }

    fn skip_space(&mut self) -> Result<(), Slip> {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']).len();
        match self.rest().chars().next() {
            Some(c) if c.is_whitespace() || matches!(c, '\u{200b}' | '\u{feff}') => {
                let words =
                    format!("there is a U+{:04X} that only looks like a space; type a space.", u32::from(c));
                Err(Slip::new(self.at, words).fixed_by(self.at..self.at + c.len_utf8(), " "))
            }
            _ => Ok(()),
        }
    }

    /// `$` or `@` and the letters after it.
    fn sigil(&mut self, sigil: char, expected: &str) -> Result<&'a str, Slip> {
        let name = &self.rest()[1..];
        let name = &name[..name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len())];
        if name.is_empty() {
            return Err(Slip::new(self.at, format!("\"{sigil}\" stands alone; it begins {expected}.")));
        }
        self.at += 1 + name.len();
        Ok(name)
    }

    fn symbol(&mut self, c: char) -> Result<&'static str, Slip> {
        let (start, rest) = (self.at, self.rest());
        if let Some((typed, symbol, slip)) = SYMBOLS.iter().find(|(typed, _, _)| rest.starts_with(typed)) {
            self.at += typed.len();
            if *slip {
                let words = format!("\"{typed}\" is no operator of this language; write {symbol}.");
                return Err(Slip::new(start, words).fixed_by(start..self.at, *symbol));
            }
            return Ok(symbol);
        }
        if matches!(c, '‘' | '’' | '‚' | '“' | '”' | '„' | '«' | '»' | '`' | '´') {
            let words = format!(
                "{c} is not a quote of this language; strings stand in straight quotes, 'like this'."
            );
            return Err(straightened(rest, start, words));
        }
        let words = match c {
            '%' => "format arguments such as %@ have no meaning here; write the value itself.".to_owned(),
            '?' => "\"?\" has a meaning only inside the string after LIKE.".to_owned(),
            _ => format!("{} means nothing here.", shown(c.encode_utf8(&mut [0; 4]))),
        };
        Err(Slip::new(start, words))
    }
}

/// Whether a key can be written bare.
pub(super) fn is_bare(name: &str) -> bool {
    name.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && word_length(name) == name.len()
        && keyword(name).is_none()
}

/// The length of the word at the beginning: a dash or a dot belongs to it if the word goes on after it.
fn word_length(text: &str) -> usize {
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, next)| *next);
        let goes_on = match c {
            '-' => next.is_some_and(|next| next.is_alphanumeric() || next == '_'),
            '.' => next.is_some_and(|next| next.is_alphabetic() || next == '_'),
            c => c.is_alphanumeric() || c == '_',
        };
        if !goes_on {
            return at;
        }
    }
    text.len()
}

fn in_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/')
}

fn example(function: &str) -> &'static str {
    match function {
        "status" => "device.model.family",
        "property" => "shard",
        _ => "identifier",
    }
}

/// The string in quotes of another kind, up to the next quote that may end it, in straight ones.
fn straightened(rest: &str, start: usize, words: String) -> Slip {
    let slip = Slip::new(start, words);
    let mut quotes = rest.match_indices(['‘', '’', '“', '”', '«', '»', '`', '´']);
    let opening = rest.chars().next().map_or(0, char::len_utf8);
    match quotes.find(|(at, _)| *at >= opening) {
        Some((at, closing)) => {
            let inside = rest[opening..at].replace('\'', "\\'");
            slip.fixed_by(start..start + at + closing.len(), format!("'{inside}'"))
        }
        None => slip,
    }
}
