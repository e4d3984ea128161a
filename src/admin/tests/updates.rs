//! Update policies, Apple's catalogue and how far devices are, as people and scripts see them.

use serde_json::{Value, json};

use super::House;
use crate::ddm::status;
use crate::simulator::CATALOGUE;

const POLICY: &str = "/api/v1/update-policies/default";

fn version(version: &str) -> Value {
    json!({"enforce": {"version": version, "at": "2026-12-01T18:00"}})
}

impl House {
    async fn reports(&self, id: &str, report: &Value) {
        let (id, report) = (id.to_owned(), json!({"StatusItems": report}).to_string());
        let take = move |tx: &crate::storage::Tx<'_>| status::take(tx, &id, report.as_bytes()).map(drop);
        self.app.store.write("test.report", take).await.unwrap();
    }

    async fn catalogue(&self, document: &str) -> super::Reply {
        self.ask("PUT", "/api/v1/update-catalogue").body("application/json", document.as_bytes()).send().await
    }
}

#[tokio::test]
async fn a_policy_is_written_read_and_removed() {
    let house = House::new().await;
    let made = house.put(POLICY, &version("26.1")).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let etag = made.headers["etag"].to_str().unwrap().to_owned();
    let made = made.ok();
    assert_eq!((&made["group"], &made["changed"]), (&json!("default"), &json!(true)));
    let shown = house.ask("GET", POLICY).send().await;
    assert_eq!(shown.headers["etag"], etag.as_str());
    let shown = shown.ok();
    assert_eq!(shown["enforce"], version("26.1")["enforce"]);
    assert_eq!(shown["updated_by"], made["updated_by"]);
    assert_eq!(house.put(POLICY, &shown).await.ok()["changed"], false, "what was read can be sent back");
    assert_eq!(house.put(POLICY, &version("26.2")).await.ok()["changed"], true);
    let stale = house.ask("PUT", POLICY).header("If-Match", &etag).json(&version("26.3")).send().await;
    stale.refused(412, "precondition_failed");
    house.ask("DELETE", POLICY).header("If-Match", &etag).send().await.refused(412, "precondition_failed");

    let list = house.ask("GET", "/api/v1/update-policies?limit=1").send().await.ok();
    assert_eq!((&list["items"][0]["group"], &list["next"]), (&json!("default"), &Value::Null));
    assert_eq!(house.ask("DELETE", POLICY).send().await.status, 204);
    for method in ["GET", "DELETE"] {
        house.ask(method, POLICY).send().await.refused(404, "not_found");
    }
    house.put("/api/v1/update-policies/none", &version("26.1")).await.refused(404, "not_found");
    let audit = house.audit();
    let about: Vec<&String> = audit.iter().filter(|line| line.contains("update-policy")).collect();
    assert_eq!(about.len(), 3, "{about:?}");
    assert!(
        about[0].contains("update-policy.put default") && about[2].contains("update-policy.delete default")
    );
}

#[tokio::test]
async fn a_policy_that_is_wrong_is_refused_with_its_place() {
    let house = House::new().await;
    for (body, place) in [
        (json!({"enforce": {"version": "26.1", "at": "2026-12-01T18:00+01:00"}}), "/enforce/at"),
        (json!({"enforce": {"version": "26.1", "at": "2026-02-30T18:00"}}), "/enforce/at"),
        (json!({"deferrals": {"combined_period_in_days": 91}}), "/deferrals/combined_period_in_days"),
        (json!({"group": "other", "notifications": true}), "/group"),
        (json!([]), ""),
        (json!({}), ""),
    ] {
        let reply = house.put(POLICY, &body).await;
        reply.refused(400, "invalid");
        assert_eq!(reply.pointer(), place, "{body}");
    }
    let zone = json!({"enforce": {"version": "26.1", "at": "2026-12-01T18:00Z"}});
    assert_eq!(house.put(POLICY, &zone).await.json["error"]["suggestion"], "2026-12-01T18:00");
    let deep = format!("{{\"enforce\": {}", "[".repeat(10_000));
    house.ask("PUT", POLICY).body("application/json", deep.as_bytes()).send().await.refused(400, "invalid");
}

#[tokio::test]
async fn reading_needs_the_scope_read_and_writing_admin() {
    let house = House::new().await;
    let token = house.token("reader", "command").await;
    for path in [POLICY, "/api/v1/update-catalogue"] {
        let put = house.ask("PUT", path).token(&token).nobody().json(&version("26.1")).send().await;
        put.refused(403, "forbidden");
    }
    house.ask("DELETE", POLICY).token(&token).nobody().send().await.refused(403, "forbidden");
    for path in ["/api/v1/update-policies", "/api/v1/update-catalogue", "/api/v1/updates"] {
        house.ask("GET", path).token(&token).nobody().send().await.ok();
        house.ask("GET", path).nobody().send().await.refused(401, "unauthenticated");
    }
}

#[tokio::test]
async fn a_catalogue_that_is_uploaded_is_kept_and_a_broken_one_changes_nothing() {
    let house = House::new().await;
    let empty = house.ask("GET", "/api/v1/update-catalogue").send().await.ok();
    assert_eq!((&empty["platforms"], &empty["fetched_at"]), (&json!({}), &Value::Null));
    let kept = house.catalogue(CATALOGUE).await;
    let etag = kept.headers["etag"].to_str().unwrap().to_owned();
    let kept = kept.ok();
    assert_eq!(kept["platforms"]["tvOS"][0]["version"], "26.2");
    assert_eq!(kept["platforms"]["macOS"].as_array().unwrap().len(), 2);
    assert!(kept["fetched_at"].is_string() && kept["error"].is_null());
    assert!(kept["source"].as_str().unwrap().starts_with("uploaded by"));
    for broken in ["{}", "[", "{\"PublicAssetSets\": {\"iOS\": 7}}", "nonsense"] {
        house.catalogue(broken).await.refused(400, "invalid");
    }
    let large = format!("{CATALOGUE}{}", " ".repeat(5_000_000));
    house.catalogue(&large).await.refused(413, "too_large");
    let put = house.ask("PUT", "/api/v1/update-catalogue").body("text/plain", b"{}").send().await;
    put.refused(415, "unsupported_media_type");
    let shown = house.ask("GET", "/api/v1/update-catalogue").send().await;
    assert_eq!(shown.headers["etag"], etag.as_str());
    let stale = house.ask("PUT", "/api/v1/update-catalogue").header("If-Match", "\"x\"");
    let stale = stale.body("application/json", CATALOGUE.as_bytes()).send().await;
    stale.refused(412, "precondition_failed");
    assert_eq!(house.audit().iter().filter(|line| line.contains("update-catalogue.put")).count(), 1);
}

#[tokio::test]
async fn how_far_devices_are_is_one_word_each() {
    let house = House::new().await;
    for udid in ["A", "B", "C", "D", "E"] {
        house.enrolled(udid).await;
    }
    house.user("A", "U").await;
    let update = |state: &str, failures: u32| {
        json!({"softwareupdate": {
            "install-state": state,
            "failure-reason": {"count": failures, "reason": "No space."},
            "install-reason": {"reason": ["declaration"]},
            "pending-version": {"os-version": "18.2", "build-version": "22C150",
                "target-local-date-time": "2026-12-01T18:00:00"},
        }})
    };
    house.reports("B", &update("downloading", 0)).await;
    house.reports("C", &update("failed", 2)).await;
    house.reports("D", &update("installing", 0)).await;
    let all = house.ask("GET", "/api/v1/updates").send().await.ok();
    assert_eq!(all["items"].as_array().unwrap().len(), 5, "users are not listed");
    assert_eq!(all["items"][0]["state"], "unknown", "nothing is enforced, and no catalogue is known");
    house.put(POLICY, &version("18.2")).await.ok();
    for (id, state) in [("A", "behind"), ("B", "pending"), ("C", "failed"), ("D", "installing")] {
        let shown = house.ask("GET", &format!("/api/v1/enrollments/{id}/updates")).send().await.ok();
        assert_eq!(shown["state"], state, "{shown:#}");
        assert_eq!(shown["current"]["version"], "18.1");
        assert_eq!(shown["target"], json!({"version": "18.2", "build": null, "at": "2026-12-01T18:00:00"}));
        assert_eq!(shown["group"], "default");
    }
    let failed = house.ask("GET", "/api/v1/updates?state=failed").send().await.ok();
    assert_eq!(failed["items"].as_array().unwrap().len(), 1);
    let failed = &failed["items"][0];
    assert_eq!((&failed["id"], &failed["failure"]["count"]), (&json!("C"), &json!(2)));
    assert_eq!(failed["failure"]["words"], "The update failed 2 times; the device says: No space.");
    assert_eq!(
        (&failed["install_reason"], &failed["pending"]["version"]),
        (&json!(["declaration"]), &json!("18.2"))
    );
    let user = house.ask("GET", "/api/v1/enrollments/A%3AU/updates").send().await.ok();
    assert_eq!((&user["id"], &user["history"]), (&json!("A"), &json!([])), "a user's device");
    let c = house.ask("GET", "/api/v1/enrollments/C/updates").send().await.ok();
    assert_eq!(c["history"].as_array().unwrap().len(), 4);

    house.put(POLICY, &version("18.1")).await.ok();
    let first = house.ask("GET", "/api/v1/updates?state=current&limit=2").send().await.ok();
    let next = first["next"].as_str().unwrap();
    let second =
        house.ask("GET", &format!("/api/v1/updates?state=current&limit=2&cursor={next}")).send().await.ok();
    assert_eq!((&first["items"][1]["id"], &second["items"][0]["id"]), (&json!("B"), &json!("C")));
    house.ask("GET", "/api/v1/updates?state=odd").send().await.refused(400, "invalid");
    house.ask("GET", "/api/v1/updates?limit=0").send().await.refused(400, "invalid");
    house.ask("GET", "/api/v1/enrollments/none/updates").send().await.refused(404, "not_found");

    house.catalogue(CATALOGUE).await.ok();
    house.put(POLICY, &json!({"enforce": {"latest": true, "days": 1, "at": "18:00"}})).await.ok();
    let none = house.ask("GET", "/api/v1/updates?state=no_target").send().await.ok();
    assert_eq!(none["items"].as_array().unwrap().len(), 5);
    assert!(
        none["items"][0]["no_target"].as_str().unwrap().contains("no release for iPhone16,2"),
        "{none:#}"
    );
}

#[tokio::test]
async fn policies_are_applied_and_exported_with_the_rest() {
    let house = House::new().await;
    house.enrolled("A").await;
    let lab = json!({"group": "lab", "enforce": version("26.1")["enforce"]});
    let everybody = json!({"group": "default", "notifications": false});
    let mut body =
        json!({"groups": [{"name": "lab", "members": ["A"]}], "update_policies": [lab, everybody]});
    body["dry_run"] = true.into();
    let dry = house.ask("POST", "/api/v1/apply").json(&body).send().await.ok();
    assert_eq!(dry["changes"].as_array().unwrap().len(), 3, "{dry:#}");
    assert_eq!(dry["enrollments"][0]["id"], "A");
    house.ask("GET", "/api/v1/update-policies/lab").send().await.refused(404, "not_found");
    body["dry_run"] = false.into();
    house.ask("POST", "/api/v1/apply").json(&body).send().await.ok();
    let exported = house.ask("GET", "/api/v1/export").send().await.ok();
    assert_eq!(exported["update_policies"], json!([everybody, lab]));
    let again = house.ask("POST", "/api/v1/apply").json(&body).send().await.ok();
    assert_eq!((&again["changes"], &again["unchanged"]), (&json!([]), &json!(3)));

    for (policy, place) in [
        (json!({"notifications": true}), "/update_policies/0/group"),
        (json!({"group": "none", "notifications": true}), "/update_policies/0/group"),
        (json!({"group": "lab", "enforce": {}}), "/update_policies/0/enforce/version"),
        (json!(7), "/update_policies/0"),
    ] {
        let reply =
            house.ask("POST", "/api/v1/apply").json(&json!({"update_policies": [policy]})).send().await;
        reply.refused(400, "invalid");
        assert_eq!(reply.pointer(), place);
    }
    let twice = json!({"update_policies": [lab, lab]});
    let reply = house.ask("POST", "/api/v1/apply").json(&twice).send().await;
    assert_eq!(reply.pointer(), "/update_policies/1/group");
    let pruned = json!({"update_policies": [everybody], "prune": true});
    let pruned = house.ask("POST", "/api/v1/apply").json(&pruned).send().await.ok();
    assert_eq!(pruned["changes"][0]["action"], "deleted");
    assert_eq!(house.ask("GET", "/api/v1/export").send().await.ok()["update_policies"], json!([everybody]));
}
