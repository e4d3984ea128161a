//! Facts that come of what is declared for a device, and what it says of that.
//!
//! **Invariant:** as in [`crate::ddm::standing`]: a state counts only for the ServerToken that it was
//! reported for.

use rusqlite::Connection;
use serde_json::{Map, Value as Json, json};

use super::{Fact, said};
use crate::ddm::manifest::{Item, Manifest, Plan};
use crate::ddm::standing::reasons;
use crate::ddm::status;
use crate::ddm::status::declared::{State, States};
use crate::ddm::subject::Subject;
use crate::error::Result;
use crate::schema::platform::Platform;

const PASSCODE: &str = "com.apple.configuration.passcode.settings";
const ENFORCEMENT: &str = "com.apple.configuration.softwareupdate.enforcement.specific";
const FILES: &str = "com.apple.configuration.services.configuration-files";
const TASKS: &str = "com.apple.configuration.services.background-tasks";
/// How many declarations are named in a fact.
const MOST_NAMED: usize = 5;

/// What a device should have, and what it says of it.
pub(super) struct Declared<'a> {
    pub(super) plan: &'a Plan,
    pub(super) manifest: &'a Manifest,
    pub(super) states: &'a States,
    pub(super) subject: &'a Subject,
}

/// A version that a declaration enforces.
pub(super) struct Enforced<'a> {
    pub(super) version: &'a str,
    pub(super) deadline: &'a str,
}

impl<'a> Declared<'a> {
    fn of_type(&self, declaration_type: &'static str) -> impl Iterator<Item = &'a Item> {
        self.manifest.items.iter().filter(move |item| item.declaration_type == declaration_type)
    }

    fn payloads(&self, declaration_type: &'static str) -> impl Iterator<Item = &'a Map<String, Json>> {
        let plan = self.plan;
        self.of_type(declaration_type).filter_map(move |item| match &item.own {
            // As those of update policies are.
            Some(body) => body["Payload"].as_object(),
            None => plan.payload(&item.identifier),
        })
    }

    fn state(&self, item: &Item) -> Option<&'a State> {
        self.states.get(&(item.identifier.clone(), item.server_token.clone()))
    }

    /// Whether a declaration of this device asks for a passcode.
    pub(super) fn asks_for_passcode(&self) -> bool {
        let is_set = |payload: &Map<String, Json>, key: &str| {
            payload
                .get(key)
                .is_some_and(|value| *value == true || value.as_u64().is_some_and(|count| count > 0))
        };
        const KEYS: [&str; 5] = [
            "RequirePasscode",
            "RequireAlphanumericPasscode",
            "RequireComplexPasscode",
            "MinimumLength",
            "MinimumComplexCharacters",
        ];
        self.payloads(PASSCODE).any(|payload| KEYS.iter().any(|key| is_set(payload, key)))
    }

    pub(super) fn enforced(&self) -> Vec<Enforced<'a>> {
        let text = |payload: &'a Map<String, Json>, key: &str| payload.get(key).and_then(Json::as_str);
        let enforced = self.payloads(ENFORCEMENT).filter_map(|payload| {
            let deadline = text(payload, "TargetLocalDateTime").unwrap_or_default();
            Some(Enforced { version: text(payload, "TargetOSVersion")?, deadline })
        });
        enforced.collect()
    }

    /// Whether anything that was declared has failed.
    pub(super) fn declarations(&self) -> Fact {
        if self.subject.held {
            let words =
                "It cannot be told declarations: its system is too old, or it waits in Setup Assistant.";
            return Fact::not_applicable("declarations", words);
        }
        // What the server makes for everybody goes out with something else, or not at all.
        if !self.plan.wants_something_of(self.manifest) {
            return Fact::not_applicable("declarations", "Nothing is declared for it that it can have.");
        }
        let (mut failed, mut waiting, mut since) = (Vec::new(), 0, None);
        for item in &self.manifest.items {
            match self.state(item) {
                None => waiting += 1,
                Some(state) if state.valid == "invalid" => {
                    since = since.max(Some(state.reported_at));
                    failed.push(json!({"identifier": item.identifier, "words": why(state)}));
                }
                Some(_) => {}
            }
        }
        let all = self.manifest.items.len();
        let (value, words) = match (failed.first(), waiting) {
            (Some(first), _) => {
                let name = first["identifier"].as_str().unwrap_or_default();
                let words = first["words"].as_str().unwrap_or_default();
                (Some(false), format!("{} of {all} declarations failed; {name}: {words}", failed.len()))
            }
            (None, 0) => (Some(true), format!("None of its {all} declarations has failed.")),
            (None, waiting) => {
                (None, format!("It has not spoken of {waiting} of its {all} declarations yet."))
            }
        };
        let count = failed.len();
        failed.truncate(MOST_NAMED);
        let left_out = self.manifest.left_out.len();
        let reported = json!({"failed": count, "waiting": waiting, "left_out": left_out, "first": failed});
        Fact { reported, since, ..Fact::new("declarations", value, words) }
    }

    /// How the service configurations and background tasks of a Mac fare.
    pub(super) fn services(&self, conn: &Connection) -> Result<Fact> {
        const NAME: &str = "services";
        if let Some(platform) = self.subject.platform.filter(|platform| *platform != Platform::MacOs) {
            return Ok(Fact::not_applicable(NAME, format!("{} has no such services.", platform.name())));
        }
        let tasks = status::value(conn, &self.subject.id, "services.background-task")?.unwrap_or_default();
        let (mut reported, mut bad, mut waiting, mut since) = (Vec::new(), Vec::new(), 0, None);
        for item in self.of_type(FILES).chain(self.of_type(TASKS)) {
            let state = self.state(item);
            since = since.max(state.map(|state| state.reported_at));
            let (value, words) = match state {
                None => (None, "it has not spoken of it yet".to_owned()),
                Some(state) if state.valid == "invalid" => (Some(false), why(state)),
                Some(state) if !state.active => (Some(true), "it does not apply to it now".to_owned()),
                Some(_) => match unwell(&tasks, &item.identifier) {
                    Some(words) => (Some(false), words),
                    None => (Some(true), "it is in effect".to_owned()),
                },
            };
            match value {
                None => waiting += 1,
                Some(false) => bad.push(format!("{}: {words}", item.identifier)),
                Some(true) => {}
            }
            reported.push(json!({"identifier": item.identifier, "value": value, "words": words}));
        }
        let count = reported.len();
        let (value, words) = match (bad.first(), waiting) {
            (Some(first), _) => (Some(false), format!("{} of {count} failed; {first}", bad.len())),
            (None, 0) => (Some(true), format!("All {count} are as declared.")),
            (None, waiting) => (None, format!("It has not spoken of {waiting} of {count} yet.")),
        };
        if count == 0 {
            let words = "No service configuration and no background task is declared for it.";
            return Ok(Fact::new(NAME, None, words).noted());
        }
        reported.truncate(20);
        Ok(Fact { reported: reported.into(), since, ..Fact::new(NAME, value, words) })
    }
}

/// The first reason of a declaration that failed, in words.
fn why(state: &State) -> String {
    let reasons = reasons(state);
    let first =
        reasons.iter().find(|reason| reason["code"].as_str().is_some_and(|code| code.starts_with("Error.")));
    let Some(first) = first.or(reasons.first()) else {
        return "It gives no reason.".to_owned();
    };
    let description = first["description"].as_str().filter(|said| !said.is_empty());
    let words = first["words"].as_str().unwrap_or_default();
    description.map_or_else(|| words.to_owned(), |text| format!("{words} It says: {}", said(text)))
}

/// What is wrong with a background task that this configuration made, if anything.
fn unwell(tasks: &Json, configuration: &str) -> Option<String> {
    let of_ours = tasks.as_array().into_iter().flatten().find_map(|task| {
        let launchd = &task["launchd"];
        let made_by = launchd["device-management"]["configuration-identifier"].as_str();
        let state = task["state"].as_str().unwrap_or_default();
        let is_unwell = made_by == Some(configuration) && state != "enabled";
        is_unwell.then(|| (launchd["label"].as_str().unwrap_or_default(), state))
    })?;
    let (label, state) = (said(of_ours.0), of_ours.1);
    Some(match state {
        "requires-approval" => format!("{label} waits until the user allows it in System Settings."),
        "not-found" => format!("launchd does not find the property list of {label}."),
        "not-registered" => format!("{label} is not registered with launchd."),
        other => format!("{label} is {:?}.", said(other)),
    })
}
