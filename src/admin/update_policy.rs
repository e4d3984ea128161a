//! `GET /api/v1/update-policies`, `GET, PUT, DELETE /api/v1/update-policies/{group}`: to which version
//! the devices of a group are updated, and by when.
//!
//! PUT replaces the whole; `?nonotify=1` pushes nobody. What becomes of it is `…/updates`.
//!
//! **Invariant:** what was read can be sent back.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use rusqlite::Connection;
use serde_json::{Map, Value, json};

use super::auth::Caller;
use super::body::Whole;
use super::declaration::Tagged;
use super::precondition::{self, IfMatch};
use super::query::{Parameters, page};
use super::reply::Refusal;
use super::{Admin, audit};
use crate::clock::rfc3339;
use crate::ddm::Edit;
use crate::ddm::update::policy::{self, Kept, Policy, Put};
use crate::error::{Error, Result};
use crate::storage::Tx;

/// What GET adds to a policy; PUT passes over it.
const ADDED: [&str; 5] = ["created_at", "updated_at", "updated_by", "changed", "warnings"];

/// Reads a policy; `group` is that of the address, if there is one.
///
/// # Errors
/// As [`policy::check`].
pub(super) fn sent(body: Value, group: Option<&str>) -> Result<Policy> {
    let Value::Object(mut said) = body else {
        return Err(Error::invalid_at("", "an update policy must be a JSON object"));
    };
    for name in ADDED {
        said.shift_remove(name);
    }
    let group = match (group, said.shift_remove("group")) {
        (Some(group), None | Some(Value::Null)) => group.to_owned(),
        (Some(group), Some(Value::String(named))) if named == group => named,
        (Some(_), Some(_)) => {
            let words = "the group is not the one in the address; leave it out";
            return Err(Error::invalid_at("/group", words));
        }
        (None, Some(Value::String(named))) => named,
        (None, _) => return Err(Error::invalid_at("/group", "group is missing")),
    };
    policy::check(&group, &said)
}

/// A policy as it is kept in a file.
pub(super) fn plain(policy: &Policy) -> Value {
    let mut shown = Map::new();
    shown.insert("group".into(), policy.group.as_str().into());
    shown.extend(policy.said.clone());
    Value::Object(shown)
}

fn shown(kept: &Kept) -> Value {
    let mut shown = plain(&kept.policy);
    shown["created_at"] = rfc3339(kept.created_at).into();
    shown["updated_at"] = rfc3339(kept.updated_at).into();
    shown["updated_by"] = kept.updated_by.as_str().into();
    shown
}

fn tag(kept: &Kept) -> String {
    precondition::tag(&plain(&kept.policy))
}

/// The policy of this group.
pub(super) fn existing(conn: &Connection, group: &str) -> Result<Kept> {
    policy::get(conn, group)?.ok_or_else(|| Error::NotFound("update policy of such a group".into()))
}

/// Keeps a policy, and writes down who did.
///
/// # Errors
/// As [`policy::put`].
pub(super) fn put_in(tx: &Tx<'_>, policy: &Policy, edit: Edit<'_>) -> Result<Put> {
    let put = policy::put(tx, policy, edit)?;
    if put.changed {
        let detail = json!({
            "enforce": policy.said.get("enforce"),
            "enforce_on": policy.said.get("enforce_on"),
            "members": policy.said.keys().collect::<Vec<_>>(),
            "notify": edit.notify,
        });
        audit::record(tx, edit.actor, "update-policy.put", &policy.group, &detail)?;
    }
    Ok(put)
}

/// Removes a policy, and writes down who did.
///
/// # Errors
/// As [`policy::delete`].
pub(super) fn delete_in(tx: &Tx<'_>, group: &str, edit: Edit<'_>) -> Result<()> {
    policy::delete(tx, group, edit)?;
    audit::record(tx, edit.actor, "update-policy.delete", group, &json!({"notify": edit.notify}))
}

pub(super) async fn list(State(admin): State<Admin>, parameters: Parameters) -> Result<Json<Value>, Refusal> {
    let (limit, cursor) = (parameters.limit()?, parameters.cursor::<String>()?);
    let found = admin.mdm.store.read(move |conn| {
        let kept = policy::list(conn, cursor.as_deref(), limit + 1)?;
        Ok(kept.iter().map(|kept| (kept.policy.group.clone(), shown(kept))).collect())
    });
    Ok(Json(page(found.await?, limit)))
}

pub(super) async fn show(State(admin): State<Admin>, Path(group): Path<String>) -> Result<Tagged, Refusal> {
    let kept = admin.mdm.store.peek(|conn| existing(conn, &group))?;
    Ok((precondition::header(&tag(&kept)), Json(shown(&kept))))
}

pub(super) async fn put(
    State(admin): State<Admin>,
    caller: Caller,
    Path(group): Path<String>,
    parameters: Parameters,
    condition: IfMatch,
    Whole(body): Whole,
) -> Result<(StatusCode, [(HeaderName, HeaderValue); 1], Json<Value>), Refusal> {
    let notify = !parameters.flag("nonotify")?;
    let policy = sent(body, Some(&group))?;
    let done = admin.mdm.store.write("update_policy.put", move |tx| {
        let known = policy::get(tx, &group)?;
        if !condition.holds(known.as_ref().map(tag).as_deref()) {
            return Ok(None);
        }
        let put = put_in(tx, &policy, Edit { actor: &caller.actor, notify })?;
        Ok(Some((known.is_none(), put, existing(tx, &group)?)))
    });
    let (is_new, put, kept) = done.await?.ok_or_else(precondition::failed)?;
    let mut shown = shown(&kept);
    shown["changed"] = put.changed.into();
    shown["warnings"] = put.warnings.into();
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, precondition::header(&tag(&kept)), Json(shown)))
}

pub(super) async fn delete(
    State(admin): State<Admin>,
    caller: Caller,
    Path(group): Path<String>,
    parameters: Parameters,
    condition: IfMatch,
) -> Result<StatusCode, Refusal> {
    let notify = !parameters.flag("nonotify")?;
    let done = admin.mdm.store.write("update_policy.delete", move |tx| {
        if !condition.holds(Some(&tag(&existing(tx, &group)?))) {
            return Ok(None);
        }
        delete_in(tx, &group, Edit { actor: &caller.actor, notify })?;
        Ok(Some(StatusCode::NO_CONTENT))
    });
    done.await?.ok_or_else(precondition::failed)
}
