//! The status items that predicates and rules read: what their writers should know of them, and which of
//! them devices are asked to report that are not asked for otherwise.
//!
//! **Invariant:** nothing here refuses anything: Apple may be ahead of the table.

use std::collections::BTreeSet;

use super::group::Group;
use super::predicate::{Dialect, Predicate, parse};
use crate::schema::platform::Platform;
use crate::schema::status::status_item;

/// Nobody reads more.
const MOST: usize = 20;

/// What the writer of a predicate that devices evaluate should know.
pub(super) fn on_devices(predicate: &Predicate) -> Vec<String> {
    remarks(predicate, "a predicate that depends on it does not hold")
}

/// What the writer of a group should know of its rule and its predicate.
pub fn of_group(group: &Group) -> Vec<String> {
    let read = |text: &Option<String>, dialect| text.as_ref().and_then(|text| parse(text, dialect).ok());
    let rule = read(&group.rule, Dialect::Rule)
        .map(|rule| remarks(&rule, "a rule that depends on it makes nobody a member"));
    let predicate = group.predicate.as_ref().map(|text| match parse(text, Dialect::Device) {
        Ok(predicate) => on_devices(&predicate),
        Err(error) => {
            vec![format!("The predicate was accepted although this server cannot read it. {error}")]
        }
    });
    rule.into_iter().chain(predicate).flatten().collect()
}

fn remarks(predicate: &Predicate, so: &str) -> Vec<String> {
    let items = predicate.status_items();
    let words = items.iter().filter_map(|item| {
        let Some(name) = known(item) else {
            return Some(format!(
                "Apple's schema has no status item {item:?}; where a device has none, {so}."
            ));
        };
        let without = Platform::ALL.into_iter().filter(|platform| !has(name, *platform));
        let without: Vec<&str> = without.map(Platform::name).collect();
        (!without.is_empty()).then(|| {
            let say = if without.len() == 1 { "does" } else { "do" };
            format!("{} {say} not report {name}; {so} there.", listed(&without))
        })
    });
    words.take(MOST).collect()
}

/// The item of the table that a name is, or leads into.
fn known(name: &str) -> Option<&str> {
    let ends = name.match_indices('.').map(|(at, _)| at).chain([name.len()]);
    ends.into_iter().map(|end| &name[..end]).find(|name| status_item(name).is_some())
}

fn has(item: &str, platform: Platform) -> bool {
    status_item(item).is_some_and(|item| item.os.contains_key(platform.name()))
}

fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// Items that are there for tests and are read all the same. Of the others, devices are asked for all.
pub(super) fn for_tests<'a>(texts: impl Iterator<Item = (&'a str, Dialect)>) -> BTreeSet<String> {
    let read = texts.filter(|(text, _)| text.contains("@status(test."));
    let predicates = read.filter_map(|(text, dialect)| parse(text, dialect).ok());
    let items = predicates.flat_map(|predicate| predicate.status_items());
    items.filter_map(|item| item_for_tests(&item)).collect()
}

/// The item for tests that a name is, or leads into.
pub(super) fn item_for_tests(name: &str) -> Option<String> {
    known(name).filter(|item| item.starts_with("test.")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        on_devices(&parse(text, Dialect::Device).unwrap())
    }

    #[test]
    fn a_platform_without_an_item_is_named() {
        assert_eq!(of("@status(device.model.family) == 'iPad'"), Vec::<String>::new());
        assert_eq!(
            of("@status(passcode.is-present) == TRUE"),
            [
                "macOS and tvOS do not report passcode.is-present; a predicate that depends on it does not hold there."
            ]
        );
        let inside = "@status(softwareupdate.failure-reason).@key(count) > 1 AND @status(mdm.app.x) == 1";
        assert_eq!(
            of(inside),
            [
                "macOS does not report mdm.app; a predicate that depends on it does not hold there.",
                "watchOS does not report softwareupdate.failure-reason; a predicate that depends on it does not hold there.",
            ]
        );
        assert!(of("@status(a.b) == 1")[0].starts_with("Apple's schema has no status item \"a.b\""));
        let rule = Group { rule: Some("@status(passcode.is-present) == TRUE".into()), ..Group::default() };
        assert!(of_group(&rule)[0].ends_with("a rule that depends on it makes nobody a member there."));
    }

    #[test]
    fn items_for_tests_are_found_where_they_are_read() {
        let texts = [
            "@status(test.boolean-value) == TRUE",
            "@status(device.model.family) == 'Mac'",
            "(@status(test.",
        ];
        let found = for_tests(texts.into_iter().map(|text| (text, Dialect::Device)));
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["test.boolean-value"]);
    }
}
