//! Sets of apps that are switched together, by hand or at a set time: an examination's, a course's.
//!
//! A set gives declarations to groups as the groups themselves could, but with an activation that reads
//! whether the set is active: `'NAME' IN @property(sets)`. Its declarations go out before they are wanted.
//! When the set is switched, nothing but the `sets` of `management.properties` changes on the devices
//! concerned, and what they have already takes effect.
//!
//! **Invariant:** what devices are told of a set stands in the database and changes only in a transaction
//! that advances the generation; the clock decides in [`turn`] and [`put`] alone.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::json;
use std::collections::BTreeSet;

use super::group::DEFAULT;
use super::{Edit, declaration, generation, group};
use crate::clock::{Seconds, is_sane};
use crate::error::{Error, Result};
use crate::id;
use crate::schema::declarations::{Kind, is_identifier};
use crate::storage::Tx;

/// The property that activations read.
pub const PROPERTY: &str = "sets";
const LONGEST_DESCRIPTION: usize = 4096;
const MOST_NAMES: usize = 1000;
/// All of them together stand in every device's properties.
const MOST: i64 = 200;

/// A set as it is written and read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AppSet {
    pub name: String,
    pub description: String,
    /// Names.
    pub groups: Vec<String>,
    /// Identifiers of configurations.
    pub declarations: Vec<String>,
    /// By hand, whatever the times say.
    pub active: Option<bool>,
    pub active_from: Option<Seconds>,
    pub active_until: Option<Seconds>,
    /// What devices are told at present.
    pub is_active: bool,
}

/// What became of a set that was sent.
#[derive(Debug)]
pub struct Put {
    pub created: bool,
    pub changed: bool,
    /// What the sender should know, in sentences.
    pub warnings: Vec<String>,
}

impl AppSet {
    /// Whether it should be active at this time.
    fn at(&self, now: Seconds) -> bool {
        self.active.unwrap_or_else(|| {
            self.active_from.is_none_or(|from| from <= now)
                && self.active_until.is_none_or(|until| now < until)
        })
    }

    /// When it is switched next, by the clock.
    pub fn next_change(&self, now: Seconds) -> Option<Seconds> {
        let times = [self.active_from, self.active_until].into_iter().flatten();
        times.filter(|at| self.active.is_none() && *at > now).min()
    }

    /// Whether it concerns a channel that is in these groups and in that of everybody.
    pub(super) fn concerns(&self, groups: &[String]) -> bool {
        self.groups.iter().any(|name| name == DEFAULT || groups.contains(name))
    }

    /// The condition of its activation. The name can be nothing that needs quoting.
    pub(super) fn predicate(&self) -> String {
        format!("'{}' IN @property({PROPERTY})", self.name)
    }
}

const COLUMNS: &str = "name, description, groups, declarations, active, active_from, active_until, is_active";

fn read(row: &Row<'_>) -> rusqlite::Result<AppSet> {
    let names = |column: usize| -> rusqlite::Result<Vec<String>> {
        Ok(serde_json::from_str(row.get_ref(column)?.as_str()?).unwrap_or_default())
    };
    Ok(AppSet {
        name: row.get(0)?,
        description: row.get(1)?,
        groups: names(2)?,
        declarations: names(3)?,
        active: row.get(4)?,
        active_from: row.get(5)?,
        active_until: row.get(6)?,
        is_active: row.get(7)?,
    })
}

/// The set of this name.
///
/// # Errors
/// The database's.
pub fn get(conn: &Connection, name: &str) -> Result<Option<AppSet>> {
    Ok(conn
        .prepare_cached(&format!("SELECT {COLUMNS} FROM app_sets WHERE name = ?1"))?
        .query_row([name], read)
        .optional()?)
}

/// What is said of a set that is not there, as the end of a sentence.
pub fn missing(name: &str) -> String {
    let name = id::printable(name);
    format!("app set {name}; GET /api/v1/app-sets lists them, PUT /api/v1/app-sets/{name} makes one")
}

/// Sets in the order of their names, those after `after`.
///
/// # Errors
/// The database's.
pub fn list(conn: &Connection, after: Option<&str>, limit: u32) -> Result<Vec<AppSet>> {
    let mut statement = conn
        .prepare_cached(&format!("SELECT {COLUMNS} FROM app_sets WHERE name > ?1 ORDER BY name LIMIT ?2"))?;
    let rows = statement.query_map(params![after.unwrap_or_default(), limit], read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Writes a set; one of the same name is replaced. `is_active` is not read: it follows from the rest.
///
/// # Errors
/// `Invalid` with a pointer: a name, a group or a declaration that cannot be, or times in the wrong order.
pub fn put(tx: &Tx<'_>, set: &AppSet, edit: Edit<'_>) -> Result<Put> {
    let mut set = set.clone();
    let warnings = check(tx, &mut set)?;
    let known = get(tx, &set.name)?;
    let was_active = known.as_ref().is_some_and(|known| known.is_active);
    // While the time is not known, what is stays.
    set.is_active = if set.active.is_some() || is_sane(tx.now()) { set.at(tx.now()) } else { was_active };
    let changed = known.as_ref() != Some(&set);
    if changed {
        if known.is_none() {
            let count: i64 =
                tx.prepare_cached("SELECT COUNT(*) FROM app_sets")?.query_row([], |row| row.get(0))?;
            if count >= MOST {
                return Err(Error::conflict(format!("there are at most {MOST} app sets; delete one first")));
            }
        }
        tx.prepare_cached(&format!(
            "INSERT INTO app_sets ({COLUMNS}, created_at, updated_at, updated_by)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, ?10)
             ON CONFLICT DO UPDATE SET
                 description = excluded.description, groups = excluded.groups,
                 declarations = excluded.declarations, active = excluded.active,
                 active_from = excluded.active_from, active_until = excluded.active_until,
                 is_active = excluded.is_active, updated_at = excluded.updated_at,
                 updated_by = excluded.updated_by"
        ))?
        .execute(params![
            set.name,
            set.description,
            json!(set.groups).to_string(),
            json!(set.declarations).to_string(),
            set.active,
            set.active_from,
            set.active_until,
            set.is_active,
            tx.now(),
            edit.actor,
        ])?;
        generation::advance(tx, edit.notify)?;
    }
    Ok(Put { created: known.is_none(), changed, warnings })
}

fn check(conn: &Connection, set: &mut AppSet) -> Result<Vec<String>> {
    if !is_identifier(&set.name) || set.name.bytes().all(|byte| byte == b'.') {
        let words = "The name of an app set has 1 to 64 letters, digits, dots, underscores and hyphens.";
        return Err(Error::invalid_at("/name", words));
    }
    if set.description.len() > LONGEST_DESCRIPTION {
        let words = format!("A description has at most {LONGEST_DESCRIPTION} bytes.");
        return Err(Error::invalid_at("/description", words));
    }
    if let (Some(from), Some(until)) = (set.active_from, set.active_until)
        && from >= until
    {
        return Err(Error::invalid_at("/active_until", "active_until must be later than active_from."));
    }
    for (index, name) in set.groups.iter().enumerate() {
        if index >= MOST_NAMES || group::get(conn, name)?.is_none() {
            let words = format!("There is no group {}; write it first.", id::printable(name));
            return Err(Error::invalid_at(format!("/groups/{index}"), words));
        }
    }
    let mut warnings = Vec::new();
    for (index, identifier) in set.declarations.iter().enumerate() {
        let refused = |words: String| Err(Error::invalid_at(format!("/declarations/{index}"), words));
        let found = if index < MOST_NAMES { declaration::get(conn, identifier)? } else { None };
        match found {
            None => {
                return refused(format!(
                    "There is no declaration {}; write it first.",
                    id::printable(identifier)
                ));
            }
            Some(found) if found.kind != Kind::Configuration => {
                return refused(format!(
                    "{identifier} is not a configuration but {}.",
                    found.declaration_type
                ));
            }
            Some(_) => {}
        }
        // Who is in any group is in that of everybody.
        let direct = group::with_declaration(conn, identifier)?;
        if let Some(direct) =
            direct.iter().find(|name| *name == DEFAULT || set.concerns(std::slice::from_ref(name)))
        {
            warnings.push(format!(
                "{identifier} is in the group {direct} itself, too: there it is active whatever this set says."
            ));
        }
    }
    for names in [&mut set.groups, &mut set.declarations] {
        names.sort();
        names.dedup();
    }
    Ok(warnings)
}

/// Removes a set; devices lose what it gave them.
///
/// # Errors
/// `NotFound`.
pub fn delete(tx: &Tx<'_>, name: &str, edit: Edit<'_>) -> Result<()> {
    let deleted = tx.prepare_cached("DELETE FROM app_sets WHERE name = ?1")?.execute([name])?;
    if deleted == 0 {
        return Err(Error::NotFound(missing(name)));
    }
    generation::advance(tx, edit.notify)
}

/// Whether a set is to be switched now.
///
/// # Errors
/// The database's.
pub fn is_due(conn: &Connection, now: Seconds) -> Result<bool> {
    Ok(is_sane(now) && list(conn, None, u32::MAX)?.iter().any(|set| set.at(now) != set.is_active))
}

/// Switches the sets whose time has come; a background task's. Answers which, and whether they are active.
///
/// # Errors
/// The database's.
pub fn turn(tx: &Tx<'_>) -> Result<Vec<(String, bool)>> {
    let now = tx.now();
    if !is_sane(now) {
        return Ok(Vec::new());
    }
    let mut turned = Vec::new();
    for set in list(tx, None, u32::MAX)? {
        let active = set.at(now);
        if active != set.is_active {
            tx.prepare_cached("UPDATE app_sets SET is_active = ?2 WHERE name = ?1")?
                .execute(params![set.name, active])?;
            turned.push((set.name, active));
        }
    }
    if !turned.is_empty() {
        generation::advance(tx, true)?;
    }
    Ok(turned)
}

/// The names of the active ones among those that concern a channel, which is in these groups; nothing if
/// none concerns it.
pub(super) fn active(sets: &[AppSet], groups: &[String]) -> Option<Vec<String>> {
    let mut concerned = sets.iter().filter(|set| set.concerns(groups)).peekable();
    concerned.peek()?;
    Some(concerned.filter(|set| set.is_active).map(|set| set.name.clone()).collect())
}

/// The sets that this declaration is in.
pub(super) fn with_declaration(conn: &Connection, identifier: &str) -> Result<Vec<String>> {
    names(conn, |set| set.declarations.iter().any(|name| name == identifier))
}

/// The sets that go to this group.
pub(super) fn with_group(conn: &Connection, name: &str) -> Result<Vec<String>> {
    names(conn, |set| set.groups.iter().any(|group| group == name))
}

fn names(conn: &Connection, which: impl Fn(&AppSet) -> bool) -> Result<Vec<String>> {
    let sets = list(conn, None, u32::MAX)?;
    let names: BTreeSet<String> = sets.into_iter().filter(which).map(|set| set.name).collect();
    Ok(names.into_iter().collect())
}
