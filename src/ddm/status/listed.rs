//! `management.declarations` as predicates read it: what a device said of its declarations, in Apple's form.
//!
//! The states are kept by themselves ([`super::declared`]); rules and previews may ask for them like for
//! any other status item, as `ANY @status(management.declarations.configurations).@key(active) == FALSE`.
//!
//! **Invariant:** a channel that never spoke of its declarations is not known to have none.

use rusqlite::Connection;
use serde_json::{Value as Json, json};

use super::declared::{State, states};
use crate::error::Result;
use crate::schema::declarations::Kind;

/// The value of the item; nothing when it is not known.
pub(super) fn value(conn: &Connection, enrollment_id: &str) -> Result<Option<Json>> {
    let states = states(conn, enrollment_id)?;
    if states.is_empty() {
        return Ok(None);
    }
    let mut lists = json!({"activations": [], "configurations": [], "assets": [], "management": []});
    for ((identifier, server_token), state) in &states {
        let list = Kind::named(&state.kind).map(list_of);
        if let Some(Json::Array(list)) = list.map(|name| &mut lists[name]) {
            list.push(element(identifier, server_token, state));
        }
    }
    Ok(Some(lists))
}

fn element(identifier: &str, server_token: &str, state: &State) -> Json {
    let reasons: Json = serde_json::from_str(&state.reasons).unwrap_or_default();
    json!({
        "identifier": identifier,
        "server-token": server_token,
        "active": state.active,
        "valid": state.valid,
        "reasons": reasons,
    })
}

/// The member of the item that lists declarations of a kind.
pub(super) fn list_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Activation => "activations",
        Kind::Configuration => "configurations",
        Kind::Asset => "assets",
        Kind::Management => "management",
    }
}
