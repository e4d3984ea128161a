//! Where a predicate would hold now, from what devices reported last.
//!
//! No device is asked: what one has never reported is not known. A predicate reads what the channel's own
//! engine would: its status items, and the properties that are declared for it.

use rusqlite::Connection;
use serde_json::{Map, Value as Json};

use super::known::said_elsewhere;
use super::plans;
use super::predicate::{Facts, Predicate, Truth};
use super::status;
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
    let plan = if predicate.properties().is_empty() { None } else { Some(plans::present(conn)?) };
    let truths = subjects.iter().map(|subject| {
        let properties = match &plan {
            Some(plan) => plan.properties(&plan.manifest(conn, subject)?),
            None => Map::new(),
        };
        let truth = predicate.evaluate(&OnDevice { conn, subject, properties });
        Ok((subject.id.clone(), truth))
    });
    truths.collect()
}

/// What a channel's engine knows, as far as the server does.
struct OnDevice<'a> {
    conn: &'a Connection,
    subject: &'a Subject,
    properties: Map<String, Json>,
}

impl Facts for OnDevice<'_> {
    fn status(&self, item: &str) -> Option<Json> {
        let reported = status::value(self.conn, &self.subject.id, item).ok().flatten();
        reported.or_else(|| said_elsewhere(self.subject, item))
    }

    fn property(&self, name: &str) -> Option<Json> {
        // A property that is not set is known to be none.
        Some(self.properties.get(name).cloned().unwrap_or(Json::Null))
    }

    fn key(&self, _: &str) -> Option<Json> {
        None
    }
}
