//! What devices say of themselves, as people get to see it (THREATS D5 35).

use axum::body::Body;
use plist::Value;
use russet::simulator::{Channel, Kind};
use serde_json::{Value as Json, json};
use tower::ServiceExt;

use super::{keys, message, report, say, tell, token_update};
use crate::support::Appliance;

const HOSTILE: &str = "</script><script>alert(1)</script>";

fn hostile<const N: usize>(names: [&str; N]) -> Value {
    Value::Dictionary(keys(names.map(|name| (name, HOSTILE.into()))))
}

/// How often the hostile text is a whole string in there, and never a part of one or a key.
fn whole(value: &Json) -> usize {
    match value {
        Json::String(text) => {
            assert!(text == HOSTILE || !text.contains('<'), "{text}");
            usize::from(text == HOSTILE)
        }
        Json::Array(items) => items.iter().map(whole).sum(),
        Json::Object(members) => members.values().map(whole).sum(),
        _ => 0,
    }
}

/// The API's answer as a browser gets it.
async fn get(appliance: &Appliance, path: &str) -> Json {
    let mut request = hyper::Request::get(path).body(Body::empty()).unwrap();
    request.extensions_mut().insert(russet::request::Peer::Socket);
    let response = appliance.app().socket_router().oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json", "{path}");
    assert_eq!(response.headers()["x-content-type-options"], "nosniff", "{path}");
    appliance.api("GET", path, None).await.1
}

/// 35: app names, networks, error chains and users leave as JSON strings, as they were said.
#[tokio::test]
async fn hostile_apps_networks_errors_and_users_leave_the_api_as_they_were_said() {
    let mut appliance = Appliance::start().await;
    let mut mac = appliance.enroll(Kind::Mac).await;
    let udid = mac.udid.clone();
    let mut user = token_update(&udid);
    user.insert("UserID".into(), mac.user.as_ref().unwrap().id.as_str().into());
    user.insert("UserShortName".into(), HOSTILE.into());
    user.insert("UserLongName".into(), HOSTILE.into());
    assert_eq!(say(&appliance, &mut mac, user).await, 200);
    assert_eq!(whole(&get(&appliance, "/api/v1/enrollments").await), 2, "both names");

    for (request_type, status, key, said, times) in [
        (
            "InstalledApplicationList",
            "Acknowledged",
            "InstalledApplicationList",
            { Value::Array(vec![hostile(["Name", "Identifier", "ShortVersion"])]) },
            3,
        ),
        (
            "DeviceInformation",
            "Acknowledged",
            "QueryResponses",
            hostile(["SSID", "DeviceName", "OSVersion"]),
            3,
        ),
        (
            "ProfileList",
            "Error",
            "ErrorChain",
            { Value::Array(vec![hostile(["ErrorDomain", "LocalizedDescription", "USEnglishDescription"])]) },
            3,
        ),
    ] {
        let mut command = json!({"RequestType": request_type});
        if request_type == "DeviceInformation" {
            command["Queries"] = json!(["DeviceName"]);
        }
        let uuid = appliance.send(&udid, command).await;
        mac.idle(Channel::Device).await.unwrap();
        let report = report(status, &udid, [("CommandUUID", uuid.as_str().into()), (key, said)]);
        assert_eq!(tell(&appliance, &mut mac, report).await.0, 200);
        let shown = get(&appliance, &format!("/api/v1/enrollments/{udid}/commands/{uuid}")).await;
        assert_eq!(shown["status"], status);
        // Of an error chain both the answer and the member of its own.
        let times = if status == "Error" { times * 2 } else { times };
        assert_eq!(whole(&shown), times, "{shown:#}");
    }
    for path in ["/api/v1/commands", "/api/v1/enrollments", &format!("/api/v1/enrollments/{udid}")] {
        assert!(whole(&get(&appliance, path).await) > 0, "{path}");
    }

    let reasons = json!({"StatusItems": {"management": {"declarations": {"configurations": [
        {"identifier": HOSTILE, "reasons": [{"code": HOSTILE, "description": HOSTILE}]}]}}}});
    let data = Value::Data(reasons.to_string().into_bytes());
    let status = message("DeclarativeManagement", &udid, [("Endpoint", "status".into()), ("Data", data)]);
    assert_eq!(say(&appliance, &mut mac, status).await, 200);
    assert!(whole(&get(&appliance, "/api/v1/enrollments").await) > 0, "reasons break no list");
}

/// 35: the page's own program knows no way from text to markup, and no page has another program.
#[test]
fn the_page_makes_no_markup_of_text() {
    let script = include_str!("../../../src/admin/ui/page.js");
    for way in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "createContextualFragment",
        "document.write",
        "DOMParser",
        "srcdoc",
        "eval(",
        "Function(",
        "setAttribute",
        "javascript:",
    ] {
        assert!(!script.contains(way), "{way}");
    }
    for page in [
        include_str!("../../../src/admin/ui/devices.html"),
        include_str!("../../../src/admin/ui/sign-in.html"),
        include_str!("../../../src/admin/ui/signed-out.html"),
        include_str!("../../../src/admin/ui/link-spent.html"),
    ] {
        for element in page.split("<script").skip(1) {
            let (attributes, inside) = element.split_once('>').unwrap();
            assert!(attributes.contains("src=\"/ui/") && inside.starts_with("</script>"), "{element}");
        }
        let handler = page.split_whitespace().find(|word| word.starts_with("on") && word.contains('='));
        assert_eq!(handler, None, "no handler stands in a page");
    }
}
