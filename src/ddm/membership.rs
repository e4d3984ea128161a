//! Whom a group's rule holds for, apart from who is in it by hand.
//!
//! **Invariant:** a rule comes to the same here as in [`super::group::holding`].

use rusqlite::Connection;

use super::group;
use super::known::Known;
use super::predicate::{Predicate, Truth};
use super::subject::Subject;
use crate::error::Result;

/// What a rule comes to on a channel.
///
/// # Errors
/// The database's.
pub fn by_rule(conn: &Connection, rule: &Predicate, subject: &Subject) -> Result<Truth> {
    let by_hand = group::by_hand(conn, &subject.id, &subject.device_id)?;
    Ok(rule.evaluate(&Known { conn, subject, groups: &by_hand }))
}
