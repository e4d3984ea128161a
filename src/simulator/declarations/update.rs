//! Software updates that a declaration enforces (Apple: `softwareupdate.enforcement.specific`).
//!
//! The update is downloaded and prepared from one connection to the next, and installed when its
//! TargetLocalDateTime has come; devices live in UTC here. What is enforced no longer is forgotten.
//!
//! **Invariant:** a device never goes back to an older version.

use serde_json::Value as Json;

use super::capabilities::compare_versions;
use crate::clock::{parse_rfc3339, rfc3339};
use crate::simulator::device::{Channel, Device};

/// An update on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The version that it leads to.
    pub version: String,
    /// Its build.
    pub build: String,
    /// The declaration that enforces it.
    pub declaration: String,
    /// TargetLocalDateTime.
    pub deadline: String,
    /// `downloading`, `prepared`, `installing` or `failed`.
    pub state: &'static str,
    /// How often it failed, why, and when.
    pub failure: Option<(u64, String, String)>,
}

impl Device {
    /// Takes up the newest enforced version that is newer than the device's.
    pub(super) fn follow_updates(&mut self) {
        let enforced = self.declarations.in_effect("softwareupdate.enforcement.specific");
        let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
        let newest = enforced
            .map(|(identifier, declaration)| (identifier.clone(), &declaration.payload))
            .filter(|(_, payload)| {
                compare_versions(&text(&payload["TargetOSVersion"]), &self.os_version).is_gt()
            })
            .max_by(|(_, one), (_, other)| {
                compare_versions(&text(&one["TargetOSVersion"]), &text(&other["TargetOSVersion"]))
            });
        let Some((declaration, payload)) = newest else {
            self.update = None;
            return;
        };
        let (version, deadline) = (text(&payload["TargetOSVersion"]), text(&payload["TargetLocalDateTime"]));
        let build = payload["TargetBuildVersion"].as_str().map(str::to_owned);
        let build = build.unwrap_or_else(|| self.build_of(&version));
        match &mut self.update {
            Some(update) if update.version == version && update.build == build => {
                (update.declaration, update.deadline) = (declaration, deadline);
            }
            _ => {
                let state = "downloading";
                self.update = Some(Update { version, build, declaration, deadline, state, failure: None });
            }
        }
    }

    /// One step further, as time does it; answers whether there was one.
    pub(in crate::simulator) fn continue_update(&mut self) -> bool {
        let now = self.clock.now();
        let Some(update) = &self.update else { return false };
        let is_time = parse_rfc3339(&format!("{}Z", update.deadline)).is_none_or(|deadline| deadline <= now);
        if update.state == "prepared" && !is_time {
            return false;
        }
        match self.update_fault.clone().filter(|_| update.state == "installing") {
            Some(fault) => self.fail_update(&fault),
            None => return self.advance_update(),
        }
        true
    }

    /// One step further, whatever the time: downloading, prepared, installing, installed. A failed
    /// update begins again.
    pub fn advance_update(&mut self) -> bool {
        let Some(update) = &mut self.update else { return false };
        match update.state {
            "downloading" => update.state = "prepared",
            "prepared" => update.state = "installing",
            "installing" => {
                (self.os_version, self.build_version) = (update.version.clone(), update.build.clone());
                self.update = None;
            }
            _ => update.state = "downloading",
        }
        true
    }

    /// Lets the update fail, as for want of space.
    pub fn fail_update(&mut self, reason: &str) {
        let now = rfc3339(self.clock.now());
        if let Some(update) = &mut self.update {
            let count = update.failure.as_ref().map_or(0, |(count, ..)| *count) + 1;
            update.state = "failed";
            update.failure = Some((count, reason.to_owned(), now));
        }
    }

    /// What follows a connection: the update goes on, and what changed on the device is reported.
    pub(in crate::simulator) async fn follow_up(
        &mut self,
        channel: Channel,
    ) -> Result<(), super::super::Fault> {
        if self.engine(channel).reported.is_none() || !self.is_enrolled() {
            return Ok(());
        }
        if channel == Channel::Device {
            self.continue_update();
        }
        self.report_changes(channel).await.map(drop)
    }

    /// A build in the form of Apple's: a number for the major version, a letter for the minor one.
    fn build_of(&self, version: &str) -> String {
        let part = |text: &str, at: usize| {
            text.split('.').nth(at).and_then(|part| part.parse().ok()).unwrap_or(0u32)
        };
        let digits: String = self.build_version.chars().take_while(char::is_ascii_digit).collect();
        let series =
            (digits.parse().unwrap_or(0) + part(version, 0)).saturating_sub(part(&self.os_version, 0));
        let letter = char::from(b'A' + u8::try_from(part(version, 1).min(25)).unwrap_or(25));
        format!("{series}{letter}{}", 50 + part(version, 2))
    }
}
