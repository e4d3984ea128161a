//! Declarative management under attack: what an administrator's scripts send by mistake or on purpose, and
//! what a device claims of itself (THREATS D5 18, 26 to 28).

use axum::body::Body;
use hyper::Request;
use plist::Value;
use russet::request::Peer;
use russet::simulator::{Channel, Device, Kind};
use serde_json::{Value as Json, json};
use tower::ServiceExt;

use super::{message, send, xml};
use crate::support::{Appliance, settle};

const TEST: &str = "com.apple.configuration.management.test";

fn echo(identifier: &str, text: &str) -> Json {
    json!({"Type": TEST, "Identifier": identifier, "Payload": {"Echo": text}})
}

impl Appliance {
    /// Sends these very bytes to the API; answers status and JSON.
    async fn bytes(&self, path: &str, body: impl Into<Body>) -> (u16, Json) {
        let request = Request::put(path).header("content-type", "application/json");
        let mut request = request.body(body.into()).unwrap();
        request.extensions_mut().insert(Peer::Socket);
        let response = self.app().socket_router().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        assert!(body.len() < 4000, "a refusal is a sentence, not an echo: {} bytes", body.len());
        (status, serde_json::from_slice(&body).unwrap())
    }

    /// Gives everybody a declaration.
    async fn declare_for_all(&self, declaration: &Json) {
        let name = declaration["Identifier"].as_str().unwrap();
        let path = format!("/api/v1/declarations/{name}");
        let (status, said) = self.api("PUT", &path, Some(declaration.clone())).await;
        assert!(status.is_success(), "{said}");
        let path = format!("/api/v1/groups/default/declarations/{name}");
        assert!(self.api("PUT", &path, None).await.0.is_success());
    }

    async fn declarations_of(&self, id: &str) -> Vec<Json> {
        let (_, shown) = self.api("GET", &format!("/api/v1/enrollments/{id}/declarations"), None).await;
        shown["items"].as_array().unwrap().clone()
    }
}

/// Asks an endpoint as a device; answers status and body.
async fn ask(appliance: &Appliance, device: &mut Device, endpoint: &str) -> (u16, Vec<u8>) {
    let udid = device.udid.clone();
    let body = xml(message("DeclarativeManagement", &udid, [("Endpoint", endpoint.into())]));
    let reply = send(appliance, device, "/mdm/checkin", body).await;
    (reply.status, reply.body)
}

/// Reports bytes as a device's status; answers the HTTP status.
async fn status(appliance: &Appliance, device: &mut Device, report: &[u8]) -> u16 {
    let udid = device.udid.clone();
    let keys = [("Endpoint", "status".into()), ("Data", Value::Data(report.to_vec()))];
    let body = xml(message("DeclarativeManagement", &udid, keys));
    send(appliance, device, "/mdm/checkin", body).await.status
}

fn echoed(device: &Device, name: &str) -> Option<String> {
    let held = device.declarations.declarations.get(name)?;
    held.payload["Echo"].as_str().map(str::to_owned)
}

/// 18: the same for an administrator's declaration: refused in a sentence, and nothing is kept.
#[tokio::test]
async fn hostile_declarations_are_refused_and_leave_nothing() {
    let appliance = Appliance::start().await;
    let whole = |payload: &str| format!("{{\"Type\":\"{TEST}\",\"Identifier\":\"x\",\"Payload\":{payload}}}");
    let deep = format!("{{\"Echo\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let bodies = [
        whole(&format!("{{\"Echo\":\"{}\"}}", "x".repeat(10 << 20))),
        whole(&deep),
        whole("{\"Echo\":1e309}"),
        whole("{\"Echo\":\"\\ud800\"}"),
        whole("{\"Echo\":\"\\udc00\\ud800\"}"),
        whole("{\"Echo\":\"a\\u0000b\"}"),
        whole("{\"Echo\":\"x\"} trailing"),
        "\u{feff}{}".to_owned(),
        "[".repeat(1 << 20),
        String::new(),
    ];
    for body in bodies {
        for force in ["", "?force=1"] {
            let (status, said) =
                appliance.bytes(&format!("/api/v1/declarations/x{force}"), body.clone()).await;
            assert!(matches!(status, 400 | 413), "{body:.60}: {status} {said}");
            assert!(said["error"]["message"].is_string(), "{said}");
        }
    }
    for name in ["..%2f..%2fx", "a%00b", "%e2%80%ae", "%3Cimg%3E", &"x".repeat(65), "russet.status", "%27--"]
    {
        let plain = percent_encoding::percent_decode_str(name).decode_utf8().unwrap().into_owned();
        let body = echo(&plain, "x").to_string();
        let (status, said) = appliance.bytes(&format!("/api/v1/declarations/{name}?force=1"), body).await;
        assert_eq!((status, &said["error"]["pointer"]), (400, &json!("/Identifier")), "{name}");
    }
    let (_, kept) = appliance.api("GET", "/api/v1/declarations", None).await;
    assert_eq!(kept["items"], json!([]));
    // Of a key that is there twice, the last counts, and devices get what was checked.
    let twice = whole("{\"Echo\":7,\"Echo\":\"seven\"}");
    let (status, said) = appliance.bytes("/api/v1/declarations/x", twice).await;
    assert_eq!((status, &said["Payload"]), (201, &json!({"Echo": "seven"})));
}

/// 26: what is another's is 404, and so is what is not there; both sound the same.
#[tokio::test]
async fn what_is_another_enrollments_is_404() {
    let mut appliance = Appliance::start().await;
    let mut mine = appliance.enroll(Kind::IPhone).await;
    let mut other = appliance.enroll(Kind::IPhone).await;
    appliance.declare_for_all(&echo("everybody", "x")).await;
    appliance.api("PUT", "/api/v1/declarations/mine", Some(echo("mine", "secret"))).await;
    let group = json!({"members": [mine.udid], "declarations": ["mine"]});
    assert_eq!(appliance.api("PUT", "/api/v1/groups/g", Some(group)).await.0, 201);
    settle(&mut mine).await;
    settle(&mut other).await;
    let own: Vec<String> = mine.declarations.declarations.keys().cloned().collect();
    assert!(echoed(&mine, "mine").is_some() && echoed(&other, "mine").is_none());
    assert_eq!(ask(&appliance, &mut mine, "declaration/configuration/mine").await.0, 200);
    let refused = ask(&appliance, &mut other, "declaration/configuration/mine").await;
    assert_eq!(refused.0, 404);
    assert_eq!(refused, ask(&appliance, &mut other, "declaration/configuration/nobodys").await);
    // The activation of the other's group is not guessed either.
    let of_group = own.iter().find(|name| {
        name.starts_with("russet.group.") && !other.declarations.declarations.contains_key(*name)
    });
    let endpoint = format!("declaration/activation/{}", of_group.unwrap());
    assert_eq!(ask(&appliance, &mut other, &endpoint).await.0, 404);
    assert_eq!(ask(&appliance, &mut mine, &endpoint).await.0, 200);
    // One device's word for another's channel is refused before anything is looked up.
    let body = xml(message("DeclarativeManagement", &mine.udid, [("Endpoint", "declaration-items".into())]));
    assert_eq!(send(&appliance, &mut other, "/mdm/checkin", body).await.status, 400);
}

/// 27: nothing but the four forms of an endpoint is one.
#[tokio::test]
async fn tricks_with_endpoints_are_404() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    appliance.declare_for_all(&echo("c", "x")).await;
    settle(&mut phone).await;
    for endpoint in [
        "declaration/../tokens",
        "declaration/configuration/../configuration/c",
        "declaration/configuration/%63",
        "declaration/configuration/c/",
        "declaration/configuration//c",
        "declaration/configuration/c?x=1",
        "declaration/configuration/c#x",
        "declaration/configuration/C",
        "declaration/configuration/",
        "declaration/configuration",
        "declaration/asset/c",
        "declaration/Configuration/c",
        "declaration/configurations/c",
        "declaration%2fconfiguration%2fc",
        "/declaration/configuration/c",
        "./tokens",
        "tokens/",
        "Tokens",
        "tokens ",
        "declaration-items/../tokens",
        "%2e%2e",
        "%2e%2e/%2e%2e/etc/passwd",
        "..\\tokens",
        "status/..",
        "declaration/configuration/' OR '1'='1",
        "declaration/configuration/%",
        "declaration/configuration/_",
        &format!("declaration/configuration/{}", "x".repeat(64 << 10)),
        &format!("declaration/{}/c", "x".repeat(64 << 10)),
        &"declaration/".repeat(5000),
    ] {
        let (status, body) = ask(&appliance, &mut phone, endpoint).await;
        assert_eq!(status, 404, "{endpoint:.80}");
        assert!(body.len() < 300, "{endpoint:.80}");
    }
    assert_eq!(ask(&appliance, &mut phone, "declaration/configuration/c").await.0, 200);
}

/// 28: between the list and the fetch an administrator changes, moves and deletes: the device gets what the
/// list said, and the news by the next list.
#[tokio::test]
async fn a_fetch_after_an_edit_is_answered_from_what_was_listed() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    for name in ["changed", "gone", "moved"] {
        appliance.declare_for_all(&echo(name, "old")).await;
    }
    let (_, items) = ask(&appliance, &mut phone, "declaration-items").await;
    let items: Json = serde_json::from_slice(&items).unwrap();
    appliance.declare_for_all(&echo("changed", "new")).await;
    for name in ["gone", "moved"] {
        let path = format!("/api/v1/groups/default/declarations/{name}");
        assert!(appliance.api("DELETE", &path, None).await.0.is_success());
    }
    assert_eq!(appliance.api("DELETE", "/api/v1/declarations/gone", None).await.0, 204);
    for kind in ["Activations", "Configurations", "Assets", "Management"] {
        for item in items["Declarations"][kind].as_array().unwrap() {
            let of = if kind == "Management" { "management" } else { &kind.to_lowercase()[..kind.len() - 1] };
            let endpoint = format!("declaration/{of}/{}", item["Identifier"].as_str().unwrap());
            let (status, body) = ask(&appliance, &mut phone, &endpoint).await;
            assert_eq!(status, 200, "{endpoint}");
            let body: Json = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["ServerToken"], item["ServerToken"], "{endpoint}");
        }
    }
    settle(&mut phone).await;
    assert_eq!(echoed(&phone, "changed").as_deref(), Some("new"));
    assert!(echoed(&phone, "gone").is_none() && echoed(&phone, "moved").is_none());
    assert_eq!(ask(&appliance, &mut phone, "declaration/configuration/gone").await.0, 404);
}

/// 18: what a device claims of declarations that nobody wrote, of one under two tokens, of its abilities in
/// wrong types: taken, believed of nothing else, and the next synchronisation goes well.
#[tokio::test]
async fn false_claims_are_taken_and_hurt_nobody() {
    let mut appliance = Appliance::start().await;
    let mut liar = appliance.enroll(Kind::IPhone).await;
    let mut other = appliance.enroll(Kind::IPhone).await;
    appliance.declare_for_all(&echo("c", "1")).await;
    settle(&mut liar).await;
    settle(&mut other).await;
    let (before, others_status) =
        (appliance.declarations_of(&other.udid).await, status_of(&appliance, &other).await);
    let token = liar.declarations.declarations["c"].server_token.clone();
    let one = |name: &str, token: &str, active: bool| json!({"identifier": name, "server-token": token, "active": active, "valid": "valid"});
    let claims = json!([
        one("nobodys", "1", true),
        one("c", &token, true),
        one("c", "an-older-one", false),
        one("../../etc/passwd", "<script>", true),
        one(&"x".repeat(64), &"y".repeat(64), true),
    ]);
    let report = |declarations: Json, capabilities: Json| {
        let management = json!({"declarations": declarations, "client-capabilities": capabilities});
        json!({"StatusItems": {"management": management}, "Errors": []}).to_string()
    };
    let lists = json!({"configurations": claims, "activations": 7, "assets": {"a": []}, "management": null});
    assert_eq!(status(&appliance, &mut liar, report(lists, json!({})).as_bytes()).await, 200);
    let shown = appliance.declarations_of(&liar.udid).await;
    assert!(shown.iter().all(|one| one["identifier"] != "nobodys"), "what nobody wrote is nobody's");
    let c = shown.iter().find(|one| one["identifier"] == "c").unwrap();
    assert_eq!((&c["received"], &c["active"]), (&json!(true), &json!(true)), "the token that it has counts");
    for capabilities in [
        json!(null),
        json!("all"),
        json!([[[]]]),
        json!({"supported-payloads": []}),
        json!({"supported-payloads": {"declarations": "x", "status-items": {"a": 1}}}),
        json!({"supported-payloads": {"declarations": {"configurations": [7, null, {}]}, "status-items": [[], 1]}}),
        json!({"supported-payloads": {"status-items": vec!["y".repeat(300); 3000]}}),
    ] {
        let said = report(json!({"configurations": []}), capabilities.clone());
        assert_eq!(status(&appliance, &mut liar, said.as_bytes()).await, 200, "{capabilities}");
        assert_eq!(ask(&appliance, &mut liar, "tokens").await.0, 200, "{capabilities}");
        assert_eq!(ask(&appliance, &mut liar, "declaration-items").await.0, 200, "{capabilities}");
    }
    assert_eq!(appliance.declarations_of(&other.udid).await, before, "nothing of it is another's");
    assert_eq!(status_of(&appliance, &other).await, others_status);
    // The truth, and all is as it was.
    liar.send_full_status(Channel::Device).await.unwrap();
    appliance.declare_for_all(&echo("c", "2")).await;
    settle(&mut liar).await;
    settle(&mut other).await;
    for device in [&liar, &other] {
        assert_eq!(echoed(device, "c").as_deref(), Some("2"));
        let shown = appliance.declarations_of(&device.udid).await;
        assert!(shown.iter().all(|one| one["received"] == true || !one["left_out"].is_null()), "{shown:?}");
    }
}

async fn status_of(appliance: &Appliance, device: &Device) -> Json {
    appliance.api("GET", &format!("/api/v1/enrollments/{}/status", device.udid), None).await.1["items"].take()
}

/// 18: each of these reports goes into the next as if it had not been, and the other device is untouched.
#[tokio::test]
async fn a_bad_report_leaves_the_good_ones_alone() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    appliance.declare_for_all(&echo("c", "1")).await;
    settle(&mut phone).await;
    let before = status_of(&appliance, &phone).await;
    let deep = format!("{{\"StatusItems\":{{\"a\":{}1{}}}}}", "[".repeat(10_000), "]".repeat(10_000));
    for wrong in [
        deep.as_bytes(),
        b"{\"StatusItems\":{\"device\":{\"model\":{\"family\":\"\\ud83d\"}}}}",
        b"{\"StatusItems\":{\"device\":{\"model\":{\"family\":1e309}}}}",
        b"{\"StatusItems\":{\"device\":{\"model\":{\"family\":\"x\"}}},\"FullReport\":true",
    ] {
        assert_eq!(status(&appliance, &mut phone, wrong).await, 400);
        assert_eq!(status_of(&appliance, &phone).await, before, "a refused report says nothing");
    }
    let huge = json!({"StatusItems": {"x": {"y": "z".repeat(5 << 20)}}}).to_string();
    let many: serde_json::Map<String, Json> = (0..20_000).map(|n| (format!("i{n}"), n.into())).collect();
    let many = json!({"StatusItems": many}).to_string();
    let twice = "{\"StatusItems\":{\"device\":{\"model\":{\"family\":\"a\",\"family\":\"iPhone\"}}}}";
    for odd in [&huge, &many, twice] {
        assert_eq!(status(&appliance, &mut phone, odd.as_bytes()).await, 200);
    }
    phone.passcode = !phone.passcode;
    phone.connect(Channel::Device).await.unwrap();
    let (_, shown) = appliance.api("GET", &format!("/api/v1/enrollments/{}/status", phone.udid), None).await;
    let items = shown["items"].as_array().unwrap();
    let of = |name: &str| items.iter().find(|item| item["item"] == name || item["path"] == name).cloned();
    let passcode = of("passcode.is-present").unwrap_or_else(|| panic!("{}", items[0]));
    assert_eq!(passcode["value"], json!(phone.passcode));
    appliance.declare_for_all(&echo("c", "2")).await;
    settle(&mut phone).await;
    assert_eq!(echoed(&phone, "c").as_deref(), Some("2"));
}
