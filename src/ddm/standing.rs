//! Where each declaration stands on a channel: what it should have, beside what the device says of it.
//!
//! **Invariant:** a state counts only for the ServerToken that it was reported for.

use rusqlite::Connection;
use serde_json::{Value as Json, json};

use super::manifest::{self, Manifest};
use super::status::declared::{State, states};
use super::subject::Subject;
use crate::clock::rfc3339;
use crate::error::Result;
use crate::id::printable;
use crate::schema::reasons::reason_words;

/// The declarations of a channel, those too that are left out, as the API shows them.
///
/// # Errors
/// The database's.
pub fn standing(conn: &Connection, subject: &Subject) -> Result<Vec<Json>> {
    let Manifest { items, left_out, .. } = manifest::of(conn, subject)?;
    let mut states = states(conn, &subject.id)?;
    let mut list: Vec<Json> = items
        .into_iter()
        .map(|item| {
            let state = states.remove(&(item.identifier.clone(), item.server_token.clone()));
            one(&item.identifier, &item.declaration_type, Some(&item.server_token), state.as_ref(), None)
        })
        .collect();
    list.extend(
        left_out
            .into_iter()
            .map(|out| one(&out.identifier, &out.declaration_type, None, None, Some(&out.words))),
    );
    list.sort_by(|one, other| one["identifier"].as_str().cmp(&other["identifier"].as_str()));
    Ok(list)
}

fn one(
    identifier: &str,
    declaration_type: &str,
    server_token: Option<&str>,
    state: Option<&State>,
    left_out: Option<&str>,
) -> Json {
    json!({
        "identifier": identifier,
        "type": declaration_type,
        "server_token": server_token,
        "received": state.is_some(),
        "active": state.is_some_and(|state| state.active),
        "valid": state.map_or("unknown", |state| &state.valid),
        "reasons": state.map(reasons).unwrap_or_default(),
        "left_out": left_out,
        "reported_at": state.map(|state| rfc3339(state.reported_at)),
    })
}

/// A device's reasons, with words that say what to do.
pub fn reasons(state: &State) -> Vec<Json> {
    let said: Vec<Json> = serde_json::from_str(&state.reasons).unwrap_or_default();
    said.iter()
        .map(|reason| {
            let code = printable(reason["code"].as_str().unwrap_or_default());
            json!({
                "words": reason_words(&code),
                "code": code,
                "description": reason["description"].as_str().map(printable),
                "details": reason["details"],
            })
        })
        .collect()
}
