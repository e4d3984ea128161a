//! Invitations, push certificates, enrollments and claims.

use serde_json::{Value, json};

use super::{House, TOPIC};
use crate::mdm::enrollment;
use crate::simulator::push_certificate;

#[tokio::test]
async fn without_a_push_certificate_an_invitation_is_refused_in_words() {
    let house = House::new().await;
    let reply = house.ask("POST", "/api/v1/invitations").json(&json!({})).send().await;
    assert!(reply.refused(409, "conflict").contains("russet push-certificate import"));
}

#[tokio::test]
async fn an_invitation_is_made_shown_and_withdrawn() {
    let house = House::with_push_certificate().await;
    let body = json!({"uses": 3, "expires_in": "7d", "group": null});
    let made = house.ask("POST", "/api/v1/invitations").json(&body).send().await;
    assert_eq!(made.status, 201);
    let made = made.ok();
    let code = made["code"].as_str().unwrap();
    assert_eq!(made["url"], format!("https://localhost:8443/enroll/{code}"));
    assert_eq!(made["profile_url"], format!("https://localhost:8443/enroll/{code}/profile"));
    assert_eq!((&made["uses"], &made["used"], &made["state"]), (&json!(3), &json!(0), &json!("open")));
    assert_eq!(made["expires_at"], "2026-11-04T00:00:00Z");
    assert!(made["warning"].as_str().unwrap().contains("public_url"));

    let read = house.token("reader", "read").await;
    for path in ["/api/v1/invitations".to_owned(), format!("/api/v1/invitations/{code}")] {
        let seen = house.ask("GET", &path).nobody().token(&read).send().await;
        assert!(!seen.text.contains(code), "{}", seen.text);
        assert!(seen.text.contains("\"uses\":3"));
    }
    assert_eq!(house.ask("DELETE", &format!("/api/v1/invitations/{code}")).send().await.status, 204);
    let listed = house.ask("GET", "/api/v1/invitations").send().await.ok();
    assert_eq!(listed["items"][0]["state"], "revoked");
    assert_eq!(listed["items"][0]["code"], code);
    assert!(house.audit().iter().all(|line| !line.contains(code)), "{:?}", house.audit());
}

#[tokio::test]
async fn an_invitation_that_cannot_be_is_pointed_at() {
    let house = House::with_push_certificate().await;
    for (body, pointer) in [
        (json!({"uses": 0}), "/uses"),
        (json!({"uses": "1"}), "/uses"),
        (json!({"uses": 5_000_000_000_u64}), "/uses"),
        (json!({"expires_in": "2y"}), "/expires_in"),
        (json!({"expires_in": "400d"}), "/expires_in"),
        (json!({"reenroll": true, "expires_in": "2d"}), "/expires_in"),
        (json!({"reenroll": 1}), "/reenroll"),
        (json!({"serial_number": ""}), "/serial_number"),
        (json!({"expire_in": "1d"}), "/expire_in"),
    ] {
        let reply = house.ask("POST", "/api/v1/invitations").json(&body).send().await;
        reply.refused(400, "invalid");
        assert_eq!(reply.pointer(), pointer);
    }
}

#[tokio::test]
async fn push_certificates_are_imported_listed_and_never_give_their_key_away() {
    let house = House::with_push_certificate().await;
    let list = house.ask("GET", "/api/v1/push-certificates").send().await;
    assert!(!list.text.contains("PRIVATE"));
    let list = list.ok();
    let one = &list["items"][0];
    assert_eq!((&one["topic"], &one["current"]), (&json!(TOPIC), &json!(true)));
    assert_eq!((&one["apple_account"], &one["imported_by"]), (&json!("it@example.org"), &json!("socket")));
    assert_eq!(one["enrollments"], 0);

    house.enrolled("A").await;
    let (certificate, key) = push_certificate("com.apple.mgmt.External.other").unwrap();
    let mut body = json!({"certificate": certificate, "private_key": key});
    let import = async |body: &Value| house.ask("POST", "/api/v1/push-certificates").json(body).send().await;
    let refused = import(&body).await;
    refused.refused(409, "conflict");
    assert_eq!(refused.json["error"]["enrollments"], 1);
    assert_eq!(refused.json["error"]["existing_topic"], TOPIC);
    body["replace_topic"] = json!(1);
    assert_eq!(import(&body).await.ok()["topic"], "com.apple.mgmt.External.other");
    let reply = import(&json!({"certificate": "nonsense"})).await;
    reply.refused(400, "invalid");
}

#[tokio::test]
async fn enrollments_are_listed_filtered_and_shown() {
    let house = House::new().await;
    for udid in ["A", "B", "C"] {
        house.enrolled(udid).await;
    }
    house.user("B", "U/1").await;
    let list = async |query: &str| -> Vec<String> {
        let page = house.ask("GET", &format!("/api/v1/enrollments{query}")).send().await.ok();
        page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(list("").await, ["A", "B", "B:U/1", "C"]);
    assert_eq!(list("?type=User").await, ["B:U/1"]);
    assert_eq!(list("?serial_number=Serial-C").await, ["C"]);
    assert_eq!(list("?q=b%27s").await, ["B"]);
    assert_eq!(list("?q=%25").await, Vec::<String>::new());
    assert_eq!(list("?q=ANN").await, ["B:U/1"]);
    assert_eq!(list("?state=pending").await, Vec::<String>::new());
    house.ask("GET", "/api/v1/enrollments?state=lost").send().await.refused(400, "invalid");

    let user = house.ask("GET", "/api/v1/enrollments/B%3AU%2F1").send().await.ok();
    assert_eq!((&user["parent_id"], &user["channel"]), (&json!("B"), &json!("user")));
    let reply = house.ask("GET", "/api/v1/enrollments/A").send().await;
    assert!(!reply.text.contains("magic"));
    let device = reply.ok();
    for member in [
        "id",
        "type",
        "channel",
        "parent_id",
        "udid",
        "serial_number",
        "name",
        "model",
        "product_name",
        "os_version",
        "supervised",
        "state",
        "topic",
        "groups",
        "tags",
        "enrolled_at",
        "last_seen_at",
        "claims",
    ] {
        assert!(device.get(member).is_some(), "{member}");
    }
    assert_eq!(device["groups"], json!(["Class 4b"]));
    assert_eq!(device["last_seen_at"], Value::Null);
    house.app.mdm.contacts.seen("A", house.clock.now(), None);
    let device = house.ask("GET", "/api/v1/enrollments/A").send().await.ok();
    assert_eq!(device["last_seen_at"], device["enrolled_at"]);
}

#[tokio::test]
async fn an_administrator_tags_an_enrollment() {
    let house = House::new().await;
    house.enrolled("A").await;
    let patch = async |body: Value| house.ask("PATCH", "/api/v1/enrollments/A").json(&body).send().await;
    let tagged = patch(json!({"tags": ["loan", "<b>", "loan"]})).await.ok();
    assert_eq!(tagged["tags"], json!(["<b>", "loan"]));
    let found = house.ask("GET", "/api/v1/enrollments?tag=loan").send().await.ok();
    assert_eq!(found["items"][0]["id"], "A");
    assert_eq!(patch(json!({"tags": ["ok", 1]})).await.pointer(), "/tags/1");
    assert_eq!(patch(json!({"tags": [" "]})).await.pointer(), "/tags/0");
    assert_eq!(patch(json!({"name": "x"})).await.pointer(), "/name");
    assert_eq!(patch(json!({})).await.ok()["tags"], json!(["<b>", "loan"]));
}

#[tokio::test]
async fn deleting_asks_a_device_to_unenroll_and_forgetting_removes_it() {
    let house = House::new().await;
    house.enrolled("A").await;
    house.user("A", "U").await;
    let command = json!({"RequestType": "SecurityInfo"});
    let made = house.ask("POST", "/api/v1/enrollments/A/commands").json(&command).send().await.ok();
    house.ask("DELETE", "/api/v1/enrollments/A%3AU").send().await.refused(409, "conflict");

    let gone = house.ask("DELETE", "/api/v1/enrollments/A").send().await.ok();
    assert_eq!(gone["state"], "unenrolled");
    assert!(gone["unenroll_at"].is_string() && gone["can_be_pushed"] == true, "{gone}");
    let uuid = made["uuid"].as_str().unwrap();
    let canceled = house.ask("GET", &format!("/api/v1/commands/{uuid}")).send().await.ok();
    assert_eq!(canceled["status"], "Canceled");
    let refused = house.ask("POST", "/api/v1/enrollments/A/commands").json(&command).send().await;
    refused.refused(409, "conflict");

    assert_eq!(house.ask("DELETE", "/api/v1/enrollments/A?forget=1").send().await.status, 204);
    assert_eq!(house.ask("GET", "/api/v1/enrollments").send().await.ok()["items"], json!([]));
    house.ask("GET", &format!("/api/v1/commands/{uuid}")).send().await.refused(404, "not_found");
    house.ask("DELETE", "/api/v1/enrollments/A").send().await.refused(404, "not_found");
    assert!(house.app.store.peek(|conn| enrollment::channels(conn, "A")).unwrap().is_empty());
}

#[tokio::test]
async fn claims_that_do_not_exist_are_not_decided() {
    let house = House::new().await;
    house.enrolled("A").await;
    let claims = house.ask("GET", "/api/v1/enrollments/A/claims").send().await.ok();
    assert_eq!(claims, json!({"items": [], "next": null}));
    house.ask("POST", "/api/v1/enrollments/A/claims/x/approve").send().await.refused(404, "not_found");
    house.ask("POST", "/api/v1/enrollments/A/claims/x/reject").send().await.refused(404, "not_found");
    let list = house.ask("POST", "/api/v1/claims/approve").json(&json!({"claims": ["x"]})).send().await;
    assert_eq!(list.pointer(), "/claims/0");
}
