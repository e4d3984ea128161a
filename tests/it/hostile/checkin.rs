//! Check-in messages that lie (THREATS D5 1, 2, 5, 7, 8, 12, 13).

use plist::Value;
use russet::simulator::{Channel, Device, Kind};
use serde_json::json;

use super::{authenticate, events, message, say, send, token_update, xml};
use crate::support::Appliance;

/// A device with an identity that has not said Authenticate yet.
async fn about_to_enroll(appliance: &mut Appliance) -> Device {
    let device = appliance.enroll(Kind::IPhone).await;
    // Its identity is taken back to where SCEP left it.
    let fingerprint = russet::id::sha256(&device.identity.as_ref().unwrap().certificate);
    let udid = device.udid.clone();
    appliance
        .app()
        .store
        .write("test.unpin", move |tx| {
            tx.execute(
                "UPDATE identities SET state = 'issued', enrollment_id = NULL WHERE fingerprint = ?1",
                [fingerprint],
            )?;
            tx.execute("UPDATE sessions SET enrollment_id = NULL WHERE enrollment_id = ?1", [&udid])?;
            tx.execute("DELETE FROM enrollments WHERE id = ?1", [&udid])?;
            Ok(())
        })
        .await
        .unwrap();
    device
}

/// 1: what no device is called.
#[tokio::test]
async fn a_udid_of_sql_is_refused() {
    let mut appliance = Appliance::start().await;
    let mut device = about_to_enroll(&mut appliance).await;
    for udid in [
        "'; DROP TABLE enrollments; --",
        "\" OR 1=1",
        "../../x",
        "..",
        "%2e%2e%2f",
        "",
        " ",
        "\u{202e}DIDU",
        "📱",
        "a:b",
        "a\nb",
        "=cmd|'/C calc'!A0",
        "<script>alert(1)</script>",
    ] {
        assert_eq!(say(&appliance, &mut device, authenticate(udid)).await, 400, "{udid:?}");
    }
    assert_eq!(say(&appliance, &mut device, authenticate(&"A".repeat(1 << 20))).await, 400);
    let raw = |udid: &str| {
        let xml = String::from_utf8(xml(authenticate("UDIDUDID"))).unwrap();
        xml.replace("UDIDUDID", udid).into_bytes()
    };
    for udid in ["&#0;", "a&#0;b", "&#xD800;", "&#x110000;"] {
        let reply = send(&appliance, &mut device, "/mdm/checkin", raw(udid)).await;
        assert_eq!(reply.status, 400, "{udid}");
    }
    for bytes in [&b"\xed\xa0\x80"[..], b"\xff", b"a\0b"] {
        let mut body = raw("UDIDUDID");
        let at = body.windows(8).position(|window| window == b"UDIDUDID").unwrap();
        body.splice(at..at + 8, bytes.iter().copied());
        let reply = send(&appliance, &mut device, "/mdm/checkin", body).await;
        assert_eq!(reply.status, 400, "{bytes:?}");
    }
    assert_eq!(appliance.value::<i64>("SELECT COUNT(*) FROM enrollments WHERE ?1 = ''", ""), 0);
}

/// 1: what a device says of itself is kept as it was said, and is inert.
#[tokio::test]
async fn names_of_sql_and_markup_are_kept_inert() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    for name in [
        "'; DROP TABLE enrollments; --",
        "<img src=x onerror=alert(1)>",
        "=HYPERLINK(\"http://evil\")",
        "\u{202e}gpj.exe",
        "\u{1b}[2J",
        "",
    ] {
        let mut authenticate = authenticate(&phone.udid);
        authenticate.insert("DeviceName".into(), name.into());
        authenticate.insert("SerialNumber".into(), name.into());
        assert_eq!(say(&appliance, &mut phone, authenticate).await, 200, "{name:?}");
        let kept: String = appliance.value("SELECT name FROM enrollments WHERE id = ?1", &phone.udid);
        assert_eq!(kept, name);
    }
    let mut long = authenticate(&phone.udid);
    long.insert("DeviceName".into(), "x".repeat(256).into());
    assert_eq!(say(&appliance, &mut phone, long).await, 400);
    assert!(phone.connect(Channel::Device).await.is_ok());
}

/// 2: refused, and an administrator can read it; once, however often it is tried.
#[tokio::test]
async fn a_udid_of_another_device_is_refused_and_told() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    for _ in 0..5 {
        assert_eq!(say(&appliance, &mut phone, token_update("OTHER-UDID")).await, 400);
    }
    assert_eq!(say(&appliance, &mut phone, authenticate("OTHER-UDID")).await, 400);
    assert_eq!(events(&appliance, "identity-mismatch"), 1);
    assert!(phone.connect(Channel::Device).await.is_ok(), "the device itself goes on");
}

/// 2: the same on the command channel.
#[tokio::test]
async fn a_report_with_the_udid_of_another_device_is_refused_and_told() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let other = appliance.enroll(Kind::IPad).await;
    for udid in [&other.udid, "OTHER-UDID"] {
        for status in ["Idle", "Acknowledged", "NotNow"] {
            let report = super::report(status, udid, [("CommandUUID", "U".into())]);
            assert_eq!(super::tell(&appliance, &mut phone, report).await.0, 400, "{status} {udid}");
        }
    }
    assert_eq!(events(&appliance, "identity-mismatch"), 1);
    let of: String = appliance.value("SELECT enrollment_id FROM events WHERE kind = ?1", "identity-mismatch");
    assert_eq!(of, phone.udid, "it is told of the device that lied");
    assert!(phone.connect(Channel::Device).await.is_ok(), "the device itself goes on");
}

/// 5 and 8: nothing can be said or asked in the name of another device, on either of its channels.
#[tokio::test]
async fn another_devices_certificate_gets_none_of_its_secrets_and_ends_nothing() {
    let mut appliance = Appliance::start().await;
    let mut mac = appliance.enroll(Kind::Mac).await;
    let mut thief = appliance.enroll(Kind::Mac).await;
    let uuid = appliance.send(&mac.udid, json!({"RequestType": "SecurityInfo"})).await;
    let user = mac.user.as_ref().unwrap().id.clone();
    for kind in [
        "GetBootstrapToken",
        "SetBootstrapToken",
        "GetToken",
        "DeclarativeManagement",
        "UserAuthenticate",
        "ReturnToService",
        "CheckOut",
        "TokenUpdate",
        "Authenticate",
    ] {
        for user in [None, Some(user.as_str())] {
            let mut message = token_update(&mac.udid);
            message.insert("MessageType".into(), kind.into());
            message.insert("Endpoint".into(), "tokens".into());
            message.insert("TokenServiceType".into(), "com.apple.maid".into());
            message.insert("BootstrapToken".into(), Value::Data(b"the thief's own".to_vec()));
            if let Some(user) = user {
                message.insert("UserID".into(), user.into());
            }
            let reply = send(&appliance, &mut thief, "/mdm/checkin", xml(message)).await;
            assert_eq!(reply.status, 400, "{kind}");
            assert!(!reply.body.windows(5).any(|window| window == b"plist"), "{kind}");
        }
    }
    for status in ["Idle", "Acknowledged", "NotNow", "Error", "CommandFormatError"] {
        for user in [None, Some(user.as_str())] {
            let mut report = super::report(status, &mac.udid, [("CommandUUID", uuid.as_str().into())]);
            if let Some(user) = user {
                report.insert("UserID".into(), user.into());
            }
            let (answered, body) = super::tell(&appliance, &mut thief, report).await;
            assert_eq!(answered, 400, "{status}");
            assert!(!String::from_utf8_lossy(&body).contains(&uuid), "{status}");
        }
    }
    assert_eq!(appliance.status(&mac.udid, &uuid), "Pending");
    assert_eq!(mac.stored_bootstrap_token().await.unwrap(), Some(mac.bootstrap_token.clone()));
    mac.connect_all().await.unwrap();
    assert_eq!(appliance.status(&mac.udid, &uuid), "Acknowledged");
}

/// 7: every key of a TokenUpdate, missing, too small and too large.
#[tokio::test]
async fn a_token_update_with_a_wrong_topic_or_token_is_refused() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let token: Vec<u8> = appliance.value("SELECT push_token FROM enrollments WHERE id = ?1", &phone.udid);
    let wrong: [(&str, Value); 9] = [
        ("Topic", "com.apple.mgmt.External.other".into()),
        ("Topic", Value::Data(b"com.apple.mgmt".to_vec())),
        ("Token", Value::Data(Vec::new())),
        ("Token", Value::Data(vec![1; 257])),
        ("Token", "text".into()),
        ("PushMagic", "".into()),
        ("PushMagic", "x".repeat(256).into()),
        ("PushMagic", "a\r\nb".into()),
        ("UnlockToken", Value::Data(vec![1; 65 * 1024])),
    ];
    for (key, value) in wrong {
        let mut update = token_update(&phone.udid);
        update.insert(key.into(), value.clone());
        assert_eq!(say(&appliance, &mut phone, update).await, 400, "{key} {value:?}");
        let mut update = token_update(&phone.udid);
        if key != "UnlockToken" {
            update.remove(key);
            assert_eq!(say(&appliance, &mut phone, update).await, 400, "no {key}");
        }
    }
    let mut huge = token_update(&phone.udid);
    huge.insert("Token".into(), Value::Data(vec![1; 10 << 20]));
    let reply = send(&appliance, &mut phone, "/mdm/checkin", xml(huge)).await;
    assert_eq!(reply.status, 413);
    let kept: Vec<u8> = appliance.value("SELECT push_token FROM enrollments WHERE id = ?1", &phone.udid);
    assert_eq!(kept, token);
}

/// 7: a device that says another topic is told of, once, however often it says so.
#[tokio::test]
async fn a_token_update_with_another_topic_is_told() {
    let mut appliance = Appliance::start().await;
    let mut mac = appliance.enroll(Kind::Mac).await;
    let mut update = token_update(&mac.udid);
    update.insert("Topic".into(), "com.apple.mgmt.External.other".into());
    let mut of_user = update.clone();
    of_user.insert("UserID".into(), mac.user.as_ref().unwrap().id.as_str().into());
    for update in [&update, &of_user, &update] {
        assert_eq!(say(&appliance, &mut mac, update.clone()).await, 400);
    }
    assert_eq!(events(&appliance, "topic-mismatch"), 1);
    appliance.clock.advance(3600);
    assert_eq!(say(&appliance, &mut mac, update).await, 400);
    assert_eq!(events(&appliance, "topic-mismatch"), 2, "and again when it goes on");
}

/// 7: an identity that has not said Authenticate is nobody.
#[tokio::test]
async fn a_token_update_before_authenticate_is_refused() {
    let mut appliance = Appliance::start().await;
    let mut device = about_to_enroll(&mut appliance).await;
    let udid = device.udid.clone();
    for kind in ["TokenUpdate", "CheckOut", "GetBootstrapToken", "DeclarativeManagement", "GetToken"] {
        let mut message = token_update(&udid);
        message.insert("MessageType".into(), kind.into());
        assert_eq!(say(&appliance, &mut device, message).await, 400, "{kind}");
    }
    assert_eq!(super::tell(&appliance, &mut device, super::report("Idle", &udid, [])).await.0, 400);
    assert_eq!(say(&appliance, &mut device, authenticate(&udid)).await, 200);
    assert_eq!(super::tell(&appliance, &mut device, super::report("Idle", &udid, [])).await.0, 400);
    assert_eq!(say(&appliance, &mut device, token_update(&udid)).await, 200);
    assert_eq!(super::tell(&appliance, &mut device, super::report("Idle", &udid, [])).await.0, 200);
}

/// 7: a thousand a minute; the flood is told to wait and others are served meanwhile.
#[tokio::test]
async fn a_flood_of_token_updates_is_told_to_wait_and_touches_nobody_else() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let mut other = appliance.enroll(Kind::IPad).await;
    let udid = phone.udid.clone();
    let mut answers = Vec::new();
    for _ in 0..120 {
        answers.push(say(&appliance, &mut phone, token_update(&udid)).await);
    }
    assert_eq!(answers[0], 200);
    assert_eq!(answers[119], 503);
    let other_udid = other.udid.clone();
    assert_eq!(say(&appliance, &mut other, token_update(&other_udid)).await, 200);
    appliance.clock.advance(60);
    assert_eq!(say(&appliance, &mut phone, token_update(&udid)).await, 200);
}

/// 7: what the profile never asked for is not kept by the megabyte.
#[tokio::test]
async fn a_message_of_megabytes_is_not_kept() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    for mut message in [authenticate(&phone.udid), token_update(&phone.udid)] {
        message.insert("Filler".into(), "x".repeat(1 << 20).into());
        assert_eq!(say(&appliance, &mut phone, message).await, 400);
    }
    let longest: i64 =
        appliance.value("SELECT MAX(LENGTH(body)) FROM messages WHERE enrollment_id = ?1", &phone.udid);
    assert!(longest < 64 * 1024, "{longest}");
}

/// 12: types, words and keys that Apple does not know.
#[tokio::test]
async fn unknown_messages_and_wrong_types_are_refused() {
    let mut appliance = Appliance::start().await;
    let mut mac = appliance.enroll(Kind::Mac).await;
    let udid = mac.udid.clone();
    for kind in ["", "authenticate", "Wipe", "TokenUpdate\0", "<b>", "GetPushMagic"] {
        let status = say(&appliance, &mut mac, message(kind, &udid, [])).await;
        assert_eq!(status, 400, "{kind:?}");
    }
    let wrong: [(&str, &str, Value); 12] = [
        ("TokenUpdate", "MessageType", 7.into()),
        ("TokenUpdate", "UDID", Value::Data(udid.clone().into_bytes())),
        ("TokenUpdate", "UDID", Value::Array(vec![udid.as_str().into()])),
        ("TokenUpdate", "AwaitingConfiguration", "yes".into()),
        ("TokenUpdate", "UserID", 7.into()),
        ("Authenticate", "SerialNumber", true.into()),
        ("Authenticate", "OSVersion", Value::Real(26.1)),
        ("Authenticate", "Topic", Value::Integer(1.into())),
        ("SetBootstrapToken", "BootstrapToken", "text".into()),
        ("DeclarativeManagement", "Endpoint", Value::Boolean(true)),
        ("GetToken", "TokenServiceType", Value::Data(vec![1])),
        ("UserAuthenticate", "UserID", Value::Dictionary(plist::Dictionary::new())),
    ];
    for (kind, key, value) in wrong {
        let mut message = token_update(&udid);
        message.insert("MessageType".into(), kind.into());
        message.insert(key.into(), value.clone());
        assert_eq!(say(&appliance, &mut mac, message).await, 400, "{kind} {key} {value:?}");
    }
    for body in [&b""[..], b"<plist/>", b"{}", b"<plist version=\"1.0\"><array/></plist>", b"bplist00"] {
        assert_eq!(send(&appliance, &mut mac, "/mdm/checkin", body.to_vec()).await.status, 400);
        assert_eq!(send(&appliance, &mut mac, "/mdm/connect", body.to_vec()).await.status, 400);
    }
    let mut extra = token_update(&udid);
    extra.insert("Later".into(), Value::Dictionary(super::keys([("OS", "99".into())])));
    assert_eq!(say(&appliance, &mut mac, extra).await, 200, "extra keys are kept");
    let kept: Vec<u8> = appliance
        .value("SELECT body FROM messages WHERE enrollment_id = ?1 AND message_type = 'TokenUpdate'", &udid);
    assert!(String::from_utf8(kept).unwrap().contains("Later"));
}

/// 12: dates, reals and integers at the edge of what they can hold.
#[tokio::test]
async fn numbers_and_dates_at_the_edge_never_end_a_request_in_a_panic() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    for value in [
        "<date>9999-12-31T23:59:59Z</date>",
        "<date>0000-00-00T00:00:00Z</date>",
        "<date>-9999-01-01T00:00:00Z</date>",
        "<date>10000-01-01T00:00:00Z</date>",
        "<real>1e309</real>",
        "<real>nan</real>",
        "<integer>18446744073709551615</integer>",
        "<integer>18446744073709551616</integer>",
        "<integer>-9223372036854775808</integer>",
        "<integer>0x7fffffffffffffff</integer>",
        "<data>=</data>",
        "<true>x</true>",
    ] {
        let body = format!(
            "<plist version=\"1.0\"><dict><key>MessageType</key><string>Authenticate</string><key>Topic</key>\
             <string>{}</string><key>UDID</key><string>{}</string><key>Extra</key>{value}</dict></plist>",
            crate::support::TOPIC,
            phone.udid
        );
        let status = send(&appliance, &mut phone, "/mdm/checkin", body.into_bytes()).await.status;
        assert!([200, 400].contains(&status), "{value}: {status}");
    }
}

/// 13: nothing is prepared for a device that is not being returned to service.
#[tokio::test]
async fn return_to_service_is_refused_to_a_device_that_is_not() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let udid = phone.udid.clone();
    let reply =
        send(&appliance, &mut phone, "/mdm/checkin", xml(message("ReturnToService", &udid, []))).await;
    assert_eq!(reply.status, 400);
    assert!(!reply.body.windows(5).any(|window| window == b"plist"));
}

/// The user of a device that left or was never enrolled is nobody; the same message twice is one.
#[tokio::test]
async fn messages_in_the_wrong_order_or_twice_do_no_harm() {
    let mut appliance = Appliance::start().await;
    let mut mac = appliance.enroll(Kind::Mac).await;
    let udid = mac.udid.clone();
    for _ in 0..3 {
        assert_eq!(say(&appliance, &mut mac, authenticate(&udid)).await, 200);
        assert_eq!(say(&appliance, &mut mac, token_update(&udid)).await, 200);
    }
    let state: String = appliance.value("SELECT state FROM enrollments WHERE id = ?1", &udid);
    assert_eq!(state, "enrolled", "a repeated Authenticate clears nothing");
    assert_eq!(mac.stored_bootstrap_token().await.unwrap(), Some(mac.bootstrap_token.clone()));

    let waiting = appliance.send(&udid, json!({"RequestType": "SecurityInfo"})).await;
    for _ in 0..3 {
        assert_eq!(say(&appliance, &mut mac, message("CheckOut", &udid, [])).await, 200, "again and again");
    }
    assert_eq!(appliance.status(&udid, &waiting), "Canceled");
    assert_eq!(super::tell(&appliance, &mut mac, super::report("Idle", &udid, [])).await.0, 400);
    assert_eq!(say(&appliance, &mut mac, token_update(&udid)).await, 400);
    assert_eq!(say(&appliance, &mut mac, authenticate(&udid)).await, 400, "the identity has ended");
    let mut user = token_update(&udid);
    user.insert("UserID".into(), mac.user.as_ref().unwrap().id.as_str().into());
    assert_eq!(say(&appliance, &mut mac, user).await, 400);
    let state: String = appliance.value("SELECT state FROM enrollments WHERE id = ?1", &udid);
    assert_eq!(state, "unenrolled");
}

/// 13: a refusal is 400; 404 would say that the token is somebody else's.
#[tokio::test]
async fn tokens_of_services_that_are_not_connected_are_refused_in_words() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let wanted = message("GetToken", &phone.udid, [("TokenServiceType", "com.apple.maid".into())]);
    let reply = send(&appliance, &mut phone, "/mdm/checkin", xml(wanted)).await;
    assert_eq!(reply.status, 400);
    assert!(String::from_utf8_lossy(&reply.body).contains("com.apple.maid"));
}
