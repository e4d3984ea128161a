//! `GET /api/v1/settings`: what the configuration says, as `russet check` prints it.
//!
//! **Invariant:** a secret is `set` or `not set` (`config::report`).

use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};

use super::Admin;

pub(super) async fn show(State(admin): State<Admin>) -> Json<Value> {
    let settings: Map<String, Value> =
        admin.settings.iter().map(|(key, value)| ((*key).to_owned(), value.clone().into())).collect();
    Json(json!({"settings": settings}))
}
