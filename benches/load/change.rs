//! One declaration that every device has is changed: how long until all is right, and what it takes.
//!
//! The change is made through the API of the running server. That every channel's token is right is seen
//! in its database; pushes are counted by the stand-in for APNs, and for each device in the database.
//!
//! **Invariant:** a device that was pushed twice, or not at all, ends the whole run.

use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use crate::client::{Address, Expected};
use crate::declared::{EVERYBODYS, body};
use crate::prepare::Prepared;
use crate::process::Process;
use crate::requests::Request;
use crate::{Failed, Result};

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a change took.
pub(crate) struct Change {
    pub(crate) enrollments: usize,
    /// Until the administrator had the answer.
    pub(crate) answered: Duration,
    /// Until every channel had its new token.
    pub(crate) right: Duration,
    /// Until every push was answered.
    pub(crate) pushed: Duration,
    pub(crate) pushes: usize,
    pub(crate) cpu: Duration,
    /// Bytes that the server had written to the disk.
    pub(crate) written: u64,
}

/// Changes the declaration and waits.
pub(crate) async fn measure(prepared: &Prepared, server: &Process, address: &Address) -> Result<Change> {
    let file = prepared.config.with_file_name("data").join(russet::storage::FILE);
    let look = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    look.busy_timeout(Duration::from_secs(5))?;
    let count = |sql: &str| -> Result<usize> {
        Ok(usize::try_from(look.query_row(sql, [], |row| row.get::<_, i64>(0))?)?)
    };
    let before = prepared.pushes();
    let (cpu, written) = (server.cpu()?, server.written()?);
    let mut connection = address.connect().await?;
    let head =
        format!("PUT /api/v1/declarations/{EVERYBODYS} HTTP/1.1\r\nAuthorization: Bearer {}", prepared.token);
    let text = body(EVERYBODYS, &russet::id::uuid()).to_string();
    let request = Request::new(&head, "application/json", text.as_bytes(), Expected::Something);

    let began = Instant::now();
    connection.ask(&request.bytes, request.expected).await?;
    let answered = began.elapsed();
    let behind = "SELECT COUNT(*) FROM syncs WHERE generation < (SELECT generation FROM generations)";
    while count(behind)? > 0 {
        wait(began).await?;
    }
    let right = began.elapsed();
    let enrollments = prepared.enrolled.len();
    while prepared.pushes() - before < enrollments {
        wait(began).await?;
    }
    let pushed = began.elapsed();
    // Whoever were pushed a second time would be by now.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let pushes = prepared.pushes() - before;
    let once = count("SELECT COUNT(*) FROM wakes WHERE attempts = 1")?;
    if (pushes, once) != (enrollments, enrollments) {
        let words =
            format!("{pushes} pushes went out to {enrollments} devices, of which {once} got exactly one");
        return Err(Failed(words).into());
    }
    Ok(Change {
        enrollments,
        answered,
        right,
        pushed,
        pushes,
        cpu: server.cpu()?.saturating_sub(cpu),
        written: server.written()?.saturating_sub(written),
    })
}

async fn wait(began: Instant) -> Result<()> {
    if began.elapsed() > PATIENCE {
        return Err(Failed("a changed declaration did not reach everybody within five minutes".into()).into());
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    Ok(())
}
