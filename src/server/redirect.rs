//! What `http_listen` serves: the way to HTTPS, and the trust anchor.
//!
//! `server` gives it the two routes (`/ca.crt`, `/trust.mobileconfig`) by which a device comes to
//! trust a self-signed server, and in mode `acme` the one by which a CA sees that the name is ours;
//! everything else is sent to `public_url`.
//!
//! **Invariant:** nothing else is answered without TLS, and no request's body or header is used.

use std::sync::Arc;

use axum::Router;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use hyper::header::{HeaderValue, LOCATION};
use hyper::{Method, StatusCode};

/// `trust` with a redirect to `public_url` (without a slash at its end) for everything else.
pub fn router(public_url: &str, trust: Router) -> Router {
    let public_url: Arc<str> = Arc::from(public_url.trim_end_matches('/'));
    trust.fallback(move |method: Method, uri: Uri| {
        let public_url = public_url.clone();
        async move { redirect(&public_url, &method, &uri) }
    })
}

fn redirect(public_url: &str, method: &Method, uri: &Uri) -> Response {
    if method != Method::GET && method != Method::HEAD {
        let words = format!("this port only redirects; use {public_url}\n");
        return (StatusCode::BAD_REQUEST, words).into_response();
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    match HeaderValue::try_from(format!("{public_url}{path}")) {
        Ok(location) => (StatusCode::PERMANENT_REDIRECT, [(LOCATION, location)]).into_response(),
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::routing::get;
    use hyper::Request;
    use tower::ServiceExt;

    async fn ask(method: &str, path: &str) -> Response {
        let trust = Router::new().route("/ca.crt", get(|| async { "root" }));
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        router("https://mdm.example.org/", trust).oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn everything_but_the_trust_anchor_is_sent_to_https() {
        assert_eq!(ask("GET", "/ca.crt").await.status(), StatusCode::OK);
        let sent = ask("GET", "//evil.example/enroll/x?a=b").await;
        assert_eq!(sent.status(), StatusCode::PERMANENT_REDIRECT);
        assert_eq!(sent.headers()[LOCATION], "https://mdm.example.org//evil.example/enroll/x?a=b");
        assert_eq!(ask("PUT", "/mdm/checkin").await.status(), StatusCode::BAD_REQUEST);
    }
}
