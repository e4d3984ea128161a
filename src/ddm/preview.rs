//! Where a predicate would hold now, from what devices reported last.
//!
//! No device is asked: what one has never reported is not known.

use rusqlite::Connection;

use super::group;
use super::known::Known;
use super::predicate::{Predicate, Truth};
use super::subject::Subject;
use crate::error::Result;

/// What a predicate comes to on each of these channels, by enrollment ID.
///
/// # Errors
/// The database's.
pub fn preview(
    conn: &Connection,
    predicate: &Predicate,
    subjects: &[Subject],
) -> Result<Vec<(String, Truth)>> {
    let ranked = group::ranked(conn)?;
    let truths = subjects.iter().map(|subject| {
        let groups = group::names_of(conn, &ranked, subject)?;
        let truth = predicate.evaluate(&Known { conn, subject, groups: &groups });
        Ok((subject.id.clone(), truth))
    });
    truths.collect()
}
