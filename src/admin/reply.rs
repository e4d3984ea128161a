//! What people and scripts are answered when something is refused or goes wrong.
//!
//! Handlers answer `Result<…, Refusal>`; [`finish`] stands around all routes of this module and gives
//! every refusal, also those that axum makes by itself, its one shape:
//! `{"error": {"code", "message", "request_id", …}}`. Outside `/api/` it is a line of text.
//!
//! **Invariant:** no reply of `/api/` with an error status has another shape, but for NanoMDM's
//! replies that tell how each of several enrollments fared.

use axum::Json;
use axum::extract::Request;
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::request::RequestId;

const NOSNIFF: HeaderName = HeaderName::from_static("x-content-type-options");
/// Only browsers send it; they would ask a person for a name and password if Basic were offered.
const FROM_BROWSER: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// A refusal, or a failure of ours, on its way to the person who asked.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    words: String,
    /// Members beside `code` and `message`, e.g. `pointer`.
    more: Map<String, Value>,
}

impl Refusal {
    pub(super) fn unauthenticated(words: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, words)
    }

    pub(super) fn forbidden(words: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, words)
    }

    pub(super) fn unsupported(words: &str) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, words)
    }

    pub(super) fn too_many() -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too many wrong tokens came from this address; wait a minute and use a valid one",
        )
    }

    pub(super) fn new(status: StatusCode, words: impl Into<String>) -> Self {
        Self { status, code: code(status), words: words.into(), more: Map::new() }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let words = error.to_string();
        match error {
            Error::Invalid { pointer, suggestion, .. } => {
                let mut refusal = Self::new(StatusCode::BAD_REQUEST, words);
                if let Some(pointer) = pointer {
                    refusal.more.insert("pointer".into(), pointer.into());
                }
                if let Some(suggestion) = suggestion {
                    refusal.more.insert("suggestion".into(), suggestion.into());
                }
                refusal
            }
            Error::Unauthenticated(_) => Self::new(StatusCode::UNAUTHORIZED, words),
            Error::Forbidden(_) => Self::new(StatusCode::FORBIDDEN, words),
            Error::NotFound(_) => Self::new(StatusCode::NOT_FOUND, words),
            Error::Conflict { details, .. } => {
                Self { more: details, ..Self::new(StatusCode::CONFLICT, words) }
            }
            Error::Apple { .. } => {
                tracing::warn!(error = error.chain(), "Apple did not do what a request needed");
                Self::new(StatusCode::BAD_GATEWAY, words)
            }
            Error::Busy => Self::new(StatusCode::SERVICE_UNAVAILABLE, words),
            Error::Internal { .. } => {
                tracing::error!(error = error.chain(), "a request failed");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, words)
            }
        }
    }
}

/// The refusal travels beside an empty body until [`finish`] writes it with the request's id.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Gives every reply its headers, and every refusal its shape.
pub(super) async fn finish(request: Request, next: Next) -> Response {
    let is_api = request.uri().path().starts_with("/api/");
    let is_head = request.method() == Method::HEAD;
    let from_browser = request.headers().contains_key(FROM_BROWSER);
    let id = request.extensions().get::<RequestId>().copied().unwrap_or_else(RequestId::next);
    let mut response = next.run(request).await;
    let refusal = response.extensions_mut().remove::<Refusal>().or_else(|| of_axum(&response));
    if let Some(refusal) = refusal {
        // What a client needs to ask better: the methods of an address, the size of what it wants part of.
        let told = [ALLOW, CONTENT_RANGE].map(|name| (response.headers_mut().remove(&name), name));
        response = if is_api { refusal.as_json(id) } else { refusal.as_text() };
        for (value, name) in told {
            if let Some(value) = value {
                response.headers_mut().insert(name, value);
            }
        }
        if refusal.status == StatusCode::UNAUTHORIZED {
            challenge(&mut response, from_browser);
        }
        if refusal.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if is_head {
            *response.body_mut() = axum::body::Body::empty();
        }
    }
    let headers = response.headers_mut();
    // What an API or a page of an administrator says is nobody else's, not even a cache's.
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(NOSNIFF, HeaderValue::from_static("nosniff"));
    response
}

/// What axum refused before any handler of ours saw it.
fn of_axum(response: &Response) -> Option<Refusal> {
    let status = response.status();
    // axum says its words as plain text, or says none.
    let kind = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let is_ours = kind.is_some_and(|kind| !kind.starts_with(b"text/plain"));
    if is_ours || !(status.is_client_error() || status.is_server_error()) {
        return None;
    }
    let words = match status {
        StatusCode::METHOD_NOT_ALLOWED => "this address does not take that method; see the Allow header",
        StatusCode::PAYLOAD_TOO_LARGE => "the body is larger than this address takes; send less at once",
        StatusCode::NOT_FOUND => "there is nothing at this address",
        StatusCode::RANGE_NOT_SATISFIABLE => {
            "there is no such part of it; Content-Range says how many bytes there are"
        }
        _ => "the request cannot be read; check its address and its body",
    };
    Some(Refusal::new(status, words))
}

fn challenge(response: &mut Response, from_browser: bool) {
    let headers = response.headers_mut();
    headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"Russet\""));
    if !from_browser {
        let basic = HeaderValue::from_static("Basic realm=\"Russet\", charset=\"UTF-8\"");
        headers.append(WWW_AUTHENTICATE, basic);
    }
}

impl Refusal {
    fn as_json(&self, id: RequestId) -> Response {
        let mut error = Map::new();
        error.insert("code".into(), self.code.into());
        error.insert("message".into(), self.words.as_str().into());
        error.insert("request_id".into(), id.as_str().into());
        error.extend(self.more.clone());
        (self.status, Json(json!({"error": error}))).into_response()
    }

    fn as_text(&self) -> Response {
        (self.status, format!("{}\n", self.words)).into_response()
    }
}

fn code(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "unauthenticated",
        StatusCode::FORBIDDEN => "forbidden",
        StatusCode::NOT_FOUND => "not_found",
        StatusCode::METHOD_NOT_ALLOWED => "method_not_allowed",
        StatusCode::CONFLICT => "conflict",
        StatusCode::PRECONDITION_FAILED => "precondition_failed",
        StatusCode::PAYLOAD_TOO_LARGE => "too_large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported_media_type",
        StatusCode::TOO_MANY_REQUESTS => "too_many_requests",
        StatusCode::BAD_GATEWAY => "apple",
        StatusCode::SERVICE_UNAVAILABLE => "busy",
        status if status.is_client_error() => "invalid",
        _ => "internal",
    }
}
