//! `GET /ca.crt`, `GET /trust.mobileconfig`: the TLS root, while the server's certificate is our own.
//!
//! Served on the HTTP listener too, since who needs them cannot check our TLS certificate yet. They
//! disclose nothing, and the root may name this server only.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};

use super::refusal::{Refusal, Refused};
use super::visitor::Visitor;
use crate::enroll::{Enroll, Signer, profile, sign};
use crate::error::Result;

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

/// The signed trust profile, and who signed it.
pub(in crate::enroll) struct Trust {
    signer: Arc<Signer>,
    signed: Bytes,
}

async fn trust(State(enroll): State<Enroll>, visitor: Visitor) -> Response {
    match signed(&enroll).await {
        Ok(Some(signed)) => super::mobileconfig(signed, "trust"),
        Ok(None) => refused(Refusal::NothingToTrust, &visitor),
        Err(error) => refused(error.into(), &visitor),
    }
}

/// It says the same to everybody, so it is signed once for each signer; nothing when there is no root.
async fn signed(enroll: &Enroll) -> Result<Option<Bytes>> {
    let signer = enroll.signer.load_full();
    if signer.anchor.is_none() {
        return Ok(None);
    }
    let kept = enroll.kept.trust.load_full().filter(|kept| Arc::ptr_eq(&kept.signer, &signer));
    if let Some(kept) = kept {
        return Ok(Some(kept.signed.clone()));
    }
    let turn = enroll.kept.workshop.enter()?;
    let (settings, now, by) = (enroll.settings.clone(), enroll.store.clock().now(), signer.clone());
    let unsigned = profile::trust(&settings.identifier, &settings.organization, &signer.anchors());
    let signed: Bytes = turn.work(move || sign(&by, &unsigned, now)).await?.into();
    // While the clock is wrong the signature's time is as well.
    if enroll.store.clock().is_sane() {
        enroll.kept.trust.store(Some(Arc::new(Trust { signer, signed: signed.clone() })));
    }
    Ok(Some(signed))
}

fn refused(refusal: Refusal, visitor: &Visitor) -> Response {
    Refused { refusal, language: visitor.language, as_page: visitor.reads_html }.into_response()
}
