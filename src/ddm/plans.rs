//! The plan of the present generation, kept in memory from one look to the next.
//!
//! Whoever looks at a channel's set asks here. Groups and declarations are read only after an edit, by
//! whoever comes first; everybody else reads the one row that says which edit was the last.
//!
//! **Invariant:** what is answered is what this connection would read now. An edit that is rolled back
//! has a stamp that no other edit gets, so what was read between is never taken for anything else.

use std::sync::{Arc, PoisonError, RwLock};

use rusqlite::Connection;

use super::generation;
use super::manifest::Plan;
use crate::error::Result;

/// One is enough: readers and the writer are at different edits only for a moment.
static LATEST: RwLock<Option<Arc<Plan>>> = RwLock::new(None);

/// All groups and declarations, as this connection sees them.
///
/// # Errors
/// The database's.
pub fn present(conn: &Connection) -> Result<Arc<Plan>> {
    let now = generation::now(conn)?;
    let kept = LATEST.read().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(plan) = kept.filter(|plan| plan.generation == now) {
        return Ok(plan);
    }
    let plan = Arc::new(Plan::read(conn)?);
    *LATEST.write().unwrap_or_else(PoisonError::into_inner) = Some(plan.clone());
    Ok(plan)
}
