//! What a device says about a command: how it ended, and why.
//!
//! See Apple's "Command response" and, for Settings, the results of each item.
//!
//! **Invariant:** a command of which the device refused a part did not succeed.

use serde_json::{Value as Json, json};

use crate::plist::json::to_json;

/// What a device said about a command, or that it has nothing to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Idle,
    Acknowledged,
    Error,
    CommandFormatError,
    NotNow,
}

impl Status {
    /// Reads Apple's word.
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "Idle" => Self::Idle,
            "Acknowledged" => Self::Acknowledged,
            "Error" => Self::Error,
            "CommandFormatError" => Self::CommandFormatError,
            "NotNow" => Self::NotNow,
            _ => return None,
        })
    }

    /// Apple's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Acknowledged => "Acknowledged",
            Self::Error => "Error",
            Self::CommandFormatError => "CommandFormatError",
            Self::NotNow => "NotNow",
        }
    }
}

/// A report's status and its property list, as it came and as it was read.
pub struct Report<'a> {
    pub status: Status,
    pub body: &'a [u8],
    pub answer: &'a plist::Value,
}

impl Report<'_> {
    /// How it ended, and Apple's error chain. An item that failed inside an Acknowledged answer to
    /// Settings is a failure: the device did not do what was asked.
    pub fn outcome(&self, request_type: &str) -> (Status, Option<Json>) {
        let Some(answer) = self.answer.as_dictionary() else { return (self.status, None) };
        if let Some(chain) = answer.get("ErrorChain") {
            return (self.status, Some(to_json(chain)));
        }
        let items = answer.get("Settings").and_then(plist::Value::as_array);
        if let (Status::Acknowledged, "Settings", Some(items)) = (self.status, request_type, items) {
            let failed: Vec<Json> = items
                .iter()
                .filter_map(plist::Value::as_dictionary)
                .filter(|item| {
                    item.get("Status")
                        .and_then(plist::Value::as_string)
                        .is_some_and(|status| status != "Acknowledged")
                })
                .flat_map(|item| match item.get("ErrorChain").map(to_json) {
                    Some(Json::Array(chain)) if !chain.is_empty() => chain,
                    _ => vec![json!({
                        "LocalizedDescription": "the device refused one item of this Settings command",
                    })],
                })
                .collect();
            if !failed.is_empty() {
                return (Status::Error, Some(Json::Array(failed)));
            }
        }
        (self.status, None)
    }
}
