//! The values that devices report of themselves, the latest of each, as JSON with its time.
//!
//! **Invariant:** what a channel has here is bounded: items, the size of each and of all together.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};

use super::error::Note;
use super::{MOST_ITEMS, change, error};
use crate::clock::Seconds;
use crate::error::Result;
use crate::storage::Tx;

/// The largest value, as JSON.
pub const LARGEST: usize = 64 * 1024;
/// All values of a channel together.
const MOST_BYTES: usize = 1024 * 1024;

/// One item of a channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub path: String,
    /// Nothing when it was too large to be kept.
    pub value: Option<Json>,
    /// When it became this.
    pub reported_at: Seconds,
}

/// What a report says of an item.
pub(super) struct Said {
    /// As JSON.
    text: String,
    /// Of a list whose elements have identifiers, each with its text; nothing for one that is removed.
    elements: Option<Vec<(String, Option<String>)>>,
}

impl Said {
    pub(super) fn of(value: &Json) -> Self {
        let elements = value.as_array().and_then(|list| list.iter().map(element).collect());
        Self { text: value.to_string(), elements }
    }

    /// The list as it is after this; nothing where part of it is not known. What is no such list simply
    /// is what it is.
    fn onto(&self, known: Option<&Option<String>>, full: bool) -> Option<String> {
        match (&self.elements, known) {
            (None, _) => Some(self.text.clone()),
            // Part of a list of which the rest was not kept says nothing.
            (Some(_), Some(None)) if !full => None,
            (Some(news), Some(Some(old))) if !full => Some(merged(old, news)),
            (Some(news), _) => Some(merged("[]", news)),
        }
    }
}

fn element(element: &Json) -> Option<(String, Option<String>)> {
    let mut members = element.as_object()?.clone();
    let identifier = members.get("identifier")?.as_str()?.to_owned();
    let removed = members.remove("_removed").and_then(|removed| removed.as_bool()).unwrap_or(false);
    Some((identifier, (!removed).then(|| Json::Object(members).to_string())))
}

/// Takes what a report says; answers the items whose values are others now.
pub(super) fn merge(
    tx: &Tx<'_>,
    enrollment_id: &str,
    items: &BTreeMap<String, Said>,
    full: bool,
    notes: &mut Vec<Note>,
) -> Result<BTreeSet<String>> {
    let mut changed = BTreeSet::new();
    if full {
        for path in paths(tx, enrollment_id)? {
            // Every device has capabilities: a report without them does not mean that they are gone.
            if !items.contains_key(&path) && path != "management.client-capabilities" {
                tx.prepare_cached("DELETE FROM status_items WHERE enrollment_id = ?1 AND path = ?2")?
                    .execute([enrollment_id, &path])?;
                change::note(tx, enrollment_id, &path, None)?;
                changed.insert(path);
            }
        }
    }
    // Counted when something is to be kept; most reports repeat what is known.
    let mut room: Option<Room> = None;
    for (path, said) in items {
        let known = text(tx, enrollment_id, path)?;
        let new = said.onto(known.as_ref(), full);
        if known.as_ref() == Some(&new) {
            continue;
        }
        let size = new.as_ref().map_or(0, String::len);
        let kept = new.as_deref().filter(|_| size <= LARGEST);
        let before = known.as_ref().map(|old| old.as_ref().map_or(0, String::len));
        let room = match &mut room {
            Some(room) => room,
            none => none.insert(Room::of(tx, enrollment_id)?),
        };
        if !room.admits(before, kept.map_or(0, str::len)) {
            let words = "This item was not kept: the channel reports more than is kept of one.";
            notes.push(error::not_kept(path, words));
            continue;
        }
        if new.is_some() && kept.is_none() {
            let words = format!("A value of {size} bytes was not kept; {LARGEST} are the most.");
            notes.push(error::not_kept(path, &words));
            // What was not kept before and is not now is no news.
            if known == Some(None) {
                continue;
            }
        }
        tx.prepare_cached(
            "INSERT INTO status_items (enrollment_id, path, value, reported_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET value = excluded.value, reported_at = excluded.reported_at",
        )?
        .execute(params![enrollment_id, path, kept, tx.now()])?;
        change::note(tx, enrollment_id, path, new.as_deref())?;
        changed.insert(path.clone());
    }
    Ok(changed)
}

/// What may still be kept of a channel.
struct Room {
    items: usize,
    bytes: usize,
}

impl Room {
    fn of(conn: &Connection, enrollment_id: &str) -> Result<Self> {
        Ok(conn
            .prepare_cached(
                "SELECT COUNT(*), COALESCE(SUM(OCTET_LENGTH(value)), 0) FROM status_items WHERE enrollment_id = ?1",
            )?
            .query_row([enrollment_id], |row| {
                let (items, bytes): (i64, i64) = (row.get(0)?, row.get(1)?);
                let count = |number| usize::try_from(number).unwrap_or(0);
                Ok(Self { items: count(items), bytes: count(bytes) })
            })?)
    }

    /// Whether a value of this size may take the place of one of the other, or a new place.
    fn admits(&mut self, before: Option<usize>, size: usize) -> bool {
        let items = self.items + usize::from(before.is_none());
        let bytes = self.bytes.saturating_sub(before.unwrap_or(0)) + size;
        let admits = items <= MOST_ITEMS && bytes <= MOST_BYTES;
        if admits {
            (self.items, self.bytes) = (items, bytes);
        }
        admits
    }
}

/// A list after a report of it: elements take the place of those of the same identifier.
fn merged(old: &str, news: &[(String, Option<String>)]) -> String {
    let old: Vec<Json> = serde_json::from_str(old).unwrap_or_default();
    let mut list: Vec<Option<String>> = Vec::with_capacity(old.len() + news.len());
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for element in &old {
        // What has no identifier cannot be told apart from what comes now.
        let Some(identifier) = element["identifier"].as_str() else { continue };
        places.insert(identifier, list.len());
        list.push(Some(element.to_string()));
    }
    for (identifier, element) in news {
        match places.get(identifier.as_str()) {
            Some(place) => list[*place].clone_from(element),
            None => {
                places.insert(identifier, list.len());
                list.push(element.clone());
            }
        }
    }
    let list: Vec<String> = list.into_iter().flatten().collect();
    format!("[{}]", list.join(","))
}

fn paths(conn: &Connection, enrollment_id: &str) -> Result<Vec<String>> {
    let mut statement = conn.prepare_cached("SELECT path FROM status_items WHERE enrollment_id = ?1")?;
    Ok(statement.query_map([enrollment_id], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

fn text(conn: &Connection, enrollment_id: &str, path: &str) -> Result<Option<Option<String>>> {
    Ok(conn
        .prepare_cached("SELECT value FROM status_items WHERE enrollment_id = ?1 AND path = ?2")?
        .query_row([enrollment_id, path], |row| row.get(0))
        .optional()?)
}

/// Exactly this item.
pub fn find(conn: &Connection, enrollment_id: &str, path: &str) -> Result<Option<Item>> {
    Ok(conn
        .prepare_cached("SELECT value, reported_at FROM status_items WHERE enrollment_id = ?1 AND path = ?2")?
        .query_row([enrollment_id, path], |row| {
            let text: Option<String> = row.get(0)?;
            let value = text.and_then(|text| serde_json::from_str(&text).ok());
            Ok(Item { path: path.to_owned(), value, reported_at: row.get(1)? })
        })
        .optional()?)
}

/// The value of exactly this item.
pub(super) fn value(conn: &Connection, enrollment_id: &str, path: &str) -> Result<Option<Json>> {
    let text = text(conn, enrollment_id, path)?.flatten();
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

/// The items of a channel whose names begin so, in alphabetical order.
pub fn values(conn: &Connection, enrollment_id: &str, prefix: &str) -> Result<Vec<Item>> {
    let mut statement = conn.prepare_cached(
        "SELECT path, value, reported_at FROM status_items
         WHERE enrollment_id = ?1 AND substr(path, 1, length(?2)) = ?2 ORDER BY path",
    )?;
    let items = statement.query_map([enrollment_id, prefix], |row| {
        let text: Option<String> = row.get(1)?;
        let value = text.and_then(|text| serde_json::from_str(&text).ok());
        Ok(Item { path: row.get(0)?, value, reported_at: row.get(2)? })
    })?;
    Ok(items.collect::<Result<_, _>>()?)
}

pub(super) fn forget(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM status_items WHERE enrollment_id = ?1")?.execute([enrollment_id])?;
    Ok(())
}
