//! Backups of a server at work, and what comes back from them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::StatusCode;
use russet::clock::{Clock, DAY};
use russet::simulator::{Channel, Device, Kind};
use serde_json::json;

use crate::support::{Appliance, Process, TOPIC, over_socket, settle};

/// Lets a device connect and answer for as long as it is asked to; answers how often it did.
async fn keep_coming(mut device: Device, on: Arc<AtomicBool>) -> (Device, u32) {
    let mut contacts = 0;
    while on.load(Ordering::SeqCst) {
        device.connect_all().await.unwrap();
        contacts += 1;
    }
    (device, contacts)
}

/// The Shows point: under load, killed, restored into an empty folder, and the devices go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_brings_the_devices_back_after_a_power_cut() {
    let mut appliance = Appliance::at(Clock::system(), |_| {}).await;
    appliance.import_push_certificate(TOPIC).await;
    let mut devices = Vec::new();
    for kind in [Kind::Mac, Kind::IPhone, Kind::IPad, Kind::Mac] {
        devices.push(appliance.enroll(kind).await);
    }
    let config = appliance.hand_over().await;
    let folder = appliance.config.data_dir.clone();
    let stick = folder.with_file_name("stick");
    std::fs::create_dir(&stick).unwrap();
    let text = std::fs::read_to_string(&config).unwrap() + &format!("[backup]\ndirectory = {stick:?}\n");
    std::fs::write(&config, text).unwrap();

    let process = Process::start(&config, "warn", &[]);
    let on = Arc::new(AtomicBool::new(true));
    let at_work: Vec<_> =
        devices.drain(..).map(|device| tokio::spawn(keep_coming(device, on.clone()))).collect();
    let mut names = Vec::new();
    for round in 0..3 {
        for udid in ["a", "b"] {
            // Devices that do not exist are refused while the others go on.
            let path = format!("/api/v1/enrollments/{udid}{round}/commands");
            let body = json!({"RequestType": "SecurityInfo"});
            assert_eq!(over_socket(&folder, "POST", &path, Some(body)).await.unwrap().0, 404);
        }
        // The first is made by the schedule; nobody waits longer than for it.
        let (status, made) = loop {
            let answer = over_socket(&folder, "POST", "/api/v1/backups", None).await.unwrap();
            if answer.0 != 409 {
                break answer;
            }
        };
        assert_eq!((status, &made["verified"]), (201, &json!(true)), "{made}");
        names.push(made["name"].as_str().unwrap().to_owned());
    }
    on.store(false, Ordering::SeqCst);
    for coming in at_work {
        let (device, contacts) = coming.await.unwrap();
        assert!(contacts > 0, "no device waits for a backup");
        devices.push(device);
    }
    // Asked for after the last backup, and answered: a restored server must not ask again.
    let late = &devices[0].udid;
    let path = format!("/api/v1/enrollments/{late}/commands");
    over_socket(&folder, "POST", &path, Some(json!({"RequestType": "SecurityInfo"}))).await.unwrap();
    let log = process.kill();
    assert!(!log.contains("panicked"), "{log}");

    let key = folder.with_file_name("on-paper.txt");
    std::fs::copy(folder.join("recovery-key.txt"), &key).unwrap();
    std::fs::rename(&folder, folder.with_file_name("broken-card")).unwrap();
    let run = |arguments: &[&std::ffi::OsStr]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_russet")).args(arguments).output().unwrap()
    };
    let file = stick.join(names.last().unwrap());
    let arguments = [
        "restore".as_ref(),
        file.as_os_str(),
        "--key-file".as_ref(),
        key.as_os_str(),
        "--config".as_ref(),
        config.as_os_str(),
    ];
    let restored = run(&arguments);
    let said = String::from_utf8_lossy(&restored.stdout).into_owned();
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    assert!(said.contains("is restored, as it was at"), "{said}");

    let process = Process::start(&config, "warn", &[]);
    // Nobody puts a backup into the folder of a server that runs.
    let busy = run(&arguments);
    let words = String::from_utf8_lossy(&busy.stderr).into_owned();
    assert!(busy.status.code() == Some(1) && words.contains("a server runs on"), "{words}");
    for device in &mut devices {
        let path = format!("/api/v1/enrollments/{}/commands", device.udid);
        let (status, queued) =
            over_socket(&folder, "POST", &path, Some(json!({"RequestType": "SecurityInfo"}))).await.unwrap();
        assert!(status < 300, "{queued}");
        settle(device).await;
        let path = format!("/api/v1/commands/{}", queued["uuid"].as_str().unwrap());
        let (_, answered) = over_socket(&folder, "GET", &path, None).await.unwrap();
        assert_eq!(answered["status"], "Acknowledged", "{answered}");
    }
    let (_, listed) = over_socket(&folder, "GET", "/api/v1/backups", None).await.unwrap();
    assert!(!listed["items"].as_array().unwrap().is_empty(), "{listed}");
    let log = process.kill();
    assert!(!log.contains("panicked"), "{log}");
}

/// What was asked before the backup and answered after it is not asked a second time.
#[tokio::test]
async fn a_restored_server_asks_nothing_twice_and_signs_everybody_out() {
    let stick = tempfile::tempdir().unwrap();
    let mut appliance =
        Appliance::bare(|config| config.backup.directory = Some(stick.path().to_owned())).await;
    appliance.import_push_certificate(TOPIC).await;
    let mut device = appliance.enroll(Kind::IPhone).await;
    let udid = device.udid.clone();
    let erase = appliance.send(&udid, json!({"RequestType": "EraseDevice"})).await;
    let (status, made) = appliance.api("POST", "/api/v1/backups", None).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    // It comes back the next day, and is answered by the server of that day alone.
    appliance.clock.advance(DAY);
    let (file, data_dir) =
        (stick.path().join(made["name"].as_str().unwrap()), appliance.config.data_dir.clone());
    appliance.running.take().unwrap().stop().await;
    let work = russet::backup::Restore {
        file: &file,
        key_file: None,
        data_dir: &data_dir,
        now: appliance.clock.now(),
    };
    let moved = work.run().unwrap().moved_to.unwrap();
    assert!(moved.join("russet.db").exists());
    appliance.restart_stopped().await;
    assert_eq!(appliance.status(&udid, &erase), "Canceled");
    assert!(device.idle(Channel::Device).await.unwrap().is_none());
    assert_eq!(appliance.value::<i64>("SELECT COUNT(*) FROM sign_ins WHERE kind <> ?1", "x"), 0);
    let told: String = appliance.value("SELECT words FROM events WHERE kind = ?1", "server-restored");
    assert!(told.contains("1 commands that it took for unanswered were canceled"), "{told}");
    // Said once: the next start is an ordinary one.
    appliance.restart(|_| {}).await;
    let times: i64 = appliance.value("SELECT COUNT(*) FROM events WHERE kind = ?1", "server-restored");
    assert_eq!(times, 1);
    appliance.send(&udid, json!({"RequestType": "SecurityInfo"})).await;
    assert!(device.idle(Channel::Device).await.unwrap().is_some(), "the device goes on");
}

/// `kill -9` while a backup is made and while one is restored: the data folder is the old one or the new one.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_killed_leaves_a_whole_data_folder() {
    let mut appliance = Appliance::at(Clock::system(), |_| {}).await;
    appliance.import_push_certificate(TOPIC).await;
    let config = appliance.hand_over().await;
    let folder = appliance.config.data_dir.clone();
    let file = folder.with_file_name("once.backup");
    let russet = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_russet"));
        command.args(arguments).arg("--config").arg(&config);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        command
    };
    let path = file.to_str().unwrap();
    let whole = std::time::Instant::now();
    assert!(russet(&["backup", path]).status().unwrap().success());
    let whole = whole.elapsed();
    for cut in 0..12_u32 {
        let mut child = russet(&["restore", path]).spawn().unwrap();
        // Spread over the time that such a command takes.
        tokio::time::sleep(whole * cut / 12).await;
        child.kill().unwrap();
        child.wait().unwrap();
        for name in ["russet.db", "seal.key", "recovery-key.txt"] {
            assert!(folder.join(name).exists(), "{name} after cut {cut}");
        }
        let store = russet::storage::Store::open(&folder, Clock::system()).unwrap();
        let found: String =
            store.peek(|conn| Ok(conn.query_row("PRAGMA integrity_check", [], |row| row.get(0))?)).unwrap();
        assert_eq!(found, "ok", "after cut {cut}");
    }
    assert!(russet(&["restore", path]).status().unwrap().success());
    let process = Process::start(&config, "warn", &[]);
    let (status, _) = over_socket(&folder, "GET", "/api/v1/push-certificates", None).await.unwrap();
    assert_eq!(status, 200);
    process.kill();
}
