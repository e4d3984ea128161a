//! The API in this process: the whole program but its ports, and whoever asks it.

mod backups;
mod commands;
mod conditions;
mod contract;
mod declarations;
mod enrollments;
mod events;
mod groups;
mod kmfddm;
mod library;
mod manners;
mod nanomdm;
mod nested;
mod packages;
mod pages;
mod passes;
mod services;
mod slips;
mod tokens;
mod types;
mod updates;

use std::net::SocketAddr;

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::clock::{Clock, EARLIEST_SANE};
use crate::config::Config;
use crate::mdm::enrollment::{self, Facts, Push};
use crate::mdm::ids::Ids;
use crate::plist;
use crate::request::Peer;
use crate::server::App;
use crate::simulator::push_certificate;
use crate::storage::Lock;

const TOPIC: &str = "com.apple.mgmt.External.0c9c4a9e-test";

struct House {
    app: App,
    clock: Clock,
    _folder: tempfile::TempDir,
}

/// What came back.
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
    json: Value,
}

impl Reply {
    /// The words of the refusal, which must have the shape of all refusals.
    fn refused(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        assert_eq!(self.json["error"]["code"], code, "{}", self.text);
        assert_eq!(self.json["error"]["request_id"].as_str().unwrap().len(), 12);
        self.json["error"]["message"].as_str().unwrap().to_owned()
    }

    fn pointer(&self) -> &str {
        self.json["error"]["pointer"].as_str().unwrap_or_else(|| panic!("{}", self.text))
    }

    fn ok(self) -> Value {
        assert!(self.status.is_success(), "{}", self.text);
        self.json
    }
}

/// A request, built part by part.
struct Ask<'a> {
    house: &'a House,
    request: axum::http::request::Builder,
    body: Vec<u8>,
    from: Option<Peer>,
}

impl Ask<'_> {
    fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    fn token(self, token: &str) -> Self {
        self.header(AUTHORIZATION.as_str(), &format!("Bearer {token}"))
    }

    fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string().as_bytes())
    }

    fn body(self, kind: &str, body: &[u8]) -> Self {
        let mut ask = self.header(CONTENT_TYPE.as_str(), kind);
        ask.body = body.to_owned();
        ask
    }

    /// Over the network, from this address.
    fn from(mut self, address: &str) -> Self {
        let address: SocketAddr = format!("{address}:50000").parse().unwrap();
        self.from = Some(Peer::Network { address, client_certificate: None });
        self
    }

    fn nobody(self) -> Self {
        self.from("192.0.2.1")
    }

    async fn send(self) -> Reply {
        let mut request = self.request.body(Body::from(self.body)).unwrap();
        request.extensions_mut().insert(self.from.unwrap_or(Peer::Socket));
        let response = self.house.app.admin.routes().oneshot(request).await.unwrap();
        let (parts, mut body) = response.into_parts();
        // A stream has no end that a test could wait for: its first piece is the answer.
        let bytes = match parts.headers.get(CONTENT_TYPE) {
            Some(kind) if kind == "text/event-stream" => {
                body.frame().await.unwrap().unwrap().into_data().unwrap()
            }
            _ => body.collect().await.unwrap().to_bytes(),
        };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Reply { status: parts.status, headers: parts.headers, text, json }
    }
}

impl House {
    async fn new() -> Self {
        Self::configured(|_| {}).await
    }

    async fn configured(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::set_to(EARLIEST_SANE + 300 * 86_400);
        let mut config = Config { data_dir: folder.path().join("data"), ..Config::default() };
        // Nothing leaves this machine.
        let hosts = folder.path().join("hosts.json");
        std::fs::write(&hosts, "[]").unwrap();
        config.doctor.hosts = Some(hosts);
        config.doctor.time.clear();
        change(&mut config);
        let lock = Lock::take(&config.data_dir).unwrap();
        let app = App::open(&config, lock, clock.clone()).await.unwrap();
        Self { app, clock, _folder: folder }
    }

    async fn with_push_certificate() -> Self {
        let house = Self::new().await;
        let (certificate, key) = push_certificate(TOPIC).unwrap();
        let body = json!({"certificate": certificate, "private_key": key, "apple_account": "it@example.org"});
        house.ask("POST", "/api/v1/push-certificates").json(&body).send().await.ok();
        house
    }

    /// From the socket, unless `from` or `nobody` says otherwise.
    fn ask(&self, method: &str, path: &str) -> Ask<'_> {
        let request = Request::builder().method(method).uri(path);
        Ask { house: self, request, body: Vec::new(), from: None }
    }

    async fn token(&self, name: &str, scope: &str) -> String {
        let body = json!({"name": name, "scope": scope});
        let made = self.ask("POST", "/api/v1/tokens").json(&body).send().await.ok();
        made["token"].as_str().unwrap().to_owned()
    }

    /// Puts an enrolled device into the database.
    async fn enrolled(&self, udid: &str) {
        let ids = of(&json!({"UDID": udid}));
        let facts = (format!("Serial-{udid}"), format!("{udid}'s phone"));
        self.app
            .store
            .write("test.enrolled", move |tx| {
                let facts = Facts {
                    topic: TOPIC,
                    serial_number: Some(&facts.0),
                    name: Some(&facts.1),
                    product_name: Some("iPhone16,2"),
                    os_version: Some("18.1"),
                    ..Facts::default()
                };
                enrollment::begin(tx, &ids, "session", &facts)?;
                crate::ddm::group::join(tx, &ids.enrollment_id, "Class 4b")?;
                enrollment::update_token(
                    tx,
                    &ids,
                    &Push { topic: TOPIC, magic: "magic", token: &[1; 32] },
                    None,
                )
            })
            .await
            .unwrap();
    }

    /// Puts a user of an enrolled device into the database.
    async fn user(&self, udid: &str, user_id: &str) {
        let ids = of(&json!({"UDID": udid, "UserID": user_id, "UserShortName": "anna"}));
        self.app
            .store
            .write("test.user", move |tx| {
                enrollment::update_token(
                    tx,
                    &ids,
                    &Push { topic: TOPIC, magic: "user", token: &[2; 32] },
                    None,
                )
            })
            .await
            .unwrap();
    }

    /// The audit as `actor action object detail`, oldest first.
    fn audit(&self) -> Vec<String> {
        self.app.store.peek(super::audit::tests::lines).unwrap()
    }
}

fn of(message: &Value) -> Ids {
    let plist::Value::Dictionary(message) = plist::json::from_json(message).unwrap() else { unreachable!() };
    Ids::of(&message).unwrap()
}
