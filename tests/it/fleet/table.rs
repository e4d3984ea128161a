//! Apple's tables, read as data: for whom a type of declaration or a status item is.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock};

use serde_json::Value as Json;

use super::condition::version;
use super::world::Who;
use russet::simulator::Kind;

fn declarations() -> &'static Json {
    static TABLE: OnceLock<Json> = OnceLock::new();
    TABLE.get_or_init(|| {
        serde_json::from_str(include_str!("../../../src/schema/data/declarations.json")).unwrap()
    })
}

fn items() -> &'static Json {
    static TABLE: OnceLock<Json> = OnceLock::new();
    TABLE.get_or_init(|| serde_json::from_str(include_str!("../../../src/schema/data/status.json")).unwrap())
}

fn is_for(who: &Who, of: &Json) -> bool {
    let on = &of["os"][who.os()];
    let has = |list: &Json, word: &str| list.as_array().is_none_or(|list| list.iter().any(|one| one == word));
    // Macs and watches that are managed as devices count as supervised.
    let supervised = who.supervised || matches!(who.kind, Kind::Mac | Kind::Watch);
    let since = on["since"].as_str();
    since.is_some_and(|since| version(&who.version) >= version(since))
        && has(&on["enroll"], if supervised { "supervised" } else { "device" })
        && has(&on["scopes"], if who.is_user { "user" } else { "system" })
}

/// Whether a channel can have declarations of a type; one that is not in the table nobody can.
pub fn can_have(who: &Who, declaration_type: &str) -> bool {
    is_for(who, &declarations()["items"][declaration_type])
}

/// Whether a device may have only one of a type.
pub fn is_single(declaration_type: &str) -> bool {
    declarations()["items"][declaration_type]["apply"] == "single"
}

/// Whether a channel reports a status item.
pub fn reports(who: &Who, item: &str) -> bool {
    is_for(who, &items()["items"][item])
}

/// The items that a channel reports and that are not there for tests alone.
pub fn reported(who: &Who) -> Vec<String> {
    static FOUND: Mutex<BTreeMap<String, Vec<String>>> = Mutex::new(BTreeMap::new());
    let key = format!("{} {} {} {}", who.os(), who.version, who.supervised, who.is_user);
    let find = || {
        let all = items()["items"].as_object().unwrap().keys();
        let mut found: Vec<String> =
            all.filter(|item| !item.starts_with("test.") && reports(who, item)).cloned().collect();
        found.sort();
        found
    };
    FOUND.lock().unwrap().entry(key).or_insert_with(find).clone()
}

/// Whether the system has declarative management at all.
pub fn is_told(who: &Who) -> bool {
    // On iOS 15 only with User Enrollment, which simulated devices do not have.
    let old = who.os() == "iOS" && version(&who.version) < version("16");
    !old && can_have(who, super::world::ACTIVATION)
}
