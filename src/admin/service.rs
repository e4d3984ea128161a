//! `GET /api/v1/services`, `GET /api/v1/service-configurations`, `GET, PUT, DELETE …/{identifier}`:
//! configuration files of services of macOS.
//!
//! PUT takes `{"service": "com.apple.sshd", "files": {"etc/ssh/sshd_config": "…"}}` and makes the archive,
//! its asset and the configuration; what goes to a group is the configuration.
//!
//! **Invariant:** archive, declarations and audit are written in one transaction, or none of them.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::auth::{Caller, Scope};
use super::body::Object;
use super::declaration::Tagged;
use super::precondition::{self, IfMatch};
use super::query::{Parameters, page};
use super::reply::Refusal;
use super::{Admin, audit};
use crate::content::Contents;
use crate::ddm::Edit;
use crate::error::{Error, Result};
use crate::library::services::{self, Checked, Put};
use crate::schema::services::SERVICES;
use crate::storage::Tx;

/// What GET adds to a service configuration; PUT passes over it.
const ADDED: [&str; 6] = ["archive", "updated_at", "updated_by", "hidden", "changed", "warnings"];

/// A service configuration as it was sent, and fit to be kept.
pub(super) struct Sent {
    pub(super) identifier: String,
    checked: Checked,
}

/// Reads one; `identifier` is that of the address, if there is one.
///
/// # Errors
/// `Invalid` with a pointer.
pub(super) fn sent(
    contents: &Contents,
    mut body: Object,
    identifier: Option<String>,
    force: bool,
) -> Result<Sent> {
    let identifier = identified(&mut body, identifier)?;
    let service = body.needed_text("service")?;
    let files = body.object("files")?.unwrap_or_default();
    body.pass_over(&ADDED);
    body.finish()?;
    Ok(Sent { identifier, checked: services::prepare(contents, &service, &files, force)? })
}

/// The identifier of the body and that of the address, which must not contradict each other.
pub(super) fn identified(body: &mut Object, address: Option<String>) -> Result<String> {
    match (address, body.text("identifier")?) {
        (Some(address), Some(named)) if named != address => Err(Error::invalid_at(
            "/identifier",
            "the identifier is not the one in the address; leave it out",
        )),
        (Some(name), _) | (None, Some(name)) => Ok(name),
        (None, None) => Err(Error::invalid_at("/identifier", "identifier is missing")),
    }
}

/// Keeps one, and writes down who did.
///
/// # Errors
/// As [`services::put`].
pub(super) fn put_in(tx: &Tx<'_>, contents: &Contents, sent: &Sent, edit: Edit<'_>) -> Result<Put> {
    let put = services::put(tx, contents, &sent.identifier, &sent.checked, edit)?;
    if put.changed {
        let shown = existing(tx, contents, &sent.identifier)?;
        let files: Vec<&String> =
            shown["files"].as_object().into_iter().flat_map(|files| files.keys()).collect();
        let detail = json!({
            "service": shown["service"],
            "files": files,
            "sha256": shown["archive"]["sha256"],
            "notify": edit.notify,
        });
        audit::record(tx, edit.actor, "service-configuration.put", &sent.identifier, &detail)?;
    }
    Ok(put)
}

/// Removes one, and writes down who did.
///
/// # Errors
/// As [`services::delete`].
pub(super) fn delete_in(tx: &Tx<'_>, contents: &Contents, identifier: &str, edit: Edit<'_>) -> Result<()> {
    services::delete(tx, contents, identifier, edit)?;
    audit::record(tx, edit.actor, "service-configuration.delete", identifier, &json!({"notify": edit.notify}))
}

/// The service configuration of this identifier.
pub(super) fn existing(conn: &Connection, contents: &Contents, identifier: &str) -> Result<Value> {
    services::get(conn, contents, identifier)?
        .ok_or_else(|| Error::NotFound("such service configuration".into()))
}

/// The services that Apple names.
pub(super) async fn services(parameters: Parameters) -> Result<Json<Value>, Refusal> {
    let (limit, after) = (parameters.limit()?, parameters.cursor::<String>()?.unwrap_or_default());
    let mut services: Vec<_> = SERVICES.iter().filter(|service| *service.service_type > *after).collect();
    services.sort_by_key(|service| service.service_type);
    let one = |service: &crate::schema::services::Service| {
        let shown = json!({
            "service": service.service_type,
            "name": service.name,
            "words": service.words,
            "files": service.reads,
            "main": service.main,
        });
        (service.service_type, shown)
    };
    Ok(Json(page(services.into_iter().map(one).collect(), limit)))
}

pub(super) async fn list(State(admin): State<Admin>, parameters: Parameters) -> Result<Json<Value>, Refusal> {
    let (limit, cursor) = (parameters.limit()?, parameters.cursor::<String>()?);
    let contents = admin.mdm.contents.clone();
    let read = move |conn: &Connection| services::list(conn, &contents, cursor.as_deref(), limit + 1);
    Ok(Json(page(admin.mdm.store.read(read).await?, limit)))
}

pub(super) async fn show(
    State(admin): State<Admin>,
    caller: Caller,
    Path(identifier): Path<String>,
) -> Result<Tagged, Refusal> {
    let contents = admin.mdm.contents.clone();
    let shown = admin.mdm.store.read(move |conn| existing(conn, &contents, &identifier)).await?;
    let tag = precondition::header(&precondition::tag(&shown));
    Ok((tag, Json(without_contents(&caller, shown))))
}

/// What lies in assets is for administrators alone.
pub(super) fn without_contents(caller: &Caller, mut shown: Value) -> Value {
    if caller.scope < Scope::Admin {
        for content in shown["files"].as_object_mut().into_iter().flat_map(|files| files.values_mut()) {
            *content = Value::Null;
        }
        shown["hidden"] = json!(["files"]);
    }
    shown
}

pub(super) async fn put(
    State(admin): State<Admin>,
    caller: Caller,
    Path(identifier): Path<String>,
    parameters: Parameters,
    condition: IfMatch,
    body: Object,
) -> Result<(StatusCode, Tagged), Refusal> {
    let (force, notify) = (parameters.flag("force")?, !parameters.flag("nonotify")?);
    let contents = admin.mdm.contents.clone();
    let sent = sent(&contents, body, Some(identifier), force)?;
    let done = admin.mdm.store.write("service-configuration.put", move |tx| {
        let known = services::get(tx, &contents, &sent.identifier)?;
        if !condition.holds(known.as_ref().map(precondition::tag).as_deref()) {
            return Ok(None);
        }
        let put = put_in(tx, &contents, &sent, Edit { actor: &caller.actor, notify })?;
        Ok(Some(answer(put.created, put.changed, put.warnings, existing(tx, &contents, &sent.identifier)?)))
    });
    done.await?.ok_or_else(precondition::failed)
}

/// What a PUT is answered.
pub(super) fn answer(
    created: bool,
    changed: bool,
    warnings: Vec<String>,
    mut shown: Value,
) -> (StatusCode, Tagged) {
    let tag = precondition::header(&precondition::tag(&shown));
    shown["changed"] = changed.into();
    shown["warnings"] = warnings.into();
    (if created { StatusCode::CREATED } else { StatusCode::OK }, (tag, Json(shown)))
}

pub(super) async fn delete(
    State(admin): State<Admin>,
    caller: Caller,
    Path(identifier): Path<String>,
    parameters: Parameters,
    condition: IfMatch,
) -> Result<StatusCode, Refusal> {
    let notify = !parameters.flag("nonotify")?;
    let contents = admin.mdm.contents.clone();
    let done = admin.mdm.store.write("service-configuration.delete", move |tx| {
        if !condition.holds(Some(&precondition::tag(&existing(tx, &contents, &identifier)?))) {
            return Ok(None);
        }
        delete_in(tx, &contents, &identifier, Edit { actor: &caller.actor, notify })?;
        Ok(Some(StatusCode::NO_CONTENT))
    });
    done.await?.ok_or_else(precondition::failed)
}
