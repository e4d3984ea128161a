//! `GET, POST /api/v1/backups`, `GET …/{name}/content`, `POST /api/v1/backups/once`, and the recovery key.
//!
//! No path comes from the network: backups are made in the configured folder, or sent to who asked.
//!
//! **Invariant:** whoever is given a backup or the recovery key stands in the audit.

use std::fs::File;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio_util::io::ReaderStream;

use super::auth::Caller;
use super::body::Object;
use super::query::{Parameters, page};
use super::reply::Refusal;
use super::{Admin, as_download, audit};
use crate::backup::{self, Listed, Made};
use crate::clock::rfc3339;
use crate::error::{Error, Result};

/// How much of a file is read at once.
const PIECE: usize = 64 * 1024;
/// The hash of what is sent, so that a copy that was cut is known.
const SHA256: HeaderName = HeaderName::from_static("x-russet-sha256");

fn made_json(made: &Made) -> Value {
    json!({
        "name": made.name,
        "made_at": rfc3339(made.made_at),
        "size": made.size,
        "sha256": made.sha256,
        "verified": made.verified,
        "milliseconds": made.milliseconds,
        "recovery_key": made.public_key,
    })
}

fn listed_json(listed: &Listed) -> Value {
    json!({"name": listed.name, "made_at": moment(&listed.moment), "size": listed.size, "verified": listed.verified})
}

/// `20261201T091500Z` as RFC 3339.
fn moment(text: &str) -> String {
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    format!("{}-{}-{}T{}:{}:{}Z", part(0, 4), part(4, 6), part(6, 8), part(9, 11), part(11, 13), part(13, 15))
}

pub(super) async fn list(State(admin): State<Admin>, parameters: Parameters) -> Result<Json<Value>, Refusal> {
    let (limit, before) = (parameters.limit()?, parameters.cursor::<String>()?);
    let backups = admin.backups.clone();
    let found = super::blocking(move || backups.list()).await?;
    let items = found
        .iter()
        .filter(|listed| before.as_ref().is_none_or(|before| listed.moment < *before))
        .map(|listed| (listed.moment.clone(), listed_json(listed)))
        .collect();
    let mut shown = page(items, limit);
    shown["directory"] = json!(admin.backups.directory());
    Ok(Json(shown))
}

pub(super) async fn post(
    State(admin): State<Admin>,
    caller: Caller,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let made = admin.backups.make().await?;
    record(&admin, caller.actor, "backup.make", made.name.clone()).await?;
    Ok((StatusCode::CREATED, Json(made_json(&made))))
}

pub(super) async fn post_once(State(admin): State<Admin>, caller: Caller) -> Result<Response, Refusal> {
    let (made, once) = admin.backups.make_once().await?;
    record(&admin, caller.actor, "backup.fetch", made.name.clone()).await?;
    // Open, it can be read to its end; its name is gone with `once`.
    Ok(sent(once.open()?, &made.name, made.size, Some(&made.sha256)))
}

pub(super) async fn content(
    State(admin): State<Admin>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    let (backups, wanted) = (admin.backups.clone(), name.clone());
    let opened = super::blocking(move || {
        let path = backups.file(&wanted).ok_or_else(|| Error::NotFound("such backup".into()))?;
        let unreadable = |source| Error::caused("the backup cannot be read", source);
        let file = File::open(path).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        Ok((file, size))
    });
    let (file, size) = opened.await?;
    record(&admin, caller.actor, "backup.fetch", name.clone()).await?;
    Ok(sent(file, &name, size, None))
}

fn sent(file: File, name: &str, size: u64, sha256: Option<&str>) -> Response {
    let body = Body::from_stream(ReaderStream::with_capacity(tokio::fs::File::from_std(file), PIECE));
    let mut response = as_download(body.into_response());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, size.into());
    let named = HeaderValue::from_str(&format!("attachment; filename=\"{name}\""));
    headers.insert(CONTENT_DISPOSITION, named.unwrap_or(HeaderValue::from_static("attachment")));
    if let Some(sha256) = sha256.and_then(|sha256| HeaderValue::from_str(sha256).ok()) {
        headers.insert(SHA256, sha256);
    }
    response
}

async fn record(admin: &Admin, actor: String, action: &'static str, object: String) -> Result<()> {
    admin
        .mdm
        .store
        .write("backup.audit", move |tx| audit::record(tx, &actor, action, &object, &Value::Null))
        .await
}

pub(super) async fn recovery_key(State(admin): State<Admin>, caller: Caller) -> Result<Json<Value>, Refusal> {
    Ok(Json(shown(&admin, caller.actor).await?))
}

/// The recovery key, for somebody who stands in the audit for it.
pub(super) async fn shown(admin: &Admin, actor: String) -> Result<Value> {
    let known = admin.mdm.store.peek(backup::known)?;
    let known =
        known.ok_or_else(|| Error::NotFound("recovery key; restart the server, which makes one".into()))?;
    let secret = admin.backups.recovery_key()?.map(|key| key.secret());
    record(admin, actor, "recovery-key.show", known.public_key.clone()).await?;
    Ok(json!({
        "public_key": known.public_key,
        "made_at": rfc3339(known.made_at),
        "written_down_at": known.written_down_at.map(rfc3339),
        // Nothing while the file lies elsewhere.
        "recovery_key": secret,
    }))
}

pub(super) async fn written_down(
    State(admin): State<Admin>,
    caller: Caller,
    mut body: Object,
) -> Result<Json<Value>, Refusal> {
    let public_key = body.needed_text("public_key")?;
    body.finish()?;
    acknowledge(&admin, caller.actor, public_key).await?;
    Ok(Json(json!({})))
}

/// Somebody says that it was written down.
pub(super) async fn acknowledge(admin: &Admin, actor: String, public_key: String) -> Result<()> {
    let noted = admin.mdm.store.write("recovery_key.written_down", move |tx| {
        backup::acknowledge(tx, &public_key)?;
        audit::record(tx, &actor, "recovery-key.written-down", &public_key, &Value::Null)
    });
    noted.await
}
