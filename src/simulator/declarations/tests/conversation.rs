//! Synchronisations over the wire.

use serde_json::{Value as Json, json};

use super::server::Server;
use super::{ON_DEVICE, activates, code};
use crate::simulator::Kind;

const WIFI: &str = r#"<plist version="1.0"><dict><key>PayloadType</key><string>Configuration</string>
    <key>PayloadVersion</key><integer>1</integer><key>PayloadIdentifier</key><string>org.example.wifi</string>
    <key>PayloadUUID</key><string>A</string><key>PayloadContent</key><array/></dict></plist>"#;

#[tokio::test]
async fn only_what_changed_is_fetched_and_reported() {
    let server = Server::start().await;
    let mut phone = server.device(Kind::IPhone);
    server.declare("a", "activation.simple", activates(&["b", "c"]));
    server.declare("b", "configuration.management.test", json!({ "Echo": "1" }));
    server.declare("c", "configuration.management.test", json!({ "Echo": "1" }));
    phone.synchronise(ON_DEVICE).await.unwrap();
    let all = ["declaration/activation/a", "declaration/configuration/b", "declaration/configuration/c"];
    assert_eq!(server.asked(), ["tokens", "declaration-items", all[0], all[1], all[2], "status"]);

    phone.synchronise(ON_DEVICE).await.unwrap();
    assert_eq!(server.asked(), ["tokens"]);
    server.declare("b", "configuration.management.test", json!({ "Echo": "2" }));
    server.withdraw("c");
    server.declare("a", "activation.simple", activates(&["b"]));
    phone.synchronise(ON_DEVICE).await.unwrap();
    assert_eq!(server.asked(), ["tokens", "declaration-items", all[0], all[1], "status"]);
    let last = server.with(|state| state.reports.last().cloned()).unwrap();
    assert_eq!(last["FullReport"], serde_json::Value::Null);
    assert_eq!(
        last["StatusItems"]["management"]["declarations"]["configurations"].as_array().unwrap().len(),
        1
    );
    assert_eq!(last["StatusItems"]["management"]["client-capabilities"], serde_json::Value::Null);

    // A report that the server did not take is sent again.
    server.with(|state| state.is_down = true);
    server.declare("b", "configuration.management.test", json!({ "Echo": "3" }));
    assert!(phone.synchronise(ON_DEVICE).await.is_err());
    server.with(|state| state.is_down = false);
    assert!(phone.report_changes(ON_DEVICE).await.unwrap());
    assert!(!phone.report_changes(ON_DEVICE).await.unwrap());

    phone.remove_management().await.unwrap();
    assert!(phone.declarations(ON_DEVICE).is_empty());
}

#[tokio::test]
async fn a_declared_profile_comes_and_goes_with_its_declaration() {
    let server = Server::start().await;
    let mut mac = server.device(Kind::Mac);
    let kind = "application/x-apple-aspen-config";
    server.with(|state| state.files.insert("/profile".into(), (kind, WIFI.as_bytes().to_vec())));
    let at = |path: &str| json!({ "ProfileURL": format!("{}{path}", server.url) });
    server.declare("a", "activation.simple", activates(&["there", "gone", "elsewhere"]));
    server.declare("there", "configuration.legacy", at("/profile"));
    server.declare("gone", "configuration.legacy", at("/none"));
    server.declare(
        "elsewhere",
        "configuration.legacy",
        json!({ "ProfileURL": "https://example.org/profile" }),
    );
    mac.synchronise(ON_DEVICE).await.unwrap();
    assert_eq!(code(&mac, "there"), "");
    assert_eq!(code(&mac, "gone"), "Error.ConfigurationCannotBeApplied");
    assert_eq!(code(&mac, "elsewhere"), "Error.ConfigurationCannotBeApplied");
    let has_wifi = |device: &crate::simulator::Device| {
        device.profiles.iter().any(|profile| profile.identifier == "org.example.wifi")
    };
    assert!(has_wifi(&mac) && mac.is_declared("org.example.wifi"));
    assert_eq!(mac.remove_profile("org.example.wifi").status, crate::simulator::Status::Error);

    // What is known, failed or not, is not fetched again.
    server.asked();
    mac.report_changes(ON_DEVICE).await.unwrap();
    assert!(server.asked().is_empty());
    server.declare("a", "activation.simple", activates(&[]));
    mac.synchronise(ON_DEVICE).await.unwrap();
    assert!(!has_wifi(&mac));
}

#[tokio::test]
async fn assets_are_fetched_when_used_and_verified() {
    let server = Server::start().await;
    let mut phone = server.device(Kind::IPhone);
    for path in ["/fine", "/altered"] {
        server.with(|state| state.files.insert(path.into(), ("text/plain", b"abc".to_vec())));
    }
    let hash = crate::id::hex(&crate::id::sha256(b"abc"));
    let other = crate::id::hex(&crate::id::sha256(b"abd"));
    let asset = |path: &str, hash: &str| json!({ "Reference": { "DataURL": format!("{}{path}", server.url), "Size": 3, "Hash-SHA-256": hash } });
    let uses = |asset: &str| json!({ "Echo": "x", "EchoDataAssetReference": asset });
    server.declare("act", "activation.simple", activates(&["c1", "c2", "c3"]));
    for (configuration, name, path, hash) in [
        ("c1", "fine", "/fine", &hash),
        ("c2", "altered", "/altered", &other),
        ("c3", "none", "/none", &hash),
    ] {
        server.declare(configuration, "configuration.management.test", uses(name));
        server.declare(name, "asset.data", asset(path, hash));
    }
    server.declare("unused", "asset.data", asset("/unused", &hash));
    phone.synchronise(ON_DEVICE).await.unwrap();
    let expected = [
        ("fine", ""),
        ("altered", "Error.AssetCannotBeVerified"),
        ("none", "Error.AssetCannotBeDownloaded"),
        ("unused", "Info.NotReferencedByConfiguration"),
        ("c1", ""),
        ("c2", "Error.ConfigurationCannotBeApplied"),
        ("c3", "Error.ConfigurationCannotBeApplied"),
    ];
    for (identifier, wanted) in expected {
        assert_eq!(code(&phone, identifier), wanted, "{identifier}");
    }
    // What failed to download is tried again at the next synchronisation, and only that.
    server.asked();
    server.with(|state| state.files.insert("/none".into(), ("text/plain", b"abc".to_vec())));
    phone.synchronise(ON_DEVICE).await.unwrap();
    assert_eq!(server.asked(), ["tokens", "/none", "status"]);
    assert_eq!((code(&phone, "none"), code(&phone, "c3")), ("", ""));
}

#[tokio::test]
async fn a_package_is_downloaded_by_its_manifest() {
    let server = Server::start().await;
    let mut mac = server.device(Kind::Mac);
    let manifest = |name: &str, hash: &str| {
        format!(
            r#"<plist version="1.0"><dict><key>items</key><array><dict>
            <key>metadata</key><dict><key>bundle-identifier</key><string>{name}</string>
            <key>kind</key><string>software</string><key>title</key><string>Tool</string></dict>
            <key>assets</key><array><dict><key>kind</key><string>software-package</string>
            <key>url</key><string>{}/tool.pkg</string><key>sha256-size</key><integer>2</integer>
            <key>sha256s</key><array><string>{hash}</string><string>{}</string></array></dict></array>
            </dict></array></dict></plist>"#,
            server.url,
            crate::id::hex(&crate::id::sha256(b"c")),
        )
    };
    let fine = manifest("org.example.tool", &crate::id::hex(&crate::id::sha256(b"ab"))).into_bytes();
    server.with(|state| {
        state.files.insert("/tool.pkg".into(), ("application/octet-stream", b"abc".to_vec()));
        state.files.insert("/fine".into(), ("text/xml", fine));
        state.files.insert("/altered".into(), ("text/xml", manifest("org.example.other", "00").into_bytes()));
    });
    let package = |path: &str| {
        json!({
            "ManifestURL": format!("{}{path}", server.url),
            "InstallBehavior": { "Install": "Required" },
        })
    };
    server.declare("a", "activation.simple", activates(&["p1", "p2", "s"]));
    server.declare("p1", "configuration.package", package("/fine"));
    server.declare("p2", "configuration.package", package("/altered"));
    let items = json!({ "StatusItems": [{ "Name": "package.list" }] });
    server.declare("s", "configuration.management.status-subscriptions", items);
    mac.synchronise(ON_DEVICE).await.unwrap();
    let lists = server.with(|state| {
        let lists = state.reports.iter().map(|report| report["StatusItems"]["package"]["list"].clone());
        lists.collect::<Vec<_>>()
    });
    let state = |report: usize, name: &str| {
        let list = lists[report].as_array().unwrap();
        let entry = list.iter().find(|entry| entry["identifier"] == name && entry["_removed"].is_null());
        entry.map(|entry| (entry["state"].as_str().unwrap(), entry["reasons"][0]["code"].clone()))
    };
    // Before the manifests are read, devices know them by their declarations.
    assert_eq!(state(0, "p1"), Some(("queued", Json::Null)));
    assert_eq!(state(0, "p2"), Some(("queued", Json::Null)));
    let (tool, other) = ("org.example.tool", "org.example.other");
    assert_eq!((state(1, tool), state(1, "p1")), (Some(("installing", Json::Null)), None));
    assert_eq!(state(2, tool), Some(("installed", Json::Null)));
    assert_eq!(state(2, other), Some(("failed", json!("Error.InstallFailed"))));
    assert_eq!(mac.app_state(ON_DEVICE, "p1"), Some("installed"));
    assert_eq!(mac.app_state(ON_DEVICE, "p2"), Some("failed"));
    let asked = server.asked();
    let of_packages = asked.iter().filter(|path| path.starts_with('/')).collect::<Vec<_>>();
    assert_eq!(of_packages, ["/fine", "/altered", "/tool.pkg", "/tool.pkg"]);

    server.declare("a", "activation.simple", activates(&["s"]));
    mac.synchronise(ON_DEVICE).await.unwrap();
    let list = server.with(|state| state.reports.last().unwrap()["StatusItems"]["package"]["list"].clone());
    let gone = |name: &str| json!({ "identifier": name, "_removed": true });
    assert_eq!(list, json!([gone(other), gone(tool)]));
    assert_eq!((mac.declarations.fetched, mac.declarations.reports), (5, 4));
}
