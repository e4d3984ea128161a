//! Who may take the place of a live enrollment (THREATS D4).

use russet::enroll::invitation::Wanted;
use russet::mdm::claim;
use russet::simulator::{Channel, Fault, Kind};
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

    let claims = appliance.app().store.peek(|conn| claim::list(conn, &phone.udid, None, 100)).unwrap();
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0].1.state, "waiting");

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
    let waiting = app.store.peek(|conn| claim::list(conn, &phone.udid, None, 100)).unwrap().remove(0).1.id;
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
    let waiting = app.store.peek(|conn| claim::list(conn, &phone.udid, None, 100)).unwrap().remove(0).1.id;
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
    let claims = appliance.app().store.peek(|conn| claim::list(conn, &phone.udid, None, 100)).unwrap();
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

/// The id of the one claim that waits.
fn waiting(appliance: &Appliance, udid: &str) -> String {
    appliance.app().store.peek(|conn| claim::list(conn, udid, None, 100)).unwrap().remove(0).1.id
}

#[tokio::test]
async fn an_approved_claim_keeps_all_that_it_said() {
    let mut appliance = Appliance::start().await;
    let mac = appliance.enroll(Kind::Mac).await;
    let udid = mac.udid.clone();
    let mut new = appliance.device(Kind::Mac);
    new.udid.clone_from(&udid);
    new.awaiting_configuration = true;
    let link = appliance.invite(1).await;
    new.enroll(&link).await.unwrap();
    let approve = format!("/api/v1/enrollments/{udid}/claims/{}/approve", waiting(&appliance, &udid));
    let (status, decided) = appliance.api("POST", &approve, None).await;
    assert_eq!((status.as_u16(), &decided["has_token"]), (200, &json!(true)));
    assert_eq!(decided["serial_number"], new.serial_number, "the list still says what came");

    let (_, shown) = appliance.api("GET", &format!("/api/v1/enrollments/{udid}"), None).await;
    assert_eq!(
        (&shown["awaiting_configuration"], &shown["serial_number"]),
        (&json!(true), &json!(new.serial_number))
    );
    for kind in ["Authenticate", "TokenUpdate"] {
        let sql = format!("SELECT body FROM messages WHERE enrollment_id = ?1 AND message_type = '{kind}'");
        let kept: Vec<u8> = appliance.value(&sql, &udid);
        assert!(String::from_utf8(kept).unwrap().contains(kind));
    }
    let stays: i64 = appliance.value(
        "SELECT COUNT(*) FROM claims WHERE enrollment_id = ?1 AND (authenticate IS NOT NULL OR push_token IS NOT NULL)",
        &udid,
    );
    assert_eq!(stays, 0, "and nothing is kept twice");
    assert_eq!(new.stored_bootstrap_token().await.unwrap(), Some(new.bootstrap_token.clone()));
}

#[tokio::test]
async fn a_claim_whose_link_was_used_up_meanwhile_is_answered_200_and_refused_by_words_at_approval() {
    let mut appliance = Appliance::start().await;
    let phone = appliance.enroll(Kind::IPhone).await;
    let link = appliance.invite(1).await;
    let mut new = appliance.device(Kind::IPhone);
    new.udid.clone_from(&phone.udid);
    new.enroll(&link).await.unwrap();
    // Its TokenUpdate came after another device had taken the last use.
    let uncounted =
        "UPDATE sessions SET counted = 0 WHERE id = (SELECT session_id FROM claims WHERE enrollment_id = ?1)";
    let udid = phone.udid.clone();
    appliance.app().store.write("test", move |tx| Ok(tx.execute(uncounted, [&udid])?)).await.unwrap();
    new.token_update(Channel::Device).await.unwrap();
    let approve =
        format!("/api/v1/enrollments/{}/claims/{}/approve", phone.udid, waiting(&appliance, &phone.udid));
    let (status, refused) = appliance.api("POST", &approve, None).await;
    assert_eq!(status.as_u16(), 409, "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains("used up"));
    let state = appliance
        .app()
        .store
        .peek(|conn| claim::list(conn, &phone.udid, None, 100))
        .unwrap()
        .remove(0)
        .1
        .state;
    assert_eq!(state, "waiting");
}

#[tokio::test]
async fn a_rejected_claim_hears_the_status_that_its_system_knows() {
    let mut appliance = Appliance::start().await;
    for (os_version, wanted) in [("16.7.2", 401), ("18.1", 403)] {
        let phone = appliance.enroll(Kind::IPhone).await;
        let mut thief = appliance.device(Kind::IPhone);
        thief.udid.clone_from(&phone.udid);
        thief.os_version = os_version.into();
        let link = appliance.invite(1).await;
        thief.enroll(&link).await.unwrap();
        let reject =
            format!("/api/v1/enrollments/{}/claims/{}/reject", phone.udid, waiting(&appliance, &phone.udid));
        assert_eq!(appliance.api("POST", &reject, None).await.0.as_u16(), 200);
        match thief.connect(Channel::Device).await {
            Err(Fault::Unenrolled { status, .. }) => assert_eq!(status, wanted),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn claims_are_listed_in_pages() {
    let mut appliance = Appliance::start().await;
    let phone = appliance.enroll(Kind::IPhone).await;
    let link = appliance.invite(3).await;
    for _ in 0..3 {
        let mut thief = appliance.device(Kind::IPhone);
        thief.udid.clone_from(&phone.udid);
        thief.enroll(&link).await.unwrap();
    }
    let path = format!("/api/v1/enrollments/{}/claims", phone.udid);
    let (_, first) = appliance.api("GET", &format!("{path}?limit=2"), None).await;
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    let next = first["next"].as_str().unwrap();
    let (_, last) = appliance.api("GET", &format!("{path}?limit=2&cursor={next}"), None).await;
    assert_eq!((last["items"].as_array().unwrap().len(), &last["next"]), (1, &json!(null)));
    for wrong in ["limit=0", "limit=501", "limit=x", "cursor=!"] {
        let (status, _) = appliance.api("GET", &format!("{path}?{wrong}"), None).await;
        assert_eq!(status.as_u16(), 400, "{wrong}");
    }
}
