//! `GET /api/v1/groups`, `GET, PUT, DELETE /api/v1/groups/{name}`, `PUT, DELETE …/members/{id}`,
//! `PUT, DELETE …/declarations/{identifier}`: who should have what.
//!
//! PUT replaces the whole. `?nonotify=1` pushes nobody.
//!
//! **Invariant:** `members` are those by hand; whom the rule makes a member stands in `members_by_rule`
//! and is never written.

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
use super::{Admin, audit, enrollment, fleet};
use crate::ddm::group::{self, DEFAULT, Group, ORDER};
use crate::ddm::predicate::Truth;
use crate::ddm::{Edit, exposed, membership, reads};
use crate::error::{Error, Result};
use crate::id::printable;
use crate::library::profile;
use crate::mdm::enrollment::find;
use crate::storage::Tx;

/// The order of the group of everybody, of which nobody says it: whatever another group says wins.
const ORDER_OF_DEFAULT: i64 = 1000;
/// How many are read at once for a list, and how many bytes a page of it may have.
const AT_ONCE: u32 = 5;
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// A group as it was sent.
pub(super) struct Sent {
    pub(super) group: Group,
    /// Its members were said, even if there are none.
    pub(super) has_members: bool,
}

/// Reads a group; `name` is that of the address, if there is one.
pub(super) fn sent(mut body: Object, name: Option<String>) -> Result<Sent> {
    let named = body.text("name")?;
    let name = match (name, named) {
        (Some(name), Some(named)) if named != name => {
            return Err(Error::invalid_at("/name", "the name is not the one in the address; leave it out"));
        }
        (Some(name), _) | (None, Some(name)) => name,
        (None, None) => return Err(Error::invalid_at("/name", "name is missing")),
    };
    let order = if name == DEFAULT { ORDER_OF_DEFAULT } else { ORDER };
    let members = body.texts("members")?;
    let sent = Sent {
        has_members: members.is_some(),
        group: Group {
            name,
            description: body.text("description")?.unwrap_or_default(),
            order: body.integer("order")?.unwrap_or(order),
            rule: body.text("rule")?,
            predicate: body.text("predicate")?,
            members: members.unwrap_or_default(),
            declarations: body.texts("declarations")?.unwrap_or_default(),
            tags: body.texts("tags")?.unwrap_or_default(),
        },
    };
    body.pass_over(&["members_by_rule", "changed", "warnings"]);
    body.finish()?;
    Ok(sent)
}

/// The group of this name.
pub(super) fn existing(conn: &Connection, name: &str) -> Result<Group> {
    group::get(conn, name)?.ok_or_else(|| Error::NotFound(group::missing(name)))
}

pub(super) fn shown(group: &Group) -> Value {
    json!({
        "name": group.name,
        "description": group.description,
        "order": group.order,
        "rule": group.rule,
        "predicate": group.predicate,
        "members": group.members,
        "declarations": group.declarations,
        "tags": group.tags,
    })
}

fn tag(group: &Group) -> String {
    precondition::tag(&shown(group))
}

/// With those for whom its rule holds.
fn whole(conn: &Connection, group: &Group) -> Result<Value> {
    let mut whole = shown(group);
    let by_rule = match &group.rule {
        None => Vec::new(),
        Some(rule) => {
            let rule = group::check_rule(rule)?;
            fleet::those(conn, |subject| Ok(membership::by_rule(conn, &rule, subject)? == Truth::True))?
        }
    };
    whole["members_by_rule"] = by_rule.into_iter().map(|subject| Value::from(subject.id)).collect();
    Ok(whole)
}

/// What the writer of a group should know of it.
///
/// # Errors
/// The database's.
pub(super) fn warnings(conn: &Connection, group: &Group) -> Result<Vec<String>> {
    let mut warnings = reads::of_group(group);
    warnings.extend(exposed::of_group(conn, &group.name, &|name| profile::has_secrets(conn, name))?);
    Ok(warnings)
}

/// PUT replaces the whole, which is not what everybody expects who sends a part.
fn emptied(before: &Group, after: &Group) -> Option<String> {
    let gone = |before: &[String], after: &[String]| !before.is_empty() && after.is_empty();
    let mut lost = Vec::new();
    if gone(&before.members, &after.members) {
        lost.push(format!("its {} members by hand", before.members.len()));
    }
    if gone(&before.declarations, &after.declarations) {
        lost.push(format!("its {} declarations", before.declarations.len()));
    }
    if before.rule.is_some() && after.rule.is_none() {
        lost.push("its rule".to_owned());
    }
    (!lost.is_empty()).then(|| {
        format!(
            "PUT replaces the whole: the group lost {}. Send what is to stay, or change one thing with \
             …/members/{{id}} and …/declarations/{{identifier}}.",
            lost.join(" and ")
        )
    })
}

/// Keeps a group, and writes down who did; answers whether anything changed.
///
/// # Errors
/// As [`group::put`].
pub(super) fn put_in(tx: &Tx<'_>, group: &Group, force: bool, edit: Edit<'_>) -> Result<bool> {
    let changed = group::put_by(tx, group, &|id| Ok(find(tx, id)?.is_some()), force, edit)?;
    if changed {
        let detail = json!({
            "order": group.order,
            "rule": group.rule,
            "predicate": group.predicate,
            "members": group.members.len(),
            "declarations": group.declarations,
            "notify": edit.notify,
        });
        audit::record(tx, edit.actor, "group.put", &group.name, &detail)?;
    }
    Ok(changed)
}

/// Removes a group, and writes down who did.
///
/// # Errors
/// As [`group::delete`].
pub(super) fn delete_in(tx: &Tx<'_>, name: &str, edit: Edit<'_>) -> Result<()> {
    group::delete(tx, name, edit)?;
    audit::record(tx, edit.actor, "group.delete", name, &json!({"notify": edit.notify}))
}

/// What a group holds by hand.
#[derive(Clone, Copy)]
pub(super) enum Part {
    Member,
    Declaration,
}

/// Puts something into a group or takes it out, and writes down who did; answers whether it changed.
///
/// # Errors
/// `NotFound` for the group or what is put into it; `Invalid` for members of the default group.
pub(super) fn change_in(
    tx: &Tx<'_>,
    name: &str,
    part: Part,
    item: &str,
    add: bool,
    edit: Edit<'_>,
) -> Result<bool> {
    let (changed, action, member) = match (part, add) {
        (Part::Member, true) => {
            enrollment::existing(tx, item)?;
            (group::add_member(tx, name, item, edit)?, "group.add-member", "member")
        }
        (Part::Member, false) => {
            (group::remove_member(tx, name, item, edit)?, "group.remove-member", "member")
        }
        (Part::Declaration, true) => {
            (group::add_declaration(tx, name, item, edit)?, "group.add-declaration", "declaration")
        }
        (Part::Declaration, false) => {
            (group::remove_declaration(tx, name, item, edit)?, "group.remove-declaration", "declaration")
        }
    };
    if changed {
        audit::record(tx, edit.actor, action, name, &json!({member: item, "notify": edit.notify}))?;
    }
    Ok(changed)
}

pub(super) async fn list(State(admin): State<Admin>, parameters: Parameters) -> Result<Json<Value>, Refusal> {
    let (limit, cursor) = (parameters.limit()?, parameters.cursor::<String>()?);
    let found = admin.mdm.store.read(move |conn| {
        let (mut items, mut bytes, mut after) = (Vec::new(), 0, cursor);
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        loop {
            let batch = group::list(conn, after.as_deref(), AT_ONCE)?;
            let Some(last) = batch.last() else { return Ok((items, limit)) };
            after = Some(last.name.clone());
            for group in batch {
                if items.len() > most {
                    return Ok((items, limit));
                }
                if bytes > PAGE_BYTES {
                    // Where they are large, a page has fewer than were asked for.
                    let full = u32::try_from(items.len()).unwrap_or(limit);
                    items.push((group.name, Value::Null));
                    return Ok((items, full));
                }
                let shown = shown(&group);
                bytes += shown.to_string().len();
                items.push((group.name, shown));
            }
        }
    });
    let (items, limit) = found.await?;
    Ok(Json(page(items, limit)))
}

pub(super) async fn show(State(admin): State<Admin>, Path(name): Path<String>) -> Result<Tagged, Refusal> {
    let found = admin.mdm.store.read(move |conn| {
        let group = existing(conn, &name)?;
        Ok((tag(&group), whole(conn, &group)?))
    });
    let (tag, shown) = found.await?;
    Ok((precondition::header(&tag), Json(shown)))
}

pub(super) async fn put(
    State(admin): State<Admin>,
    caller: Caller,
    Path(name): Path<String>,
    parameters: Parameters,
    condition: IfMatch,
    body: Object,
) -> Result<(StatusCode, [(HeaderName, HeaderValue); 1], Json<Value>), Refusal> {
    let (force, notify) = (parameters.flag("force")?, !parameters.flag("nonotify")?);
    let sent = sent(body, Some(name.clone()))?;
    let done = admin.mdm.store.write("group.put", move |tx| {
        let known = group::get(tx, &name)?;
        if !condition.holds(known.as_ref().map(tag).as_deref()) {
            return Ok(None);
        }
        let changed = put_in(tx, &sent.group, force, Edit { actor: &caller.actor, notify })?;
        let group = existing(tx, &name)?;
        let emptied = known.as_ref().and_then(|known| emptied(known, &group));
        Ok(Some((known.is_none(), changed, group, emptied)))
    });
    let (is_new, changed, group, emptied) = done.await?.ok_or_else(precondition::failed)?;
    let etag = precondition::header(&tag(&group));
    let described = admin.mdm.store.read(move |conn| Ok((whole(conn, &group)?, warnings(conn, &group)?)));
    let (mut shown, mut warnings) = described.await?;
    warnings.extend(emptied);
    shown["changed"] = changed.into();
    shown["warnings"] = warnings.into();
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, etag, Json(shown)))
}

pub(super) async fn delete(
    State(admin): State<Admin>,
    caller: Caller,
    Path(name): Path<String>,
    parameters: Parameters,
    condition: IfMatch,
) -> Result<StatusCode, Refusal> {
    let notify = !parameters.flag("nonotify")?;
    let done = admin.mdm.store.write("group.delete", move |tx| {
        if !condition.holds(Some(&tag(&existing(tx, &name)?))) {
            return Ok(None);
        }
        delete_in(tx, &name, Edit { actor: &caller.actor, notify })?;
        Ok(Some(StatusCode::NO_CONTENT))
    });
    done.await?.ok_or_else(precondition::failed)
}

/// What the four handlers beneath share. Adding what is there already is done; taking out what is not
/// there is refused.
async fn change(
    admin: Admin,
    caller: Caller,
    (name, item): (String, String),
    parameters: Parameters,
    condition: IfMatch,
    part: Part,
    add: bool,
) -> Result<StatusCode, Refusal> {
    let notify = !parameters.flag("nonotify")?;
    let done = admin.mdm.store.write("group.change", move |tx| {
        if !condition.holds(Some(&tag(&existing(tx, &name)?))) {
            return Ok(None);
        }
        let changed = change_in(tx, &name, part, &item, add, Edit { actor: &caller.actor, notify })?;
        if !changed && !add {
            let what = match part {
                Part::Member => "member by hand; who is in a group by its rule leaves with the rule",
                Part::Declaration => "declaration of this name in it; GET the group to see what it has",
            };
            let (item, name) = (printable(&item), printable(&name));
            return Err(Error::NotFound(format!("{item} in the group {name}: it has no such {what}")));
        }
        Ok(Some(StatusCode::NO_CONTENT))
    });
    done.await?.ok_or_else(precondition::failed)
}

pub(super) async fn put_member(
    State(admin): State<Admin>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    parameters: Parameters,
    condition: IfMatch,
) -> Result<StatusCode, Refusal> {
    change(admin, caller, path, parameters, condition, Part::Member, true).await
}

pub(super) async fn delete_member(
    State(admin): State<Admin>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    parameters: Parameters,
    condition: IfMatch,
) -> Result<StatusCode, Refusal> {
    change(admin, caller, path, parameters, condition, Part::Member, false).await
}

pub(super) async fn put_declaration(
    State(admin): State<Admin>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    parameters: Parameters,
    condition: IfMatch,
) -> Result<StatusCode, Refusal> {
    change(admin, caller, path, parameters, condition, Part::Declaration, true).await
}

pub(super) async fn delete_declaration(
    State(admin): State<Admin>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    parameters: Parameters,
    condition: IfMatch,
) -> Result<StatusCode, Refusal> {
    change(admin, caller, path, parameters, condition, Part::Declaration, false).await
}
