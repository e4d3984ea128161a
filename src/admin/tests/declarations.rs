//! Declarations as people and scripts write them, where they stand, and all at once.

use serde_json::{Value, json};

use super::House;
use crate::ddm::status;
use crate::mdm::sync;

const PASSCODE: &str = "com.apple.configuration.passcode.settings";

pub(super) fn passcode(identifier: &str, length: u32) -> Value {
    json!({"Type": PASSCODE, "Identifier": identifier, "Payload": {"MinimumLength": length}})
}

fn activation(identifier: &str, names: &[&str], predicate: &str) -> Value {
    let payload = json!({"StandardConfigurations": names, "Predicate": predicate});
    json!({"Type": "com.apple.activation.simple", "Identifier": identifier, "Payload": payload})
}

impl House {
    pub(super) async fn put(&self, path: &str, body: &Value) -> super::Reply {
        self.ask("PUT", path).json(body).send().await
    }

    async fn report(&self, id: &'static str, report: Value) {
        let taken = self.app.store.write("test.report", move |tx| {
            status::take(tx, id, report.to_string().as_bytes())?;
            sync::refresh(tx, id)
        });
        taken.await.unwrap();
    }
}

#[tokio::test]
async fn a_declaration_is_written_read_changed_touched_and_deleted() {
    let house = House::new().await;
    let path = "/api/v1/declarations/org.example.passcode";
    let made = house.put(path, &passcode("org.example.passcode", 6)).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!((&made.json["warnings"], &made.json["changed"]), (&json!([]), &json!(true)));
    let shown = house.ask("GET", path).send().await;
    let etag = shown.headers["etag"].to_str().unwrap().to_owned();
    let shown = shown.ok();
    assert_eq!((&shown["Type"], &shown["Payload"]), (&json!(PASSCODE), &json!({"MinimumLength": 6})));
    assert_eq!(etag, format!("\"{}\"", shown["ServerToken"].as_str().unwrap()));
    assert_eq!((&shown["users"], &shown["updated_by"]), (&json!([]), &json!("socket")));

    // What was read can be sent back, and changes nothing.
    let again = house.put(path, &shown).await;
    assert_eq!((again.status.as_u16(), &again.json["changed"]), (200, &json!(false)));
    assert_eq!(house.audit().len(), 1);

    let with = async |tag: &str, length| {
        let ask = house.ask("PUT", path).header("If-Match", tag);
        ask.json(&passcode("org.example.passcode", length)).send().await
    };
    assert_eq!(with(&etag, 8).await.status, 200);
    with(&etag, 9).await.refused(412, "precondition_failed");
    with(&format!("W/{etag}"), 9).await.refused(412, "precondition_failed");
    assert_eq!(with("\"x\", *", 8).await.json["changed"], false);
    let new = house.ask("PUT", "/api/v1/declarations/new").header("If-Match", "*");
    new.json(&passcode("new", 4)).send().await.refused(412, "precondition_failed");

    let before = house.ask("GET", path).send().await.ok()["ServerToken"].clone();
    let stale = house.ask("POST", &format!("{path}/touch")).header("If-Match", &etag).send().await;
    stale.refused(412, "precondition_failed");
    let touched = house.ask("POST", &format!("{path}/touch")).send().await.ok();
    assert_ne!(touched["ServerToken"], before);
    let stale = house.ask("DELETE", path).header("If-Match", &etag).send().await;
    stale.refused(412, "precondition_failed");
    assert_eq!(house.ask("DELETE", path).send().await.status, 204);
    house.ask("GET", path).send().await.refused(404, "not_found");
    house.ask("DELETE", path).send().await.refused(404, "not_found");
    let audit = house.audit();
    let actions: Vec<_> = audit.iter().map(|line| line.split(' ').nth(1).unwrap()).collect();
    let put = "declaration.put";
    assert_eq!(actions, [put, put, "declaration.touch", "declaration.delete"]);
}

#[tokio::test]
async fn a_mistake_is_pointed_at() {
    let house = House::new().await;
    let put = async |name: &str, body: Value| {
        let reply = house.put(&format!("/api/v1/declarations/{name}"), &body).await;
        reply.refused(400, "invalid");
        reply
    };
    assert_eq!(put("a", passcode("b", 6)).await.pointer(), "/Identifier");
    assert_eq!(put("a", json!({"Type": PASSCODE, "Payload": {}})).await.pointer(), "/Identifier");
    assert_eq!(put("russet.x", passcode("russet.x", 6)).await.pointer(), "/Identifier");
    for name in ["..%2F..%2Fetc%2Fpasswd", "%3Cscript%3E", "a%20b", "%00", &"a".repeat(65)] {
        let plain = percent_encoding::percent_decode_str(name).decode_utf8().unwrap().into_owned();
        assert_eq!(put(name, passcode(&plain, 6)).await.pointer(), "/Identifier", "{name}");
        house.ask("GET", &format!("/api/v1/declarations/{name}")).send().await.refused(404, "not_found");
    }
    let text = json!({"Type": PASSCODE, "Identifier": "a", "Payload": {"RequirePasscode": "true"}});
    let reply = put("a", text).await;
    assert_eq!(reply.pointer(), "/Payload/RequirePasscode");
    assert!(reply.json["error"]["suggestion"].is_string(), "{}", reply.text);
    let body = json!({"Type": PASSCODE, "Identifier": "a", "Payload": {"MinimumLenght": 6}});
    assert_eq!(put("a", body.clone()).await.pointer(), "/Payload/MinimumLenght");
    let forced = house.put("/api/v1/declarations/a?force=1", &body).await.ok();
    assert_eq!(forced["warnings"].as_array().unwrap().len(), 1, "{forced}");
    assert_eq!(forced["forced"], true);
    let missing = put("act", activation("act", &["nothing"], "@status(x.y) == 1")).await;
    assert_eq!(missing.pointer(), "/Payload/StandardConfigurations/0");

    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    let ask = house.ask("PUT", "/api/v1/declarations/a").body("application/json", deep.as_bytes());
    assert_eq!(ask.send().await.pointer(), "");
    let deep = format!(
        "{{\"Type\": \"{PASSCODE}\", \"Identifier\": \"a\", \"Payload\": {{\"x\": {}1{}}}}}",
        "[".repeat(100),
        "]".repeat(100)
    );
    let ask = house.ask("PUT", "/api/v1/declarations/a?force=1").body("application/json", deep.as_bytes());
    ask.send().await.refused(400, "invalid");
    let text = house.ask("PUT", "/api/v1/declarations/a").body("text/plain", b"{}");
    text.send().await.refused(415, "unsupported_media_type");
}

#[tokio::test]
async fn what_is_in_use_stays_and_says_by_whom() {
    let house = House::new().await;
    house.put("/api/v1/declarations/pass", &passcode("pass", 6)).await.ok();
    house.put("/api/v1/declarations/act", &activation("act", &["pass"], "@status(a.b) == 1")).await.ok();
    house.put("/api/v1/groups/all", &json!({"declarations": ["act"]})).await.ok();
    let refused = house.ask("DELETE", "/api/v1/declarations/pass").send().await;
    refused.refused(409, "conflict");
    assert_eq!(refused.json["error"]["users"], json!([{"declaration": "act"}]));
    let refused = house.ask("DELETE", "/api/v1/declarations/act").send().await;
    assert_eq!(refused.json["error"]["users"], json!([{"group": "all"}]));
}

#[tokio::test]
async fn lists_come_in_pages_and_readers_only_read() {
    let house = House::new().await;
    for name in ["a", "b", "c"] {
        house.put(&format!("/api/v1/declarations/{name}"), &passcode(name, 6)).await.ok();
    }
    let first = house.ask("GET", "/api/v1/declarations?limit=2").send().await.ok();
    assert_eq!(first["items"][1]["Identifier"], "b");
    let next = first["next"].as_str().unwrap();
    let last = house.ask("GET", &format!("/api/v1/declarations?cursor={next}")).send().await.ok();
    assert_eq!((last["items"].as_array().unwrap().len(), &last["next"]), (1, &Value::Null));
    house.ask("GET", "/api/v1/declarations?limit=501").send().await.refused(400, "invalid");
    house.ask("GET", "/api/v1/declarations?cursor=%ff").send().await.refused(400, "invalid");

    let (read, command) = (house.token("r", "read").await, house.token("c", "command").await);
    for (method, path) in [
        ("PUT", "/api/v1/declarations/a"),
        ("DELETE", "/api/v1/declarations/a"),
        ("POST", "/api/v1/declarations/a/touch"),
        ("PUT", "/api/v1/groups/g"),
        ("PUT", "/api/v1/groups/g/members/x"),
        ("PUT", "/api/v1/groups/g/declarations/a"),
        ("POST", "/api/v1/apply"),
        ("PUT", "/api/v1/ddm/declarations"),
        ("PUT", "/api/v1/ddm/set-declarations/g"),
    ] {
        for token in [&read, &command] {
            let reply = house.ask(method, path).nobody().token(token).json(&json!({})).send().await;
            reply.refused(403, "forbidden");
        }
    }
    for path in ["/api/v1/declarations", "/api/v1/groups/default", "/api/v1/export", "/api/v1/ddm/sets"] {
        house.ask("GET", path).nobody().token(&read).send().await.ok();
    }
}

#[tokio::test]
async fn a_person_sees_where_a_condition_would_hold() {
    let house = House::new().await;
    for udid in ["A", "B", "C"] {
        house.enrolled(udid).await;
    }
    let battery = |healthy: bool| json!({"StatusItems": {"passcode": {"is-compliant": healthy}}});
    house.report("A", battery(true)).await;
    house.report("B", battery(false)).await;
    let predicate = "@status(passcode.is-compliant) == TRUE";
    let truths = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap();
        items.iter().map(|one| format!("{} {}", one["id"], one["active"]).replace('"', "")).collect()
    };
    let post = async |body: Value| house.ask("POST", "/api/v1/preview").json(&body).send().await;
    let page = post(json!({"predicate": predicate})).await.ok();
    assert_eq!(truths(&page), ["A true", "B false", "C unknown"]);
    let page = post(json!({"rule": "serial_number == 'Serial-C'"})).await.ok();
    assert_eq!(truths(&page), ["A false", "B false", "C true"]);
    assert_eq!(post(json!({"predicate": "passcode.is-compliant == TRUE"})).await.pointer(), "/predicate");
    assert_eq!(post(json!({})).await.pointer(), "");

    house.put("/api/v1/declarations/pass", &passcode("pass", 6)).await.ok();
    house.put("/api/v1/declarations/act", &activation("act", &["pass"], predicate)).await.ok();
    house.put("/api/v1/groups/g", &json!({"members": ["B"], "declarations": ["act"]})).await.ok();
    let page = house.ask("GET", "/api/v1/declarations/act/preview?limit=2").send().await.ok();
    assert_eq!(truths(&page), ["A true", "B false"]);
    assert_eq!((&page["items"][0]["assigned"], &page["items"][1]["assigned"]), (&json!(false), &json!(true)));
    assert!(page["next"].is_string());
    house.ask("GET", "/api/v1/declarations/pass/preview").send().await.refused(400, "invalid");
}

#[tokio::test]
async fn an_enrollment_shows_what_it_should_have_and_what_it_said() {
    let house = House::new().await;
    house.enrolled("A").await;
    house.put("/api/v1/declarations/one", &passcode("one", 6)).await.ok();
    let mac = "com.apple.configuration.diskmanagement.settings";
    let body = json!({"Type": mac, "Identifier": "mac", "Payload": {}});
    house.put("/api/v1/declarations/mac", &body).await.ok();
    house.put("/api/v1/groups/g", &json!({"members": ["A"], "declarations": ["one", "mac"]})).await.ok();
    let token = house.ask("GET", "/api/v1/declarations/one").send().await.ok()["ServerToken"].clone();
    let said = json!([{"identifier": "one", "server-token": token, "active": false, "valid": "invalid",
                       "reasons": [{"code": "Error.ConfigurationCannotBeApplied", "description": "<b>no"}]}]);
    let report = json!({
        "StatusItems": {
            "management": {"declarations": {"configurations": said}, "client-capabilities": {"x": 1}},
            "device": {"operating-system": {"version": "18.2"}},
        },
        "Errors": [{"StatusItem": "passcode.is-present", "Reasons": [{"Code": "c"}]}],
    });
    house.report("A", report).await;
    let list = house.ask("GET", "/api/v1/enrollments/A/declarations").send().await.ok();
    let of = |identifier: &str| -> Value {
        let items = list["items"].as_array().unwrap();
        items.iter().find(|one| one["identifier"] == identifier).unwrap().clone()
    };
    let one = of("one");
    assert_eq!(
        (&one["received"], &one["active"], &one["valid"]),
        (&json!(true), &json!(false), &json!("invalid"))
    );
    assert_eq!(one["reasons"][0]["code"], "Error.ConfigurationCannotBeApplied");
    assert!(
        one["reasons"][0]["words"].is_string() && one["left_out"].is_null() && one["reported_at"].is_string()
    );
    assert!(of("mac")["left_out"].as_str().unwrap().starts_with("mac "), "{list}");
    assert_eq!(list["sync"]["outstanding"], true);
    let page = house.ask("GET", "/api/v1/enrollments/A/declarations?limit=1").send().await.ok();
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    assert!(page["next"].is_string());

    let status = house.ask("GET", "/api/v1/enrollments/A/status").send().await.ok();
    assert_eq!(status["client_capabilities"], json!({"x": 1}));
    assert_eq!(status["errors"][0]["item"], "passcode.is-present");
    assert_eq!(status["changes"][0]["value"], "18.2");
    assert!(status.get("reports").is_none());
    let path = "/api/v1/enrollments/A/status?reports=1&prefix=device.";
    let status = house.ask("GET", path).send().await.ok();
    assert_eq!(status["items"].as_array().unwrap().len(), 1);
    assert!(status["reports"][0]["report"]["Errors"].is_array());
    for path in ["declarations", "status"] {
        let reply = house.ask("GET", &format!("/api/v1/enrollments/none/{path}")).send().await;
        reply.refused(404, "not_found");
    }
    let shown = house.ask("GET", "/api/v1/enrollments/A").send().await.ok();
    assert_eq!((&shown["groups"], &shown["tags"]), (&json!(["Class 4b", "g"]), &json!([])));
}

#[tokio::test]
async fn all_is_applied_at_once_or_nothing() {
    let house = House::new().await;
    for udid in ["A", "B"] {
        house.enrolled(udid).await;
    }
    // In any order: what is named is written first.
    let mut all = json!({
        "declarations": [activation("act", &["pass"], "@status(a.b) == 1"), passcode("pass", 6)],
        "groups": [{"name": "g", "members": ["A"], "declarations": ["act"]}],
        "dry_run": true,
    });
    let apply = async |body: &Value| house.ask("POST", "/api/v1/apply").json(body).send().await;
    let dry = apply(&all).await.ok();
    assert_eq!(dry["changes"].as_array().unwrap().len(), 3, "{dry}");
    assert_eq!(dry["enrollments"], json!([{"id": "A", "name": "A's phone"}]));
    assert_eq!(house.audit(), Vec::<String>::new());
    house.ask("GET", "/api/v1/declarations/pass").send().await.refused(404, "not_found");

    all["dry_run"] = json!(false);
    assert!(apply(&all).await.ok().get("enrollments").is_none());
    assert_eq!(house.audit().len(), 3);
    let exported = house.ask("GET", "/api/v1/export").send().await.ok();
    let mut same = exported.clone();
    (same["dry_run"], same["prune"]) = (json!(true), json!(true));
    let dry = apply(&same).await.ok();
    assert_eq!((&dry["changes"], &dry["enrollments"]), (&json!([]), &json!([])), "{dry}");

    // Who is in a group is left alone where it is not said.
    let body = json!({"groups": [{"name": "g", "declarations": ["act"], "description": "x"}]});
    apply(&body).await.ok();
    assert_eq!(house.ask("GET", "/api/v1/groups/g").send().await.ok()["members"], json!(["A"]));

    let wrong = json!({"declarations": [passcode("fine", 6), passcode("pass", 99)]});
    let refused = apply(&wrong).await;
    refused.refused(400, "invalid");
    assert_eq!(refused.pointer(), "/declarations/1/Payload/MinimumLength");
    house.ask("GET", "/api/v1/declarations/fine").send().await.refused(404, "not_found");
    for (body, pointer) in [
        (json!({"declarations": [passcode("a", 6), passcode("a", 7)]}), "/declarations/1/Identifier"),
        (json!({"groups": [{"name": "a"}, {"name": "a"}]}), "/groups/1/name"),
        (json!({"groups": [{"name": "a", "rule": "((("}]}), "/groups/0/rule"),
        (json!({"groups": [7]}), "/groups/0"),
        (json!({"groups": {}}), "/groups"),
        (json!({}), ""),
    ] {
        assert_eq!(apply(&body).await.pointer(), pointer);
    }
    // What a group that stays has cannot go.
    apply(&json!({"declarations": [], "prune": true})).await.refused(409, "conflict");
    let gone = apply(&json!({"declarations": [], "groups": [], "prune": true})).await.ok();
    assert_eq!(gone["changes"].as_array().unwrap().len(), 4, "{gone}");
    let left = house.ask("GET", "/api/v1/export").send().await.ok();
    assert_eq!(left["declarations"], json!([]));
    assert_eq!(left["groups"][0]["name"], "default");
}
