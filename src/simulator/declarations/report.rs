//! Status reports (Apple: StatusReport, `management.status-subscriptions`).
//!
//! The first is full; after it only what changed is said: subscribed items one by one, elements of
//! arrays by their `identifier`, and `management.declarations` as a whole. About daily everything is
//! said again.
//!
//! **Invariant:** what the server did not take is not counted as said.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json, json};

use super::{Engine, Reason};
use crate::clock::Seconds;
use crate::simulator::device::{Channel, Device};
use crate::simulator::fault::Fault;

/// Items that are reported without a subscription.
const ALWAYS: [&str; 2] = ["management.client-capabilities", "management.declarations"];
const DAY: Seconds = 24 * 60 * 60;

/// When to send a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// If there is something to say.
    Changed,
    /// In any case.
    Always,
    /// In any case, with everything.
    Full,
}

/// What the server was told.
#[derive(Clone, Debug, Default)]
pub(super) struct Reported {
    /// As [`remembered`].
    items: BTreeMap<String, Json>,
    /// Subscribed items that could not be given.
    errors: BTreeSet<String>,
    /// When everything was said last.
    full_at: Seconds,
}

impl Device {
    /// Sends what changed; answers whether a report was sent.
    pub(super) async fn report_status(&mut self, channel: Channel, when: When) -> Result<bool, Fault> {
        let (report, reported) = self.compose(channel, when);
        let is_sent = report.is_some();
        if let Some(report) = report {
            self.endpoint(channel, "status", Some(report.to_string().into_bytes())).await?;
            self.engine(channel).reports += 1;
        }
        self.engine(channel).reported = Some(reported);
        Ok(is_sent)
    }

    /// The report that is due, and what the server knows once it has it.
    pub(super) fn compose(&self, channel: Channel, when: When) -> (Option<Json>, Reported) {
        let now = self.clock.now();
        let before = self.engine_of(channel).reported.as_ref();
        let due = |reported: &Reported| when == When::Full || now.saturating_sub(reported.full_at) >= DAY;
        let is_full = before.is_none_or(due);
        let full_at = before.filter(|_| !is_full).map_or(now, |before| before.full_at);
        let nothing = Reported::default();
        let before = before.filter(|_| !is_full).unwrap_or(&nothing);
        let (seen, errors) = self.observe(channel);
        let mut after = Reported { items: BTreeMap::new(), errors, full_at };
        let mut items = Map::new();
        for (name, value) in &seen {
            if let Some(said) = difference(before.items.get(name), value) {
                put(&mut items, name, said);
            }
            after.items.insert(name.clone(), remembered(value));
        }
        if when == When::Always && items.is_empty() {
            put(&mut items, ALWAYS[1], seen.get(ALWAYS[1]).cloned().unwrap_or_default());
        }
        let errors: Vec<Json> = after.errors.difference(&before.errors).map(|name| cannot(name)).collect();
        if items.is_empty() && errors.is_empty() {
            return (None, after);
        }
        let mut report = json!({ "StatusItems": items, "Errors": errors });
        if is_full && self.platform(channel).has_full_reports() {
            report["FullReport"] = true.into();
        }
        (Some(report), after)
    }

    /// The items that the server wants to know, as they are now, and those that cannot be given.
    fn observe(&self, channel: Channel) -> (BTreeMap<String, Json>, BTreeSet<String>) {
        let platform = self.platform(channel);
        let (mut seen, mut errors) = (BTreeMap::new(), BTreeSet::new());
        let wanted = self.engine_of(channel).subscribed();
        for name in wanted.iter().map(String::as_str).chain(ALWAYS) {
            let value =
                self.status_item(name, channel).filter(|_| platform.reports(name) || ALWAYS.contains(&name));
            match value {
                Some(value) => {
                    seen.insert(name.to_owned(), value);
                }
                None if platform.reports(name) && name != "test.error-value" => {}
                None => {
                    errors.insert(name.to_owned());
                }
            }
        }
        (seen, errors)
    }
}

/// What to say of an item that was `before`.
fn difference(before: Option<&Json>, now: &Json) -> Option<Json> {
    let Some(before) = before else { return Some(now.clone()) };
    if *before == remembered(now) {
        return None;
    }
    let (Some(had), Some(has)) = (by_identifier(before), by_identifier(now)) else {
        return Some(now.clone());
    };
    let changed =
        has.iter().filter(|(name, value)| had.get(*name) != Some(*value)).map(|(_, value)| (*value).clone());
    let gone = had.keys().filter(|name| !has.contains_key(*name));
    Some(changed.chain(gone.map(|name| json!({ "identifier": name, "_removed": true }))).collect())
}

/// What is kept of a value: enough to know it again, and lists whole, to tell what left them.
fn remembered(value: &Json) -> Json {
    if by_identifier(value).is_some() || !(value.is_object() || value.is_array()) {
        return value.clone();
    }
    crate::id::hex(&crate::id::sha256(value.to_string().as_bytes())).into()
}

fn by_identifier(value: &Json) -> Option<BTreeMap<&str, &Json>> {
    value.as_array()?.iter().map(|element| Some((element["identifier"].as_str()?, element))).collect()
}

/// Puts a dotted name into nested objects.
fn put(items: &mut Map<String, Json>, name: &str, value: Json) {
    match name.split_once('.') {
        None => {
            items.insert(name.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = items.entry(first).or_insert_with(|| json!({}));
            if let Some(inner) = inner.as_object_mut() {
                put(inner, rest, value);
            }
        }
    }
}

fn cannot(name: &str) -> Json {
    let words = format!("The status item {name} cannot be reported.");
    json!({ "StatusItem": name, "Reasons": [{ "Code": "Error.Unknown", "Description": words, "Details": {} }] })
}

impl Reason {
    pub(super) fn report(&self) -> Json {
        json!({ "code": self.code, "description": self.description, "details": self.details })
    }
}

impl Engine {
    /// Names in the subscriptions that are in effect.
    fn subscribed(&self) -> BTreeSet<String> {
        self.in_effect("management.status-subscriptions")
            .flat_map(|(_, declaration)| declaration.payload["StatusItems"].as_array().into_iter().flatten())
            .filter_map(|item| item["Name"].as_str().map(str::to_owned))
            .collect()
    }

    /// `management.declarations`: what is active, what is valid, and why not.
    pub(super) fn listed(&self) -> Json {
        let mut lists = json!({ "activations": [], "configurations": [], "assets": [], "management": [] });
        for (identifier, declaration) in &self.declarations {
            let Some(state) = self.states.get(identifier) else { continue };
            let mut entry = json!({
                "identifier": identifier,
                "server-token": declaration.server_token,
                "active": state.active,
                "valid": state.valid,
            });
            if !state.reasons.is_empty() {
                entry["reasons"] = state.reasons.iter().map(Reason::report).collect();
            }
            let list = match declaration.kind {
                "activation" => "activations",
                "configuration" => "configurations",
                "asset" => "assets",
                other => other,
            };
            if let Some(list) = lists[list].as_array_mut() {
                list.push(entry);
            }
        }
        lists
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_told_by_identifier_and_the_rest_whole() {
        assert_eq!(difference(Some(&json!("a")), &json!("a")), None);
        assert_eq!(difference(Some(&json!("a")), &json!("b")), Some(json!("b")));
        let (had, has) = (
            json!([{ "identifier": "x", "v": 1 }, { "identifier": "y", "v": 1 }, { "identifier": "z" }]),
            json!([{ "identifier": "x", "v": 1 }, { "identifier": "y", "v": 2 }]),
        );
        let said = json!([{ "identifier": "y", "v": 2 }, { "identifier": "z", "_removed": true }]);
        assert_eq!(difference(Some(&had), &has), Some(said));
        assert_eq!(difference(None, &has), Some(has.clone()));
    }

    #[test]
    fn dotted_names_are_nested() {
        let mut items = Map::new();
        put(&mut items, "device.model.family", json!("Mac"));
        put(&mut items, "device.model.number", json!(1));
        assert_eq!(Json::Object(items), json!({ "device": { "model": { "family": "Mac", "number": 1 } } }));
    }
}
