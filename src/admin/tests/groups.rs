//! Groups as people and scripts write them.

use serde_json::{Value, json};

use super::House;
use super::declarations::passcode;

#[tokio::test]
async fn a_group_is_written_as_a_whole_and_part_by_part() {
    let house = House::new().await;
    for udid in ["A", "B"] {
        house.enrolled(udid).await;
    }
    house.put("/api/v1/declarations/pass", &passcode("pass", 6)).await.ok();
    let path = "/api/v1/groups/Room%2012";
    let made = house.put(path, &json!({"rule": "serial_number == 'Serial-B'", "tags": ["loan"]})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let shown = house.ask("GET", path).send().await;
    let etag = shown.headers["etag"].to_str().unwrap().to_owned();
    let shown = shown.ok();
    assert_eq!(shown["name"], "Room 12");
    for (member, value) in [
        ("description", json!("")),
        ("order", json!(100)),
        ("predicate", Value::Null),
        ("members", json!([])),
        ("members_by_rule", json!(["B"])),
        ("declarations", json!([])),
        ("tags", json!(["loan"])),
    ] {
        assert_eq!(shown[member], value, "{member}");
    }
    assert_eq!(house.put(path, &shown).await.ok()["changed"], false);

    for (part, item) in [("members", "A"), ("declarations", "pass")] {
        let path = format!("{path}/{part}/{item}");
        for _ in 0..2 {
            assert_eq!(house.ask("PUT", &path).send().await.status, 204);
        }
        let stale = house.ask("DELETE", &path).header("If-Match", &etag).send().await;
        stale.refused(412, "precondition_failed");
    }
    let shown = house.ask("GET", path).send().await.ok();
    assert_eq!((&shown["members"], &shown["members_by_rule"]), (&json!(["A"]), &json!(["B"])));
    for id in ["A", "B"] {
        let enrollment = house.ask("GET", &format!("/api/v1/enrollments/{id}")).send().await.ok();
        assert_eq!(enrollment["groups"], json!(["Class 4b", "Room 12"]));
    }
    house.ask("DELETE", &format!("{path}/members/B")).send().await.refused(404, "not_found");
    assert_eq!(house.ask("DELETE", &format!("{path}/members/A")).send().await.status, 204);
    house.ask("PUT", &format!("{path}/members/none")).send().await.refused(404, "not_found");
    house.ask("PUT", &format!("{path}/declarations/none")).send().await.refused(404, "not_found");
    house.ask("PUT", "/api/v1/groups/none/members/A").send().await.refused(404, "not_found");

    let put = house.ask("PUT", path).header("If-Match", &etag).json(&json!({}));
    put.send().await.refused(412, "precondition_failed");
    assert_eq!(house.put(path, &json!({})).await.ok()["declarations"], json!([]));
    assert_eq!(house.ask("DELETE", path).send().await.status, 204);
    house.ask("GET", path).send().await.refused(404, "not_found");
    house.ask("DELETE", "/api/v1/groups/default").send().await.refused(409, "conflict");
    let audit = house.audit();
    let actions: Vec<_> = audit.iter().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(
        actions[1..],
        [
            "group.put",
            "group.add-member",
            "group.add-declaration",
            "group.remove-member",
            "group.put",
            "group.delete"
        ]
    );
}

#[tokio::test]
async fn a_mistake_in_a_group_is_pointed_at() {
    let house = House::new().await;
    for (body, pointer) in [
        (json!({"order": "first"}), "/order"),
        (json!({"order": 1.5}), "/order"),
        (json!({"rule": "nothing_known == 1"}), "/rule"),
        (json!({"rule": "name =="}), "/rule"),
        (json!({"predicate": "os_version == '18'"}), "/predicate"),
        (json!({"members": ["none"]}), "/members/0"),
        (json!({"members": "A"}), "/members"),
        (json!({"declarations": ["none"]}), "/declarations/0"),
        (json!({"tags": ["ok", ""]}), "/tags/1"),
        (json!({"name": "other"}), "/name"),
        (json!({"membres": []}), "/membres"),
    ] {
        let reply = house.put("/api/v1/groups/g", &body).await;
        reply.refused(400, "invalid");
        assert_eq!(reply.pointer(), pointer, "{body}");
    }
    for name in ["a%2Fb", "..%2F..%2Fx", "%1b%5B2J", "%20a", &"a".repeat(101)] {
        let reply = house.put(&format!("/api/v1/groups/{name}"), &json!({})).await;
        assert_eq!(reply.pointer(), "/name", "{name}");
    }
    // Somebody's script is text like any other, and leaves as JSON.
    let made = house.put("/api/v1/groups/%3Cscript%3E", &json!({"description": "<script>"})).await;
    assert_eq!(made.headers["content-type"], "application/json");
    assert_eq!(made.ok()["name"], "<script>");
    let members = json!({"members": ["x"]});
    assert_eq!(house.put("/api/v1/groups/default", &members).await.pointer(), "/members");
    let default = house.put("/api/v1/groups/default", &json!({"description": "all"})).await.ok();
    assert_eq!(default["order"], 1000);
}

#[tokio::test]
async fn a_group_of_ten_thousand_is_written_and_read() {
    let house = House::new().await;
    house.enrolled("A").await;
    let filled = house.app.store.write("test.fill", |tx| {
        tx.execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9999)
             INSERT INTO enrollments (id, type, channel, udid, state, topic, created_at)
             SELECT printf('UDID-%030d', i), type, channel, printf('UDID-%030d', i), state, topic, created_at
             FROM enrollments, n WHERE id = 'A'",
        )?;
        Ok(())
    });
    filled.await.unwrap();
    let ids: Vec<String> = (1..=9999).map(|i| format!("UDID-{i:030}")).collect();
    let made =
        house.put("/api/v1/groups/big", &json!({"members": ids, "rule": "id BEGINSWITH 'UDID'"})).await;
    assert_eq!(made.status, 201, "{}", &made.text[..200]);
    let shown = house.ask("GET", "/api/v1/groups/big").send().await.ok();
    assert_eq!(shown["members"].as_array().unwrap().len(), 9999);
    assert_eq!(shown["members_by_rule"].as_array().unwrap().len(), 9999);
    let list = house.ask("GET", "/api/v1/groups?limit=1").send().await.ok();
    assert_eq!(list["items"][0]["name"], "Class 4b");
    let next = list["next"].as_str().unwrap();
    let list = house.ask("GET", &format!("/api/v1/groups?cursor={next}")).send().await.ok();
    assert_eq!((&list["items"][1]["name"], &list["next"]), (&json!("default"), &Value::Null));
}
