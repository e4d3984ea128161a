//! `GET /api/v1/assets`, `GET, PUT, DELETE /api/v1/assets/{identifier}`, `GET …/content`: assets whose
//! bytes this server keeps.
//!
//! PUT takes the bytes as they are, with their Content-Type, and makes or updates the declaration of the
//! same identifier; `?type=` says which, where the bytes do not. The password of a .p12 comes in the
//! header `X-Russet-Password`, since addresses end up in logs. `?nonotify=1` pushes nobody.
//!
//! **Invariant:** what is secret never leaves through here, whoever asks.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::auth::Caller;
use super::declaration::{self, Tagged, users_json};
use super::precondition::{self, IfMatch};
use super::query::{Parameters, page};
use super::reply::Refusal;
use super::{Admin, audit, body};
use crate::clock::rfc3339;
use crate::content::Contents;
use crate::ddm::Edit;
use crate::error::{Error, Result};
use crate::library::asset::{self, Asset, Prepared, Put, Upload};
use crate::storage::Tx;

const PASSWORD: &str = "x-russet-password";

/// The asset of this identifier.
pub(super) fn existing(conn: &Connection, identifier: &str) -> Result<Asset> {
    asset::get(conn, identifier)?.ok_or_else(|| Error::NotFound("such asset".into()))
}

/// What an asset is, without who uses it.
pub(super) fn plain(asset: &Asset) -> Value {
    json!({
        "identifier": asset.identifier,
        "type": asset.asset_type,
        "content_type": asset.media_type,
        "size": asset.kept.size,
        "sha256": asset.kept.sha256(),
        "secret": asset.kept.secret,
    })
}

fn shown(conn: &Connection, asset: &Asset) -> Result<Value> {
    let mut shown = plain(asset);
    shown["created_at"] = rfc3339(asset.created_at).into();
    shown["created_by"] = asset.created_by.as_str().into();
    shown["updated_at"] = rfc3339(asset.updated_at).into();
    shown["updated_by"] = asset.updated_by.as_str().into();
    shown["users"] = users_json(asset::users(conn, &asset.identifier)?);
    Ok(shown)
}

fn tag(asset: &Asset) -> String {
    precondition::tag(&json!([asset.kept.id, asset.asset_type, asset.media_type]))
}

/// Keeps an asset, and writes down who did.
///
/// # Errors
/// As [`asset::put`].
pub(super) fn put_in(
    tx: &Tx<'_>,
    contents: &Contents,
    identifier: &str,
    prepared: &Prepared,
    edit: Edit<'_>,
) -> Result<Put> {
    let put = asset::put(tx, contents, identifier, prepared, edit)?;
    if put.changed {
        let mut detail = plain(&existing(tx, identifier)?);
        detail["notify"] = edit.notify.into();
        audit::record(tx, edit.actor, "asset.put", identifier, &detail)?;
    }
    Ok(put)
}

/// Removes an asset with its declaration, and writes down who did.
///
/// # Errors
/// As [`asset::delete`].
pub(super) fn delete_in(tx: &Tx<'_>, identifier: &str, edit: Edit<'_>) -> Result<()> {
    asset::delete(tx, identifier, edit)?;
    audit::record(tx, edit.actor, "asset.delete", identifier, &json!({"notify": edit.notify}))
}

pub(super) async fn list(State(admin): State<Admin>, parameters: Parameters) -> Result<Json<Value>, Refusal> {
    let (limit, cursor) = (parameters.limit()?, parameters.cursor::<String>()?);
    let found = admin.mdm.store.read(move |conn| {
        let found = asset::list(conn, cursor.as_deref(), limit + 1)?;
        found
            .iter()
            .map(|asset| Ok((asset.identifier.clone(), shown(conn, asset)?)))
            .collect::<Result<Vec<_>>>()
    });
    Ok(Json(page(found.await?, limit)))
}

pub(super) async fn show(
    State(admin): State<Admin>,
    Path(identifier): Path<String>,
) -> Result<Tagged, Refusal> {
    let (tag, shown) = admin.mdm.store.peek(|conn| {
        let asset = existing(conn, &identifier)?;
        Ok((tag(&asset), shown(conn, &asset)?))
    })?;
    Ok((precondition::header(&tag), Json(shown)))
}

pub(super) async fn content(
    State(admin): State<Admin>,
    Path(identifier): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let asset = admin.mdm.store.peek(|conn| existing(conn, &identifier))?;
    if asset.kept.secret {
        return Err(Refusal::forbidden(format!(
            "{identifier} is secret ({}); only the devices that are to have it get it. Upload it again to change it",
            asset.asset_type
        )));
    }
    let response = admin.mdm.contents.respond(&admin.mdm.store, &asset.kept, &asset.media_type, &headers);
    Ok(super::as_download(response.await?))
}

pub(super) async fn put(
    State(admin): State<Admin>,
    caller: Caller,
    Path(identifier): Path<String>,
    parameters: Parameters,
    condition: IfMatch,
    request: Request,
) -> Result<(StatusCode, [(HeaderName, HeaderValue); 1], Json<Value>), Refusal> {
    let (force, notify) = (parameters.flag("force")?, !parameters.flag("nonotify")?);
    crate::library::check_name(&identifier)?;
    let asset_type = parameters.text("type").map(str::to_owned);
    let media_type = body::content_type(request.headers()).into_owned();
    let password = password(request.headers())?;
    // What will not be taken is not waited for.
    let known = admin.mdm.store.peek(|conn| asset::get(conn, &identifier))?;
    if !condition.holds(known.as_ref().map(tag).as_deref()) {
        return Err(precondition::failed());
    }
    let received = admin.mdm.contents.receive(request.into_body()).await?;
    let contents = admin.mdm.contents.clone();
    let prepared = super::blocking(move || {
        let upload = Upload {
            asset_type: asset_type.as_deref(),
            known_type: known.as_ref().map(|known| known.asset_type.as_str()),
            known_media: known.as_ref().map(|known| known.media_type.as_str()),
            media_type: &media_type,
            password: password.as_deref(),
            force,
        };
        asset::prepare(&contents, &upload, received)
    });
    let prepared = prepared.await.map_err(|error| error.or_at(""))?;
    let contents = admin.mdm.contents.clone();
    let done = admin.mdm.store.write("asset.put", move |tx| {
        let known = asset::get(tx, &identifier)?;
        if !condition.holds(known.as_ref().map(tag).as_deref()) {
            return Ok(None);
        }
        let put = put_in(tx, &contents, &identifier, &prepared, Edit { actor: &caller.actor, notify })?;
        let asset = existing(tx, &identifier)?;
        let mut shown = shown(tx, &asset)?;
        shown["changed"] = put.changed.into();
        let mut warnings = put.warnings;
        warnings.extend(declaration::exposed(tx, &asset.identifier)?);
        shown["warnings"] = warnings.into();
        let status = if put.created { StatusCode::CREATED } else { StatusCode::OK };
        Ok(Some((status, precondition::header(&tag(&asset)), Json(shown))))
    });
    done.await?.ok_or_else(precondition::failed)
}

/// Passwords have letters that headers do not: percent-encoded UTF-8 is for those.
fn password(headers: &HeaderMap) -> Result<Option<String>> {
    let Some(value) = headers.get(PASSWORD) else { return Ok(None) };
    let unreadable =
        || Error::invalid("X-Russet-Password cannot be read; percent-encode what is not ASCII, and %");
    let text = value.to_str().map_err(|_| unreadable())?;
    let text = percent_encoding::percent_decode_str(text).decode_utf8().map_err(|_| unreadable())?;
    Ok(Some(text.into_owned()))
}

pub(super) async fn delete(
    State(admin): State<Admin>,
    caller: Caller,
    Path(identifier): Path<String>,
    parameters: Parameters,
    condition: IfMatch,
) -> Result<StatusCode, Refusal> {
    let notify = !parameters.flag("nonotify")?;
    let done = admin.mdm.store.write("asset.delete", move |tx| {
        if !condition.holds(Some(&tag(&existing(tx, &identifier)?))) {
            return Ok(None);
        }
        delete_in(tx, &identifier, Edit { actor: &caller.actor, notify })?;
        Ok(Some(StatusCode::NO_CONTENT))
    });
    done.await?.ok_or_else(precondition::failed)
}
