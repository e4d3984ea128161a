//! Declarations as they may look, made from the table.
//!
//! Called by pages and tests that show or need one of a type.
//!
//! **Invariant:** an example is accepted by [`super::check`] without `force`.

use serde_json::{Map, Value as Json, json};

use super::{Kind, alternatives, declaration};
use crate::schema::table::{self, Key};

/// A declaration of this type with only the keys that must be there; nothing for types that the table
/// does not know.
pub fn example(declaration_type: &str) -> Option<Json> {
    written(declaration_type, false)
}

/// As [`example`], with every key that there is.
pub fn whole_example(declaration_type: &str) -> Option<Json> {
    written(declaration_type, true)
}

fn written(declaration_type: &str, whole: bool) -> Option<Json> {
    let kind = Kind::of(declaration_type)?;
    let keys = &declaration(declaration_type)?.keys;
    let mut payload = dict(keys, whole);
    let first = alternatives(declaration_type).first().filter(|_| !whole);
    for key in keys.iter().filter(|key| first.is_some_and(|first| key.name == *first)) {
        payload.insert(key.name.clone(), value(key, whole));
    }
    let (_, last) = declaration_type.split_once(kind.name())?;
    Some(json!({"Type": declaration_type, "Identifier": format!("org.example{last}"), "Payload": payload}))
}

fn dict(keys: &[Key], whole: bool) -> Map<String, Json> {
    let wanted = keys.iter().filter(|key| key.required || whole);
    wanted
        .map(|key| {
            let name = if key.name == "*" { "org.example.name" } else { &key.name };
            (name.to_owned(), value(key, whole))
        })
        .collect()
}

fn value(key: &Key, whole: bool) -> Json {
    if let Some(first) = key.allowed.first() {
        return first.clone();
    }
    if let Some(first) = key.values.first() {
        return first.name.clone().into();
    }
    let [least, most] = key.range.unwrap_or([None, None]);
    let number = least.or(most).unwrap_or(1.0);
    match key.kind {
        table::Kind::String => string(key).into(),
        table::Kind::Bool => true.into(),
        // What is printed without a fraction is read as a whole number.
        table::Kind::Int => number.to_string().parse::<i64>().map_or(1.into(), Json::from),
        table::Kind::Real => number.into(),
        table::Kind::Data => "UnVzc2V0".into(),
        table::Kind::Date => "2026-12-01T12:00:00Z".into(),
        table::Kind::Array => {
            // An array of what it lies in itself ends here.
            let is_endless = key.items.first().is_some_and(|item| item.same_as.is_some());
            let least = key.repeat.and_then(|[least, _]| least).unwrap_or(1).max(1);
            let count = if is_endless { 0 } else { least };
            vec![element(key, whole); count].into()
        }
        table::Kind::Dict => dict(&key.keys, whole).into(),
        table::Kind::Any => "any".into(),
    }
}

fn element(key: &Key, whole: bool) -> Json {
    match key.items.first() {
        // Elements have no name, and it may be the array that names assets.
        Some(item) if item.kind == table::Kind::String && item.allowed.is_empty() => string(key).into(),
        Some(item) => value(item, whole),
        None => "any".into(),
    }
}

/// Something that looks like what the key is called.
fn string(key: &Key) -> String {
    if let Some(asset) = key.assets.first() {
        return asset.replace("com.apple", "org.example");
    }
    match key.name.as_str() {
        "StandardConfigurations" => "org.example.configuration".to_owned(),
        "Predicate" => "@status(device.model.family) == 'Mac'".to_owned(),
        "TargetOSVersion" => "26.1".to_owned(),
        "TargetLocalDateTime" => "2026-12-01T12:00:00".to_owned(),
        "ServiceType" => "com.apple.sshd".to_owned(),
        "ContentType" => "application/json".to_owned(),
        "Name" => "device.model.family".to_owned(),
        name if name.ends_with("URL") => "https://example.org/".to_owned(),
        name if name.contains("Email") => "someone@example.org".to_owned(),
        name if name.contains("Host") => "example.org".to_owned(),
        _ => "example".to_owned(),
    }
}
