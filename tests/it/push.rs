//! How devices are woken: Apple's answers and what is made of them.

use russet::clock::{Clock, HOUR, MINUTE};
use russet::mdm::{enrollment, queue, wake};
use russet::simulator::{Channel, Device, Kind, Misbehaviour};
use serde_json::json;

use crate::support::{Appliance, NOW};

/// A server that does nothing by itself: the test wakes devices.
async fn quiet() -> Appliance {
    let mut appliance = Appliance::at(Clock::set_to(NOW), |_| {}).await;
    appliance.running.as_mut().expect("the server runs").tasks.shutdown().await;
    appliance.import_push_certificate(crate::support::TOPIC).await;
    appliance
}

/// A phone whose system has no declarative management: it is pushed for what the test sends, and for
/// nothing else.
fn plain(appliance: &mut Appliance) -> Device {
    let mut phone = appliance.device(Kind::IPhone);
    phone.os_version = "15.8".into();
    phone
}

fn misbehaviour(status: u16, reason: &'static str) -> Misbehaviour {
    Misbehaviour { status, reason, timestamp: None, retry_after: None }
}

fn due_in(appliance: &Appliance, id: &str) -> i64 {
    let at: i64 = appliance.value("SELECT due_at FROM wakes WHERE enrollment_id = ?1", id);
    at - appliance.clock.now()
}

/// Pushes what is due; answers how many.
async fn wake_who_is_due(appliance: &Appliance) -> usize {
    wake::round(&appliance.app().mdm).await.unwrap()
}

#[tokio::test]
async fn many_commands_are_one_push_and_a_device_that_stays_away_is_pushed_again_with_growing_pauses() {
    let mut appliance = quiet().await;
    let mut phone = plain(&mut appliance);
    let _woken = phone.hear(&appliance.apple);
    let link = appliance.invite(1).await;
    phone.enroll(&link).await.unwrap();

    appliance.send(&phone.udid, json!({"RequestType": "SecurityInfo"})).await;
    assert_eq!(wake_who_is_due(&appliance).await, 1);
    assert_eq!(due_in(&appliance, &phone.udid), 15 * MINUTE);
    assert_eq!(wake_who_is_due(&appliance).await, 0, "not before it is due");
    appliance.clock.advance(15 * MINUTE);
    assert_eq!(wake_who_is_due(&appliance).await, 1);
    assert_eq!(due_in(&appliance, &phone.udid), HOUR);

    phone.connect(Channel::Device).await.unwrap();
    let waits: i64 = appliance.value("SELECT COUNT(*) FROM wakes WHERE enrollment_id = ?1", &phone.udid);
    assert_eq!(waits, 0, "who has nothing to come for is not pushed");
}

#[tokio::test]
async fn a_busy_push_service_is_asked_again_within_two_seconds() {
    let mut appliance = quiet().await;
    let mut phone = plain(&mut appliance);
    let _woken = phone.hear(&appliance.apple);
    let link = appliance.invite(1).await;
    phone.enroll(&link).await.unwrap();
    appliance.apple.misbehave(1, &misbehaviour(503, "ServiceUnavailable"));
    appliance.send(&phone.udid, json!({"RequestType": "SecurityInfo"})).await;
    assert_eq!(wake_who_is_due(&appliance).await, 1);
    assert!(due_in(&appliance, &phone.udid) <= 2);
    appliance.clock.advance(2);
    assert_eq!(wake_who_is_due(&appliance).await, 1);
    assert_eq!(appliance.apple.received()[1].status, 200);
}

#[tokio::test]
async fn who_waits_for_a_new_push_certificate_is_pushed_when_it_comes() {
    let mut appliance = quiet().await;
    let mut phone = plain(&mut appliance);
    let _woken = phone.hear(&appliance.apple);
    let link = appliance.invite(1).await;
    phone.enroll(&link).await.unwrap();
    appliance.send(&phone.udid, json!({"RequestType": "SecurityInfo"})).await;
    assert_eq!(wake_who_is_due(&appliance).await, 1);
    appliance.clock.advance(2);

    let store = appliance.app().store.clone();
    store.write("test", |tx| wake::due_on_topic(tx, "com.apple.mgmt.Another")).await.unwrap();
    assert!(due_in(&appliance, &phone.udid) > MINUTE, "a device of another topic has its pauses");
    store.write("test", |tx| wake::due_on_topic(tx, crate::support::TOPIC)).await.unwrap();
    assert_eq!(due_in(&appliance, &phone.udid), 0);
    assert_eq!(wake_who_is_due(&appliance).await, 1);
}

#[tokio::test]
async fn a_token_that_apple_rejected_is_not_used_before_another_comes() {
    let mut appliance = quiet().await;
    let mut phone = plain(&mut appliance);
    let mut woken = phone.hear(&appliance.apple);
    let link = appliance.invite(1).await;
    phone.enroll(&link).await.unwrap();
    appliance.apple.misbehave(1, &misbehaviour(400, "BadDeviceToken"));
    appliance.send(&phone.udid, json!({"RequestType": "SecurityInfo"})).await;
    assert_eq!(wake_who_is_due(&appliance).await, 1);
    appliance.send(&phone.udid, json!({"RequestType": "ProfileList"})).await;
    assert_eq!(wake_who_is_due(&appliance).await, 0);

    phone.push.token = [7; 32];
    let _ = woken.try_recv();
    woken = phone.hear(&appliance.apple);
    phone.token_update(Channel::Device).await.unwrap();
    assert_eq!(wake_who_is_due(&appliance).await, 1, "what waited is said at once");
    assert_eq!(woken.recv().await, Some(Channel::Device));
}

/// A mix-up of certificates makes Apple reject tokens that are good: the device says so.
#[tokio::test]
async fn a_rejected_token_is_used_again_when_the_device_repeats_it_or_the_certificate_changes() {
    let mut appliance = quiet().await;
    let mut phone = plain(&mut appliance);
    let mut woken = phone.hear(&appliance.apple);
    let link = appliance.invite(1).await;
    phone.enroll(&link).await.unwrap();
    let reject = async |appliance: &Appliance| {
        appliance.apple.misbehave(1, &misbehaviour(400, "DeviceTokenNotForTopic"));
        appliance.send(&phone.udid, json!({"RequestType": "SecurityInfo"})).await;
        assert_eq!(wake_who_is_due(appliance).await, 1);
        let sql = "SELECT push_rejected FROM enrollments WHERE id = ?1";
        assert!(appliance.value::<bool>(sql, &phone.udid));
    };
    reject(&appliance).await;
    let store = appliance.app().store.clone();
    store.write("test", |tx| wake::due_on_topic(tx, crate::support::TOPIC)).await.unwrap();
    wake_who_is_due(&appliance).await;
    assert_eq!(woken.recv().await, Some(Channel::Device), "with the new certificate");

    reject(&appliance).await;
    phone.token_update(Channel::Device).await.unwrap();
    assert_eq!(wake_who_is_due(&appliance).await, 1);
    assert_eq!(woken.recv().await, Some(Channel::Device), "the same token, said again");
}

#[tokio::test]
async fn who_has_nothing_left_to_come_for_is_not_pushed_any_more() {
    let mut appliance = quiet().await;
    let mut phone = plain(&mut appliance);
    let _woken = phone.hear(&appliance.apple);
    let link = appliance.invite(1).await;
    phone.enroll(&link).await.unwrap();
    appliance.send(&phone.udid, json!({"RequestType": "SecurityInfo"})).await;
    let uuid = appliance.send(&phone.udid, json!({"RequestType": "ProfileList"})).await;
    assert_eq!(wake_who_is_due(&appliance).await, 1);
    let store = appliance.app().store.clone();
    let expires = "UPDATE commands SET expires_at = queued_at + 60 WHERE uuid = ?1";
    let expire = async |uuid: String| {
        store.write("test.expires", move |tx| Ok(tx.execute(expires, [uuid])?)).await.unwrap();
        appliance.clock.advance(61);
        store.write("test.expire", queue::expire_all).await.unwrap();
    };
    let waits =
        || -> i64 { appliance.value("SELECT COUNT(*) FROM wakes WHERE enrollment_id = ?1", &phone.udid) };
    let other: String =
        appliance.value("SELECT uuid FROM commands WHERE enrollment_id = ?1 LIMIT 1", &phone.udid);
    expire(uuid.clone()).await;
    assert_eq!(appliance.status(&phone.udid, &uuid), "Expired");
    assert_eq!(waits(), 1, "another command waits");
    expire(other).await;
    assert_eq!(waits(), 0);
}

#[tokio::test]
async fn an_outage_of_apples_does_not_make_a_devices_pauses_long() {
    let mut appliance = quiet().await;
    let mut phone = plain(&mut appliance);
    let mut woken = phone.hear(&appliance.apple);
    let link = appliance.invite(1).await;
    phone.enroll(&link).await.unwrap();
    appliance.apple.misbehave(5, &misbehaviour(503, "ServiceUnavailable"));
    appliance.send(&phone.udid, json!({"RequestType": "SecurityInfo"})).await;
    assert_eq!(wake_who_is_due(&appliance).await, 1);
    for _ in 0..5 {
        assert!(due_in(&appliance, &phone.udid) <= 32);
        appliance.clock.advance(32);
        assert_eq!(wake_who_is_due(&appliance).await, 1);
    }
    assert_eq!(woken.recv().await, Some(Channel::Device));
    assert_eq!(due_in(&appliance, &phone.udid), 15 * MINUTE);
    let failures: i64 = appliance.value("SELECT failures FROM wakes WHERE enrollment_id = ?1", &phone.udid);
    assert_eq!(failures, 0);
}

#[tokio::test]
async fn a_refused_certificate_holds_up_its_topic_until_another_comes() {
    let mut appliance = quiet().await;
    let mut phones = Vec::new();
    for _ in 0..2 {
        let mut phone = plain(&mut appliance);
        let link = appliance.invite(1).await;
        phone.enroll(&link).await.unwrap();
        phones.push(phone);
    }
    let woken: Vec<_> = phones.iter_mut().map(|phone| phone.hear(&appliance.apple)).collect();
    appliance.apple.misbehave(1, &misbehaviour(403, "BadCertificate"));
    appliance.send(&phones[0].udid, json!({"RequestType": "SecurityInfo"})).await;
    let (store, soon) = (appliance.app().store.clone(), phones[1].udid.clone());
    store.write("test", move |tx| wake::later(tx, &soon, MINUTE)).await.unwrap();
    assert_eq!(wake_who_is_due(&appliance).await, 1);
    assert_eq!(due_in(&appliance, &phones[0].udid), HOUR);
    // Who was due meanwhile waits for the one that asks.
    assert_eq!(due_in(&appliance, &phones[1].udid), HOUR + MINUTE);
    store.write("test", |tx| wake::due_on_topic(tx, crate::support::TOPIC)).await.unwrap();
    assert_eq!(wake_who_is_due(&appliance).await, 2);
    drop(woken);
}

#[tokio::test]
async fn a_device_that_is_asked_to_unenroll_is_pushed_until_it_has_been_told() {
    let mut appliance = quiet().await;
    let mut phone = plain(&mut appliance);
    let mut woken = phone.hear(&appliance.apple);
    let link = appliance.invite(1).await;
    phone.enroll(&link).await.unwrap();
    let uuid = appliance.send(&phone.udid, json!({"RequestType": "SecurityInfo"})).await;
    assert_eq!(wake_who_is_due(&appliance).await, 1);
    assert_eq!(woken.recv().await, Some(Channel::Device));

    let id = phone.udid.clone();
    appliance
        .app()
        .store
        .write("test", move |tx| {
            queue::cancel_all(tx, &id)?;
            enrollment::ask_to_unenroll(tx, &id)?;
            wake::due(tx, &id)
        })
        .await
        .unwrap();
    assert_eq!(wake_who_is_due(&appliance).await, 1);
    assert_eq!(woken.recv().await, Some(Channel::Device));
    assert_eq!(appliance.status(&phone.udid, &uuid), "Canceled");
    let _ = phone.connect(Channel::Device).await;
    assert!(!phone.is_enrolled());
}
