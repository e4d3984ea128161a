//! The payloads of configuration profiles: what is unusual in one.
//!
//! Apple's table is older than some payloads, and macOS takes the domain of any app as a PayloadType, so
//! nothing here refuses: [`remarks`] only says what is probably a slip.
//!
//! **Invariant:** a remark names keys and types, never values: they may be secret.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::nearest::suggestion;
use super::table::{Key, Kind, Table};
use crate::id::printable;
use crate::plist::{Dictionary, Value, kind};

/// The keys that every payload has.
const COMMON: [&str; 7] = [
    "PayloadType",
    "PayloadIdentifier",
    "PayloadUUID",
    "PayloadVersion",
    "PayloadDisplayName",
    "PayloadDescription",
    "PayloadOrganization",
];
/// Nobody reads more of one payload.
const MOST: usize = 10;

/// What is unusual in a payload of this type, as sentences without its place.
pub fn remarks(payload_type: &str, payload: &Dictionary) -> Vec<String> {
    let table = table();
    let Some(keys) = table.get(payload_type) else {
        let did_you_mean = suggestion(payload_type, table.keys().map(String::as_str));
        return vec![format!(
            "Apple's schema has no payload type {:?}; macOS takes it for the preferences of an app.{did_you_mean}",
            printable(payload_type)
        )];
    };
    let mut remarks = Vec::new();
    if keys.iter().any(|key| key.name == "*") {
        return remarks;
    }
    for (name, value) in payload.iter().filter(|(name, _)| !COMMON.contains(&name.as_str())) {
        match keys.iter().find(|key| key.name == *name) {
            None => {
                let did_you_mean = suggestion(name, keys.iter().map(|key| key.name.as_str()));
                remarks.push(format!(
                    "Apple's schema has no key {:?} in {payload_type}.{did_you_mean}",
                    printable(name)
                ));
            }
            Some(key) if !fits(key.kind, value) => {
                remarks.push(format!(
                    "{name} of {payload_type} should be {}, not {}.",
                    words(key.kind),
                    kind(value)
                ));
            }
            Some(_) => {}
        }
    }
    for key in keys.iter().filter(|key| key.required && !payload.contains_key(&key.name)) {
        remarks.push(format!("{payload_type} lacks {}, which devices need.", key.name));
    }
    remarks.truncate(MOST);
    remarks
}

fn fits(wanted: Kind, value: &Value) -> bool {
    match wanted {
        Kind::String => value.as_string().is_some(),
        Kind::Bool => value.as_boolean().is_some(),
        Kind::Int => value.as_signed_integer().is_some() || value.as_unsigned_integer().is_some(),
        Kind::Real => value.as_real().is_some() || value.as_signed_integer().is_some(),
        Kind::Data => value.as_data().is_some(),
        Kind::Date => value.as_date().is_some(),
        Kind::Array => value.as_array().is_some(),
        Kind::Dict => value.as_dictionary().is_some(),
        Kind::Any => true,
    }
}

/// As a property list calls it.
fn words(wanted: Kind) -> &'static str {
    match wanted {
        Kind::String => "a string",
        Kind::Bool => "a boolean",
        Kind::Int => "an integer",
        Kind::Real => "a real",
        Kind::Data => "data",
        Kind::Date => "a date",
        Kind::Array => "an array",
        Kind::Dict => "a dictionary",
        Kind::Any => "anything",
    }
}

fn table() -> &'static BTreeMap<String, Vec<Key>> {
    static TABLE: OnceLock<Table<Vec<Key>>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        serde_json::from_str(include_str!("data/profiles.json"))
            .expect("the embedded table is read by a test")
    });
    &table.items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_noticed_and_what_is_usual_is_not() {
        assert!(table().len() > 100);
        let wifi = |name: &str, value: Value| {
            let mut payload = Dictionary::new();
            payload.insert("PayloadType".into(), "com.apple.wifi.managed".into());
            payload.insert(name.into(), value);
            remarks("com.apple.wifi.managed", &payload)
        };
        assert_eq!(wifi("SSID_STR", "School".into()), Vec::<String>::new());
        let [slip] = &wifi("SSID_STRG", "School".into())[..] else { panic!() };
        assert!(slip.contains("Did you mean \"SSID_STR\"?"), "{slip}");
        let [wrong] = &wifi("HIDDEN_NETWORK", "secret".into())[..] else { panic!() };
        assert!(wrong.contains("a boolean, not a string") && !wrong.contains("secret"), "{wrong}");
        assert!(remarks("com.apple.wifi.manged", &Dictionary::new())[0].contains("com.apple.wifi.managed"));
    }
}
