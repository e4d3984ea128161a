//! Backups and the recovery key: who gets them, and what is written down of that.

use serde_json::json;

use super::House;
use super::pages::{link, signed_in};
use crate::admin::audit::tests::lines;

#[tokio::test]
async fn backups_are_made_listed_and_fetched_by_administrators_alone() {
    let stick = tempfile::tempdir().unwrap();
    let house = House::configured(|config| config.backup.directory = Some(stick.path().to_owned())).await;
    let made = house.ask("POST", "/api/v1/backups").send().await;
    assert_eq!(made.status, 201, "{}", made.text);
    let name = made.json["name"].as_str().unwrap().to_owned();
    assert_eq!((&made.json["verified"], made.json["sha256"].as_str().unwrap().len()), (&json!(true), 64));
    let (read, command) = (house.token("r", "read").await, house.token("c", "command").await);
    let listed = house.ask("GET", "/api/v1/backups?limit=1").token(&read).nobody().send().await.ok();
    assert_eq!((&listed["items"][0]["name"], &listed["next"]), (&json!(name), &json!(null)));
    assert_eq!(listed["items"][0]["made_at"], made.json["made_at"]);
    let content = format!("/api/v1/backups/{name}/content");
    for (method, path) in [
        ("POST", "/api/v1/backups"),
        ("POST", "/api/v1/backups/once"),
        ("GET", content.as_str()),
        ("GET", "/api/v1/recovery-key"),
        ("POST", "/api/v1/recovery-key/written-down"),
    ] {
        for token in [&read, &command] {
            house.ask(method, path).token(token).nobody().send().await.refused(403, "forbidden");
        }
        house.ask(method, path).nobody().send().await.refused(401, "unauthenticated");
    }
    for odd in ["seal.key", "..%2Fseal.key", "russet-localhost-20200101T000000Z.backup"] {
        let path = format!("/api/v1/backups/{odd}/content");
        house.ask("GET", &path).send().await.refused(404, "not_found");
    }
    let audit = house.app.store.peek(lines).unwrap();
    assert!(audit.iter().any(|line| line.starts_with(&format!("socket backup.make {name}"))), "{audit:?}");
}

#[tokio::test]
async fn without_a_folder_the_refusal_says_what_to_do() {
    let house = House::new().await;
    let words = house.ask("POST", "/api/v1/backups").send().await.refused(409, "conflict");
    assert!(words.contains("[backup] directory") && words.contains("russet backup FILE"), "{words}");
    let listed = house.ask("GET", "/api/v1/backups").send().await.ok();
    assert_eq!(listed, json!({"items": [], "next": null, "directory": null}));
}

#[tokio::test]
async fn signing_in_shows_the_recovery_key_until_somebody_wrote_it_down() {
    let house = House::new().await;
    assert_eq!(house.ask("GET", "/recovery-key").nobody().send().await.status, 303, "nobody is signed in");
    let reply = house.ask("POST", &link(&house).await).nobody().send().await;
    assert_eq!(reply.headers["location"], "/recovery-key");
    let cookie = reply.headers["set-cookie"].to_str().unwrap().split_once("; ").unwrap().0.to_owned();
    let page = house.ask("GET", "/recovery-key").header("cookie", &cookie).nobody().send().await;
    let key = house.app.backups.recovery_key().unwrap().unwrap();
    assert!(page.text.contains(&key.secret()) && page.text.contains(&key.public()), "{}", page.text);
    assert_eq!(page.headers["cache-control"], "no-store");
    let say = |public: String| {
        house
            .ask("POST", "/recovery-key")
            .header("cookie", &cookie)
            .body("text/plain", format!("public_key={public}\r\n").as_bytes())
            .nobody()
    };
    let other = say("age1other".into()).send().await;
    assert_eq!(other.status, 409, "{}", other.text);
    assert_eq!(say(key.public()).send().await.status, 303);
    let audit = house.app.store.peek(lines).unwrap();
    for wanted in ["session recovery-key.show age1", "session recovery-key.written-down age1"] {
        assert!(audit.iter().any(|line| line.starts_with(wanted)), "{audit:?}");
    }
    assert!(!audit.iter().any(|line| line.contains("AGE-SECRET")), "the audit holds no secret");
    // From now on signing in leads to the devices, and the API still tells it to administrators.
    signed_in(&house).await;
    let told = house.ask("GET", "/api/v1/recovery-key").send().await.ok();
    assert_eq!(told["recovery_key"], key.secret());
    assert!(told["written_down_at"].is_string());
    std::fs::remove_file(house.app.backups.recovery_key_path()).unwrap();
    let told = house.ask("GET", "/api/v1/recovery-key").send().await.ok();
    assert_eq!(told["recovery_key"], json!(null));
    let page = house.ask("GET", "/recovery-key").header("cookie", &cookie).nobody().send().await;
    assert!(page.text.contains("is not here"), "{}", page.text);
}
