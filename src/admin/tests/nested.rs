//! What lies inside of profiles, and who gets secrets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::House;
use super::library::{payload, profile};
use crate::pki::certificate::Certificate;
use crate::pki::cms::{Signer, sign_attached};
use crate::pki::key::PrivateKey;

const PROFILE: &str = "application/x-apple-aspen-config";
const UUID: &str = "6F2C1A50-2222-4000-8000-000000000000";

fn sign(content: &[u8], house: &House) -> Vec<u8> {
    let certificate = Certificate::from_pem(include_str!("../../../tests/fixtures/cms/rsa.crt")).unwrap();
    let key = PrivateKey::from_pem(include_str!("../../../tests/fixtures/cms/rsa.key")).unwrap();
    let signer = Signer { certificate: &certificate, key: &key, chain: &[], hash: key.hash() };
    sign_attached(content, signer, &[], house.clock.now()).unwrap()
}

fn around(data: &[u8]) -> String {
    let data = format!("<key>Data</key><data>{}</data>", STANDARD.encode(data));
    profile("org.example.outer", UUID, &[payload("com.apple.x", 1, &data)])
}

#[tokio::test]
async fn what_is_signed_twice_encrypted_or_damaged_hides_nothing_in_a_profile() {
    let house = House::new().await;
    let inner = profile("org.example.inner", UUID, &[payload("com.apple.mdm", 2, "")]);
    let once = sign(inner.as_bytes(), &house);
    let twice = sign(&once, &house);
    let often = (0..9).fold(inner.clone().into_bytes(), |content, _| sign(&content, &house));
    let damaged = [&once[..], b"trailing"].concat();
    let enveloped = include_bytes!("../../../tests/fixtures/cms/enveloped.aes-256-cbc.p7");
    let encrypted = inner.replace("PayloadContent</key>", "EncryptedPayloadContent</key>");
    let deep = "<key>EncryptedPayloadContent</key><data>AAAA</data>";
    let doctype = inner.replace("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n", "");
    let as_text = doctype.replace('<', "&lt;");
    let as_text = format!("<key>Text</key><string>{as_text}</string>");
    for (bytes, words) in [
        (around(&once).into_bytes(), "lies inside of the profile"),
        (around(&twice).into_bytes(), "lies inside of the profile"),
        (around(&often).into_bytes(), "again and again"),
        (around(&damaged).into_bytes(), "cannot be looked into"),
        (around(enveloped).into_bytes(), "encrypted or damaged"),
        (around(encrypted.as_bytes()).into_bytes(), "inside of the profile"),
        (
            profile("org.example.outer", UUID, &[payload("com.apple.x", 1, deep)]).into_bytes(),
            "EncryptedPayloadContent",
        ),
        (
            profile("org.example.outer", UUID, &[payload("com.apple.x", 1, &as_text)]).into_bytes(),
            "inside of the profile",
        ),
        (sign(&twice, &house), "inside of a signed profile"),
    ] {
        let answer = house.upload("/api/v1/profiles/x", PROFILE, &bytes).await;
        let said = answer.refused(400, "invalid");
        assert!(said.contains(words), "{said:?} does not say {words:?}");
        assert_eq!(answer.pointer(), "", "{said}");
    }
    // Certificates without a signature around anything, and what is no CMS at all, are data.
    for data in [
        &include_bytes!("../../../tests/fixtures/push/rsa.p12")[..],
        &include_bytes!("../../../tests/fixtures/cms/detached.p256.p7")[..],
        b"0 and some text",
    ] {
        house.upload("/api/v1/profiles/x", PROFILE, around(data).as_bytes()).await.ok();
    }
}

#[tokio::test]
async fn a_command_with_a_profile_that_cannot_be_looked_into_needs_force_where_profiles_are_declared() {
    let house = House::new().await;
    house.enrolled("A").await;
    let send = async |force: &str, data: &[u8]| {
        let body = json!({"RequestType": "InstallProfile", "Payload": STANDARD.encode(data)});
        house.ask("POST", &format!("/api/v1/enrollments/A/commands{force}")).json(&body).send().await
    };
    let encrypted = profile("org.example.x", UUID, &[]);
    let encrypted = encrypted.replace("PayloadContent</key>", "EncryptedPayloadContent</key>");
    assert_eq!(send("", encrypted.as_bytes()).await.status, 201, "nothing is declared");
    let plain = profile("org.example.x", UUID, &[payload("com.apple.x", 1, "")]);
    house.upload("/api/v1/profiles/x?declare=legacy", PROFILE, plain.as_bytes()).await.ok();
    house.ask("PUT", "/api/v1/groups/default/declarations/x").send().await.ok();
    crate::mdm::sync::round(&house.app.mdm).await.unwrap();
    let said = send("", encrypted.as_bytes()).await.refused(409, "conflict");
    assert!(said.contains("cannot be looked into") && said.contains("?force=1"), "{said}");
    let warned = send("?force=1", encrypted.as_bytes()).await.ok();
    assert_eq!(warned["warnings"].as_array().unwrap().len(), 1, "{warned}");
}

#[tokio::test]
async fn who_says_of_itself_that_it_is_to_have_a_secret_is_warned_of() {
    let house = House::new().await;
    let secret = br#"{"UserName": "cal", "Password": "correct horse"}"#;
    let login = "/api/v1/assets/login?type=com.apple.asset.credential.userpassword";
    house.upload(login, "application/json", secret).await.ok();
    let caldav = json!({
        "Type": "com.apple.configuration.account.caldav",
        "Identifier": "calendar",
        "Payload": {
            "VisibleName": "School", "HostName": "cal.example.org",
            "AuthenticationCredentialsAssetReference": "login",
        },
    });
    house.put("/api/v1/declarations/calendar", &caldav).await.ok();
    let wifi = payload("com.apple.wifi.managed", 1, "<key>Password</key><string>x</string>");
    let wifi = profile("org.example.wifi", UUID, &[wifi]);
    house.upload("/api/v1/profiles/wifi?declare=legacy", PROFILE, wifi.as_bytes()).await.ok();
    house.put("/api/v1/declarations/pass", &super::declarations::passcode("pass", 6)).await.ok();

    let warnings = async |rule: &str, declarations: &Value| {
        let group = json!({"rule": rule, "declarations": declarations});
        let put = house.put("/api/v1/groups/staff", &group).await.ok();
        let words =
            put["warnings"].as_array().unwrap().iter().map(|words| words.as_str().unwrap().to_owned());
        words.filter(|words| words.contains("holds a secret")).collect::<Vec<_>>()
    };
    let said = "serial_number == 'C02'";
    let all = warnings(said, &json!(["calendar", "wifi", "pass"])).await;
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all[0].starts_with("login ") && all[0].contains("serial_number"), "{all:?}");
    assert!(all[1].starts_with("wifi "), "{all:?}");
    assert_eq!(warnings("@status(passcode.is-compliant) == TRUE", &json!(["calendar"])).await.len(), 1);
    assert!(warnings("'staff' IN tags", &json!(["calendar", "wifi"])).await.is_empty());
    assert!(warnings(said, &json!(["pass"])).await.is_empty());

    // From the other side, too.
    warnings(said, &json!(["calendar"])).await;
    for put in [
        house.upload(login, "application/json", &secret.map(|byte| byte)).await.ok(),
        house.put("/api/v1/declarations/calendar", &caldav).await.ok(),
    ] {
        let words = put["warnings"].to_string();
        assert!(words.contains("login holds a secret") && words.contains("staff"), "{words}");
    }
    let apply = json!({"groups": [{"name": "staff", "rule": "name == 'x'", "declarations": ["calendar"]}]});
    let applied = house.ask("POST", "/api/v1/apply").json(&apply).send().await.ok();
    assert!(applied["warnings"].to_string().contains("login holds a secret"), "{applied}");
}
