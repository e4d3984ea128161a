//! What differs between two JSON objects, one line for each place, as people read it.

use serde_json::Value as Json;
use std::collections::BTreeSet;

use crate::id::printable;

/// `- /Payload/MinimumLength: 6` and `+ /Payload/MinimumLength: 8`. Lists are taken as sets.
pub(super) fn lines(before: &Json, after: &Json) -> Vec<String> {
    let (before, after) = (leaves(before), leaves(after));
    let one = |sign: char, (path, value): &(String, String)| (path.clone(), sign, value.clone());
    let gone = before.difference(&after).map(|leaf| one('-', leaf));
    let new = after.difference(&before).map(|leaf| one('+', leaf));
    let mut all: Vec<_> = gone.chain(new).collect();
    // What goes stands above what comes in its place.
    all.sort_by_key(|(path, sign, _)| (path.clone(), *sign == '+'));
    all.into_iter().map(|(path, sign, value)| format!("{sign} {path}: {value}")).collect()
}

fn leaves(value: &Json) -> BTreeSet<(String, String)> {
    let (mut found, mut next) = (BTreeSet::new(), vec![(String::new(), value)]);
    while let Some((path, value)) = next.pop() {
        match value {
            Json::Object(members) if !members.is_empty() => {
                next.extend(members.iter().map(|(name, one)| (format!("{path}/{}", printable(name)), one)));
            }
            Json::Array(list) if !list.is_empty() => next.extend(list.iter().map(|one| (path.clone(), one))),
            Json::Null => {}
            // A terminal is not to be steered by what somebody wrote into a description.
            value => {
                found.insert((path, printable(&value.to_string())));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::lines;

    #[test]
    fn each_place_that_differs_has_its_lines() {
        let before = json!({"Payload": {"MinimumLength": 6}, "members": ["A", "B"], "rule": null});
        let after = json!({"Payload": {"MinimumLength": 8}, "members": ["B", "C"], "rule": "x\u{1b}[2J"});
        let said = lines(&before, &after);
        assert_eq!(said[..2], ["- /Payload/MinimumLength: 6", "+ /Payload/MinimumLength: 8"]);
        assert_eq!(said[2..4], ["- /members: \"A\"", "+ /members: \"C\""]);
        assert!(said[4].starts_with("+ /rule") && !said[4].contains('\u{1b}'), "{said:?}");
        assert!(lines(&before, &before).is_empty());
    }
}
