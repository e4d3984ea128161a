//! `GET /ca.crt`, `GET /trust.mobileconfig`: the TLS root, while the server's certificate is our own.
//!
//! Served on the HTTP listener too, since who needs them cannot check our TLS certificate yet. They
//! disclose nothing, and the root may name this server only.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};

use super::refusal::{Refusal, Refused};
use super::visitor::Visitor;
use crate::enroll::{Enroll, profile};
use crate::error::Error;

pub(in crate::enroll) fn routes() -> Router<Enroll> {
    Router::new()
        .route("/ca.crt", get(root))
        .route("/trust.mobileconfig", get(trust))
        .route_layer(middleware::map_response(super::harden))
}

async fn root(State(enroll): State<Enroll>, visitor: Visitor) -> Response {
    match enroll.anchor() {
        Some(anchor) => ([(header::CONTENT_TYPE, "application/x-x509-ca-cert")], anchor).into_response(),
        None => refused(Refusal::NothingToTrust, &visitor),
    }
}

async fn trust(State(enroll): State<Enroll>, visitor: Visitor) -> Response {
    let Some(anchor) = enroll.anchor() else { return refused(Refusal::NothingToTrust, &visitor) };
    // A signature with RSA takes milliseconds on a small machine: not on the threads that serve.
    let signed = tokio::task::spawn_blocking(move || {
        let settings = &enroll.settings;
        enroll.sign(&profile::trust(&settings.identifier, &settings.organization, &anchor))
    })
    .await
    .unwrap_or_else(|source| Err(Error::caused("signing the trust profile did not finish", source)));
    match signed {
        Ok(signed) => super::mobileconfig(signed, "trust"),
        Err(error) => refused(error.into(), &visitor),
    }
}

fn refused(refusal: Refusal, visitor: &Visitor) -> Response {
    Refused { refusal, language: visitor.language, as_page: visitor.reads_html }.into_response()
}
