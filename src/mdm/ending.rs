//! When the identities of devices end, and what became of their renewals.
//!
//! `expiry` shows it, `renewal` asks who lacks a TLS root, and `server` whether anybody still does. The
//! questions are about several tables at once, so this file reads tables that others own and writes none.
//!
//! **Invariant:** every word of an [`Attempt`] may be shown: what a device said is printable and cut.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;

use crate::clock::{Seconds, rfc3339};
use crate::enroll::{refused_renewal, session};
use crate::error::Result;
use crate::id;
use crate::pki::identity::Fingerprint;

/// How many characters of a device's answer are shown.
const LONGEST_ANSWER: usize = 300;

/// When the newest profile was made that the device `e` has: the one that it enrolled with, or a renewal
/// that it installed. One that it renewed for itself (it ends when it begins) brought no profile.
const PROFILE_AT: &str = "MAX(
    COALESCE((SELECT created_at FROM sessions WHERE id = e.session_id), 0),
    COALESCE((SELECT MAX(created_at) FROM sessions
              WHERE renews = e.id AND enrollment_id IS NOT NULL AND expires_at > created_at), 0))";

/// When the oldest of the profiles was made that enrolled devices have now; the end of time while there
/// are no devices.
pub fn oldest_profile(conn: &Connection) -> Result<Seconds> {
    let oldest: Option<Seconds> = conn
        .prepare_cached(&format!(
            "SELECT MIN({PROFILE_AT}) FROM enrollments AS e WHERE state = 'enrolled' AND channel = 'device'"
        ))?
        .query_row([], |row| row.get(0))?;
    Ok(oldest.unwrap_or(Seconds::MAX))
}

/// Devices whose profile was made at `moment` or earlier.
pub fn profiles_until(conn: &Connection, moment: Seconds) -> Result<Vec<String>> {
    let mut statement = conn.prepare_cached(&format!(
        "SELECT id FROM enrollments AS e
         WHERE state = 'enrolled' AND channel = 'device' AND {PROFILE_AT} <= ?1 ORDER BY id"
    ))?;
    Ok(statement.query_map([moment], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Whether this device's profile was made at `moment` or earlier.
pub(super) fn has_profile_until(conn: &Connection, device_id: &str, moment: Seconds) -> Result<bool> {
    Ok(conn
        .prepare_cached(&format!("SELECT 1 FROM enrollments AS e WHERE id = ?1 AND {PROFILE_AT} <= ?2"))?
        .exists(params![device_id, moment])?)
}

/// The newest identity of an enrolled device.
#[derive(Clone, Debug)]
pub struct Ending {
    pub enrollment_id: String,
    pub name: Option<String>,
    pub serial_number: Option<String>,
    pub last_seen_at: Option<Seconds>,
    pub fingerprint: Fingerprint,
    pub session_id: String,
    pub not_after: Seconds,
}

/// The newest identity of each enrolled device, in the order of their IDs.
pub fn identities(conn: &Connection) -> Result<Vec<Ending>> {
    let mut statement = conn.prepare_cached(
        "SELECT e.id, e.name, e.serial_number, c.last_seen_at, i.fingerprint, i.session_id, MAX(i.not_after)
         FROM enrollments AS e
         JOIN identities AS i ON i.enrollment_id = e.id AND i.state = 'pinned'
         LEFT JOIN contacts AS c ON c.enrollment_id = e.id
         WHERE e.state = 'enrolled' AND e.channel = 'device'
         GROUP BY e.id ORDER BY e.id",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(Ending {
            enrollment_id: row.get(0)?,
            name: row.get(1)?,
            serial_number: row.get(2)?,
            last_seen_at: row.get(3)?,
            fingerprint: row.get(4)?,
            session_id: row.get(5)?,
            not_after: row.get(6)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The last renewal that a device was sent and has not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When it was sent.
    pub at: Seconds,
    /// Whether it came to nothing.
    pub failed: bool,
    /// What was answered, a sentence.
    pub answer: String,
    /// When it is tried again.
    pub next_at: Seconds,
}

/// What became of the renewal of this identity; nothing while none was sent.
pub fn attempt(conn: &Connection, of: &Ending, now: Seconds) -> Result<Option<Attempt>> {
    let device = of.enrollment_id.as_str();
    let Some(sent) = session::newest_renewal(conn, device)?.filter(|sent| sent.id != of.session_id) else {
        return Ok(None);
    };
    let command = conn
        .prepare_cached(
            "SELECT status, sent_at, answered_at, error_chain FROM commands
             WHERE enrollment_id = ?1 AND purpose = 'renewal' ORDER BY id DESC LIMIT 1",
        )?
        .query_row([device], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, Option<Seconds>>(1)?,
                row.get::<_, Option<Seconds>>(2)?,
                row.get::<_, Option<String>>(3)?,
            ))
        })
        .optional()?;
    let refused = refused_renewal::last(conn, device)?.filter(|refused| refused.at >= sent.created_at);
    let (status, sent_at, answered_at, chain) =
        command.unwrap_or_else(|| ("Canceled".into(), None, None, None));
    let waiting = matches!(status.as_str(), "Pending" | "Sent" | "NotNow");
    let at = |moment: Option<Seconds>| moment.map_or_else(String::new, |at| format!(" at {}", rfc3339(at)));
    let (mut failed, mut answer) = match status.as_str() {
        "Pending" => (false, "The device has not come for it yet.".to_owned()),
        "Sent" => (false, format!("The device took it{} and has not answered.", at(sent_at))),
        "NotNow" => (false, "The device answered NotNow; it is offered again.".to_owned()),
        "Acknowledged" => (
            true,
            format!("The device answered Acknowledged{} and does not use a new identity.", at(answered_at)),
        ),
        "Expired" | "Canceled" => (true, "The device never came for it.".to_owned()),
        other => {
            let said = chain.as_deref().map(first_error).unwrap_or_default();
            (true, format!("The device answered {other}{}{said}.", at(answered_at)))
        }
    };
    if let Some(refused) = refused {
        failed = true;
        answer.push_str(&format!(" SCEP refused its request at {}: {}.", rfc3339(refused.at), refused.words));
    }
    let next_at = session::renewal_next(&sent, waiting, of.not_after < now);
    Ok(Some(Attempt { at: sent.created_at, failed, answer, next_at }))
}

/// The first error of a chain, as ` (domain code: words)`.
fn first_error(chain: &str) -> String {
    let chain: Value = serde_json::from_str(chain).unwrap_or_default();
    let first = &chain[0];
    let text = |key: &str| match &first[key] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let words = if first["USEnglishDescription"].is_string() {
        text("USEnglishDescription")
    } else {
        text("LocalizedDescription")
    };
    let said = format!("{} {}: {words}", text("ErrorDomain"), text("ErrorCode"));
    let said: String = id::printable(said.trim_matches([' ', ':'])).chars().take(LONGEST_ANSWER).collect();
    if said.is_empty() { said } else { format!(" ({})", said.trim_end_matches('.')) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::tests::temporary;

    #[test]
    fn what_a_device_answered_is_one_printable_line() {
        let chain = r#"[{"ErrorDomain": "MDM", "ErrorCode": 12021, "LocalizedDescription": "no\nthanks."}]"#;
        let said = first_error(chain);
        assert!(said.starts_with(" (MDM 12021: no") && !said.contains('\n'), "{said}");
        assert_eq!(first_error("[]"), "");
        assert!(first_error(&format!(r#"[{{"LocalizedDescription": "{}"}}]"#, "x".repeat(9000))).len() < 400);
    }

    #[test]
    fn without_devices_everybody_has_every_root() {
        let (_folder, store) = temporary();
        assert_eq!(store.peek(oldest_profile).unwrap(), Seconds::MAX);
    }
}
