//! The update policy of a group, as people write it.
//!
//! `enforce` is what its devices are updated to, `enforce_on` what in its place holds for one system;
//! the other members are Apple's settings (`settings.rs`). The API and `apply` write policies,
//! `ddm::update` makes declarations of them.
//!
//! **Invariant:** a policy that is kept was checked, and belongs to a group that exists.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;

use super::kept;
use super::rule::Rule;
use super::settings;
use crate::clock::{DAY, Seconds, is_sane, parse_rfc3339};
use crate::ddm::{Edit, generation, group};
use crate::error::{Error, Result};
use crate::id::printable;
use crate::schema::check::child;
use crate::schema::platform::Platform;
use crate::storage::Tx;

/// A policy with everything in it has a few hundred bytes; beta programs may be many.
const LARGEST: usize = 64 * 1024;
const LONGEST_URL: usize = 2048;
/// The systems whose updates can be enforced.
pub(super) const ENFORCED: [Platform; 4] =
    [Platform::Ios, Platform::MacOs, Platform::TvOs, Platform::VisionOs];

/// What should be true of the updates of a group's devices.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub group: String,
    enforce: Option<Rule>,
    enforce_on: BTreeMap<Platform, Option<Rule>>,
    pub(super) details_url: Option<String>,
    /// The payload of `softwareupdate.settings`, for all systems.
    pub(super) settings: Map<String, Json>,
    /// As it was sent, without what is null.
    pub said: Map<String, Json>,
}

impl Policy {
    fn saying_nothing(group: &str, said: Map<String, Json>) -> Self {
        Self {
            group: group.to_owned(),
            enforce: None,
            enforce_on: BTreeMap::new(),
            details_url: None,
            settings: Map::new(),
            said,
        }
    }

    /// What is enforced on a system; on one that is not known, what holds where nothing else is said.
    pub(super) fn rule(&self, platform: Option<Platform>) -> Option<&Rule> {
        match platform.and_then(|platform| self.enforce_on.get(&platform)) {
            Some(rule) => rule.as_ref(),
            None => self.enforce.as_ref(),
        }
    }

    fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.enforce.iter().chain(self.enforce_on.values().flatten())
    }
}

/// Reads a policy.
///
/// # Errors
/// `Invalid` with a pointer to what is wrong.
pub fn check(group: &str, said: &Map<String, Json>) -> Result<Policy> {
    if Json::Object(said.clone()).to_string().len() > LARGEST {
        return Err(Error::invalid_at("", format!("A policy has at most {LARGEST} bytes.")));
    }
    let mut said = said.clone();
    said.retain(|_, value| !value.is_null());
    let mut policy = Policy::saying_nothing(group, said.clone());
    let mut settings = Map::new();
    for (name, value) in said {
        match name.as_str() {
            "enforce" => policy.enforce = Some(Rule::read(&value, "/enforce")?),
            "enforce_on" => policy.enforce_on = by_platform(&value)?,
            "details_url" => policy.details_url = Some(url(&value)?),
            name if settings::members().any(|known| known == name) => {
                settings.insert(name.to_owned(), value);
            }
            name => {
                let known: Vec<String> = settings::members().collect();
                let words = format!(
                    "{:?} is not known here; a policy has enforce, enforce_on, details_url, {}.",
                    printable(name),
                    known.join(", ")
                );
                return Err(Error::invalid_at(child("", name), words));
            }
        }
    }
    policy.settings = settings::payload(&settings)?;
    if policy.said.is_empty() {
        let words = "An empty policy says nothing; write for example \
                     {\"enforce\": {\"latest\": true, \"days\": 7, \"at\": \"18:00\"}}, or delete it.";
        return Err(Error::invalid_at("", words));
    }
    if policy.details_url.is_some() && policy.rules().next().is_none() {
        let words = "details_url is shown with an update that is enforced, and this policy enforces none.";
        return Err(Error::invalid_at("/details_url", words));
    }
    Ok(policy)
}

fn by_platform(value: &Json) -> Result<BTreeMap<Platform, Option<Rule>>> {
    let names = ENFORCED.map(Platform::name).join(", ");
    let Json::Object(members) = value else {
        let words = format!("This must be an object with members among {names}.");
        return Err(Error::invalid_at("/enforce_on", words));
    };
    let read = |(name, rule): (&String, &Json)| {
        let at = child("/enforce_on", name);
        let Some(platform) = ENFORCED.into_iter().find(|platform| platform.name() == name) else {
            let words = match name.as_str() {
                "iPadOS" => "Apple counts iPadOS as iOS; write iOS.".to_owned(),
                "watchOS" => "Apple lets nobody enforce updates of watchOS.".to_owned(),
                _ => format!("{:?} is not known here; write one of {names}.", printable(name)),
            };
            return Err(Error::invalid_at(at, words));
        };
        let rule = if rule.is_null() { None } else { Some(Rule::read(rule, &at)?) };
        Ok((platform, rule))
    };
    members.iter().map(read).collect()
}

fn url(value: &Json) -> Result<String> {
    let fits = |url: &&str| {
        let rest = url.strip_prefix("https://").unwrap_or_default();
        url.len() <= LONGEST_URL && !rest.is_empty() && url.bytes().all(|byte| byte.is_ascii_graphic())
    };
    value.as_str().filter(fits).map(str::to_owned).ok_or_else(|| {
        let words = "This must be the address of a web page, as in \"https://example.org/updates\".";
        Error::invalid_at("/details_url", words)
    })
}

/// A policy as it is kept.
#[derive(Clone, Debug)]
pub struct Kept {
    pub policy: Policy,
    pub created_at: Seconds,
    pub updated_at: Seconds,
    pub updated_by: String,
}

/// What became of a policy that was sent.
#[derive(Debug)]
pub struct Put {
    /// False when it was there already, just so.
    pub changed: bool,
    /// What the sender should know, in sentences.
    pub warnings: Vec<String>,
}

const COLUMNS: &str = "group_name, policy, created_at, updated_at, updated_by";

fn read(row: &Row<'_>) -> rusqlite::Result<Kept> {
    let group: String = row.get(0)?;
    let said: Map<String, Json> = serde_json::from_str(row.get_ref(1)?.as_str()?).unwrap_or_default();
    // Apple's table may have changed since it was kept: then it says nothing, and all others hold.
    let policy = check(&group, &said).unwrap_or_else(|error| {
        tracing::error!(group = printable(&group), error = error.chain(), "an update policy cannot be used");
        Policy::saying_nothing(&group, said)
    });
    Ok(Kept { policy, created_at: row.get(2)?, updated_at: row.get(3)?, updated_by: row.get(4)? })
}

/// The policy of this group.
///
/// # Errors
/// The database's.
pub fn get(conn: &Connection, group: &str) -> Result<Option<Kept>> {
    Ok(conn
        .prepare_cached(&format!("SELECT {COLUMNS} FROM update_policies WHERE group_name = ?1"))?
        .query_row([group], read)
        .optional()?)
}

/// Policies in the order of their groups, those after `after`.
///
/// # Errors
/// The database's.
pub fn list(conn: &Connection, after: Option<&str>, limit: u32) -> Result<Vec<Kept>> {
    let mut statement = conn.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM update_policies WHERE group_name > ?1 ORDER BY group_name LIMIT ?2"
    ))?;
    let rows = statement.query_map(params![after.unwrap_or_default(), limit], read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn is_any(conn: &Connection) -> Result<bool> {
    Ok(conn.prepare_cached("SELECT 1 FROM update_policies LIMIT 1")?.exists([])?)
}

/// Keeps the policy of a group; one that it has is replaced as a whole.
///
/// # Errors
/// `NotFound` for the group.
pub fn put(tx: &Tx<'_>, policy: &Policy, edit: Edit<'_>) -> Result<Put> {
    group::existing(tx, &policy.group)?;
    let known = get(tx, &policy.group)?;
    let changed = known.is_none_or(|known| known.policy.said != policy.said);
    if changed {
        tx.prepare_cached(&format!(
            "INSERT INTO update_policies ({COLUMNS}) VALUES (?1, ?2, ?3, ?3, ?4)
             ON CONFLICT DO UPDATE SET policy = excluded.policy, updated_at = excluded.updated_at,
                 updated_by = excluded.updated_by"
        ))?
        .execute(params![
            policy.group,
            Json::Object(policy.said.clone()).to_string(),
            tx.now(),
            edit.actor
        ])?;
        generation::advance(tx, edit.notify)?;
    }
    Ok(Put { changed, warnings: warnings(tx, policy)? })
}

fn warnings(tx: &Tx<'_>, policy: &Policy) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for rule in policy.rules() {
        if let Rule::Version { at, .. } = rule
            // By then it has passed on every clock of the world.
            && parse_rfc3339(&format!("{at}Z")).is_some_and(|at| at < tx.now() - DAY)
            && is_sane(tx.now())
        {
            let words = format!("{at} has passed: devices update as soon as they learn of it.");
            warnings.push(words);
        }
    }
    let latest = policy.rules().any(|rule| matches!(rule, Rule::Latest { .. }));
    if latest && kept::read(tx)?.releases.is_empty() {
        warnings.push(
            "Nothing is known of Apple's releases yet, so nothing is enforced until the catalogue was read; \
             see GET /api/v1/update-catalogue."
                .to_owned(),
        );
    }
    Ok(warnings)
}

/// Removes the policy of a group.
///
/// # Errors
/// `NotFound`.
pub fn delete(tx: &Tx<'_>, group: &str, edit: Edit<'_>) -> Result<()> {
    if forget(tx, group)? {
        return generation::advance(tx, edit.notify);
    }
    Err(Error::NotFound("update policy of such a group".into()))
}

/// A group goes, and its policy with it; answers whether it had one.
pub(in crate::ddm) fn forget(tx: &Tx<'_>, group: &str) -> Result<bool> {
    Ok(tx.prepare_cached("DELETE FROM update_policies WHERE group_name = ?1")?.execute([group])? > 0)
}
