//! What `doctor` says of the webhook.

use super::Webhook;
use crate::clock::{DAY, HOUR, rfc3339};
use crate::error::Result;
use crate::finding::{Finding, Severity};
use crate::mdm::outbox;

/// How long something waits before it is late, though the target takes what it is sent.
const LATE: i64 = HOUR;
/// How long a loss is told of.
const REMEMBERED: i64 = 7 * DAY;

/// Everything that is to be said of the webhook; nothing where there is none.
///
/// # Errors
/// The database's.
pub fn findings(webhook: &Webhook) -> Result<Vec<Finding>> {
    let Some(inner) = &webhook.0 else { return Ok(Vec::new()) };
    let (subject, now) = (inner.target.shown(), inner.store.clock().now());
    let (state, oldest) = inner.store.peek(|conn| Ok((outbox::state(conn)?, outbox::oldest(conn)?)))?;
    let waits = oldest.map_or(0, |oldest| now - oldest);
    let mut found = Vec::new();
    if state.attempts > 0 && state.waiting > 0 {
        found.push(Finding {
            code: "webhook-fails",
            subject: subject.clone(),
            // A restart of the target is no failure yet.
            severity: if waits > LATE { Severity::Failing } else { Severity::Warning },
            seen: state.last_failure.clone().unwrap_or_else(|| "The webhook was not told.".into()),
            means: format!(
                "{} events wait to be told; each is given up after {} days.",
                state.waiting,
                outbox::LONGEST / DAY
            ),
            remedy: "Look after the target, then try it: russet webhook test.".into(),
        });
    } else if waits > LATE || state.waiting > outbox::MOST / 2 || state.bytes > outbox::MOST_BYTES / 2 {
        found.push(Finding {
            code: "webhook-behind",
            subject: subject.clone(),
            severity: Severity::Warning,
            seen: format!(
                "{} events wait to be told, the oldest since {}.",
                state.waiting,
                oldest.map_or_else(|| "just now".into(), rfc3339)
            ),
            means: "The target takes them more slowly than they happen; what is too much is lost.".into(),
            remedy: "Make the target answer sooner, best before it does its work.".into(),
        });
    }
    if let Some(at) = state.dropped_at.filter(|at| now - at < REMEMBERED) {
        found.push(Finding {
            code: "webhook-dropped",
            subject: subject.clone(),
            severity: Severity::Warning,
            seen: format!("{} events were never told, the last of them at {}.", state.dropped, rfc3339(at)),
            means: "What the target knows of devices may be incomplete.".into(),
            remedy: "Have it read what it needs from the API: GET /api/v1/enrollments and …/commands.".into(),
        });
    }
    if found.is_empty() {
        let seen = match state.last_success_at {
            Some(at) => format!("The webhook was told everything, last at {}.", rfc3339(at)),
            None => "There was nothing to tell the webhook yet.".into(),
        };
        found.push(Finding::ok("webhook-delivers", subject, seen));
    }
    Ok(found)
}
