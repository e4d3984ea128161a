//! The items that a device reports of itself, as Apple's table has them.
//!
//! Called by what subscribes to them, reads predicates over them and shows their values. Apple: "Status
//! Reports", `declarative/status/*.yaml`.
//!
//! **Invariant:** the table says what to expect, never what to refuse: devices report what it does not
//! have.

use serde::Deserialize;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::platform::Platform;
use super::table::{Key, Kind, Support, Table};

/// What the table says of one item.
#[derive(Deserialize)]
pub struct StatusItem {
    /// Which operating system reports it, and for whom; one that is not listed never does.
    pub os: BTreeMap<String, Support>,
    /// The type of the value.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The values that it can have, where Apple lists them.
    #[serde(default, rename = "enum")]
    pub allowed: Vec<Json>,
    /// The keys of a dictionary.
    #[serde(default)]
    pub keys: Vec<Key>,
    /// What an array's elements are.
    pub items: Option<Key>,
    /// The codes that its elements give as reasons.
    #[serde(default)]
    pub reasons: Vec<String>,
}

/// What Apple's schema says of an item, as of `device.operating-system.version`, if it knows it.
pub fn status_item(name: &str) -> Option<&'static StatusItem> {
    table().items.get(name)
}

/// The names of all items, in alphabetical order.
pub fn status_items() -> impl Iterator<Item = &'static str> {
    table().items.keys().map(String::as_str)
}

/// The items that an operating system of this version reports; of any version, if it is not known.
pub fn status_items_for(platform: Platform, version: Option<&str>) -> Vec<&'static str> {
    let reported = |item: &StatusItem| item.os.get(platform.name()).is_some_and(|os| os.includes(version));
    table().items.iter().filter(|(_, item)| reported(item)).map(|(name, _)| name.as_str()).collect()
}

fn table() -> &'static Table<StatusItem> {
    static TABLE: OnceLock<Table<StatusItem>> = OnceLock::new();
    TABLE.get_or_init(|| {
        serde_json::from_str(include_str!("data/status.json")).expect("the embedded table is read by a test")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::table::{Enrollment, Scope};

    #[test]
    fn the_table_has_every_item() {
        assert_eq!(status_items().count(), 62);
        let version = status_item("device.operating-system.version").unwrap();
        assert_eq!((version.kind, version.os["tvOS"].since.as_deref()), (Kind::String, Some("16.0")));
        assert_eq!(version.os["iOS"].shared_scopes(), Some(&[Scope::System, Scope::User][..]));
        let apps = status_item("mdm.app").unwrap();
        let element = apps.items.as_ref().unwrap();
        assert_eq!((apps.kind, element.keys[0].name.as_str()), (Kind::Array, "identifier"));
        assert!(!apps.os["watchOS"].enrollments.as_ref().unwrap().contains(&Enrollment::User));
        assert!(status_item("device.unheardof").is_none());
    }

    #[test]
    fn an_operating_system_reports_what_its_version_knows() {
        let old = status_items_for(Platform::Ios, Some("15.7"));
        assert!(old.contains(&"device.model.family") && !old.contains(&"passcode.is-compliant"));
        assert!(status_items_for(Platform::Ios, Some("16.0")).contains(&"passcode.is-compliant"));
        let all = status_items_for(Platform::TvOs, None);
        assert!(all.contains(&"mdm.push-token") && !all.contains(&"passcode.is-compliant"));
        assert!(status_items_for(Platform::MacOs, Some("12.7")).is_empty());
    }
}
