//! `GET /api/v1/tls-certificate` and `POST /api/v1/tls-certificate/renew`: what the listeners present.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::auth::Caller;
use super::reply::Refusal;
use super::{Admin, audit};
use crate::clock::rfc3339;
use crate::error::{Error, Result};
use crate::id;
use crate::pki::certificate::Certificate;

pub(super) async fn show(State(admin): State<Admin>) -> Result<Json<Value>, Refusal> {
    Ok(Json(shown(&admin)?))
}

/// Everything that is known of it; a key is no part of that.
fn shown(admin: &Admin) -> Result<Value> {
    let tls = &admin.tls;
    let leaf = tls.chain.leaf();
    let mut shown = json!({
        "mode": tls.mode,
        "names": leaf.as_ref().map(Certificate::dns_names),
        "subject": leaf.as_ref().map(|leaf| leaf.subject().to_string()),
        "issuer": leaf.as_ref().map(|leaf| leaf.issuer().to_string()),
        "serial_number": leaf.as_ref().map(Certificate::serial_hex),
        "not_before": leaf.as_ref().map(|leaf| rfc3339(leaf.not_before())),
        "not_after": leaf.as_ref().map(|leaf| rfc3339(leaf.not_after())),
        "certificates": tls.chain.now().len(),
    });
    if let Some(acme) = &tls.acme {
        let attempts = acme.attempts()?;
        shown["directory"] = acme.directory().into();
        shown["renew_at"] = json!(acme.current()?.map(|current| rfc3339(current.renew_at)));
        shown["attempts"] = attempts
            .iter()
            .map(|one| {
                json!({
                    "at": rfc3339(one.at),
                    "failed": one.failed,
                    "words": id::printable(&one.words),
                    "next_at": rfc3339(one.next_at),
                })
            })
            .collect();
    }
    Ok(shown)
}

pub(super) async fn renew(State(admin): State<Admin>, caller: Caller) -> Result<Json<Value>, Refusal> {
    let Some(acme) = &admin.tls.acme else {
        let words = match admin.tls.mode {
            "files" => {
                "the certificate comes from files that something else renews; renew it there, and the new files are \
                        taken by themselves"
            }
            _ => "the self-signed certificate is renewed by itself before it ends; there is nobody to ask",
        };
        return Err(Error::conflict(words).into());
    };
    let issued = acme.renew().await?;
    let detail = json!({"directory": issued.directory, "not_after": rfc3339(issued.not_after)});
    let (actor, host) = (caller.actor, issued.host.clone());
    admin
        .mdm
        .store
        .write("tls_certificate.renew", move |tx| {
            audit::record(tx, &actor, "tls-certificate.renew", &host, &detail)
        })
        .await?;
    Ok(Json(shown(&admin)?))
}
