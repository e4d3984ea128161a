//! A status report, read.
//!
//! All that takes time with a long report happens here, before the transaction that keeps it.
//!
//! **Invariant:** what a report holds in memory is bounded by its length, its number of values and its
//! depth, each of which is held against a limit before anything is built.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::declared::{self, States};
use super::error::{self, Note};
use super::item::Said;
use super::{DECLARATIONS, MOST_ITEMS, wellformed};
use crate::error::{Error, Result};
use crate::schema::status::status_item;

/// A longer report is not read: none that devices send comes near.
const LONGEST: usize = 2 * 1024 * 1024;
/// Nor one of more values: each takes a hundred bytes of memory or so.
const MOST_VALUES: usize = 100_000;
const LONGEST_PATH: usize = 255;

/// What a report says.
pub struct Report {
    pub(super) raw: Vec<u8>,
    pub(super) full: bool,
    /// By their dotted names.
    pub(super) items: BTreeMap<String, Said>,
    /// If it speaks of declarations.
    pub(super) declarations: Option<States>,
    pub(super) errors: Vec<Note>,
    /// What of it was not read.
    pub(super) notes: Vec<Note>,
}

impl Report {
    /// Reads a report.
    ///
    /// # Errors
    /// `Invalid` when it is not a JSON object; whatever else is odd about it is passed over.
    pub fn read(raw: Vec<u8>) -> Result<Self> {
        let values = wellformed::count(&raw)?;
        let mut report = Self {
            raw,
            full: false,
            items: BTreeMap::new(),
            declarations: None,
            errors: Vec::new(),
            notes: Vec::new(),
        };
        if report.raw.len() > LONGEST || values > MOST_VALUES {
            let words = format!(
                "A status report of {} bytes and {values} values was not read; {LONGEST} bytes and \
                 {MOST_VALUES} values are the most.",
                report.raw.len()
            );
            report.notes.push(error::not_kept("", &words));
            return Ok(report);
        }
        let said: Json = serde_json::from_slice(&report.raw)
            .map_err(|error| Error::invalid(format!("the status report is not a JSON object: {error}")))?;
        report.full = said["FullReport"].as_bool().unwrap_or(false);
        let mut items = flatten(&said["StatusItems"]);
        report.declarations = items.remove(DECLARATIONS).map(declared::read);
        report.items = items.into_iter().map(|(path, value)| (path, Said::of(value))).collect();
        report.errors = said["Errors"].as_array().map(|errors| error::read(errors)).unwrap_or_default();
        Ok(report)
    }
}

/// The items of a report by their dotted names. Apple nests them; an item ends where the table says, or
/// where there is no object any more.
fn flatten(items: &Json) -> BTreeMap<String, &Json> {
    let mut flat = BTreeMap::new();
    let mut next = vec![(String::new(), items)];
    while let Some((path, value)) = next.pop() {
        let is_item = !path.is_empty() && (status_item(&path).is_some() || path == DECLARATIONS);
        match value {
            Json::Object(members) if !is_item => {
                for (name, value) in members {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    if path.len() <= LONGEST_PATH {
                        next.push((path, value));
                    }
                }
            }
            _ if path.is_empty() => {}
            value => {
                if flat.len() < MOST_ITEMS {
                    flat.insert(path, value);
                }
            }
        }
    }
    flat
}
