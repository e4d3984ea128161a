//! `GET /api/v1/profiles`, `GET, PUT, DELETE /api/v1/profiles/{identifier}`, `GET …/content`: the library
//! of configuration profiles.
//!
//! PUT takes the `.mobileconfig` as it is, signed or not. `?declare=legacy` also makes the declaration of
//! the same identifier that installs it; `?nonotify=1` pushes nobody.
//!
//! **Invariant:** what changes a profile writes who did in the same transaction.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::auth::Caller;
use super::declaration::{Tagged, users_json};
use super::precondition::{self, IfMatch};
use super::query::{Parameters, page};
use super::reply::Refusal;
use super::{Admin, audit, body, takeover};
use crate::clock::rfc3339;
use crate::content::{Contents, Received};
use crate::ddm::Edit;
use crate::error::{Error, Result};
use crate::library::mobileconfig::{MEDIA_TYPE, Mobileconfig};
use crate::library::profile::{self, Profile, Put};
use crate::storage::Tx;

/// The profile of this name.
pub(super) fn existing(conn: &Connection, name: &str) -> Result<Profile> {
    profile::get(conn, name)?.ok_or_else(|| Error::NotFound("such profile".into()))
}

/// As the API shows it.
pub(super) fn shown(conn: &Connection, profile: &Profile) -> Result<Value> {
    let mut shown = json!({"identifier": profile.name});
    if let (Value::Object(shown), Value::Object(summary)) = (&mut shown, &profile.summary) {
        shown.extend(summary.clone());
    }
    shown["size"] = profile.kept.size.into();
    shown["sha256"] = profile.kept.id.as_str().into();
    shown["created_at"] = rfc3339(profile.created_at).into();
    shown["created_by"] = profile.created_by.as_str().into();
    shown["updated_at"] = rfc3339(profile.updated_at).into();
    shown["updated_by"] = profile.updated_by.as_str().into();
    shown["users"] = users_json(profile::users(conn, &profile.name)?);
    Ok(shown)
}

/// Reads a profile and takes its bytes; blocks.
pub(super) fn receive(contents: &Contents, bytes: &[u8]) -> Result<(Mobileconfig, Received)> {
    Ok((Mobileconfig::read(bytes)?, contents.receive_bytes(bytes)?))
}

/// Keeps a profile, and writes down who did.
///
/// # Errors
/// As [`profile::put`].
pub(super) fn put_in(
    tx: &Tx<'_>,
    contents: &Contents,
    name: &str,
    (read, received): (&Mobileconfig, &Received),
    edit: Edit<'_>,
) -> Result<Put> {
    let put = profile::put(tx, contents, name, (read, received), edit)?;
    if put.changed {
        let detail = json!({
            "payload_identifier": read.identifier,
            "sha256": received.sha256,
            "size": received.size,
            "notify": edit.notify,
        });
        audit::record(tx, edit.actor, "profile.put", name, &detail)?;
    }
    Ok(put)
}

/// Removes a profile that no declaration points to, and writes down who did.
///
/// # Errors
/// As [`profile::delete`].
pub(super) fn delete_in(tx: &Tx<'_>, name: &str, edit: Edit<'_>) -> Result<()> {
    profile::delete(tx, name)?;
    audit::record(tx, edit.actor, "profile.delete", name, &json!({}))
}

pub(super) async fn list(State(admin): State<Admin>, parameters: Parameters) -> Result<Json<Value>, Refusal> {
    let (limit, cursor) = (parameters.limit()?, parameters.cursor::<String>()?);
    let found = admin.mdm.store.read(move |conn| {
        let found = profile::list(conn, cursor.as_deref(), limit + 1)?;
        found
            .iter()
            .map(|profile| Ok((profile.name.clone(), shown(conn, profile)?)))
            .collect::<Result<Vec<_>>>()
    });
    Ok(Json(page(found.await?, limit)))
}

pub(super) async fn show(State(admin): State<Admin>, Path(name): Path<String>) -> Result<Tagged, Refusal> {
    let (tag, shown) = admin.mdm.store.peek(|conn| {
        let profile = existing(conn, &name)?;
        Ok((profile.kept.id.clone(), shown(conn, &profile)?))
    })?;
    Ok((precondition::header(&tag), Json(shown)))
}

pub(super) async fn content(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let kept = admin.mdm.store.peek(|conn| existing(conn, &name))?.kept;
    let response = admin.mdm.contents.respond(&admin.mdm.store, &kept, MEDIA_TYPE, &headers).await?;
    Ok(super::as_download(response))
}

pub(super) async fn put(
    State(admin): State<Admin>,
    caller: Caller,
    Path(name): Path<String>,
    parameters: Parameters,
    condition: IfMatch,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, [(HeaderName, HeaderValue); 1], Json<Value>), Refusal> {
    let notify = !parameters.flag("nonotify")?;
    let declare = parameters.word("declare", &["legacy"])?.is_some();
    let bytes = body::bytes(body)?;
    let contents = admin.mdm.contents.clone();
    let received =
        super::blocking(move || receive(&contents, &bytes)).await.map_err(|error| error.or_at(""))?;
    let contents = admin.mdm.contents.clone();
    let done = admin.mdm.store.write("profile.put", move |tx| {
        let known = profile::get(tx, &name)?;
        if !condition.holds(known.as_ref().map(|known| known.kept.id.as_str())) {
            return Ok(None);
        }
        let edit = Edit { actor: &caller.actor, notify };
        let put = put_in(tx, &contents, &name, (&received.0, &received.1), edit)?;
        if declare {
            let declared = profile::declare(tx, &name, edit)?;
            if declared.changed {
                let detail =
                    json!({"server_token": declared.server_token, "profile": name, "notify": notify});
                audit::record(tx, edit.actor, "declaration.put", &name, &detail)?;
            }
        }
        let profile = existing(tx, &name)?;
        let mut shown = shown(tx, &profile)?;
        shown["changed"] = put.changed.into();
        let status = if put.created { StatusCode::CREATED } else { StatusCode::OK };
        Ok(Some((status, precondition::header(&profile.kept.id), received.0, shown)))
    });
    let (status, tag, read, mut shown) = done.await?.ok_or_else(precondition::failed)?;
    let more = takeover::warnings(&admin, vec![read.into()]).await?;
    if let Some(warnings) = shown["warnings"].as_array_mut() {
        warnings.extend(more.into_iter().map(Value::from));
    }
    Ok((status, tag, Json(shown)))
}

pub(super) async fn delete(
    State(admin): State<Admin>,
    caller: Caller,
    Path(name): Path<String>,
    condition: IfMatch,
) -> Result<StatusCode, Refusal> {
    let done = admin.mdm.store.write("profile.delete", move |tx| {
        if !condition.holds(Some(&existing(tx, &name)?.kept.id)) {
            return Ok(None);
        }
        delete_in(tx, &name, Edit { actor: &caller.actor, notify: true })?;
        Ok(Some(StatusCode::NO_CONTENT))
    });
    done.await?.ok_or_else(precondition::failed)
}
