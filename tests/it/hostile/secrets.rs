//! What must never stand in a log (THREATS D5 38).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use russet::clock::Clock;
use russet::simulator::{Channel, Fault, Kind, push_certificate};
use serde_json::{Value as Json, json};

use super::raw::Request;
use super::{message, say, send, token_update, xml};
use crate::support::{Appliance, Process, TOPIC, over_socket};

/// 38: at the chattiest level, through everything that carries a secret, and through its refusals.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_is_logged_at_any_level() {
    let mut appliance = Appliance::at(Clock::system(), |_| {}).await;
    appliance.import_push_certificate(TOPIC).await;
    let link = appliance.invite(3).await;
    let spent = appliance.invite(1).await;
    let mut other = appliance.device(Kind::IPad);
    other.enroll(&spent).await.unwrap();
    let mut mac = appliance.device(Kind::Mac);
    let mut phone = appliance.device(Kind::IPhone);
    let config = appliance.hand_over().await;
    let process = Process::start(&config, "trace", &[]);

    let challenge = super::scep::challenge(&appliance, &link).await;
    assert_eq!(super::scep::ask_with(&appliance, 5, "wrong-challenge-aaaa").await.status, 200);
    mac.enroll(&link).await.unwrap();
    phone.enroll(&link).await.unwrap();
    assert!(matches!(phone.enroll(&spent).await, Err(Fault::Refused { .. })));
    phone.connect(Channel::Device).await.unwrap();
    mac.connect_all().await.unwrap();
    assert!(mac.stored_bootstrap_token().await.unwrap().is_some());

    let udid = phone.udid.clone();
    let body_text = "body-text-that-nobody-logs";
    let mut update = token_update(&udid);
    update.insert("PushMagic".into(), "magic-that-nobody-logs\r\n".into());
    update.insert("Comment".into(), body_text.into());
    assert_eq!(say(&appliance, &mut phone, update).await, 400);
    let broken = [&xml(message("TokenUpdate", &udid, [("Comment", body_text.into())]))[..], b"<x>"].concat();
    assert_eq!(send(&appliance, &mut phone, "/mdm/checkin", broken).await.status, 400);
    let report = super::report("Error", &udid, [("CommandUUID", "U".into()), ("Comment", body_text.into())]);
    assert_eq!(super::tell(&appliance, &mut phone, report).await.0, 200);
    for path in [
        "/mdm/connect",
        "/enroll/wrong-code-that-is-secret",
        "/scep?operation=PKIOperation&message=secretquery",
    ] {
        let request = Request::get(path)
            .header("authorization", "Bearer token-that-nobody-logs")
            .header("cookie", "session=cookie-that-nobody-logs");
        request.send(&appliance).await;
    }
    let signed =
        Request::put("/mdm/connect", "x").header("mdm-signature", "c2lnbmF0dXJlLXRoYXQtbm9ib2R5LWxvZ3M=");
    signed.send(&appliance).await;

    let log = process.kill();
    assert!(log.contains("DEBUG") && log.contains("request{"), "the log is as chatty as it gets: {log}");
    let code = |link: &str| link.rsplit('/').next().unwrap().to_owned();
    let bytes = |secret: &[u8]| {
        vec![
            STANDARD.encode(secret)[..24].to_owned(),
            russet::id::hex(&secret[..16]),
            format!("{:?}", &secret[..8]),
        ]
    };
    let mut secrets: Vec<String> = [
        "wrong-challenge-aaaa",
        "magic-that-nobody-logs",
        body_text,
        "token-that-nobody-logs",
        "cookie-that-nobody-logs",
        "wrong-code-that-is-secret",
        "secretquery",
        "c2lnbmF0dXJl",
        "signature-that-nobody",
        "<plist",
        "PRIVATE KEY",
        &challenge,
        &code(&link),
        &code(&spent),
    ]
    .map(str::to_owned)
    .into();
    for device in [&mac, &phone] {
        secrets.push(device.push.magic.clone());
        secrets.extend(bytes(&device.push.token));
        secrets.extend(device.unlock_token.as_deref().map(bytes).unwrap_or_default());
        secrets.extend(bytes(&device.bootstrap_token));
    }
    secrets.push(mac.user.as_ref().unwrap().push.magic.clone());
    for secret in secrets {
        assert!(!log.contains(&secret), "{secret} is in the log:\n{log}");
    }
}

/// 38: the same for what people do: sign in, make tokens, import a push certificate, lock with a PIN and
/// look at it again.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_of_an_administrator_is_logged_at_any_level() {
    let mut appliance = Appliance::at(Clock::system(), |_| {}).await;
    appliance.import_push_certificate(TOPIC).await;
    let mut mac = appliance.enroll(Kind::Mac).await;
    let config = appliance.hand_over().await;
    let process = Process::start(&config, "trace", &[]);
    let folder = appliance.config.data_dir.clone();
    let ask = async |method: &str, path: &str, body: Option<Json>| {
        over_socket(&folder, method, path, body).await.unwrap()
    };

    let (status, link) = ask("POST", "/api/v1/sign-in-links", Some(json!({}))).await;
    assert_eq!(status, 201, "{link}");
    let code = link["url"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let path = format!("/sign-in/{code}");
    assert_eq!(Request::get(&path).send(&appliance).await.status, 200);
    let signed_in = Request::post(&path, "").send(&appliance).await;
    let cookie = signed_in.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    for path in ["/", "/api/v1/enrollments", "/api/v1/nothing"] {
        Request::get(path).header("cookie", &cookie).send(&appliance).await;
    }
    assert_eq!(Request::get(&path).send(&appliance).await.status, 404, "spent");

    let (status, made) =
        ask("POST", "/api/v1/tokens", Some(json!({"name": "script", "scope": "admin"}))).await;
    assert_eq!(status, 201, "{made}");
    let token = made["token"].as_str().unwrap().to_owned();
    let basic = STANDARD.encode(format!("anyone:{token}"));
    for authorization in [format!("Bearer {token}"), format!("Basic {basic}")] {
        for (path, status) in [("/api/v1/enrollments", 200), ("/api/v1/enrollments/nobody", 404)] {
            let request = Request::get(path).header("authorization", &authorization);
            assert_eq!(request.send(&appliance).await.status, status, "{path}");
        }
    }

    let (certificate, private_key) = push_certificate(TOPIC).unwrap();
    let import =
        json!({"certificate": certificate, "private_key": private_key, "password": "password-unlogged"});
    assert_eq!(ask("POST", "/api/v1/push-certificates", Some(import)).await.0, 201);
    let (_, other_key) = push_certificate(TOPIC).unwrap();
    let mismatch =
        json!({"certificate": certificate, "private_key": other_key, "password": "password-unlogged"});
    assert_eq!(ask("POST", "/api/v1/push-certificates", Some(mismatch)).await.0, 400);

    let commands = format!("/api/v1/enrollments/{}/commands", mac.udid);
    let lock = json!({"RequestType": "DeviceLock", "PIN": "918273", "Message": "lock-message-unlogged"});
    let (status, queued) = ask("POST", &commands, Some(lock)).await;
    assert_eq!(status, 201, "{queued}");
    let wrong = json!({"RequestType": "DeviceLock", "PIN": "918273", "Later": "later-unlogged"});
    assert_eq!(ask("POST", &commands, Some(wrong)).await.0, 400);
    mac.connect(Channel::Device).await.unwrap();
    let command = format!("{commands}/{}", queued["uuid"].as_str().unwrap());
    assert!(!ask("GET", &command, None).await.1.to_string().contains("918273"), "hidden");
    assert!(ask("POST", &format!("{command}/reveal"), None).await.1.to_string().contains("918273"), "shown");

    let log = process.kill();
    assert!(log.contains("DEBUG") && log.contains("request{"), "the log is as chatty as it gets: {log}");
    // A time has six digits too, and stands first in its line.
    let log: String =
        log.lines().filter_map(|line| line.split_once(' ')).flat_map(|(_, rest)| [rest, "\n"]).collect();
    let mut secrets: Vec<&str> = vec![
        &code,
        cookie.split_once('=').unwrap().1,
        &token,
        &basic,
        "918273",
        "password-unlogged",
        "lock-message-unlogged",
        "later-unlogged",
        "PRIVATE KEY",
    ];
    for key in [&private_key, &other_key] {
        secrets.extend(key.lines().filter(|line| !line.starts_with("-----") && line.len() > 16));
    }
    for secret in secrets {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}

/// 38: what is kept of a secret is sealed: a copy of the database discloses none.
#[tokio::test]
async fn a_copied_database_discloses_no_secret() {
    let mut appliance = Appliance::start().await;
    let mac = appliance.enroll(Kind::Mac).await;
    let phone = appliance.enroll(Kind::IPhone).await;
    let challenge = super::scep::challenge(&appliance, &appliance.invite(1).await).await;
    appliance.send(&mac.udid, json!({"RequestType": "DeviceLock", "PIN": "918273", "Message": "gone"})).await;
    appliance.running.take().unwrap().stop().await;
    // With the log beside it, which may hold the latest. The log first: the writer may still be copying
    // it into the file, and what has left it is in there.
    let mut file = std::fs::read(appliance.config.data_dir.join("russet.db-wal")).unwrap_or_default();
    file.extend(std::fs::read(appliance.config.data_dir.join("russet.db")).unwrap());
    let contains = |secret: &[u8]| file.windows(secret.len()).any(|window| window == secret);
    assert!(contains(mac.udid.as_bytes()), "this is the file");
    for secret in [
        &mac.bootstrap_token[..],
        phone.unlock_token.as_deref().unwrap(),
        STANDARD.encode(&mac.bootstrap_token).as_bytes(),
        challenge.as_bytes(),
        b"918273",
        b"PRIVATE KEY",
    ] {
        assert!(!contains(&secret[..secret.len().min(24)]), "{}", String::from_utf8_lossy(secret));
    }
}
