//! `GET /api/v1/enrollments/{id}/declarations` and `…/status`: what a channel should have, what it said
//! of that, and what it reported of itself.
//!
//! **Invariant:** what is not known is null, never made up.

use axum::Json;
use axum::extract::{Path, State};
use rusqlite::Connection;
use serde_json::{Value, json};

use super::Admin;
use super::enrollment::existing;
use super::query::{Parameters, page};
use super::reply::Refusal;
use crate::clock::rfc3339;
use crate::ddm::standing::standing;
use crate::ddm::status::change::{self, changes};
use crate::ddm::status::error::errors;
use crate::ddm::status::item::{LARGEST, values};
use crate::ddm::status::report::reports;
use crate::ddm::{Subject, status, sync};
use crate::error::{Error, Result};
use crate::mdm::subject;

/// How many changes are shown.
const MOST_CHANGES: u32 = 200;

fn subject_of(conn: &Connection, id: &str) -> Result<Subject> {
    subject::of(conn, id)?.ok_or_else(|| Error::NotFound("such enrollment".into()))
}

/// Why a value is not shown.
fn too_large(size: Option<u64>, most: usize) -> String {
    match size {
        Some(size) => format!("The value of {size} bytes was not kept; {most} are the most."),
        None => format!("The value was not kept, because it is larger than {most} bytes."),
    }
}

pub(super) async fn declarations(
    State(admin): State<Admin>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Json<Value>, Refusal> {
    let (limit, after) = (parameters.limit()?, parameters.cursor::<String>()?.unwrap_or_default());
    let found = admin.mdm.store.read(move |conn| {
        let all = standing(conn, &subject_of(conn, &id)?)?;
        let most = usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(1);
        let items =
            all.into_iter().map(|one| (one["identifier"].as_str().unwrap_or_default().to_owned(), one));
        let items = items.filter(|(identifier, _)| *identifier > after).take(most).collect();
        Ok((items, sync::find(conn, &id)?))
    });
    let (items, sync) = found.await?;
    let mut shown = page(items, limit);
    shown["sync"] = sync.map_or(Value::Null, |sync| {
        json!({
            "token": sync.token,
            "told_token": sync.told_token,
            "told_at": sync.told_at.map(rfc3339),
            "outstanding": sync.is_outstanding(),
            "held": sync.held,
        })
    });
    Ok(Json(shown))
}

pub(super) async fn status(
    State(admin): State<Admin>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Json<Value>, Refusal> {
    let (limit, after) = (parameters.limit()?, parameters.cursor::<String>()?);
    // This is one object and its items are bounded: who asks for no page gets all of them.
    let is_whole = parameters.text("limit").is_none() && after.is_none();
    let (limit, after) = (if is_whole { u32::MAX } else { limit }, after.unwrap_or_default());
    let with_reports = parameters.flag("reports")?;
    let prefix = parameters.text("prefix").unwrap_or_default().to_owned();
    let found = admin.mdm.store.read(move |conn| {
        existing(conn, &id)?;
        let most = usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(1);
        let items = values(conn, &id, &prefix)?.into_iter().filter(|item| item.path > after);
        let items = items.take(most).map(|item| {
            let shown = json!({
                "path": item.path,
                "value": item.value,
                "words": item.value.is_none().then(|| too_large(None, LARGEST)),
                "reported_at": rfc3339(item.reported_at),
            });
            (item.path, shown)
        });
        let errors = errors(conn, &id)?
            .into_iter()
            .map(|error| json!({"item": error.item, "reasons": error.reasons, "at": rfc3339(error.at)}));
        let changes = changes(conn, &id, MOST_CHANGES)?.into_iter().map(|change| {
            let words = match (&change.value, change.size) {
                (Some(_), _) => None,
                (None, Some(size)) => Some(too_large(Some(size), change::LARGEST)),
                (None, None) => Some("It is no longer reported.".to_owned()),
            };
            json!({"path": change.path, "value": change.value, "words": words, "at": rfc3339(change.at)})
        });
        let last = reports(conn, &id)?;
        let mut shown = page(items.collect(), limit);
        shown["errors"] = errors.collect();
        shown["changes"] = changes.collect();
        shown["client_capabilities"] =
            status::value(conn, &id, "management.client-capabilities")?.unwrap_or_default();
        shown["last_report_at"] = last.first().map(|(at, _)| rfc3339(*at)).into();
        if with_reports {
            let raw = last.iter().map(|(at, report)| {
                let report: Value = serde_json::from_slice(report).unwrap_or_default();
                json!({"reported_at": rfc3339(*at), "report": report})
            });
            shown["reports"] = raw.collect();
        }
        Ok(shown)
    });
    Ok(Json(found.await?))
}
