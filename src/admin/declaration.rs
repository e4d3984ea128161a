//! `GET /api/v1/declarations`, `GET, PUT, DELETE /api/v1/declarations/{identifier}`, `POST …/touch`.
//!
//! PUT takes a declaration as Apple writes it, checked against Apple's schema; `?force=1` lets through
//! what Apple may have added since, `?nonotify=1` pushes nobody. Where it would be active is
//! [`super::preview`]'s.
//!
//! **Invariant:** what changes a declaration writes who did in the same transaction; what was read can
//! be sent back.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use rusqlite::Connection;
use serde_json::{Value, json};

use super::auth::Caller;
use super::body::Whole;
use super::precondition::{self, IfMatch};
use super::query::{Parameters, page};
use super::reply::Refusal;
use super::{Admin, audit, takeover};
use crate::clock::rfc3339;
use crate::ddm::Edit;
use crate::ddm::declaration::{self, Declaration, Put, User};
use crate::ddm::{exposed, served};
use crate::error::{Error, Result};
use crate::library::{asset, profile};
use crate::schema::declarations::check;
use crate::storage::Tx;

/// What GET adds to a declaration; PUT passes over it.
const ADDED: [&str; 8] =
    ["kind", "forced", "created_at", "updated_at", "updated_by", "users", "changed", "warnings"];
/// How many are read at once for a list, and how many bytes a page of it may have.
const AT_ONCE: u32 = 10;
const PAGE_BYTES: usize = 4 * 1024 * 1024;

pub(super) type Tagged = ([(HeaderName, HeaderValue); 1], Json<Value>);

/// The declaration of this identifier.
pub(super) fn existing(conn: &Connection, identifier: &str) -> Result<Declaration> {
    declaration::get(conn, identifier)?.ok_or_else(|| Error::NotFound(declaration::missing(identifier)))
}

/// As the API shows it: as a device gets it, and what is known of it beside.
fn shown(conn: &Connection, declaration: &Declaration) -> Result<Value> {
    let mut shown = declaration.body();
    shown["kind"] = declaration.kind.name().into();
    shown["forced"] = declaration.forced.into();
    shown["created_at"] = rfc3339(declaration.created_at).into();
    shown["updated_at"] = rfc3339(declaration.updated_at).into();
    shown["updated_by"] = declaration.updated_by.as_str().into();
    shown["users"] = users_json(declaration::users(conn, &declaration.identifier)?);
    Ok(shown)
}

/// Who uses something, as the API shows it.
pub(super) fn users_json(users: Vec<User>) -> Value {
    let user = |user| match user {
        User::Declaration(identifier) => json!({"declaration": identifier}),
        User::Group(name) => json!({"group": name}),
        User::AppSet(name) => json!({"app_set": name}),
    };
    users.into_iter().map(user).collect()
}

/// What was sent, without what only GET adds.
pub(super) fn sent(mut body: Value) -> Value {
    if let Value::Object(members) = &mut body {
        for name in ADDED {
            members.shift_remove(name);
        }
    }
    body
}

/// Checks and keeps a declaration, and writes down who did.
///
/// # Errors
/// As [`check`] and [`declaration::put`].
pub(super) fn put_in(tx: &Tx<'_>, body: &Value, force: bool, edit: Edit<'_>) -> Result<Put> {
    let checked = check(body, force)?;
    let put = declaration::put(tx, &checked, force, edit)?;
    asset::follow(tx, &checked.identifier)?;
    if put.changed {
        let detail = json!({
            "type": checked.declaration_type,
            "server_token": put.server_token,
            "forced": force,
            "notify": edit.notify,
        });
        audit::record(tx, edit.actor, "declaration.put", &checked.identifier, &detail)?;
    }
    Ok(put)
}

/// What the writer of a declaration should know of who gets it.
///
/// # Errors
/// The database's.
pub(super) fn exposed(conn: &Connection, identifier: &str) -> Result<Vec<String>> {
    exposed::of_declaration(conn, identifier, &|name| profile::has_secrets(conn, name))
}

/// Removes a declaration that nobody uses, and writes down who did.
///
/// # Errors
/// As [`declaration::delete`].
pub(super) fn delete_in(tx: &Tx<'_>, identifier: &str, edit: Edit<'_>) -> Result<()> {
    declaration::delete(tx, identifier, edit)?;
    asset::follow(tx, identifier)?;
    audit::record(tx, edit.actor, "declaration.delete", identifier, &json!({"notify": edit.notify}))
}

/// Gives a declaration a new ServerToken, and writes down who did.
///
/// # Errors
/// `NotFound`.
pub(super) fn touch_in(tx: &Tx<'_>, identifier: &str, edit: Edit<'_>) -> Result<()> {
    let token = declaration::touch(tx, identifier, edit)?;
    let detail = json!({"server_token": token, "notify": edit.notify});
    audit::record(tx, edit.actor, "declaration.touch", identifier, &detail)
}

pub(super) async fn list(State(admin): State<Admin>, parameters: Parameters) -> Result<Json<Value>, Refusal> {
    let (limit, cursor) = (parameters.limit()?, parameters.cursor::<String>()?);
    let found = admin.mdm.store.read(move |conn| {
        let (mut items, mut bytes, mut after) = (Vec::new(), 0, cursor);
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        loop {
            let batch = declaration::list(conn, after.as_deref(), AT_ONCE)?;
            let Some(last) = batch.last() else { return Ok((items, limit)) };
            after = Some(last.identifier.clone());
            for declaration in batch {
                if items.len() > most {
                    return Ok((items, limit));
                }
                if bytes > PAGE_BYTES {
                    // Where they are large, a page has fewer than were asked for.
                    let full = u32::try_from(items.len()).unwrap_or(limit);
                    items.push((declaration.identifier, Value::Null));
                    return Ok((items, full));
                }
                let shown = shown(conn, &declaration)?;
                bytes += shown.to_string().len();
                items.push((declaration.identifier, shown));
            }
        }
    });
    let (items, limit) = found.await?;
    Ok(Json(page(items, limit)))
}

fn tagged(conn: &Connection, declaration: &Declaration) -> Result<(String, Value)> {
    Ok((declaration.server_token.clone(), shown(conn, declaration)?))
}

pub(super) async fn show(
    State(admin): State<Admin>,
    Path(identifier): Path<String>,
) -> Result<Tagged, Refusal> {
    let (tag, shown) = admin.mdm.store.peek(|conn| tagged(conn, &existing(conn, &identifier)?))?;
    Ok((precondition::header(&tag), Json(shown)))
}

pub(super) async fn put(
    State(admin): State<Admin>,
    caller: Caller,
    Path(identifier): Path<String>,
    parameters: Parameters,
    condition: IfMatch,
    Whole(body): Whole,
) -> Result<(StatusCode, [(HeaderName, HeaderValue); 1], Json<Value>), Refusal> {
    let (force, notify) = (parameters.flag("force")?, !parameters.flag("nonotify")?);
    let body = sent(body);
    if body.is_object() && body["Identifier"].is_null() {
        let words = "Identifier is missing; write the one in the address.";
        let refused = Error::invalid_at("/Identifier", words);
        return Err(refused.suggesting(json!(identifier).to_string()).into());
    }
    if body["Identifier"].as_str().is_some_and(|named| named != identifier) {
        let words = "The Identifier is not the one in the address; make them the same.";
        return Err(Error::invalid_at("/Identifier", words).into());
    }
    let done = admin.mdm.store.write("declaration.put", move |tx| {
        let known = declaration::get(tx, &identifier)?;
        if !condition.holds(known.as_ref().map(|known| known.server_token.as_str())) {
            return Ok(None);
        }
        let mut put = put_in(tx, &body, force, Edit { actor: &caller.actor, notify })?;
        put.warnings.extend(exposed(tx, &identifier)?);
        let (tag, mut shown) = tagged(tx, &existing(tx, &identifier)?)?;
        shown["changed"] = put.changed.into();
        let mut shapes = Vec::new();
        if put.changed {
            for name in served::profiles_of(tx, &identifier)? {
                shapes.extend(profile::get(tx, &name)?.iter().map(takeover::Shape::from));
            }
        }
        let status = if known.is_none() { StatusCode::CREATED } else { StatusCode::OK };
        Ok(Some((status, precondition::header(&tag), shown, put.warnings, shapes)))
    });
    let (status, tag, mut shown, mut warnings, shapes) = done.await?.ok_or_else(precondition::failed)?;
    warnings.extend(takeover::warnings(&admin, shapes).await?);
    shown["warnings"] = warnings.into();
    Ok((status, tag, Json(shown)))
}

pub(super) async fn delete(
    State(admin): State<Admin>,
    caller: Caller,
    Path(identifier): Path<String>,
    parameters: Parameters,
    condition: IfMatch,
) -> Result<StatusCode, Refusal> {
    let notify = !parameters.flag("nonotify")?;
    let done = admin.mdm.store.write("declaration.delete", move |tx| {
        if !condition.holds(Some(&existing(tx, &identifier)?.server_token)) {
            return Ok(None);
        }
        delete_in(tx, &identifier, Edit { actor: &caller.actor, notify })?;
        Ok(Some(StatusCode::NO_CONTENT))
    });
    done.await?.ok_or_else(precondition::failed)
}

pub(super) async fn touch(
    State(admin): State<Admin>,
    caller: Caller,
    Path(identifier): Path<String>,
    parameters: Parameters,
    condition: IfMatch,
) -> Result<Tagged, Refusal> {
    let notify = !parameters.flag("nonotify")?;
    let done = admin.mdm.store.write("declaration.touch", move |tx| {
        if !condition.holds(Some(&existing(tx, &identifier)?.server_token)) {
            return Ok(None);
        }
        touch_in(tx, &identifier, Edit { actor: &caller.actor, notify })?;
        tagged(tx, &existing(tx, &identifier)?).map(Some)
    });
    let (tag, shown) = done.await?.ok_or_else(precondition::failed)?;
    Ok((precondition::header(&tag), Json(shown)))
}
