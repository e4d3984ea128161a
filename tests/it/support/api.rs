//! An administrator at the API, over the routes that the command line's socket has.

use axum::body::Body;
use http_body_util::BodyExt;
use hyper::{Request, StatusCode};
use russet::request::Peer;
use serde_json::Value as Json;
use tower::ServiceExt;

use super::Appliance;

impl Appliance {
    /// Sends a request as an administrator; answers status and JSON.
    pub async fn api(&self, method: &str, path: &str, body: Option<Json>) -> (StatusCode, Json) {
        let mut request = Request::builder().method(method).uri(path);
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let mut request = request.body(body).unwrap();
        request.extensions_mut().insert(Peer::Socket);
        let response = self.app().socket_router().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or(Json::Null))
    }
}
