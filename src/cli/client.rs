//! How commands talk to a server: its socket, or the same routes in this process.

use std::path::Path;

use axum::Router;
use axum::body::Body;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value as Json;
use tokio::net::UnixStream;
use tower::ServiceExt;

use super::Failure;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::request::Peer;
use crate::server::{self, App};
use crate::storage::Lock;

/// The API of the server whose data folder the configuration names.
pub(super) struct Client {
    way: Way,
}

enum Way {
    Socket(UnixStream),
    /// No server runs: this process opened the database itself.
    Here(Box<(Router, App)>),
}

impl Client {
    /// Connects to the running server, or opens its data folder when none runs.
    pub(super) async fn connect(config: &Config) -> Result<Self, Failure> {
        let socket = config.data_dir.join(server::SOCKET);
        if let Some(stream) = dial(&socket).await {
            return Ok(Self { way: Way::Socket(stream) });
        }
        let lock = Lock::take(&config.data_dir)?;
        let app = App::open(config, lock, Clock::system()).await?;
        let router = app.socket_router();
        Ok(Self { way: Way::Here(Box::new((router, app))) })
    }

    /// Sends a JSON body, or none, and answers the JSON that came back.
    pub(super) async fn json(self, method: Method, path: &str, body: Option<&Json>) -> Result<Json, Failure> {
        let body = body.map(|body| ("application/json", body.to_string().into_bytes()));
        self.send(method, path, body).await
    }

    /// Sends a body of any type and answers the JSON that came back.
    pub(super) async fn send(
        self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Vec<u8>)>,
    ) -> Result<Json, Failure> {
        let (status, answer) = self.ask(method, path, body).await?;
        read(status, &answer)
    }

    /// As [`Client::json`], but a refusal is answered as the JSON that it is.
    pub(super) async fn ask_json(
        self,
        method: Method,
        path: &str,
        body: &Json,
    ) -> Result<Result<Json, Json>, Failure> {
        let body = ("application/json", body.to_string().into_bytes());
        let (status, answer) = self.ask(method, path, Some(body)).await?;
        let refusal: Option<Json> = serde_json::from_slice(&answer).ok();
        match refusal {
            Some(refusal) if status.is_client_error() && refusal["error"].is_object() => Ok(Err(refusal)),
            _ => read(status, &answer).map(Ok),
        }
    }

    async fn ask(
        self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Vec<u8>)>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, "localhost");
        let body = match body {
            Some((kind, body)) => {
                request = request.header(CONTENT_TYPE, kind);
                body
            }
            None => Vec::new(),
        };
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| Failure::Wrong(format!("the request cannot be written: {error}")))?;
        match self.way {
            Way::Socket(stream) => Ok(over_socket(stream, request).await?),
            Way::Here(here) => {
                let (router, app) = *here;
                let answer = in_process(router, request).await?;
                app.close().await;
                Ok(answer)
            }
        }
    }
}

async fn dial(socket: &Path) -> Option<UnixStream> {
    // A socket that nobody answers is left over from a server that was killed.
    UnixStream::connect(socket).await.ok()
}

async fn over_socket(stream: UnixStream, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes)> {
    let broken =
        |source| Error::caused("the running server did not answer on its socket; look at its log", source);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
    driver.abort();
    Ok((status, body))
}

async fn in_process(router: Router, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes)> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(Peer::Socket);
    let Ok(response) = router.oneshot(request).await;
    let status = response.status();
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(|source| Error::internal(format!("the answer could not be read: {source}")))?
        .to_bytes();
    Ok((status, body))
}

fn read(status: StatusCode, answer: &[u8]) -> Result<Json, Failure> {
    let json =
        if answer.is_empty() { Json::Null } else { serde_json::from_slice(answer).unwrap_or(Json::Null) };
    if status.is_success() {
        return Ok(json);
    }
    let words = json.pointer("/error/message").and_then(Json::as_str);
    Err(Failure::Wrong(words.map_or_else(|| format!("the server answered {status}"), str::to_owned)))
}
