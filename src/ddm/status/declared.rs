//! What devices say of their declarations: valid or not, active or not, and why.
//!
//! A report that speaks of declarations lists them all, and one that does not leaves them as they were.
//! One declaration may be there in two versions, while a device changes from one to the other.
//!
//! **Invariant:** a device is believed about itself only: what it lists need not exist.

use rusqlite::{Connection, params};
use serde_json::Value as Json;
use std::collections::BTreeMap;

use super::MOST_ITEMS;
use super::listed::list_of;
use crate::clock::Seconds;
use crate::error::Result;
use crate::schema::declarations::{Kind, LONGEST_IDENTIFIER};
use crate::storage::Tx;

/// The most of its reasons that is kept, as JSON.
const LARGEST_REASONS: usize = 16 * 1024;

/// What a device says of one declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub kind: String,
    pub active: bool,
    /// `unknown`, `invalid` or `valid`.
    pub valid: String,
    /// JSON: a list, with Apple's keys.
    pub reasons: String,
    /// When it became this.
    pub reported_at: Seconds,
}

impl State {
    /// Whether it is the same, whenever it became so.
    fn says_as(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.active == other.active
            && self.valid == other.valid
            && self.reasons == other.reasons
    }
}

/// By identifier and ServerToken.
pub type States = BTreeMap<(String, String), State>;

/// Takes the states of a report, which replace all that were known; answers whether they say anything else
/// than before.
pub(super) fn replace(tx: &Tx<'_>, enrollment_id: &str, declarations: &States) -> Result<bool> {
    let mut known = states(tx, enrollment_id)?;
    let mut changed = false;
    for (name, said) in declarations {
        if known.remove(name).is_some_and(|before| before.says_as(said)) {
            continue;
        }
        changed = true;
        tx.prepare_cached(
            "INSERT INTO declaration_states (enrollment_id, identifier, server_token, kind, active, valid,
                                             reasons, reported_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT DO UPDATE SET kind = excluded.kind, active = excluded.active, valid = excluded.valid,
                                       reasons = excluded.reasons, reported_at = excluded.reported_at",
        )?
        .execute(params![
            enrollment_id,
            name.0,
            name.1,
            said.kind,
            said.active,
            said.valid,
            said.reasons,
            tx.now()
        ])?;
    }
    for (identifier, server_token) in known.into_keys() {
        changed = true;
        tx.prepare_cached(
            "DELETE FROM declaration_states WHERE enrollment_id = ?1 AND identifier = ?2 AND server_token = ?3",
        )?
        .execute([enrollment_id, &identifier, &server_token])?;
    }
    Ok(changed)
}

/// Reads the item `management.declarations`. When it became so is known when it is kept.
pub(super) fn read(declarations: &Json) -> States {
    let mut states = States::new();
    for kind in Kind::ALL {
        for said in declarations[list_of(kind)].as_array().into_iter().flatten() {
            let text =
                |key: &str| said[key].as_str().filter(|text| (1..=LONGEST_IDENTIFIER).contains(&text.len()));
            let (Some(identifier), Some(token)) = (text("identifier"), text("server-token")) else {
                continue;
            };
            if states.len() >= MOST_ITEMS {
                return states;
            }
            let valid = text("valid").filter(|valid| matches!(*valid, "valid" | "invalid"));
            let reasons = said["reasons"].as_array().map(Vec::as_slice).unwrap_or_default();
            let state = State {
                kind: kind.name().to_owned(),
                active: said["active"].as_bool().unwrap_or(false),
                valid: valid.unwrap_or("unknown").to_owned(),
                reasons: bounded(reasons),
                reported_at: 0,
            };
            states.insert((identifier.to_owned(), token.to_owned()), state);
        }
    }
    states
}

/// As many of the reasons as are kept, as JSON.
pub(super) fn bounded(reasons: &[Json]) -> String {
    let mut text = String::from("[");
    for reason in reasons.iter().map(Json::to_string) {
        if text.len() + reason.len() > LARGEST_REASONS {
            break;
        }
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&reason);
    }
    text.push(']');
    text
}

/// What a channel says of its declarations.
pub fn states(conn: &Connection, enrollment_id: &str) -> Result<States> {
    let mut statement = conn.prepare_cached(
        "SELECT identifier, server_token, kind, active, valid, reasons, reported_at
         FROM declaration_states WHERE enrollment_id = ?1",
    )?;
    let rows = statement.query_map([enrollment_id], |row| {
        let state = State {
            kind: row.get(2)?,
            active: row.get(3)?,
            valid: row.get(4)?,
            reasons: row.get(5)?,
            reported_at: row.get(6)?,
        };
        Ok(((row.get(0)?, row.get(1)?), state))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn forget(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM declaration_states WHERE enrollment_id = ?1")?.execute([enrollment_id])?;
    Ok(())
}
