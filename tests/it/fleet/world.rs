//! What the administrator wrote, as the test remembers it, and who the devices are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use russet::simulator::Kind;
use serde_json::{Value as Json, json};

use super::condition::Condition;

pub const ACTIVATION: &str = "com.apple.activation.simple";

/// Everything that was written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    pub declarations: BTreeMap<String, Declared>,
    pub groups: BTreeMap<String, Group>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    pub declaration_type: &'static str,
    /// Without the condition of an activation.
    pub payload: Json,
    pub predicate: Option<Condition>,
    pub touched: u32,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    pub order: i64,
    pub rule: Option<Condition>,
    pub predicate: Option<Condition>,
    pub members: BTreeSet<String>,
    pub declarations: BTreeSet<String>,
}

/// A channel, and what is known of it.
#[derive(Clone, Debug)]
pub struct Who {
    pub id: String,
    pub device_id: String,
    pub is_user: bool,
    pub kind: Kind,
    pub version: String,
    pub supervised: bool,
    pub serial: String,
    pub tags: BTreeSet<String>,
    pub passcode: bool,
    pub filevault: bool,
}

impl Declared {
    pub fn kind(&self) -> &'static str {
        ["activation", "configuration", "asset", "management"]
            .into_iter()
            .find(|kind| self.declaration_type.starts_with(&format!("com.apple.{kind}.")))
            .unwrap()
    }

    /// What it names, by the two ways that the test knows.
    pub fn names(&self) -> Vec<&str> {
        let configurations = self.payload["StandardConfigurations"].as_array();
        let asset = self.payload["UserIdentityAssetReference"].as_str();
        configurations.into_iter().flatten().filter_map(Json::as_str).chain(asset).collect()
    }

    /// The payload as devices get it.
    pub fn whole_payload(&self) -> Json {
        let mut payload = self.payload.clone();
        if let Some(predicate) = &self.predicate {
            payload["Predicate"] = predicate.text().into();
        }
        payload
    }

    pub fn body(&self, identifier: &str) -> Json {
        json!({"Type": self.declaration_type, "Identifier": identifier, "Payload": self.whole_payload()})
    }
}

impl Group {
    pub fn body(&self) -> Json {
        let text = |condition: &Option<Condition>| condition.as_ref().map(Condition::text);
        json!({
            "order": self.order,
            "rule": text(&self.rule),
            "predicate": text(&self.predicate),
            "members": self.members,
            "declarations": self.declarations,
        })
    }
}

impl World {
    /// Who uses a declaration, so that it cannot go.
    pub fn is_used(&self, identifier: &str) -> bool {
        self.groups.values().any(|group| group.declarations.contains(identifier))
            || self.declarations.values().any(|other| other.names().contains(&identifier))
    }

    /// All of it as the folder that `russet apply` reads.
    pub fn write(&self, folder: &Path) {
        let write = |kind: &str, name: &str, body: &Json| {
            let folder = folder.join(kind);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(format!("{name}.json")), body.to_string()).unwrap();
        };
        if folder.exists() {
            std::fs::remove_dir_all(folder).unwrap();
        }
        self.declarations.iter().for_each(|(name, of)| write("declarations", name, &of.body(name)));
        self.groups.iter().for_each(|(name, group)| write("groups", name, &group.body()));
    }
}

impl Who {
    pub fn os(&self) -> &'static str {
        match self.kind {
            Kind::IPhone | Kind::IPad => "iOS",
            Kind::Mac => "macOS",
            Kind::AppleTv => "tvOS",
            Kind::Watch => "watchOS",
            Kind::Vision => "visionOS",
        }
    }

    pub fn product(&self) -> &'static str {
        match self.kind {
            Kind::IPhone => "iPhone17,3",
            Kind::IPad => "iPad15,7",
            Kind::Mac => "Mac16,12",
            Kind::AppleTv => "AppleTV14,1",
            Kind::Watch => "Watch7,8",
            Kind::Vision => "RealityDevice14,1",
        }
    }

    /// What the device would say of a status item, whether or not its system has it.
    pub fn says(&self, item: &str) -> Json {
        match item {
            "device.model.family" => self.product().split(|c: char| c.is_ascii_digit()).next().into(),
            "device.operating-system.version" => self.version.as_str().into(),
            "passcode.is-present" => self.passcode.into(),
            "diskmanagement.filevault.enabled" => self.filevault.into(),
            other => panic!("the test has no value of {other}"),
        }
    }

    /// What the server knows by a bare key.
    pub fn key(&self, name: &str, by_hand: &[&str]) -> Option<Json> {
        Some(match name {
            "serial_number" => self.serial.as_str().into(),
            "product_name" => self.product().into(),
            "os_version" => self.version.as_str().into(),
            "platform" => self.os().into(),
            "channel" => if self.is_user { "user" } else { "device" }.into(),
            "tags" => json!(self.tags),
            "groups" => json!(by_hand),
            _ => return None,
        })
    }
}
