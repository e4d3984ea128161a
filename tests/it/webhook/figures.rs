//! `GET /metrics`, read by a parser that takes nothing but the format.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use russet::https::{self, Client};
use russet::pki::pem;
use russet::simulator::Kind;
use rustls::RootCertStore;
use serde_json::json;

use super::stand::Stand;
use crate::support::{Appliance, TOPIC};

/// Prometheus's text format, version 0.0.4: heads before samples, each name once and together.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let (mut kinds, mut found, mut current) = (BTreeMap::new(), BTreeMap::new(), String::new());
    let mut helped = BTreeSet::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(helped.insert(rest.split_once(' ').unwrap().0.to_owned()), "{line} twice");
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(helped.contains(name) && ["gauge", "counter", "histogram"].contains(&kind), "{line}");
            assert!(kind != "counter" || name.ends_with("_total"), "{line}");
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{line} twice");
            current = name.to_owned();
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').map_or((series, ""), |(name, rest)| {
            (name, rest.strip_suffix('}').expect("a brace that closes"))
        });
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'));
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        assert!(name == current || base == Some(&*current), "{line} is not beneath its head {current}");
        let mut rest = labels;
        while !rest.is_empty() {
            let (label, after) = rest.split_once("=\"").unwrap();
            assert!(
                label.trim_start_matches(',').bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            );
            let mut end = None;
            let mut escaped = false;
            for (at, c) in after.char_indices() {
                match c {
                    _ if escaped => {
                        assert!(matches!(c, '\\' | '"' | 'n'), "{line}");
                        escaped = false;
                    }
                    '\\' => escaped = true,
                    '"' => {
                        end = Some(at);
                        break;
                    }
                    _ => {}
                }
            }
            rest = &after[end.expect("a quote that closes") + 1..];
            assert!(rest.is_empty() || rest.starts_with(','), "{line}");
        }
        let value: f64 = value.parse().unwrap();
        assert!(found.insert(series.to_owned(), value).is_none(), "{line} twice");
    }
    found
}

fn client(appliance: &Appliance) -> Client {
    let mut roots = RootCertStore::empty();
    let anchor = pem::encode("CERTIFICATE", &appliance.app().enroll.anchor().unwrap());
    https::add_pem(&mut roots, anchor.as_bytes(), "anchor").unwrap();
    Client::new(roots, Duration::from_secs(60), 10 << 20).unwrap()
}

async fn ask(client: &Client, port: u16, token: Option<&str>) -> (StatusCode, String) {
    let mut request = Request::get(format!("https://localhost:{port}/metrics"));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let answer = client.send(request.body(Bytes::new()).unwrap()).await.unwrap();
    (answer.status, String::from_utf8(answer.body.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_need_a_token_on_the_public_port_and_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let stand = Stand::start(folder.path()).await;
    let mut appliance = Appliance::bare(|config| {
        config.webhook.url = Some(stand.url());
        config.webhook.trust = Some(stand.trust.clone());
        config.webhook.allow_private = true;
    })
    .await;
    appliance.import_push_certificate(TOPIC).await;
    let phone = appliance.enroll(Kind::IPhone).await;
    appliance.enroll(Kind::Mac).await;
    appliance.send(&phone.udid, json!({"RequestType": "ProfileList"})).await;
    let (_, made) =
        appliance.api("POST", "/api/v1/tokens", Some(json!({"name": "prometheus", "scope": "read"}))).await;
    let token = made["token"].as_str().unwrap();
    let port = appliance.running.as_ref().unwrap().addresses[0].port();
    let client = client(&appliance);
    let (status, refused) = ask(&client, port, None).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(!refused.contains("russet_"), "{refused}");
    let (status, text) = ask(&client, port, Some(token)).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let found = parse(&text);
    let version = env!("CARGO_PKG_VERSION");
    for (series, wanted) in [
        (format!("russet_build_info{{version=\"{version}\"}}"), 1.0),
        ("russet_clock_is_sane".into(), 1.0),
        ("russet_commands{status=\"Pending\"}".into(), 1.0),
        ("russet_webhook_dropped".into(), 0.0),
    ] {
        assert_eq!(found.get(&series), Some(&wanted), "{series} in\n{text}");
    }
    for begin in [
        "russet_enrollments{channel=\"device\",state=\"enrolled\",platform=\"iOS\",os_version=\"",
        "russet_enrollments{channel=\"user\",state=\"enrolled\",platform=\"macOS\",os_version=\"",
        "russet_push_certificate_days{topic=\"com.apple.mgmt",
        "russet_check_ins_total{type=\"TokenUpdate\"}",
        "russet_connects_total{status=\"Idle\"}",
        "russet_request_duration_seconds_bucket{route=\"/mdm/checkin\",le=\"+Inf\"}",
        "russet_request_duration_seconds_count{route=\"/mdm/connect\"}",
        "russet_database_bytes",
        "russet_database_log_bytes",
        "russet_writes_waiting",
        "russet_connections",
        "russet_webhook_waiting",
        "process_resident_memory_bytes",
    ] {
        assert!(found.keys().any(|series| series.starts_with(begin)), "{begin} is not in\n{text}");
    }
    assert!(!text.contains(&phone.udid) && !text.contains(&phone.serial_number), "no figure names a device");
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_need_no_token_on_a_listener_for_people_alone() {
    let appliance = Appliance::bare(|config| {
        config.server.admin_listen = vec!["127.0.0.1:0".parse().unwrap()];
    })
    .await;
    let running = appliance.running.as_ref().unwrap();
    let (public, inner) = (running.addresses[0].port(), running.admin_addresses[0].port());
    let client = client(&appliance);
    let (status, text) = ask(&client, inner, None).await;
    assert_eq!(status, StatusCode::OK);
    assert!(parse(&text).contains_key("russet_clock_is_sane"));
    assert!(!text.contains("russet_webhook"), "there is none");
    assert_eq!(ask(&client, public, None).await.0, StatusCode::NOT_FOUND);
}
