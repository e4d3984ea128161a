//! `GET /api/v1/findings`, what `russet doctor` prints, `GET /api/v1/reachability` and `GET /api/v1/support-bundle`.

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::auth::Caller;
use super::query::Parameters;
use super::reply::Refusal;
use super::{Admin, as_download, audit};

/// All of them, the worst first; `?fresh=1` looks anew.
pub(super) async fn list(State(admin): State<Admin>, parameters: Parameters) -> Result<Json<Value>, Refusal> {
    let found = admin.doctor.findings(parameters.flag("fresh")?).await?;
    Ok(Json(json!({"items": found, "next": null})))
}

/// The reachability table, asked from here and now.
pub(super) async fn reachability(State(admin): State<Admin>) -> Result<Json<Value>, Refusal> {
    let survey = admin.doctor.survey().await?;
    Ok(Json(json!({
        "items": survey.items,
        "next": null,
        "no_route": survey.no_route,
        "findings": survey.findings(),
    })))
}

pub(super) async fn bundle(State(admin): State<Admin>, caller: Caller) -> Result<Response, Refusal> {
    let bundle = admin.doctor.bundle(&admin.settings).await?;
    let made = admin.mdm.store.write("support_bundle", move |tx| {
        audit::record(tx, &caller.actor, "support-bundle.make", "support bundle", &Value::Null)
    });
    made.await?;
    Ok(as_download(([(CONTENT_TYPE, "application/gzip")], bundle).into_response()))
}
