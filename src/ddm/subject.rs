//! Who asks: what `mdm` knows of a channel, as far as it decides about declarations.
//!
//! **Invariant:** two subjects that are equal get the same set from the same database.

use serde_json::{Map, Value as Json};
use std::collections::BTreeSet;

use crate::schema::declarations::Target;
use crate::schema::platform::Platform;
use crate::schema::table::{Enrollment, Scope};

/// The bare keys that a group's rule may read: what the API shows of an enrollment.
pub const KEYS: [&str; 27] = [
    "id",
    "type",
    "channel",
    "parent_id",
    "udid",
    "serial_number",
    "name",
    "model",
    "model_name",
    "product_name",
    "os_version",
    "build_version",
    "supervised",
    "awaiting_configuration",
    "state",
    "topic",
    "groups",
    "tags",
    "user_short_name",
    "user_long_name",
    "enrolled_at",
    "unenroll_at",
    "last_seen_at",
    "last_push_at",
    "can_be_pushed",
    "claims",
    "platform",
];

/// A channel of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// The enrollment ID.
    pub id: String,
    /// That of its device: itself, for a device channel.
    pub device_id: String,
    /// By [`KEYS`]; what is not known is not in it. Of a user, what the user does not say is the device's.
    pub keys: Map<String, Json>,
    pub tags: Vec<String>,
    pub platform: Option<Platform>,
    pub version: Option<String>,
    pub enrollment: Enrollment,
    pub channel: Scope,
    pub shared_ipad: bool,
    /// It cannot be told now: its system is too old, or it waits in Setup Assistant.
    pub held: bool,
}

impl Subject {
    /// What the tables of declarations are held against; nothing when not even the system is known.
    pub(super) fn target(&self, supported: Option<BTreeSet<String>>) -> Option<Target> {
        Some(Target {
            platform: self.platform?,
            version: self.version.clone(),
            enrollment: self.enrollment,
            channel: self.channel,
            shared_ipad: self.shared_ipad,
            supported,
        })
    }
}
