//! The words of a predicate.
//!
//! **Invariant:** every character of the text is part of a word, is a space, or is refused.

/// A word.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Word {
    /// A keyword or name; `upper` is it in capitals, since keywords are read in any case.
    Name {
        text: String,
        upper: String,
    },
    Text(String),
    Number(f64),
    /// `@name`.
    At(String),
    /// `$name`.
    Variable(String),
    /// An operator or a bracket.
    Sign(&'static str),
}

/// Longest first, since the first that fits is taken.
const SIGNS: [&str; 20] = [
    "==", "!=", "<>", "<=", "=<", ">=", "=>", "&&", "||", "=", "<", ">", "!", "(", ")", "{", "}", "[", "]",
    ",",
];

pub(super) fn words(text: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, length) = if first == '"' || first == '\'' {
            let (text, length) = quoted(rest, first)?;
            (Word::Text(text), length)
        } else if first == '@' || first == '$' {
            let name = name(&rest[1..]);
            if name.is_empty() {
                return Err(format!("`{first}` is followed by no name"));
            }
            let word = if first == '@' { Word::At(name.to_owned()) } else { Word::Variable(name.to_owned()) };
            (word, 1 + name.len())
        } else if first.is_ascii_digit()
            || (first == '-' && rest[1..].starts_with(|c: char| c.is_ascii_digit()))
        {
            let end =
                rest[1..].find(|c: char| !c.is_ascii_digit() && c != '.').map_or(rest.len(), |at| at + 1);
            let number = rest[..end].parse().map_err(|_| format!("`{}` is no number", &rest[..end]))?;
            (Word::Number(number), end)
        } else if first.is_alphabetic() || first == '_' {
            let name = name(rest);
            (Word::Name { text: name.to_owned(), upper: name.to_uppercase() }, name.len())
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            (Word::Sign(sign), sign.len())
        } else if first == '.' {
            (Word::Sign("."), 1)
        } else {
            return Err(format!("`{first}` is not expected"));
        };
        words.push(word);
        rest = rest[length..].trim_start();
    }
    Ok(words)
}

/// Letters, digits, `_` and `-`; a dot is a word of its own.
fn name(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').unwrap_or(text.len());
    &text[..end]
}

fn quoted(rest: &str, quote: char) -> Result<(String, usize), String> {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => match characters.next().ok_or("a string ends in a backslash")?.1 {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                other => text.push(other),
            },
            _ if character == quote => return Ok((text, at + 1)),
            _ => text.push(character),
        }
    }
    Err("a string has no end".to_owned())
}
