//! `GET /api/v1/packages`, `GET, PUT, DELETE /api/v1/packages/{identifier}`, `GET …/content`: installer
//! packages for macOS and in-house apps.
//!
//! PUT takes the `.pkg` or `.ipa` as it is, up to 8 GiB; which of them it is, and what stands in it, is told
//! by its content and not by its Content-Type. `?nonotify=1` pushes nobody. Declarations point to it with
//! `"ManifestURL": "/mdm/manifests/{identifier}"`.
//!
//! **Invariant:** what changes a package writes who did in the same transaction; no address that a device
//! was given is shown.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::auth::Caller;
use super::declaration::{Tagged, users_json};
use super::precondition::{self, IfMatch};
use super::query::{Parameters, page};
use super::reply::Refusal;
use super::{Admin, audit};
use crate::clock::rfc3339;
use crate::ddm::{Edit, personal_address, served};
use crate::error::{Error, Result};
use crate::library::package::summary::Kind;
use crate::library::package::{self, Package};
use crate::mdm::subject;
use crate::plist;
use crate::schema::commands::Request as Command;
use crate::schema::platform::Platform;

fn existing(conn: &Connection, identifier: &str) -> Result<Package> {
    package::get(conn, identifier)?.ok_or_else(|| Error::NotFound("such package".into()))
}

/// As the API shows it.
fn shown(conn: &Connection, package: &Package) -> Result<Value> {
    let summary = &package.summary;
    let inside = summary.packages.iter();
    let profile = summary.profile.as_ref().map(|profile| {
        json!({
            "name": profile.name,
            "team": profile.team,
            "team_name": profile.team_name,
            "expires_at": profile.expires_at.map(rfc3339),
            "all_devices": profile.all_devices,
            "devices": profile.devices,
        })
    });
    Ok(json!({
        "identifier": package.identifier,
        "kind": summary.kind.word(),
        "title": summary.title,
        "bundle_id": summary.bundle_id,
        "version": summary.version,
        "short_version": summary.short_version,
        "minimum_os": summary.minimum_os,
        "platforms": summary.platforms,
        "device_families": summary.families,
        "packages": inside
            .map(|inside| json!({"identifier": inside.identifier, "version": inside.version}))
            .collect::<Vec<_>>(),
        "signed": summary.signed,
        "signed_by": summary.signed_by,
        "provisioning_profile": profile,
        "warnings": summary.warnings,
        "size": package.kept.size,
        "sha256": package.kept.id,
        "manifest_url": served::address(conn, served::Kind::Package, &package.identifier)?,
        "created_at": rfc3339(package.created_at),
        "created_by": package.created_by,
        "updated_at": rfc3339(package.updated_at),
        "updated_by": package.updated_by,
        "users": users_json(package::users(conn, &package.identifier)?),
    }))
}

/// A command that leads to a package of this server's must lead to one that is here; each device is given
/// an address of its own when it gets the command.
///
/// # Errors
/// `Invalid` with a pointer.
pub(super) fn check_command(conn: &Connection, enrollment_id: &str, command: &Command) -> Result<()> {
    if !["InstallApplication", "InstallEnterpriseApplication"].contains(&command.request_type.as_str()) {
        return Ok(());
    }
    let request = plist::parse_dict(&command.plist)?;
    let keys = plist::dict(&request, "Command")?;
    let url = keys.map(|keys| plist::string(keys, "ManifestURL")).transpose()?.flatten();
    let package = url.map(|url| personal_address::package_at(conn, url)).transpose()?.flatten();
    let Some(name) = package else { return Ok(()) };
    let refused = |words: String| Err(Error::invalid_at("/ManifestURL", words));
    let Some(package) = package::get(conn, &name)? else {
        return refused(format!("This server has no package {name}; upload that first."));
    };
    let platform = subject::of(conn, enrollment_id)?.and_then(|subject| subject.platform);
    match (package.summary.kind, platform) {
        (Kind::Pkg, Some(platform)) if platform != Platform::MacOs => refused(format!(
            "{name} is an installer package (.pkg), which only Macs install, and this enrollment is {}; upload an \
             .ipa for it.",
            platform.name()
        )),
        (Kind::Ipa, Some(Platform::MacOs)) => refused(format!(
            "{name} is an app for other systems (.ipa), and this enrollment is macOS; upload a .pkg for it."
        )),
        _ => Ok(()),
    }
}

pub(super) async fn list(State(admin): State<Admin>, parameters: Parameters) -> Result<Json<Value>, Refusal> {
    let (limit, cursor) = (parameters.limit()?, parameters.cursor::<String>()?);
    let found = admin.mdm.store.read(move |conn| {
        let found = package::list(conn, cursor.as_deref(), limit + 1)?;
        found
            .iter()
            .map(|package| Ok((package.identifier.clone(), shown(conn, package)?)))
            .collect::<Result<Vec<_>>>()
    });
    Ok(Json(page(found.await?, limit)))
}

pub(super) async fn show(
    State(admin): State<Admin>,
    Path(identifier): Path<String>,
) -> Result<Tagged, Refusal> {
    let (tag, shown) = admin.mdm.store.peek(|conn| {
        let package = existing(conn, &identifier)?;
        Ok((package.kept.id.clone(), shown(conn, &package)?))
    })?;
    Ok((precondition::header(&tag), Json(shown)))
}

pub(super) async fn content(
    State(admin): State<Admin>,
    Path(identifier): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let package = admin.mdm.store.peek(|conn| existing(conn, &identifier))?;
    let media_type = package.summary.kind.media_type();
    let response = admin.mdm.contents.respond(&admin.mdm.store, &package.kept, media_type, &headers);
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
    let notify = !parameters.flag("nonotify")?;
    crate::library::check_name(&identifier)?;
    // What will not be taken is not waited for.
    let known = admin.mdm.store.peek(|conn| package::get(conn, &identifier))?;
    if !condition.holds(known.as_ref().map(|known| known.kept.id.as_str())) {
        return Err(precondition::failed());
    }
    let received = admin.mdm.contents.receive(request.into_body()).await?;
    let now = admin.now();
    let prepared = super::blocking(move || package::prepare(received, now)).await;
    let prepared = prepared.map_err(|error| error.or_at(""))?;
    let contents = admin.mdm.contents.clone();
    let done = admin.mdm.store.write("package.put", move |tx| {
        let known = package::get(tx, &identifier)?;
        if !condition.holds(known.as_ref().map(|known| known.kept.id.as_str())) {
            return Ok(None);
        }
        let edit = Edit { actor: &caller.actor, notify };
        let put = package::put(tx, &contents, &identifier, &prepared, edit)?;
        let package = existing(tx, &identifier)?;
        if put.changed {
            let detail = json!({
                "kind": package.summary.kind.word(),
                "bundle_id": package.summary.bundle_id,
                "version": package.summary.version,
                "sha256": package.kept.id,
                "size": package.kept.size,
                "notify": notify,
            });
            audit::record(tx, edit.actor, "package.put", &identifier, &detail)?;
        }
        let mut shown = shown(tx, &package)?;
        shown["changed"] = put.changed.into();
        let status = if put.created { StatusCode::CREATED } else { StatusCode::OK };
        Ok(Some((status, precondition::header(&package.kept.id), Json(shown))))
    });
    done.await?.ok_or_else(precondition::failed)
}

pub(super) async fn delete(
    State(admin): State<Admin>,
    caller: Caller,
    Path(identifier): Path<String>,
    condition: IfMatch,
) -> Result<StatusCode, Refusal> {
    let done = admin.mdm.store.write("package.delete", move |tx| {
        if !condition.holds(Some(&existing(tx, &identifier)?.kept.id)) {
            return Ok(None);
        }
        package::delete(tx, &identifier)?;
        audit::record(tx, &caller.actor, "package.delete", &identifier, &json!({}))?;
        Ok(Some(StatusCode::NO_CONTENT))
    });
    done.await?.ok_or_else(precondition::failed)
}
