//! Packages and app sets as people and scripts hand them in.

use serde_json::{Value, json};

use super::House;
use crate::simulator::artifact::{app, installer};

const APP: &str = "com.apple.configuration.app.managed";

impl House {
    async fn package(&self, identifier: &str, bytes: &[u8]) -> super::Reply {
        self.upload(&format!("/api/v1/packages/{identifier}"), "application/x-whatever", bytes).await
    }
}

#[tokio::test]
async fn a_package_is_uploaded_shown_listed_and_deleted() {
    let house = House::new().await;
    let made = house.package("register", &app("org.example.register", "1", 9)).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let tag = made.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(tag, format!("\"{}\"", made.json["sha256"].as_str().unwrap()));
    assert_eq!((&made.json["title"], &made.json["changed"]), (&json!("Class Register"), &json!(true)));
    assert_eq!(made.json["provisioning_profile"], Value::Null);
    let url = made.json["manifest_url"].as_str().unwrap();
    assert!(url.ends_with("/mdm/manifests/register"), "{url}");

    let again = house.package("register", &app("org.example.register", "1", 9)).await;
    assert_eq!((again.status.as_u16(), &again.json["changed"]), (200, &json!(false)));
    house.package("tools", &installer("org.example.tools", "2", b"x", 9)).await.ok();
    let page = house.ask("GET", "/api/v1/packages?limit=1").send().await.ok();
    assert_eq!(page["items"][0]["identifier"], "register");
    let next = page["next"].as_str().unwrap();
    let rest = house.ask("GET", &format!("/api/v1/packages?limit=1&cursor={next}")).send().await.ok();
    assert_eq!((&rest["items"][0]["kind"], &rest["next"]), (&json!("pkg"), &Value::Null));

    let stale = house.ask("PUT", "/api/v1/packages/register").header("if-match", "\"00\"");
    stale.body("application/octet-stream", b"x").send().await.refused(412, "precondition_failed");
    let stale = house.ask("DELETE", "/api/v1/packages/register").header("if-match", "\"00\"");
    stale.send().await.refused(412, "precondition_failed");
    house.package("register", b"nothing of the sort").await.refused(400, "invalid");
    house.ask("DELETE", "/api/v1/packages/register").header("if-match", &tag).send().await.ok();
    house.ask("DELETE", "/api/v1/packages/register").send().await.refused(404, "not_found");
    house.ask("GET", "/api/v1/packages/register/content").send().await.refused(404, "not_found");
    let audit = house.audit();
    let of_packages: Vec<&String> = audit.iter().filter(|line| line.contains(" package.")).collect();
    assert_eq!(of_packages.len(), 3, "{audit:?}");
}

#[tokio::test]
async fn who_may_only_read_gets_no_bytes_and_changes_nothing() {
    let house = House::new().await;
    let bytes = installer("org.example.tools", "2", b"x", 9);
    house.package("tools", &bytes).await.ok();
    for (name, scope) in [("r", "read"), ("c", "command")] {
        let token = house.token(name, scope).await;
        let ask = |method: &str, path: &str| house.ask(method, path).nobody().token(&token);
        assert_eq!(ask("GET", "/api/v1/packages/tools").send().await.status, 200);
        assert_eq!(ask("GET", "/api/v1/app-sets").send().await.status, 200);
        ask("GET", "/api/v1/packages/tools/content").send().await.refused(403, "forbidden");
        ask("DELETE", "/api/v1/packages/tools").send().await.refused(403, "forbidden");
        let put = ask("PUT", "/api/v1/packages/tools").body("application/octet-stream", &bytes);
        put.send().await.refused(403, "forbidden");
        ask("PUT", "/api/v1/app-sets/x").json(&json!({})).send().await.refused(403, "forbidden");
    }
    let token = house.token("a", "admin").await;
    let content = house.ask("GET", "/api/v1/packages/tools").nobody().token(&token).send().await.ok();
    assert_eq!(content["size"], bytes.len());
}

#[tokio::test]
async fn app_sets_are_applied_and_exported_with_the_rest() {
    let house = House::new().await;
    let declared = json!({"Type": APP, "Identifier": "store", "Payload": {"AppStoreID": "361309726"}});
    let set = json!({
        "name": "exam", "description": "", "groups": ["default"], "declarations": ["store"],
        "active": null, "active_from": "2030-01-01T00:00:00Z", "active_until": null,
    });
    let mut body = json!({"declarations": [declared], "app_sets": [set], "dry_run": true});
    let dry = house.ask("POST", "/api/v1/apply").json(&body).send().await.ok();
    assert_eq!(dry["changes"][1]["kind"], "app set", "{dry}");
    assert_eq!(house.ask("GET", "/api/v1/app-sets").send().await.ok()["items"], json!([]));
    body["dry_run"] = false.into();
    house.ask("POST", "/api/v1/apply").json(&body).send().await.ok();
    let all = house.ask("GET", "/api/v1/export").send().await.ok();
    assert_eq!(all["app_sets"], json!([set]));
    let again = json!({"app_sets": all["app_sets"], "prune": true});
    let same = house.ask("POST", "/api/v1/apply").json(&again).send().await.ok();
    assert_eq!((&same["changes"], &same["unchanged"]), (&json!([]), &json!(1)));

    let shown = house.ask("GET", "/api/v1/app-sets/exam").send().await;
    let tag = shown.headers["etag"].to_str().unwrap().to_owned();
    let changed = house.ask("PUT", "/api/v1/app-sets/exam").header("if-match", &tag).json(&shown.json);
    assert_eq!(changed.send().await.ok()["changed"], false, "what was read can be sent back");
    let stale = house.ask("PUT", "/api/v1/app-sets/exam").header("if-match", "\"00\"").json(&shown.json);
    stale.send().await.refused(412, "precondition_failed");
    let wrong = json!({"app_sets": [{"name": "a b"}]});
    let refused = house.ask("POST", "/api/v1/apply").json(&wrong).send().await;
    assert_eq!(refused.pointer(), "/app_sets/0/name");
    let twice = json!({"app_sets": [{"name": "a"}, {"name": "a"}]});
    let refused = house.ask("POST", "/api/v1/apply").json(&twice).send().await;
    assert_eq!(refused.pointer(), "/app_sets/1/name");
    let none = json!({"app_sets": [], "prune": true});
    let gone = house.ask("POST", "/api/v1/apply").json(&none).send().await.ok();
    assert_eq!(gone["changes"][0]["action"], "deleted");
    house.ask("DELETE", "/api/v1/app-sets/exam").send().await.refused(404, "not_found");
}
