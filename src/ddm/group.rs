//! Groups: which devices should have which declarations.
//!
//! A device is in a group by hand or because the group's rule holds for it; every device is in the
//! group [`DEFAULT`]. The users of a device are in its groups by hand too; rules are evaluated for each
//! channel by itself. `mdm` and the API write memberships, [`super::manifest`] reads them.
//!
//! **Invariant:** a rule or predicate that is kept was read; a declaration that a group has exists.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::json;
use std::collections::BTreeSet;

use super::known::Known;
use super::predicate::{Dialect, Predicate, Truth, parse};
use super::subject::{KEYS, Subject};
use super::update::policy;
use super::{Edit, app_set, declaration, generation, reads, sync};
use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::id;
use crate::storage::Tx;

/// The group of everybody.
pub const DEFAULT: &str = "default";
/// The order of a group of which nobody says it.
pub const ORDER: i64 = 100;
const LONGEST_NAME: usize = 100;
const LONGEST_DESCRIPTION: usize = 4096;
const MOST_TAGS: usize = 50;

/// A group as it is written and read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    pub name: String,
    pub description: String,
    /// The lowest wins where a device may have only one.
    pub order: i64,
    pub rule: Option<String>,
    pub predicate: Option<String>,
    /// Enrollment IDs, by hand.
    pub members: Vec<String>,
    /// Identifiers.
    pub declarations: Vec<String>,
    pub tags: Vec<String>,
}

/// A group as it decides about devices.
pub struct Ranked {
    pub name: String,
    pub order: i64,
    pub predicate: Option<String>,
    pub declarations: Vec<String>,
    rule: Option<Predicate>,
    /// The status items that the rule reads.
    status_items: BTreeSet<String>,
}

impl Ranked {
    /// Whether its rule reads what devices report.
    pub(super) fn reads_status(&self) -> bool {
        !self.status_items.is_empty()
    }

    /// Whether its rule reads one of these status items.
    pub(super) fn reads(&self, paths: &BTreeSet<String>) -> bool {
        let items = &self.status_items;
        paths.iter().any(|path| items.iter().any(|item| leads_into(item, path) || leads_into(path, item)))
    }

    /// The status items for tests that its rule reads.
    pub(super) fn items_for_tests(&self) -> impl Iterator<Item = String> {
        let items = self.rule.as_ref().map(Predicate::status_items).unwrap_or_default();
        items.into_iter().filter_map(|item| reads::item_for_tests(&item))
    }
}

/// Whether there is an enrollment of this ID, which `mdm` knows.
pub type IsEnrollment<'a> = &'a dyn Fn(&str) -> Result<bool>;

const COLUMNS: &str = "name, description, sort, rule, predicate, tags, created_at, updated_at";

fn read(row: &Row<'_>) -> rusqlite::Result<(Group, Seconds, Seconds)> {
    let tags = serde_json::from_str(row.get_ref(5)?.as_str()?).unwrap_or_default();
    let group = Group {
        name: row.get(0)?,
        description: row.get(1)?,
        order: row.get(2)?,
        rule: row.get(3)?,
        predicate: row.get(4)?,
        tags,
        ..Group::default()
    };
    Ok((group, row.get(6)?, row.get(7)?))
}

/// The group of this name, with its members by hand and its declarations.
pub fn get(conn: &Connection, name: &str) -> Result<Option<Group>> {
    let found = conn
        .prepare_cached(&format!("SELECT {COLUMNS} FROM groups WHERE name = ?1"))?
        .query_row([name], read)
        .optional()?;
    found.map(|(group, ..)| filled(conn, group)).transpose()
}

/// Groups in the order of their names, those after `after`.
pub fn list(conn: &Connection, after: Option<&str>, limit: u32) -> Result<Vec<Group>> {
    let mut statement =
        conn.prepare_cached(&format!("SELECT {COLUMNS} FROM groups WHERE name > ?1 ORDER BY name LIMIT ?2"))?;
    let rows = statement.query_map(params![after.unwrap_or_default(), limit], read)?;
    let groups = rows.collect::<Result<Vec<_>, _>>()?;
    groups.into_iter().map(|(group, ..)| filled(conn, group)).collect()
}

fn filled(conn: &Connection, mut group: Group) -> Result<Group> {
    let mut members = conn.prepare_cached(
        "SELECT enrollment_id FROM group_members WHERE group_name = ?1 ORDER BY enrollment_id",
    )?;
    group.members = members.query_map([&group.name], |row| row.get(0))?.collect::<Result<_, _>>()?;
    group.declarations = declarations_of(conn, &group.name)?;
    Ok(group)
}

fn declarations_of(conn: &Connection, name: &str) -> Result<Vec<String>> {
    let mut statement = conn.prepare_cached(
        "SELECT identifier FROM group_declarations WHERE group_name = ?1 ORDER BY identifier",
    )?;
    Ok(statement.query_map([name], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Writes a group; one of the same name is replaced as a whole. Answers whether anything changed.
///
/// # Errors
/// `Invalid` with a pointer: a rule or predicate that cannot be read, a member or a declaration that is
/// not there.
pub fn put(tx: &Tx<'_>, group: &Group, is_enrollment: IsEnrollment<'_>, edit: Edit<'_>) -> Result<bool> {
    put_by(tx, group, is_enrollment, false, edit)
}

/// As [`put`]; by `force` also with a predicate that this server cannot read.
///
/// # Errors
/// As [`put`].
pub fn put_by(
    tx: &Tx<'_>,
    group: &Group,
    is_enrollment: IsEnrollment<'_>,
    force: bool,
    edit: Edit<'_>,
) -> Result<bool> {
    let known = get(tx, &group.name)?;
    // What was accepted by force once needs no force to stay.
    let force = force || known.as_ref().is_some_and(|known| known.predicate == group.predicate);
    let group = checked(tx, group, is_enrollment, force)?;
    if known.as_ref() == Some(&group) {
        return Ok(false);
    }
    tx.prepare_cached(&format!(
        "INSERT INTO groups ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)
         ON CONFLICT DO UPDATE SET
             description = excluded.description, sort = excluded.sort, rule = excluded.rule,
             predicate = excluded.predicate, tags = excluded.tags, updated_at = excluded.updated_at"
    ))?
    .execute(params![
        group.name,
        group.description,
        group.order,
        group.rule,
        group.predicate,
        json!(group.tags).to_string(),
        tx.now()
    ])?;
    empty(tx, &group.name)?;
    for member in &group.members {
        insert_member(tx, &group.name, member)?;
    }
    for identifier in &group.declarations {
        insert_declaration(tx, &group.name, identifier)?;
    }
    generation::advance(tx, edit.notify)?;
    Ok(true)
}

fn checked(conn: &Connection, group: &Group, is_enrollment: IsEnrollment<'_>, force: bool) -> Result<Group> {
    let mut group = group.clone();
    check_name(&group.name)?;
    if group.description.len() > LONGEST_DESCRIPTION {
        let words = format!("A description has at most {LONGEST_DESCRIPTION} bytes.");
        return Err(Error::invalid_at("/description", words));
    }
    for (index, tag) in group.tags.iter().enumerate() {
        if tag.is_empty() || tag.len() > 100 || index >= MOST_TAGS || id::printable(tag) != *tag {
            let words = format!("There are at most {MOST_TAGS} tags of 1 to 100 printable characters.");
            return Err(Error::invalid_at(format!("/tags/{index}"), words));
        }
    }
    if group.name == DEFAULT && (group.rule.is_some() || !group.members.is_empty()) {
        let at = if group.rule.is_some() { "/rule" } else { "/members" };
        let words = "Every device is in the group default; it has no rule and no members of its own.";
        return Err(Error::invalid_at(at, words));
    }
    if let Some(rule) = &group.rule {
        check_rule(rule)?;
    }
    if let Some(predicate) = &group.predicate {
        declaration::device_predicate(predicate, "/predicate", force)?;
    }
    for (index, member) in group.members.iter().enumerate() {
        if !is_enrollment(member)? {
            let words = format!("There is no enrollment {}.", id::printable(member));
            return Err(Error::invalid_at(format!("/members/{index}"), words));
        }
    }
    for (index, identifier) in group.declarations.iter().enumerate() {
        if declaration::get(conn, identifier)?.is_none() {
            let words = format!("There is no declaration {}; write it first.", id::printable(identifier));
            return Err(Error::invalid_at(format!("/declarations/{index}"), words));
        }
    }
    for names in [&mut group.members, &mut group.declarations] {
        names.sort();
        names.dedup();
    }
    Ok(group)
}

fn check_name(name: &str) -> Result<()> {
    let fits = (1..=LONGEST_NAME).contains(&name.len()) && name.trim() == name;
    if !fits || id::printable(name) != name || name.contains('/') {
        let words = format!("The name of a group has 1 to {LONGEST_NAME} printable bytes and no slash.");
        return Err(Error::invalid_at("/name", words));
    }
    Ok(())
}

/// Reads a group's rule.
///
/// # Errors
/// `Invalid` at `/rule`, with what to write instead where that is clear.
pub fn check_rule(text: &str) -> Result<Predicate> {
    let rule = parse(text, Dialect::Rule).map_err(|error| {
        let refused = Error::invalid_at("/rule", error.words);
        match error.suggestion {
            Some(suggestion) => refused.suggesting(suggestion),
            None => refused,
        }
    })?;
    match rule.keys().into_iter().find(|key| !KEYS.contains(&key.as_str())) {
        Some(key) => Err(Error::invalid_at(
            "/rule",
            format!(
                "Nothing is known as {}: put text into quotes, write @status(…) around a status item, or use one of {}.",
                id::printable(&key),
                KEYS.join(", ")
            ),
        )),
        None => Ok(rule),
    }
}

fn empty(tx: &Tx<'_>, name: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM group_members WHERE group_name = ?1")?.execute([name])?;
    tx.prepare_cached("DELETE FROM group_declarations WHERE group_name = ?1")?.execute([name])?;
    Ok(())
}

fn insert_member(tx: &Tx<'_>, name: &str, enrollment_id: &str) -> Result<bool> {
    let inserted = tx
        .prepare_cached("INSERT OR IGNORE INTO group_members (enrollment_id, group_name) VALUES (?1, ?2)")?
        .execute([enrollment_id, name])?;
    Ok(inserted > 0)
}

fn insert_declaration(tx: &Tx<'_>, name: &str, identifier: &str) -> Result<bool> {
    let inserted = tx
        .prepare_cached("INSERT OR IGNORE INTO group_declarations (group_name, identifier) VALUES (?1, ?2)")?
        .execute([name, identifier])?;
    Ok(inserted > 0)
}

/// Removes a group.
///
/// # Errors
/// `NotFound`; `Conflict` for the default group.
pub fn delete(tx: &Tx<'_>, name: &str, edit: Edit<'_>) -> Result<()> {
    existing(tx, name)?;
    if name == DEFAULT {
        return Err(Error::conflict("the group default holds every device and stays; empty it instead"));
    }
    if let Some(set) = app_set::with_group(tx, name)?.first() {
        return Err(Error::conflict(format!(
            "the app set {set} goes to this group; change or delete that first"
        )));
    }
    empty(tx, name)?;
    policy::forget(tx, name)?;
    tx.prepare_cached("DELETE FROM groups WHERE name = ?1")?.execute([name])?;
    generation::advance(tx, edit.notify)
}

/// What is said of a group that is not there, as the end of a sentence.
pub fn missing(name: &str) -> String {
    let name = id::printable(name);
    format!(
        "group {name}; make it first: PUT /api/v1/groups/{name}, or `russet apply` with groups/{name}.json"
    )
}

pub(super) fn existing(conn: &Connection, name: &str) -> Result<()> {
    if conn.prepare_cached("SELECT 1 FROM groups WHERE name = ?1")?.exists([name])? {
        return Ok(());
    }
    Err(Error::NotFound(missing(name)))
}

/// Makes a group of this name, with nothing in it, unless there is one. Nobody is woken for it.
///
/// # Errors
/// `Invalid` for a name that no group can have.
pub fn ensure(tx: &Tx<'_>, name: &str) -> Result<()> {
    check_name(name)?;
    let inserted = tx
        .prepare_cached(&format!(
            "INSERT OR IGNORE INTO groups ({COLUMNS}) VALUES (?1, '', ?2, NULL, NULL, '[]', ?3, ?3)"
        ))?
        .execute(params![name, ORDER, tx.now()])?;
    if inserted > 0 { generation::advance(tx, false) } else { Ok(()) }
}

/// Puts a channel into a group by hand; the caller knows that it exists. Answers whether it was not.
///
/// # Errors
/// `NotFound` for the group; `Invalid` for the default group.
pub fn add_member(tx: &Tx<'_>, name: &str, enrollment_id: &str, edit: Edit<'_>) -> Result<bool> {
    existing(tx, name)?;
    if name == DEFAULT {
        return Err(Error::invalid("Every device is in the group default."));
    }
    changed(tx, insert_member(tx, name, enrollment_id)?, edit)
}

/// Takes a channel from a group, where it was by hand; answers whether it was.
///
/// # Errors
/// `NotFound` for the group.
pub fn remove_member(tx: &Tx<'_>, name: &str, enrollment_id: &str, edit: Edit<'_>) -> Result<bool> {
    existing(tx, name)?;
    let removed = tx
        .prepare_cached("DELETE FROM group_members WHERE group_name = ?1 AND enrollment_id = ?2")?
        .execute([name, enrollment_id])?;
    changed(tx, removed > 0, edit)
}

/// Gives a declaration to a group; answers whether it had not got it.
///
/// # Errors
/// `NotFound` for the group or the declaration.
pub fn add_declaration(tx: &Tx<'_>, name: &str, identifier: &str, edit: Edit<'_>) -> Result<bool> {
    existing(tx, name)?;
    if declaration::get(tx, identifier)?.is_none() {
        return Err(Error::NotFound(declaration::missing(identifier)));
    }
    changed(tx, insert_declaration(tx, name, identifier)?, edit)
}

/// Takes a declaration from a group; answers whether it had it.
///
/// # Errors
/// `NotFound` for the group.
pub fn remove_declaration(tx: &Tx<'_>, name: &str, identifier: &str, edit: Edit<'_>) -> Result<bool> {
    existing(tx, name)?;
    let removed = tx
        .prepare_cached("DELETE FROM group_declarations WHERE group_name = ?1 AND identifier = ?2")?
        .execute([name, identifier])?;
    changed(tx, removed > 0, edit)
}

fn changed(tx: &Tx<'_>, changed: bool, edit: Edit<'_>) -> Result<bool> {
    if changed {
        generation::advance(tx, edit.notify)?;
    }
    Ok(changed)
}

/// Puts a channel into the group of the link that it came with, which is made if there is none. That
/// concerns this channel alone: an edit, which has all of them looked at, it is not.
pub fn join(tx: &Tx<'_>, enrollment_id: &str, name: &str) -> Result<()> {
    if name == DEFAULT {
        return Ok(());
    }
    ensure(tx, name)?;
    if insert_member(tx, name, enrollment_id)? { sync::mark(tx, enrollment_id) } else { Ok(()) }
}

/// Takes a channel from all groups in which it was by hand: it starts anew, or is gone.
pub fn leave_all(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM group_members WHERE enrollment_id = ?1")?.execute([enrollment_id])?;
    Ok(())
}

pub(super) fn with_declaration(conn: &Connection, identifier: &str) -> Result<Vec<String>> {
    let mut statement = conn.prepare_cached(
        "SELECT group_name FROM group_declarations WHERE identifier = ?1 ORDER BY group_name",
    )?;
    Ok(statement.query_map([identifier], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// The groups that a channel is in by hand, those of its device among them.
pub fn by_hand(conn: &Connection, enrollment_id: &str, device_id: &str) -> Result<Vec<String>> {
    let mut statement = conn.prepare_cached(
        "SELECT DISTINCT group_name FROM group_members WHERE enrollment_id IN (?1, ?2) ORDER BY group_name",
    )?;
    Ok(statement.query_map([enrollment_id, device_id], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// All groups, the first being the one that wins. Who is in them by hand is not read: that is asked for
/// each channel.
pub fn ranked(conn: &Connection) -> Result<Vec<Ranked>> {
    let mut statement =
        conn.prepare_cached("SELECT name, sort, rule, predicate FROM groups ORDER BY sort, name")?;
    let groups = statement.query_map([], |row| {
        let rule: Option<String> = row.get(2)?;
        let rule = rule.and_then(|rule| parse(&rule, Dialect::Rule).ok());
        Ok(Ranked {
            name: row.get(0)?,
            order: row.get(1)?,
            status_items: rule.as_ref().map(Predicate::status_items).unwrap_or_default(),
            rule,
            predicate: row.get(3)?,
            declarations: Vec::new(),
        })
    })?;
    let mut ranked = groups.collect::<Result<Vec<_>, _>>()?;
    for group in &mut ranked {
        group.declarations = declarations_of(conn, &group.name)?;
    }
    Ok(ranked)
}

/// Those of the groups that a channel is in. What is not known makes nobody a member.
pub fn holding<'g>(conn: &Connection, groups: &'g [Ranked], subject: &Subject) -> Result<Vec<&'g Ranked>> {
    let by_hand = by_hand(conn, &subject.id, &subject.device_id)?;
    let known = Known { conn, subject, groups: &by_hand };
    let holds = |group: &&Ranked| {
        group.name == DEFAULT
            || by_hand.contains(&group.name)
            || group.rule.as_ref().is_some_and(|rule| rule.evaluate(&known) == Truth::True)
    };
    Ok(groups.iter().filter(holds).collect())
}

/// The names of the groups that a channel is in, but for the one of everybody.
pub fn names_of(conn: &Connection, groups: &[Ranked], subject: &Subject) -> Result<Vec<String>> {
    let mut names: Vec<String> =
        holding(conn, groups, subject)?.into_iter().map(|group| group.name.clone()).collect();
    names.retain(|name| name != DEFAULT);
    names.sort();
    Ok(names)
}

/// The groups that a channel is in, as [`names_of`].
pub fn groups_of(conn: &Connection, subject: &Subject) -> Result<Vec<String>> {
    names_of(conn, &ranked(conn)?, subject)
}

fn leads_into(longer: &str, shorter: &str) -> bool {
    longer.strip_prefix(shorter).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
