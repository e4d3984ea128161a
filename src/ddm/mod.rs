//! Declarative management: what a device is told, and what it reports.
//!
//! A device asks for `tokens`, then `declaration-items`, then each `declaration/…` it does not have,
//! and sends `status`. Nobody can write declarations yet, so every device's set is empty: it is told
//! so, which is a valid and stable answer, and what it reports is kept.
//! See Apple's "Integrating Declarative Management".
//!
//! **Invariant:** the DeclarationsToken is a function of the set of declarations and nothing else, so
//! `tokens` and `declaration-items` always agree.

pub mod status;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::clock::{self, Seconds};
use crate::error::Result;
use crate::id;
use crate::storage::Tx;

/// The answer to an endpoint, as JSON; nothing when there is no such thing for this enrollment.
///
/// # Errors
/// The database's.
pub fn answer(
    _conn: &Connection,
    _enrollment_id: &str,
    endpoint: &str,
    now: Seconds,
) -> Result<Option<Vec<u8>>> {
    // SHA-256 of the empty set of declarations.
    let token = id::hex(&id::sha256(b""));
    let answer: Value = match endpoint {
        "tokens" => json!({
            "SyncTokens": {"DeclarationsToken": token, "Timestamp": clock::rfc3339(now)},
        }),
        // All four arrays are required, empty ones too.
        "declaration-items" => json!({
            "Declarations": {"Activations": [], "Assets": [], "Configurations": [], "Management": []},
            "DeclarationsToken": token,
        }),
        _ => return Ok(None),
    };
    Ok(Some(answer.to_string().into_bytes()))
}

/// Forgets what a channel reported: the device starts anew.
pub fn forget(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    status::forget(tx, enrollment_id)
}
