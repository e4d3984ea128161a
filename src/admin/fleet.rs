//! All channels that are enrolled, one after the other, for questions about each of them.

use rusqlite::Connection;

use crate::ddm::Subject;
use crate::error::Result;
use crate::mdm::{enrollment, subject};

const AT_ONCE: u32 = 500;

/// The enrolled channels in the order of their IDs, those after `after`.
pub(super) fn subjects(conn: &Connection, after: &str, limit: u32) -> Result<Vec<Subject>> {
    let ids = enrollment::enrolled_after(conn, after, limit)?;
    ids.iter().filter_map(|id| subject::of(conn, id).transpose()).collect()
}

/// Those of all enrolled channels for which this holds.
pub(super) fn those(
    conn: &Connection,
    mut which: impl FnMut(&Subject) -> Result<bool>,
) -> Result<Vec<Subject>> {
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let batch = subjects(conn, &after, AT_ONCE)?;
        let Some(last) = batch.last() else { return Ok(found) };
        after.clone_from(&last.id);
        for subject in batch {
            if which(&subject)? {
                found.push(subject);
            }
        }
    }
}
