//! Which declarations are valid and in effect, and why not (Apple: the `active` and `valid` states and
//! the reasons of `management.declarations`).
//!
//! Activations are evaluated first, then the configurations that an active one names, then what
//! these refer to. Since effects change what predicates read, it is repeated until nothing changes.
//!
//! **Invariant:** one declaration that fails takes no other with it, except what refers to it.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use super::capabilities::{Knows, Platform};
use super::predicate::{self, Failure, Source};
use super::{Declaration, Engine, Reason, State};
use crate::simulator::device::{Channel, Device};

/// Effects that keep changing a predicate back and forth are left alone after that many rounds.
const ROUNDS: usize = 4;

/// What predicates read on a channel of a device.
struct Facts<'a> {
    device: &'a Device,
    channel: Channel,
    platform: &'a Platform,
}

impl Source for Facts<'_> {
    fn status(&self, item: &str) -> Option<Json> {
        self.platform.reports(item).then(|| self.device.status_item(item, self.channel).unwrap_or_default())
    }

    fn property(&self, key: &str) -> Option<Json> {
        let engine = self.device.engine_of(self.channel);
        let properties = engine
            .declarations
            .values()
            .filter(|declaration| declaration.declaration_type == "com.apple.management.properties");
        properties.filter_map(|declaration| declaration.payload.get(key)).next_back().cloned()
    }
}

impl Device {
    /// Brings the device to where its declarations say it should be, as far as that goes.
    pub(super) async fn apply(&mut self, channel: Channel) {
        let platform = self.platform(channel);
        for _ in 0..ROUNDS {
            let before = self.engine_of(channel).states.clone();
            let activations = self.judge_activations(channel, &platform);
            let engine = self.engine(channel);
            engine.judge_others(&platform, activations);
            self.take_effect(channel).await;
            if self.engine_of(channel).states == before {
                return;
            }
        }
    }

    fn judge_activations(&self, channel: Channel, platform: &Platform) -> Vec<(String, State)> {
        let engine = self.engine_of(channel);
        let facts = Facts { device: self, channel, platform };
        let activations =
            engine.declarations.iter().filter(|(_, declaration)| declaration.kind == "activation");
        activations
            .map(|(identifier, activation)| {
                let refused = platform.refuses(identifier, activation);
                let missing = engine.missing("configuration", &engine.named(activation));
                let state = match (refused, activation.payload["Predicate"].as_str()) {
                    (Some(reason), _) => State::invalid(false, reason),
                    (None, _) if !missing.is_empty() => {
                        let mut details = who(identifier, activation);
                        details["ConfigurationIdentifiers"] = missing.into();
                        let words = "Configurations that it names are missing.";
                        State::invalid(false, Reason::new("Error.MissingConfigurations", words, details))
                    }
                    (None, None) => State::valid(true),
                    (None, Some(text)) => evaluate(identifier, activation, text, &facts),
                };
                (identifier.clone(), state)
            })
            .collect()
    }
}

fn evaluate(identifier: &str, activation: &Declaration, text: &str, facts: &Facts<'_>) -> State {
    let mut details = who(identifier, activation);
    details["Predicate"] = text.into();
    match predicate::holds(text, facts) {
        Ok(true) => State::valid(true),
        Ok(false) => {
            let reason = Reason::new("Info.Predicate", "The predicate does not hold.", details);
            State { reasons: vec![reason], ..State::valid(false) }
        }
        Err(Failure::Parse(words)) => {
            State::invalid(false, Reason::new("Error.UnableToParsePredicate", words, details))
        }
        Err(Failure::Evaluate(words)) => {
            State::invalid(false, Reason::new("Error.UnableToEvaluatePredicate", words, details))
        }
    }
}

/// The details that most codes have.
fn who(identifier: &str, declaration: &Declaration) -> Json {
    json!({ "Identifier": identifier, "ServerToken": declaration.server_token })
}

impl Platform {
    /// Why the device will not have a declaration at all.
    fn refuses(&self, identifier: &str, declaration: &Declaration) -> Option<Reason> {
        let name = &declaration.declaration_type;
        match self.knows(name) {
            Knows::No => {
                let details = json!({ "UnknownDeclarationType": name });
                return Some(Reason::new(
                    "Error.UnknownDeclarationType",
                    format!("{name} is not known."),
                    details,
                ));
            }
            Knows::NotHere => {
                let words = format!("{name} is not supported in this enrollment or on this channel.");
                return Some(Reason::new(
                    "Error.ConfigurationNotSupported",
                    words,
                    who(identifier, declaration),
                ));
            }
            Knows::Yes => {}
        }
        let odd = self.oddities(name, &declaration.payload);
        if !odd.unknown.is_empty() {
            let words = format!("The payload has unknown keys: {}.", odd.unknown.join(", "));
            let details = json!({ "UnknownPayloadKeys": odd.unknown });
            return Some(Reason::new("Error.UnknownPayloadKeys", words, details));
        }
        if !odd.wrong.is_empty() {
            let words = format!(
                "These keys of the payload are missing or of a wrong type: {}.",
                odd.wrong.join(", ")
            );
            return Some(Reason::new("Error.InvalidPayload", words, who(identifier, declaration)));
        }
        None
    }

    /// Settings that the device passes over.
    fn passes_over(&self, declaration: &Declaration) -> Option<Reason> {
        let odd = self.oddities(&declaration.declaration_type, &declaration.payload);
        (!odd.unsupported.is_empty()).then(|| {
            let words = format!("These settings are not supported: {}.", odd.unsupported.join(", "));
            Reason::new("Info.UnsupportedSettings", words, json!({ "Settings": odd.unsupported }))
        })
    }
}

impl Engine {
    /// Sets every state anew, before any configuration takes effect.
    pub(super) fn judge_others(&mut self, platform: &Platform, activations: Vec<(String, State)>) {
        let named: BTreeSet<String> = activations
            .iter()
            .filter(|(_, state)| state.active)
            .filter_map(|(identifier, _)| self.declarations.get(identifier))
            .flat_map(|activation| self.named(activation))
            .collect();
        let mut states: Vec<_> = activations;
        let mut used = BTreeSet::new();
        for (identifier, declaration) in &self.declarations {
            let refused = platform.refuses(identifier, declaration);
            let state = match (declaration.kind, refused) {
                ("configuration" | "management", Some(reason)) => State::invalid(false, reason),
                // As in the reports of real devices, management declarations are valid without being active.
                ("management", None) => State::valid(false),
                ("configuration", None) => self.judge(identifier, declaration, platform, &named),
                _ => continue,
            };
            if state.active {
                used.extend(references(&declaration.payload));
            }
            states.push((identifier.clone(), state));
        }
        for (identifier, asset) in self.declarations.iter().filter(|(_, other)| other.kind == "asset") {
            let state = match platform.refuses(identifier, asset) {
                Some(reason) => State::invalid(false, reason),
                None if used.contains(identifier) => State::valid(true),
                None => State::unknown(Reason::new(
                    "Info.NotReferencedByConfiguration",
                    "No active configuration refers to it.",
                    who(identifier, asset),
                )),
            };
            states.push((identifier.clone(), state));
        }
        self.states = states.into_iter().collect();
    }

    fn judge(
        &self,
        identifier: &str,
        configuration: &Declaration,
        platform: &Platform,
        named: &BTreeSet<String>,
    ) -> State {
        if !named.contains(identifier) {
            let words = "No active activation refers to it.";
            let details = who(identifier, configuration);
            return State::unknown(Reason::new("Info.NotReferencedByActivation", words, details));
        }
        let missing = self.missing("asset", &references(&configuration.payload));
        if !missing.is_empty() {
            let mut details = who(identifier, configuration);
            details["AssetIdentifiers"] = missing.into();
            let words = "Assets that it refers to are missing.";
            return State::invalid(false, Reason::new("Error.MissingAssets", words, details));
        }
        State { reasons: platform.passes_over(configuration).into_iter().collect(), ..State::valid(true) }
    }

    /// StandardConfigurations of an activation.
    fn named(&self, activation: &Declaration) -> Vec<String> {
        let names = activation.payload["StandardConfigurations"].as_array();
        names.into_iter().flatten().filter_map(Json::as_str).map(str::to_owned).collect()
    }

    /// Those of the names that are no declarations of `kind`.
    fn missing(&self, kind: &str, names: &[String]) -> Vec<String> {
        let is_missing = |name: &&String| self.declarations.get(*name).is_none_or(|found| found.kind != kind);
        names.iter().filter(is_missing).cloned().collect()
    }
}

/// The identifiers of assets that a payload refers to: values of keys that end in `AssetReference`,
/// `AssetReferences` or `CertificateReference` (and PublicKeyData of relays), at any depth.
pub(super) fn references(payload: &Json) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![payload];
    while let Some(value) = open.pop() {
        match value {
            Json::Array(list) => open.extend(list),
            Json::Object(keys) => {
                for (key, value) in keys {
                    let refers =
                        ["AssetReference", "AssetReferences", "CertificateReference", "PublicKeyData"]
                            .iter()
                            .any(|end| key.ends_with(end));
                    match value {
                        Json::String(name) if refers => found.push(name.clone()),
                        Json::Array(names) if refers => {
                            found.extend(names.iter().filter_map(Json::as_str).map(str::to_owned));
                        }
                        _ => open.push(value),
                    }
                }
            }
            _ => {}
        }
    }
    found
}
