//! Reports that lie, and devices that never do what they are told (THREATS D5 5, 9 to 12).

use plist::Value;
use russet::simulator::{Channel, Kind};
use serde_json::json;

use super::{report, send, tell, xml};
use crate::support::Appliance;

fn reports(status: &str, udid: &str, uuid: &str) -> plist::Dictionary {
    report(status, udid, [("CommandUUID", uuid.into())])
}

/// 9: what was never asked, or asked of somebody else, changes nothing.
#[tokio::test]
async fn a_report_about_an_unknown_or_another_devices_command_changes_nothing() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let mut other = appliance.enroll(Kind::IPad).await;
    let (udid, other_udid) = (phone.udid.clone(), other.udid.clone());
    let mine = appliance.send(&udid, json!({"RequestType": "SecurityInfo"})).await;
    let theirs = appliance.send(&other_udid, json!({"RequestType": "SecurityInfo"})).await;

    for uuid in ["unknown", "", "'; DELETE FROM commands", &theirs, &"x".repeat(1 << 16)] {
        for status in ["Acknowledged", "Error", "CommandFormatError", "NotNow"] {
            let (answered, body) = tell(&appliance, &mut phone, reports(status, &udid, uuid)).await;
            assert_eq!(answered, 200, "{status} {uuid}");
            let body = String::from_utf8(body).unwrap();
            assert!(body.contains(&mine), "its own command comes next: {status} {uuid}: {body}");
        }
    }
    assert_eq!(appliance.status(&udid, &mine), "Sent");
    assert_eq!(appliance.status(&other_udid, &theirs), "Pending");
    other.connect(Channel::Device).await.unwrap();
    assert_eq!(appliance.status(&other_udid, &theirs), "Acknowledged");
}

/// 9: repeated, contradicted, in the name of a user.
#[tokio::test]
async fn the_first_final_answer_stands_whatever_follows() {
    let mut appliance = Appliance::start().await;
    let mut mac = appliance.enroll(Kind::Mac).await;
    let udid = mac.udid.clone();
    let user = mac.user.as_ref().unwrap().id.clone();
    let first = appliance.send(&udid, json!({"RequestType": "SecurityInfo"})).await;
    let second = appliance.send(&udid, json!({"RequestType": "SecurityInfo"})).await;
    assert!(mac.idle(Channel::Device).await.unwrap().is_some_and(|command| command.uuid == first));

    let mut as_user = reports("Acknowledged", &udid, &first);
    as_user.insert("UserID".into(), user.into());
    assert_eq!(tell(&appliance, &mut mac, as_user).await, (200, Vec::new()), "a user's queue is empty");
    assert_eq!(appliance.status(&udid, &first), "Sent");

    let mut chain = reports("Error", &udid, &first);
    chain.insert("ErrorChain".into(), Value::Array(vec![]));
    let (_, next) = tell(&appliance, &mut mac, chain).await;
    assert!(String::from_utf8(next).unwrap().contains(&second));
    for status in ["Acknowledged", "NotNow", "CommandFormatError", "Error"] {
        let (_, next) = tell(&appliance, &mut mac, reports(status, &udid, &first)).await;
        assert!(String::from_utf8(next).unwrap().contains(&second), "the queue does not move");
        assert_eq!(appliance.status(&udid, &first), "Error");
    }
}

/// 9: 50 MiB are not read.
#[tokio::test]
async fn a_list_of_fifty_megabytes_is_413() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let udid = phone.udid.clone();
    let uuid = appliance.send(&udid, json!({"RequestType": "InstalledApplicationList"})).await;
    phone.idle(Channel::Device).await.unwrap();
    let mut list = reports("Acknowledged", &udid, &uuid);
    list.insert("InstalledApplicationList".into(), Value::Data(vec![0; 38 << 20]));
    assert_eq!(send(&appliance, &mut phone, "/mdm/connect", xml(list)).await.status, 413);
    assert_eq!(appliance.status(&udid, &uuid), "Sent");
    phone.connect(Channel::Device).await.unwrap();
    assert_eq!(appliance.status(&udid, &uuid), "Acknowledged");
}

/// 10: a command that is refused or never answered is in nobody's way, and pauses grow.
#[tokio::test]
async fn not_now_for_ever_is_in_no_other_commands_way() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let udid = phone.udid.clone();
    let stuck = appliance.send(&udid, json!({"RequestType": "SecurityInfo"})).await;
    for round in 0..6 {
        assert!(phone.idle(Channel::Device).await.unwrap().is_some(), "{round}");
        let (_, next) = tell(&appliance, &mut phone, reports("NotNow", &udid, &stuck)).await;
        assert!(next.is_empty(), "not again before the next Idle");
    }
    let due: i64 = appliance.value("SELECT due_at FROM wakes WHERE enrollment_id = ?1", &udid);
    assert!(due > appliance.clock.now() + 60, "the pause has grown");
    let other = appliance.send(&udid, json!({"RequestType": "ProfileList"})).await;
    let next = phone.idle(Channel::Device).await.unwrap().unwrap();
    assert_eq!(next.uuid, other, "what was never offered goes first");
}

/// 10: a device that does nothing that it is told: each command is offered once and the queue goes on.
#[tokio::test]
async fn error_for_ever_is_in_no_other_commands_way() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let udid = phone.udid.clone();
    let mut uuids = Vec::new();
    for _ in 0..8 {
        uuids.push(appliance.send(&udid, json!({"RequestType": "SecurityInfo"})).await);
    }
    let mut offered = Vec::new();
    let mut next = phone.idle(Channel::Device).await.unwrap().map(|command| command.uuid);
    while let Some(uuid) = next {
        let mut said = reports("Error", &udid, &uuid);
        said.insert("ErrorChain".into(), Value::Array(vec!["no dictionary".into()]));
        let (_, body) = tell(&appliance, &mut phone, said).await;
        let body = String::from_utf8(body).unwrap();
        next = uuids.iter().find(|uuid| body.contains(*uuid)).cloned();
        offered.push(uuid);
    }
    assert_eq!(offered, uuids, "in their order, each once");
    for uuid in &uuids {
        assert_eq!(appliance.status(&udid, uuid), "Error");
    }
    let other = appliance.send(&udid, json!({"RequestType": "ProfileList"})).await;
    phone.connect(Channel::Device).await.unwrap();
    assert_eq!(appliance.status(&udid, &other), "Acknowledged");
}

/// 10: a thousand connections, as fast as one device can: answered, and others are served meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_storm_leaves_room_for_others() {
    let mut appliance = Appliance::start().await;
    let mut storm = appliance.enroll(Kind::IPhone).await;
    let mut quiet = appliance.enroll(Kind::IPad).await;
    let udid = storm.udid.clone();
    // One that is never answered, so that each Idle has to be written down.
    appliance.send(&udid, json!({"RequestType": "SecurityInfo"})).await;
    let url = format!("{}/mdm/connect", appliance.config.server.public_url);
    let storming = tokio::spawn(async move {
        for _ in 0..1000 {
            let body = xml(report("Idle", &udid, []));
            let reply = storm.put(&url, "application/x-apple-aspen-mdm", body).await.unwrap();
            assert!([200, 503].contains(&reply.status), "{}", reply.status);
        }
    });
    for _ in 0..10 {
        let uuid = appliance.send(&quiet.udid, json!({"RequestType": "SecurityInfo"})).await;
        quiet.connect(Channel::Device).await.unwrap();
        assert_eq!(appliance.status(&quiet.udid, &uuid), "Acknowledged");
    }
    storming.await.unwrap();
}

/// 10: the same over several connections of one device at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_over_several_connections_leaves_room_for_others() {
    let mut appliance = Appliance::start().await;
    let storm = appliance.enroll(Kind::IPhone).await;
    let mut quiet = appliance.enroll(Kind::IPad).await;
    appliance.send(&storm.udid, json!({"RequestType": "SecurityInfo"})).await;
    let identity = storm.identity.as_ref().unwrap();
    let presented = (identity.certificate.clone(), identity.pkcs8().to_vec());
    let body = String::from_utf8(xml(report("Idle", &storm.udid, []))).unwrap();
    let request =
        format!("PUT /mdm/connect HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let mut storming = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut stream = super::raw::open(&appliance, Some(&presented)).await;
        let request = request.clone();
        storming.spawn(async move {
            for _ in 0..50 {
                let status = super::network::ask_on(&mut stream, &request).await;
                assert!([200, 503].contains(&status), "{status}");
            }
        });
    }
    for _ in 0..5 {
        let uuid = appliance.send(&quiet.udid, json!({"RequestType": "SecurityInfo"})).await;
        quiet.connect(Channel::Device).await.unwrap();
        assert_eq!(appliance.status(&quiet.udid, &uuid), "Acknowledged");
    }
    storming.join_all().await;
}

/// 11: one setting that failed inside an acknowledged answer.
#[tokio::test]
async fn a_failed_item_inside_acknowledged_settings_is_a_failure() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let udid = phone.udid.clone();
    let items = |status: &str, chain: Value| {
        let failed = Value::Dictionary(super::keys([("Status", status.into()), ("ErrorChain", chain)]));
        let done = Value::Dictionary(super::keys([("Status", "Acknowledged".into())]));
        Value::Array(vec![done, failed])
    };
    let error = Value::Dictionary(super::keys([
        ("ErrorCode", 12_345.into()),
        ("ErrorDomain", "MCSettingsErrorDomain".into()),
        ("LocalizedDescription", "<script>alert(1)</script>".into()),
    ]));
    for (item, expected) in [
        (items("Error", Value::Array(vec![error])), "Error"),
        (items("Error", "no array".into()), "Error"),
        (items("NotNow", Value::Array(vec![])), "Error"),
        (items("Acknowledged", Value::Array(vec![])), "Acknowledged"),
        ("no array at all".into(), "Acknowledged"),
        (Value::Array(vec!["no dictionary".into()]), "Acknowledged"),
    ] {
        let settings =
            json!({"RequestType": "Settings", "Settings": [{"Item": "DeviceName", "DeviceName": "x"}]});
        let uuid = appliance.send(&udid, settings).await;
        phone.idle(Channel::Device).await.unwrap();
        let mut answer = reports("Acknowledged", &udid, &uuid);
        answer.insert("Settings".into(), item.clone());
        assert_eq!(tell(&appliance, &mut phone, answer).await.0, 200);
        assert_eq!(appliance.status(&udid, &uuid), expected, "{item:?}");
    }
}

/// 12: words and types that Apple does not know.
#[tokio::test]
async fn an_unknown_status_or_a_wrong_type_is_400() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let udid = phone.udid.clone();
    let uuid = appliance.send(&udid, json!({"RequestType": "SecurityInfo"})).await;
    for status in ["", "idle", "Done", "Idle ", "Acknowledged\0", "\u{1b}[31m"] {
        assert_eq!(tell(&appliance, &mut phone, reports(status, &udid, &uuid)).await.0, 400, "{status:?}");
    }
    let wrong: [(&str, Value); 4] = [
        ("Status", 200.into()),
        ("CommandUUID", 7.into()),
        ("CommandUUID", Value::Data(uuid.clone().into_bytes())),
        ("UDID", Value::Dictionary(plist::Dictionary::new())),
    ];
    for (key, value) in wrong {
        let mut said = reports("Acknowledged", &udid, &uuid);
        said.insert(key.into(), value.clone());
        assert_eq!(tell(&appliance, &mut phone, said).await.0, 400, "{key} {value:?}");
    }
    assert_eq!(tell(&appliance, &mut phone, report("Acknowledged", &udid, [])).await.0, 400);
    assert_eq!(tell(&appliance, &mut phone, report("Idle", "", [])).await.0, 400);
    assert_eq!(appliance.status(&udid, &uuid), "Pending");
}

/// 12: which request it was stands in the queue; what the report calls it counts for nothing.
#[tokio::test]
async fn an_unknown_request_type_in_a_report_changes_nothing_and_to_send_one_is_refused() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let udid = phone.udid.clone();
    for request_type in [
        Value::from("Later"),
        "".into(),
        "DeviceConfigured".into(),
        "<script>".into(),
        "x".repeat(1 << 16).into(),
        7.into(),
        Value::Array(vec![]),
    ] {
        let uuid = appliance.send(&udid, json!({"RequestType": "SecurityInfo"})).await;
        phone.idle(Channel::Device).await.unwrap();
        let mut said = reports("Acknowledged", &udid, &uuid);
        said.insert("RequestType".into(), request_type.clone());
        assert_eq!(tell(&appliance, &mut phone, said).await.0, 200, "{request_type:?}");
        assert_eq!(appliance.status(&udid, &uuid), "Acknowledged");
        let kept: String = appliance.value("SELECT request_type FROM commands WHERE uuid = ?1", &uuid);
        assert_eq!(kept, "SecurityInfo");
    }
    let path = format!("/api/v1/enrollments/{udid}/commands");
    for request_type in [json!("Later"), json!(""), json!("securityinfo"), json!(7), json!(null)] {
        let command = json!({"RequestType": request_type});
        assert_eq!(appliance.api("POST", &path, Some(command)).await.0, 400, "{request_type}");
    }
}

/// 12: an answer of the wrong shape is kept and teaches nothing.
#[tokio::test]
async fn an_inventory_of_wrong_types_is_kept_and_teaches_nothing() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let udid = phone.udid.clone();
    let information = json!({"RequestType": "DeviceInformation", "Queries": ["DeviceName", "OSVersion"]});
    let wrong = super::keys([
        ("DeviceName", 7.into()),
        ("OSVersion", Value::Data(vec![1])),
        ("SerialNumber", "x".repeat(1 << 16).into()),
        ("Model", "".into()),
        ("IsSupervised", "maybe".into()),
    ]);
    for answers in [Value::Dictionary(wrong), "text".into(), Value::Array(vec![])] {
        let uuid = appliance.send(&udid, information.clone()).await;
        phone.idle(Channel::Device).await.unwrap();
        let mut said = reports("Acknowledged", &udid, &uuid);
        said.insert("QueryResponses".into(), answers);
        assert_eq!(tell(&appliance, &mut phone, said).await.0, 200);
        assert_eq!(appliance.status(&udid, &uuid), "Acknowledged");
    }
    let serial: String = appliance.value("SELECT serial_number FROM enrollments WHERE id = ?1", &udid);
    assert_eq!(serial, phone.serial_number);
}

/// An answer of the erased sort, about a command that never was, ends nothing.
#[tokio::test]
async fn an_acknowledged_erase_that_nobody_asked_for_does_not_open_the_enrollment() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let udid = phone.udid.clone();
    let uuid = appliance.send(&udid, json!({"RequestType": "SecurityInfo"})).await;
    phone.idle(Channel::Device).await.unwrap();
    let mut said = reports("Acknowledged", &udid, &uuid);
    said.insert("RequestType".into(), "EraseDevice".into());
    assert_eq!(tell(&appliance, &mut phone, said).await.0, 200);
    let erased: Option<i64> = appliance.value("SELECT erased_at FROM enrollments WHERE id = ?1", &udid);
    assert_eq!(erased, None);
}
