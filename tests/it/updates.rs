//! Software updates from the administrator's policy to the device's report of them.

use std::path::{Path, PathBuf};
use std::process::Command;

use hyper::StatusCode;
use russet::config::Location;
use russet::mdm::{sync, wake};
use russet::simulator::{CATALOGUE, Channel, Device, Kind};
use serde_json::{Value as Json, json};

use crate::support::{Appliance, TOPIC, settle};

const POLICY: &str = "/api/v1/update-policies/default";
const TYPE: &str = "com.apple.configuration.softwareupdate.enforcement.specific";

/// A test begins at 2026-10-28T00:00:00Z.
const DAY: i64 = 86_400;

impl Appliance {
    async fn ok(&self, method: &str, path: &str, body: Option<Json>) -> Json {
        let (status, shown) = self.api(method, path, body).await;
        assert!(status.is_success(), "{method} {path}: {status} {shown}");
        shown
    }

    async fn updates(&self, device: &Device) -> Json {
        self.ok("GET", &format!("/api/v1/enrollments/{}/updates", device.udid), None).await
    }

    async fn left_out(&self, device: &Device) -> Vec<String> {
        let path = format!("/api/v1/enrollments/{}/declarations", device.udid);
        let list = self.ok("GET", &path, None).await;
        let all = list["items"].as_array().unwrap().iter();
        all.filter_map(|one| one["left_out"].as_str().map(str::to_owned)).collect()
    }

    fn catalogue_file(&self) -> PathBuf {
        let Location::Path(path) = &self.config.updates.catalogue else { unreachable!() };
        path.clone()
    }
}

fn enforced(device: &Device) -> Vec<&Json> {
    let all = device.declarations.declarations.values();
    all.filter(|one| one.declaration_type == TYPE).map(|one| &one.payload).collect()
}

/// Lets a device connect as it does over a while.
async fn live(device: &mut Device, contacts: usize) {
    for _ in 0..contacts {
        device.connect(Channel::Device).await.unwrap();
    }
}

#[tokio::test]
async fn a_version_is_enforced_at_its_time_and_reported() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    assert!(phone.connect(Channel::Device).await.unwrap().is_empty(), "nothing is declared for it yet");
    let policy = json!({
        "enforce": {"version": "26.2", "build": "23C55", "at": "2026-10-30T18:00"},
        "details_url": "https://example.org/updates",
        "notifications": false,
    });
    let (status, made) = appliance.api("PUT", POLICY, Some(policy)).await;
    assert_eq!((status, &made["warnings"]), (StatusCode::CREATED, &json!([])));
    assert_eq!(appliance.updates(&phone).await["state"], "behind");
    settle(&mut phone).await;
    assert_eq!(
        enforced(&phone),
        [&json!({
            "TargetOSVersion": "26.2",
            "TargetBuildVersion": "23C55",
            "TargetLocalDateTime": "2026-10-30T18:00:00",
            "DetailsURL": "https://example.org/updates",
        })]
    );
    live(&mut phone, 3).await;
    let waiting = appliance.updates(&phone).await;
    assert_eq!(waiting["state"], "pending", "{waiting:#}");
    assert_eq!(waiting["pending"], json!({"version": "26.2", "build": "23C55", "at": "2026-10-30T18:00:00"}));
    assert_eq!((&waiting["install_reason"], &waiting["group"]), (&json!(["declaration"]), &json!("default")));

    appliance.clock.advance(3 * DAY);
    live(&mut phone, 1).await;
    assert_eq!(appliance.updates(&phone).await["state"], "installing");
    live(&mut phone, 2).await;
    let done = appliance.updates(&phone).await;
    assert_eq!(done["state"], "current", "{done:#}");
    assert_eq!(done["current"], json!({"version": "26.2", "build": "23C55"}));
    let history: Vec<&str> =
        done["history"].as_array().unwrap().iter().filter_map(|one| one["value"].as_str()).collect();
    assert!(history.contains(&"installing") && history.contains(&"26.2"), "{history:?}");
    // It keeps the declaration, and there is nothing to say.
    settle(&mut phone).await;
    assert_eq!(enforced(&phone).len(), 1);
}

#[tokio::test]
async fn the_latest_is_found_for_each_model() {
    let mut appliance = Appliance::start().await;
    assert!(appliance.app().read_catalogue().await.unwrap());
    let policy = json!({"enforce": {"latest": true, "days": 14, "at": "18:00", "major": false}});
    appliance.ok("PUT", POLICY, Some(policy)).await;
    let mut devices = Vec::new();
    for kind in [Kind::IPhone, Kind::Mac, Kind::AppleTv] {
        devices.push(appliance.enroll(kind).await);
    }
    for (device, build) in devices.iter_mut().zip(["23C55", "25C56", "23K54"]) {
        settle(device).await;
        let target = json!({
            "TargetOSVersion": "26.2",
            "TargetBuildVersion": build,
            "TargetLocalDateTime": "2026-11-03T18:00:00",
        });
        assert_eq!(enforced(device), [&target], "{}", device.name);
    }
    appliance.clock.advance(7 * DAY);
    for (device, build) in devices.iter_mut().zip(["23C55", "25C56", "23K54"]) {
        live(device, 4).await;
        let done = appliance.updates(device).await;
        assert_eq!(
            (&done["state"], &done["current"]["build"]),
            (&json!("current"), &json!(build)),
            "{done:#}"
        );
        assert_eq!(done["latest"]["posted"], "2026-10-20");
    }
    let all = appliance.ok("GET", "/api/v1/updates?state=current", None).await;
    assert_eq!(all["items"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn no_target_leaves_that_one_declaration_out_and_the_file_is_read_when_it_changes() {
    let mut appliance = Appliance::bare(|config| {
        let Location::Path(path) = &config.updates.catalogue else { unreachable!() };
        std::fs::write(path, CATALOGUE.replace("iPhone17,3", "iPhone99,1")).unwrap();
    })
    .await;
    appliance.import_push_certificate(TOPIC).await;
    assert!(appliance.app().read_catalogue().await.unwrap());
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let passcode = json!({
        "Type": "com.apple.configuration.passcode.settings",
        "Identifier": "passcode",
        "Payload": {"MinimumLength": 6},
    });
    appliance.ok("PUT", "/api/v1/declarations/passcode", Some(passcode)).await;
    appliance.ok("PUT", "/api/v1/groups/default/declarations/passcode", None).await;
    let policy = json!({"enforce": {"latest": true, "days": 0, "at": "18:00"}, "notifications": false});
    appliance.ok("PUT", POLICY, Some(policy)).await;
    settle(&mut phone).await;
    assert!(enforced(&phone).is_empty());
    let types: Vec<&str> =
        phone.declarations.declarations.values().map(|one| one.declaration_type.as_str()).collect();
    for arrived in
        ["com.apple.configuration.passcode.settings", "com.apple.configuration.softwareupdate.settings"]
    {
        assert!(types.contains(&arrived), "{types:?}");
    }
    let words = appliance.left_out(&phone).await;
    assert_eq!(words.len(), 1);
    assert!(words[0].contains("Apple's catalogue has no release for iPhone17,3"), "{words:?}");
    assert_eq!(appliance.updates(&phone).await["state"], "no_target");

    // A broken file changes nothing and is said.
    std::fs::write(appliance.catalogue_file(), "{\"PublicAssetSets\": [").unwrap();
    assert!(!appliance.app().read_catalogue().await.unwrap());
    let shown = appliance.ok("GET", "/api/v1/update-catalogue", None).await;
    assert!(shown["error"].as_str().unwrap().contains("not JSON"), "{shown}");
    assert_eq!(shown["platforms"]["iOS"].as_array().unwrap().len(), 3);

    std::fs::write(appliance.catalogue_file(), CATALOGUE).unwrap();
    assert!(appliance.app().read_catalogue().await.unwrap());
    let shown = appliance.ok("GET", "/api/v1/update-catalogue", None).await;
    assert_eq!(shown["error"], Json::Null);
    settle(&mut phone).await;
    assert_eq!(enforced(&phone)[0]["TargetOSVersion"], "26.2");
    assert!(appliance.left_out(&phone).await.is_empty());

    // A file that is gone takes nothing with it.
    std::fs::remove_file(appliance.catalogue_file()).unwrap();
    assert!(!appliance.app().read_catalogue().await.unwrap());
    appliance.restart_without_network().await;
    assert!(phone.connect(Channel::Device).await.unwrap().is_empty());
    assert_eq!(appliance.updates(&phone).await["target"]["version"], "26.2");
}

impl Appliance {
    async fn restart_without_network(&mut self) {
        self.restart(|config| config.updates.catalogue = Location::Url("https://localhost:1/".into())).await;
        assert!(!self.app().read_catalogue().await.unwrap());
        let shown = self.ok("GET", "/api/v1/update-catalogue", None).await;
        assert!(shown["error"].as_str().unwrap().contains("https://localhost:1/"), "{shown}");
    }
}

#[tokio::test]
async fn another_deadline_wakes_exactly_the_group_once() {
    let mut appliance = Appliance::start().await;
    let (mut devices, mut ears) = (Vec::new(), Vec::new());
    for kind in [Kind::IPhone, Kind::IPad, Kind::IPhone] {
        let mut device = appliance.device(kind);
        ears.push(device.hear(&appliance.apple));
        let link = appliance.invite(1).await;
        device.enroll(&link).await.unwrap();
        devices.push(device);
    }
    let members = json!({"members": [devices[0].udid, devices[1].udid]});
    appliance.ok("PUT", "/api/v1/groups/lab", Some(members)).await;
    let lab = "/api/v1/update-policies/lab";
    let until = |at: &str| Some(json!({"enforce": {"version": "26.2", "at": at}}));
    appliance.ok("PUT", lab, until("2026-12-01T18:00")).await;
    let mdm = appliance.app().mdm.clone();
    for device in &mut devices {
        settle(device).await;
        live(device, 3).await;
        settle(device).await;
    }
    sync::round(&mdm).await.unwrap();
    let wakes =
        |appliance: &Appliance| -> i64 { appliance.value("SELECT COUNT(*) FROM wakes WHERE ?1 <> ''", "x") };
    assert_eq!(wakes(&appliance), 0);
    appliance.ok("PUT", lab, until("2026-12-01T18:00")).await;
    sync::round(&mdm).await.unwrap();
    assert_eq!(wakes(&appliance), 0, "nothing changed");
    appliance.ok("PUT", lab, until("2026-12-02T18:00")).await;
    appliance.ok("PUT", lab, until("2026-12-03T18:00")).await;
    wake::round(&mdm).await.unwrap();
    wake::round(&mdm).await.unwrap();
    let attempts: i64 = appliance.value("SELECT SUM(attempts) FROM wakes WHERE ?1 <> ''", "x");
    assert_eq!((wakes(&appliance), attempts), (2, 2));
    for (device, count) in devices.iter_mut().zip([1, 1, 0]) {
        assert_eq!(device.connect(Channel::Device).await.unwrap().len(), count, "{}", device.name);
    }
    assert_eq!(enforced(&devices[0])[0]["TargetLocalDateTime"], "2026-12-03T18:00:00");
    assert!(enforced(&devices[2]).is_empty());
}

#[tokio::test]
async fn an_update_that_fails_is_said_with_its_reason() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    phone.update_fault = Some("Not enough space.".to_owned());
    let policy = json!({"enforce": {"version": "26.2", "at": "2026-10-01T18:00"}});
    let made = appliance.ok("PUT", POLICY, Some(policy)).await;
    assert!(made["warnings"][0].as_str().unwrap().contains("has passed"), "{made}");
    settle(&mut phone).await;
    let mut states = Vec::new();
    for _ in 0..8 {
        live(&mut phone, 1).await;
        states.push(appliance.updates(&phone).await["state"].as_str().unwrap().to_owned());
    }
    assert!(states.iter().any(|state| state == "failed"), "{states:?}");
    assert!(!states.iter().any(|state| state == "current"), "{states:?}");
    let failure = appliance.updates(&phone).await["failure"].clone();
    assert!(failure["count"].as_u64().unwrap() >= 2, "{failure}");
    assert!(failure["words"].as_str().unwrap().ends_with("the device says: Not enough space."), "{failure}");
    phone.update_fault = None;
    live(&mut phone, 5).await;
    let done = appliance.updates(&phone).await;
    assert_eq!((&done["state"], &done["failure"]), (&json!("current"), &Json::Null));
}

/// The program in a folder, without anything of this machine's configuration.
fn russet(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_russet"));
    command.args(arguments).current_dir(folder).env_clear();
    command.env("RUSSET__UPDATES__CATALOGUE", folder.join("pmv.json"));
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[test]
fn policies_live_in_files_and_the_terminal_lists_devices() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("pmv.json"), CATALOGUE).unwrap();
    std::fs::create_dir_all(folder.join("mdm/updates")).unwrap();
    let policy = folder.join("mdm/updates/default.json");
    std::fs::write(&policy, "{\"enforce\": {\"version\": \"26.1\", \"at\": \"2026-12-01T18:00+01:00\"}}")
        .unwrap();
    let (code, _, error) = russet(folder, &["apply", "mdm"]);
    assert_eq!(code, 1);
    assert!(
        error.contains("updates/default.json /enforce/at") && error.contains("2026-12-01T18:00"),
        "{error}"
    );
    std::fs::write(&policy, "{\"enforce\": {\"version\": \"26.1\", \"at\": \"2036-12-01T18:00\"}}").unwrap();
    let (code, shown, error) = russet(folder, &["apply", "mdm", "--dry-run"]);
    assert_eq!(code, 0, "{error}");
    assert!(
        shown.contains("created update policy default") && shown.contains("+ /enforce/version: \"26.1\""),
        "{shown}"
    );
    assert_eq!(russet(folder, &["apply", "mdm"]).0, 0);
    assert_eq!(russet(folder, &["export", "out"]).0, 0);
    let exported = std::fs::read_to_string(folder.join("out/updates/default.json")).unwrap();
    assert!(exported.contains("\"version\": \"26.1\""), "{exported}");
    let (code, shown, error) = russet(folder, &["apply", "out", "--dry-run", "--prune"]);
    assert!(code == 0 && shown.starts_with("No difference"), "{shown}{error}");
    std::fs::remove_file(folder.join("out/updates/default.json")).unwrap();
    let (code, shown, error) = russet(folder, &["apply", "out", "--prune"]);
    assert!(code == 0 && shown.contains("deleted update policy default"), "{shown}{error}");

    let (code, shown, error) = russet(folder, &["updates", "--json"]);
    assert_eq!(code, 0, "{error}");
    assert_eq!(serde_json::from_str::<Json>(&shown).unwrap(), json!({"items": []}));
    assert_eq!(russet(folder, &["updates", "--state", "failed"]), (0, String::new(), String::new()));
    assert_eq!(russet(folder, &["updates", "--state", "odd"]).0, 2);
}

#[tokio::test]
async fn an_upload_counts_until_the_file_is_another() {
    let appliance = Appliance::start().await;
    let read = async || assert!(appliance.app().read_catalogue().await.unwrap());
    let newest = async || {
        let shown = appliance.ok("GET", "/api/v1/update-catalogue", None).await;
        shown["platforms"]["macOS"].as_array().unwrap().last().unwrap()["version"].clone()
    };
    read().await;
    let uploaded: Json = serde_json::from_str(&CATALOGUE.replace("26.2", "26.3")).unwrap();
    appliance.ok("PUT", "/api/v1/update-catalogue", Some(uploaded)).await;
    read().await;
    assert_eq!(newest().await, "26.3");
    std::fs::write(appliance.catalogue_file(), CATALOGUE.replace("26.2", "26.4")).unwrap();
    read().await;
    assert_eq!(newest().await, "26.4");
}
