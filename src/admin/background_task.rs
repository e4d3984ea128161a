//! `GET /api/v1/background-tasks`, `GET, PUT, DELETE …/{identifier}`: what Macs run in the background.
//!
//! PUT takes `{"task_type", "description", "executable", "launchd": [{"context", "plist"}]}`;
//! `executable` is the identifier of an asset whose zip archive was uploaded before, `plist` is XML or
//! JSON.
//!
//! **Invariant:** property lists, declarations and audit are written in one transaction, or none of them.

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
use super::service::{answer, identified};
use super::{Admin, audit};
use crate::content::Contents;
use crate::ddm::Edit;
use crate::error::{Error, Result};
use crate::library::services::Put;
use crate::library::services::background_task::{self, Checked};
use crate::storage::Tx;

/// What GET adds to a background task; PUT passes over it.
const ADDED: [&str; 5] = ["updated_at", "updated_by", "hidden", "changed", "warnings"];

/// A background task as it was sent, and fit to be kept.
pub(super) struct Sent {
    pub(super) identifier: String,
    checked: Checked,
}

/// Reads one; `identifier` is that of the address, if there is one.
///
/// # Errors
/// `Invalid` with a pointer.
pub(super) fn sent(contents: &Contents, mut body: Object, identifier: Option<String>) -> Result<Sent> {
    let identifier = identified(&mut body, identifier)?;
    let sent = background_task::Sent {
        task_type: body.needed_text("task_type")?,
        description: body.text("description")?,
        executable: body.text("executable")?,
        launchd: body.list("launchd")?.unwrap_or_default(),
    };
    body.pass_over(&ADDED);
    body.finish()?;
    Ok(Sent { identifier, checked: background_task::prepare(contents, sent)? })
}

/// Keeps one, and writes down who did.
///
/// # Errors
/// As [`background_task::put`].
pub(super) fn put_in(tx: &Tx<'_>, contents: &Contents, sent: &Sent, edit: Edit<'_>) -> Result<Put> {
    let put = background_task::put(tx, contents, &sent.identifier, &sent.checked, edit)?;
    if put.changed {
        let shown = existing(tx, contents, &sent.identifier)?;
        let detail = json!({
            "task_type": shown["task_type"],
            "executable": shown["executable"],
            "launchd": shown["launchd"].as_array().map(Vec::len),
            "notify": edit.notify,
        });
        audit::record(tx, edit.actor, "background-task.put", &sent.identifier, &detail)?;
    }
    Ok(put)
}

/// Removes one, and writes down who did.
///
/// # Errors
/// As [`background_task::delete`].
pub(super) fn delete_in(tx: &Tx<'_>, contents: &Contents, identifier: &str, edit: Edit<'_>) -> Result<()> {
    background_task::delete(tx, contents, identifier, edit)?;
    audit::record(tx, edit.actor, "background-task.delete", identifier, &json!({"notify": edit.notify}))
}

/// The background task of this identifier.
pub(super) fn existing(conn: &Connection, contents: &Contents, identifier: &str) -> Result<Value> {
    background_task::get(conn, contents, identifier)?
        .ok_or_else(|| Error::NotFound("such background task".into()))
}

pub(super) async fn list(State(admin): State<Admin>, parameters: Parameters) -> Result<Json<Value>, Refusal> {
    let (limit, cursor) = (parameters.limit()?, parameters.cursor::<String>()?);
    let contents = admin.mdm.contents.clone();
    let read = move |conn: &Connection| {
        let mut items = background_task::list(conn, &contents, cursor.as_deref(), limit + 1)?;
        // Of many, whoever wants to see the property lists looks at one of them.
        for (_, shown) in &mut items {
            hide(shown);
        }
        Ok(items)
    };
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
        hide(&mut shown);
    }
    shown
}

fn hide(shown: &mut Value) {
    for one in shown["launchd"].as_array_mut().into_iter().flatten() {
        one["plist"] = Value::Null;
    }
    shown["hidden"] = json!(["plist"]);
}

pub(super) async fn put(
    State(admin): State<Admin>,
    caller: Caller,
    Path(identifier): Path<String>,
    parameters: Parameters,
    condition: IfMatch,
    body: Object,
) -> Result<(StatusCode, Tagged), Refusal> {
    let notify = !parameters.flag("nonotify")?;
    let contents = admin.mdm.contents.clone();
    let sent = sent(&contents, body, Some(identifier))?;
    let done = admin.mdm.store.write("background-task.put", move |tx| {
        let known = background_task::get(tx, &contents, &sent.identifier)?;
        if !condition.holds(known.as_ref().map(precondition::tag).as_deref()) {
            return Ok(None);
        }
        let put = put_in(tx, &contents, &sent, Edit { actor: &caller.actor, notify })?;
        Ok(Some(answer(put.created, put.changed, put.warnings, existing(tx, &contents, &sent.identifier)?)))
    });
    done.await?.ok_or_else(precondition::failed)
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
    let done = admin.mdm.store.write("background-task.delete", move |tx| {
        if !condition.holds(Some(&precondition::tag(&existing(tx, &contents, &identifier)?))) {
            return Ok(None);
        }
        delete_in(tx, &contents, &identifier, Edit { actor: &caller.actor, notify })?;
        Ok(Some(StatusCode::NO_CONTENT))
    });
    done.await?.ok_or_else(precondition::failed)
}
