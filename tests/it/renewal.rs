//! How identities are renewed, and what a device may do meanwhile.

use russet::clock::DAY;
use russet::mdm::renewal;
use russet::simulator::{Channel, Kind};
use serde_json::json;

use crate::support::Appliance;

fn days(appliance: &Appliance) -> i64 {
    i64::from(appliance.config.enrollment.identity_days)
}

/// Time passes, and the server does what it does each day.
async fn let_pass(appliance: &Appliance, seconds: i64) {
    appliance.clock.advance(seconds);
    appliance.app().renew_certificates().await.unwrap();
}

#[tokio::test]
async fn an_identity_is_renewed_before_it_ends_and_the_queue_survives() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let old = phone.identity.clone().unwrap();
    assert!(phone.connect(Channel::Device).await.unwrap().is_empty());

    let_pass(&appliance, (days(&appliance) - 59) * DAY).await;
    let uuid = appliance.send(&phone.udid, json!({"RequestType": "SecurityInfo"})).await;
    let exchanges = phone.connect(Channel::Device).await.unwrap();
    let types: Vec<&str> = exchanges.iter().map(|exchange| exchange.command.request_type.as_str()).collect();
    assert_eq!(types, ["SecurityInfo", "InstallProfile"]);
    assert_eq!(appliance.status(&phone.udid, &uuid), "Acknowledged");
    let new = phone.identity.clone().unwrap();
    assert_ne!(old.certificate, new.certificate);

    // Both work for a while: an answer signed with the old one may still be under way.
    assert!(phone.connect(Channel::Device).await.unwrap().is_empty());
    phone.identity = Some(old.clone());
    assert!(phone.connect(Channel::Device).await.is_ok());
    appliance.clock.advance(8 * DAY);
    assert!(phone.connect(Channel::Device).await.is_err());
    phone.identity = Some(new);
    assert!(phone.connect(Channel::Device).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_device_switched_off_past_its_identitys_expiry_comes_back_and_is_renewed() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let waiting = appliance.send(&phone.udid, json!({"RequestType": "SecurityInfo"})).await;
    let_pass(&appliance, (days(&appliance) + 300) * DAY).await;

    let renewal = phone.idle(Channel::Device).await.unwrap().unwrap();
    assert_eq!(renewal.request_type, "InstallProfile", "it gets the renewal and nothing else");
    let exchanges = phone.connect(Channel::Device).await.unwrap();
    assert!(exchanges.iter().any(|exchange| exchange.command.request_type == "InstallProfile"));
    phone.connect(Channel::Device).await.unwrap();
    assert_eq!(appliance.status(&phone.udid, &waiting), "Acknowledged");
}

#[tokio::test]
async fn an_identity_that_expired_more_than_a_year_ago_is_refused() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let_pass(&appliance, (days(&appliance) + 366) * DAY).await;
    assert!(phone.connect(Channel::Device).await.is_err());
    assert!(phone.is_enrolled(), "and nothing makes it unenroll");
}

#[tokio::test]
async fn a_renewal_repeats_what_the_device_enrolled_with_whatever_the_configuration_says_now() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    appliance.restart(|config| config.enrollment.access_rights = 3).await;
    let_pass(&appliance, (days(&appliance) - 30) * DAY).await;
    let old = phone.identity.clone().unwrap();
    let exchanges = phone.connect(Channel::Device).await.unwrap();
    assert_eq!(exchanges[0].status.name(), "Acknowledged");
    assert_ne!(old.certificate, phone.identity.as_ref().unwrap().certificate);
}

#[tokio::test]
async fn a_renewal_that_failed_is_sent_again_after_hours_and_one_that_waits_is_not_repeated() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let_pass(&appliance, (days(&appliance) - 30) * DAY).await;
    let count = |appliance: &Appliance, phone: &str| -> i64 {
        appliance
            .value("SELECT COUNT(*) FROM commands WHERE enrollment_id = ?1 AND purpose = 'renewal'", phone)
    };
    let mdm = appliance.app().mdm.clone();
    renewal::round(&mdm).await.unwrap();
    renewal::round(&mdm).await.unwrap();
    assert_eq!(count(&appliance, &phone.udid), 1);

    let command = phone.idle(Channel::Device).await.unwrap().unwrap();
    phone.report(&command, russet::simulator::Answer::error(12021, "no"), Channel::Device).await.unwrap();
    renewal::round(&mdm).await.unwrap();
    assert_eq!(count(&appliance, &phone.udid), 1);
    appliance.clock.advance(4 * 3600);
    renewal::round(&mdm).await.unwrap();
    assert_eq!(count(&appliance, &phone.udid), 2);
}

#[tokio::test]
async fn a_renewal_is_looked_for_at_every_contact_and_not_only_when_idle() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let_pass(&appliance, (days(&appliance) - 30) * DAY).await;
    phone.token_update(Channel::Device).await.unwrap();
    phone.token_update(Channel::Device).await.unwrap();
    let sent: i64 = appliance
        .value("SELECT COUNT(*) FROM commands WHERE enrollment_id = ?1 AND purpose = 'renewal'", &phone.udid);
    assert_eq!(sent, 1);
}

#[tokio::test]
async fn a_device_whose_own_renewal_got_lost_is_renewed_when_it_comes_with_what_ends() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let_pass(&appliance, (days(&appliance) - 30) * DAY).await;
    // What a RenewalReq leaves behind whose answer never arrived.
    let (udid, now) = (phone.udid.clone(), appliance.clock.now());
    let later = now + days(&appliance) * DAY;
    appliance
        .app()
        .store
        .write("test.lost", move |tx| {
            Ok(tx.execute(
                "INSERT INTO identities (fingerprint, serial_number, session_id, public_key, certificate, not_before,
                                         not_after, issued_at, state, state_since, enrollment_id)
                 SELECT zeroblob(32), '00', session_id, x'00', x'00', ?2, ?3, ?2, 'pinned', ?2, ?1
                 FROM identities WHERE enrollment_id = ?1",
                rusqlite::params![udid, now, later],
            )?)
        })
        .await
        .unwrap();
    let exchanges = phone.connect(Channel::Device).await.unwrap();
    assert_eq!(exchanges[0].command.request_type, "InstallProfile");
}

#[tokio::test]
async fn several_contacts_at_once_send_one_renewal() {
    let mut appliance = Appliance::start().await;
    let phone = appliance.enroll(Kind::IPhone).await;
    let_pass(&appliance, (days(&appliance) - 30) * DAY).await;
    let mdm = appliance.app().mdm.clone();
    let rounds = tokio::join!(renewal::round(&mdm), renewal::round(&mdm), renewal::round(&mdm));
    rounds.0.and(rounds.1).and(rounds.2).unwrap();
    let sent: i64 = appliance.value("SELECT COUNT(*) FROM sessions WHERE renews = ?1", &phone.udid);
    assert_eq!(sent, 1);
}
