//! Power cuts: the server is killed at random moments under load, twenty times (THREATS D5 42).
//!
//! What a device was answered 200 for has to be there afterwards, in a database that is whole. What
//! was under way may be there or not.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use plist::{Dictionary, Value};
use russet::clock::Clock;
use russet::mdm::escrow::{self, Kind as Secret};
use russet::mdm::queue::{self, New, Purpose};
use russet::pki::seal::Seal;
use russet::simulator::{Channel, Device, Kind};
use russet::storage::Store;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::support::{Appliance, Process, TOPIC};

const CUTS: u64 = 20;
const DEVICES: usize = 4;
/// Commands that are queued for each device before each start.
const COMMANDS: usize = 12;
/// A cut comes after so many acknowledged writes at the most.
const MOST_WRITES: u64 = 60;

/// One device and what it was acknowledged.
struct Witness {
    device: Device,
    /// The number in the latest bootstrap token that was acknowledged.
    escrowed: u64,
    /// The number in the latest push token that was acknowledged.
    token: u64,
    /// Commands whose reports were acknowledged.
    reported: Vec<String>,
    number: u64,
}

fn token(number: u64) -> Vec<u8> {
    number.to_be_bytes().repeat(4)
}

fn number(token: &[u8]) -> u64 {
    u64::from_be_bytes(token[..8].try_into().unwrap())
}

impl Witness {
    /// Writes in every way that a device can until the server is gone.
    async fn write_until_it_is_gone(&mut self, server: &str, written: &Arc<AtomicU64>, wake: &Notify) {
        let udid = self.device.udid.clone();
        loop {
            self.number += 1;
            let mut message = Dictionary::new();
            message.insert("UDID".into(), udid.as_str().into());
            let (is_escrow, bytes) = (self.number.is_multiple_of(2), Value::Data(token(self.number)));
            if is_escrow {
                message.insert("MessageType".into(), "SetBootstrapToken".into());
                message.insert("BootstrapToken".into(), bytes);
            } else {
                message.insert("MessageType".into(), "TokenUpdate".into());
                message.insert("Token".into(), bytes);
                message.insert("PushMagic".into(), "magic".into());
                message.insert("Topic".into(), TOPIC.into());
            }
            let body = russet::plist::to_xml(&Value::Dictionary(message));
            let url = format!("{server}/mdm/checkin");
            let Ok(reply) = self.device.put(&url, "application/x-apple-aspen-mdm-checkin", body).await else {
                return;
            };
            match (reply.status, is_escrow) {
                (200, true) => self.escrowed = self.number,
                (200, false) => self.token = self.number,
                // A hundred TokenUpdates a minute are allowed; then it is told to wait.
                (503, false) => {}
                (status, _) => unreachable!("answered {status}"),
            }
            if reply.status == 200 {
                written.fetch_add(1, Ordering::SeqCst);
            }
            wake.notify_one();
            let Ok(command) = self.device.idle(Channel::Device).await else { return };
            let Some(command) = command else { continue };
            let mut report = Dictionary::new();
            report.insert("UDID".into(), udid.as_str().into());
            report.insert("Status".into(), "Acknowledged".into());
            report.insert("CommandUUID".into(), command.uuid.as_str().into());
            if self.device.send_report("report", report).await.is_err() {
                return;
            }
            self.reported.push(command.uuid);
            written.fetch_add(1, Ordering::SeqCst);
            wake.notify_one();
        }
    }

    fn is_remembered(&self, store: &Store, seal: &Seal) {
        let udid = &self.device.udid;
        store
            .peek(|conn| {
                let kept = escrow::current(conn, seal, udid, Secret::BootstrapToken)?.expect("a token");
                assert!(
                    self.escrowed == 0 || number(&kept) >= self.escrowed,
                    "{udid} lost a bootstrap token"
                );
                let sql = "SELECT push_token FROM enrollments WHERE id = ?1";
                let kept: Vec<u8> = conn.query_row(sql, [udid], |row| row.get(0))?;
                assert!(self.token == 0 || number(&kept) >= self.token, "{udid} lost a push token");
                for uuid in &self.reported {
                    let sql = "SELECT status FROM commands WHERE enrollment_id = ?1 AND uuid = ?2";
                    let status: String = conn.query_row(sql, [udid, uuid], |row| row.get(0))?;
                    assert_eq!(status, "Acknowledged", "{udid} lost a report");
                }
                Ok(())
            })
            .unwrap();
    }
}

/// A script that queues commands over the socket until the server is gone; answers what was taken.
async fn queue_until_it_is_gone(
    socket: &Path,
    udid: &str,
    written: &AtomicU64,
    wake: &Notify,
) -> Vec<String> {
    let mut taken = Vec::new();
    loop {
        let body = "{\"RequestType\": \"ProfileList\"}";
        let request = format!(
            "POST /api/v1/enrollments/{udid}/commands HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut answer = String::new();
        let Ok(mut stream) = UnixStream::connect(socket).await else { return taken };
        if stream.write_all(request.as_bytes()).await.is_err()
            || stream.read_to_string(&mut answer).await.is_err()
        {
            return taken;
        }
        let Some((head, body)) = answer.split_once("\r\n\r\n") else { return taken };
        assert!(head.starts_with("HTTP/1.1 20"), "{answer}");
        // A whole answer was taken; what broke off may or may not have been.
        let Ok(body) = serde_json::from_str::<serde_json::Value>(body) else { return taken };
        taken.push(body["uuid"].as_str().unwrap().to_owned());
        written.fetch_add(1, Ordering::SeqCst);
        wake.notify_one();
    }
}

async fn queue(store: &Store, seal: &Seal, udid: String) {
    let seal = seal.clone();
    let queued = store.write("test.queue", move |tx| {
        for _ in 0..COMMANDS {
            let uuid = russet::id::uuid();
            let command = serde_json::json!({"RequestType": "SecurityInfo", "CommandUUID": uuid});
            let request = russet::schema::commands::from_json(&command, true)?;
            let new = New {
                uuid: &request.uuid,
                request_type: &request.request_type,
                request: &request.plist,
                secret: false,
                urgent: false,
                purpose: Purpose::Asked,
                queued_by: "test",
                expires_at: None,
            };
            queue::enqueue(tx, &seal, &udid, &new)?;
        }
        Ok(())
    });
    queued.await.unwrap();
}

/// 42: twenty power cuts, and not one acknowledged write is missing.
#[tokio::test(flavor = "multi_thread")]
async fn twenty_power_cuts_lose_no_acknowledged_write() {
    let mut appliance = Appliance::at(Clock::system(), |_| {}).await;
    appliance.import_push_certificate(TOPIC).await;
    let mut witnesses = Vec::new();
    for _ in 0..DEVICES {
        let device = appliance.enroll(Kind::Mac).await;
        witnesses.push(Witness { device, escrowed: 0, token: 0, reported: Vec::new(), number: 0 });
    }
    let away = appliance.enroll(Kind::IPhone).await;
    let server = appliance.config.server.public_url.to_string();
    let config = appliance.hand_over().await;
    let folder = appliance.config.data_dir.clone();
    let seal = Seal::open(&folder, None, false).unwrap();
    // Of a device that never comes, so that its queue only grows.
    let clerks = away.udid.clone();
    let (mut total, mut taken) = (0, Vec::new());
    for cut in 0..CUTS {
        let store = Store::open(&folder, Clock::system()).unwrap();
        for witness in &witnesses {
            queue(&store, &seal, witness.device.udid.clone()).await;
        }
        drop(store);

        let process = Process::start(&config, "warn", &[]);
        let (written, wake) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
        let mut writing = JoinSet::new();
        for mut witness in witnesses.drain(..) {
            let (server, written, wake) = (server.clone(), written.clone(), wake.clone());
            writing.spawn(async move {
                witness.write_until_it_is_gone(&server, &written, &wake).await;
                witness
            });
        }
        let clerk = {
            let (written, wake) = (written.clone(), wake.clone());
            let (socket, udid) = (folder.join(russet::server::SOCKET), clerks.clone());
            tokio::spawn(async move { queue_until_it_is_gone(&socket, &udid, &written, &wake).await })
        };
        let enough = 1 + u64::from_be_bytes(russet::id::random()) % MOST_WRITES;
        while written.load(Ordering::SeqCst) < enough && !writing.is_empty() {
            wake.notified().await;
        }
        let log = process.kill();
        witnesses = writing.join_all().await;
        taken.extend(clerk.await.unwrap());
        total += written.load(Ordering::SeqCst);
        assert!(!log.contains("panicked"), "{log}");

        let store = Store::open(&folder, Clock::system()).unwrap();
        let whole: String =
            store.peek(|conn| Ok(conn.query_row("PRAGMA integrity_check", [], |row| row.get(0))?)).unwrap();
        assert_eq!(whole, "ok", "after cut {cut}");
        for witness in &witnesses {
            witness.is_remembered(&store, &seal);
        }
        for uuid in &taken {
            let sql = "SELECT COUNT(*) FROM commands WHERE uuid = ?1";
            let kept = store.peek(|conn| Ok(conn.query_row(sql, [uuid], |row| row.get::<_, i64>(0))?));
            assert_eq!(kept.unwrap(), 1, "a command that was taken is lost");
        }
    }
    assert!(!taken.is_empty());
    assert!(total >= CUTS, "{total} writes were acknowledged");
}
