//! Whether a device runs the version that it should.
//!
//! What is known of that: updates that are enforced on it by declaration, and the update that it says is
//! waiting.
//!
//! **Invariant:** nobody is behind before the time until which they may be.

use rusqlite::Connection;
use serde_json::Value as Json;

use super::declared::Enforced;
use super::{Fact, said};
use crate::clock::{HOUR, Seconds, parse_rfc3339};
use crate::ddm::status::{self, item};
use crate::ddm::subject::Subject;
use crate::error::Result;
use crate::schema::platform::compare_versions;

const VERSION: &str = "device.operating-system.version";
/// The latest that a local time comes, after the same time in UTC.
const LATEST_ZONE: Seconds = 12 * HOUR;

pub(super) fn current(
    conn: &Connection,
    subject: &Subject,
    enforced: &[Enforced<'_>],
    now: Seconds,
) -> Result<Fact> {
    let item = item::find(conn, &subject.id, VERSION)?;
    let since = item.as_ref().map(|item| item.reported_at);
    let reported = item.and_then(|item| item.value?.as_str().map(said)).or_else(|| subject.version.clone());
    let Some(version) = reported else {
        return Ok(Fact::new("os_current", None, "It has not said which version it runs.").noted());
    };
    let text = |name: &str| -> Result<String> {
        let value = status::value(conn, &subject.id, name)?;
        Ok(value.as_ref().and_then(Json::as_str).map(said).unwrap_or_default())
    };
    let runs = format!("It runs {}", said(&version));
    let wanted = enforced.iter().max_by(|one, other| compare_versions(one.version, other.version));
    let fact = match wanted {
        Some(wanted) if compare_versions(&version, wanted.version).is_ge() => {
            Fact::new("os_current", Some(true), format!("{runs}; {} is enforced.", wanted.version))
        }
        Some(wanted) => {
            let due = parse_rfc3339(&format!("{}Z", wanted.deadline)).map(|at| at + LATEST_ZONE);
            let is_overdue = due.is_none_or(|due| now > due);
            let mut words =
                format!("{runs}; {} is due at {} of its own time", wanted.version, wanted.deadline);
            words += if is_overdue { ", which is past." } else { "." };
            match text("softwareupdate.install-state")?.as_str() {
                "" | "none" => {}
                state => words = format!("{words} The update is at: {state}."),
            }
            let failure = text("softwareupdate.failure-reason.reason")?;
            if !failure.is_empty() {
                words = format!("{words} It failed: {failure}.");
            }
            let fact = Fact::new("os_current", Some(false), words);
            if is_overdue { fact } else { fact.noted() }
        }
        None => match text("softwareupdate.pending-version.os-version")? {
            pending if !pending.is_empty() && compare_versions(&pending, &version).is_gt() => {
                Fact::new("os_current", Some(false), format!("{runs}; {pending} waits to be installed."))
                    .noted()
            }
            _ => Fact::new("os_current", None, format!("{runs}; no declaration says which it should run."))
                .noted(),
        },
    };
    Ok(Fact { reported: version.into(), since, ..fact })
}
