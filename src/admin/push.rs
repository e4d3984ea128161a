//! `POST /api/v1/enrollments/{id}/push`: wakes a device now and answers what APNs said.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::auth::Caller;
use super::reply::Refusal;
use super::{Admin, audit};
use crate::apns::PushResult;
use crate::error::Result;
use crate::mdm::wake;

/// Pushes one channel for `actor`.
///
/// # Errors
/// `NotFound`; `Conflict` in words when there is nothing to push with.
pub(super) async fn push(admin: &Admin, id: &str, actor: &str) -> Result<PushResult> {
    let answer = wake::push_now(&admin.mdm, id).await?;
    let (id, actor) = (id.to_owned(), actor.to_owned());
    let status = answer.reply.as_ref().map(|reply| reply.status);
    admin
        .mdm
        .store
        .write("push.audit", move |tx| audit::record(tx, &actor, "push", &id, &json!({"status": status})))
        .await?;
    Ok(answer)
}

pub(super) async fn post(
    State(admin): State<Admin>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    Ok(Json(push(&admin, &id, &caller.actor).await?.to_json()))
}
