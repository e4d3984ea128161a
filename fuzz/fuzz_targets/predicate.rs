//! Predicates: what is read is read again as it is written, and evaluating it ends.

#![no_main]

use libfuzzer_sys::fuzz_target;
use russet::ddm::predicate::{Dialect, Facts, parse};
use serde_json::{Value, json};

/// Answers everything, with values of every kind.
struct Anything;

impl Facts for Anything {
    fn status(&self, item: &str) -> Option<Value> {
        match item.len() % 5 {
            0 => Some(json!([{"identifier": item, "state": "managed"}, {"identifier": 1}])),
            1 => Some(json!("17.4.1")),
            2 => Some(json!(7.5)),
            3 => Some(Value::Null),
            _ => None,
        }
    }

    fn property(&self, name: &str) -> Option<Value> {
        Some(json!([name, 1, true]))
    }

    fn key(&self, name: &str) -> Option<Value> {
        Some(json!(name))
    }
}

fuzz_target!(|text: &str| {
    for dialect in [Dialect::Device, Dialect::Rule] {
        let predicate = match parse(text, dialect) {
            Ok(predicate) => predicate,
            Err(refused) => {
                if let Some(suggestion) = refused.suggestion {
                    parse(&suggestion, dialect).expect("what is suggested can be written");
                }
                continue;
            }
        };
        let written = predicate.to_string();
        // Canonical text is a little longer than what was read, and what is too long is refused.
        if let Ok(again) = parse(&written, dialect) {
            assert_eq!(again.to_string(), written);
            assert_eq!(again.evaluate(&Anything), predicate.evaluate(&Anything));
        }
    }
});
