//! MATCHES: runs the program of a regular expression over a whole text.
//!
//! All the ways that the expression can go are followed at once, as Thompson described, so no
//! expression makes it go back and try again.
//!
//! **Invariant:** the work is at most the steps of the program times the letters of the text, and paid
//! for; what [`super::pattern`] does not read is unknown, never an error.

use super::Truth;
use super::budget::Budget;
use super::fold::fold;
use super::pattern::compile;
use super::program::{Program, Step};
use super::tree::Options;

/// Whether the whole text is as the pattern says.
pub(super) fn matches(pattern: &str, text: &str, options: Options, budget: &Budget) -> Truth {
    if !budget.spend(pattern.len().saturating_add(text.len())) {
        return Truth::Unknown;
    }
    let Some(program) = compile(pattern, options) else { return Truth::Unknown };
    if !budget.spend(program.steps.len()) {
        return Truth::Unknown;
    }
    let text = fold(text, program.options);
    run(&program, &text, budget).map_or(Truth::Unknown, Truth::from)
}

fn run(program: &Program, text: &str, budget: &Budget) -> Option<bool> {
    let mut now = Places::new(program);
    let mut next = Places::new(program);
    now.add(0, program, true, text.is_empty(), budget)?;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let last = chars.peek().is_none();
        for place in &now.list {
            let Some(Step::Letter(set)) = program.steps.get(*place) else { continue };
            let Some(set) = program.sets.get(*set) else { continue };
            if !budget.spend(set.weight()) {
                return None;
            }
            if set.has(c, program.options) {
                next.add(place + 1, program, false, last, budget)?;
            }
        }
        std::mem::swap(&mut now, &mut next);
        next.clear();
        if now.list.is_empty() {
            return Some(false);
        }
    }
    Some(now.reached.get(program.steps.len()).copied().unwrap_or(false))
}

/// Where in the program it can be.
struct Places {
    list: Vec<usize>,
    reached: Vec<bool>,
}

impl Places {
    fn new(program: &Program) -> Self {
        Self { list: Vec::new(), reached: vec![false; program.steps.len() + 1] }
    }

    fn clear(&mut self) {
        for place in self.list.drain(..) {
            self.reached[place] = false;
        }
    }

    /// Adds a place and those that are reached from it without a letter. Nothing if that costs too much.
    fn add(
        &mut self,
        place: usize,
        program: &Program,
        first: bool,
        last: bool,
        budget: &Budget,
    ) -> Option<()> {
        let mut waiting = vec![place];
        while let Some(place) = waiting.pop() {
            if std::mem::replace(&mut self.reached[place], true) {
                continue;
            }
            if !budget.spend(1) {
                return None;
            }
            self.list.push(place);
            match program.steps.get(place) {
                None | Some(Step::Letter(_)) => {}
                Some(Step::Go(to)) => waiting.push(*to),
                Some(Step::Fork(one, other)) => waiting.extend([*other, *one]),
                Some(Step::Start) => waiting.extend(first.then_some(place + 1)),
                Some(Step::End) => waiting.extend(last.then_some(place + 1)),
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth(pattern: &str, text: &str) -> Truth {
        matches(pattern, text, Options::default(), &Budget::new())
    }

    #[test]
    fn whole_texts_match() {
        for (pattern, text, matched) in [
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("b", "abc", false),
            (".*Pro.*", "MacBook Pro (14-inch)", true),
            ("17\\.[0-4](\\.\\d+)?", "17.4.1", true),
            ("17\\.[0-4](\\.\\d+)?", "17.5", false),
            ("iPad|iPhone", "iPhone", true),
            ("i(Pad|Phone)", "iPod", false),
            ("(?:ab)+", "ababab", true),
            ("(a*)*", "aaaa", true),
            ("(a*)*b", "aaaa", false),
            ("[A-Za-z_-]+", "a_-Z", true),
            ("[^0-9]*", "ab1", false),
            ("[\\w.]+@[\\w.]+", "a.b@c.d", true),
            ("\\S+\\s\\D", "ab x", true),
            ("a{3}", "aaa", true),
            ("a{2,3}", "aaaa", false),
            ("a{2,}", "aaaa", true),
            ("a{0}", "", true),
            ("a?b+?c*?", "bb", true),
            ("^abc$", "abc", true),
            ("a^b", "ab", false),
            ("a$b", "ab", false),
            ("", "", true),
            ("", "a", false),
            ("a|", "", true),
            ("|", "", true),
            ("()", "", true),
            (".", "\n", false),
            (".", "é", true),
            ("(?i)MAC", "mac", true),
            ("[+*?.(]", "(", true),
            ("\\[\\]", "[]", true),
        ] {
            assert_eq!(truth(pattern, text), matched.into(), "{pattern} {text}");
        }
    }

    #[test]
    fn case_and_accents_fold_on_both_sides() {
        let both = Options { case: true, diacritics: true, ..Options::default() };
        for (pattern, text) in
            [("MÜLL[ER]+", "muller"), ("[A-Z]+", "zoë"), ("zoe", "ZOË"), ("İ", "i"), ("\\D", "X")]
        {
            assert_eq!(matches(pattern, text, both, &Budget::new()), Truth::True, "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_not_read_is_unknown() {
        for pattern in [
            "(",
            ")",
            "(a",
            "a)",
            "[",
            "[]",
            "[a",
            "*",
            "a**",
            "a*+",
            "a{2}{3}",
            "a{",
            "a{,2}",
            "a{3,2}",
            "a{1001}",
            "(?=a)",
            "(?<n>a)",
            "(a)\\1",
            "\\bx",
            "\\p{L}",
            "\\",
            "[[:alpha:]]",
            "[a&&b]",
            "[b-a]",
            "(?i:a)",
        ] {
            assert_eq!(truth(pattern, "a"), Truth::Unknown, "{pattern}");
        }
    }

    #[test]
    fn nothing_takes_long() {
        for pattern in [
            "(a+)+b".to_owned(),
            "(a|aa)*b".to_owned(),
            "((((((((((a{100}){100}){100}){100}){100}){100}){100}){100}){100}){100}){100}".to_owned(),
            "((((((((((){1000}){1000}){1000}){1000}){1000}){1000}){1000}){1000}){1000}){1000}".to_owned(),
            "(".repeat(8000),
            format!("{}a{}", "(".repeat(31), ")".repeat(31)),
            "a?".repeat(4000),
            ".*".repeat(2000),
        ] {
            let truth = truth(&pattern, &"a".repeat(5000));
            assert_ne!(truth, Truth::True, "{pattern}");
        }
        assert_eq!(truth("(a+)+b", &"a".repeat(5000)), Truth::False);
    }
}
