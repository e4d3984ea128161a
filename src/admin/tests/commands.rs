//! Commands: what is queued, shown, hidden, revealed, canceled.

use serde_json::{Value, json};

use super::{House, Reply};
use crate::mdm::escrow::{self, Kind};
use crate::mdm::listing;
use crate::mdm::queue::{self, Report, Status};
use crate::plist;

async fn send(house: &House, id: &str, command: &Value) -> Reply {
    house.ask("POST", &format!("/api/v1/enrollments/{id}/commands")).json(command).send().await
}

/// The device answers, without a device.
async fn answer(house: &House, id: &'static str, uuid: &str, answer: Value) {
    let (seal, uuid) = (house.app.mdm.seal.clone(), uuid.to_owned());
    let answer = plist::json::from_json(&answer).unwrap();
    house
        .app
        .store
        .write("test.answer", move |tx| {
            let body = plist::to_xml(&answer);
            let report = Report { status: Status::Acknowledged, body: &body, answer: &answer };
            queue::report(tx, &seal, id, &uuid, &report)
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_command_is_queued_and_shown_with_its_answer() {
    let house = House::new().await;
    house.enrolled("A").await;
    let command = json!({"RequestType": "DeviceInformation", "Queries": ["UDID"]});
    let queued = send(&house, "A", &command).await;
    assert_eq!(queued.status, 201);
    let queued = queued.ok();
    assert_eq!(queued["warnings"], json!([]));
    let uuid = queued["uuid"].as_str().unwrap();
    answer(&house, "A", uuid, json!({"Status": "Acknowledged", "QueryResponses": {"UDID": "A"}})).await;
    let shown = house.ask("GET", &format!("/api/v1/commands/{uuid}")).send().await.ok();
    assert_eq!(
        shown,
        json!({
            "uuid": uuid,
            "enrollment_id": "A",
            "request_type": "DeviceInformation",
            "status": "Acknowledged",
            "request": command,
            "answer": {"Status": "Acknowledged", "QueryResponses": {"UDID": "A"}},
            "error_chain": null,
            "queued_at": "2026-10-28T00:00:00Z",
            "queued_by": "socket",
            "sent_at": null,
            "answered_at": "2026-10-28T00:00:00Z",
            "expires_at": null,
            "hidden": [],
        })
    );
    let list = house.ask("GET", "/api/v1/enrollments/A/commands?status=Acknowledged").send().await.ok();
    assert_eq!(list, json!({"items": [shown], "next": null}));
    let none = house.ask("GET", "/api/v1/enrollments/A/commands?status=Pending").send().await.ok();
    assert_eq!(none["items"], json!([]));
    house.ask("GET", "/api/v1/commands?status=Done").send().await.refused(400, "invalid");
}

#[tokio::test]
async fn what_is_wrong_with_a_command_is_pointed_at_and_force_accepts_the_unknown() {
    let house = House::new().await;
    house.enrolled("A").await;
    let wrong = send(&house, "A", &json!({"RequestType": "DeviceInformation", "Queries": "UDID"})).await;
    wrong.refused(400, "invalid");
    assert_eq!(wrong.pointer(), "/Queries");
    assert_eq!(wrong.json["error"]["suggestion"], r#"["UDID"]"#);
    let unclear = send(&house, "A", &json!({"RequestType": "DeviceInformation", "Queries": 7})).await;
    assert_eq!(unclear.json["error"].get("suggestion"), None);
    let newer = json!({"RequestType": "NewerThanWe", "Key": 1});
    assert_eq!(send(&house, "A", &newer).await.pointer(), "/RequestType");
    let forced =
        house.ask("POST", "/api/v1/enrollments/A/commands?force=1&expires_in=2h").json(&newer).send().await;
    let forced = forced.ok();
    assert_eq!(forced["warnings"].as_array().unwrap().len(), 1);
    let shown =
        house.ask("GET", &format!("/api/v1/commands/{}", forced["uuid"].as_str().unwrap())).send().await;
    assert_eq!(shown.ok()["expires_at"], "2026-10-28T02:00:00Z");
    let text = house.ask("POST", "/api/v1/enrollments/A/commands").body("text/plain", b"{}").send().await;
    text.refused(415, "unsupported_media_type");
    send(&house, "none", &json!({"RequestType": "SecurityInfo"})).await.refused(404, "not_found");
}

#[tokio::test]
async fn a_property_list_reaches_the_device_byte_for_byte() {
    let house = House::new().await;
    house.enrolled("A").await;
    let body = br#"<plist version="1.0"><dict><key>Command</key><dict><key>RequestType</key>
        <string>ProfileList</string></dict>  <key>CommandUUID</key><string>my/own id</string></dict></plist>"#;
    let ask = || house.ask("POST", "/api/v1/enrollments/A/commands").body("application/x-plist", body).send();
    assert_eq!(ask().await.ok()["uuid"], "my/own id");
    ask().await.refused(409, "conflict");
    let seal = &house.app.mdm.seal;
    let kept = house.app.store.peek(|conn| listing::command(conn, seal, "my/own id", None)).unwrap();
    assert_eq!(kept.request, body);
    let shown = house.ask("GET", "/api/v1/enrollments/A/commands/my%2Fown%20id").send().await.ok();
    assert_eq!(shown["request"], json!({"RequestType": "ProfileList"}));
}

#[tokio::test]
async fn a_property_list_of_an_unknown_command_is_refused_unless_forced() {
    let house = House::new().await;
    house.enrolled("A").await;
    let body =
        b"<plist><dict><key>Command</key><dict><key>RequestType</key><string>DeviceInfromation</string>\
        <key>NobodyKnows</key><true/></dict></dict></plist>";
    let send = async |body: &[u8], force: &str| {
        let path = format!("/api/v1/enrollments/A/commands{force}");
        house.ask("POST", &path).body("application/x-plist", body).send().await
    };
    let refused = send(body, "").await;
    assert!(refused.refused(400, "invalid").contains("DeviceInformation"));
    assert_eq!(refused.pointer(), "/Command/RequestType");
    assert_eq!(send(body, "?force=1").await.ok()["warnings"].as_array().unwrap().len(), 1);
    // Its keys are the sender's own affair, and NanoMDM's route takes whatever NanoMDM takes.
    let known = String::from_utf8_lossy(body).replace("Infromation", "Information");
    assert_eq!(send(known.as_bytes(), "").await.ok()["warnings"], json!([]));
    let nano =
        house.ask("PUT", "/api/v1/nanomdm/enqueue/A?nopush=1").body("application/xml", body).send().await;
    nano.ok();
    assert_eq!(send(b"<plist><dict/></plist>", "").await.pointer(), "/Command");
}

#[tokio::test]
async fn secrets_are_hidden_and_revealing_them_is_written_down() {
    let house = House::new().await;
    house.enrolled("A").await;
    let erase = json!({"RequestType": "EraseDevice", "PIN": "876543"});
    let uuid = send(&house, "A", &erase).await.ok()["uuid"].as_str().unwrap().to_owned();
    answer(&house, "A", &uuid, json!({"Status": "Acknowledged", "UnlockToken": "c2VjcmV0"})).await;
    for path in [
        format!("/api/v1/commands/{uuid}"),
        "/api/v1/commands".into(),
        "/api/v1/enrollments/A/commands".into(),
    ] {
        let shown = house.ask("GET", &path).send().await;
        assert!(!shown.text.contains("876543") && !shown.text.contains("c2VjcmV0"), "{}", shown.text);
    }
    let shown = house.ask("GET", &format!("/api/v1/commands/{uuid}")).send().await.ok();
    assert_eq!((&shown["request"]["PIN"], &shown["hidden"]), (&Value::Null, &json!(["PIN", "UnlockToken"])));

    let path = format!("/api/v1/enrollments/A/commands/{uuid}/reveal");
    let helper = house.token("helper", "command").await;
    house.ask("POST", &path).nobody().token(&helper).send().await.refused(403, "forbidden");
    let shown = house.ask("POST", &path).send().await.ok();
    assert_eq!((&shown["request"]["PIN"], &shown["hidden"]), (&json!("876543"), &json!([])));
    let audit = house.audit();
    assert!(audit.last().unwrap().starts_with("socket command.reveal A "), "{audit:?}");
    assert!(audit.iter().all(|line| !line.contains("876543")), "{audit:?}");
}

#[tokio::test]
async fn a_token_of_scope_command_takes_nothing_from_anyone() {
    let house = House::new().await;
    house.enrolled("A").await;
    let helper = house.token("helper", "command").await;
    let path = "/api/v1/enrollments/A/commands";
    for request_type in ["EraseDevice", "DeviceLock", "ClearPasscode", "RemoveProfile", "Unheardof"] {
        let body = json!({"RequestType": request_type, "Identifier": "x"});
        let ask = house.ask("POST", &format!("{path}?force=1")).nobody().token(&helper).json(&body);
        ask.send().await.refused(403, "forbidden");
    }
    let harmless = json!({"RequestType": "SecurityInfo"});
    let queued = house.ask("POST", path).nobody().token(&helper).json(&harmless).send().await.ok();
    let own = format!("/api/v1/commands/{}", queued["uuid"].as_str().unwrap());
    let erase = send(&house, "A", &json!({"RequestType": "EraseDevice"})).await.ok();
    let other = format!("/api/v1/commands/{}", erase["uuid"].as_str().unwrap());
    house.ask("DELETE", &other).nobody().token(&helper).send().await.refused(403, "forbidden");
    let canceled = house.ask("DELETE", &own).nobody().token(&helper).send().await.ok();
    assert_eq!(canceled["status"], "Canceled");
    house.ask("DELETE", &own).send().await.refused(409, "conflict");
}

#[tokio::test]
async fn a_uuid_of_several_enrollments_needs_to_be_told_which() {
    let house = House::new().await;
    for udid in ["A", "B"] {
        house.enrolled(udid).await;
        let command = json!({"CommandUUID": "same", "RequestType": "SecurityInfo"});
        send(&house, udid, &command).await.ok();
    }
    let both = house.ask("GET", "/api/v1/commands/same").send().await;
    both.refused(409, "conflict");
    assert_eq!(both.json["error"]["enrollments"], json!(["A", "B"]));
    let one = house.ask("GET", "/api/v1/commands/same?enrollment=B").send().await.ok();
    assert_eq!(one["enrollment_id"], "B");
    let one = house.ask("GET", "/api/v1/enrollments/A/commands/same").send().await.ok();
    assert_eq!(one["enrollment_id"], "A");
    house.ask("DELETE", "/api/v1/commands/same").send().await.refused(409, "conflict");
    house.ask("GET", "/api/v1/commands/same?enrollment=C").send().await.refused(404, "not_found");
}

#[tokio::test]
async fn clearing_a_passcode_uses_the_token_that_the_device_entrusted_to_us() {
    let house = House::new().await;
    house.enrolled("A").await;
    let clear = json!({"RequestType": "ClearPasscode"});
    send(&house, "A", &clear).await.refused(409, "conflict");
    let seal = house.app.mdm.seal.clone();
    house
        .app
        .store
        .write("test.escrow", move |tx| escrow::store(tx, &seal, "A", Kind::UnlockToken, b"unlock"))
        .await
        .unwrap();
    let queued = send(&house, "A", &clear).await;
    assert!(!queued.text.contains("dW5sb2Nr"));
    let path = format!("/api/v1/commands/{}", queued.ok()["uuid"].as_str().unwrap());
    let revealed = house.ask("POST", &format!("{path}/reveal")).send().await.ok();
    assert_eq!(revealed["request"]["UnlockToken"], "dW5sb2Nr");
}

#[tokio::test]
async fn commands_are_listed_newest_first_in_pages() {
    let house = House::new().await;
    house.enrolled("A").await;
    for uuid in ["1", "2", "3"] {
        send(&house, "A", &json!({"CommandUUID": uuid, "RequestType": "SecurityInfo"})).await.ok();
    }
    let first = house.ask("GET", "/api/v1/enrollments/A/commands?limit=2").send().await.ok();
    let uuids = |page: &Value| {
        page["items"].as_array().unwrap().iter().map(|one| one["uuid"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(uuids(&first), ["3", "2"]);
    let path = format!("/api/v1/enrollments/A/commands?limit=2&cursor={}", first["next"].as_str().unwrap());
    let second = house.ask("GET", &path).send().await.ok();
    assert_eq!((uuids(&second), &second["next"]), (vec![json!("1")], &Value::Null));
}

#[tokio::test]
async fn a_push_without_a_token_or_a_certificate_says_why() {
    let house = House::new().await;
    house.enrolled("A").await;
    let answer = house.ask("POST", "/api/v1/enrollments/A/push").send().await.ok();
    assert_eq!(
        (&answer["status"], &answer["apns_id"], &answer["reason"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert!(answer["words"].as_str().unwrap().contains("russet push-certificate import"), "{answer}");
    house.ask("POST", "/api/v1/enrollments/none/push").send().await.refused(404, "not_found");
    house.app.store.write("test.end", |tx| crate::mdm::enrollment::end(tx, "A")).await.unwrap();
    house.ask("POST", "/api/v1/enrollments/A/push").send().await.refused(409, "conflict");
}
