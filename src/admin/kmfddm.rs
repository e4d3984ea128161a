//! The routes of KMFDDM under `/api/v1/ddm/`, so that its scripts work with only the URL changed:
//! declarations, sets, who is in which set, and `notify`. What devices reported is
//! [`super::kmfddm_status`]'s.
//!
//! A set of KMFDDM's is a group; it comes into being when something is put into it. Where something
//! changed the answer is 204, where nothing did 304. All changes take `?nonotify=1`.
//!
//! **Invariant:** nothing is decided here: these are adapters over the functions of the other files.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use plist::Dictionary;
use rusqlite::Connection;
use std::collections::BTreeSet;

use super::auth::Caller;
use super::declaration::Tagged;
use super::enrollment::existing;
use super::group::Part;
use super::precondition::{self, IfMatch};
use super::query::Parameters;
use super::reply::Refusal;
use super::{Admin, body, command, declaration, fleet, group};
use crate::ddm::declaration::{self as declarations, User};
use crate::ddm::group::{self as groups, DEFAULT};
use crate::ddm::plans;
use crate::ddm::{self, Edit};
use crate::error::{Error, Result};
use crate::mdm::{queue, subject, sync, wake};
use crate::schema::commands::Request;
use crate::storage::Tx;

/// How many channels are notified in one transaction.
const AT_ONCE: usize = 200;

fn answer(changed: bool) -> StatusCode {
    if changed { StatusCode::NO_CONTENT } else { StatusCode::NOT_MODIFIED }
}

pub(super) async fn declarations(State(admin): State<Admin>) -> Result<Json<Vec<String>>, Refusal> {
    let all = admin.mdm.store.read(|conn| declarations::list(conn, None, u32::MAX)).await?;
    Ok(Json(all.into_iter().map(|declaration| declaration.identifier).collect()))
}

/// Scripts send the body with whatever type their HTTP client says.
pub(super) async fn put_declaration(
    State(admin): State<Admin>,
    caller: Caller,
    parameters: Parameters,
    condition: IfMatch,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, [(HeaderName, HeaderValue); 1]), Refusal> {
    let (force, notify) = (parameters.flag("force")?, !parameters.flag("nonotify")?);
    let body = declaration::sent(body::json(&body::bytes(body)?)?);
    let put = admin.mdm.store.write("ddm.put_declaration", move |tx| {
        let known = declarations::get(tx, body["Identifier"].as_str().unwrap_or_default())?;
        if !condition.holds(known.as_ref().map(|known| known.server_token.as_str())) {
            return Ok(None);
        }
        declaration::put_in(tx, &body, force, Edit { actor: &caller.actor, notify }).map(Some)
    });
    let put = put.await?.ok_or_else(precondition::failed)?;
    Ok((answer(put.changed), precondition::header(&put.server_token)))
}

pub(super) async fn declaration(
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Tagged, Refusal> {
    let found = admin.mdm.store.peek(|conn| declaration::existing(conn, &id))?;
    Ok((precondition::header(&found.server_token), Json(found.body())))
}

pub(super) async fn delete_declaration(
    State(admin): State<Admin>,
    caller: Caller,
    Path(id): Path<String>,
    parameters: Parameters,
    condition: IfMatch,
) -> Result<StatusCode, Refusal> {
    let notify = !parameters.flag("nonotify")?;
    let deleted = admin.mdm.store.write("ddm.delete_declaration", move |tx| {
        let known = declarations::get(tx, &id)?;
        if !condition.holds(known.as_ref().map(|known| known.server_token.as_str())) {
            return Ok(None);
        }
        if known.is_some() {
            declaration::delete_in(tx, &id, Edit { actor: &caller.actor, notify })?;
        }
        Ok(Some(known.is_some()))
    });
    Ok(answer(deleted.await?.ok_or_else(precondition::failed)?))
}

pub(super) async fn touch(
    State(admin): State<Admin>,
    caller: Caller,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<StatusCode, Refusal> {
    let notify = !parameters.flag("nonotify")?;
    let touched = admin
        .mdm
        .store
        .write("ddm.touch", move |tx| declaration::touch_in(tx, &id, Edit { actor: &caller.actor, notify }));
    touched.await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn sets(State(admin): State<Admin>) -> Result<Json<Vec<String>>, Refusal> {
    let all = admin.mdm.store.read(groups::ranked).await?;
    let mut names: Vec<String> = all.into_iter().map(|group| group.name).collect();
    names.sort();
    Ok(Json(names))
}

pub(super) async fn set_declarations(
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Json<Vec<String>>, Refusal> {
    // A set of which nobody has heard is empty.
    let group = admin.mdm.store.peek(|conn| groups::get(conn, &id))?;
    Ok(Json(group.map(|group| group.declarations).unwrap_or_default()))
}

/// All that it is in, by hand, by a rule, or as everybody is.
pub(super) async fn enrollment_sets(
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Json<Vec<String>>, Refusal> {
    let found = admin.mdm.store.read(move |conn| {
        let subject = subject::of(conn, &id)?.ok_or_else(|| Error::NotFound("such enrollment".into()))?;
        let mut names = groups::groups_of(conn, &subject)?;
        names.push(DEFAULT.to_owned());
        names.sort();
        Ok(names)
    });
    Ok(Json(found.await?))
}

pub(super) async fn declaration_sets(
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Json<Vec<String>>, Refusal> {
    let users = admin.mdm.store.peek(|conn| declarations::users(conn, &id))?;
    let names = users.into_iter().filter_map(|user| match user {
        User::Group(name) => Some(name),
        User::Declaration(_) | User::AppSet(_) => None,
    });
    Ok(Json(names.collect()))
}

fn needed(parameters: &Parameters, name: &str) -> Result<String> {
    let text = parameters.text(name).map(str::to_owned);
    text.ok_or_else(|| Error::invalid(format!("the address needs ?{name}=")))
}

async fn change(
    admin: Admin,
    caller: Caller,
    set: String,
    (part, item): (Part, String),
    parameters: Parameters,
    add: bool,
) -> Result<StatusCode, Refusal> {
    let notify = !parameters.flag("nonotify")?;
    let changed = admin.mdm.store.write("ddm.change_set", move |tx| {
        let edit = Edit { actor: &caller.actor, notify };
        if matches!(part, Part::Member) {
            existing(tx, &item)?;
            if set == DEFAULT && add {
                // Everybody is in it.
                return Ok(false);
            }
            if set == DEFAULT {
                return Err(Error::conflict("every enrollment is in the set default and stays in it"));
            }
        }
        if add {
            groups::ensure(tx, &set)?;
        } else if groups::get(tx, &set)?.is_none() {
            return Ok(false);
        }
        group::change_in(tx, &set, part, &item, add, edit)
    });
    Ok(answer(changed.await?))
}

pub(super) async fn put_set_declaration(
    State(admin): State<Admin>,
    caller: Caller,
    Path(set): Path<String>,
    parameters: Parameters,
) -> Result<StatusCode, Refusal> {
    let item = (Part::Declaration, needed(&parameters, "declaration")?);
    change(admin, caller, set, item, parameters, true).await
}

pub(super) async fn delete_set_declaration(
    State(admin): State<Admin>,
    caller: Caller,
    Path(set): Path<String>,
    parameters: Parameters,
) -> Result<StatusCode, Refusal> {
    let item = (Part::Declaration, needed(&parameters, "declaration")?);
    change(admin, caller, set, item, parameters, false).await
}

pub(super) async fn put_enrollment_set(
    State(admin): State<Admin>,
    caller: Caller,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<StatusCode, Refusal> {
    let set = needed(&parameters, "set")?;
    change(admin, caller, set, (Part::Member, id), parameters, true).await
}

pub(super) async fn delete_enrollment_set(
    State(admin): State<Admin>,
    caller: Caller,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<StatusCode, Refusal> {
    let set = needed(&parameters, "set")?;
    change(admin, caller, set, (Part::Member, id), parameters, false).await
}

pub(super) async fn delete_enrollment_sets(
    State(admin): State<Admin>,
    caller: Caller,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<StatusCode, Refusal> {
    let notify = !parameters.flag("nonotify")?;
    let changed = admin.mdm.store.write("ddm.leave_sets", move |tx| {
        existing(tx, &id)?;
        let edit = Edit { actor: &caller.actor, notify };
        let mut changed = false;
        for set in groups::by_hand(tx, &id, &id)? {
            changed |= group::change_in(tx, &set, Part::Member, &id, false, edit)?;
        }
        Ok(changed)
    });
    Ok(answer(changed.await?))
}

/// `?id=`, `?set=` and `?declaration=`, each as often as one likes: whoever is named is told to
/// synchronise, whether or not there is news.
pub(super) async fn notify(
    State(admin): State<Admin>,
    caller: Caller,
    Query(named): Query<Vec<(String, String)>>,
) -> Result<StatusCode, Refusal> {
    let ids = admin.mdm.store.read(move |conn| concerned(conn, named)).await?;
    for batch in ids.chunks(AT_ONCE) {
        let (mdm, actor, batch) = (admin.mdm.clone(), caller.actor.clone(), batch.to_vec());
        let notified = admin
            .mdm
            .store
            .write("ddm.notify", move |tx| batch.iter().try_for_each(|id| notify_one(tx, &mdm, id, &actor)));
        notified.await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

fn concerned(conn: &Connection, named: Vec<(String, String)>) -> Result<Vec<String>> {
    let (mut ids, mut sets, mut identifiers) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (name, value) in named {
        match name.as_str() {
            "id" => ids.insert(value),
            "set" => sets.insert(value),
            "declaration" => identifiers.insert(value),
            _ => false,
        };
    }
    if sets.is_empty() && identifiers.is_empty() {
        return Ok(ids.into_iter().collect());
    }
    let (plan, ranked) = (plans::present(conn)?, groups::ranked(conn)?);
    let others = fleet::those(conn, |subject| {
        if groups::holding(conn, &ranked, subject)?.iter().any(|group| sets.contains(&group.name)) {
            return Ok(true);
        }
        if identifiers.is_empty() {
            return Ok(false);
        }
        let items = plan.manifest(conn, subject)?.items;
        Ok(items.iter().any(|item| identifiers.contains(&item.identifier)))
    })?;
    ids.extend(others.into_iter().map(|subject| subject.id));
    Ok(ids.into_iter().collect())
}

fn notify_one(tx: &Tx<'_>, mdm: &crate::mdm::Mdm, id: &str, actor: &str) -> Result<()> {
    // One that has left, or was never here, is passed over, as KMFDDM does.
    let Some(subject) = subject::of(tx, id)? else { return Ok(()) };
    if subject.held || subject.keys.get("state").is_none_or(|state| state != "enrolled") {
        return Ok(());
    }
    sync::refresh(tx, id)?;
    let outstanding = ddm::sync::find(tx, id)?.is_some_and(|sync| sync.is_outstanding());
    if outstanding || queue::has_open_sync(tx, id)? {
        return wake::due(tx, id);
    }
    let request = Request::new("DeclarativeManagement", Dictionary::new());
    command::enqueue(tx, mdm, id, &request, actor, None, false).map(drop)
}
