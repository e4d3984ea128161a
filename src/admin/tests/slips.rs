//! Declarations as people really write them: accepted with a warning, or refused with what to write.

use serde_json::{Value, json};

use super::House;
use super::declarations::passcode;

fn activation(predicate: &str) -> Value {
    let payload = json!({"StandardConfigurations": ["pass"], "Predicate": predicate});
    json!({"Type": "com.apple.activation.simple", "Identifier": "act", "Payload": payload})
}

#[tokio::test]
async fn a_server_token_is_passed_over_however_it_is_written() {
    let house = House::new().await;
    let mut body = passcode("pass", 6);
    body["ServerToken"] = json!("mine");
    let written = house.put("/api/v1/declarations/pass", &body).await.ok();
    assert_eq!(written["warnings"], json!([]));
    assert_ne!(written["ServerToken"], "mine");
    body["Server Token"] = json!("5cbc4de1");
    let again = house.put("/api/v1/declarations/pass", &body).await.ok();
    assert_eq!(again["changed"], false);
    assert!(again["warnings"][0].as_str().unwrap().starts_with("\"Server Token\" was taken for ServerToken"));
    assert!(again.get("Server Token").is_none(), "{again}");
}

#[tokio::test]
async fn text_where_something_else_is_due_is_refused_with_the_right_value() {
    let house = House::new().await;
    for (key, sent, right) in [
        ("RequirePasscode", json!("true"), "true"),
        ("RequirePasscode", json!("false"), "false"),
        ("MinimumLength", json!("6"), "6"),
    ] {
        let mut body = passcode("pass", 6);
        body["Payload"][key] = sent;
        for force in ["", "?force=1"] {
            let refused = house.put(&format!("/api/v1/declarations/pass{force}"), &body).await;
            refused.refused(400, "invalid");
            assert_eq!(refused.pointer(), format!("/Payload/{key}"));
            assert_eq!(refused.json["error"]["suggestion"], right, "{}", refused.text);
        }
    }
}

#[tokio::test]
async fn a_predicate_beside_the_payload_is_moved_into_it() {
    let house = House::new().await;
    house.put("/api/v1/declarations/pass", &passcode("pass", 6)).await.ok();
    let text = "@status(device.model.family) == 'iPad'";
    let beside = json!({
        "Type": "com.apple.activation.simple",
        "Identifier": "act",
        "Payload": {"StandardConfigurations": ["pass"]},
        "Predicate": text,
    });
    let written = house.put("/api/v1/declarations/act", &beside).await.ok();
    assert_eq!(written["Payload"], json!({"StandardConfigurations": ["pass"], "Predicate": text}));
    assert!(written.get("Predicate").is_none(), "{written}");
    assert_eq!(written["warnings"], json!(["Predicate was moved into Payload, where it belongs."]));
    let mut both = activation("@status(device.model.family) == 'Mac'");
    both["Predicate"] = json!(text);
    let refused = house.put("/api/v1/declarations/act", &both).await;
    refused.refused(400, "invalid");
    assert_eq!(refused.pointer(), "/Predicate");
    // Elsewhere than in an activation it has no meaning.
    let mut stray = passcode("stray", 6);
    stray["Predicate"] = json!(text);
    assert_eq!(house.put("/api/v1/declarations/stray", &stray).await.pointer(), "/Predicate");
}

#[tokio::test]
async fn a_predicate_without_status_is_refused_with_the_text_to_write() {
    let house = House::new().await;
    house.put("/api/v1/declarations/pass", &passcode("pass", 6)).await.ok();
    for (sent, right) in [
        ("(device.model.family == 'iPad')", "(@status(device.model.family) == 'iPad')"),
        ("device.model.family == \"iPad\"", "@status(device.model.family) == \"iPad\""),
    ] {
        let refused = house.put("/api/v1/declarations/act", &activation(sent)).await;
        refused.refused(400, "invalid");
        assert_eq!(refused.pointer(), "/Payload/Predicate");
        assert_eq!(refused.json["error"]["suggestion"], right, "{}", refused.text);
        house.put("/api/v1/declarations/act", &activation(right)).await.ok();
        let group = house.put("/api/v1/groups/g", &json!({"predicate": sent})).await;
        assert_eq!((group.pointer(), &group.json["error"]["suggestion"]), ("/predicate", &json!(right)));
    }
    // By force it is kept as it is, and its preview does not know.
    let forced = house.put("/api/v1/declarations/act?force=1", &activation("((newer ~~ syntax)")).await.ok();
    assert_eq!(forced["warnings"].as_array().unwrap().len(), 1, "{forced}");
    house.enrolled("A").await;
    let preview = house.ask("GET", "/api/v1/declarations/act/preview").send().await.ok();
    assert_eq!(preview["items"][0]["active"], "unknown");
}

#[tokio::test]
async fn a_status_item_that_a_platform_does_not_have_is_said() {
    let house = House::new().await;
    house.put("/api/v1/declarations/pass", &passcode("pass", 6)).await.ok();
    let everywhere = activation("@status(device.model.family) == 'iPad'");
    assert_eq!(house.put("/api/v1/declarations/act", &everywhere).await.ok()["warnings"], json!([]));
    let text = "@status(diskmanagement.filevault.enabled) == TRUE";
    let warnings = house.put("/api/v1/declarations/act", &activation(text)).await.ok()["warnings"].clone();
    let words = "iOS, tvOS, visionOS and watchOS do not report diskmanagement.filevault.enabled; \
                 a predicate that depends on it does not hold there.";
    assert_eq!(warnings, json!([words]));
    let group = house.put("/api/v1/groups/g", &json!({"rule": text, "predicate": text})).await.ok();
    let rule = "iOS, tvOS, visionOS and watchOS do not report diskmanagement.filevault.enabled; \
                a rule that depends on it makes nobody a member there.";
    assert_eq!(group["warnings"], json!([rule, words]));
    // What was answered can be sent back.
    assert_eq!(house.put("/api/v1/groups/g", &group).await.ok()["changed"], false);
    let all = json!({"groups": [{"name": "g2", "rule": "@status(a.b) == 1"}]});
    let applied = house.ask("POST", "/api/v1/apply").json(&all).send().await.ok();
    assert_eq!(applied["warnings"][0]["pointer"], "/groups/0", "{applied}");
}
