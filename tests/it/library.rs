//! Profiles and assets from the administrator's file to the device's report of it.

use russet::ddm::standing;
use russet::mdm::{subject, sync};
use russet::simulator::{Device, Kind};
use serde_json::{Value as Json, json};

use crate::support::{Appliance, settle};

pub const PROFILE: &str = "application/x-apple-aspen-config";

/// A Wi-Fi profile.
pub fn wifi(uuid: &str, ssid: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<plist version=\"1.0\"><dict>\
         <key>PayloadType</key><string>Configuration</string><key>PayloadVersion</key><integer>1</integer>\
         <key>PayloadIdentifier</key><string>org.example.wifi</string>\
         <key>PayloadUUID</key><string>6F2C1A50-0000-4000-8000-{uuid}</string>\
         <key>PayloadContent</key><array><dict>\
         <key>PayloadType</key><string>com.apple.wifi.managed</string>\
         <key>PayloadVersion</key><integer>1</integer>\
         <key>PayloadIdentifier</key><string>org.example.wifi.1</string>\
         <key>PayloadUUID</key><string>6F2C1A50-0000-4000-8000-0000000000FF</string>\
         <key>SSID_STR</key><string>{ssid}</string></dict></array></dict></plist>"
    )
}

impl Appliance {
    /// Puts these devices, and nobody else, into a group that has these declarations.
    pub async fn group(&self, devices: &[&Device], declarations: &[&str]) {
        let members: Vec<&str> = devices.iter().map(|device| device.udid.as_str()).collect();
        let group = json!({"members": members, "declarations": declarations, "order": 1});
        let (status, answer) = self.api("PUT", "/api/v1/groups/library", Some(group)).await;
        assert!(status.is_success(), "{answer}");
    }

    pub async fn declare(&self, identifier: &str, kind: &str, payload: Json) {
        let body = json!({"Type": format!("com.apple.{kind}"), "Identifier": identifier, "Payload": payload});
        let (status, answer) =
            self.api("PUT", &format!("/api/v1/declarations/{identifier}"), Some(body)).await;
        assert!(status.is_success(), "{answer}");
    }

    pub fn stands(&self, device: &Device, identifier: &str) -> Json {
        let list = self.app().store.peek(|conn| {
            let subject = subject::of(conn, &device.udid)?.unwrap();
            standing::standing(conn, &subject)
        });
        list.unwrap().into_iter().find(|one| one["identifier"] == identifier).unwrap_or_default()
    }

    pub fn woken(&self) -> Vec<String> {
        let due = self.app().store.peek(|conn| {
            let mut statement = conn.prepare("SELECT enrollment_id FROM wakes ORDER BY 1")?;
            Ok(statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
        });
        due.unwrap()
    }
}

fn uuids(device: &Device) -> Vec<&str> {
    let installed = device.profiles.iter().filter(|profile| profile.identifier == "org.example.wifi");
    installed.map(|profile| profile.uuid.as_str()).collect()
}

#[tokio::test]
async fn a_legacy_profile_reaches_its_devices_and_a_changed_file_reaches_them_again() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let mut other = appliance.enroll(Kind::IPhone).await;
    appliance.upload("/api/v1/profiles/wifi?declare=legacy", PROFILE, wifi("000000000001", "School")).await;
    appliance.group(&[&phone], &["wifi"]).await;
    settle(&mut phone).await;
    settle(&mut other).await;
    let stands = appliance.stands(&phone, "wifi");
    assert_eq!((&stands["valid"], &stands["active"]), (&json!("valid"), &json!(true)), "{stands}");
    assert_eq!(uuids(&phone), ["6F2C1A50-0000-4000-8000-000000000001"]);
    assert_eq!(uuids(&other), Vec::<&str>::new());

    let url = format!("{}/mdm/profiles/wifi", appliance.config.server.public_url);
    assert_eq!(phone.fetch(&url).await.unwrap().status, 200);
    assert_eq!(other.fetch(&url).await.unwrap().status, 404);

    sync::round(&appliance.app().mdm).await.unwrap();
    assert_eq!(appliance.woken(), Vec::<String>::new());
    appliance.upload("/api/v1/profiles/wifi", PROFILE, wifi("000000000002", "Guests")).await;
    sync::round(&appliance.app().mdm).await.unwrap();
    assert_eq!(appliance.woken(), [phone.udid.clone()]);
    assert_eq!(appliance.stands(&phone, "wifi")["received"], false);
    settle(&mut phone).await;
    assert_eq!(appliance.stands(&phone, "wifi")["valid"], "valid");
    assert_eq!(uuids(&phone), ["6F2C1A50-0000-4000-8000-000000000002"]);

    // What it was told last is served until it is told otherwise.
    appliance.group(&[], &["wifi"]).await;
    assert_eq!(phone.fetch(&url).await.unwrap().status, 200);
    // But no bytes that came after it was taken away, however long the device does not ask.
    appliance.upload("/api/v1/profiles/wifi", PROFILE, wifi("000000000004", "rotated")).await;
    sync::round(&appliance.app().mdm).await.unwrap();
    assert_eq!(phone.fetch(&url).await.unwrap().status, 404);
    settle(&mut phone).await;
    assert_eq!(uuids(&phone), Vec::<&str>::new());
    assert_eq!(phone.fetch(&url).await.unwrap().status, 404);
}

#[tokio::test]
async fn an_asset_is_fetched_verified_and_fetched_again_when_it_changes() {
    let mut appliance = Appliance::start().await;
    let mut mac = appliance.enroll(Kind::Mac).await;
    // More than is kept in the database.
    let archive = |size: usize| {
        let files = [("etc/ssh/sshd_config".to_owned(), vec![b'#'; size])].into();
        russet::library::zip::write(&files).unwrap()
    };
    let (large, small) = (archive(1_500_000), archive(10));
    appliance.upload("/api/v1/assets/org.example.sshd", "application/zip", large.clone()).await;
    let payload = json!({"ServiceType": "com.apple.sshd", "DataAssetReference": "org.example.sshd"});
    appliance.declare("sshd", "configuration.services.configuration-files", payload).await;
    appliance.group(&[&mac], &["sshd"]).await;
    settle(&mut mac).await;
    for name in ["sshd", "org.example.sshd"] {
        assert_eq!(appliance.stands(&mac, name)["valid"], "valid", "{name}");
    }
    let files = appliance.config.data_dir.join("files");
    assert_eq!(std::fs::read_dir(&files).unwrap().count(), 1);
    appliance.upload("/api/v1/assets/org.example.sshd", "application/zip", small.clone()).await;
    assert_eq!(appliance.stands(&mac, "org.example.sshd")["received"], false);
    settle(&mut mac).await;
    assert_eq!(appliance.stands(&mac, "org.example.sshd")["valid"], "valid");
    let app = appliance.app();
    app.mdm.contents.sweep(&app.store).await.unwrap();
    assert_eq!(std::fs::read_dir(&files).unwrap().count(), 0);

    // A restart finds it where it was.
    appliance.restart(|_| {}).await;
    let url = format!("{}/mdm/assets/org.example.sshd", appliance.config.server.public_url);
    assert_eq!(mac.fetch(&url).await.unwrap().body, small);
}

#[tokio::test]
async fn a_profile_as_an_asset_waits_for_the_system_that_takes_it() {
    let mut appliance = Appliance::start().await;
    let mut old = appliance.enroll(Kind::IPhone).await;
    let mut new = appliance.device(Kind::IPhone);
    new.os_version = "27.0".to_owned();
    let link = appliance.invite(1).await;
    new.enroll(&link).await.unwrap();
    settle(&mut new).await;
    appliance.upload("/api/v1/assets/wifi.data", "application/x-plist", wifi("000000000003", "x")).await;
    appliance.declare("l", "configuration.legacy", json!({"ProfileAssetReference": "wifi.data"})).await;
    appliance.group(&[&old, &new], &["l"]).await;
    settle(&mut old).await;
    settle(&mut new).await;
    let stands = appliance.stands(&old, "l");
    assert!(stands["left_out"].as_str().is_some_and(|words| words.contains("27")), "{stands}");
    assert_eq!(appliance.stands(&new, "l")["valid"], "valid", "{}", appliance.stands(&new, "l"));
    assert_eq!(uuids(&new), ["6F2C1A50-0000-4000-8000-000000000003"]);
}

#[tokio::test]
async fn a_secret_reaches_the_device_and_no_file_beside_it() {
    const SECRET: &str = "correct horse battery";
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let path = "/api/v1/assets/login?type=com.apple.asset.credential.userpassword";
    let document = json!({"UserName": "wifi", "Password": SECRET}).to_string();
    appliance.upload(path, "application/json", document.clone()).await;
    let payload = json!({
        "VisibleName": "School", "HostName": "cal.example.org", "AuthenticationCredentialsAssetReference": "login",
    });
    appliance.declare("calendar", "configuration.account.caldav", payload).await;
    appliance.group(&[&phone], &["calendar"]).await;
    settle(&mut phone).await;
    assert_eq!(appliance.stands(&phone, "login")["valid"], "valid");
    let url = format!("{}/mdm/assets/login", appliance.config.server.public_url);
    let reply = phone.fetch(&url).await.unwrap();
    assert_eq!((reply.content_type().as_str(), reply.body), ("application/json", document.into_bytes()));
    appliance.running.take().unwrap().stop().await;
    for entry in std::fs::read_dir(&appliance.config.data_dir).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap_or_default();
        assert!(!bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()));
    }
}

#[tokio::test]
async fn a_device_fetches_what_is_declared_for_its_user() {
    let mut appliance = Appliance::start().await;
    let mut mac = appliance.enroll(Kind::Mac).await;
    let (_, list) = appliance.api("GET", "/api/v1/enrollments", None).await;
    let users = list["items"].as_array().unwrap().iter().filter(|one| one["channel"] == "user");
    let ids: Vec<String> = users.map(|one| one["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 1, "{list}");
    appliance.upload("/api/v1/profiles/wifi?declare=legacy", PROFILE, wifi("000000000004", "x")).await;
    let url = format!("{}/mdm/profiles/wifi", appliance.config.server.public_url);
    assert_eq!(mac.fetch(&url).await.unwrap().status, 404);
    let group = json!({"members": ids, "declarations": ["wifi"]});
    assert!(appliance.api("PUT", "/api/v1/groups/library", Some(group)).await.0.is_success());
    // Also before anybody looked at the set anew.
    assert_eq!(mac.fetch(&url).await.unwrap().status, 200);
    settle(&mut mac).await;
    assert_eq!(uuids(&mac), ["6F2C1A50-0000-4000-8000-000000000004"]);
}
