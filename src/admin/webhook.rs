//! `GET /api/v1/webhook`, `POST /api/v1/webhook/test`.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::auth::Caller;
use super::reply::Refusal;
use super::{Admin, audit};

pub(super) async fn show(State(admin): State<Admin>) -> Result<Json<Value>, Refusal> {
    Ok(Json(admin.webhook.to_json()?))
}

/// What the target answers may be shown to whoever may do everything: it may stand where they do not.
pub(super) async fn test(State(admin): State<Admin>, caller: Caller) -> Result<Json<Value>, Refusal> {
    let tested = admin.webhook.test().await?;
    let (actor, status) = (caller.actor, tested.status);
    let audited = admin.mdm.store.write("webhook.audit", move |tx| {
        audit::record(tx, &actor, "webhook.test", "webhook", &json!({"status": status}))
    });
    audited.await?;
    Ok(Json(json!({
        "delivered": tested.delivered,
        "status": tested.status,
        "words": tested.words,
        "answer": tested.answer,
        "milliseconds": tested.milliseconds,
    })))
}
