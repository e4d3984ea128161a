//! `/api/v1/push-certificates/request…`: asking for a push certificate, step by step.
//!
//! A request is signed by an MDM vendor (here, by mdmcert.download, or elsewhere), and what comes of it goes to
//! Apple's portal; the certificate that comes back is imported by `push_certificate.rs`.
//!
//! **Invariant:** the key of a request comes out in no answer, and a vendor's key is forgotten with the request
//! that brought it.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::auth::Caller;
use super::body::{self, Maybe, Object};
use super::query::{Parameters, page};
use super::reply::Refusal;
use super::{Admin, audit};
use crate::apns::certificate;
use crate::apns::mdmcert::{self, ReplyTo};
use crate::apns::request::{self, Made, Request};
use crate::apns::vendor::{Given, Signed, Vendor};
use crate::error::{Error, Result};
use crate::id;
use crate::storage::Tx;

pub(super) async fn list(State(admin): State<Admin>, parameters: Parameters) -> Result<Json<Value>, Refusal> {
    let limit = parameters.limit()?;
    let before = parameters.cursor::<String>()?;
    let all = admin.mdm.store.peek(request::list)?;
    let items = all
        .iter()
        .skip_while(|one| before.as_ref().is_some_and(|before| one.id != *before))
        .skip(usize::from(before.is_some()))
        .map(|one| (one.id.clone(), one.to_json()))
        .collect();
    Ok(Json(page(items, limit)))
}

pub(super) async fn post(
    State(admin): State<Admin>,
    caller: Caller,
    Maybe(mut body): Maybe,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let account = body.text("apple_account")?;
    body.finish()?;
    let known = admin.mdm.store.peek(certificate::newest)?;
    // Whoever asks again, asks for a renewal, which only the same account can have.
    let account = account.or_else(|| known.as_ref().and_then(|known| known.apple_account.clone()));
    let (organization, of) = (admin.organization.to_string(), account.clone());
    let made = super::blocking(move || Made::new(&organization, of.as_deref())).await?;
    let seal = admin.mdm.seal.clone();
    let kept = admin.mdm.store.write("push_request.make", move |tx| {
        let kept = request::keep(tx, &seal, &made, account.as_deref(), &caller.actor)?;
        audit::record(tx, &caller.actor, "push-request.make", &kept.id, &json!({"apple_account": account}))?;
        Ok(kept)
    });
    let kept = kept.await?;
    let mut answer = kept.to_json();
    answer["advice"] = advice(&kept, known.as_ref()).into();
    Ok((StatusCode::CREATED, Json(answer)))
}

/// What a person has to know before opening Apple's portal.
fn advice(kept: &Request, known: Option<&certificate::PushCertificate>) -> String {
    let account = kept.apple_account.as_deref().map(id::printable);
    match known {
        Some(known) => format!(
            "Have the request signed, then open identity.apple.com/pushcert as {} and choose Renew beside the certificate with \
             serial number {}. Never choose Create: that makes another topic, and every enrolled device would be lost.",
            account.as_deref().unwrap_or("the Apple Account that made the present certificate"),
            known.serial_number.to_uppercase()
        ),
        None => format!(
            "Have the request signed, then open identity.apple.com/pushcert as {} and choose Create. Use an Apple Account for this \
             purpose alone, one for each server and no person's own, and write its password down where it is found in \
             three years: only this account can renew the certificate.",
            account.as_deref().unwrap_or("an Apple Account of its own")
        ),
    }
}

pub(super) async fn show(State(admin): State<Admin>, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    Ok(Json(admin.mdm.store.peek(|conn| request::find(conn, &id))?.to_json()))
}

pub(super) async fn delete(
    State(admin): State<Admin>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let gone = admin.mdm.store.write("push_request.forget", move |tx| {
        if !request::forget(tx, &id)? {
            return Err(Error::NotFound("request of this id".into()));
        }
        audit::record(tx, &caller.actor, "push-request.forget", &id, &Value::Null)
    });
    gone.await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The vendor's part, here: certificate, key and chain are in the body.
pub(super) async fn sign(
    State(admin): State<Admin>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    mut body: Object,
) -> Result<Response, Refusal> {
    let certificate = body.needed_text("certificate")?;
    let key = body.text("private_key")?.unwrap_or_default();
    let chain = match body.any("chain") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(one)) => vec![one],
        Some(several) => body::texts(several, "chain", "/chain")?,
    };
    let password = body.text("password")?;
    body.finish()?;
    let csr = admin.mdm.store.peek(|conn| request::find(conn, &id))?.csr;
    let now = admin.now();
    let signed = super::blocking(move || {
        let given = Given {
            certificate: certificate.as_bytes(),
            key: key.as_bytes(),
            chain: chain.iter().map(String::as_bytes).collect(),
            password: password.as_deref(),
        };
        Vendor::read(&given, now)?.sign(&csr, now)
    });
    let signed = signed.await?;
    keep_signed(&admin, caller, id, signed, "vendor", &headers).await
}

/// What an MDM vendor signed elsewhere.
pub(super) async fn signed(
    State(admin): State<Admin>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let signed = Signed::read(&body::bytes(body)?, admin.now())?;
    keep_signed(&admin, caller, id, signed, "elsewhere", &headers).await
}

/// Looks at a signed request of anybody's, and keeps nothing.
pub(super) async fn check(
    State(admin): State<Admin>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Refusal> {
    let now = admin.now();
    let signed = Signed::read(&body::bytes(body)?, now)?;
    let of = admin.mdm.store.peek(request::list)?.into_iter().find(|one| one.csr == signed.csr);
    Ok(Json(json!({
        "request": of.map(|one| one.id),
        "vendor": id::printable(&signed.vendor),
        "vendor_not_after": crate::clock::rfc3339(signed.vendor_not_after),
        "warning": signed.warning(now),
    })))
}

/// Sends the request to mdmcert.download, which mails its answer.
pub(super) async fn mdmcert(
    State(admin): State<Admin>,
    caller: Caller,
    Path(id): Path<String>,
    mut body: Object,
) -> Result<Json<Value>, Refusal> {
    let email = body.needed_text("email")?;
    body.finish()?;
    let csr = admin.mdm.store.peek(|conn| request::find(conn, &id))?.csr;
    let now = admin.now();
    let to = super::blocking(move || ReplyTo::make(now)).await?;
    let certificate = to.certificate.clone();
    let (seal, of) = (admin.mdm.seal.clone(), id.clone());
    // Kept before it is asked: an answer that nobody can open would be lost.
    admin
        .mdm
        .store
        .write("push_request.reply_to", move |tx| request::expect_reply(tx, &seal, &of, &to))
        .await?;
    mdmcert::ask(&admin.mdmcert, &csr, &email, &certificate).await?;
    let detail = json!({"email": email});
    let asked = move |tx: &Tx<'_>| audit::record(tx, &caller.actor, "push-request.mdmcert", &id, &detail);
    admin.mdm.store.write("push_request.mdmcert", asked).await?;
    Ok(Json(json!({
        "words": format!(
            "mdmcert.download took the request and mails its answer to {}. Give the attached file back here when it is there.",
            id::printable(&email)
        ),
    })))
}

/// The file that mdmcert.download mailed.
pub(super) async fn mdmcert_answer(
    State(admin): State<Admin>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let body = body::bytes(body)?;
    let seal = admin.mdm.seal.clone();
    let Some(to) = admin.mdm.store.peek(|conn| request::reply_to(conn, &seal, &id))? else {
        let words = "mdmcert.download was not asked for this request; ask it first, or choose the request that it answers";
        return Err(Error::conflict(words).into());
    };
    let now = admin.now();
    let opened = super::blocking(move || mdmcert::open(&body, &to.certificate, &to.key_pkcs8, now));
    let signed = opened.await?;
    keep_signed(&admin, caller, id, signed, "mdmcert.download", &headers).await
}

/// Keeps the signed form and answers it: the base64 that Apple's portal takes, as a JSON string, or as a file
/// for whoever accepts `text/plain`.
async fn keep_signed(
    admin: &Admin,
    caller: Caller,
    id: String,
    signed: Signed,
    by: &'static str,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let kept = admin.mdm.store.write("push_request.sign", move |tx| {
        let kept = request::sign(tx, &id, &signed, by)?;
        let detail = json!({"signed_by": by, "vendor": signed.vendor});
        audit::record(tx, &caller.actor, "push-request.sign", &id, &detail)?;
        Ok(kept)
    });
    let text = kept.await?.signed_request.unwrap_or_default();
    let plain = headers.get(ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"text/plain"));
    Ok(match plain {
        true => ([(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response(),
        false => Json(Value::from(text)).into_response(),
    })
}
