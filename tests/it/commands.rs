//! How commands go out and answers come back.

use russet::simulator::{Answer, Channel, Kind, Status};
use serde_json::json;

use crate::support::{Appliance, settle};

fn information() -> serde_json::Value {
    json!({"RequestType": "DeviceInformation", "Queries": ["DeviceName", "OSVersion", "SerialNumber"]})
}

#[tokio::test]
async fn a_pushed_device_answers_and_the_inventory_learns() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.device(Kind::IPhone);
    let mut woken = phone.hear(&appliance.apple);
    let link = appliance.invite(1).await;
    phone.enroll(&link).await.unwrap();
    settle(&mut phone).await;
    while woken.try_recv().is_ok() {}

    let uuid = appliance.send(&phone.udid, information()).await;
    assert_eq!(woken.recv().await, Some(Channel::Device));
    let exchanges = phone.connect(Channel::Device).await.unwrap();

    assert_eq!(exchanges.len(), 1);
    assert_eq!(exchanges[0].command.uuid, uuid);
    assert_eq!(appliance.status(&phone.udid, &uuid), "Acknowledged");
    let name: String = appliance.value("SELECT name FROM enrollments WHERE id = ?1", &phone.udid);
    assert_eq!(name, phone.name);
    assert!(phone.connect(Channel::Device).await.unwrap().is_empty());
}

#[tokio::test]
async fn commands_go_out_in_order_and_urgent_ones_first() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let first = appliance.send(&phone.udid, information()).await;
    let second = appliance.send(&phone.udid, json!({"RequestType": "SecurityInfo"})).await;
    let urgent = appliance.send(&phone.udid, json!({"RequestType": "DeviceLock"})).await;
    let answered: Vec<String> = phone
        .connect(Channel::Device)
        .await
        .unwrap()
        .into_iter()
        .map(|exchange| exchange.command.uuid)
        .collect();
    assert_eq!(answered, [urgent, first, second]);
}

#[tokio::test]
async fn not_now_defers_a_command_until_the_next_idle_and_lets_the_others_pass() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let first = appliance.send(&phone.udid, information()).await;
    let second = appliance.send(&phone.udid, json!({"RequestType": "SecurityInfo"})).await;

    let command = phone.idle(Channel::Device).await.unwrap().unwrap();
    assert_eq!(command.uuid, first);
    let next = phone.report(&command, Answer::not_now(), Channel::Device).await.unwrap().unwrap();
    assert_eq!(next.uuid, second);
    let answer = Answer::done();
    let next = phone.report(&next, answer, Channel::Device).await.unwrap();
    assert!(next.is_none(), "what was refused with NotNow is not offered again in this connection");
    assert_eq!(appliance.status(&phone.udid, &first), "NotNow");

    let command = phone.idle(Channel::Device).await.unwrap().unwrap();
    assert_eq!(command.uuid, first);
}

#[tokio::test]
async fn a_locked_device_answers_when_it_is_unlocked() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let uuid = appliance.send(&phone.udid, information()).await;
    phone.locked = true;
    phone.connect(Channel::Device).await.unwrap();
    assert_eq!(appliance.status(&phone.udid, &uuid), "NotNow");
    phone.locked = false;
    phone.connect(Channel::Device).await.unwrap();
    assert_eq!(appliance.status(&phone.udid, &uuid), "Acknowledged");
}

#[tokio::test]
async fn an_unanswered_command_is_sent_again_and_then_goes_behind_the_others() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let stuck = appliance.send(&phone.udid, information()).await;
    let other = appliance.send(&phone.udid, json!({"RequestType": "SecurityInfo"})).await;
    for _ in 0..3 {
        assert_eq!(phone.idle(Channel::Device).await.unwrap().unwrap().uuid, stuck);
    }
    assert_eq!(phone.idle(Channel::Device).await.unwrap().unwrap().uuid, other);
}

#[tokio::test]
async fn the_first_final_answer_stands() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let uuid = appliance.send(&phone.udid, information()).await;
    let command = phone.idle(Channel::Device).await.unwrap().unwrap();
    phone.report(&command, Answer::error(12021, "no"), Channel::Device).await.unwrap();
    let answer = Answer::done();
    phone.report(&command, answer, Channel::Device).await.unwrap();
    phone.report(&command, Answer::not_now(), Channel::Device).await.unwrap();
    assert_eq!(appliance.status(&phone.udid, &uuid), "Error");
}

#[tokio::test]
async fn a_user_of_a_mac_has_a_queue_of_their_own() {
    let mut appliance = Appliance::start().await;
    let mut mac = appliance.enroll(Kind::Mac).await;
    let user = format!("{}:{}", mac.udid, mac.user.as_ref().unwrap().id);
    let uuid = appliance.send(&user, json!({"RequestType": "ProfileList"})).await;
    assert!(mac.connect(Channel::Device).await.unwrap().is_empty());
    let exchanges = mac.connect(Channel::User).await.unwrap();
    assert_eq!(exchanges[0].command.uuid, uuid);
    assert_eq!(appliance.status(&user, &uuid), "Acknowledged");
}

#[tokio::test]
async fn a_bootstrap_token_goes_back_byte_for_byte() {
    let mut appliance = Appliance::start().await;
    let mut mac = appliance.enroll(Kind::Mac).await;
    let sent = mac.bootstrap_token.clone();
    mac.set_bootstrap_token().await.unwrap();
    assert_eq!(mac.stored_bootstrap_token().await.unwrap(), Some(sent));
    mac.bootstrap_token.clear();
    mac.set_bootstrap_token().await.unwrap();
    assert_eq!(mac.stored_bootstrap_token().await.unwrap(), None);
}

#[tokio::test]
async fn declarative_management_can_be_asked_for() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let uuid = appliance.send(&phone.udid, json!({"RequestType": "DeclarativeManagement"})).await;
    let exchanges = phone.connect(Channel::Device).await.unwrap();
    assert_eq!(exchanges[0].status, Status::Acknowledged);
    assert_eq!(appliance.status(&phone.udid, &uuid), "Acknowledged");
    let reports: i64 =
        appliance.value("SELECT COUNT(*) FROM status_reports WHERE enrollment_id = ?1", &phone.udid);
    assert!(reports > 0);
}

#[tokio::test]
async fn commands_survive_a_restart() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let uuid = appliance.send(&phone.udid, information()).await;
    appliance.restart(|_| {}).await;
    phone.connect(Channel::Device).await.unwrap();
    assert_eq!(appliance.status(&phone.udid, &uuid), "Acknowledged");
}
