//! The declarations that the server makes itself.
//!
//! For everybody: a subscription to all that the device can report, within an activation; what this
//! server can do; whose device it is; and its tags, groups and shard as properties that predicates can
//! read. For each group: an activation of the configurations that no other activation names; and for each set of
//! apps one that holds while the set is active.
//!
//! **Invariant:** their identifiers begin with [`PREFIX`], and nobody else's do.

use rusqlite::Connection;
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeSet;

use super::app_set::{self, AppSet};
use super::declaration::token;
use super::group::Ranked;
use super::manifest::Item;
use super::subject::Subject;
use super::{generation, status};
use crate::error::Result;
use crate::id;
use crate::schema::declarations::Kind;
use crate::schema::status::status_items_for;
use crate::storage::Tx;

/// A device names about sixty status items; one that invents names would fill the disk with them.
const MOST_ITEMS: usize = 200;
const LONGEST_ITEM: usize = 128;

/// The type of declarations that predicates read as `@property(…)`.
pub(super) const PROPERTIES: &str = "com.apple.management.properties";
/// How the server's own identifiers begin.
pub const PREFIX: &str = "russet.";
/// What is asked of a device that has not said yet what it can report.
const FIRST: [&str; 11] = [
    "device.identifier.serial-number",
    "device.identifier.udid",
    "device.model.family",
    "device.model.identifier",
    "device.model.marketing-name",
    "device.model.number",
    "device.operating-system.build-version",
    "device.operating-system.family",
    "device.operating-system.marketing-name",
    "device.operating-system.version",
    "passcode.is-compliant",
];

/// `[organization]`, as far as devices are told.
#[derive(Clone, Debug, Default)]
pub struct Organization {
    pub name: String,
    pub email: String,
}

/// Tells all devices whose they are; at each start, since the configuration may have changed. Nobody
/// is woken for it.
///
/// # Errors
/// The database's.
pub fn set_organization(tx: &Tx<'_>, organization: &Organization) -> Result<()> {
    let mut payload = Map::new();
    if !organization.name.is_empty() {
        payload.insert("Name".into(), organization.name.as_str().into());
        if !organization.email.is_empty() {
            payload.insert("Email".into(), organization.email.as_str().into());
        }
    }
    let payload = Json::Object(payload).to_string();
    if generation::organization(tx)? == payload {
        return Ok(());
    }
    generation::set_organization(tx, &payload)?;
    generation::advance(tx, false)
}

/// What a channel says it supports.
#[derive(Default)]
pub(super) struct Capabilities {
    /// The types of declarations, of all kinds.
    pub(super) types: Option<BTreeSet<String>>,
    status_items: Option<BTreeSet<String>>,
}

impl Capabilities {
    pub(super) fn of(conn: &Connection, enrollment_id: &str) -> Result<Self> {
        let Some(said) = status::value(conn, enrollment_id, "management.client-capabilities")? else {
            return Ok(Self::default());
        };
        let payloads = &said["supported-payloads"];
        let texts = |list: &Json| -> Option<BTreeSet<String>> {
            Some(list.as_array()?.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect())
        };
        let kinds = payloads["declarations"].as_object();
        let types = kinds.map(|kinds| kinds.values().filter_map(texts).flatten().collect());
        Ok(Self { types, status_items: texts(&payloads["status-items"]) })
    }

    /// What to subscribe to. Items for tests cost a device and tell nobody anything, unless somebody's
    /// predicate reads them.
    fn subscription(&self, subject: &Subject, for_tests: &BTreeSet<String>) -> BTreeSet<String> {
        if let Some(items) = &self.status_items {
            let sane = |item: &&String| {
                item.len() <= LONGEST_ITEM && (!item.starts_with("test.") || for_tests.contains(*item))
            };
            return items.iter().filter(sane).take(MOST_ITEMS).cloned().collect();
        }
        let known = subject.platform.map(|platform| status_items_for(platform, subject.version.as_deref()));
        let first = FIRST.iter().filter(|item| known.as_ref().is_none_or(|known| known.contains(item)));
        first.map(|item| (*item).to_owned()).collect()
    }
}

/// For everybody.
pub(super) fn items(
    subject: &Subject,
    capabilities: &Capabilities,
    groups: &[String],
    sets: Option<Vec<String>>,
    organization: &Map<String, Json>,
    for_tests: &BTreeSet<String>,
) -> Vec<Item> {
    let subscription: Vec<Json> =
        capabilities.subscription(subject, for_tests).into_iter().map(|name| json!({"Name": name})).collect();
    let mut items = vec![
        item(
            "com.apple.management.server-capabilities",
            "server-capabilities",
            &json!({"Version": "1.0.0", "SupportedFeatures": {}}),
        ),
        item(PROPERTIES, "properties", &properties(subject, groups, sets).into()),
    ];
    if !subscription.is_empty() {
        items.push(item(
            "com.apple.configuration.management.status-subscriptions",
            "status",
            &json!({"StatusItems": subscription}),
        ));
        items.push(item(
            "com.apple.activation.simple",
            "activation",
            &json!({"StandardConfigurations": [format!("{PREFIX}status")]}),
        ));
    }
    if !organization.is_empty() {
        items.push(item(
            "com.apple.management.organization-info",
            "organization",
            &organization.clone().into(),
        ));
    }
    items
}

/// The activation of a group's configurations; they are in order.
pub(super) fn activation(group: &Ranked, configurations: &[&str]) -> Item {
    let hash = id::hex(&id::sha256(group.name.as_bytes())[..16]);
    let mut payload = json!({"StandardConfigurations": configurations});
    if let Some(predicate) = &group.predicate {
        payload["Predicate"] = predicate.as_str().into();
    }
    item("com.apple.activation.simple", &format!("group.{hash}"), &payload)
}

/// The activation of a set's configurations on the devices of a group; they are in order.
pub(super) fn activation_of_set(set: &AppSet, group: &Ranked, configurations: &[&str]) -> Item {
    let name = format!("{}\0{}", set.name, group.name);
    let hash = id::hex(&id::sha256(name.as_bytes())[..16]);
    let mut predicate = set.predicate();
    if let Some(condition) = &group.predicate {
        predicate = format!("{predicate} AND ({condition})");
    }
    let payload = json!({"StandardConfigurations": configurations, "Predicate": predicate});
    item("com.apple.activation.simple", &format!("set.{hash}"), &payload)
}

/// The payload of a channel's `management.properties`; `sets` are the active ones, if any concern it.
pub(super) fn properties(
    subject: &Subject,
    groups: &[String],
    sets: Option<Vec<String>>,
) -> Map<String, Json> {
    let mut properties = Map::new();
    properties.insert("tags".into(), subject.tags.clone().into());
    properties.insert("groups".into(), groups.into());
    properties.insert("shard".into(), shard(&subject.id).into());
    if let Some(sets) = sets {
        properties.insert(app_set::PROPERTY.into(), sets.into());
    }
    properties
}

/// A number from 0 to 100 that stays with a channel, for rollouts in steps: FNV-1 modulo 101, as KMFDDM
/// has it.
fn shard(enrollment_id: &str) -> u32 {
    let hash = enrollment_id
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| hash.wrapping_mul(0x0100_0193) ^ u32::from(byte));
    hash % 101
}

/// A declaration that the server makes; `name` follows its prefix.
pub(super) fn item(declaration_type: &str, name: &str, payload: &Json) -> Item {
    let identifier = format!("{PREFIX}{name}");
    let kind = Kind::of(declaration_type).unwrap_or(Kind::Management);
    let server_token = token(kind, declaration_type, &identifier, &[&payload.to_string()]);
    let body = json!({
        "Type": declaration_type,
        "Identifier": identifier,
        "ServerToken": server_token,
        "Payload": payload,
    });
    Item { kind, identifier, declaration_type: declaration_type.to_owned(), server_token, own: Some(body) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_the_one_that_kmfddm_computes() {
        // FNV-1, 32 bits: the published values of these texts.
        for (text, hash) in [("", 0x811c_9dc5_u32), ("a", 0x050c_5d7e), ("foobar", 0x31f0_b262)] {
            assert_eq!(shard(text), hash % 101, "{text}");
        }
    }
}
