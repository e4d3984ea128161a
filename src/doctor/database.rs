//! Whether the database is whole.

use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::finding::{Finding, Severity};
use crate::storage::Store;

/// A large database on a slow card takes its time; the rest is looked at the next day.
const PATIENCE: Duration = Duration::from_secs(8);
/// A log that is never copied back means that somebody reads without an end.
const LARGE_LOG: u64 = 256 * 1024 * 1024;

pub(super) fn findings(store: &Store) -> Vec<Finding> {
    let path = store.path();
    let subject = path.display().to_string();
    let size = std::fs::metadata(path).map(|known| known.len()).unwrap_or_default();
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let log = std::fs::metadata(log).map(|known| known.len()).unwrap_or_default();
    let mut found = vec![match check(path) {
        Ok(None) => Finding::ok("database", subject.clone(), format!("It is whole, and has {} MiB.", size / (1024 * 1024))),
        Ok(Some(words)) if words == "interrupted" => {
            Finding::ok("database", subject.clone(), format!("It has {} MiB, and no fault was found in 8 seconds.", size / (1024 * 1024)))
        }
        Ok(Some(words)) => Finding {
            code: "database-damaged",
            subject: subject.clone(),
            severity: Severity::Failing,
            seen: format!("The database is damaged: {}.", crate::id::printable(&words)),
            means: "What it says may be wrong, and writing to it may make it worse.".into(),
            remedy: "Stop the server and put the last backup back: russet restore. Keep the damaged file; it is moved aside.".into(),
        },
        Err(error) => Finding {
            code: "database-unreadable",
            subject: subject.clone(),
            severity: Severity::Failing,
            seen: format!("The database cannot be read: {error}."),
            means: "Nothing can be answered to devices.".into(),
            remedy: "See whether the disk is still whole: dmesg; then put the last backup back: russet restore.".into(),
        },
    }];
    if log > LARGE_LOG {
        found.push(Finding {
            code: "database-log",
            subject,
            severity: Severity::Warning,
            seen: format!("Its log has {} MiB.", log / (1024 * 1024)),
            means: "Something reads the database without an end, so the log cannot be copied back.".into(),
            remedy: "End other programs that have the file open, then start the server again.".into(),
        });
    }
    found
}

/// The first fault; none if there is none, `interrupted` if there was no time to look at all of it.
fn check(path: &std::path::Path) -> rusqlite::Result<Option<String>> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let handle = connection.get_interrupt_handle();
    let (done, waits) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if waits.recv_timeout(PATIENCE).is_err() {
            handle.interrupt();
        }
    });
    let said = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    let _ = done.send(());
    let _ = watch.join();
    match said {
        Ok(words) if words == "ok" => Ok(None),
        Ok(words) => Ok(Some(words)),
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted) => {
            Ok(Some("interrupted".to_owned()))
        }
        Err(error) => Err(error),
    }
}
