//! What scripts for KMFDDM send, and what they hear.

use serde_json::{Value, json};

use super::House;
use super::declarations::passcode;
use crate::ddm::status;

async fn status(house: &House, method: &str, path: &str) -> u16 {
    house.ask(method, &format!("/api/v1/ddm/{path}")).send().await.status.as_u16()
}

async fn get(house: &House, path: &str) -> Value {
    house.ask("GET", &format!("/api/v1/ddm/{path}")).send().await.ok()
}

#[tokio::test]
async fn declarations_and_sets_change_once() {
    let house = House::new().await;
    house.enrolled("A").await;
    let put = async |body: &Value| {
        // As curl sends it.
        let ask = house.ask("PUT", "/api/v1/ddm/declarations?nonotify=1");
        ask.body("application/x-www-form-urlencoded", body.to_string().as_bytes()).send().await
    };
    assert_eq!(put(&passcode("pass", 6)).await.status, 204);
    assert_eq!(put(&passcode("pass", 6)).await.status, 304);
    assert_eq!(put(&passcode("pass", 99)).await.pointer(), "/Payload/MinimumLength");
    put(&json!("x")).await.refused(400, "invalid");
    assert_eq!(get(&house, "declarations").await, json!(["pass"]));
    let one = get(&house, "declarations/pass").await;
    assert_eq!(
        one.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["Type", "Identifier", "ServerToken", "Payload"]
    );
    assert_eq!(status(&house, "POST", "declarations/pass/touch").await, 204);
    assert_eq!(status(&house, "POST", "declarations/none/touch").await, 404);
    assert_ne!(get(&house, "declarations/pass").await["ServerToken"], one["ServerToken"]);

    for (method, path, first, then) in [
        ("PUT", "set-declarations/s?declaration=pass", 204, 304),
        ("PUT", "enrollment-sets/A?set=s&nonotify=true", 204, 304),
        ("PUT", "enrollment-sets/A?set=default", 304, 304),
    ] {
        assert_eq!(status(&house, method, path).await, first, "{path}");
        assert_eq!(status(&house, method, path).await, then, "{path}");
    }
    assert_eq!(get(&house, "sets").await, json!(["Class 4b", "default", "s"]));
    assert_eq!(get(&house, "set-declarations/s").await, json!(["pass"]));
    assert_eq!(get(&house, "set-declarations/none").await, json!([]));
    assert_eq!(get(&house, "enrollment-sets/A").await, json!(["Class 4b", "default", "s"]));
    assert_eq!(get(&house, "declaration-sets/pass").await, json!(["s"]));
    assert_eq!(status(&house, "PUT", "enrollment-sets/A").await, 400);
    assert_eq!(status(&house, "PUT", "enrollment-sets/none?set=s").await, 404);
    assert_eq!(status(&house, "PUT", "set-declarations/s?declaration=none").await, 404);
    assert_eq!(status(&house, "PUT", "set-declarations/new?declaration=none").await, 404);
    assert_eq!(
        get(&house, "sets").await,
        json!(["Class 4b", "default", "s"]),
        "nothing is left of what was refused"
    );
    assert_eq!(status(&house, "DELETE", "declarations/pass").await, 409);
    assert_eq!(status(&house, "DELETE", "enrollment-sets/A?set=default").await, 409);

    for (path, first, then) in [
        ("enrollment-sets/A?set=s", 204, 304),
        ("set-declarations/s?declaration=pass", 204, 304),
        ("declarations/pass", 204, 304),
        ("enrollment-sets/A?set=none", 304, 304),
    ] {
        assert_eq!(status(&house, "DELETE", path).await, first, "{path}");
        assert_eq!(status(&house, "DELETE", path).await, then, "{path}");
    }
    assert_eq!(status(&house, "PUT", "enrollment-sets/A?set=s").await, 204);
    assert_eq!(status(&house, "DELETE", "enrollment-sets-all/A").await, 204);
    assert_eq!(status(&house, "DELETE", "enrollment-sets-all/A").await, 304);
}

#[tokio::test]
async fn what_devices_reported_has_the_shapes_of_kmfddm() {
    let house = House::new().await;
    house.enrolled("A").await;
    house.enrolled("B").await;
    let report = json!({
        "StatusItems": {
            "management": {"declarations": {"configurations": [
                {"identifier": "x", "server-token": "t", "active": false, "valid": "invalid",
                 "reasons": [{"code": "Error.Unknown"}]},
            ]}},
            "device": {"identifier": {"serial-number": "S1", "udid": "A"}},
        },
        "Errors": [{"StatusItem": "passcode.is-present", "Reasons": [{"Code": "c"}]}],
    });
    let raw = report.to_string();
    let sent = raw.clone();
    let taken =
        house.app.store.write("test.report", move |tx| status::take(tx, "A", sent.as_bytes()).map(drop));
    taken.await.unwrap();

    let said = get(&house, "declaration-status/A,B").await;
    assert_eq!(said["B"], json!([]));
    let one = &said["A"][0];
    assert_eq!(
        (&one["identifier"], &one["server-token"], &one["valid"]),
        (&json!("x"), &json!("t"), &json!("invalid"))
    );
    assert_eq!((&one["active"], &one["current"]), (&json!(false), &json!(false)));
    let errors = get(&house, "status-errors/A").await;
    assert_eq!(errors["A"][0]["path"], ".Errors");
    assert_eq!(errors["A"][1]["path"], ".StatusItems.management.declarations.configurations");
    let values = get(&house, "status-values/A?prefix=.StatusItems.device.%25serial%25").await;
    assert_eq!(values["A"].as_array().unwrap().len(), 1);
    assert_eq!(values["A"][0]["path"], ".StatusItems.device.identifier.serial-number");
    assert_eq!(values["A"][0]["value"], "S1");

    let newest = house.ask("GET", "/api/v1/ddm/status-report/A").send().await;
    assert_eq!(newest.text, raw);
    assert_eq!(newest.headers["x-status-report-index"], "0");
    assert!(newest.headers["last-modified"].to_str().unwrap().ends_with(" GMT"));
    let name = newest.headers["x-status-report-id"].to_str().unwrap();
    assert_eq!(get(&house, &format!("status-report/A?status_id={name}")).await, report);
    for said in [&said["A"][0], &errors["A"][0], &errors["A"][1], &values["A"][0]] {
        assert_eq!(said["status_id"], name, "{said}");
    }
    assert_eq!(status(&house, "GET", "status-report/A?index=1").await, 404);
    assert_eq!(status(&house, "GET", "status-report/none").await, 404);
    assert_eq!(status(&house, "GET", "status-values/none").await, 404);
}

#[tokio::test]
async fn whoever_is_named_is_told_to_synchronise() {
    let house = House::new().await;
    for udid in ["A", "B", "C"] {
        house.enrolled(udid).await;
    }
    house.put("/api/v1/declarations/pass", &passcode("pass", 6)).await.ok();
    house.put("/api/v1/groups/s?nonotify=1", &json!({"members": ["B"], "declarations": ["pass"]})).await.ok();
    let woken = || -> Vec<String> {
        house
            .app
            .store
            .peek(|conn| {
                let mut query = conn.prepare("SELECT enrollment_id FROM wakes ORDER BY enrollment_id")?;
                Ok(query.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
            })
            .unwrap()
    };
    let clear = async || {
        let cleared = house.app.store.write("test.clear", |tx| Ok(tx.execute("DELETE FROM wakes", [])?));
        cleared.await.unwrap();
    };
    for (query, expected) in [
        ("id=A&id=C&id=none", vec!["A", "C"]),
        ("set=s", vec!["B"]),
        ("declaration=pass", vec!["B"]),
        ("set=default", vec!["A", "B", "C"]),
        ("", vec![]),
    ] {
        clear().await;
        assert_eq!(status(&house, "POST", &format!("notify?{query}")).await, 204);
        assert_eq!(woken(), expected, "{query}");
    }
}
