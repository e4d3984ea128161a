//! The routes of NanoMDM, so that its scripts and tools work with only the URL changed.
//!
//! `PUT, GET /api/v1/nanomdm/pushcert`, `GET, PUT /api/v1/nanomdm/push/{id,id…}`,
//! `PUT, POST /api/v1/nanomdm/enqueue/{id,id…}[?nopush=1]`. Replies have the shapes of NanoMDM's
//! OpenAPI document: what became of each enrollment under `status`; 200 when all went well, 207 when
//! some did, 500 when none did.
//!
//! **Invariant:** nothing is decided here: these are adapters over the functions of the other files.

use std::collections::BTreeSet;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use super::auth::Caller;
use super::push_certificate::{Given, import};
use super::query::Parameters;
use super::reply::Refusal;
use super::{Admin, body, command, push};
use crate::apns::certificate;
use crate::clock::rfc3339;
use crate::error::{Error, Result};
use crate::mdm::wake;
use crate::schema::commands;

pub(super) async fn put_pushcert(
    State(admin): State<Admin>,
    caller: Caller,
    parameters: Parameters,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Refusal> {
    let pem = body::bytes(body)?;
    let given = Given {
        parts: vec![String::from_utf8_lossy(&pem).into_owned()],
        replace_topic: parameters.number("replace_topic")?,
        ..Given::default()
    };
    let (imported, _) = import(&admin, given, caller.actor).await.map_err(|error| match error {
        // Nothing can be pointed at in a body that is no JSON.
        Error::Invalid { words, .. } => Error::invalid(words),
        other => other,
    })?;
    Ok(Json(json!({"topic": imported.topic, "not_after": rfc3339(imported.not_after)})))
}

/// The certificate of `?topic=`, or the one with which new devices enroll.
pub(super) async fn get_pushcert(
    State(admin): State<Admin>,
    parameters: Parameters,
) -> Result<Json<Value>, Refusal> {
    let found = admin.mdm.store.peek(|conn| match parameters.text("topic") {
        Some(topic) => certificate::by_topic(conn, topic),
        None => certificate::newest(conn),
    })?;
    let found = found.ok_or_else(|| Error::NotFound("push certificate".into()))?;
    Ok(Json(json!({"topic": found.topic, "not_after": rfc3339(found.not_after)})))
}

/// What became of each enrollment.
#[derive(Default)]
struct Outcome {
    status: Map<String, Value>,
    failed: BTreeSet<String>,
}

impl Outcome {
    fn note(&mut self, id: &str, member: &str, words: String, failed: bool) {
        let entry = self.status.entry(id).or_insert_with(|| json!({}));
        entry[member] = words.into();
        if failed {
            self.failed.insert(id.to_owned());
        }
    }

    /// `hopeless` of `all` enrollments got nothing of what was asked.
    fn http_status(&self, hopeless: usize, all: usize) -> StatusCode {
        match self.failed.len() {
            0 => StatusCode::OK,
            _ if hopeless == all => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::MULTI_STATUS,
        }
    }

    /// Pushes all of them at once: where Apple does not answer, each takes its time.
    async fn push(&mut self, admin: &Admin, ids: Vec<String>, actor: &str) {
        let mut under_way = JoinSet::new();
        for id in ids {
            let (admin, actor) = (admin.clone(), actor.to_owned());
            under_way.spawn(async move {
                let answer = push::push(&admin, &id, &actor).await;
                (id, answer)
            });
        }
        while let Some(ended) = under_way.join_next().await {
            match ended {
                Ok((id, Ok(answer))) if answer.is_delivered() => {
                    let apns_id = answer.reply.and_then(|reply| reply.apns_id).unwrap_or_default();
                    self.note(&id, "push_result", apns_id, false);
                }
                Ok((id, Ok(answer))) => self.note(&id, "push_error", answer.words, true),
                Ok((id, Err(error))) => self.note(&id, "push_error", error.to_string(), true),
                Err(error) => tracing::error!(%error, "a push did not finish"),
            }
        }
    }
}

pub(super) async fn push_to(
    State(admin): State<Admin>,
    caller: Caller,
    Path(ids): Path<String>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let ids = split(&ids)?;
    let mut outcome = Outcome::default();
    let all = ids.len();
    outcome.push(&admin, ids, &caller.actor).await;
    Ok((outcome.http_status(outcome.failed.len(), all), Json(json!({"status": outcome.status}))))
}

pub(super) async fn enqueue(
    State(admin): State<Admin>,
    caller: Caller,
    Path(ids): Path<String>,
    parameters: Parameters,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let ids = split(&ids)?;
    // NanoMDM takes any value but the empty one as yes.
    let (no_push, force) = (parameters.text("nopush").is_some(), parameters.flag("force")?);
    let request = commands::from_plist(&body::bytes(body)?)?;
    command::allowed(&caller, &request.request_type)?;
    let mut reply = json!({
        "no_push": no_push,
        "command_uuid": request.uuid,
        "request_type": request.request_type,
    });
    let (mdm, actor, targets) = (admin.mdm.clone(), caller.actor.clone(), ids.clone());
    let queued = admin.mdm.store.write("nanomdm.enqueue", move |tx| {
        let mut refused = Vec::new();
        for id in targets {
            let planned = wake::planned(tx, &id)?;
            match command::enqueue(tx, &mdm, &id, &request, &actor, None, force) {
                // The device hears of it when it comes by itself.
                Ok(_) if no_push => wake::put_back(tx, &id, planned.as_ref())?,
                // The push comes from here, so that the reply can carry APNs' answer.
                Ok(_) => wake::later(tx, &id, wake::pause_after(0))?,
                Err(error @ (Error::NotFound(_) | Error::Conflict { .. })) => {
                    refused.push((id, error.to_string()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(refused)
    });
    let mut outcome = Outcome::default();
    for (id, words) in queued.await? {
        outcome.note(&id, "command_error", words, true);
    }
    let (refused, all) = (outcome.failed.len(), ids.len());
    if !no_push {
        let queued = ids.into_iter().filter(|id| !outcome.failed.contains(id)).collect();
        outcome.push(&admin, queued, &caller.actor).await;
    }
    // A command that is queued arrives, even if its push failed: a script must not send it again.
    let status = outcome.http_status(refused, all);
    reply["status"] = outcome.status.into();
    Ok((status, Json(reply)))
}

/// The enrollment IDs of a path, each once, in order.
pub(super) fn split(ids: &str) -> Result<Vec<String>> {
    let mut seen = BTreeSet::new();
    let ids: Vec<String> =
        ids.split(',').filter(|id| !id.is_empty() && seen.insert(*id)).map(str::to_owned).collect();
    if ids.is_empty() {
        return Err(Error::invalid(
            "the address names no enrollment; write their IDs with commas between them",
        ));
    }
    Ok(ids)
}
