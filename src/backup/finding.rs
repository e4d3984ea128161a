//! What `doctor` says of backups and of the recovery key.

use rusqlite::Connection;

use super::{Backups, kept, recovery_key};
use crate::clock::{DAY, HOUR, Seconds, rfc3339};
use crate::error::Result;
use crate::finding::{Finding, Severity};

/// How long after its time a backup is late.
const LATE: Seconds = 12 * HOUR;

/// Everything that is to be said of backups.
///
/// # Errors
/// The database's.
pub fn findings(backups: &Backups) -> Result<Vec<Finding>> {
    let now = backups.0.store.clock().now();
    let every = backups.0.settings.every;
    let directory = backups.directory().map(|directory| directory.display().to_string());
    let key_is_here = backups.recovery_key_path().exists();
    backups.0.store.peek(|conn| {
        let mut found = match &directory {
            Some(directory) => vec![of_schedule(conn, directory, now, every)?],
            None => vec![of_hand(conn, now)?],
        };
        found.extend(of_key(conn, key_is_here)?);
        Ok(found)
    })
}

fn of_schedule(conn: &Connection, directory: &str, now: Seconds, every: Seconds) -> Result<Finding> {
    let failed = kept::newest(conn)?.and_then(|newest| newest.error);
    let good = kept::last_success(conn)?;
    Ok(match (failed, good) {
        (Some(words), good) => Finding {
            code: "backup-failed",
            subject: directory.into(),
            severity: Severity::Failing,
            seen: format!("The last backup could not be made: {words}."),
            means: match good {
                Some(good) => format!("What happened since {} is in no backup.", rfc3339(good.at)),
                None => "If this disk breaks, every device has to be enrolled again.".into(),
            },
            remedy: "Mend what it says, then make one by hand: russet backup.".into(),
        },
        (None, None) => {
            none(directory, "Wait for the first, or make one by hand: russet backup.", Severity::Warning)
        }
        (None, Some(good)) if now > good.at + every + LATE => Finding {
            code: "backup-old",
            subject: directory.into(),
            severity: Severity::Warning,
            seen: format!("The last backup is of {}.", rfc3339(good.at)),
            means: "What happened since then is in no backup.".into(),
            remedy: "See that the server runs all day, then make one by hand: russet backup.".into(),
        },
        (None, Some(good)) if !good.verified => unverified(&good.name),
        (None, Some(good)) => Finding::ok(
            "backup-made",
            directory,
            format!("The last backup is of {} and was opened again.", rfc3339(good.at)),
        ),
    })
}

/// Without a folder somebody makes them by hand, or nobody does.
fn of_hand(conn: &Connection, now: Seconds) -> Result<Finding> {
    let remedy = "Write [backup] directory in russet.toml, on a disk of its own; docs/backup.md says how.";
    Ok(match kept::last_success(conn)? {
        None => none("russet.toml", remedy, Severity::Warning),
        Some(good) if now > good.at + 30 * DAY => Finding {
            code: "backup-old",
            subject: good.name,
            severity: Severity::Warning,
            seen: format!("The last backup was made by hand at {}.", rfc3339(good.at)),
            means: "What happened since then is in no backup.".into(),
            remedy: remedy.into(),
        },
        Some(good) if !good.verified => unverified(&good.name),
        Some(good) => Finding::ok(
            "backup-made",
            good.name,
            format!("A backup was made by hand at {}.", rfc3339(good.at)),
        ),
    })
}

fn none(subject: &str, remedy: &str, severity: Severity) -> Finding {
    Finding {
        code: "backup-none",
        subject: subject.into(),
        severity,
        seen: "There is no backup of this server.".into(),
        means: "If its disk breaks, every device has to be enrolled again.".into(),
        remedy: remedy.into(),
    }
}

fn unverified(name: &str) -> Finding {
    Finding {
        code: "backup-unverified",
        subject: name.into(),
        severity: Severity::Info,
        seen: "The last backup was not opened again after it was written.".into(),
        means: "The recovery key is not on this machine, so only you can try whether it opens.".into(),
        remedy: "Restore it into an empty folder with --data-dir and --key-file, once in a while.".into(),
    }
}

fn of_key(conn: &Connection, is_here: bool) -> Result<Option<Finding>> {
    let Some(known) = recovery_key::known(conn)? else { return Ok(None) };
    if known.written_down_at.is_some() {
        return Ok(None);
    }
    let (seen, remedy) = if is_here {
        (
            "Nobody said yet that the recovery key was written down.",
            "Write down the line in recovery-key.txt in the data folder, keep it apart from this machine, and say so on \
             the page at /recovery-key.",
        )
    } else {
        (
            "The recovery key is not in the data folder, and nobody said that it was written down.",
            "Look for recovery-key.txt; if it is lost, put a new one there (age-keygen -o recovery-key.txt) and restart.",
        )
    };
    Ok(Some(Finding {
        code: "recovery-key-not-written-down",
        subject: known.public_key,
        severity: Severity::Warning,
        seen: seen.into(),
        means: "If this machine is lost, the backups open with nothing.".into(),
        remedy: remedy.into(),
    }))
}
