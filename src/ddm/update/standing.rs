//! How far a device is: what it runs, what it should run, and what it says of the way there.
//!
//! Apple: the status items `softwareupdate.*` and `device.operating-system.*`. What a policy means for
//! the device is computed as its declarations are.
//!
//! **Invariant:** what is not known is null or `unknown`, never made up.

use rusqlite::Connection;
use serde_json::{Value as Json, json};

use super::catalogue::{Catalogue, compare_builds};
use super::target::{Device, Target};
use super::{ENFORCEMENT, Updates};
use crate::clock::{Seconds, rfc3339};
use crate::ddm::group::Ranked;
use crate::ddm::status::item::values;
use crate::ddm::subject::Subject;
use crate::error::Result;
use crate::id::printable;
use crate::schema::declarations::{Target as Allowed, left_out};
use crate::schema::platform::{Platform, compare_versions};

/// Where a device stands, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has what it should have or newer, or the newest that there is for it.
    Current,
    /// It has not, and has not begun.
    Behind,
    /// The update is being downloaded, or waits for its time.
    Pending,
    Installing,
    Failed,
    /// The device has not said enough, or nothing is known of what there is for it.
    Unknown,
    /// A policy would enforce something, and there is nothing for this device.
    NoTarget,
}

impl State {
    pub const ALL: [Self; 7] = [
        Self::Current,
        Self::Behind,
        Self::Pending,
        Self::Installing,
        Self::Failed,
        Self::Unknown,
        Self::NoTarget,
    ];

    /// As the API writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Behind => "behind",
            Self::Pending => "pending",
            Self::Installing => "installing",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::NoTarget => "no_target",
        }
    }
}

/// How far one device is.
#[derive(Debug)]
pub struct Standing {
    pub state: State,
    /// As the API shows it.
    pub shown: Json,
}

/// What a device said of its updates.
#[derive(Default)]
struct Said {
    install_state: Option<String>,
    reason: Json,
    pending: Option<Json>,
    failure: Option<Json>,
    beta: Option<String>,
    at: Option<Seconds>,
}

impl Said {
    fn of(conn: &Connection, id: &str) -> Result<Self> {
        let mut said = Self { reason: json!([]), ..Self::default() };
        for item in values(conn, id, "softwareupdate.")? {
            let value = item.value.unwrap_or_default();
            let text = |value: &Json| value.as_str().filter(|text| !text.is_empty()).map(printable);
            match item.path.as_str() {
                "softwareupdate.install-state" => said.install_state = text(&value),
                "softwareupdate.install-reason" => said.reason = value["reason"].clone(),
                "softwareupdate.pending-version" => said.pending = pending(&value),
                "softwareupdate.failure-reason" => said.failure = failure(&value),
                "softwareupdate.beta-enrollment" => said.beta = text(&value),
                _ => continue,
            }
            said.at = said.at.max(Some(item.reported_at));
        }
        Ok(said)
    }
}

fn pending(value: &Json) -> Option<Json> {
    let version = value["os-version"].as_str().filter(|version| !version.is_empty())?;
    // Some versions of iOS write the name of the item before that of its member.
    let at = [&value["target-local-date-time"], &value["softwareupdate.target-local-date-time"]];
    let at = at.into_iter().find_map(Json::as_str);
    Some(json!({
        "version": printable(version),
        "build": value["build-version"].as_str().map(printable),
        "at": at.map(printable),
    }))
}

fn failure(value: &Json) -> Option<Json> {
    let count = value["count"].as_u64().filter(|count| *count > 0)?;
    let reason = value["reason"].as_str().filter(|reason| !reason.is_empty()).map(printable);
    let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
    let words = match &reason {
        Some(reason) => format!("The update failed {times}; the device says: {reason}"),
        None => format!("The update failed {times}; the device does not say why."),
    };
    Some(json!({
        "count": count,
        "reason": reason,
        "words": words,
        "at": value["timestamp"].as_str().map(printable),
    }))
}

impl Updates {
    /// How far a device is that is in these groups, beside all that Apple offers.
    pub(in crate::ddm) fn standing(
        &self,
        conn: &Connection,
        catalogue: &Catalogue,
        subject: &Subject,
        groups: &[&Ranked],
        allowed: Option<&Allowed>,
    ) -> Result<Standing> {
        let device = Device::of(conn, subject)?;
        let said = Said::of(conn, &subject.device_id)?;
        let enforced = self.enforced(&device, groups);
        let target = enforced.as_ref().and_then(|enforced| enforced.target.as_ref().ok());
        let why = enforced.as_ref().and_then(|enforced| match &enforced.target {
            Ok(target) => {
                let why = left_out(ENFORCEMENT, &target.payload(None), allowed?)?;
                Some(format!("{ENFORCEMENT} {why}"))
            }
            Err(why) => Some(why.clone()),
        });
        let target = target.filter(|_| why.is_none());
        let latest = catalogue.latest(&device.names, device.supervised, None);
        let build = subject.keys.get("build_version").and_then(Json::as_str);
        let version = device.version.as_deref();
        let wanted = target.map(|target| (target.version.as_str(), target.build.as_deref()));
        let wanted = wanted.or_else(|| latest.map(|latest| (latest.version.as_str(), None)));
        let state = match (version, wanted) {
            _ if why.is_some() => State::NoTarget,
            (None, _) | (_, None) => State::Unknown,
            (Some(version), Some(wanted)) if has(version, build, wanted) => State::Current,
            _ => on_its_way(&said),
        };
        let known = |name: &str| subject.keys.get(name);
        let shown = json!({
            "id": subject.device_id,
            "name": known("name"),
            "serial_number": known("serial_number"),
            "product_name": known("product_name"),
            "platform": device.platform.map(Platform::name),
            "state": state.word(),
            "current": {"version": version, "build": build},
            "group": enforced.as_ref().map(|enforced| enforced.policy.group.as_str()),
            "target": target.map(shown),
            "no_target": why.as_ref().map(|why| format!("Nothing is enforced: {why}.")),
            "latest": latest.map(|latest| {
                json!({"version": latest.version, "build": latest.build, "posted": latest.posted})
            }),
            "pending": said.pending,
            "install_state": said.install_state,
            "install_reason": said.reason,
            "failure": said.failure,
            "beta_program": said.beta,
            "notes": self.notes(groups, allowed),
            "reported_at": said.at.map(rfc3339),
        });
        Ok(Standing { state, shown })
    }
}

fn shown(target: &Target) -> Json {
    json!({"version": target.version, "build": target.build, "at": target.at})
}

/// Whether a device has what it should have, or newer.
fn has(version: &str, build: Option<&str>, (wanted, wanted_build): (&str, Option<&str>)) -> bool {
    let order = compare_versions(version, wanted);
    let same_build = || match (build, wanted_build) {
        (Some(build), Some(wanted)) => compare_builds(build, wanted).is_ge(),
        _ => true,
    };
    order.is_gt() || (order.is_eq() && same_build())
}

fn on_its_way(said: &Said) -> State {
    match said.install_state.as_deref() {
        Some("failed") => State::Failed,
        Some("installing") => State::Installing,
        Some("downloading" | "prepared") => State::Pending,
        // A device that tries again has not forgotten that it failed.
        _ if said.failure.is_some() => State::Failed,
        _ if said.pending.is_some() => State::Pending,
        _ => State::Behind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_than_wanted_is_current() {
        for (version, build, wanted, current) in [
            ("26.1", Some("23B85"), ("26.1", None), true),
            ("26.1", Some("23B85"), ("26.1", Some("23B85")), true),
            ("26.1", Some("23B80"), ("26.1", Some("23B85")), false),
            ("26.1", None, ("26.1", Some("23B85")), true),
            ("26.2", Some("23B80"), ("26.1", Some("23B85")), true),
            ("26.0.1", Some("23B99"), ("26.1", None), false),
            ("27.0", Some("24A1"), ("26.4", Some("23E1")), true),
        ] {
            assert_eq!(has(version, build, wanted), current, "{version} {wanted:?}");
        }
    }

    #[test]
    fn what_a_device_says_is_one_word() {
        let said = |state: &str, failed: &Json, waits: &Json| Said {
            install_state: Some(state.to_owned()),
            failure: failure(failed),
            pending: pending(waits),
            ..Said::default()
        };
        let none = json!({"os-version": "", "build-version": ""});
        for (state, failed, waits, word) in [
            ("none", json!({"count": 0}), none.clone(), State::Behind),
            ("none", json!({"count": 2, "reason": "space"}), none.clone(), State::Failed),
            ("none", json!(7), json!({"os-version": "26.1"}), State::Pending),
            ("downloading", json!({"count": 2}), none.clone(), State::Pending),
            ("prepared", json!(null), none.clone(), State::Pending),
            ("installing", json!(null), none.clone(), State::Installing),
            ("failed", json!({"count": 1}), none.clone(), State::Failed),
            ("newer-word", json!("x"), json!([1]), State::Behind),
        ] {
            assert_eq!(on_its_way(&said(state, &failed, &waits)), word, "{state}");
        }
        let failure = failure(&json!({"count": 3, "reason": "No space.\u{1b}[2J"})).unwrap();
        assert!(
            failure["words"]
                .as_str()
                .unwrap()
                .starts_with("The update failed 3 times; the device says: No space.")
        );
        assert!(!failure["reason"].as_str().unwrap().contains('\u{1b}'));
        let odd = pending(
            &json!({"os-version": "26.5", "softwareupdate.target-local-date-time": "2026-06-30T04:30:00"}),
        );
        assert_eq!(odd.unwrap()["at"], "2026-06-30T04:30:00");
    }
}
