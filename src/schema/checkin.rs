//! Apple's table of check-in messages, and the types of their keys.
//!
//! Called by the check-in handler before a message is believed. Which keys must be there depends on
//! channel and enrollment type, so the handlers decide that; a key of a wrong type is wrong for all.
//!
//! **Invariant:** unknown keys and unknown messages pass; they are for the handlers to judge.

use serde::Deserialize;
use serde::de::IgnoredAny;
use std::sync::OnceLock;

use super::table::{Key, Kind, Table};
use crate::error::{Error, Result};
use crate::plist::{Dictionary, Value, kind};

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    request: Vec<Key>,
    #[serde(rename = "os")]
    _os: IgnoredAny,
}

/// Refuses a message in which a key has another type than Apple's.
pub fn check_types(message_type: &str, message: &Dictionary) -> Result<()> {
    let Some(table) = table().items.get(message_type) else { return Ok(()) };
    for key in &table.request {
        if let Some(value) = message.get(&key.name)
            && !fits(key.kind, value)
        {
            let words = format!("{} must be {}, not {}", key.name, words(key.kind), kind(value));
            return Err(Error::invalid(words));
        }
    }
    Ok(())
}

fn fits(due: Kind, value: &Value) -> bool {
    match due {
        Kind::String => matches!(value, Value::String(_)),
        Kind::Bool => matches!(value, Value::Boolean(_)),
        Kind::Int => matches!(value, Value::Integer(_)),
        Kind::Real => matches!(value, Value::Real(_) | Value::Integer(_)),
        Kind::Data => matches!(value, Value::Data(_)),
        Kind::Date => matches!(value, Value::Date(_)),
        Kind::Array => matches!(value, Value::Array(_)),
        Kind::Dict => matches!(value, Value::Dictionary(_)),
        Kind::Any => true,
    }
}

/// As [`Kind::words`], for a property list, where data and dates are types of their own.
fn words(due: Kind) -> &'static str {
    match due {
        Kind::Data => "data",
        Kind::Date => "a date",
        Kind::Bool => "a boolean",
        Kind::Dict => "a dictionary",
        other => other.words(),
    }
}

fn table() -> &'static Table<Message> {
    static TABLE: OnceLock<Table<Message>> = OnceLock::new();
    TABLE.get_or_init(|| {
        serde_json::from_str(include_str!("data/checkin.json")).expect("the embedded table is read by a test")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_where_data_is_due_is_refused_by_name() {
        let mut message = Dictionary::new();
        message.insert("Token".into(), Value::String("x".into()));
        let error = check_types("TokenUpdate", &message).unwrap_err().to_string();
        assert_eq!(error, "Token must be data, not a string");
        message.insert("Token".into(), Value::Data(vec![1]));
        message.insert("Unheardof".into(), Value::Real(1.0));
        assert!(check_types("TokenUpdate", &message).is_ok());
        assert!(check_types("Unheardof", &message).is_ok());
    }
}
