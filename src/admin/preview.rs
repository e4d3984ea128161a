//! Where a condition would hold now: `POST /api/v1/preview` with `{"predicate"}` or
//! `{"rule"}`, and `GET /api/v1/declarations/{identifier}/preview` for an activation.
//!
//! **Invariant:** nothing is asked of devices and nothing is written; what they never reported is unknown.

use axum::Json;
use axum::extract::{Path, State};
use rusqlite::Connection;
use serde_json::{Value, json};

use super::body::Object;
use super::query::{Parameters, page};
use super::reply::Refusal;
use super::{Admin, declaration, fleet};
use crate::ddm::plans;
use crate::ddm::predicate::{Dialect, Predicate, Truth, parse};
use crate::ddm::{Subject, group, membership, preview};
use crate::error::{Error, Result};
use crate::schema::declarations::Kind;

fn word(truth: Truth) -> &'static str {
    match truth {
        Truth::True => "true",
        Truth::False => "false",
        Truth::Unknown => "unknown",
    }
}

fn one(subject: &Subject, truth: Truth) -> Value {
    json!({
        "id": subject.id,
        "name": subject.keys.get("name"),
        "serial_number": subject.keys.get("serial_number"),
        "active": word(truth),
    })
}

/// What a predicate comes to on each of these channels; one that cannot be read is unknown everywhere.
fn truths(conn: &Connection, predicate: Option<&Predicate>, subjects: &[Subject]) -> Result<Vec<Truth>> {
    match predicate {
        Some(predicate) => {
            Ok(preview::preview(conn, predicate, subjects)?.into_iter().map(|(_, truth)| truth).collect())
        }
        None => Ok(vec![Truth::Unknown; subjects.len()]),
    }
}

pub(super) async fn post(
    State(admin): State<Admin>,
    parameters: Parameters,
    mut body: Object,
) -> Result<Json<Value>, Refusal> {
    let (limit, cursor) = (parameters.limit()?, parameters.cursor::<String>()?);
    let (predicate, rule) = (body.text("predicate")?, body.text("rule")?);
    body.finish()?;
    let (condition, is_rule) = match (predicate, rule) {
        (Some(text), None) => (read(&text)?, false),
        (None, Some(text)) => (group::check_rule(&text)?, true),
        _ => return Err(Error::invalid_at("", "send either predicate or rule").into()),
    };
    let found = admin.mdm.store.read(move |conn| {
        let subjects = fleet::subjects(conn, cursor.as_deref().unwrap_or_default(), limit + 1)?;
        let truths = if is_rule {
            let truths = subjects.iter().map(|subject| membership::by_rule(conn, &condition, subject));
            truths.collect::<Result<Vec<_>>>()?
        } else {
            truths(conn, Some(&condition), &subjects)?
        };
        let items = subjects.iter().zip(truths);
        Ok(items.map(|(subject, truth)| (subject.id.clone(), one(subject, truth))).collect::<Vec<_>>())
    });
    Ok(Json(page(found.await?, limit)))
}

fn read(text: &str) -> Result<Predicate> {
    parse(text, Dialect::Device).map_err(|error| {
        let refused = Error::invalid_at("/predicate", error.words);
        match error.suggestion {
            Some(suggestion) => refused.suggesting(suggestion),
            None => refused,
        }
    })
}

pub(super) async fn show(
    State(admin): State<Admin>,
    Path(identifier): Path<String>,
    parameters: Parameters,
) -> Result<Json<Value>, Refusal> {
    let (limit, cursor) = (parameters.limit()?, parameters.cursor::<String>()?);
    let found = admin.mdm.store.read(move |conn| {
        let activation = declaration::existing(conn, &identifier)?;
        if activation.kind != Kind::Activation {
            return Err(Error::invalid("only an activation has a condition that could be previewed"));
        }
        let plan = plans::present(conn)?;
        let subjects = fleet::subjects(conn, cursor.as_deref().unwrap_or_default(), limit + 1)?;
        let text = activation.payload.get("Predicate").and_then(Value::as_str);
        let truths = match text {
            None => vec![Truth::True; subjects.len()],
            Some(text) => truths(conn, parse(text, Dialect::Device).ok().as_ref(), &subjects)?,
        };
        let items = subjects.iter().zip(truths).map(|(subject, truth)| {
            let manifest = plan.manifest(conn, subject)?;
            let mut one = one(subject, truth);
            // It is active only where it is.
            one["assigned"] = manifest.items.iter().any(|item| item.identifier == identifier).into();
            Ok((subject.id.clone(), one))
        });
        items.collect::<Result<Vec<_>>>()
    });
    Ok(Json(page(found.await?, limit)))
}
