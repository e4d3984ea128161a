//! What scripts rely on: places of mistakes, pages, types, tags, and words that say what to do.

use serde_json::{Value, json};

use super::House;
use super::declarations::passcode;
use crate::ddm::status;
use crate::id::{hex, sha256};
use crate::simulator::artifact::{app, installer};

#[tokio::test]
async fn a_mistake_in_bytes_has_its_place() {
    let house = House::new().await;
    for path in [
        "/api/v1/profiles/x",
        "/api/v1/assets/x?type=com.apple.asset.credential.certificate",
        "/api/v1/packages/x",
        "/api/v1/uploads/0000",
    ] {
        let refused = house.upload(path, "application/octet-stream", b"nothing of the sort").await;
        refused.refused(400, "invalid");
        assert_eq!(refused.pointer(), "", "{path}");
    }
}

#[tokio::test]
async fn what_a_device_reported_and_services_come_in_pages() {
    let house = House::new().await;
    house.enrolled("A").await;
    let report = json!({"StatusItems": {"passcode": {"is-compliant": true, "is-present": true},
        "device": {"model": {"family": "iPhone"}}}});
    let sent = report.to_string();
    let taken =
        house.app.store.write("test.report", move |tx| status::take(tx, "A", sent.as_bytes()).map(drop));
    taken.await.unwrap();
    let pages = async |path: &str, key: &str| {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = house.ask("GET", &format!("{path}?limit=1{cursor}")).send().await.ok();
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= 1);
            found.extend(items.iter().map(|item| item[key].as_str().unwrap().to_owned()));
            let Some(next) = page["next"].as_str() else { return found };
            cursor = format!("&cursor={next}");
        }
    };
    assert_eq!(
        pages("/api/v1/enrollments/A/status", "path").await,
        ["device.model.family", "passcode.is-compliant", "passcode.is-present"]
    );
    let whole = house.ask("GET", "/api/v1/enrollments/A/status").send().await.ok();
    assert_eq!((whole["items"].as_array().unwrap().len(), &whole["next"]), (3, &Value::Null));
    let services = pages("/api/v1/services", "service").await;
    assert!(services.len() == 9 && services.is_sorted(), "{services:?}");
    for path in ["/api/v1/enrollments/A/status", "/api/v1/services"] {
        for wrong in ["limit=0", "limit=501", "cursor=!"] {
            house.ask("GET", &format!("{path}?{wrong}")).send().await.refused(400, "invalid");
        }
    }
}

#[tokio::test]
async fn an_asset_keeps_its_media_type_with_its_parameters() {
    let house = House::new().await;
    let path = "/api/v1/assets/words";
    let made = house.upload(path, "Text/Plain; charset=UTF-8", b"one").await;
    assert_eq!(made.json["content_type"], "text/plain; charset=UTF-8", "{}", made.text);
    let served = house.ask("GET", &format!("{path}/content")).send().await;
    assert_eq!(served.headers["content-type"], "text/plain; charset=UTF-8");
    // Without a type, and with what curl says by itself, it stays.
    let mut bare = house.ask("PUT", path);
    bare.body = b"two".to_vec();
    assert_eq!(bare.send().await.ok()["content_type"], "text/plain; charset=UTF-8");
    let curl = house.upload(path, "application/x-www-form-urlencoded", b"three").await.ok();
    assert_eq!(curl["content_type"], "text/plain; charset=UTF-8");
    let bytes = house.upload(path, "application/octet-stream", b"four").await.ok();
    assert_eq!(bytes["content_type"], "application/octet-stream");
    for wrong in ["text", "text/plain; charset", "text/plain;x=\u{e9}", &format!("a/{}", "b".repeat(200))] {
        house.upload(path, wrong, b"x").await.refused(400, "invalid");
    }
}

#[tokio::test]
async fn a_part_that_is_not_there_says_how_much_there_is() {
    let house = House::new().await;
    house.upload("/api/v1/assets/x", "text/plain", b"12345").await.ok();
    let ask = house.ask("GET", "/api/v1/assets/x/content").header("range", "bytes=9-");
    let answer = ask.send().await;
    answer.refused(416, "invalid");
    assert_eq!(answer.headers["content-range"], "bytes */5");
}

#[tokio::test]
async fn a_group_takes_a_predicate_that_nobody_can_read_by_force_and_keeps_it() {
    let house = House::new().await;
    let path = "/api/v1/groups/g";
    let odd = json!({"predicate": "@newer(thing) ?? 7"});
    assert_eq!(house.put(path, &odd).await.pointer(), "/predicate");
    let forced = house.put(&format!("{path}?force=1"), &odd).await.ok();
    assert!(forced["warnings"][0].as_str().unwrap().starts_with("The predicate was accepted"), "{forced}");
    house.put(path, &json!({"predicate": "@newer(thing) ?? 7", "tags": ["a"]})).await.ok();
    assert_eq!(house.put(path, &json!({"predicate": "@newer(thing) ?? 8"})).await.pointer(), "/predicate");
    // A rule is read here and nowhere else.
    assert_eq!(house.put(&format!("{path}?force=1"), &json!({"rule": "?? 7"})).await.pointer(), "/rule");
    let apply = json!({"groups": [{"name": "h", "predicate": "?? 7"}]});
    let refused = house.ask("POST", "/api/v1/apply").json(&apply).send().await;
    assert_eq!(refused.pointer(), "/groups/0/predicate");
    house.ask("POST", "/api/v1/apply?force=1").json(&apply).send().await.ok();
}

#[tokio::test]
async fn what_can_be_put_has_a_tag_also_for_scripts_of_others() {
    let house = House::new().await;
    house.put("/api/v1/declarations/p", &passcode("p", 6)).await.ok();
    let path = "/api/v1/ddm/declarations";
    let tag = |reply: &super::Reply| reply.headers["etag"].to_str().unwrap().to_owned();
    let first = tag(&house.ask("GET", &format!("{path}/p")).send().await);
    let put = async |tag: &str, length| {
        house.ask("PUT", path).header("if-match", tag).json(&passcode("p", length)).send().await
    };
    let second = put(&first, 7).await;
    assert_eq!(second.status, 204);
    assert_ne!(tag(&second), first);
    put(&first, 8).await.refused(412, "precondition_failed");
    let late = house.ask("DELETE", &format!("{path}/p")).header("if-match", &first).send().await;
    late.refused(412, "precondition_failed");
    let bytes = b"some bytes";
    let upload = format!("/api/v1/uploads/{}", hex(&sha256(bytes)));
    let new = house.ask("PUT", &upload).header("if-match", "*").body("application/octet-stream", bytes);
    new.send().await.refused(412, "precondition_failed");
    let kept = house.upload(&upload, "application/octet-stream", bytes).await;
    assert_eq!(tag(&kept), format!("\"{}\"", hex(&sha256(bytes))));
    assert_eq!(tag(&house.ask("GET", &upload).send().await), tag(&kept));
}

#[tokio::test]
async fn a_dry_run_asks_for_bytes_by_their_hash_alone() {
    let house = House::new().await;
    let hash = hex(&sha256(b"bytes that are not here"));
    let mut body = json!({
        "profiles": [{"identifier": "wifi", "sha256": hash, "size": 20_000}],
        "assets": [{"identifier": "files", "content_type": "application/zip", "sha256": hash, "size": 20_000}],
        "declarations": [
            {"Type": "com.apple.configuration.legacy", "Identifier": "legacy",
             "Payload": {"ProfileURL": "/mdm/profiles/wifi"}},
        ],
        "groups": [{"name": "default", "declarations": ["legacy"]}],
        "dry_run": true,
    });
    house.enrolled("A").await;
    let apply = async |body: &Value| house.ask("POST", "/api/v1/apply").json(body).send().await;
    let dry = apply(&body).await.ok();
    let changes = dry["changes"].as_array().unwrap();
    let names: Vec<&str> = changes.iter().map(|change| change["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["wifi", "files", "legacy", "default"], "{dry}");
    assert_eq!(changes[1]["after"]["type"], "com.apple.asset.data");
    assert_eq!(dry["enrollments"][0]["id"], "A");
    assert!(dry["warnings"].to_string().contains("sends no files"), "{dry}");
    for path in ["/api/v1/profiles/wifi", "/api/v1/assets/files", "/api/v1/declarations/files"] {
        house.ask("GET", path).send().await.refused(404, "not_found");
    }
    house.ask("GET", &format!("/api/v1/uploads/{hash}")).send().await.refused(404, "not_found");
    // What will be refused when it is sent is refused already.
    for (list, size, pointer) in [
        ("profiles", json!(11 * 1024 * 1024), "/profiles/0"),
        ("profiles", json!(u64::MAX), "/profiles/0/size"),
        ("assets", json!(9_u64 << 30), "/assets/0/size"),
        ("assets", json!(-1), "/assets/0/size"),
    ] {
        let mut large = body.clone();
        large[list][0]["size"] = size;
        assert_eq!(apply(&large).await.pointer(), pointer);
    }
    body["profiles"][0]["sha256"] = "7".into();
    assert_eq!(apply(&body).await.pointer(), "/profiles/0/sha256");
    body["dry_run"] = false.into();
    body["profiles"][0]["sha256"] = hash.into();
    assert_eq!(apply(&body).await.pointer(), "/profiles/0/sha256");
}

#[tokio::test]
async fn what_is_exported_leads_to_whichever_server_it_is_applied_to() {
    let profile = super::library::profile("org.example.x", "6F2C1A50-3333-4000-8000-000000000000", &[]);
    let house = async |url: &str| {
        let url = crate::config::Origin::parse(url).unwrap();
        let house = House::configured(|config| config.server.public_url = url).await;
        let kind = "application/x-apple-aspen-config";
        house.upload("/api/v1/profiles/x", kind, profile.as_bytes()).await.ok();
        house
    };
    let (one, other) = (house("https://one.example").await, house("https://other.example").await);
    let legacy = json!({"Type": "com.apple.configuration.legacy", "Identifier": "legacy",
        "Payload": {"ProfileURL": "https://one.example/mdm/profiles/x"}});
    one.put("/api/v1/declarations/legacy", &legacy).await.ok();
    let export = async |query: &str| one.ask("GET", &format!("/api/v1/export{query}")).send().await.ok();
    let (relative, whole) = (export("?relative=1").await, export("").await);
    assert_eq!(relative["declarations"][0]["Payload"]["ProfileURL"], "/mdm/profiles/x");
    let named = json!({"declarations": whole["declarations"], "public_url": whole["public_url"]});
    for body in [json!({"declarations": relative["declarations"]}), named] {
        let same = one.ask("POST", "/api/v1/apply").json(&body).send().await.ok();
        assert_eq!((&same["changes"], &same["warnings"]), (&json!([]), &json!([])));
        other.ask("POST", "/api/v1/apply").json(&body).send().await.ok();
        let there = other.ask("GET", "/api/v1/declarations/legacy").send().await.ok();
        assert_eq!(there["Payload"]["ProfileURL"], "https://other.example/mdm/profiles/x");
        other.ask("DELETE", "/api/v1/declarations/legacy").send().await.ok();
    }
}

#[tokio::test]
async fn a_declaration_without_identifier_is_told_the_one_in_the_address() {
    let house = House::new().await;
    let mut body = passcode("p", 6);
    body.as_object_mut().unwrap().shift_remove("Identifier");
    let refused = house.put("/api/v1/declarations/p", &body).await;
    assert_eq!((refused.pointer(), &refused.json["error"]["suggestion"]), ("/Identifier", &json!("\"p\"")));
    body["Identifier"] = json!(7);
    assert_eq!(house.put("/api/v1/declarations/p", &body).await.pointer(), "/Identifier");
}

#[tokio::test]
async fn who_empties_something_by_leaving_it_out_hears_of_it() {
    let house = House::new().await;
    house.enrolled("A").await;
    house.put("/api/v1/declarations/p", &passcode("p", 6)).await.ok();
    let whole = json!({"members": ["A"], "declarations": ["p"]});
    let warnings = async |path: &str, body: &Value| {
        house.put(path, body).await.ok()["warnings"].as_array().unwrap().len()
    };
    let group = "/api/v1/groups/g";
    assert_eq!(warnings(group, &whole).await, 0);
    assert_eq!(warnings(group, &json!({"members": ["A"]})).await, 1);
    assert_eq!(warnings(group, &json!({"members": ["A"]})).await, 0, "there is nothing more to lose");
    let set = "/api/v1/app-sets/s";
    assert_eq!(warnings(set, &json!({"groups": ["g"], "declarations": ["p"]})).await, 0);
    assert_eq!(warnings(set, &json!({"active": true})).await, 1);
}

#[tokio::test]
async fn what_is_not_there_is_named_with_what_to_do() {
    let house = House::new().await;
    house.enrolled("A").await;
    house.put("/api/v1/groups/g", &json!({})).await.ok();
    for (method, path, words) in [
        ("GET", "/api/v1/groups/room%201", "group room 1; make it first"),
        ("PUT", "/api/v1/groups/room/members/A", "group room; make it first"),
        ("PUT", "/api/v1/groups/g/declarations/p", "declaration p; write it first"),
        ("DELETE", "/api/v1/groups/g/declarations/p", "p in the group g"),
        ("DELETE", "/api/v1/groups/g/members/A", "A in the group g"),
        ("GET", "/api/v1/declarations/p", "declaration p; write it first"),
        ("GET", "/api/v1/app-sets/s", "app set s;"),
        ("GET", "/api/v1/groups/none/compliance", "none"),
        ("PUT", "/api/v1/update-policies/none", "none"),
    ] {
        let body = json!({"enforce": {"latest": true, "at": "18:00"}});
        let said = house.ask(method, path).json(&body).send().await.refused(404, "not_found");
        assert!(said.contains(words), "{path}: {said}");
    }
}

#[tokio::test]
async fn a_package_for_macs_is_not_sent_to_a_phone() {
    let house = House::new().await;
    house.enrolled("A").await;
    let kind = "application/octet-stream";
    let pkg = installer("org.example.tools", "2", b"x", 9);
    house.upload("/api/v1/packages/tools", kind, &pkg).await.ok();
    house.upload("/api/v1/packages/register", kind, &app("org.example.register", "1", 9)).await.ok();
    let send = async |name: &str| {
        let body =
            json!({"RequestType": "InstallApplication", "ManifestURL": format!("/mdm/manifests/{name}")});
        house.ask("POST", "/api/v1/enrollments/A/commands").json(&body).send().await
    };
    let refused = send("tools").await;
    let said = refused.refused(400, "invalid");
    assert!(said.contains(".pkg") && said.contains("iOS"), "{said}");
    assert_eq!(refused.pointer(), "/ManifestURL");
    assert_eq!(send("register").await.status, 201);
    let declared = json!({"Type": "com.apple.configuration.app.managed", "Identifier": "tools",
        "Payload": {"ManifestURL": "/mdm/manifests/tools"}});
    let refused = house.put("/api/v1/declarations/tools", &declared).await;
    assert!(refused.refused(400, "invalid").contains(".pkg"));
}
