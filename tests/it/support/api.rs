//! An administrator at the API, over the routes that the command line's socket has.

use std::path::Path;

use axum::body::Body;
use http_body_util::BodyExt;
use hyper::{Request, StatusCode};
use russet::request::Peer;
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tower::ServiceExt;

use super::Appliance;

impl Appliance {
    /// Sends a request as an administrator; answers status and JSON.
    pub async fn api(&self, method: &str, path: &str, body: Option<Json>) -> (StatusCode, Json) {
        let body = body.map(|body| ("application/json", body.to_string().into_bytes()));
        self.send_as_admin(method, path, body).await
    }

    /// As [`Appliance::api`], for bytes that are no JSON; they must be accepted.
    pub async fn upload(&self, path: &str, kind: &str, bytes: impl Into<Vec<u8>>) -> Json {
        let (status, answer) = self.send_as_admin("PUT", path, Some((kind, bytes.into()))).await;
        assert!(status.is_success(), "{answer}");
        answer
    }

    /// Posts text that is no JSON.
    pub async fn post_bytes(&self, path: &str, text: &str) -> (StatusCode, Json) {
        self.send_as_admin("POST", path, Some(("application/octet-stream", text.as_bytes().to_vec()))).await
    }

    /// A text that is no JSON.
    pub async fn text(&self, path: &str) -> String {
        String::from_utf8(self.raw(path).await).unwrap()
    }

    /// Bytes that are no JSON.
    pub async fn raw(&self, path: &str) -> Vec<u8> {
        let mut request = Request::builder().uri(path).body(Body::empty()).unwrap();
        request.extensions_mut().insert(Peer::Socket);
        let response = self.app().socket_router().oneshot(request).await.unwrap();
        response.into_body().collect().await.unwrap().to_bytes().to_vec()
    }

    async fn send_as_admin(
        &self,
        method: &str,
        path: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> (StatusCode, Json) {
        let mut request = Request::builder().method(method).uri(path);
        if let Some((kind, _)) = body {
            request = request.header("content-type", kind);
        }
        let body = body.map_or_else(Body::empty, |(_, body)| Body::from(body));
        let mut request = request.body(body).unwrap();
        request.extensions_mut().insert(Peer::Socket);
        let response = self.app().socket_router().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or(Json::Null))
    }
}

/// As [`Appliance::api`], over the socket of a server in a process of its own; nothing when that process
/// ended before the whole answer was there.
pub async fn over_socket(
    data_dir: &Path,
    method: &str,
    path: &str,
    body: Option<Json>,
) -> Option<(u16, Json)> {
    let body = body.map_or_else(String::new, |body| body.to_string());
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = UnixStream::connect(data_dir.join(russet::server::SOCKET)).await.ok()?;
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, serde_json::from_str(body).ok()?))
}
