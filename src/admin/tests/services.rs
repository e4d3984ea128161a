//! Service configurations and background tasks as people and scripts hand them in.

use serde_json::{Value, json};

use super::House;
use crate::admin::audit::tests::lines;

const SSHD: &str = "/api/v1/service-configurations/school.sshd";

fn sshd(text: &str) -> Value {
    json!({"service": "com.apple.sshd", "files": {"etc/ssh/sshd_config": text}})
}

#[tokio::test]
async fn a_service_configuration_is_written_read_changed_under_its_tag_and_deleted() {
    let house = House::new().await;
    let made = house.ask("PUT", SSHD).json(&sshd("A b\n")).send().await;
    assert_eq!(made.status, 201, "{}", made.text);
    let tag = made.headers["etag"].to_str().unwrap().to_owned();
    let read = house.ask("GET", SSHD).send().await;
    assert_eq!(read.headers["etag"].to_str().unwrap(), tag);
    assert_eq!(read.json["files"], json!({"etc/ssh/sshd_config": "A b\n"}));
    // What was read can be sent back.
    let same = house.ask("PUT", SSHD).header("if-match", &tag).json(&read.json).send().await;
    assert_eq!((same.status.as_u16(), &same.json["changed"]), (200, &json!(false)), "{}", same.text);
    let other = house.ask("PUT", SSHD).header("if-match", &tag).json(&sshd("A c\n")).send().await.ok();
    assert_eq!(other["changed"], true);
    for method in ["PUT", "DELETE"] {
        let late = house.ask(method, SSHD).header("if-match", &tag).json(&sshd("A d\n")).send().await;
        late.refused(412, "precondition_failed");
    }
    let list = house.ask("GET", "/api/v1/service-configurations?limit=1").send().await.ok();
    assert_eq!(list["items"][0]["files"], json!({"etc/ssh/sshd_config": 4}));
    assert_eq!(house.ask("DELETE", SSHD).send().await.status, 204);
    house.ask("GET", SSHD).send().await.refused(404, "not_found");
    let audit: Vec<String> = house.app.store.peek(lines).unwrap();
    let ours: Vec<&String> = audit.iter().filter(|line| line.contains("service-configuration")).collect();
    assert_eq!(ours.len(), 3, "two changes and the end: {audit:?}");
    assert!(ours[0].contains("school.sshd") && !ours[0].contains("A b"), "{ours:?}");
}

#[tokio::test]
async fn texts_are_for_administrators_and_changes_too() {
    let house = House::new().await;
    house.ask("PUT", SSHD).json(&sshd("A b\n")).send().await.ok();
    let task = "/api/v1/background-tasks/task";
    let plist = json!({"Label": "a", "Program": "/usr/bin/true"});
    let body = json!({"task_type": "org.example.a", "launchd": [{"context": "agent", "plist": plist}]});
    house.ask("PUT", task).json(&body).send().await.ok();
    let (reader, commander) = (house.token("r", "read").await, house.token("c", "command").await);
    for token in [&reader, &commander] {
        let shown = house.ask("GET", SSHD).nobody().token(token).send().await.ok();
        assert_eq!(
            (&shown["files"], &shown["hidden"]),
            (&json!({"etc/ssh/sshd_config": null}), &json!(["files"]))
        );
        let shown = house.ask("GET", task).nobody().token(token).send().await.ok();
        assert_eq!((&shown["launchd"][0]["plist"], &shown["hidden"]), (&Value::Null, &json!(["plist"])));
        let all = house.ask("GET", "/api/v1/export").nobody().token(token).send().await;
        assert!(!all.text.contains("A b") && !all.text.contains("/usr/bin/true"), "{}", all.text);
        for (method, path) in [("PUT", SSHD), ("DELETE", SSHD), ("PUT", task), ("DELETE", task)] {
            let refused = house.ask(method, path).nobody().token(token).json(&json!({})).send().await;
            refused.refused(403, "forbidden");
        }
        house.ask("GET", "/api/v1/compliance").nobody().token(token).send().await.ok();
    }
    let all = house.ask("GET", "/api/v1/services").nobody().token(&reader).send().await.ok();
    assert_eq!(all["items"].as_array().unwrap().len(), 9);
    house.ask("GET", "/api/v1/compliance").nobody().send().await.refused(401, "unauthenticated");
}
