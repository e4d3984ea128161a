//! `POST /api/v1/apply` and `GET /api/v1/export`: all groups, declarations, app sets, policies, profiles,
//! assets and services at once, as `russet apply` and `russet export` keep them in files.
//!
//! `{"declarations": […], "groups": […], "app_sets": […], "update_policies": […], "profiles": […],
//! "assets": […], "services": […], "background_tasks": […], "prune": false, "dry_run": true}`
//! ([`super::apply_files`] reads profiles and assets, [`super::apply_services`] services and background
//! tasks). What is not sent stays,
//! unless `prune`; a list that is absent is left alone altogether, and so are the members of a group
//! that does not say them. A dry run tells what would change and which enrollments it would touch.
//!
//! **Invariant:** all of it happens or nothing, and a dry run leaves nothing behind.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::apply_files::Files;
use super::apply_services::{self, Services};
use super::auth::Caller;
use super::body::Object;
use super::query::Parameters;
use super::reply::Refusal;
use super::{Admin, app_set as app_sets, asset, declaration, fleet, group, profile, update_policy};
use crate::content::Contents;
use crate::ddm::app_set::{self, AppSet};
use crate::ddm::declaration::{self as declarations, Declaration};
use crate::ddm::group::{self as groups, DEFAULT, Group};
use crate::ddm::manifest::Plan;
use crate::ddm::update::policy::{self as policies, Policy};
use crate::ddm::{Edit, Subject, served};
use crate::error::{Error, Result};
use crate::library::asset as assets;
use crate::library::profile as profiles;
use crate::library::services::generated;
use crate::schema::declarations::Kind;
use crate::storage::Tx;

/// What was sent.
struct Wanted {
    declarations: Option<Vec<Value>>,
    groups: Option<Vec<group::Sent>>,
    sets: Option<Vec<AppSet>>,
    files: Files,
    services: Services,
    update_policies: Option<Vec<Policy>>,
    prune: bool,
    force: bool,
}

/// What became, or would become, of one object.
pub(super) struct Change {
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) before: Value,
    pub(super) after: Value,
}

impl Change {
    fn shown(&self) -> Value {
        let action = match (&self.before, &self.after) {
            (Value::Null, _) => "created",
            (_, Value::Null) => "deleted",
            _ => "changed",
        };
        json!({
            "kind": self.kind,
            "name": self.name,
            "action": action,
            "before": self.before,
            "after": self.after,
        })
    }
}

#[derive(Default)]
pub(super) struct Done {
    pub(super) changes: Vec<Change>,
    pub(super) warnings: Vec<Value>,
    pub(super) unchanged: usize,
}

/// A declaration as it is kept in a file: its ServerToken is computed.
fn plain(declaration: &Declaration) -> Value {
    without_token(declaration.body())
}

fn without_token(mut body: Value) -> Value {
    if let Value::Object(members) = &mut body {
        members.shift_remove("ServerToken");
    }
    body
}

/// With paths alone for what leads to the server at `url`: applied to another one, it leads there.
fn relative(url: &str, mut body: Value) -> Result<Value> {
    if let Some(Value::Object(payload)) = body.get_mut("Payload") {
        served::without_host(url, payload)?;
    }
    Ok(body)
}

pub(super) async fn export(
    State(admin): State<Admin>,
    caller: Caller,
    parameters: Parameters,
) -> Result<Json<Value>, Refusal> {
    let is_relative = parameters.flag("relative")?;
    let contents = admin.mdm.contents.clone();
    let found = admin.mdm.store.read(move |conn| {
        let mut declarations = declarations::list(conn, None, u32::MAX)?;
        let groups = groups::list(conn, None, u32::MAX)?;
        let profiles = profiles::list(conn, None, u32::MAX)?;
        let mut assets = assets::list(conn, None, u32::MAX)?;
        let made = generated(conn, &contents)?;
        declarations.retain(|declaration| !made.contains(&declaration.identifier));
        assets.retain(|asset| !made.contains(&asset.identifier));
        let (services, tasks) = apply_services::export(conn, &contents, &caller)?;
        let sets = app_set::list(conn, None, u32::MAX)?;
        // The declaration of an asset whose bytes are here is made of these.
        let own: BTreeSet<&str> = assets.iter().map(|asset| asset.identifier.as_str()).collect();
        declarations.retain(|declaration| !own.contains(declaration.identifier.as_str()));
        let url = served::public_url(conn)?;
        let declarations = declarations.iter().map(plain);
        let declarations: Result<Vec<Value>> = if is_relative {
            declarations.map(|body| relative(&url, body)).collect()
        } else {
            Ok(declarations.collect())
        };
        let profiles: Result<Vec<Value>> =
            profiles.iter().map(|profile| profile::shown(conn, profile)).collect();
        let policies = policies::list(conn, None, u32::MAX)?;
        let policies = policies.iter().map(|kept| update_policy::plain(&kept.policy));
        Ok(json!({
            "public_url": url,
            "declarations": declarations?,
            "groups": groups.iter().map(group::shown).collect::<Vec<_>>(),
            "app_sets": sets.iter().map(app_sets::plain).collect::<Vec<_>>(),
            "profiles": profiles?,
            "assets": assets.iter().map(asset::plain).collect::<Vec<_>>(),
            "services": services,
            "background_tasks": tasks,
            "update_policies": policies.collect::<Vec<_>>(),
        }))
    });
    Ok(Json(found.await?))
}

pub(super) async fn post(
    State(admin): State<Admin>,
    caller: Caller,
    parameters: Parameters,
    mut body: Object,
) -> Result<Json<Value>, Refusal> {
    let notify = !parameters.flag("nonotify")?;
    let dry_run = body.boolean("dry_run")?.unwrap_or(false);
    let force = parameters.flag("force")?;
    // Of the server that an export is of: what leads there, leads here.
    let exported_by = body.text("public_url")?;
    let wanted = Wanted {
        prune: body.boolean("prune")?.unwrap_or(false),
        force,
        files: Files::read(&admin, &mut body, force, dry_run).await?,
        services: Services::read(&admin.mdm.contents, &mut body, force)?,
        declarations: body
            .list("declarations")?
            .map(|list| read_declarations(list, exported_by.as_deref()))
            .transpose()?,
        groups: body.list("groups")?.map(read_groups).transpose()?,
        sets: body.list("app_sets")?.map(read_sets).transpose()?,
        update_policies: body.list("update_policies")?.map(read_policies).transpose()?,
    };
    body.finish()?;
    let lists = [
        wanted.declarations.is_none(),
        wanted.groups.is_none(),
        wanted.sets.is_none(),
        wanted.update_policies.is_none(),
    ];
    if lists == [true; 4] && wanted.files.is_absent() && wanted.services.is_absent() {
        let words = "there is nothing to apply; send declarations, groups, app_sets, update_policies, profiles, \
                     assets or services";
        return Err(Error::invalid_at("", words).into());
    }
    let contents = admin.mdm.contents.clone();
    let written = admin.mdm.store.write("apply", move |tx| {
        let edit = Edit { actor: &caller.actor, notify };
        if !dry_run {
            return Ok((apply(tx, &contents, &wanted, edit)?, None));
        }
        let before = Plan::read(tx)?;
        tx.execute_batch("SAVEPOINT dry_run")?;
        let done = apply(tx, &contents, &wanted, edit).and_then(|done| Ok((done, Plan::read(tx)?)));
        tx.execute_batch("ROLLBACK TO dry_run; RELEASE dry_run")?;
        let (done, after) = done?;
        Ok((done, Some((before, after))))
    });
    let (done, plans) = written.await?;
    let mut shown = json!({
        "dry_run": dry_run,
        "changes": done.changes.iter().map(Change::shown).collect::<Vec<_>>(),
        "unchanged": done.unchanged,
        "warnings": done.warnings,
    });
    if let Some((before, after)) = plans {
        let touched = admin.mdm.store.read(move |conn| touched(conn, &done.changes, &before, &after));
        shown["enrollments"] = touched
            .await?
            .iter()
            .map(|subject| json!({"id": subject.id, "name": subject.keys.get("name")}))
            .collect();
    }
    Ok(Json(shown))
}

/// Each once, and named: the rest is for the check.
fn read_declarations(list: Vec<Value>, exported_by: Option<&str>) -> Result<Vec<Value>> {
    let mut seen = BTreeSet::new();
    for (index, body) in list.iter().enumerate() {
        if let Some(identifier) = body["Identifier"].as_str()
            && !seen.insert(identifier)
        {
            let at = format!("/declarations/{index}/Identifier");
            return Err(Error::invalid_at(at, "two declarations have this Identifier"));
        }
    }
    let sent = list.into_iter().map(declaration::sent);
    match exported_by {
        Some(url) => sent.map(|body| relative(url, body)).collect(),
        None => Ok(sent.collect()),
    }
}

fn read_groups(list: Vec<Value>) -> Result<Vec<group::Sent>> {
    let mut seen = BTreeSet::new();
    let groups = list.into_iter().enumerate().map(|(index, body)| {
        let place = format!("/groups/{index}");
        let Value::Object(members) = body else {
            return Err(Error::invalid_at(place, "a group must be a JSON object"));
        };
        let sent = group::sent(members.into(), None).map_err(|error| at(&place, error))?;
        if !seen.insert(sent.group.name.clone()) {
            return Err(Error::invalid_at(format!("{place}/name"), "two groups have this name"));
        }
        Ok(sent)
    });
    groups.collect()
}

fn read_policies(list: Vec<Value>) -> Result<Vec<Policy>> {
    let mut seen = BTreeSet::new();
    let policies = list.into_iter().enumerate().map(|(index, body)| {
        let place = format!("/update_policies/{index}");
        let policy = update_policy::sent(body, None).map_err(|error| at(&place, error))?;
        if !seen.insert(policy.group.clone()) {
            return Err(Error::invalid_at(format!("{place}/group"), "two policies are for this group"));
        }
        Ok(policy)
    });
    policies.collect()
}

fn read_sets(list: Vec<Value>) -> Result<Vec<AppSet>> {
    let mut seen = BTreeSet::new();
    let sets = list.into_iter().enumerate().map(|(index, body)| {
        let place = format!("/app_sets/{index}");
        let Value::Object(members) = body else {
            return Err(Error::invalid_at(place, "an app set must be a JSON object"));
        };
        let set = app_sets::sent(members.into(), None).map_err(|error| at(&place, error))?;
        if !seen.insert(set.name.clone()) {
            return Err(Error::invalid_at(format!("{place}/name"), "two app sets have this name"));
        }
        Ok(set)
    });
    sets.collect()
}

/// An error about part of what was sent, pointing at its place in the whole.
pub(super) fn at(place: &str, error: Error) -> Error {
    match error {
        Error::Invalid { words, pointer, suggestion } => {
            let pointer = Some(format!("{place}{}", pointer.unwrap_or_default()));
            Error::Invalid { words, pointer, suggestion }
        }
        error => error,
    }
}

fn apply(tx: &Tx<'_>, contents: &Contents, wanted: &Wanted, edit: Edit<'_>) -> Result<Done> {
    let mut done = Done::default();
    wanted.files.put(tx, contents, edit, &mut done)?;
    wanted.services.put(tx, contents, edit, &mut done)?;
    let mut order: Vec<(usize, &Value)> = wanted.declarations.iter().flatten().enumerate().collect();
    // What is named comes before what names it.
    order.sort_by_key(|(_, body)| Reverse(Kind::of(body["Type"].as_str().unwrap_or_default())));
    for (index, body) in order {
        let place = format!("/declarations/{index}");
        put_declaration(tx, body, &place, wanted.force, edit, &mut done)?;
    }
    for (index, sent) in wanted.groups.iter().flatten().enumerate() {
        let (mut group, force) = (sent.group.clone(), wanted.force);
        let known = groups::get(tx, &group.name)?;
        if let Some(known) = known.as_ref().filter(|_| !sent.has_members) {
            group.members.clone_from(&known.members);
        }
        let place = format!("/groups/{index}");
        put_group(tx, &group, &place, known.as_ref(), force, edit, &mut done)
            .map_err(|error| at(&place, error))?;
    }
    for (index, policy) in wanted.update_policies.iter().flatten().enumerate() {
        let place = format!("/update_policies/{index}");
        put_policy(tx, policy, &place, edit, &mut done)?;
    }
    for (index, set) in wanted.sets.iter().flatten().enumerate() {
        put_set(tx, set, &format!("/app_sets/{index}"), edit, &mut done)?;
    }
    if wanted.prune {
        prune(tx, contents, wanted, edit, &mut done)?;
        wanted.services.prune(tx, contents, edit, &mut done)?;
        wanted.files.prune(tx, &generated(tx, contents)?, edit, &mut done)?;
    }
    Ok(done)
}

fn put_declaration(
    tx: &Tx<'_>,
    body: &Value,
    place: &str,
    force: bool,
    edit: Edit<'_>,
    done: &mut Done,
) -> Result<()> {
    let identifier = body["Identifier"].as_str().unwrap_or_default();
    let before = declarations::get(tx, identifier)?.as_ref().map_or(Value::Null, plain);
    let url = served::public_url(tx)?;
    // One that was accepted by force once needs no force to stay.
    if relative(&url, before.clone())? == relative(&url, without_token(body.clone()))? {
        done.unchanged += 1;
        return Ok(());
    }
    let put = declaration::put_in(tx, body, force, edit).map_err(|error| at(place, error))?;
    let warnings = put.warnings.into_iter();
    done.warnings.extend(warnings.map(|words| json!({"pointer": place, "words": words})));
    if !put.changed {
        done.unchanged += 1;
        return Ok(());
    }
    let after = plain(&declaration::existing(tx, identifier)?);
    done.changes.push(Change { kind: "declaration", name: identifier.to_owned(), before, after });
    Ok(())
}

fn put_group(
    tx: &Tx<'_>,
    wanted: &Group,
    place: &str,
    known: Option<&Group>,
    force: bool,
    edit: Edit<'_>,
    done: &mut Done,
) -> Result<()> {
    if !group::put_in(tx, wanted, force, edit)? {
        done.unchanged += 1;
        return Ok(());
    }
    let warnings = group::warnings(tx, wanted)?.into_iter();
    done.warnings.extend(warnings.map(|words| json!({"pointer": place, "words": words})));
    let before = known.map_or(Value::Null, group::shown);
    let after = group::shown(&group::existing(tx, &wanted.name)?);
    done.changes.push(Change { kind: "group", name: wanted.name.clone(), before, after });
    Ok(())
}

fn put_set(tx: &Tx<'_>, set: &AppSet, place: &str, edit: Edit<'_>, done: &mut Done) -> Result<()> {
    let before = app_set::get(tx, &set.name)?.as_ref().map_or(Value::Null, app_sets::plain);
    let put = app_sets::put_in(tx, set, edit).map_err(|error| at(place, error))?;
    let warnings = put.warnings.into_iter();
    done.warnings.extend(warnings.map(|words| json!({"pointer": place, "words": words})));
    if !put.changed {
        done.unchanged += 1;
        return Ok(());
    }
    let after = app_sets::plain(&app_sets::existing(tx, &set.name)?);
    done.changes.push(Change { kind: "app set", name: set.name.clone(), before, after });
    Ok(())
}

fn put_policy(tx: &Tx<'_>, policy: &Policy, place: &str, edit: Edit<'_>, done: &mut Done) -> Result<()> {
    let before = policies::get(tx, &policy.group)?;
    let put = update_policy::put_in(tx, policy, edit).map_err(|error| match error {
        Error::NotFound(_) => {
            Error::invalid_at(format!("{place}/group"), format!("there is no group {}", policy.group))
        }
        error => at(place, error),
    })?;
    done.warnings.extend(put.warnings.into_iter().map(|words| json!({"pointer": place, "words": words})));
    if !put.changed {
        done.unchanged += 1;
        return Ok(());
    }
    let before = before.map_or(Value::Null, |kept| update_policy::plain(&kept.policy));
    let after = update_policy::plain(policy);
    done.changes.push(Change { kind: "update policy", name: policy.group.clone(), before, after });
    Ok(())
}

/// Removes what was not sent: app sets, policies and groups first, then what names before what is named.
fn prune(tx: &Tx<'_>, contents: &Contents, wanted: &Wanted, edit: Edit<'_>, done: &mut Done) -> Result<()> {
    if let Some(sent) = &wanted.sets {
        for known in app_set::list(tx, None, u32::MAX)? {
            if sent.iter().all(|set| set.name != known.name) {
                app_sets::delete_in(tx, &known.name, edit)?;
                let before = app_sets::plain(&known);
                done.changes.push(Change { kind: "app set", name: known.name, before, after: Value::Null });
            }
        }
    }
    if let Some(sent) = &wanted.update_policies {
        let sent: BTreeSet<&str> = sent.iter().map(|policy| policy.group.as_str()).collect();
        for known in policies::list(tx, None, u32::MAX)? {
            let group = known.policy.group.clone();
            if !sent.contains(group.as_str()) {
                update_policy::delete_in(tx, &group, edit)?;
                let before = update_policy::plain(&known.policy);
                done.changes.push(Change { kind: "update policy", name: group, before, after: Value::Null });
            }
        }
    }
    if let Some(sent) = &wanted.groups {
        let sent: BTreeSet<&str> = sent.iter().map(|sent| sent.group.name.as_str()).collect();
        for known in groups::list(tx, None, u32::MAX)? {
            // The group of everybody cannot go.
            if known.name == DEFAULT || sent.contains(known.name.as_str()) {
                continue;
            }
            group::delete_in(tx, &known.name, edit)?;
            let before = group::shown(&known);
            done.changes.push(Change { kind: "group", name: known.name, before, after: Value::Null });
        }
    }
    if let Some(sent) = &wanted.declarations {
        let sent: BTreeSet<&str> = sent.iter().filter_map(|body| body["Identifier"].as_str()).collect();
        let mut known = declarations::list(tx, None, u32::MAX)?;
        known.retain(|known| !sent.contains(known.identifier.as_str()));
        // That of an asset goes with its bytes.
        let own: BTreeSet<String> =
            assets::list(tx, None, u32::MAX)?.into_iter().map(|asset| asset.identifier).collect();
        known.retain(|known| !own.contains(&known.identifier));
        let made = generated(tx, contents)?;
        known.retain(|known| !made.contains(&known.identifier));
        known.sort_by_key(|known| known.kind);
        for known in known {
            declaration::delete_in(tx, &known.identifier, edit)?;
            let before = plain(&known);
            let name = known.identifier;
            done.changes.push(Change { kind: "declaration", name, before, after: Value::Null });
        }
    }
    Ok(())
}

/// The enrollments whose set would be another.
fn touched(conn: &Connection, changes: &[Change], before: &Plan, after: &Plan) -> Result<Vec<Subject>> {
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    // Memberships by hand are in neither plan; whoever joins or leaves a group has another set.
    let mut moved = BTreeSet::new();
    for change in changes.iter().filter(|change| change.kind == "group") {
        let members = |group: &Value| -> BTreeSet<String> {
            let members = group["members"].as_array().into_iter().flatten();
            members.filter_map(|member| member.as_str().map(str::to_owned)).collect()
        };
        moved.extend(members(&change.before).symmetric_difference(&members(&change.after)).cloned());
    }
    fleet::those(conn, |subject| {
        if moved.contains(&subject.id) || moved.contains(&subject.device_id) {
            return Ok(true);
        }
        Ok(before.manifest(conn, subject)?.token != after.manifest(conn, subject)?.token)
    })
}
