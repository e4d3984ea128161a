//! The bodies: our own and MicroMDM's.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use russet::clock::parse_rfc3339;
use russet::simulator::{Channel, Kind};
use serde_json::{Value as Json, json};

use super::stand::{Stand, Told};
use super::{SECRET, hmac, micromdm, telling};

/// All that is told until a command was answered.
async fn until_answered(stand: &mut Stand, uuid: &str) -> Vec<Told> {
    let mut all = Vec::new();
    loop {
        let told = stand.told().await;
        let json = told.json();
        all.push(told);
        if json["command"]["uuid"] == uuid || json["acknowledge_event"]["command_uuid"] == uuid {
            return all;
        }
    }
}

fn names(json: &Json) -> BTreeSet<String> {
    json.as_object().unwrap().keys().cloned().collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_s_life_is_told_signed_in_order_and_without_secrets() {
    let (mut appliance, mut stand, _folder) = telling(|_| {}).await;
    let mut mac = appliance.enroll(Kind::Mac).await;
    mac.set_bootstrap_token().await.unwrap();
    let command = json!({"RequestType": "DeviceInformation", "Queries": ["SerialNumber", "OSVersion"]});
    let uuid = appliance.send(&mac.udid, command).await;
    mac.connect(Channel::Device).await.unwrap();
    let all = until_answered(&mut stand, &uuid).await;

    let mut ids = BTreeSet::new();
    for told in &all {
        let json = told.json();
        assert!(told.head.starts_with("POST /hook?key=hunter2 HTTP/1.1\r\n"), "{}", told.head);
        assert_eq!(told.header("content-type"), Some("application/json"));
        let signed = format!("sha256={}", russet::id::hex(&hmac(SECRET.as_bytes(), &told.body)));
        assert_eq!(told.header("x-russet-signature"), Some(&*signed));
        assert_eq!(told.header("x-hmac-signature"), None);
        assert_eq!(told.header("x-russet-id"), json["id"].as_str());
        assert_eq!(told.header("x-russet-topic"), json["topic"].as_str());
        assert!(ids.insert(json["id"].as_str().unwrap().to_owned()), "each has an id of its own");
        assert!(parse_rfc3339(json["at"].as_str().unwrap()).is_some());
    }
    let topics: Vec<String> = all.iter().map(Told::topic).collect();
    let of_device = |topic: &str| {
        all.iter()
            .map(Told::json)
            .position(|json| json["topic"] == topic && json["enrollment"]["channel"] == "device")
            .unwrap_or_else(|| panic!("{topic} is not among {topics:?}"))
    };
    let order =
        ["mdm.Authenticate", "event.enrolled", "mdm.TokenUpdate", "mdm.SetBootstrapToken", "mdm.Connect"];
    assert!(order.map(of_device).is_sorted(), "{topics:?}");

    let update = all[of_device("mdm.TokenUpdate")].json();
    let hidden: Vec<_> = update["hidden"].as_array().unwrap().clone();
    assert!(hidden.contains(&json!("Token")) && hidden.contains(&json!("PushMagic")), "{update}");
    assert!(update["message"]["PushMagic"].is_null() && update["raw"].is_null(), "{update}");
    assert_eq!(update["enrollment"]["serial_number"], mac.serial_number.as_str());
    assert_eq!(update["enrollment"]["state"], "enrolled");
    let bootstrap = all[of_device("mdm.SetBootstrapToken")].json();
    assert_eq!((&bootstrap["hidden"], &bootstrap["raw"]), (&json!(["BootstrapToken"]), &Json::Null));
    let answer = all[of_device("mdm.Connect")].json();
    assert_eq!(
        answer["command"],
        json!({"uuid": uuid, "request_type": "DeviceInformation", "status": "Acknowledged"})
    );
    assert_eq!(answer["answer"]["QueryResponses"]["SerialNumber"], mac.serial_number.as_str());
    assert!(STANDARD.decode(answer["raw"].as_str().unwrap()).unwrap().starts_with(b"<?xml"));
    // The Mac's user has a channel of its own, and is told by it.
    let user = all.iter().map(Told::json).find(|json| json["enrollment"]["channel"] == "user").unwrap();
    assert_eq!(user["enrollment"]["parent_id"], mac.udid.as_str());
    let whole: Vec<u8> = all.iter().flat_map(|told| told.body.clone()).collect();
    let whole = String::from_utf8(whole).unwrap();
    for secret in [mac.push.magic.clone(), STANDARD.encode(mac.push.token)] {
        assert!(!whole.contains(&secret), "{secret} was told");
    }

    // What its declarations made of it, and that it left.
    let declaration = json!({"Type": "com.apple.configuration.passcode.settings", "Identifier": "p",
        "Payload": {"MinimumLength": 6}});
    appliance.api("PUT", "/api/v1/declarations/p", Some(declaration)).await;
    let group = json!({"declarations": ["p"]});
    assert!(appliance.api("PUT", "/api/v1/groups/default", Some(group)).await.0.is_success());
    mac.connect_all().await.unwrap();
    let report = loop {
        let json = stand.told().await.json();
        if json["topic"] == "mdm.DeclarativeManagement" {
            break json;
        }
    };
    assert_eq!(report["endpoint"], "status");
    assert!(report["report"]["StatusItems"].is_object(), "{report}");
    mac.remove_management().await.unwrap();
    let mut last = Vec::new();
    while !last.contains(&"event.check-out".to_owned()) {
        last.push(stand.told().await.topic());
    }
    assert!(last.contains(&"mdm.CheckOut".to_owned()), "{last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_for_micromdm_and_nanomdm_get_the_shapes_that_they_know() {
    let (mut appliance, mut stand, _folder) = telling(micromdm).await;
    let mut mac = appliance.enroll(Kind::Mac).await;
    let uuid = appliance.send(&mac.udid, json!({"RequestType": "SecurityInfo"})).await;
    mac.connect(Channel::Device).await.unwrap();
    let mut all = until_answered(&mut stand, &uuid).await;
    mac.remove_management().await.unwrap();
    while all.last().unwrap().topic() != "mdm.CheckOut" {
        all.push(stand.told().await);
    }
    let known = [
        "Authenticate",
        "TokenUpdate",
        "CheckOut",
        "Connect",
        "SetBootstrapToken",
        "GetBootstrapToken",
        "DeclarativeManagement",
    ];
    let mut tallies = Vec::new();
    for told in &all {
        let json = told.json();
        assert_eq!(told.header("content-type"), Some("application/json; charset=utf-8"));
        let tag = STANDARD.encode(hmac(SECRET.as_bytes(), &told.body));
        assert_eq!(told.header("x-hmac-signature"), Some(&*tag));
        let kind = json["topic"].as_str().unwrap().strip_prefix("mdm.").unwrap().to_owned();
        assert!(known.contains(&&*kind), "{kind}");
        assert_eq!(told.header("x-russet-id"), json["event_id"].as_str());
        assert!(parse_rfc3339(json["created_at"].as_str().unwrap()).is_some());
        let object = if kind == "Connect" { "acknowledge_event" } else { "checkin_event" };
        assert_eq!(names(&json), set(&["topic", "event_id", "created_at", object]));
        let event = &json[object];
        let mut wanted = set(&["udid", "ids", "url_params", "raw_payload"]);
        match kind.as_str() {
            "Connect" => wanted.extend(set(&["status", "command_uuid"])),
            "TokenUpdate" => wanted.extend(set(&["token_update_tally"])),
            _ => {}
        }
        assert_eq!(names(event), wanted, "{kind}");
        assert_eq!(event["udid"], mac.udid.as_str());
        let raw = STANDARD.decode(event["raw_payload"].as_str().unwrap()).unwrap();
        let list: plist::Dictionary = plist::from_bytes(&raw).unwrap();
        if kind == "TokenUpdate" {
            assert!(list.contains_key("PushMagic"), "as the device sent it");
            tallies.push((
                event["ids"]["type"].as_str().unwrap().to_owned(),
                event["token_update_tally"].clone(),
            ));
        }
        if kind != "Connect" {
            assert_eq!(list["MessageType"].as_string(), Some(&*kind));
        }
        if event["ids"]["type"] == "User" {
            assert_eq!(event["ids"]["parent_id"], mac.udid.as_str());
        } else {
            assert_eq!(event["ids"], json!({"id": mac.udid, "type": "Device"}));
        }
    }
    // NanoCMD takes a tally of 1 for an enrollment.
    assert!(tallies.contains(&("Device".into(), json!(1))) && tallies.contains(&("User".into(), json!(1))));
    assert!(tallies.iter().filter(|(_, tally)| *tally == 1).count() == 2, "{tallies:?}");
    let idle = all.iter().map(Told::json).find(|json| json["acknowledge_event"]["status"] == "Idle");
    assert_eq!(idle.unwrap()["acknowledge_event"]["command_uuid"], "");
    let topics: Vec<_> = all.iter().map(Told::topic).collect();
    let at = |topic: &str| topics.iter().position(|one| one == topic).unwrap();
    assert!(at("mdm.Authenticate") < at("mdm.TokenUpdate"), "{topics:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_claims_to_be_a_device_is_told_as_a_claim_and_nothing_else() {
    let (mut appliance, mut stand, _folder) = telling(|_| {}).await;
    let phone = appliance.enroll(Kind::IPhone).await;
    appliance.happens("test-begins").await;
    while stand.told().await.topic() != "event.test-begins" {}
    let mut other = appliance.device(Kind::IPhone);
    other.udid.clone_from(&phone.udid);
    let link = appliance.invite(1).await;
    other.enroll(&link).await.unwrap();
    let path = format!("/api/v1/enrollments/{}/claims", phone.udid);
    let claim = appliance.api("GET", &path, None).await.1["items"][0]["id"].as_str().unwrap().to_owned();
    appliance.api("POST", &format!("{path}/{claim}/reject"), None).await;
    let mut topics = Vec::new();
    while topics.last().map(String::as_str) != Some("event.claim-rejected") {
        topics.push(stand.told().await.topic());
    }
    assert_eq!(topics, ["event.claim", "event.claim-rejected"]);
}
