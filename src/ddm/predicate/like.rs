//! LIKE: `*` for any letters, `?` for one, a backslash before either for itself.
//!
//! Called by [`super::compare`] with both sides folded. After a mismatch only the last `*` takes one
//! letter more: whatever an earlier one could take, the last one can.
//!
//! **Invariant:** the work is at most the product of the lengths, and paid for.

use super::Truth;
use super::budget::Budget;

enum Part {
    Letter(char),
    One,
    Many,
}

/// Whether the whole text is as the pattern says.
pub(super) fn matches(pattern: &str, text: &str, budget: &Budget) -> Truth {
    // Both are copied letter by letter.
    if !budget.spend(pattern.len().saturating_add(text.len())) {
        return Truth::Unknown;
    }
    let (pattern, text) = (parts(pattern), text.chars().collect::<Vec<char>>());
    let (mut at, mut read) = (0, 0);
    // Where the last `*` stands, and how far it has taken the text.
    let mut last: Option<(usize, usize)> = None;
    while read < text.len() {
        if !budget.spend(1) {
            return Truth::Unknown;
        }
        match pattern.get(at) {
            Some(Part::Many) => {
                last = Some((at, read));
                at += 1;
                continue;
            }
            Some(Part::One) => {
                (at, read) = (at + 1, read + 1);
                continue;
            }
            Some(Part::Letter(letter)) if *letter == text[read] => {
                (at, read) = (at + 1, read + 1);
                continue;
            }
            Some(Part::Letter(_)) | None => {}
        }
        let Some((star, taken)) = last else { return Truth::False };
        last = Some((star, taken + 1));
        (at, read) = (star + 1, taken + 1);
    }
    pattern.get(at..).unwrap_or_default().iter().all(|part| matches!(part, Part::Many)).into()
}

fn parts(pattern: &str) -> Vec<Part> {
    let mut chars = pattern.chars().peekable();
    let mut parts = Vec::new();
    while let Some(c) = chars.next() {
        parts.push(match c {
            '*' => Part::Many,
            '?' => Part::One,
            // At the end it stands for itself.
            '\\' => Part::Letter(chars.next().unwrap_or('\\')),
            c => Part::Letter(c),
        });
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text, matched) in [
            ("MacBook*", "MacBook Pro", true),
            ("*Pro", "MacBook Pro", true),
            ("*o*o*", "MacBook Pro", true),
            ("Mac", "MacBook", false),
            ("Mac????", "MacBook", true),
            ("Mac???", "MacBook", false),
            ("", "", true),
            ("*", "", true),
            ("**", "x", true),
            ("?", "", false),
            ("?", "é", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("a\\", "a\\", true),
            ("*ab*abc", "abababc", true),
        ] {
            assert_eq!(matches(pattern, text, &Budget::new()), matched.into(), "{pattern} {text}");
        }
    }

    #[test]
    fn what_takes_too_long_is_unknown() {
        let pattern = format!("*{}b", "a".repeat(4000));
        assert_eq!(matches(&pattern, &"a".repeat(1 << 20), &Budget::new()), Truth::Unknown);
    }
}
