//! `POST /api/v1/mail/test`: sends a mail now, to try whether alerts would arrive.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::auth::Caller;
use super::reply::Refusal;
use super::{Admin, audit};

pub(super) async fn test(State(admin): State<Admin>, caller: Caller) -> Result<Json<Value>, Refusal> {
    let sent = admin.expiry.test_mail().await;
    let done = sent.is_ok();
    admin
        .mdm
        .store
        .write("mail.audit", move |tx| {
            audit::record(tx, &caller.actor, "mail.test", "mail", &json!({"sent": done}))
        })
        .await?;
    let (to, answer) = sent?;
    Ok(Json(json!({"to": to, "answer": answer})))
}
