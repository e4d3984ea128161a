//! `GET /api/v1/app-sets`, `GET, PUT, DELETE /api/v1/app-sets/{name}`: declarations that are switched
//! together, by hand or at a set time.
//!
//! PUT replaces the whole: `{"description": "", "groups": [], "declarations": [], "active": null,
//! "active_from": null, "active_until": null}`. `active` decides if it is true or false, the times if it
//! is null. `?nonotify=1` pushes nobody.
//!
//! **Invariant:** what changes a set writes who did in the same transaction; what was read can be sent back.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use rusqlite::Connection;
use serde_json::{Value, json};

use super::auth::Caller;
use super::body::Object;
use super::declaration::Tagged;
use super::precondition::{self, IfMatch};
use super::query::{Parameters, page};
use super::reply::Refusal;
use super::{Admin, audit};
use crate::clock::{Seconds, parse_rfc3339, rfc3339};
use crate::ddm::Edit;
use crate::ddm::app_set::{self, AppSet, Put};
use crate::error::{Error, Result};
use crate::storage::Tx;

/// What GET adds to a set; PUT passes over it.
const ADDED: [&str; 4] = ["is_active", "next_change", "changed", "warnings"];

/// Reads a set; `name` is that of the address, if there is one.
pub(super) fn sent(mut body: Object, name: Option<String>) -> Result<AppSet> {
    let named = body.text("name")?;
    let name = match (name, named) {
        (Some(name), Some(named)) if named != name => {
            return Err(Error::invalid_at("/name", "the name is not the one in the address; leave it out"));
        }
        (Some(name), _) | (None, Some(name)) => name,
        (None, None) => return Err(Error::invalid_at("/name", "name is missing")),
    };
    let set = AppSet {
        name,
        description: body.text("description")?.unwrap_or_default(),
        groups: body.texts("groups")?.unwrap_or_default(),
        declarations: body.texts("declarations")?.unwrap_or_default(),
        active: body.boolean("active")?,
        active_from: time(&mut body, "active_from")?,
        active_until: time(&mut body, "active_until")?,
        is_active: false,
    };
    body.pass_over(&ADDED);
    body.finish()?;
    Ok(set)
}

fn time(body: &mut Object, name: &str) -> Result<Option<Seconds>> {
    let Some(text) = body.text(name)? else { return Ok(None) };
    parse_rfc3339(&text).map(Some).ok_or_else(|| {
        let words = format!("{name} must be a date and time with its offset, as 2026-12-01T08:00:00+01:00");
        Error::invalid_at(format!("/{name}"), words)
    })
}

/// The set of this name.
pub(super) fn existing(conn: &Connection, name: &str) -> Result<AppSet> {
    app_set::get(conn, name)?.ok_or_else(|| Error::NotFound(app_set::missing(name)))
}

/// As it is written.
pub(super) fn plain(set: &AppSet) -> Value {
    json!({
        "name": set.name,
        "description": set.description,
        "groups": set.groups,
        "declarations": set.declarations,
        "active": set.active,
        "active_from": set.active_from.map(rfc3339),
        "active_until": set.active_until.map(rfc3339),
    })
}

/// With what it comes to now.
fn shown(set: &AppSet, now: Seconds) -> Value {
    let mut shown = plain(set);
    shown["is_active"] = set.is_active.into();
    shown["next_change"] = set.next_change(now).map(rfc3339).into();
    shown
}

fn tag(set: &AppSet) -> String {
    precondition::tag(&plain(set))
}

/// Keeps a set, and writes down who did.
///
/// # Errors
/// As [`app_set::put`].
pub(super) fn put_in(tx: &Tx<'_>, set: &AppSet, edit: Edit<'_>) -> Result<Put> {
    let put = app_set::put(tx, set, edit)?;
    if put.changed {
        let mut detail = plain(set);
        detail["notify"] = edit.notify.into();
        audit::record(tx, edit.actor, "app-set.put", &set.name, &detail)?;
    }
    Ok(put)
}

/// PUT replaces the whole, which is not what everybody expects who sends a part.
fn emptied(before: &AppSet, after: &AppSet) -> Option<String> {
    let mut lost = Vec::new();
    for (what, before, after) in [
        ("groups", &before.groups, &after.groups),
        ("declarations", &before.declarations, &after.declarations),
    ] {
        if !before.is_empty() && after.is_empty() {
            lost.push(format!("its {} {what}", before.len()));
        }
    }
    (!lost.is_empty()).then(|| {
        let lost = lost.join(" and ");
        format!("PUT replaces the whole: the app set lost {lost}. Send what is to stay, too.")
    })
}

/// Removes a set, and writes down who did.
///
/// # Errors
/// `NotFound`.
pub(super) fn delete_in(tx: &Tx<'_>, name: &str, edit: Edit<'_>) -> Result<()> {
    app_set::delete(tx, name, edit)?;
    audit::record(tx, edit.actor, "app-set.delete", name, &json!({"notify": edit.notify}))
}

pub(super) async fn list(State(admin): State<Admin>, parameters: Parameters) -> Result<Json<Value>, Refusal> {
    let (limit, cursor) = (parameters.limit()?, parameters.cursor::<String>()?);
    let now = admin.now();
    let found = admin.mdm.store.read(move |conn| app_set::list(conn, cursor.as_deref(), limit + 1));
    let items = found.await?.into_iter().map(|set| (set.name.clone(), shown(&set, now))).collect();
    Ok(Json(page(items, limit)))
}

pub(super) async fn show(State(admin): State<Admin>, Path(name): Path<String>) -> Result<Tagged, Refusal> {
    let set = admin.mdm.store.peek(|conn| existing(conn, &name))?;
    Ok((precondition::header(&tag(&set)), Json(shown(&set, admin.now()))))
}

pub(super) async fn put(
    State(admin): State<Admin>,
    caller: Caller,
    Path(name): Path<String>,
    parameters: Parameters,
    condition: IfMatch,
    body: Object,
) -> Result<(StatusCode, [(HeaderName, HeaderValue); 1], Json<Value>), Refusal> {
    let notify = !parameters.flag("nonotify")?;
    let set = sent(body, Some(name))?;
    let done = admin.mdm.store.write("app-set.put", move |tx| {
        let known = app_set::get(tx, &set.name)?;
        if !condition.holds(known.as_ref().map(tag).as_deref()) {
            return Ok(None);
        }
        let mut put = put_in(tx, &set, Edit { actor: &caller.actor, notify })?;
        put.warnings.extend(known.as_ref().and_then(|known| emptied(known, &set)));
        let set = existing(tx, &set.name)?;
        let mut shown = shown(&set, tx.now());
        shown["changed"] = put.changed.into();
        shown["warnings"] = put.warnings.into();
        let status = if put.created { StatusCode::CREATED } else { StatusCode::OK };
        Ok(Some((status, precondition::header(&tag(&set)), Json(shown))))
    });
    done.await?.ok_or_else(precondition::failed)
}

pub(super) async fn delete(
    State(admin): State<Admin>,
    caller: Caller,
    Path(name): Path<String>,
    parameters: Parameters,
    condition: IfMatch,
) -> Result<StatusCode, Refusal> {
    let notify = !parameters.flag("nonotify")?;
    let done = admin.mdm.store.write("app-set.delete", move |tx| {
        if !condition.holds(Some(&tag(&existing(tx, &name)?))) {
            return Ok(None);
        }
        delete_in(tx, &name, Edit { actor: &caller.actor, notify })?;
        Ok(Some(StatusCode::NO_CONTENT))
    });
    done.await?.ok_or_else(precondition::failed)
}
