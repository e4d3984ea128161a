//! The documents behind credential assets (Apple: `declarative/declarations/assets/credentials`).
//!
//! **Invariant:** as with declarations: what the table does not know is refused unless forced.

use serde_json::Value as Json;

use super::table;
use crate::error::{Error, Result};
use crate::schema::check::Checker;

/// Checks the document that an asset of this type leads to; answers what its writer should know.
/// Nothing for a type that leads to no document.
///
/// # Errors
/// [`Error::Invalid`] with a JSON Pointer from the root of the document.
pub fn check_document(asset_type: &str, document: &Json, force: bool) -> Result<Option<Vec<String>>> {
    let Some(name) = asset_type.strip_prefix("com.apple.asset.credential.") else { return Ok(None) };
    let name = if name == "userpassword" { "usernameandpassword" } else { name };
    let Some(known) = table().items.get(&format!("com.apple.credential.{name}")) else { return Ok(None) };
    let Json::Object(members) = document else {
        return Err(Error::invalid_at("", "This must be a JSON object."));
    };
    let mut checker = Checker::new(force);
    checker.dict(&known.keys, members, "")?;
    Ok(Some(checker.warnings))
}
