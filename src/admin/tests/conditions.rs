//! Conditions over what devices said of their declarations and over declared properties: previews, rules,
//! subscriptions.

use serde_json::{Value, json};

use super::House;
use super::declarations::passcode;
use crate::ddm::status;
use crate::mdm::subject;

fn truths(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().unwrap();
    items.iter().map(|one| format!("{} {}", one["id"], one["active"]).replace('"', "")).collect()
}

fn states(active: bool, valid: &str) -> Value {
    let one = json!({"identifier": "pass", "server-token": "t", "active": active, "valid": valid,
                     "reasons": [{"code": "Error.ConfigurationCannotBeApplied"}]});
    json!({"StatusItems": {"management": {"declarations": {"configurations": [one]}}}})
}

impl House {
    /// A report by the way that devices' reports take.
    async fn reported(&self, id: &'static str, report: Value) {
        let done = self.app.store.write("test.report", move |tx| {
            let taken = status::take(tx, id, report.to_string().as_bytes())?;
            assert!(taken.changed.contains("management.declarations"));
            crate::mdm::sync::refresh(tx, id)
        });
        done.await.unwrap();
    }
}

#[tokio::test]
async fn what_devices_say_of_declarations_can_be_asked_for() {
    let house = House::new().await;
    for udid in ["A", "B", "C"] {
        house.enrolled(udid).await;
    }
    house.reported("A", states(true, "valid")).await;
    house.reported("B", states(true, "invalid")).await;
    let ask = async |kind: &str, text: &str| {
        let body = Value::Object(serde_json::Map::from_iter([(kind.to_owned(), text.into())]));
        truths(&house.ask("POST", "/api/v1/preview").json(&body).send().await.ok())
    };
    let broken = "ANY @status(management.declarations.configurations).@key(valid) == 'invalid'";
    let by_name = "SUBQUERY(@status(management.declarations.configurations), $d, \
                   $d.@key(identifier) == 'pass' AND $d.@key(valid) == 'invalid').@count == 1";
    let inside = "SUBQUERY(@status(management.declarations).@key(configurations), $d, \
                  $d.@key(valid) == 'invalid').@count == 1";
    for text in [broken, by_name, inside] {
        for kind in ["predicate", "rule"] {
            assert_eq!(ask(kind, text).await, ["A false", "B true", "C unknown"], "{kind} {text}");
        }
    }
    // A rule takes in whose declaration failed, and lets them go when it does no longer.
    let group = json!({"rule": by_name, "declarations": []});
    let shown = house.put("/api/v1/groups/broken", &group).await.ok();
    assert_eq!(shown["members_by_rule"], json!(["B"]));
    house.reported("B", states(true, "valid")).await;
    let shown = house.ask("GET", "/api/v1/groups/broken").send().await.ok();
    assert_eq!(shown["members_by_rule"], json!([]));
}

#[tokio::test]
async fn a_preview_reads_the_properties_that_are_declared() {
    let house = House::new().await;
    for udid in ["A", "B"] {
        house.enrolled(udid).await;
    }
    let properties = json!({
        "Type": "com.apple.management.properties",
        "Identifier": "org.example.ring",
        "Payload": {"ring": 2},
    });
    house.put("/api/v1/declarations/org.example.ring", &properties).await.ok();
    let group = json!({"members": ["A"], "declarations": ["org.example.ring"]});
    house.put("/api/v1/groups/first", &group).await.ok();
    let ask = async |text: &str| {
        truths(&house.ask("POST", "/api/v1/preview").json(&json!({"predicate": text})).send().await.ok())
    };
    assert_eq!(ask("@property(ring) == 2").await, ["A true", "B false"]);
    assert_eq!(ask("'first' IN @property(groups)").await, ["A true", "B false"]);
    assert_eq!(ask("@property(shard) < 101").await, ["A true", "B true"]);
}

#[tokio::test]
async fn what_predicates_read_is_subscribed_to_if_a_device_has_it() {
    let house = House::new().await;
    house.enrolled("A").await;
    house.put("/api/v1/declarations/pass", &passcode("pass", 6)).await.ok();
    house.put("/api/v1/groups/default", &json!({"declarations": ["pass"]})).await.ok();
    let items = ["device.model.family", "passcode.is-present", "test.boolean-value", "test.string-value"];
    let said = json!({"supported-payloads": {"status-items": items}});
    let report = json!({"StatusItems": {"management": {"client-capabilities": said}}}).to_string();
    house.app.store.write("test.report", move |tx| status::take(tx, "A", report.as_bytes())).await.unwrap();
    let subscribed = || -> Vec<String> {
        let manifest = house.app.store.peek(|conn| {
            let subject = subject::of(conn, "A")?.unwrap();
            crate::ddm::manifest::of(conn, &subject)
        });
        let items = manifest.unwrap().items;
        let body = items.iter().find(|item| item.identifier == "russet.status").unwrap().own.clone().unwrap();
        let names = body["Payload"]["StatusItems"].as_array().unwrap().iter();
        names.map(|item| item["Name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(subscribed(), items[..2]);
    let group = json!({"predicate": "@status(test.boolean-value) == TRUE", "declarations": ["pass"]});
    house.put("/api/v1/groups/default", &group).await.ok();
    assert_eq!(subscribed(), items[..3]);
    let rule = json!({"rule": "@status(test.string-value) == 'x' OR @status(nobody.has-it) == 1"});
    house.put("/api/v1/groups/rule", &rule).await.ok();
    assert_eq!(subscribed(), items);
}
