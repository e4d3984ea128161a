//! A server with just enough of the protocol to hold a device's synchronisation against it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use plist::Value;
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;

use crate::clock::Clock;
use crate::simulator::profile::tests::enrollment;
use crate::simulator::profile::{Management, Profile};
use crate::simulator::{Device, Kind, Trust};

#[derive(Default)]
pub(super) struct State {
    /// Type without `com.apple.`, payload and ServerToken, by identifier.
    declarations: BTreeMap<String, (String, Json, u64)>,
    /// Content type and body, by path.
    pub(super) files: BTreeMap<String, (&'static str, Vec<u8>)>,
    /// Endpoints and paths in the order of the requests.
    pub(super) asked: Vec<String>,
    /// Status reports in order.
    pub(super) reports: Vec<Json>,
    /// Status reports are answered 500.
    pub(super) is_down: bool,
}

#[derive(Clone)]
pub(super) struct Server {
    state: Arc<Mutex<State>>,
    pub(super) url: String,
    root: Vec<u8>,
}

impl Server {
    pub(super) async fn start() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = certificate.self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let private = rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let server = Self { state: Arc::default(), url, root: certificate.der().to_vec() };
        let state = server.state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, state) = (acceptor.clone(), state.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| answer(request, state.clone()));
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        server
    }

    pub(super) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    /// Adds or changes a declaration.
    pub(super) fn declare(&self, identifier: &str, name: &str, payload: Json) {
        self.with(|state| {
            let token = state.declarations.get(identifier).map_or(1, |(.., token)| token + 1);
            state.declarations.insert(identifier.to_owned(), (name.to_owned(), payload, token));
        });
    }

    pub(super) fn withdraw(&self, identifier: &str) {
        self.with(|state| state.declarations.remove(identifier));
    }

    /// What was asked since the last time.
    pub(super) fn asked(&self) -> Vec<String> {
        self.with(|state| std::mem::take(&mut state.asked))
    }

    /// A device that is managed by this server.
    pub(super) fn device(&self, kind: Kind) -> Device {
        let trust = Trust::nobody().and_der(&self.root).unwrap();
        let mut device = Device::new(kind, 0, &trust, Clock::set_to(1_800_000_000));
        let profile = enrollment(|mdm| {
            mdm.insert("ServerURL".into(), format!("{}/mdm", self.url).into());
            mdm.insert("CheckOutWhenRemoved".into(), true.into());
        });
        let profile = Profile::read(&profile).unwrap();
        device.management = Some(Management::read(&profile).unwrap());
        device.profiles.push(profile);
        device
    }
}

impl State {
    fn token(&self) -> String {
        let tokens =
            self.declarations.iter().map(|(identifier, (.., token))| format!("{identifier}-{token}"));
        format!("set {}", tokens.collect::<Vec<_>>().join(" "))
    }

    fn items(&self) -> Json {
        let of = |kind: &str| -> Json {
            let kind = self.declarations.iter().filter(|(_, (name, ..))| name.starts_with(kind));
            kind.map(|(name, (.., token))| json!({ "Identifier": name, "ServerToken": token.to_string() }))
                .collect()
        };
        json!({
            "Declarations": {
                "Activations": of("activation"),
                "Configurations": of("configuration"),
                "Assets": of("asset"),
                "Management": of("management"),
            },
            "DeclarationsToken": self.token(),
        })
    }

    fn endpoint(&mut self, endpoint: &str, data: &[u8]) -> (u16, Json) {
        match endpoint {
            "tokens" => {
                let tokens =
                    json!({ "DeclarationsToken": self.token(), "Timestamp": "2027-01-15T08:00:00Z" });
                (200, json!({ "SyncTokens": tokens }))
            }
            "declaration-items" => (200, self.items()),
            "status" if self.is_down => (500, Json::Null),
            "status" => {
                self.reports.push(serde_json::from_slice(data).unwrap());
                (200, Json::Null)
            }
            _ => {
                let identifier = endpoint.rsplit('/').next().unwrap();
                let Some((name, payload, token)) = self.declarations.get(identifier) else {
                    return (404, Json::Null);
                };
                let declaration = json!({
                    "Type": format!("com.apple.{name}"),
                    "Identifier": identifier,
                    "ServerToken": token.to_string(),
                    "Payload": payload,
                });
                (200, declaration)
            }
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let mut state = state.lock().unwrap();
    let (status, kind, body) = if parts.method == Method::GET {
        let path = parts.uri.path().to_owned();
        let found = state.files.get(&path).cloned();
        state.asked.push(path);
        found.map_or((404, "", Vec::new()), |(kind, body)| (200, kind, body))
    } else {
        let message = Value::from_reader_xml(&body[..]).unwrap().into_dictionary().unwrap();
        let endpoint = message.get("Endpoint").and_then(Value::as_string).map(str::to_owned);
        match endpoint {
            None => (200, "", Vec::new()),
            Some(endpoint) => {
                let data = message.get("Data").and_then(Value::as_data).unwrap_or_default();
                let (status, json) = state.endpoint(&endpoint, data);
                state.asked.push(endpoint);
                let body = if json.is_null() { Vec::new() } else { json.to_string().into_bytes() };
                (status, "application/json", body)
            }
        }
    };
    let response = Response::builder().status(status).header(CONTENT_TYPE, kind);
    Ok(response.body(Full::new(Bytes::from(body))).unwrap())
}
