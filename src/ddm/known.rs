//! What rules are evaluated over: what `mdm` knows of a channel, and what the channel reported.
//!
//! **Invariant:** what is not known is answered as unknown, never as empty.

use rusqlite::Connection;
use serde_json::Value as Json;

use super::app_set;
use super::own;
use super::predicate::Facts;
use super::status;
use super::subject::Subject;

/// The facts of one channel.
pub(super) struct Known<'a> {
    pub(super) conn: &'a Connection,
    pub(super) subject: &'a Subject,
    /// Those by hand, since a rule decides about the others itself.
    pub(super) groups: &'a [String],
}

impl Facts for Known<'_> {
    fn status(&self, item: &str) -> Option<Json> {
        let reported = [&self.subject.id, &self.subject.device_id]
            .into_iter()
            .find_map(|id| status::value(self.conn, id, item).ok().flatten());
        reported.or_else(|| said_elsewhere(self.subject, item))
    }

    fn property(&self, name: &str) -> Option<Json> {
        let active = if name == app_set::PROPERTY {
            app_set::active(&app_set::list(self.conn, None, u32::MAX).ok()?, self.groups)
        } else {
            None
        };
        // A property that is not set is known to be none.
        Some(own::properties(self.subject, self.groups, active).remove(name).unwrap_or(Json::Null))
    }

    fn key(&self, name: &str) -> Option<Json> {
        match name {
            "groups" => Some(Json::from(self.groups)),
            "tags" => Some(self.subject.tags.clone().into()),
            name => self.subject.keys.get(name).cloned(),
        }
    }
}

/// Before its first report a device has said some of this in its check-ins.
pub(super) fn said_elsewhere(subject: &Subject, item: &str) -> Option<Json> {
    let key = match item {
        "device.identifier.serial-number" => "serial_number",
        "device.identifier.udid" => "udid",
        "device.model.identifier" => "product_name",
        "device.operating-system.version" => "os_version",
        "device.operating-system.build-version" => "build_version",
        _ => return None,
    };
    subject.keys.get(key).cloned()
}
