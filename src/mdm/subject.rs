//! A channel as declarative management sees it.
//!
//! [`crate::ddm`] knows no enrollments; this says what decides about declarations. Of a user, what the
//! user's channel does not say is the device's.

use rusqlite::Connection;
use serde_json::{Map, Value as Json};

use super::{enrollment, listing};
use crate::ddm::Subject;
use crate::ddm::subject::KEYS;
use crate::error::Result;
use crate::schema::declarations::declaration;
use crate::schema::platform::{Platform, compare_versions};
use crate::schema::table::{Enrollment, Scope};

/// The subject of this enrollment.
///
/// # Errors
/// The database's.
pub fn of(conn: &Connection, enrollment_id: &str) -> Result<Option<Subject>> {
    listing::row(conn, enrollment_id)?.map(|row| of_row(conn, &row)).transpose()
}

/// The subject of an enrollment as the API's lists read it.
pub(super) fn of_row(conn: &Connection, row: &Json) -> Result<Subject> {
    let id = text(row, "id").unwrap_or_default();
    let parent_id = text(row, "parent_id");
    let parent = parent_id.as_deref().map(|id| listing::row(conn, id)).transpose()?.flatten();
    let device_id = parent_id.unwrap_or_else(|| id.clone());
    let mut keys = Map::new();
    for name in KEYS {
        let of_device = parent.as_ref().map_or(&Json::Null, |parent| &parent[name]);
        let value = [&row[name], of_device].into_iter().find(|value| !is_empty(value));
        if let Some(value) = value {
            keys.insert(name.to_owned(), value.clone());
        }
    }
    let known = |name: &str| keys.get(name).and_then(Json::as_str);
    let platform = known("product_name").or(known("model_name")).and_then(Platform::of_product);
    let version = known("os_version").map(str::to_owned);
    let kind = known("type").unwrap_or_default();
    let enrollment = match (kind, keys.get("supervised").and_then(Json::as_bool)) {
        ("User Enrollment (Device)" | "User Enrollment", _) => Enrollment::User,
        (_, Some(false)) => Enrollment::Device,
        // Not known is no reason to leave anything out.
        (_, Some(true) | None) => Enrollment::Supervised,
    };
    let shared_ipad = kind == "Shared iPad" || enrollment::has_shared_users(conn, &device_id)?;
    let channel = if known("channel") == Some("user") { Scope::User } else { Scope::System };
    let awaiting = keys.get("awaiting_configuration").and_then(Json::as_bool).unwrap_or(false);
    let held = awaiting || is_too_old(platform, version.as_deref(), enrollment);
    let tags = keys.get("tags").and_then(Json::as_array).into_iter().flatten();
    let tags = tags.filter_map(|tag| tag.as_str().map(str::to_owned)).collect();
    if let Some(platform) = platform {
        keys.insert("platform".to_owned(), platform.name().into());
    }
    Ok(Subject { id, device_id, tags, platform, version, enrollment, channel, shared_ipad, held, keys })
}

fn text(row: &Json, name: &str) -> Option<String> {
    row[name].as_str().map(str::to_owned)
}

fn is_empty(value: &Json) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

/// Whether its system has no declarative management; one that is not known is taken to have it.
fn is_too_old(platform: Option<Platform>, version: Option<&str>, enrollment: Enrollment) -> bool {
    let (Some(platform), Some(version)) = (platform, version) else { return false };
    // With iOS 15 it was for User Enrollment alone.
    if platform == Platform::Ios && enrollment != Enrollment::User && compare_versions(version, "16").is_lt()
    {
        return true;
    }
    let support = declaration("com.apple.activation.simple").and_then(|known| known.os.get(platform.name()));
    support.is_some_and(|support| !support.includes(Some(version)))
}
