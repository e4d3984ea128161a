//! What the API says of devices that are really there.

use hyper::StatusCode;
use russet::simulator::{Channel, Kind};
use serde_json::{Value as Json, json};

use crate::support::Appliance;

#[tokio::test]
async fn a_push_carries_what_apns_answered() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.device(Kind::IPhone);
    let mut woken = phone.hear(&appliance.apple);
    let link = appliance.invite(1).await;
    phone.enroll(&link).await.unwrap();
    let path = format!("/api/v1/enrollments/{}/push", phone.udid);
    let (status, answer) = appliance.api("POST", &path, None).await;
    assert_eq!((status, &answer["status"], &answer["reason"]), (StatusCode::OK, &json!(200), &Json::Null));
    assert!(answer["apns_id"].is_string() && answer["timestamp"].is_null(), "{answer}");
    assert_eq!(woken.recv().await, Some(Channel::Device));
}

#[tokio::test]
async fn a_device_that_is_deleted_is_told_at_its_next_contact_and_forgotten_on_request() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let path = format!("/api/v1/enrollments/{}", phone.udid);
    assert!(appliance.api("GET", &path, None).await.1["last_seen_at"].is_string(), "enrolling is a contact");
    let (_, gone) = appliance.api("DELETE", &path, None).await;
    assert_eq!(gone["state"], "unenrolled");
    let _ = phone.connect(Channel::Device).await;
    assert!(!phone.is_enrolled());
    let (status, _) = appliance.api("DELETE", &format!("{path}?forget=1"), None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(appliance.api("GET", &path, None).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_administrator_decides_on_a_claim() {
    let mut appliance = Appliance::start().await;
    let phone = appliance.enroll(Kind::IPhone).await;
    let mut new = appliance.device(Kind::IPhone);
    new.udid.clone_from(&phone.udid);
    let link = appliance.invite(1).await;
    new.enroll(&link).await.unwrap();

    let path = format!("/api/v1/enrollments/{}", phone.udid);
    assert_eq!(appliance.api("GET", &path, None).await.1["claims"], 1);
    let (_, claims) = appliance.api("GET", &format!("{path}/claims"), None).await;
    let claim = &claims["items"][0];
    assert_eq!((&claim["state"], &claim["has_token"]), (&json!("waiting"), &json!(true)));
    let list = json!([claim["id"], "none"]);
    let (_, refused) = appliance.api("POST", "/api/v1/claims/approve", Some(list)).await;
    assert_eq!(refused["error"]["pointer"], "/1", "a list alone is read too: {refused}");
    let body = json!({"claims": [claim["id"]]});
    let (status, approved) = appliance.api("POST", "/api/v1/claims/approve", Some(body.clone())).await;
    assert_eq!((status, &approved["items"][0]["state"]), (StatusCode::OK, &json!("approved")));
    assert_eq!(appliance.api("POST", "/api/v1/claims/approve", Some(body)).await.0, StatusCode::CONFLICT);
    assert_eq!(appliance.api("GET", &path, None).await.1["claims"], 0);
    let told = new.connect(Channel::Device).await.unwrap();
    assert_eq!(told[0].command.request_type, "DeclarativeManagement", "it is managed now");
}

#[tokio::test]
async fn nanomdms_tools_push_and_hear_apns_answer() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.device(Kind::IPhone);
    let _woken = phone.hear(&appliance.apple);
    let link = appliance.invite(1).await;
    phone.enroll(&link).await.unwrap();
    let path = format!("/api/v1/nanomdm/push/{},none", phone.udid);
    let (status, reply) = appliance.api("PUT", &path, None).await;
    assert_eq!(status, StatusCode::MULTI_STATUS);
    assert!(reply["status"][&phone.udid]["push_result"].is_string(), "{reply}");
    assert!(reply["status"]["none"]["push_error"].is_string(), "{reply}");
}
