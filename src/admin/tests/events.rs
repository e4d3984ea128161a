//! Events, the audit and the settings, as the API lists them.

use serde_json::json;

use super::House;
use crate::clock::DAY;
use crate::mdm::event;

impl House {
    async fn happens(&self, kind: &'static str, of: Option<&'static str>, words: &'static str) {
        self.app.store.write("test.event", move |tx| event::record(tx, kind, of, words)).await.unwrap();
    }
}

#[tokio::test]
async fn events_are_listed_newest_first_in_pages_and_by_what_is_asked() {
    let house = House::new().await;
    for (kind, of) in
        [("enrolled", Some("A")), ("enrolled", Some("B")), ("check-out", Some("A")), ("alert", None)]
    {
        house.happens(kind, of, "It happened.").await;
        house.clock.advance(DAY);
    }
    let kinds = async |query: &str| {
        let answer = house.ask("GET", &format!("/api/v1/events{query}")).send().await.ok();
        let items = answer["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(kinds("").await, ["alert", "check-out", "enrolled", "enrolled"]);
    assert_eq!(kinds("?enrollment=A").await, ["check-out", "enrolled"]);
    assert_eq!(kinds("?enrollment=A&kind=enrolled").await, ["enrolled"]);
    assert_eq!(kinds("?kind=nothing").await, Vec::<String>::new());
    let first = house.ask("GET", "/api/v1/events?limit=3").send().await.ok();
    let next = first["next"].as_str().unwrap();
    assert_eq!(kinds(&format!("?limit=3&cursor={next}")).await, ["enrolled"]);
    let second = first["items"][1]["at"].as_str().unwrap().replace('+', "%2B");
    assert_eq!(kinds(&format!("?since={second}")).await, ["alert", "check-out"]);
    assert_eq!(kinds(&format!("?until={second}")).await, ["enrolled", "enrolled"]);
    for wrong in ["?since=yesterday", "?limit=0", "?limit=501", "?cursor=x"] {
        house.ask("GET", &format!("/api/v1/events{wrong}")).send().await.refused(400, "invalid");
    }
    house.ask("GET", "/api/v1/events").nobody().send().await.refused(401, "unauthenticated");
    let read = house.token("r", "read").await;
    house.ask("GET", "/api/v1/events").token(&read).nobody().send().await.ok();
    let odd = house.ask("GET", "/api/v1/events/stream").header("last-event-id", "x").send().await;
    assert!(odd.refused(400, "invalid").contains("Last-Event-ID"));
}

#[tokio::test]
async fn the_audit_tells_who_did_what_and_is_thinned_after_its_time() {
    let house = House::new().await;
    house.token("first", "read").await;
    house.token("second", "command").await;
    let all = house.ask("GET", "/api/v1/audit").send().await.ok();
    let newest = &all["items"][0];
    assert_eq!((&newest["actor"], &newest["action"]), (&json!("socket"), &json!("token.create")), "{newest}");
    assert_eq!(newest["object"], "second");
    let of = house.ask("GET", "/api/v1/audit?object=first&actor=socket").send().await.ok();
    assert_eq!(of["items"].as_array().unwrap().len(), 1);
    let none = house.ask("GET", "/api/v1/audit?action=device.erase").send().await.ok();
    assert_eq!(none, json!({"items": [], "next": null}));
    let page = house.ask("GET", "/api/v1/audit?limit=1").send().await.ok();
    let rest = format!("/api/v1/audit?limit=1&cursor={}", page["next"].as_str().unwrap());
    assert_eq!(house.ask("GET", &rest).send().await.ok()["items"][0]["object"], "first");

    let thinned = async |before| {
        house.app.store.write("test.thin", move |tx| crate::admin::thin_audit(tx, before, 100)).await.unwrap()
    };
    let now = house.clock.now();
    assert_eq!(thinned(now).await, 0);
    assert_eq!(thinned(now + 1).await, all["items"].as_array().unwrap().len());
}

#[tokio::test]
async fn settings_are_shown_as_they_were_understood_without_their_secrets() {
    let house = House::configured(|config| {
        config.webhook.secret = Some(crate::config::Secret::new("hunter2-hunter2"));
    })
    .await;
    let shown = house.ask("GET", "/api/v1/settings").send().await;
    assert!(!shown.text.contains("hunter2"));
    let settings = &shown.ok()["settings"];
    assert_eq!(settings["webhook.secret"], "set");
    assert_eq!(settings["tls.mode"], "self-signed");
    house.ask("GET", "/api/v1/settings").nobody().send().await.refused(401, "unauthenticated");
}
