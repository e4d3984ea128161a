use serde_json::{Value as Json, json};

use super::{Failure, Source, holds};

struct Facts;

impl Source for Facts {
    fn status(&self, item: &str) -> Option<Json> {
        match item {
            "device.model.family" => Some(json!("iPad")),
            "device.operating-system.version" => Some(json!("26.1")),
            "passcode.is-present" => Some(json!(true)),
            "mdm.app" => Some(json!([
                { "identifier": "x", "state": "managed" },
                { "identifier": "y", "state": "failed" },
            ])),
            "softwareupdate.device-id" => Some(Json::Null),
            _ => None,
        }
    }

    fn property(&self, key: &str) -> Option<Json> {
        match key {
            "shard" => Some(json!(75)),
            "tags" => Some(json!(["lab", "Berlin"])),
            _ => None,
        }
    }
}

#[test]
fn what_holds() {
    for text in [
        "@status(device.model.family) == 'iPad'",
        "(@property(shard) <= 75)",
        "((@property(shard)) <= 75)",
        "@status(device.operating-system.version) >= \"26\" AND NOT @property(shard) > 80",
        "@status(device.model.family) IN { 'iPad', 'iPhone' } || FALSEPREDICATE",
        "@status(device.model.family) BEGINSWITH[cd] 'ip'",
        "@status(device.model.family) like '?P*d'",
        "@property(tags) CONTAINS 'lab'",
        "ANY @property(tags) == 'Berlin'",
        "NONE @property(tags) == 'Paris'",
        "@property(shard) BETWEEN {0, 75}",
        "@status(passcode.is-present) == TRUE",
        "@status(softwareupdate.device-id) == nil",
        "@property(missing) == NULL AND @property(missing) != 'a'",
        "SUBQUERY(@status(mdm.app), $a, ($a.@key(identifier) == 'x') AND ($a.@key(state) == 'managed')).@count == 1",
        "(SUBQUERY(@status(mdm.app), $a, $a.@key(state) == 'failed').@count) > 0",
        "ANY @status(mdm.app).@key(identifier) IN {'y'}",
        "! (@property(shard) == 1 OR @property(shard) == 2) && TRUEPREDICATE",
    ] {
        assert_eq!(holds(text, &Facts), Ok(true), "{text}");
        assert_eq!(holds(&format!("NOT ({text})"), &Facts), Ok(false), "{text}");
    }
}

#[test]
fn what_is_no_predicate() {
    let deep = format!("{}TRUEPREDICATE{}", "(".repeat(10_000), ")".repeat(10_000));
    let nots = "NOT ".repeat(10_000);
    for text in [
        "",
        "(device.model.family == 'iPad')",
        "@status(device.model.family) = ",
        "@status(device.model.family) == 'iPad",
        "@status() == 1",
        "@other(x) == 1",
        "1 == 1 1",
        "@property(shard) BETWEEN {1}",
        "@property(shard) RESEMBLES 1",
        "€ == 1",
        &deep,
        &nots,
    ] {
        assert!(matches!(holds(text, &Facts), Err(Failure::Parse(_))), "{text}");
    }
}

#[test]
fn what_cannot_be_evaluated() {
    for text in ["@status(diskmanagement.filevault.enabled) == 1", "@property(tags) > 3", "$a == 1"] {
        assert!(matches!(holds(text, &Facts), Err(Failure::Evaluate(_))), "{text}");
    }
}
