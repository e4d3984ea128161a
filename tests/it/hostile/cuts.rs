//! Power cuts while devices enroll and push certificates are imported (THREATS D5 42).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;
use russet::apns::{Apns, Push, certificate as push_certificates};
use russet::clock::Clock;
use russet::pki::seal::Seal;
use russet::simulator::{Kind, push_certificate};
use russet::storage::Store;
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::support::{Appliance, Process, TOPIC, over_socket};

const CUTS: u64 = 3;
/// Devices that enroll at the same time, so that a cut finds each at another step.
const AT_ONCE: usize = 3;
/// A cut comes after so many acknowledged enrollments and imports at the most.
const MOST: u64 = 6;

fn count(conn: &Connection, sql: &str) -> russet::error::Result<i64> {
    Ok(conn.query_row(sql, [], |row| row.get(0))?)
}

/// Nothing that belongs together is there by half, whatever was under way.
fn is_whole(store: &Store) {
    store
        .peek(|conn| {
            let checked: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
            assert_eq!(checked, "ok");
            for (half, sql) in [
                (
                    "a device without its identity",
                    "SELECT COUNT(*) FROM enrollments e WHERE channel = 'device' AND NOT EXISTS
                     (SELECT 1 FROM identities i WHERE i.enrollment_id = e.id AND i.state = 'pinned')",
                ),
                (
                    "an identity in use without its device",
                    "SELECT COUNT(*) FROM identities i WHERE state = 'pinned' AND NOT EXISTS
                     (SELECT 1 FROM enrollments e WHERE e.id = i.enrollment_id)",
                ),
                (
                    "an identity without its session",
                    "SELECT COUNT(*) FROM identities i WHERE NOT EXISTS
                     (SELECT 1 FROM sessions s WHERE s.id = i.session_id)",
                ),
                (
                    "a device without its push token",
                    "SELECT COUNT(*) FROM enrollments WHERE state = 'enrolled' AND push_token IS NULL",
                ),
                (
                    "a topic without one current push certificate",
                    "SELECT COUNT(*) FROM (SELECT 1 FROM push_certificates GROUP BY topic HAVING SUM(current) <> 1)",
                ),
            ] {
                assert_eq!(count(conn, sql)?, 0, "{half}");
            }
            Ok(())
        })
        .unwrap();
}

/// The push certificate and its key belong together: Apple's stand-in lets us in with them.
async fn can_push(store: &Store, seal: &Seal, appliance: &Appliance) {
    let (server, trust) = (appliance.config.apns.server.to_string(), appliance.config.apns.trust.as_deref());
    let apns = Apns::open(store, seal, &server, trust, &Clock::system()).unwrap();
    let push = Push { topic: TOPIC.into(), token: vec![1; 32], magic: "magic".into() };
    let answered = apns.push(&push).await.to_json();
    assert!(answered["status"].is_number(), "{answered}");
}

/// What was acknowledged before the cut.
#[derive(Default)]
struct Acknowledged {
    devices: Vec<String>,
    serial_numbers: Vec<String>,
}

/// Counts what was acknowledged and wakes whoever decides when to cut.
#[derive(Default)]
struct Counter {
    done: AtomicU64,
    more: Notify,
}

impl Counter {
    fn one(&self) {
        self.done.fetch_add(1, Ordering::SeqCst);
        self.more.notify_one();
    }

    async fn reach(&self, enough: u64) {
        while self.done.load(Ordering::SeqCst) < enough {
            self.more.notified().await;
        }
    }
}

/// 42: what was acknowledged is there, and of the rest nothing by half.
#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_while_devices_enroll_and_certificates_are_imported_leave_nothing_half() {
    let mut appliance = Appliance::at(Clock::system(), |_| {}).await;
    appliance.import_push_certificate(TOPIC).await;
    let link = appliance.invite(1000).await;
    let config = appliance.hand_over().await;
    let folder = appliance.config.data_dir.clone();
    let seal = Seal::open(&folder, None, false).unwrap();
    let mut all = Acknowledged::default();
    for _ in 0..CUTS {
        let process = Process::start(&config, "warn", &[]);
        let counter = Arc::new(Counter::default());
        let mut enrolling = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (link, counter) = (link.clone(), counter.clone());
            // Made here, since the appliance counts them; more than are needed before any cut.
            let devices: Vec<_> = (0..=MOST).map(|_| appliance.device(Kind::IPhone)).collect();
            enrolling.spawn(async move {
                let mut enrolled = Vec::new();
                for mut device in devices {
                    if device.enroll(&link).await.is_err() {
                        break;
                    }
                    enrolled.push(device.udid.clone());
                    counter.one();
                }
                enrolled
            });
        }
        let importing = tokio::spawn({
            let (folder, counter) = (folder.clone(), counter.clone());
            async move {
                let mut serial_numbers = Vec::new();
                loop {
                    let (certificate, key) = push_certificate(TOPIC).unwrap();
                    let body = json!({"certificate": certificate, "private_key": key});
                    let Some((status, made)) =
                        over_socket(&folder, "POST", "/api/v1/push-certificates", Some(body)).await
                    else {
                        return serial_numbers;
                    };
                    assert_eq!(status, 201, "{made}");
                    serial_numbers.push(made["serial_number"].as_str().unwrap().to_owned());
                    counter.one();
                }
            }
        });
        counter.reach(1 + u64::from_be_bytes(russet::id::random()) % MOST).await;
        let log = process.kill();
        assert!(!log.contains("panicked"), "{log}");
        all.devices.extend(enrolling.join_all().await.concat());
        all.serial_numbers.extend(importing.await.unwrap());

        let store = Store::open(&folder, Clock::system()).unwrap();
        is_whole(&store);
        can_push(&store, &seal, &appliance).await;
        store
            .peek(|conn| {
                for udid in &all.devices {
                    let sql = "SELECT state FROM enrollments WHERE id = ?1";
                    let state: String = conn.query_row(sql, [udid], |row| row.get(0))?;
                    assert_eq!(state, "enrolled", "{udid}");
                }
                let kept = push_certificates::list(conn)?;
                for serial_number in &all.serial_numbers {
                    assert!(kept.iter().any(|one| one.serial_number == *serial_number), "{serial_number}");
                }
                Ok(())
            })
            .unwrap();
    }
    assert!(all.devices.len() + all.serial_numbers.len() >= usize::try_from(CUTS).unwrap());
    let _process = Process::start(&config, "warn", &[]);
    appliance.device(Kind::IPad).enroll(&link).await.unwrap();
}
