//! Profiles and assets as people and scripts hand them in.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{House, Reply};
use crate::id::{hex, sha256};
use crate::mdm::sync;

const PROFILE: &str = "application/x-apple-aspen-config";

/// A profile with these payloads, each the inside of its dictionary.
pub(super) fn profile(identifier: &str, uuid: &str, payloads: &[String]) -> String {
    let payloads: String = payloads.iter().map(|payload| format!("<dict>{payload}</dict>")).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<plist version=\"1.0\"><dict>\
         <key>PayloadType</key><string>Configuration</string><key>PayloadVersion</key><integer>1</integer>\
         <key>PayloadIdentifier</key><string>{identifier}</string><key>PayloadUUID</key><string>{uuid}</string>\
         <key>PayloadDisplayName</key><string>Wi-Fi</string>\
         <key>PayloadContent</key><array>{payloads}</array></dict></plist>"
    )
}

pub(super) fn payload(kind: &str, n: usize, more: &str) -> String {
    format!(
        "<key>PayloadType</key><string>{kind}</string><key>PayloadVersion</key><integer>1</integer>\
         <key>PayloadIdentifier</key><string>org.example.p{n}</string>\
         <key>PayloadUUID</key><string>6F2C1A50-0000-4000-8000-00000000000{n}</string>{more}"
    )
}

const UUID: &str = "6F2C1A50-1111-4000-8000-000000000000";

fn wifi(ssid: &str) -> String {
    let ssid = format!("<key>SSID_STR</key><string>{ssid}</string>");
    profile("org.example.wifi", UUID, &[payload("com.apple.wifi.managed", 1, &ssid)])
}

impl House {
    pub(super) async fn upload(&self, path: &str, kind: &str, bytes: &[u8]) -> Reply {
        self.ask("PUT", path).body(kind, bytes).send().await
    }

    async fn token_of(&self, declaration: &str) -> Value {
        self.ask("GET", &format!("/api/v1/declarations/{declaration}")).send().await.ok()["ServerToken"]
            .clone()
    }
}

#[tokio::test]
async fn a_profile_is_uploaded_read_declared_changed_and_deleted() {
    let house = House::new().await;
    let path = "/api/v1/profiles/wifi";
    let made = house.upload(&format!("{path}?declare=legacy"), PROFILE, wifi("School").as_bytes()).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let shown = &made.json;
    assert_eq!(
        (&shown["identifier"], &shown["payload_identifier"]),
        (&json!("wifi"), &json!("org.example.wifi"))
    );
    assert_eq!((&shown["uuid"], &shown["name"]), (&json!(UUID), &json!("Wi-Fi")));
    assert_eq!((&shown["signed_by"], &shown["removal_disallowed"]), (&Value::Null, &json!(false)));
    assert_eq!(shown["payloads"][0]["type"], "com.apple.wifi.managed");
    assert_eq!(shown["sha256"], hex(&sha256(wifi("School").as_bytes())));
    assert_eq!(shown["users"], json!([{"declaration": "wifi"}]));
    assert_eq!(shown["warnings"].as_array().unwrap().len(), 1, "{}", made.text);
    let legacy = house.ask("GET", "/api/v1/declarations/wifi").send().await.ok();
    assert_eq!(legacy["Payload"]["ProfileURL"], "https://localhost:8443/mdm/profiles/wifi");
    let first = legacy["ServerToken"].clone();

    let content = house.ask("GET", &format!("{path}/content")).send().await;
    assert_eq!((content.text.as_str(), content.status.as_u16()), (wifi("School").as_str(), 200));
    assert_eq!(content.headers["content-type"], PROFILE);
    assert_eq!(content.headers["content-disposition"], "attachment");
    let reader = house.token("reader", "read").await;
    house.ask("GET", path).nobody().token(&reader).send().await.ok();
    let refused = house.ask("GET", &format!("{path}/content")).nobody().token(&reader).send().await;
    refused.refused(403, "forbidden");

    let tag = house.ask("GET", path).send().await.headers["etag"].to_str().unwrap().to_owned();
    let same = house.upload(&format!("{path}?declare=legacy"), PROFILE, wifi("School").as_bytes()).await;
    assert_eq!((same.status.as_u16(), &same.json["changed"]), (200, &json!(false)));
    let other = wifi("Guests");
    let with = async |tag: &str, body: &str| {
        house.ask("PUT", path).header("If-Match", tag).body(PROFILE, body.as_bytes()).send().await
    };
    assert_eq!(with(&tag, &other).await.status, 200);
    assert_ne!(house.token_of("wifi").await, first, "a changed file changes the token");
    with(&tag, &wifi("Third")).await.refused(412, "precondition_failed");

    let in_use = house.ask("DELETE", path).send().await;
    assert!(in_use.refused(409, "conflict").contains("wifi"));
    assert_eq!(in_use.json["error"]["users"], json!([{"declaration": "wifi"}]));
    house.ask("DELETE", "/api/v1/declarations/wifi").send().await.ok();
    assert_eq!(house.ask("DELETE", path).send().await.status, 204);
    house.ask("GET", path).send().await.refused(404, "not_found");
    let audit = house.audit();
    assert_eq!(audit.iter().filter(|line| line.contains("profile.put")).count(), 2, "{audit:?}");
    assert!(audit.iter().any(|line| line.contains("profile.delete")));
    assert!(!audit.iter().any(|line| line.contains("School")));
}

#[tokio::test]
async fn what_devices_would_refuse_is_refused_with_words() {
    let house = House::new().await;
    let outer = |payloads: &[String]| profile("org.example.x", UUID, payloads);
    let nested = outer(&[]).replace("org.example.x", "org.example.inner");
    let data = |bytes: &[u8]| format!("<key>Data</key><data>{}</data>", STANDARD.encode(bytes));
    let deep = "<key>A</key><array><dict><key>PayloadType</key><string>com.apple.mdm</string></dict></array>";
    let signed = include_bytes!("../../../tests/fixtures/cms/attached.p7");
    let pem = b"-----BEGIN PKCS7-----\nAAAA\n-----END PKCS7-----\n";
    let whole = outer(&[]);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (outer(&[payload("com.apple.mdm", 1, "")]).into(), "com.apple.mdm"),
        (outer(&[payload("COM.APPLE.MDM ", 1, "")]).into(), "com.apple.mdm"),
        (outer(&[payload("com.apple.declarations", 1, "")]).into(), "com.apple.declarations"),
        (outer(&[payload("com.apple.x", 1, deep)]).into(), "com.apple.mdm"),
        (outer(&[payload("Configuration", 1, "")]).into(), "inside of the profile"),
        (outer(&[payload("com.apple.x", 1, &data(nested.as_bytes()))]).into(), "inside of the profile"),
        (outer(&[payload("com.apple.x", 1, ""), payload("com.apple.y", 1, "")]).into(), "PayloadUUID"),
        (whole.replace("Configuration", "Other").into(), "Configuration"),
        (whole.replace("PayloadIdentifier", "Other").into(), "PayloadIdentifier is missing"),
        (whole.replace("PayloadUUID", "Other").into(), "PayloadUUID is missing"),
        (whole.replace("<integer>1</integer>", "<string>1</string>").into(), "PayloadVersion"),
        (whole.replace("<array></array>", "<string/>").into(), "PayloadContent"),
        (whole.replace("PayloadContent</key>", "EncryptedPayloadContent</key>").into(), "encrypted"),
        (format!("{whole}PK\u{3}\u{4}").into(), "no configuration profile"),
        (format!("GIF89a{whole}").into(), "no configuration profile"),
        (signed.to_vec(), "PayloadType is missing"),
        ([&signed[..], b"trailing"].concat(), "signature"),
        (signed[..signed.len() - 9].to_vec(), "signature"),
        (pem.to_vec(), "DER"),
        (b"{\"PayloadType\": \"Configuration\"}".to_vec(), "no configuration profile"),
        (Vec::new(), "no configuration profile"),
    ];
    for (bytes, words) in cases {
        let answer = house.upload("/api/v1/profiles/x", PROFILE, &bytes).await;
        let said = answer.refused(400, "invalid");
        assert!(said.contains(words), "{said:?} does not say {words:?}");
    }
    for name in ["..", ".", "a%2Fb", "a%00", "x%20y", &"x".repeat(65)] {
        let answer = house.upload(&format!("/api/v1/profiles/{name}"), PROFILE, whole.as_bytes()).await;
        answer.refused(400, "invalid");
    }
    let large = vec![b' '; 11 * 1024 * 1024];
    house.upload("/api/v1/profiles/x", PROFILE, &large).await.refused(413, "too_large");
    assert_eq!(house.ask("GET", "/api/v1/profiles").send().await.ok()["items"], json!([]));
    assert!(house.audit().is_empty());
}

#[tokio::test]
async fn a_signed_profile_is_read_and_served_as_it_came() {
    use crate::pki::certificate::Certificate;
    use crate::pki::cms::{Signer, sign_attached};
    use crate::pki::key::PrivateKey;
    let house = House::new().await;
    let certificate = Certificate::from_pem(include_str!("../../../tests/fixtures/cms/rsa.crt")).unwrap();
    let key = PrivateKey::from_pem(include_str!("../../../tests/fixtures/cms/rsa.key")).unwrap();
    let sign = |content: &[u8]| {
        let signer = Signer { certificate: &certificate, key: &key, chain: &[], hash: key.hash() };
        sign_attached(content, signer, &[], house.clock.now()).unwrap()
    };
    let signed = sign(wifi("School").as_bytes());
    let made = house.upload("/api/v1/profiles/wifi", PROFILE, &signed).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert!(made.json["signed_by"].is_string(), "{}", made.text);
    assert_eq!(made.json["sha256"], hex(&sha256(&signed)));

    let twice = sign(&signed);
    let said = house.upload("/api/v1/profiles/y", PROFILE, &twice).await.refused(400, "invalid");
    assert!(said.contains("inside"), "{said}");
    let data = format!("<key>Data</key><data>{}</data>", STANDARD.encode(&signed));
    let inside = profile("org.example.x", UUID, &[payload("com.apple.x", 1, &data)]);
    house.upload("/api/v1/profiles/y", PROFILE, inside.as_bytes()).await.refused(400, "invalid");
}

#[tokio::test]
async fn assets_are_listed_with_their_declarations_and_secrets_stay_inside() {
    let house = House::new().await;
    let made = house.upload("/api/v1/assets/org.example.zip", "application/zip", b"PK").await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.json["type"], "com.apple.asset.data");
    assert_eq!((&made.json["size"], &made.json["secret"]), (&json!(2), &json!(false)));
    let declared = house.ask("GET", "/api/v1/declarations/org.example.zip").send().await.ok();
    assert_eq!(declared["Payload"]["Reference"]["ContentType"], "application/zip");

    let secret = br#"{"UserName": "wifi", "Password": "correct horse"}"#;
    let path = "/api/v1/assets/org.example.login";
    let typed = format!("{path}?type=com.apple.asset.credential.userpassword");
    let made = house.upload(&typed, "application/json", secret).await;
    assert_eq!((made.status.as_u16(), &made.json["sha256"]), (201, &Value::Null), "{}", made.text);
    let first = house.token_of("org.example.login").await;
    let same = house.upload(&typed, "application/json", secret).await.ok();
    assert_eq!(same["changed"], false);
    // Its type need not be said again, and what it says is checked again.
    let other = br#"{"UserName": "wifi", "Password": "battery staple"}"#;
    assert_eq!(house.upload(path, "application/json", other).await.ok()["changed"], true);
    assert_ne!(house.token_of("org.example.login").await, first);
    let wrong = house.upload(path, "application/json", br#"{"User": "wifi"}"#).await;
    wrong.refused(400, "invalid");
    assert_eq!(wrong.pointer(), "/User");
    house.upload(path, "text/plain", b"hunter2").await.refused(400, "invalid");

    let said = house.ask("GET", &format!("{path}/content")).send().await.refused(403, "forbidden");
    assert!(said.contains("secret"), "{said}");
    assert_eq!(house.ask("GET", "/api/v1/assets/org.example.zip/content").send().await.text, "PK");
    let seen = [
        house.ask("GET", "/api/v1/assets").send().await.text,
        house.ask("GET", path).send().await.text,
        house.ask("GET", "/api/v1/export").send().await.text,
        house.ask("GET", "/api/v1/declarations").send().await.text,
        house.audit().join("\n"),
    ];
    let hash = hex(&sha256(other));
    for text in seen {
        assert!(!text.contains("battery") && !text.contains(&hash), "{text}");
    }

    // A configuration that names it keeps it.
    let caldav = json!({
        "Type": "com.apple.configuration.account.caldav",
        "Identifier": "calendar",
        "Payload": {
            "VisibleName": "School", "HostName": "cal.example.org",
            "AuthenticationCredentialsAssetReference": "org.example.login",
        },
    });
    house.put("/api/v1/declarations/calendar", &caldav).await.ok();
    let in_use = house.ask("DELETE", path).send().await;
    in_use.refused(409, "conflict");
    assert_eq!(in_use.json["error"]["users"], json!([{"declaration": "calendar"}]));
    house.ask("DELETE", "/api/v1/declarations/calendar").send().await.ok();
    assert_eq!(house.ask("DELETE", path).send().await.status, 204);
    house.ask("GET", "/api/v1/declarations/org.example.login").send().await.refused(404, "not_found");
    // Deleting its declaration deletes an asset.
    house.ask("DELETE", "/api/v1/declarations/org.example.zip").send().await.ok();
    house.ask("GET", "/api/v1/assets/org.example.zip").send().await.refused(404, "not_found");
    let left: i64 = house
        .app
        .store
        .peek(|conn| Ok(conn.query_row("SELECT COUNT(*) FROM contents", [], |row| row.get(0))?))
        .unwrap();
    assert_eq!(left, 0);
    // A configuration is not replaced by bytes.
    house.put("/api/v1/declarations/p", &super::declarations::passcode("p", 6)).await.ok();
    house.upload("/api/v1/assets/p", "text/plain", b"x").await.refused(409, "conflict");
}

#[tokio::test]
async fn an_identity_needs_its_password_and_becomes_the_document_that_devices_want() {
    let house = House::new().await;
    let p12 = include_bytes!("../../../tests/fixtures/push/rsa.p12");
    let path = "/api/v1/assets/org.example.identity";
    let said = house.upload(path, "application/x-pkcs12", p12).await.refused(400, "invalid");
    assert!(said.contains("X-Russet-Password"), "{said}");
    let with = async |password: &str| {
        let ask = house.ask("PUT", path).header("X-Russet-Password", password);
        ask.body("application/x-pkcs12", p12).send().await
    };
    assert!(with("wrong").await.refused(400, "invalid").contains("password"));
    let made = with("secret").await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.json["type"], "com.apple.asset.credential.identity");
    assert_eq!(
        (&made.json["content_type"], &made.json["secret"]),
        (&json!("application/json"), &json!(true))
    );
    let contents = house.app.mdm.contents.clone();
    let document = house.app.store.peek(move |conn| {
        contents.load(conn, &crate::library::asset::get(conn, "org.example.identity")?.unwrap().kept)
    });
    let document: Value = serde_json::from_slice(&document.unwrap()).unwrap();
    assert_eq!(document, json!({"Password": "secret", "Identity": STANDARD.encode(p12)}));
}

#[tokio::test]
async fn all_of_it_is_applied_at_once_and_a_dry_run_leaves_nothing() {
    let house = House::new().await;
    house.enrolled("A").await;
    let legacy = json!({
        "Type": "com.apple.configuration.legacy", "Identifier": "l",
        "Payload": {"ProfileURL": "https://localhost:8443/mdm/profiles/wifi"},
    });
    let group = json!({"name": "Class 4b", "declarations": ["l"]});
    let large = "x".repeat(2_000_000);
    let sha = hex(&sha256(large.as_bytes()));
    let uploads = format!("/api/v1/uploads/{sha}");
    house.ask("GET", &uploads).send().await.refused(404, "not_found");
    house.upload(&uploads, "application/octet-stream", b"other").await.refused(400, "invalid");
    let mut wanted = json!({
        "profiles": [{"identifier": "wifi", "content": STANDARD.encode(wifi("School"))}],
        "assets": [{"identifier": "a", "content_type": "text/plain", "sha256": sha}],
        "declarations": [legacy], "groups": [group], "dry_run": true,
    });
    let refused = house.ask("POST", "/api/v1/apply").json(&wanted).send().await;
    refused.refused(400, "invalid");
    assert_eq!(refused.pointer(), "/assets/0/sha256");
    house.upload(&uploads, "application/octet-stream", large.as_bytes()).await.ok();
    house.ask("GET", &uploads).send().await.ok();

    let dry = house.ask("POST", "/api/v1/apply").json(&wanted).send().await.ok();
    let kinds: Vec<&str> =
        dry["changes"].as_array().unwrap().iter().map(|it| it["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["profile", "asset", "declaration", "group"]);
    assert_eq!(dry["enrollments"][0]["id"], "A", "{dry}");
    assert_eq!(house.ask("GET", "/api/v1/profiles").send().await.ok()["items"], json!([]));
    wanted["dry_run"] = false.into();
    house.ask("POST", "/api/v1/apply").json(&wanted).send().await.ok();
    let again = house.ask("POST", "/api/v1/apply").json(&wanted).send().await.ok();
    assert_eq!((&again["changes"], &again["unchanged"]), (&json!([]), &json!(4)), "{again}");
    house.app.store.write("test.refresh", |tx| sync::refresh(tx, "A").map(drop)).await.unwrap();

    let export = house.ask("GET", "/api/v1/export").send().await.ok();
    assert_eq!(export["declarations"], json!([legacy]), "that of the asset is made of the asset");
    assert_eq!(
        (&export["assets"][0]["sha256"], &export["profiles"][0]["identifier"]),
        (&json!(sha), &json!("wifi"))
    );

    // A changed profile touches those who have it; what is not sent goes with prune.
    wanted["profiles"][0]["content"] = STANDARD.encode(wifi("Guests")).into();
    wanted["assets"] = json!([]);
    wanted["prune"] = true.into();
    wanted["dry_run"] = true.into();
    let dry = house.ask("POST", "/api/v1/apply").json(&wanted).send().await.ok();
    let actions: Vec<String> = dry["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| format!("{} {}", it["action"], it["name"]))
        .collect();
    assert_eq!(actions, ["\"changed\" \"wifi\"", "\"deleted\" \"a\""]);
    assert_eq!(dry["enrollments"][0]["id"], "A", "{dry}");
    // Secrets stay where they are.
    wanted["assets"] = json!([{"identifier": "s", "secret": "not exported"}]);
    house.ask("POST", "/api/v1/apply").json(&wanted).send().await.refused(400, "invalid");
    let typed = "/api/v1/assets/s?type=com.apple.asset.credential.userpassword";
    house.upload(typed, "application/json", br#"{"UserName": "x"}"#).await.ok();
    house.ask("POST", "/api/v1/apply").json(&wanted).send().await.ok();
}

#[tokio::test]
async fn commands_about_what_is_declared_are_kept_away() {
    let house = House::new().await;
    house.enrolled("A").await;
    house.upload("/api/v1/profiles/wifi?declare=legacy", PROFILE, wifi("School").as_bytes()).await.ok();
    let send = async |path: &str, command: Value| {
        let path = format!("/api/v1/enrollments/A/commands{path}");
        house.ask("POST", &path).json(&command).send().await
    };
    let install = |text: &str| json!({"RequestType": "InstallProfile", "Payload": STANDARD.encode(text)});
    let remove = json!({"RequestType": "RemoveProfile", "Identifier": "org.example.wifi"});
    send("", install(&wifi("School"))).await.ok();
    house.ask("PUT", "/api/v1/groups/Class%204b/declarations/wifi").send().await.ok();
    house.app.store.write("test.refresh", |tx| sync::refresh(tx, "A").map(drop)).await.unwrap();
    assert!(send("", install(&wifi("School"))).await.refused(409, "conflict").contains("org.example.wifi"));
    assert!(send("", remove.clone()).await.refused(409, "conflict").contains("declared"));
    let forced = send("?force=1", remove).await.ok();
    assert_eq!(forced["warnings"].as_array().unwrap().len(), 1, "{forced}");
    let other = profile("org.example.other", UUID, &[]);
    send("", install(&other)).await.ok();
}

#[tokio::test]
async fn a_device_that_would_not_hand_its_profile_over_is_told_of() {
    let house = House::new().await;
    for id in ["A", "B"] {
        house.enrolled(id).await;
    }
    let listed = |uuid: &str| {
        format!(
            "<plist version=\"1.0\"><dict><key>ProfileList</key><array><dict>\
             <key>PayloadIdentifier</key><string>org.example.wifi</string>\
             <key>PayloadUUID</key><string>{uuid}</string><key>PayloadContent</key><array><dict>\
             <key>PayloadType</key><string>com.apple.wifi.managed</string></dict></array></dict></array></dict></plist>"
        )
    };
    for (id, uuid) in [("A", UUID), ("B", "other")] {
        let path = format!("/api/v1/enrollments/{id}/commands");
        house.ask("POST", &path).json(&json!({"RequestType": "ProfileList"})).send().await.ok();
        let answer = listed(uuid).into_bytes();
        let answered = house.app.store.write("test.answer", move |tx| {
            tx.execute(
                "UPDATE commands SET status = 'Acknowledged', answer = ?2 WHERE enrollment_id = ?1",
                rusqlite::params![id, answer],
            )?;
            Ok(())
        });
        answered.await.unwrap();
    }
    let made =
        house.upload("/api/v1/profiles/org.example.wifi", PROFILE, wifi("School").as_bytes()).await.ok();
    let [warning] = &made["warnings"].as_array().unwrap()[..] else { panic!("{made}") };
    let warning = warning.as_str().unwrap();
    assert!(warning.contains("1 enrollments (as B)") && warning.contains("RemoveProfile"), "{warning}");
    let legacy = json!({
        "Type": "com.apple.configuration.legacy", "Identifier": "l",
        "Payload": {"ProfileURL": "/mdm/profiles/org.example.wifi"},
    });
    let declared = house.put("/api/v1/declarations/l", &legacy).await.ok();
    assert_eq!(declared["warnings"].as_array().unwrap().len(), 2, "{declared}");
}
