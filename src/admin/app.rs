//! `GET /api/v1/enrollments/{id}/apps`: the apps and packages that a channel should have, beside what it
//! reports of them.
//!
//! **Invariant:** what is not known is null; a device's own words are shown as words and no more.

use axum::Json;
use axum::extract::{Path, State};
use rusqlite::Connection;
use serde_json::{Value, json};

use super::Admin;
use super::query::{Parameters, page};
use super::reply::Refusal;
use crate::clock::rfc3339;
use crate::ddm::standing::standing;
use crate::ddm::status::item::values;
use crate::ddm::{app_set, declaration};
use crate::error::{Error, Result};
use crate::id::printable;
use crate::mdm::subject;
use crate::schema::reasons::reason_words;

/// The declarations that install something, each with the item in which devices report it.
const TYPES: [(&str, &str); 2] = [
    ("com.apple.configuration.app.managed", "app.managed.list"),
    ("com.apple.configuration.package", "package.list"),
];

pub(super) async fn list(
    State(admin): State<Admin>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Json<Value>, Refusal> {
    let (limit, after) = (parameters.limit()?, parameters.cursor::<String>()?.unwrap_or_default());
    let mut items = admin.mdm.store.read(move |conn| apps(conn, &id)).await?;
    let most = usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(1);
    items.retain(|(key, _)| *key > after);
    items.truncate(most);
    Ok(Json(page(items, limit)))
}

/// Everything, in the order of the declarations; at the end what the device reports and nobody declared.
fn apps(conn: &Connection, id: &str) -> Result<Vec<(String, Value)>> {
    let subject = subject::of(conn, id)?.ok_or_else(|| Error::NotFound("such enrollment".into()))?;
    let mut reported = Vec::new();
    for (_, path) in TYPES {
        for item in values(conn, id, path)?.into_iter().filter(|item| item.path == path) {
            let at = rfc3339(item.reported_at);
            let Some(Value::Array(list)) = item.value else { continue };
            reported.extend(list.into_iter().map(|one| (path, one, at.clone())));
        }
    }
    let sets = app_set::list(conn, None, u32::MAX)?;
    let mut items = Vec::new();
    for stands in standing(conn, &subject)? {
        let Some((_, path)) = TYPES.iter().find(|(named, _)| stands["type"] == *named) else { continue };
        let identifier = stands["identifier"].as_str().unwrap_or_default();
        let place = reported.iter().position(|(item, one, _)| {
            item == path && one["declaration-identifier"].as_str() == Some(identifier)
        });
        let said = place.map(|place| reported.swap_remove(place));
        let payload =
            declaration::get(conn, identifier)?.map(|declared| declared.payload).unwrap_or_default();
        let of_sets = sets.iter().filter(|set| set.declarations.iter().any(|name| name == identifier));
        let mut item = json!({
            "declaration": identifier,
            "type": stands["type"],
            "app_store_id": payload.get("AppStoreID"),
            "bundle_id": payload.get("BundleID"),
            "manifest_url": payload.get("ManifestURL"),
            "install": payload.get("InstallBehavior").and_then(|behavior| behavior.get("Install"))
                .unwrap_or(&Value::from("Optional")),
            "sets": of_sets.map(|set| json!({"name": set.name, "is_active": set.is_active})).collect::<Vec<_>>(),
        });
        for name in ["received", "active", "valid", "reasons", "left_out"] {
            item[name] = stands[name].clone();
        }
        item["reported"] = said.map(|(_, one, at)| shown(&one, &at)).unwrap_or_default();
        items.push((format!("1 {identifier}"), item));
    }
    let mut others: Vec<(String, Value)> = reported
        .into_iter()
        .map(|(path, one, at)| {
            let name = text(&one, "identifier").unwrap_or_default();
            let named = TYPES.iter().find(|(_, item)| *item == path).map(|(named, _)| *named);
            let item = json!({"declaration": null, "type": named, "reported": shown(&one, &at)});
            (format!("2 {path} {name}"), item)
        })
        .collect();
    others.sort_by(|(one, _), (other, _)| one.cmp(other));
    items.extend(others);
    Ok(items)
}

fn text(said: &Value, key: &str) -> Option<String> {
    said[key].as_str().map(printable)
}

/// What a device says of one app.
fn shown(said: &Value, at: &str) -> Value {
    let reasons: Vec<Value> = said["reasons"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|reason| {
            let code = text(reason, "code").unwrap_or_default();
            json!({
                "words": reason_words(&code),
                "code": code,
                "description": text(reason, "description"),
                "details": reason["details"],
            })
        })
        .collect();
    let state = text(said, "state");
    json!({
        "identifier": text(said, "identifier"),
        "name": text(said, "name"),
        "version": text(said, "version"),
        "short_version": text(said, "short-version"),
        "external_version_id": said["external-version-id"],
        "state": state,
        "words": state.as_deref().and_then(words),
        "update_state": text(said, "update-state"),
        "config_state": said["config-state"],
        "reasons": reasons,
        "reported_at": at,
    })
}

/// Apple's states (`app.managed.list`, `package.list`), in words.
fn words(state: &str) -> Option<&'static str> {
    Some(match state {
        "optional" => "The user may install it; nobody has yet.",
        "queued" => "It is going to be installed.",
        "not-present" => "It is not on the device.",
        "prompting-for-consent" => "The device asks the user whether it may be installed.",
        "prompting-for-login" => "The device asks the user to sign in to the App Store.",
        "prompting-for-management" => {
            "The user has it already; the device asks whether it may be managed from now on."
        }
        "downloading" => "It is being downloaded.",
        "installing" => "It is being installed.",
        "managed" => "It is installed and managed.",
        "installed" => "It is installed.",
        "managed-but-uninstalled" => "The user removed it; it is managed again when they install it.",
        "failed" => "It could not be installed; the reasons say why.",
        _ => return None,
    })
}
