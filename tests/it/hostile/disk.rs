//! No room, no writing, somebody else's lock (THREATS D5 43).

use std::process::Command;

use russet::clock::Clock;
use russet::server::App;
use russet::simulator::{Channel, Kind};
use serde_json::json;

use super::{say, token_update};
use crate::support::{Appliance, Process, TOPIC};

/// Changes how the writer's connection may write from now on.
async fn pragma(appliance: &Appliance, pragma: &'static str) {
    appliance
        .app()
        .store
        .write("test.pragma", move |tx| {
            tx.prepare(pragma)?.query([])?.next()?;
            Ok(())
        })
        .await
        .unwrap();
}

/// Writes until it is refused; answers how many were acknowledged and the words of the refusal.
async fn write_until_refused(appliance: &Appliance) -> (usize, String) {
    for done in 0..1000 {
        let written = appliance
            .app()
            .store
            .write("test.fill", move |tx| {
                tx.execute(
                    "INSERT INTO facts (name, value) VALUES (?1, ?2)",
                    (format!("fill-{done}"), "x".repeat(4000)),
                )?;
                Ok(())
            })
            .await;
        if let Err(error) = written {
            return (done, error.chain());
        }
    }
    unreachable!("it was never refused");
}

/// 43: full: said in words, nothing that was acknowledged is lost, and it works again.
#[tokio::test]
async fn a_full_disk_is_said_in_words_and_loses_nothing_that_was_acknowledged() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let udid = phone.udid.clone();
    pragma(&appliance, "PRAGMA max_page_count = 1").await;
    let (acknowledged, words) = write_until_refused(&appliance).await;
    assert!(words.contains("the disk is full") && words.contains("free space"), "{words}");

    let mut update = token_update(&udid);
    update.insert("UnlockToken".into(), plist::Value::Data(vec![1; 60_000]));
    assert_eq!(say(&appliance, &mut phone, update.clone()).await, 500, "not acknowledged");
    assert_eq!(
        super::tell(&appliance, &mut phone, super::report("Idle", &udid, [])).await.0,
        200,
        "what needs no room goes on"
    );

    pragma(&appliance, "PRAGMA max_page_count = 1073741823").await;
    assert_eq!(say(&appliance, &mut phone, update).await, 200);
    let kept: i64 = appliance.value("SELECT COUNT(*) FROM facts WHERE name LIKE ?1", "fill-%");
    assert_eq!(usize::try_from(kept).unwrap(), acknowledged);
    let uuid = appliance.send(&udid, json!({"RequestType": "SecurityInfo"})).await;
    phone.connect(Channel::Device).await.unwrap();
    assert_eq!(appliance.status(&udid, &uuid), "Acknowledged");
}

/// 43: a card that went read-only.
#[tokio::test]
async fn a_read_only_disk_is_said_in_words_and_reading_goes_on() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::Mac).await;
    let udid = phone.udid.clone();
    pragma(&appliance, "PRAGMA query_only = ON").await;
    assert_eq!(say(&appliance, &mut phone, token_update(&udid)).await, 500);
    let refused = appliance
        .app()
        .store
        .write("test.write", |tx| Ok(tx.execute("INSERT INTO facts (name, value) VALUES ('a', 'b')", [])?))
        .await
        .unwrap_err()
        .chain();
    assert!(refused.contains("read-only") && refused.contains("writable"), "{refused}");
    assert_eq!(phone.stored_bootstrap_token().await.unwrap(), Some(phone.bootstrap_token.clone()));
    assert!(phone.connect(Channel::Device).await.is_ok());
}

/// 43: the real process, at the edge of what it may write: EFBIG as from a full disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_may_write_no_more_says_so_and_goes_on_when_it_may() {
    let mut appliance = Appliance::at(Clock::system(), |_| {}).await;
    appliance.import_push_certificate(TOPIC).await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let udid = phone.udid.clone();
    let config = appliance.hand_over().await;
    // The signal that comes with it is ignored, as service managers do; then writing fails.
    let limited = ["prlimit", "--fsize=300000:unlimited", "sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"];
    let process = Process::start(&config, "info", &limited);
    let mut last = 0;
    let mut refused = false;
    for number in 1..=90_u8 {
        let mut update = token_update(&udid);
        update.insert("UnlockToken".into(), plist::Value::Data(vec![number; 20_000]));
        match say(&appliance, &mut phone, update).await {
            200 => last = number,
            status => {
                assert_eq!(status, 500);
                refused = true;
                break;
            }
        }
    }
    assert!(refused && last > 0, "{last}");
    let raised =
        Command::new("prlimit").args([&format!("--pid={}", process.id()), "--fsize=unlimited"]).status();
    assert!(raised.unwrap().success());
    let mut update = token_update(&udid);
    update.insert("UnlockToken".into(), plist::Value::Data(vec![200; 20_000]));
    assert_eq!(say(&appliance, &mut phone, update).await, 200);
    let log = process.kill();
    assert!(log.contains("disk") && log.contains("nothing was written"), "{log}");

    let store = russet::storage::Store::open(&appliance.config.data_dir, Clock::system()).unwrap();
    let kept: i64 = store
        .peek(|conn| {
            let sql = "SELECT COUNT(*) FROM escrow WHERE enrollment_id = ?1 AND kind = 'unlock-token'";
            Ok(conn.query_row(sql, [&udid], |row| row.get(0))?)
        })
        .unwrap();
    assert_eq!(kept, i64::from(last) + 2, "the first, all that were acknowledged, and the last");
}

/// 43: another program holds the database: what has to be written is refused, what is read goes on, and
/// nothing is to be done about it afterwards.
#[tokio::test]
async fn a_database_that_another_program_locks_is_said_in_words_and_reading_goes_on() {
    let mut appliance = Appliance::start().await;
    let mut mac = appliance.enroll(Kind::Mac).await;
    let udid = mac.udid.clone();
    // It is not waited for here; in life it is, for five seconds.
    pragma(&appliance, "PRAGMA busy_timeout = 0").await;
    let other = rusqlite::Connection::open(appliance.app().store.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for _ in 0..3 {
        assert_eq!(say(&appliance, &mut mac, token_update(&udid)).await, 500, "not acknowledged");
        assert_eq!(super::tell(&appliance, &mut mac, super::report("Idle", &udid, [])).await.0, 200);
        assert_eq!(mac.stored_bootstrap_token().await.unwrap(), Some(mac.bootstrap_token.clone()));
    }
    let refused = appliance.app().store.write("test.write", |_| Ok(())).await.unwrap_err().chain();
    assert!(refused.contains("lock"), "{refused}");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(say(&appliance, &mut mac, token_update(&udid)).await, 200);
}

/// 43: a copy of the folder beside the original has a lock of its own, and cannot take the original's port.
#[tokio::test]
async fn a_clone_beside_the_original_is_whole_and_takes_nothing_from_it() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(&appliance.config.data_dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
    }
    let mut config = appliance.config.clone();
    config.data_dir = folder.path().to_owned();
    let lock = russet::storage::Lock::take(folder.path()).expect("the copy's lock is its own");
    let clone = App::open(&config, lock, appliance.clock.clone()).await.unwrap();
    let state = |conn: &rusqlite::Connection| {
        let whole: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        let sql = "SELECT state FROM enrollments WHERE id = ?1";
        Ok((whole, conn.query_row(sql, [&phone.udid], |row| row.get::<_, String>(0))?))
    };
    assert_eq!(clone.store.peek(state).unwrap(), ("ok".into(), "enrolled".into()));
    let refused = clone.serve().await.err().expect("two servers on one port").to_string();
    assert!(refused.contains("in use"), "{refused}");
    phone.connect(Channel::Device).await.unwrap();
}

/// 43: a second server on the same folder.
#[tokio::test]
async fn a_second_server_on_the_same_folder_is_refused() {
    let appliance = Appliance::start().await;
    let refused = russet::storage::Lock::take(&appliance.config.data_dir).unwrap_err().to_string();
    assert!(refused.contains("another russet"), "{refused}");
}
