//! What happens to every request before and after its handler.
//!
//! `connection` calls `answer` for each: a span with a request id, the body's bounds, compressed
//! bodies refused, a panic turned into 500. It is one function instead of a stack of middleware,
//! since a device's Idle takes no longer than a handful of those would.
//!
//! **Invariant:** the path is never logged, only the route that it matched: paths carry invitation
//! codes and sign-in codes.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, MatchedPath};
use axum::response::{IntoResponse, Response};
use axum::{BoxError, Router};
use hyper::body::Body as HttpBody;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{HeaderMap, Request, StatusCode};
use tokio::time::Instant;
use tower::{Layer, Service};
use tracing::field::{Empty, display};
use tracing::{Instrument, Span, debug, error, info_span};

use crate::metric::Histogram;
use crate::request::{Allowance, Peer, RequestId};
use crate::server::body::Arriving;
use crate::server::budget::Purse;

pub use crate::request::limit;

/// From the whole header of a request to the header of its reply.
static REQUESTS: Histogram =
    Histogram::new("russet_request_duration_seconds", "How long requests took, by route.", "route");

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Answers one request. Never fails: what goes wrong is a reply. `purse` pays for its body.
pub(super) async fn answer<B>(router: Router, request: Request<B>, peer: Peer, purse: &Arc<Purse>) -> Response
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let id = RequestId::next();
    let span = info_span!(
        "request",
        id = id.as_str(),
        method = %request.method(),
        route = Empty,
        // What a device is and says; filled in by `mdm`.
        enrollment.id = Empty,
        message = Empty,
        status = Empty,
    );
    let began = Instant::now();
    let route = Matched::default();
    let mut response = outcome(router, request, peer, id, purse, &route).instrument(span).await;
    REQUESTS.took(route.0.get().map_or("none", MatchedPath::as_str), began.elapsed());
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

async fn outcome<B>(
    mut router: Router,
    request: Request<B>,
    peer: Peer,
    id: RequestId,
    purse: &Arc<Purse>,
    route: &Matched,
) -> Response
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let manners = Manners { json: request.uri().path().starts_with("/api/"), id };
    if is_compressed(request.headers()) {
        let words = "compressed request bodies are not accepted; send it as it is, without Content-Encoding";
        return manners.refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", words);
    }
    let (mut parts, incoming) = request.into_parts();
    parts.extensions.insert(peer);
    parts.extensions.insert(id);
    parts.extensions.insert(route.clone());
    let (body, allowance) = if incoming.is_end_stream() {
        (Body::empty(), None)
    } else {
        let allowance = Arc::new(Allowance::default());
        parts.extensions.insert(allowance.clone());
        (Body::new(Arriving::new(incoming, allowance.clone(), parts.version, purse)), Some(allowance))
    };
    let mut request = Request::from_parts(parts, body);
    // The bounds of `Arriving` are the ones that count.
    DefaultBodyLimit::disable().apply(&mut request);

    let handled = caught(async { router.call(request).await }).await;
    let response = match handled {
        Ok(Ok(response)) => response,
        Err(panic) => {
            error!("a request ended in a panic: {panic}");
            let words = "the server made a mistake; the log says more under this request's id";
            manners.refuse(StatusCode::INTERNAL_SERVER_ERROR, "internal", words)
        }
    };
    let response = match allowance {
        Some(body) if body.exceeded() => {
            let words = "the body is larger than this address takes; send less at once";
            manners.refuse(StatusCode::PAYLOAD_TOO_LARGE, "too_large", words)
        }
        Some(body) if body.crowded() => {
            let words = "too many large bodies arrive at the same time; send it again in a moment";
            let mut busy = manners.refuse(StatusCode::SERVICE_UNAVAILABLE, "busy", words);
            busy.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("10"));
            busy
        }
        Some(body) if body.late() => {
            let words = "the body did not arrive in time; send it again over a better connection";
            // Devices know few codes, and what a device sends badly is 400.
            let status = if manners.json { StatusCode::REQUEST_TIMEOUT } else { StatusCode::BAD_REQUEST };
            manners.refuse(status, "timeout", words)
        }
        _ => response,
    };
    debug!(status = response.status().as_u16(), "answered");
    response
}

/// How refusals are written: for scripts under `/api/`, else for people and devices.
#[derive(Clone, Copy)]
struct Manners {
    json: bool,
    id: RequestId,
}

impl Manners {
    fn refuse(self, status: StatusCode, code: &str, words: &str) -> Response {
        if !self.json {
            return (status, format!("{words}\n")).into_response();
        }
        let error =
            serde_json::json!({"error": {"code": code, "message": words, "request_id": self.id.as_str()}});
        (status, [(CONTENT_TYPE, "application/json")], error.to_string()).into_response()
    }
}

/// A body of a gigabyte fits into a megabyte: nothing is unpacked.
fn is_compressed(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_ENCODING).iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Runs `work` to its end, or to its panic, whose words it answers.
async fn caught<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let mut work = pin!(work);
    std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(done)) => Poll::Ready(Ok(done)),
        Err(panic) => Poll::Ready(Err(words(panic.as_ref()))),
    })
    .await
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without words".to_owned())
}

/// The route that a request matched, once it is known.
#[derive(Clone, Default)]
struct Matched(Arc<OnceLock<MatchedPath>>);

/// Lets every route tell the request's span what it is called.
pub(super) fn name_routes(router: Router) -> Router {
    router.layer(NameRoute)
}

#[derive(Clone, Copy)]
struct NameRoute;

impl<S> Layer<S> for NameRoute {
    type Service = Named<S>;

    fn layer(&self, inner: S) -> Named<S> {
        Named(inner)
    }
}

#[derive(Clone)]
struct Named<S>(S);

impl<S: Service<Request<Body>>> Service<Request<Body>> for Named<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        if let Some(route) = request.extensions().get::<MatchedPath>() {
            Span::current().record("route", display(route.as_str()));
            if let Some(matched) = request.extensions().get::<Matched>() {
                let _ = matched.0.set(route.clone());
            }
        }
        self.0.call(request)
    }
}

#[cfg(test)]
mod tests;
