//! Takeover of a live device with a stolen link (THREATS D5 6).

use plist::Value;
use russet::enroll::invitation::Wanted;
use russet::mdm::claim;
use russet::simulator::{Channel, Device, Kind};
use serde_json::json;

use super::{events, message, report, say, send, token_update, xml};
use crate::support::Appliance;

fn waiting(appliance: &Appliance, udid: &str) -> Vec<claim::Claim> {
    let claims = appliance.app().store.peek(|conn| claim::list(conn, udid, None, 100)).unwrap();
    claims.into_iter().map(|(_, claim)| claim).collect()
}

async fn thief_of(appliance: &mut Appliance, victim: &Device) -> Device {
    let mut thief = appliance.device(victim.kind);
    thief.udid.clone_from(&victim.udid);
    let link = appliance.invite(1).await;
    thief.enroll(&link).await.unwrap();
    thief
}

/// 6: answered 200 throughout, with nothing, whatever it asks; and it harms nothing by asking.
#[tokio::test]
async fn a_claim_is_answered_200_and_gets_nothing_whatever_it_asks() {
    let mut appliance = Appliance::start().await;
    let mut mac = appliance.enroll(Kind::Mac).await;
    let udid = mac.udid.clone();
    let uuid = appliance.send(&udid, json!({"RequestType": "SecurityInfo"})).await;
    let magic: String = appliance.value("SELECT push_magic FROM enrollments WHERE id = ?1", &udid);
    let mut thief = thief_of(&mut appliance, &mac).await;
    assert_eq!(events(&appliance, "claim"), 1);

    for kind in [
        "Authenticate",
        "TokenUpdate",
        "GetBootstrapToken",
        "SetBootstrapToken",
        "GetToken",
        "DeclarativeManagement",
        "UserAuthenticate",
        "ReturnToService",
    ] {
        let mut message = token_update(&udid);
        message.insert("MessageType".into(), kind.into());
        message.insert("Endpoint".into(), "tokens".into());
        message.insert("BootstrapToken".into(), Value::Data(b"thief's".to_vec()));
        message.insert("UnlockToken".into(), Value::Data(b"thief's".to_vec()));
        let reply = send(&appliance, &mut thief, "/mdm/checkin", xml(message)).await;
        assert_eq!((reply.status, reply.body.len()), (200, 0), "{kind}");
    }
    for status in ["Idle", "Acknowledged", "Error", "NotNow"] {
        let mut said = report(status, &udid, []);
        said.insert("CommandUUID".into(), uuid.as_str().into());
        let reply = send(&appliance, &mut thief, "/mdm/connect", xml(said)).await;
        assert_eq!((reply.status, reply.body.len()), (200, 0), "{status}");
    }
    assert_eq!(appliance.status(&udid, &uuid), "Pending");
    let kept: String = appliance.value("SELECT push_magic FROM enrollments WHERE id = ?1", &udid);
    assert_eq!(kept, magic);
    assert_eq!(mac.stored_bootstrap_token().await.unwrap(), Some(mac.bootstrap_token.clone()));

    // It goes away: its claim is gone, the device is not.
    assert_eq!(say(&appliance, &mut thief, message("CheckOut", &udid, [])).await, 200);
    assert_eq!(waiting(&appliance, &udid)[0].state, "gone");
    mac.connect_all().await.unwrap();
    assert_eq!(appliance.status(&udid, &uuid), "Acknowledged");
}

/// 6: a claim on one device is none on another.
#[tokio::test]
async fn a_claim_cannot_be_turned_on_another_device() {
    let mut appliance = Appliance::start().await;
    let phone = appliance.enroll(Kind::IPhone).await;
    let other = appliance.enroll(Kind::IPad).await;
    let mut thief = thief_of(&mut appliance, &phone).await;
    for udid in [other.udid.as_str(), "NEW-UDID"] {
        assert_eq!(say(&appliance, &mut thief, super::authenticate(udid)).await, 400);
        assert_eq!(say(&appliance, &mut thief, token_update(udid)).await, 400);
        assert_eq!(super::tell(&appliance, &mut thief, report("Idle", udid, [])).await.0, 400);
    }
    assert!(waiting(&appliance, &other.udid).is_empty());
}

/// 6: a flood of claims is bounded, and the device goes on.
#[tokio::test]
async fn a_flood_of_claims_is_stopped() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let link = appliance.invite(100).await;
    let mut refused = 0;
    for _ in 0..23 {
        let mut thief = appliance.device(Kind::IPhone);
        thief.udid.clone_from(&phone.udid);
        refused += usize::from(thief.enroll(&link).await.is_err());
    }
    assert_eq!(refused, 3);
    assert_eq!(waiting(&appliance, &phone.udid).len(), 20);
    assert!(phone.connect(Channel::Device).await.is_ok());
}

/// A link for one serial number does not open another device's enrollment.
#[tokio::test]
async fn a_link_for_one_serial_number_does_not_open_another_device() {
    let mut appliance = Appliance::start().await;
    let victim = appliance.enroll(Kind::IPhone).await;
    let wanted = Wanted { serial_number: Some("C02THIEF".into()), ..Wanted::default() };
    let link = appliance.invite_as(wanted).await;
    let mut thief = appliance.device(Kind::IPhone);
    thief.udid.clone_from(&victim.udid);
    thief.serial_number = "C02THIEF".into();
    thief.enroll(&link).await.unwrap();
    assert_eq!(waiting(&appliance, &victim.udid).len(), 1, "it waits like any other");
}

/// The two answers that end management, and only to whom they are meant for.
#[tokio::test]
async fn only_the_asked_and_the_rejected_are_told_to_unenroll() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let mut thief = thief_of(&mut appliance, &phone).await;
    let id = waiting(&appliance, &phone.udid)[0].id.clone();
    appliance.app().store.write("test", move |tx| claim::reject(tx, &id, "test")).await.unwrap();
    assert!(thief.connect(Channel::Device).await.is_err());
    assert!(!thief.is_enrolled());
    phone.connect(Channel::Device).await.unwrap();

    let udid = phone.udid.clone();
    let asked = udid.clone();
    appliance
        .app()
        .store
        .write("test", move |tx| russet::mdm::enrollment::ask_to_unenroll(tx, &asked))
        .await
        .unwrap();
    let mut other = appliance.enroll(Kind::IPad).await;
    assert_eq!(super::tell(&appliance, &mut other, report("Idle", &udid, [])).await.0, 400);
    assert!(phone.connect(Channel::Device).await.is_err());
    assert!(!phone.is_enrolled());
    assert!(other.is_enrolled());
}
