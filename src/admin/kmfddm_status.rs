//! KMFDDM's routes for what devices reported: `declaration-status`, `status-errors`, `status-values`
//! (each for several enrollments, with commas between them) and `status-report`.
//!
//! **Invariant:** nothing is decided here: these are adapters over what [`crate::ddm::status`] keeps.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_TYPE, LAST_MODIFIED};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use rusqlite::Connection;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

use super::Admin;
use super::enrollment::existing;
use super::nanohub::split;
use super::query::Parameters;
use super::reply::Refusal;
use crate::clock::{Seconds, rfc3339};
use crate::ddm::standing::reasons;
use crate::ddm::status::declared::states;
use crate::ddm::status::error::errors;
use crate::ddm::status::item::values;
use crate::ddm::status::report::reports;
use crate::ddm::{declaration, status, sync};
use crate::error::{Error, Result};
use crate::id;

/// As KMFDDM writes the names of items.
const ROOT: &str = ".StatusItems.";
const DECLARATIONS: &str = ".StatusItems.management.declarations";

/// The names of the reports of a channel that are still kept, by their time.
struct Reports(BTreeMap<Seconds, String>);

impl Reports {
    fn of_channel(conn: &Connection, enrollment_id: &str) -> Result<Self> {
        let kept = reports(conn, enrollment_id)?.into_iter();
        Ok(Self(kept.map(|(at, report)| (at, name(at, &report))).collect()))
    }

    /// That of the report that came then, as `status-report` takes it; nothing for one that is gone.
    fn of(&self, at: Seconds) -> &str {
        self.0.get(&at).map_or("", String::as_str)
    }
}

/// KMFDDM's status_id of a report.
fn name(at: Seconds, report: &[u8]) -> String {
    id::hex(&id::sha256(format!("{at}\0{}", String::from_utf8_lossy(report)).as_bytes())[..8])
}

/// The same question about each of several enrollments.
async fn each(
    admin: Admin,
    ids: String,
    of_one: impl Fn(&Connection, &str) -> Result<Vec<Value>> + Send + 'static,
) -> Result<Json<Value>, Refusal> {
    let ids = split(&ids)?;
    let found = admin.mdm.store.read(move |conn| {
        let mut answers = Map::new();
        for id in ids {
            existing(conn, &id)?;
            answers.insert(id.clone(), of_one(conn, &id)?.into());
        }
        Ok(Value::Object(answers))
    });
    Ok(Json(found.await?))
}

pub(super) async fn declaration_status(
    State(admin): State<Admin>,
    Path(ids): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let of_one = |conn: &Connection, id: &str| {
        let named = Reports::of_channel(conn, id)?;
        let told = sync::find(conn, id)?.and_then(|sync| sync.told_token);
        let states = states(conn, id)?.into_iter().map(|((identifier, token), state)| {
            let present = declaration::get(conn, &identifier)?.map(|present| present.server_token);
            // What the server made itself is in no table; it was told and is reported.
            let current = present.map_or(told.is_some(), |present| present == token);
            Ok(json!({
                "identifier": identifier,
                "active": state.active,
                "valid": state.valid,
                "server-token": token,
                "current": current,
                "status_received": rfc3339(state.reported_at),
                "reasons": reasons(&state),
                "status_id": named.of(state.reported_at),
            }))
        });
        states.collect()
    };
    each(admin, ids, of_one).await
}

pub(super) async fn status_errors(
    State(admin): State<Admin>,
    Path(ids): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let of_one = |conn: &Connection, id: &str| {
        let named = Reports::of_channel(conn, id)?;
        let one = |path: String, error: Value, at: Seconds| json!({"path": path, "error": error, "timestamp": rfc3339(at), "status_id": named.of(at)});
        let mut list: Vec<Value> = errors(conn, id)?
            .into_iter()
            .map(|error| {
                let said = json!({"StatusItem": error.item, "Reasons": error.reasons});
                one(".Errors".to_owned(), said, error.at)
            })
            .collect();
        for ((identifier, token), state) in states(conn, id)? {
            if state.valid != "valid" && !state.active {
                let said = json!({
                    "identifier": identifier,
                    "server-token": token,
                    "active": state.active,
                    "valid": state.valid,
                    "reasons": reasons(&state),
                });
                list.push(one(format!("{DECLARATIONS}.{}s", state.kind), said, state.reported_at));
            }
        }
        Ok(list)
    };
    each(admin, ids, of_one).await
}

pub(super) async fn status_values(
    State(admin): State<Admin>,
    Path(ids): Path<String>,
    parameters: Parameters,
) -> Result<Json<Value>, Refusal> {
    let pattern = parameters.text("prefix").unwrap_or_default().to_owned();
    let of_one = move |conn: &Connection, id: &str| {
        let (mut list, named) = (Vec::new(), Reports::of_channel(conn, id)?);
        for item in values(conn, id, "")? {
            let Some(value) = &item.value else { continue };
            for (path, text) in leaves(format!("{ROOT}{}", item.path), value) {
                if matches(&pattern, &path) {
                    list.push(json!({
                        "path": path,
                        "value": text,
                        "timestamp": rfc3339(item.reported_at),
                        "status_id": named.of(item.reported_at),
                    }));
                }
            }
        }
        Ok(list)
    };
    each(admin, ids, of_one).await
}

/// The texts, numbers and truths in a value, each with its path. KMFDDM has no place for a list's order.
fn leaves(path: String, value: &Value) -> Vec<(String, String)> {
    let (mut found, mut next) = (Vec::new(), vec![(path, value)]);
    while let Some((path, value)) = next.pop() {
        match value {
            Value::Null => {}
            Value::String(text) => found.push((path, text.clone())),
            Value::Bool(_) | Value::Number(_) => found.push((path, value.to_string())),
            Value::Array(elements) => next.extend(elements.iter().rev().map(|one| (path.clone(), one))),
            Value::Object(members) => {
                next.extend(members.iter().rev().map(|(name, one)| (format!("{path}.{name}"), one)));
            }
        }
    }
    found
}

/// SQL's LIKE as far as KMFDDM's users write it: `%` stands for anything, and what has none is a
/// beginning.
fn matches(pattern: &str, path: &str) -> bool {
    let mut parts = pattern.split('%');
    let Some(mut rest) = parts.next().and_then(|first| path.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else { return true };
    for part in between {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// The newest report, or that of `?index=` or `?status_id=`, byte for byte.
pub(super) async fn status_report(
    State(admin): State<Admin>,
    Path(enrollment_id): Path<String>,
    parameters: Parameters,
) -> Result<Response, Refusal> {
    let index = parameters.number("index")?;
    let wanted = parameters.text("status_id").map(str::to_owned);
    let kept = admin.mdm.store.read(move |conn| {
        existing(conn, &enrollment_id)?;
        reports(conn, &enrollment_id)
    });
    let mut kept = kept.await?.into_iter().zip(0_u64..).map(|((at, report), place)| {
        let name = name(at, &report);
        (at, report, place, name)
    });
    let found = kept.find(|(_, _, place, name)| match &wanted {
        Some(wanted) => wanted == name,
        None => *place == index.unwrap_or(0),
    });
    let (at, report, place, name) = found.ok_or_else(|| Error::NotFound("such status report".into()))?;
    status::check(&report)?;
    let mut response = report.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(HeaderName::from_static("x-status-report-index"), HeaderValue::from(place));
    for (header, text) in
        [(LAST_MODIFIED, http_date(at)), (HeaderName::from_static("x-status-report-id"), name)]
    {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(header, value);
        }
    }
    Ok(response)
}

/// As in `Last-Modified: Wed, 21 Oct 2026 07:28:00 GMT`.
fn http_date(at: Seconds) -> String {
    let form = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let time = time::OffsetDateTime::from_unix_timestamp(at).ok();
    time.and_then(|time| time.format(form).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_pattern_is_read_as_like_reads_it() {
        let path = ".StatusItems.device.identifier.udid";
        for yes in ["", "%", ".StatusItems.device.%", ".StatusItems.device", "%udid", "%.device.%udid"] {
            assert!(matches(yes, path), "{yes}");
        }
        for no in ["device", "%serial%", ".StatusItems.device.%serial", "%udid.%", ".statusItems.%"] {
            assert!(!matches(no, path), "{no}");
        }
    }
}
