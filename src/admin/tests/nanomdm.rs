//! The shapes of NanoMDM's replies.

use serde_json::{Value, json};

use super::{House, TOPIC};
use crate::mdm::wake;
use crate::simulator::push_certificate;

const COMMAND: &[u8] = br#"<?xml version="1.0" encoding="UTF-8"?><plist version="1.0"><dict><key>Command</key><dict>
    <key>RequestType</key><string>ProfileList</string></dict><key>CommandUUID</key><string>U</string></dict></plist>"#;

#[tokio::test]
async fn the_push_certificate_comes_as_concatenated_pem() {
    let house = House::new().await;
    house.ask("GET", "/api/v1/nanomdm/pushcert").send().await.refused(404, "not_found");
    let (certificate, key) = push_certificate(TOPIC).unwrap();
    let both = format!("{certificate}{key}");
    let put = house.ask("PUT", "/api/v1/nanomdm/pushcert").body("text/plain", both.as_bytes()).send().await;
    assert_eq!(put.status, 200);
    let put = put.ok();
    assert_eq!(put["topic"], TOPIC);
    assert!(put["not_after"].as_str().unwrap().ends_with('Z'));
    assert_eq!(house.ask("GET", "/api/v1/nanomdm/pushcert").send().await.ok(), put);
    let reply = house.ask("PUT", "/api/v1/nanomdm/pushcert").body("text/plain", b"nothing").send().await;
    reply.refused(400, "invalid");
}

#[tokio::test]
async fn a_command_is_queued_for_several_enrollments() {
    let house = House::new().await;
    house.enrolled("A").await;
    house.enrolled("B").await;
    let path = "/api/v1/nanomdm/enqueue/A,B,A?nopush=1";
    let reply = house.ask("PUT", path).body("application/x-www-form-urlencoded", COMMAND).send().await;
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.json,
        json!({"no_push": true, "command_uuid": "U", "request_type": "ProfileList", "status": {}})
    );
    assert!(house.app.store.peek(|conn| wake::planned(conn, "A")).unwrap().is_none());

    // What was planned for another reason stays as it was planned.
    let due = "SELECT due_at - ?1 FROM wakes WHERE enrollment_id = 'B'";
    house.app.store.write("test", |tx| wake::later(tx, "B", 600)).await.unwrap();
    let other = String::from_utf8_lossy(COMMAND).replace(">U<", ">W<");
    let path = "/api/v1/nanomdm/enqueue/B?nopush=1";
    house.ask("PUT", path).body("", other.as_bytes()).send().await.ok();
    let now = house.app.store.clock().now();
    let left: i64 = house.app.store.peek(|conn| Ok(conn.query_row(due, [now], |row| row.get(0))?)).unwrap();
    assert_eq!(left, 600);

    let again = house.ask("POST", "/api/v1/nanomdm/enqueue/A,none?nopush=1").body("", COMMAND).send().await;
    assert_eq!(again.status, 500, "{}", again.text);
    assert!(again.json["status"]["A"]["command_error"].as_str().unwrap().contains("queued"));
    assert_eq!(again.json["status"]["none"]["command_error"], "there is no such enrollment");
}

#[tokio::test]
async fn a_push_that_failed_is_told_and_the_command_stays() {
    let house = House::new().await;
    house.enrolled("A").await;
    let reply = house.ask("PUT", "/api/v1/nanomdm/enqueue/A").body("", COMMAND).send().await;
    assert_eq!(reply.status, 207);
    assert!(reply.json["status"]["A"]["push_error"].as_str().unwrap().contains("push certificate"));
    assert_eq!(reply.json["status"]["A"]["command_error"], Value::Null);
    assert!(house.app.store.peek(|conn| wake::planned(conn, "A")).unwrap().is_some());
    assert_eq!(house.ask("GET", "/api/v1/commands/U").send().await.ok()["status"], "Pending");

    let push = house.ask("GET", "/api/v1/nanomdm/push/A,none").send().await;
    assert_eq!(push.status, 500);
    assert_eq!(push.json["status"]["none"]["push_error"], "there is no such enrollment");
    house.ask("PUT", "/api/v1/nanomdm/push/,").send().await.refused(400, "invalid");
}

#[tokio::test]
async fn scopes_hold_here_too() {
    let house = House::new().await;
    house.enrolled("A").await;
    let helper = house.token("helper", "command").await;
    let enqueue = async |command: &[u8]| {
        house
            .ask("PUT", "/api/v1/nanomdm/enqueue/A?nopush=1")
            .nobody()
            .token(&helper)
            .body("", command)
            .send()
            .await
    };
    enqueue(COMMAND).await.ok();
    let erase = String::from_utf8_lossy(COMMAND).replace("ProfileList", "EraseDevice").replace(">U<", ">V<");
    enqueue(erase.as_bytes()).await.refused(403, "forbidden");
}
