//! Text to numbers and strings.
//!
//! Continues [`super::lex`]. A run of letters that begins with a digit and is no number is taken for a
//! string without quotes, as a version is; an escape that stands for nothing, for a backslash.
//!
//! **Invariant:** a number is finite, and a string has no NUL.

use serde_json::Number;

use super::lex::Lexer;
use super::slip::{Slip, shown};

impl Lexer<'_> {
    pub(super) fn string(&mut self) -> Result<String, Slip> {
        let (start, rest) = (self.at, self.rest());
        let mut chars = rest.char_indices();
        let quote = chars.next().map_or('\'', |(_, quote)| quote);
        let mut string = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                _ if c == quote => {
                    self.at += at + 1;
                    return Ok(string);
                }
                '\\' => {
                    let escape = escape(&rest[at + 1..]).ok_or_else(|| bad_escape(rest, start, at))?;
                    string.push(escape.0);
                    // The characters of the escape; all are one byte long.
                    for _ in 0..escape.1 {
                        chars.next();
                    }
                }
                c => string.push(c),
            }
        }
        let curly =
            if rest.contains(['‘', '’', '“', '”']) { " A curly quote does not end it." } else { "" };
        Err(Slip::new(
            start,
            format!("the string that begins here with {quote} has no {quote} at its end.{curly}"),
        ))
    }

    pub(super) fn number(&mut self) -> Result<Number, Slip> {
        let (start, rest) = (self.at, self.rest());
        let run = rest.char_indices().find(|(at, c)| {
            let sign = matches!(c, '+' | '-') && (*at == 0 || rest[..*at].ends_with(['e', 'E']));
            !(sign || c.is_alphanumeric() || matches!(c, '.' | '_'))
        });
        let run = &rest[..run.map_or(rest.len(), |(at, _)| at)];
        self.at += run.len();
        if let Some(number) = number(run) {
            return Ok(number);
        }
        if run.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'-' | b'+'))
            && run.parse::<f64>().is_ok_and(f64::is_infinite)
        {
            return Err(Slip::new(start, "the number is too large."));
        }
        let words = format!("{} is not a number; a version or another string needs quotes.", shown(run));
        Err(Slip::new(start, words).fixed_by(start..self.at, format!("'{run}'")))
    }
}

/// A whole number in base 10, 16, 8 or 2, or a decimal one; nothing if it is neither or too large.
fn number(run: &str) -> Option<Number> {
    let digits = run.strip_prefix('-').unwrap_or(run);
    if let Some((base, digits)) = [(16, "0x"), (16, "0X"), (8, "0o"), (2, "0b")]
        .into_iter()
        .find_map(|(base, prefix)| digits.strip_prefix(prefix).map(|digits| (base, digits)))
    {
        let plain = !run.starts_with('-') && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        return plain.then(|| u64::from_str_radix(digits, base).ok())?.map(Number::from);
    }
    let decimal = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.ends_with(|c: char| c.is_ascii_digit())
        && !digits.contains('_');
    if !decimal {
        return None;
    }
    if let Ok(whole) = run.parse::<i64>() {
        return Some(whole.into());
    }
    if let Ok(whole) = run.parse::<u64>() {
        return Some(whole.into());
    }
    Number::from_f64(run.parse().ok()?)
}

/// The character that stands after a backslash, and in how many bytes.
fn escape(text: &str) -> Option<(char, usize)> {
    let hex = |digits: usize| -> Option<(char, usize)> {
        let text = text.get(1..=digits).filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        // NUL is refused, escaped as well: no string of a device has one.
        let c = char::from_u32(u32::from_str_radix(text, 16).ok()?).filter(|c| *c != '\0')?;
        Some((c, digits + 1))
    };
    match text.chars().next()? {
        c @ ('\\' | '\'' | '"') => Some((c, 1)),
        'n' => Some(('\n', 1)),
        't' => Some(('\t', 1)),
        'r' => Some(('\r', 1)),
        'x' => hex(2),
        'u' => hex(4),
        'U' => hex(8),
        _ => None,
    }
}

fn bad_escape(rest: &str, start: usize, at: usize) -> Slip {
    let place = start + at;
    let escape =
        shown(rest[at..].get(..1 + rest[at + 1..].chars().next().map_or(0, char::len_utf8)).unwrap_or("\\"));
    let escape = escape.replace("\\\\", "\\");
    let words = format!("{escape} in a string stands for nothing; a backslash is written twice, \\\\.");
    Slip::new(place, words).fixed_by(place..place + 1, "\\\\")
}
