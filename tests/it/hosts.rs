//! The reachability table, with stand-ins in Apple's place: open, refused, silent, intercepted, and names of their own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use russet::clock::Clock;
use russet::config::Config;
use russet::doctor::hosts::Status;
use russet::doctor::hosts::{Survey, Surveyor, advice, table};
use serde_json::{Value as Json, json};
use tokio::net::{TcpListener, UdpSocket};

use crate::support::{Appliance, Port, acceptor};

/// Answers TLS with a certificate for `host`; its PEM.
async fn tls(host: &str) -> (SocketAddr, String) {
    let (acceptor, pem) = acceptor(host);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    });
    (address, pem)
}

/// A name server that says of every address that it is `name`.
async fn resolver(name: &'static str) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question).await {
            // The question back with one answer: a pointer to its name, PTR, IN, TTL, the name.
            let mut answer = question[..length].to_vec();
            answer[2] |= 0x80;
            answer[7] = 1;
            answer.extend_from_slice(&[0xc0, 0x0c, 0, 12, 0, 1, 0, 0, 0, 60]);
            let labels: Vec<u8> = name
                .split('.')
                .flat_map(|label| std::iter::once(u8::try_from(label.len()).unwrap()).chain(label.bytes()))
                .chain([0])
                .collect();
            answer.extend_from_slice(&u16::try_from(labels.len()).unwrap().to_be_bytes());
            answer.extend_from_slice(&labels);
            let _ = socket.send_to(&answer, from).await;
        }
    });
    address
}

/// A time server whose clock is `behind` seconds behind this machine's.
async fn time_server(behind: i64) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut question = [0; 48];
        while let Ok((_, from)) = socket.recv_from(&mut question).await {
            let seconds = u32::try_from(Clock::system().now() - behind + 2_208_988_800).unwrap();
            let mut answer = [0; 48];
            answer[0] = 0x24;
            answer[40..44].copy_from_slice(&seconds.to_be_bytes());
            let _ = socket.send_to(&answer, from).await;
        }
    });
    address
}

fn row(host: &str, port: u16, kind: &str, category: &str, instead: Option<SocketAddr>) -> Json {
    let mut row = json!({
        "host": host, "port": port, "kind": kind, "platforms": "all", "category": category,
        "needed_by": "devices", "without": "Something does not work.",
    });
    if let Some(instead) = instead {
        row["instead"] = instead.to_string().into();
    }
    row
}

fn configured(folder: &Path, rows: &[Json], trust: &str, resolver: SocketAddr) -> Config {
    std::fs::write(folder.join("hosts.json"), Json::from(rows).to_string()).unwrap();
    std::fs::write(folder.join("trust.pem"), trust).unwrap();
    let mut config = Config::default();
    config.doctor.hosts = Some(folder.join("hosts.json"));
    config.doctor.trust = Some(folder.join("trust.pem"));
    config.doctor.resolver = Some(resolver);
    config
}

async fn survey(config: &Config) -> Survey {
    Surveyor::new(&config.doctor).unwrap().survey(Clock::system().now()).await
}

fn codes(survey: &Survey) -> Vec<&'static str> {
    survey.findings().iter().map(|found| found.code).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_answer_has_its_word() {
    let folder = tempfile::tempdir().unwrap();
    let (good, trust) = tls("courier.example").await;
    let (other, _) = tls("courier.example").await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = Port::reserve();
    let rows = [
        row("courier.example", 5223, "tls", "push", Some(good)),
        row("courier.example", 443, "tls", "push", Some(other)),
        row("silent.example", 443, "tls", "activation", Some(silent.local_addr().unwrap())),
        row("closed.example", 443, "tls", "activation", Some(closed.address())),
        row("plain.example", 80, "tcp", "app store", Some(silent.local_addr().unwrap())),
        row("name.invalid", 443, "tls", "app store", None),
        row("time.example", 123, "ntp", "time", Some(time_server(3600).await)),
    ];
    let config = configured(folder.path(), &rows, &trust, resolver("17-1.push.example").await);
    let survey = survey(&config).await;
    let seen: Vec<_> = survey.items.iter().map(|row| row.status).collect();
    assert_eq!(
        seen,
        [
            Status::Open,
            Status::Intercepted,
            Status::Intercepted,
            Status::Refused,
            Status::Open,
            Status::NoName,
            Status::Open
        ]
    );
    assert_eq!(survey.items[0].reverse_dns.as_deref(), Some("17-1.push.example"));
    assert_eq!(survey.items[0].in_apple_range, Some(false));
    assert!(survey.items[1].issuer.as_ref().unwrap().contains("rcgen"));
    assert!((3595..=3605).contains(&survey.items[6].clock_ahead.unwrap()));
    assert!(survey.is_failing() && !survey.no_route);
    let codes = codes(&survey);
    for code in ["hosts-intercepted", "hosts-blocked", "push-address-outside-apple", "clock-differs"] {
        assert!(codes.contains(&code), "{code} in {codes:?}");
    }
    let text = table(&survey);
    for part in ["Push", "INTERCEPTED", "REFUSED", "NO NAME", "17-1.push.example", "tcp 5223"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert!(advice(&survey).contains("Exclude Apple's hosts from the inspection of TLS"));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_is_open_nothing_fails_and_without_a_network_it_is_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let (good, trust) = tls("apple.example").await;
    let rows = [row("apple.example", 443, "tls", "activation", Some(good))];
    let config = configured(folder.path(), &rows, &trust, resolver("apple.example").await);
    let seen = survey(&config).await;
    assert_eq!((codes(&seen), seen.is_failing()), (vec!["hosts"], false));

    let rows = [row("a.invalid", 443, "tls", "push", None), row("b.invalid", 80, "tcp", "push", None)];
    let config = configured(folder.path(), &rows, &trust, resolver("x.example").await);
    let seen = survey(&config).await;
    assert!(seen.no_route);
    assert_eq!(codes(&seen), ["hosts-no-route"]);
    assert!(advice(&seen).starts_with("There is no route from here to any of Apple's hosts."));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_tells_it_too() {
    let folder = tempfile::tempdir().unwrap();
    let (good, trust) = tls("apple.example").await;
    let rows = [row("apple.example", 443, "tls", "activation", Some(good))];
    let made = configured(folder.path(), &rows, &trust, resolver("apple.example").await);
    let appliance = Appliance::at(Clock::system(), |config| config.doctor = made.doctor).await;
    let (status, answer) = appliance.api("GET", "/api/v1/reachability", None).await;
    assert_eq!(status, 200, "{answer}");
    let item = &answer["items"][0];
    assert_eq!(
        (&item["status"], &item["host"], &item["category"]),
        (&json!("open"), &json!("apple.example"), &json!("activation"))
    );
}

#[test]
fn the_command_runs_in_an_empty_folder_without_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_russet"))
        .args(["doctor", "--hosts", "--json"])
        .current_dir(folder.path())
        .env_clear()
        .output()
        .unwrap();
    let said: Json = serde_json::from_slice(&output.stdout).unwrap();
    let items = said["items"].as_array().unwrap();
    assert!(items.len() > 60);
    for item in items {
        for key in ["status", "host", "port", "platforms", "address", "reverse_dns", "category"] {
            assert!(item.get(key).is_some(), "{key} in {item}");
        }
    }
    let all_open = items.iter().all(|item| item["status"] == "open");
    assert_eq!(output.status.code(), Some(i32::from(!all_open)));
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "it leaves nothing behind");
}
