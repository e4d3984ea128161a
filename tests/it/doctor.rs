//! `russet doctor` in the situations that `docs/troubleshooting.md` shows, word for word.

use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use rcgen::{CertificateParams, KeyPair};
use russet::clock::{Clock, Seconds};
use russet::config::{Config, Origin, Secret, TlsMode};
use russet::finding;
use serde_json::{Value as Json, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{Appliance, NOW, Port, TOPIC, acceptor};

/// The name of the school's server; it leads to this machine by `[doctor] public_address`.
const HOST: &str = "mdm.school.example";
/// What differs from machine to machine, and is left out of the comparison.
const MACHINE: [&str; 6] =
    ["disk-kind", "disk-speed", "disk-slow", "memory", "memory-low", "clock-unchecked"];

/// A server whose clock says `now`, for as long as the runtime lives: its URL, and its certificate in PEM.
async fn time_server(now: Seconds) -> (String, String) {
    let (acceptor, pem) = acceptor("localhost");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    let date =
        OffsetDateTime::from_unix_timestamp(now).unwrap().format(&Rfc2822).unwrap().replace("+0000", "GMT");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 4096]).await;
            let answer = format!("HTTP/1.1 200 OK\r\ndate: {date}\r\ncontent-length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (url, pem)
}

/// A school's server that has all it needs, but for what `change` takes away.
async fn school(
    their_time: Seconds,
    change: impl FnOnce(&mut Config, &Path),
) -> (Appliance, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let (time, trust) = time_server(their_time).await;
    std::fs::write(folder.path().join("time.pem"), trust).unwrap();
    std::fs::create_dir(folder.path().join("backups")).unwrap();
    let port: u16 = time.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap();
    let hosts = json!([{
        "host": "localhost", "port": port, "kind": "tls", "platforms": "all", "category": "push",
        "needed_by": "server", "without": "Nothing works.",
    }]);
    std::fs::write(folder.path().join("hosts.json"), hosts.to_string()).unwrap();
    let appliance = Appliance::at(Clock::set_to(NOW), |config| {
        config.doctor.hosts = Some(folder.path().join("hosts.json"));
        config.doctor.public_address = Some(config.server.listen[0]);
        config.server.public_url =
            Origin::parse(&format!("https://{HOST}:{}", config.server.public_url.port)).unwrap();
        config.doctor.time = vec![time];
        config.doctor.trust = Some(folder.path().join("time.pem"));
        config.doctor.free_mib = 16;
        config.backup.directory = Some(folder.path().join("backups"));
        change(config, folder.path());
    })
    .await;
    appliance.import_push_certificate(TOPIC).await;
    let account = json!({"apple_account": "mdm@school.example"});
    appliance.api("PATCH", &format!("/api/v1/push-certificates/{TOPIC}"), Some(account)).await;
    appliance.api("POST", "/api/v1/backups", None).await;
    let key = appliance.app().backups.recovery_key().unwrap().unwrap().public();
    appliance.api("POST", "/api/v1/recovery-key/written-down", Some(json!({"public_key": key}))).await;
    (appliance, folder)
}

async fn look(appliance: &Appliance) -> Json {
    let (status, answer) = appliance.api("GET", "/api/v1/findings?fresh=1", None).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

fn codes(answer: &Json, severity: &str) -> Vec<String> {
    let items = answer["items"].as_array().unwrap().iter();
    items
        .filter(|one| one["severity"] == severity)
        .map(|one| one["code"].as_str().unwrap().to_owned())
        .collect()
}

/// Figures as `#`, without what belongs to the machine alone and without the last line, which counts.
fn comparable(text: &str) -> String {
    let mut kept = Vec::new();
    let mut skipping = false;
    for line in text.lines() {
        if !line.starts_with(' ') {
            skipping = MACHINE.iter().any(|code| line.contains(&format!(" {code} ("))) || line.ends_with('.');
        }
        if !skipping {
            let figures = line.split(|c: char| c.is_ascii_digit());
            kept.push(figures.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("#"));
        }
    }
    kept.join("\n")
}

/// Holds an output against the block under this heading of the document.
fn is_documented(heading: &str, answer: &Json, folder: &Path, appliance: &Appliance) {
    let data = appliance.config.data_dir.display().to_string();
    let text = finding::text(answer)
        .replace(&data, "/var/lib/russet")
        .replace(&folder.join("backups").display().to_string(), "/mnt/stick");
    let document = include_str!("../../docs/troubleshooting.md");
    let after = document.split(&format!("### {heading}\n")).nth(1).unwrap_or_default();
    let block = after.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or_default();
    assert!(
        comparable(block) == comparable(&text),
        "docs/troubleshooting.md, {heading:?}, should have:\n{text}\n--- documented\n{}\n--- seen\n{}",
        comparable(block),
        comparable(&text)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_box() {
    let (appliance, folder) = school(NOW + 3, |_, _| {}).await;
    let answer = look(&appliance).await;
    assert_eq!(codes(&answer, "failing"), [""; 0], "{answer:#}");
    assert!(!finding::is_failing(&answer));
    is_documented("A healthy box", &answer, folder.path(), &appliance);
    // Asked again, it is told from memory.
    let (_, again) = appliance.api("GET", "/api/v1/findings", None).await;
    assert_eq!(again, answer);
}

#[tokio::test(flavor = "multi_thread")]
async fn apns_blocked() {
    let closed = Port::reserve();
    let (appliance, folder) = school(NOW, |config, _| {
        config.apns.server = Origin::parse(&format!("https://localhost:{}", closed.number())).unwrap();
    })
    .await;
    let answer = look(&appliance).await;
    assert_eq!(codes(&answer, "failing"), ["apns-blocked"], "{answer:#}");
    is_documented("Apple's push service is blocked", &answer, folder.path(), &appliance);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_answers_in_apples_place() {
    let (url, _) = time_server(NOW).await;
    let (appliance, folder) = school(NOW, |config, _| {
        config.apns.server = Origin::parse(url.trim_end_matches('/')).unwrap();
    })
    .await;
    let answer = look(&appliance).await;
    assert_eq!(codes(&answer, "failing"), ["apns-intercepted"], "{answer:#}");
    is_documented("A firewall inspects TLS", &answer, folder.path(), &appliance);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock() {
    let (appliance, folder) = school(NOW + 3600, |_, _| {}).await;
    let answer = look(&appliance).await;
    assert_eq!(codes(&answer, "failing"), ["clock-wrong"], "{answer:#}");
    is_documented("The clock is wrong", &answer, folder.path(), &appliance);
    let (slightly, _folder) = school(NOW - 90, |_, _| {}).await;
    assert_eq!(
        codes(&look(&slightly).await, "warning").iter().filter(|code| *code == "clock-wrong").count(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_name_in_the_certificate() {
    let (appliance, folder) = school(NOW, |config, folder| {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(["www.school.example".to_owned()]).unwrap();
        parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        parameters.not_before = OffsetDateTime::from_unix_timestamp(NOW - 86_400).unwrap();
        parameters.not_after = OffsetDateTime::from_unix_timestamp(NOW + 90 * 86_400).unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        std::fs::write(folder.join("chain.pem"), certificate.pem()).unwrap();
        std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
        config.tls.mode =
            TlsMode::Files { certificate: folder.join("chain.pem"), private_key: folder.join("key.pem") };
    })
    .await;
    let answer = look(&appliance).await;
    assert_eq!(codes(&answer, "failing"), ["public-url-certificate"], "{answer:#}");
    is_documented("The certificate has another name", &answer, folder.path(), &appliance);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk() {
    // No disk of a test machine is that large, so less is free than is wanted.
    let (appliance, folder) = school(NOW, |config, _| config.doctor.free_mib = 100_000_000).await;
    let answer = look(&appliance).await;
    assert_eq!(codes(&answer, "failing"), ["disk-full"], "{answer:#}");
    is_documented("The disk is full", &answer, folder.path(), &appliance);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_code_is_explained() {
    let document = include_str!("../../docs/troubleshooting.md");
    let mut codes = Vec::new();
    for folder in ["doctor", "backup", "acme", "expiry", "webhook", "mdm"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder);
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let Ok(source) = std::fs::read_to_string(&path) else { continue };
            let plain = source.split("code: \"").skip(1).filter_map(|rest| rest.split('"').next());
            codes.extend(plain.map(str::to_owned));
        }
    }
    assert!(codes.len() > 20, "{codes:?}");
    for code in codes {
        assert!(document.contains(&format!("`{code}`")), "docs/troubleshooting.md does not explain {code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_support_bundle_tells_much_and_no_secret() {
    let (appliance, _folder) = school(NOW, |config, _| {
        config.webhook.secret = Some(Secret::new("webhook-secret-value"));
        config.mdmcert.client_key = Some(Secret::new("mdmcert-client-key-value"));
    })
    .await;
    let (_, token) =
        appliance.api("POST", "/api/v1/tokens", Some(json!({"name": "a", "scope": "admin"}))).await;
    let link = appliance.invite(1).await;
    let mut secrets = vec![
        "webhook-secret-value".to_owned(),
        "mdmcert-client-key-value".to_owned(),
        token["token"].as_str().unwrap().to_owned(),
        link.rsplit('/').next().unwrap().to_owned(),
        appliance.app().backups.recovery_key().unwrap().unwrap().secret(),
    ];
    let seal = std::fs::read(appliance.config.data_dir.join("seal.key")).unwrap();
    secrets.push(String::from_utf8_lossy(&seal).trim().to_owned());

    let bytes = appliance.raw("/api/v1/support-bundle").await;
    let mut unpacked = Vec::new();
    GzDecoder::new(bytes.as_slice()).read_to_end(&mut unpacked).unwrap();
    let text = String::from_utf8_lossy(&unpacked);
    for part in [
        "about.json",
        "findings.json",
        "settings.json",
        "log.txt",
        "\"schema\":",
        "webhook.secret",
        "\"set\"",
    ] {
        assert!(text.contains(part), "{part} is there");
    }
    for secret in secrets {
        assert!(secret.len() > 5 && !text.contains(&secret), "a secret is in the bundle");
    }
    let (status, _) = appliance.api("GET", "/api/v1/audit?action=support-bundle.make", None).await;
    assert_eq!(status, 200);
}
