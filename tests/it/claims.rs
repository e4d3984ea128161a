//! Who may take the place of a live enrollment (THREATS D4).

use russet::enroll::invitation::Wanted;
use russet::mdm::claim;
use russet::simulator::{Channel, Kind};
use serde_json::json;

use crate::support::{Appliance, key, settle};

#[tokio::test]
async fn a_new_identity_with_a_live_udid_waits_and_gets_nothing() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let uuid = appliance.send(&phone.udid, json!({"RequestType": "SecurityInfo"})).await;

    let mut thief = appliance.device(Kind::IPhone);
    thief.udid.clone_from(&phone.udid);
    let link = appliance.invite(1).await;
    thief.enroll(&link).await.unwrap();
    assert!(thief.connect(Channel::Device).await.unwrap().is_empty(), "no command");

    let claims = appliance.app().store.peek(|conn| claim::of_enrollment(conn, &phone.udid)).unwrap();
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0].state, "waiting");

    phone.connect(Channel::Device).await.unwrap();
    assert_eq!(appliance.status(&phone.udid, &uuid), "Acknowledged", "the live device goes on");
}

#[tokio::test]
async fn an_approved_claim_is_the_device_and_the_earlier_one_is_not() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let mut new = appliance.device(Kind::IPhone);
    new.udid.clone_from(&phone.udid);
    let mut woken = new.hear(&appliance.apple);
    let link = appliance.invite(1).await;
    new.enroll(&link).await.unwrap();

    let app = appliance.app();
    let waiting = app.store.peek(|conn| claim::of_enrollment(conn, &phone.udid)).unwrap().remove(0).id;
    let seal = app.mdm.seal.clone();
    app.store.write("test", move |tx| claim::approve(tx, &seal, &waiting, "test")).await.unwrap();

    let uuid = appliance.send(&phone.udid, json!({"RequestType": "SecurityInfo"})).await;
    assert_eq!(woken.recv().await, Some(Channel::Device), "it is pushed with its own token");
    assert!(phone.connect(Channel::Device).await.is_err());
    assert!(phone.is_enrolled());
    new.connect(Channel::Device).await.unwrap();
    assert_eq!(appliance.status(&new.udid, &uuid), "Acknowledged");
}

#[tokio::test]
async fn a_rejected_claim_is_told_to_unenroll() {
    let mut appliance = Appliance::start().await;
    let phone = appliance.enroll(Kind::IPhone).await;
    let mut thief = appliance.device(Kind::IPhone);
    thief.udid.clone_from(&phone.udid);
    let link = appliance.invite(1).await;
    thief.enroll(&link).await.unwrap();
    let app = appliance.app();
    let waiting = app.store.peek(|conn| claim::of_enrollment(conn, &phone.udid)).unwrap().remove(0).id;
    app.store.write("test", move |tx| claim::reject(tx, &waiting, "test")).await.unwrap();
    let _ = thief.connect(Channel::Device).await;
    assert!(!thief.is_enrolled());
}

#[tokio::test]
async fn a_device_that_left_may_come_again_by_itself() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    phone.remove_management().await.unwrap();
    phone.key = Some(key(5));
    let link = appliance.invite(1).await;
    phone.enroll(&link).await.unwrap();
    settle(&mut phone).await;
    let claims = appliance.app().store.peek(|conn| claim::of_enrollment(conn, &phone.udid)).unwrap();
    assert!(claims.is_empty());
}

#[tokio::test]
async fn a_link_made_for_a_serial_number_or_for_enrolled_devices_lets_them_in() {
    let mut appliance = Appliance::start().await;
    let phone = appliance.enroll(Kind::IPhone).await;
    for wanted in [
        Wanted { serial_number: Some(phone.serial_number.clone()), ..Wanted::default() },
        Wanted { reenroll: true, ..Wanted::default() },
    ] {
        let link = appliance.invite_as(wanted).await;
        let mut again = appliance.device(Kind::IPhone);
        again.udid.clone_from(&phone.udid);
        again.serial_number.clone_from(&phone.serial_number);
        again.enroll(&link).await.unwrap();
        let uuid = appliance.send(&phone.udid, json!({"RequestType": "SecurityInfo"})).await;
        again.connect(Channel::Device).await.unwrap();
        assert_eq!(appliance.status(&phone.udid, &uuid), "Acknowledged");
    }
}

#[tokio::test]
async fn a_link_made_for_a_serial_number_is_nobody_elses() {
    let mut appliance = Appliance::start().await;
    let link =
        appliance.invite_as(Wanted { serial_number: Some("C02OTHER".into()), ..Wanted::default() }).await;
    let mut phone = appliance.device(Kind::IPhone);
    assert!(phone.enroll(&link).await.is_err());
}
