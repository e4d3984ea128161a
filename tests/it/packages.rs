//! Packages and apps from the upload to the device's report of them, and whoever else would like to have
//! them (THREATS D5 19 and 26).

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Bytes, Frame};
use hyper::{Method, Request, StatusCode};
use russet::clock::{DAY, HOUR, rfc3339};
use russet::ddm::app_set;
use russet::mdm::sync;
use russet::request::Peer;
use russet::simulator::artifact::{app, installer, zip};
use russet::simulator::{Channel, Device, Kind};
use serde_json::{Value as Json, json};
use tower::ServiceExt;

use crate::support::{Appliance, settle};

const APP: &str = "com.apple.configuration.app.managed";
const PACKAGE: &str = "com.apple.configuration.package";

impl Appliance {
    /// Uploads bytes as an administrator.
    async fn put_package(&self, path: &str, body: impl Into<Body>) -> (StatusCode, Json) {
        let mut request = Request::builder().method("PUT").uri(path).body(body.into()).unwrap();
        request.extensions_mut().insert(Peer::Socket);
        let response = self.app().socket_router().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or(Json::Null))
    }

    async fn done(&self, method: &str, path: &str, body: Json) -> Json {
        let (status, answer) = self.api(method, path, Some(body)).await;
        assert!(status.is_success(), "{method} {path}: {answer}");
        answer
    }

    /// Declares something and gives it to everybody.
    async fn declare_app(&self, identifier: &str, named: &str, payload: Json) {
        let body = json!({"Type": named, "Identifier": identifier, "Payload": payload});
        self.done("PUT", &format!("/api/v1/declarations/{identifier}"), body).await;
        let path = format!("/api/v1/groups/default/declarations/{identifier}");
        self.api("PUT", &path, None).await;
    }

    async fn apps(&self, id: &str) -> Vec<Json> {
        let (status, answer) = self.api("GET", &format!("/api/v1/enrollments/{id}/apps"), None).await;
        assert!(status.is_success(), "{answer}");
        answer["items"].as_array().unwrap().clone()
    }

    /// How many channels are to be woken.
    fn due(&self) -> i64 {
        self.value("SELECT COUNT(*) FROM wakes WHERE ?1 <> ''", "x")
    }

    /// What a device without an identity is answered at this address.
    async fn ask(&self, method: Method, url: &str, range: Option<&str>) -> (u16, Vec<u8>) {
        let path = url.strip_prefix(&self.config.server.public_url.to_string()).unwrap_or(url);
        let mut request = Request::builder().method(method).uri(path);
        if let Some(range) = range {
            request = request.header("range", range);
        }
        let mut request = request.body(Body::empty()).unwrap();
        request
            .extensions_mut()
            .insert(Peer::Network { address: "192.0.2.7:4711".parse().unwrap(), client_certificate: None });
        let response = self.app().mdm.routes().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        (status, response.into_body().collect().await.unwrap().to_bytes().to_vec())
    }
}

/// The address that a device was given.
fn address(device: &Device, declaration: &str) -> String {
    let declared = &device.declarations.declarations[declaration];
    declared.payload["ManifestURL"].as_str().unwrap().to_owned()
}

fn required(identifier: &str) -> Json {
    json!({"ManifestURL": format!("/mdm/manifests/{identifier}"), "InstallBehavior": {"Install": "Required"}})
}

async fn phone(appliance: &mut Appliance) -> Device {
    device(appliance, Kind::IPhone, "26.1").await
}

async fn mac(appliance: &mut Appliance) -> Device {
    device(appliance, Kind::Mac, "26.1").await
}

/// One that hears its pushes.
async fn device(appliance: &mut Appliance, kind: Kind, os_version: &str) -> Device {
    let mut device = appliance.device(kind);
    os_version.clone_into(&mut device.os_version);
    drop(device.hear(&appliance.apple));
    let link = appliance.invite(1).await;
    device.enroll(&link).await.unwrap();
    settle(&mut device).await;
    device
}

#[tokio::test]
async fn a_package_and_an_app_reach_their_devices_and_are_reported() {
    let mut appliance = Appliance::start().await;
    let mut mac = mac(&mut appliance).await;
    let mut phone = phone(&mut appliance).await;
    // Longer than one hash is for, so that it is fetched in two pieces.
    let package = installer("org.example.tools", "3.1", b"no certificate", 11 << 20);
    let size = package.len();
    let (status, shown) = appliance.put_package("/api/v1/packages/tools", package).await;
    assert_eq!(status, StatusCode::CREATED, "{shown}");
    assert_eq!((&shown["kind"], &shown["bundle_id"]), (&json!("pkg"), &json!("org.example.tools")));
    assert_eq!((&shown["size"], &shown["signed"]), (&json!(size), &json!(true)));
    let (_, shown) =
        appliance.put_package("/api/v1/packages/register", app("org.example.register", "1.2", 9)).await;
    assert_eq!((&shown["kind"], &shown["version"]), (&json!("ipa"), &json!("1.2")));

    appliance.declare_app("tools", PACKAGE, required("tools")).await;
    appliance.declare_app("register", APP, required("register")).await;
    settle(&mut mac).await;
    settle(&mut phone).await;
    assert_eq!(mac.app_state(Channel::Device, "tools"), Some("installed"));
    assert_eq!(phone.app_state(Channel::Device, "register"), Some("managed"));

    let apps = appliance.apps(&mac.udid).await;
    let tools = apps.iter().find(|one| one["declaration"] == "tools").unwrap();
    assert_eq!(tools["reported"]["state"], "installed", "{tools}");
    assert_eq!((&tools["reported"]["version"], &tools["install"]), (&json!("3.1"), &json!("Required")));
    let other = apps.iter().find(|one| one["declaration"] == "register").unwrap();
    assert!(other["left_out"].is_string() && other["reported"].is_null(), "{other}");
    let apps = appliance.apps(&phone.udid).await;
    let register = apps.iter().find(|one| one["declaration"] == "register").unwrap();
    assert_eq!(register["reported"]["identifier"], "org.example.register");
    assert_eq!(register["reported"]["words"], "It is installed and managed.");

    // A new version reaches those who have it.
    appliance.put_package("/api/v1/packages/tools", installer("org.example.tools", "3.2", b"x", 10)).await;
    sync::round(&appliance.app().mdm).await.unwrap();
    settle(&mut mac).await;
    let apps = appliance.apps(&mac.udid).await;
    assert_eq!(apps.iter().find(|one| one["declaration"] == "tools").unwrap()["reported"]["version"], "3.2");

    // It stays as long as it is declared.
    let (status, refusal) = appliance.api("DELETE", "/api/v1/packages/tools", None).await;
    assert_eq!(
        (status, &refusal["error"]["users"]),
        (StatusCode::CONFLICT, &json!([{"declaration": "tools"}]))
    );
    appliance.api("DELETE", "/api/v1/groups/default/declarations/tools", None).await;
    settle(&mut mac).await;
    assert!(appliance.apps(&mac.udid).await.iter().all(|one| one["declaration"] != "tools"));
    appliance.api("DELETE", "/api/v1/declarations/tools", None).await;
    assert_eq!(appliance.api("DELETE", "/api/v1/packages/tools", None).await.0, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn an_address_is_of_one_enrollment_and_ends_with_its_right() {
    let mut appliance = Appliance::start().await;
    let (mut one, mut other) = (phone(&mut appliance).await, phone(&mut appliance).await);
    let bytes = app("org.example.register", "1", 100);
    appliance.put_package("/api/v1/packages/register", bytes.clone()).await;
    for phone in [&one.udid, &other.udid] {
        let group = json!({"members": [phone], "declarations": []});
        appliance.done("PUT", &format!("/api/v1/groups/of-{phone}"), group).await;
    }
    let body = json!({"Type": APP, "Identifier": "register", "Payload": required("register")});
    appliance.done("PUT", "/api/v1/declarations/register", body).await;
    for phone in [&one.udid, &other.udid] {
        appliance.api("PUT", &format!("/api/v1/groups/of-{phone}/declarations/register"), None).await;
    }
    settle(&mut one).await;
    settle(&mut other).await;
    let (of_one, of_other) = (address(&one, "register"), address(&other, "register"));
    assert_ne!(of_one, of_other);
    // The same declaration, whoever has it.
    let token = |device: &Device| device.declarations.declarations["register"].server_token.clone();
    assert_eq!(token(&one), token(&other));

    let (status, manifest) = appliance.ask(Method::GET, &of_one, None).await;
    assert_eq!(status, 200);
    let text = String::from_utf8(manifest).unwrap();
    let url = of_one.replace("/manifests/", "/packages/");
    assert!(text.contains(&url) && text.contains("sha256s"), "{text}");
    assert_eq!(appliance.ask(Method::GET, &url, None).await, (200, bytes.clone()));
    assert_eq!(appliance.ask(Method::GET, &url, Some("bytes=4-7")).await, (206, bytes[4..8].to_vec()));
    assert_eq!(appliance.ask(Method::HEAD, &url, None).await, (200, Vec::new()));

    // Guesses, and the name that stands in the declaration.
    let base = appliance.config.server.public_url.to_string();
    for guess in ["register", "1", "x", "..%2fregister", "register%00", &"A".repeat(32), &"A".repeat(5000)] {
        for folder in ["manifests", "packages"] {
            let answer = appliance.ask(Method::GET, &format!("{base}/mdm/{folder}/{guess}"), None).await;
            assert_eq!(answer, (404, Vec::new()), "{folder} {guess}");
        }
    }

    // Who should not have it any more has no address any more, before it even knows; nobody else is disturbed.
    let path = format!("/api/v1/groups/of-{}/declarations/register", one.udid);
    appliance.api("DELETE", &path, None).await;
    for url in [&of_one, &url] {
        assert_eq!(appliance.ask(Method::GET, url, None).await.0, 404);
    }
    assert_eq!(appliance.ask(Method::GET, &of_other, None).await.0, 200);

    // One that gets it back before it noticed has an address that ended, and hears of a new one.
    appliance.api("PUT", &path, None).await;
    assert_eq!(appliance.ask(Method::GET, &of_one, None).await.0, 404);
    settle(&mut one).await;
    let again = address(&one, "register");
    assert_ne!(again, of_one);
    assert_eq!(appliance.ask(Method::GET, &again, None).await.0, 200);
    assert_eq!(appliance.ask(Method::GET, &of_one, None).await.0, 404);

    // One that is asked to leave, and one that left.
    appliance.api("DELETE", &format!("/api/v1/enrollments/{}", one.udid), None).await;
    assert_eq!(appliance.ask(Method::GET, &again, None).await.0, 404);
    other.remove_management().await.unwrap();
    assert_eq!(appliance.ask(Method::GET, &of_other, None).await.0, 404);
}

#[tokio::test]
async fn an_address_that_ended_is_replaced_by_itself() {
    let mut appliance = Appliance::start().await;
    let mut phone = phone(&mut appliance).await;
    appliance.put_package("/api/v1/packages/register", app("org.example.register", "1", 100)).await;
    appliance.declare_app("register", APP, json!({"ManifestURL": "/mdm/manifests/register"})).await;
    settle(&mut phone).await;
    assert_eq!(phone.app_state(Channel::Device, "register"), Some("optional"));
    let old = address(&phone, "register");

    appliance.clock.advance(31 * DAY);
    phone.choose_app(Channel::Device, "register").await.unwrap();
    assert_eq!(phone.app_state(Channel::Device, "register"), Some("failed"));
    let asked = appliance.due();
    assert_eq!(asked, 1, "it is woken for the new address");
    settle(&mut phone).await;
    assert_ne!(address(&phone, "register"), old);
    assert_eq!(phone.app_state(Channel::Device, "register"), Some("managed"));
    // And that was all: nothing is handed out anew at each contact.
    let fetched = phone.declarations.fetched;
    settle(&mut phone).await;
    assert_eq!(phone.declarations.fetched, fetched);
    assert_eq!(appliance.ask(Method::GET, &old, None).await.0, 404);
    settle(&mut phone).await;
    assert_eq!(phone.declarations.fetched, fetched, "one old address is worth one new one");

    let (_, audit) = appliance.api("GET", "/api/v1/declarations/register", None).await;
    let secret = address(&phone, "register");
    let secret = secret.rsplit('/').next().unwrap();
    assert!(!audit.to_string().contains(secret));
    let apps = Json::from(appliance.apps(&phone.udid).await).to_string();
    assert!(!apps.contains(secret) && apps.contains("/mdm/manifests/register"), "{apps}");
}

#[tokio::test]
async fn what_is_no_package_is_refused_and_leaves_nothing() {
    let appliance = Appliance::start().await;
    let info = "Payload/A.app/Info.plist";
    let bombs: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"#!/bin/sh".to_vec(),
        vec![0; 3 << 20],
        [b"PK\x03\x04".to_vec(), vec![0; 3 << 20]].concat(),
        [b"xar!\0\x1c\0\x01".to_vec(), vec![0xff; 3 << 20]].concat(),
        zip(&[(info, vec![b' '; 64 << 20])]),
        zip(&[("../../../etc/cron.d/x", b"x".to_vec()), (info, b"x".to_vec())]),
    ];
    for (number, bomb) in bombs.into_iter().enumerate() {
        let (status, refusal) = appliance.put_package("/api/v1/packages/x", bomb).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{number}: {refusal}");
        assert!(refusal["error"]["message"].as_str().unwrap().len() < 400);
    }
    let bytes = app("org.example.register", "1", 3 << 20);
    for name in ["..", "a%2fb", "a%20b", &"x".repeat(65)] {
        let (status, _) = appliance.put_package(&format!("/api/v1/packages/{name}"), bytes.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{name}");
    }
    // One that breaks off.
    let broken = Pieces([Ok(bytes[..2 << 20].to_vec().into()), Err(std::io::Error::other("cut"))].into());
    let (status, _) = appliance.put_package("/api/v1/packages/x", Body::new(broken)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(appliance.api("GET", "/api/v1/packages/x", None).await.0, StatusCode::NOT_FOUND);
    appliance.app().mdm.contents.sweep(&appliance.app().store).await.unwrap();
    let files = std::fs::read_dir(appliance.config.data_dir.join("files")).unwrap().count();
    assert_eq!(files, 0);
}

/// A body that comes in these pieces.
struct Pieces(VecDeque<Result<Bytes, std::io::Error>>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.pop_front().map(|piece| piece.map(Frame::data)))
    }
}

#[tokio::test]
async fn declarations_of_apps_are_looked_at() {
    let appliance = Appliance::start().await;
    appliance.put_package("/api/v1/packages/app", app("org.example.register", "1", 1)).await;
    appliance.put_package("/api/v1/packages/pkg", installer("org.example.tools", "1", b"x", 1)).await;
    let put = async |named: &str, payload: Json| {
        let body = json!({"Type": named, "Identifier": "x", "Payload": payload});
        appliance.api("PUT", "/api/v1/declarations/x", Some(body)).await
    };
    for (named, url) in [
        (APP, "/mdm/manifests/pkg"),
        (PACKAGE, "/mdm/manifests/app"),
        (APP, "http://example.org/manifest"),
        (PACKAGE, "http://example.org/manifest"),
        (PACKAGE, "file:///etc/passwd"),
        (APP, "/mdm/manifests/none"),
    ] {
        let (status, refusal) = put(named, json!({"ManifestURL": url})).await;
        assert_eq!(
            (status, &refusal["error"]["pointer"]),
            (StatusCode::BAD_REQUEST, &json!("/Payload/ManifestURL")),
            "{url}"
        );
    }
    let (_, shown) = put(APP, json!({"AppStoreID": "361309726"})).await;
    assert!(shown["warnings"][0].as_str().unwrap().contains("Apple Account"), "{shown}");
    let license =
        json!({"AppStoreID": "361309726", "InstallBehavior": {"License": {"Assignment": "Device"}}});
    let (_, shown) = put(APP, license).await;
    assert!(shown["warnings"][0].as_str().unwrap().contains("license"), "{shown}");
    let (_, shown) = put(PACKAGE, json!({"ManifestURL": "https://example.org/manifest"})).await;
    assert_eq!(shown["warnings"], json!([]));
    put(PACKAGE, json!({"ManifestURL": "/mdm/manifests/pkg"})).await;
    let (status, _) =
        appliance.put_package("/api/v1/packages/pkg", app("org.example.register", "1", 1)).await;
    assert_eq!(status, StatusCode::CONFLICT, "a package that is declared does not become an app");
}

#[tokio::test]
async fn a_set_is_switched_at_its_time_and_wakes_its_devices_once() {
    let mut appliance = Appliance::start().await;
    let (mut one, mut other) = (phone(&mut appliance).await, phone(&mut appliance).await);
    appliance.put_package("/api/v1/packages/exam", app("org.example.exam", "1", 100)).await;
    let group = json!({"members": [one.udid]});
    appliance.done("PUT", "/api/v1/groups/class", group).await;
    let body = json!({"Type": APP, "Identifier": "exam", "Payload": required("exam")});
    appliance.done("PUT", "/api/v1/declarations/exam", body).await;
    let (from, until) = (appliance.clock.now() + HOUR, appliance.clock.now() + 3 * HOUR);
    let set = json!({
        "groups": ["class"],
        "declarations": ["exam"],
        "active_from": rfc3339(from),
        "active_until": rfc3339(until),
    });
    let shown = appliance.done("PUT", "/api/v1/app-sets/exam-4b", set).await;
    assert_eq!((&shown["is_active"], &shown["next_change"]), (&json!(false), &json!(rfc3339(from))));
    let (status, refusal) = appliance.api("DELETE", "/api/v1/declarations/exam", None).await;
    assert_eq!((status, &refusal["error"]["users"][0]["app_set"]), (StatusCode::CONFLICT, &json!("exam-4b")));
    assert_eq!(appliance.api("DELETE", "/api/v1/groups/class", None).await.0, StatusCode::CONFLICT);

    // It is there before it is wanted.
    settle(&mut one).await;
    settle(&mut other).await;
    sync::round(&appliance.app().mdm).await.unwrap();
    assert!(one.declarations.declarations.contains_key("exam"));
    assert!(!one.active_declarations(Channel::Device).contains("exam"));
    assert!(!other.declarations.declarations.contains_key("exam"));
    assert_eq!(one.app_state(Channel::Device, "exam"), None);
    let apps = appliance.apps(&one.udid).await;
    assert_eq!(apps[0]["sets"], json!([{"name": "exam-4b", "is_active": false}]));

    let turn = async |appliance: &Appliance| {
        appliance.app().store.write("test.turn", app_set::turn).await.unwrap();
        sync::round(&appliance.app().mdm).await.unwrap();
        appliance.due()
    };
    assert_eq!(turn(&appliance).await, 0, "its time has not come");
    for active in [true, false] {
        appliance.clock.advance(HOUR + HOUR * i64::from(!active));
        assert_eq!(turn(&appliance).await, 1);
        assert_eq!(turn(&appliance).await, 1, "once");
        let fetched = one.declarations.fetched;
        settle(&mut one).await;
        assert_eq!(one.declarations.fetched, fetched + 1, "its properties and nothing else");
        assert_eq!(one.active_declarations(Channel::Device).contains("exam"), active);
        assert_eq!(one.app_state(Channel::Device, "exam"), active.then_some("managed"));
        let sets = &one.declarations.declarations["russet.properties"].payload["sets"];
        assert_eq!(*sets, if active { json!(["exam-4b"]) } else { json!([]) });
        assert_eq!(turn(&appliance).await, 0);
    }

    // By hand, whatever the times say.
    let (_, mut set) = appliance.api("GET", "/api/v1/app-sets/exam-4b", None).await;
    set["active"] = true.into();
    let shown = appliance.done("PUT", "/api/v1/app-sets/exam-4b", set).await;
    assert_eq!((&shown["is_active"], &shown["next_change"]), (&json!(true), &Json::Null));
    settle(&mut one).await;
    assert!(one.active_declarations(Channel::Device).contains("exam"));
    assert_eq!(appliance.api("DELETE", "/api/v1/app-sets/exam-4b", None).await.0, StatusCode::NO_CONTENT);
    settle(&mut one).await;
    assert!(!one.declarations.declarations.contains_key("exam"));
    assert!(one.declarations.declarations["russet.properties"].payload.get("sets").is_none());
}

#[tokio::test]
async fn sets_that_cannot_be_are_refused() {
    let appliance = Appliance::start().await;
    let put = async |name: &str, body: Json| {
        let (status, answer) = appliance.api("PUT", &format!("/api/v1/app-sets/{name}"), Some(body)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        answer["error"]["pointer"].as_str().unwrap_or_default().to_owned()
    };
    for name in ["a'b", "a%20b", "'%20OR%20TRUEPREDICATE%20OR%20'", "%E2%80%AE", "..", &"x".repeat(65)] {
        assert_eq!(put(name, json!({})).await, "/name", "{name}");
    }
    assert_eq!(put("x", json!({"groups": ["none"]})).await, "/groups/0");
    assert_eq!(put("x", json!({"declarations": ["none"]})).await, "/declarations/0");
    assert_eq!(put("x", json!({"active_from": "tomorrow"})).await, "/active_from");
    let times = json!({"active_from": "2026-12-02T08:00:00Z", "active_until": "2026-12-01T08:00:00Z"});
    assert_eq!(put("x", times).await, "/active_until");
    assert_eq!(put("x", json!({"actve": true})).await, "/actve");
}

#[tokio::test]
async fn a_command_carries_an_address_of_the_devices_own() {
    let mut appliance = Appliance::start().await;
    let mut phone = phone(&mut appliance).await;
    let bytes = app("org.example.register", "1", 100);
    appliance.put_package("/api/v1/packages/register", bytes.clone()).await;
    let path = format!("/api/v1/enrollments/{}/commands", phone.udid);
    let install = |name: &str| json!({"RequestType": "InstallApplication", "ManifestURL": format!("/mdm/manifests/{name}")});
    let (status, refusal) = appliance.api("POST", &path, Some(install("none"))).await;
    assert_eq!((status, &refusal["error"]["pointer"]), (StatusCode::BAD_REQUEST, &json!("/ManifestURL")));
    let queued = appliance.done("POST", &path, install("register")).await;
    let command = phone.idle(Channel::Device).await.unwrap().unwrap();
    let url = command.keys["ManifestURL"].as_string().unwrap().to_owned();
    assert_eq!(appliance.ask(Method::GET, &url, None).await.0, 200);
    let of_bytes = url.replace("/manifests/", "/packages/");
    assert_eq!(appliance.ask(Method::GET, &of_bytes, None).await, (200, bytes));
    let secret = url.rsplit('/').next().unwrap();
    let path = format!("{path}/{}", queued["uuid"].as_str().unwrap());
    let (_, shown) = appliance.api("GET", &path, None).await;
    assert!(
        !shown.to_string().contains(secret) && shown.to_string().contains("/mdm/manifests/register"),
        "{shown}"
    );
    appliance.clock.advance(8 * DAY);
    assert_eq!(appliance.ask(Method::GET, &url, None).await.0, 404);
    assert_eq!(appliance.due(), 1, "what a command had is not renewed; only the command still waits");
}
