//! `GET, PUT /api/v1/update-catalogue`: which operating systems Apple offers, as far as it is known.
//!
//! The server follows `[updates] catalogue` by itself; a box without internet is sent the document of
//! <https://gdmf.apple.com/v2/pmv> as it is.
//!
//! **Invariant:** a document that cannot be used changes nothing.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use serde_json::{Map, Value, json};

use super::auth::Caller;
use super::body::{bytes, media_type};
use super::declaration::Tagged;
use super::precondition::{self, IfMatch};
use super::query::Parameters;
use super::reply::Refusal;
use super::{Admin, audit};
use crate::clock::rfc3339;
use crate::ddm::update::catalogue::{Release, parse};
use crate::ddm::update::kept::{self, Kept};
use crate::error::Error;

fn release(release: &Release) -> Value {
    json!({
        "version": release.version,
        "build": release.build,
        "posted": release.posted,
        "expires": release.expires,
        "public": release.public,
        "devices": release.devices,
    })
}

fn shown(kept: &Kept) -> Value {
    let mut platforms: Map<String, Value> = Map::new();
    for one in &kept.releases {
        let name = one.platform().map_or(one.list.as_str(), |platform| platform.name());
        if let Value::Array(list) = platforms.entry(name).or_insert_with(|| json!([])) {
            list.push(release(one));
        }
    }
    json!({
        "source": kept.source,
        "fetched_at": kept.fetched_at.map(rfc3339),
        "error": kept.error,
        "error_at": kept.error_at.map(rfc3339),
        "skipped": kept.skipped,
        "platforms": platforms,
    })
}

fn tag(kept: &Kept) -> String {
    precondition::tag(&shown(kept)["platforms"])
}

fn tagged(kept: &Kept) -> Tagged {
    (precondition::header(&tag(kept)), Json(shown(kept)))
}

pub(super) async fn show(State(admin): State<Admin>) -> Result<Tagged, Refusal> {
    Ok(tagged(&admin.mdm.store.read(kept::read).await?))
}

pub(super) async fn put(
    State(admin): State<Admin>,
    caller: Caller,
    parameters: Parameters,
    condition: IfMatch,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Tagged, Refusal> {
    let notify = !parameters.flag("nonotify")?;
    let body = bytes(body)?;
    if media_type(&headers) != "application/json" {
        return Err(Refusal::unsupported("send JSON, with Content-Type: application/json"));
    }
    let parsed = tokio::task::spawn_blocking(move || parse(&body))
        .await
        .map_err(|source| Error::caused("the catalogue could not be read", source))??;
    let done = admin.mdm.store.write("update_catalogue.put", move |tx| {
        if !condition.holds(Some(&tag(&kept::read(tx)?))) {
            return Ok(None);
        }
        let (releases, skipped) = (parsed.releases.len(), parsed.skipped);
        let source = format!("uploaded by {}", caller.actor);
        let changed = kept::keep(tx, parsed, &source, None, notify)?;
        let detail = json!({"releases": releases, "skipped": skipped, "changed": changed, "notify": notify});
        audit::record(tx, &caller.actor, "update-catalogue.put", "update-catalogue", &detail)?;
        kept::read(tx).map(Some)
    });
    Ok(tagged(&done.await?.ok_or_else(precondition::failed)?))
}
