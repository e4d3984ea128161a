//! The library of configuration profiles, which `com.apple.configuration.legacy` points to.
//!
//! A profile is known here by a name of the library's, which stands in its address and need not be its
//! PayloadIdentifier. What is served are the bytes that were uploaded.
//!
//! **Invariant:** a profile that a declaration points to is here, and is what [`Mobileconfig::read`] lets in.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Value as Json, json};

use super::mobileconfig::{MEDIA_TYPE, Mobileconfig};
use super::{check_name, served as content_of};
use crate::clock::Seconds;
use crate::content::{self, Contents, Kept, Received};
use crate::ddm::declaration::{self, User};
use crate::ddm::{Edit, served};
use crate::error::{Error, Result};
use crate::schema::declarations::check;
use crate::storage::Tx;

/// A profile as it is kept.
#[derive(Clone, Debug)]
pub struct Profile {
    pub name: String,
    /// What [`Mobileconfig::shown`] says, and its warnings.
    pub summary: Json,
    pub kept: Kept,
    pub created_at: Seconds,
    pub created_by: String,
    pub updated_at: Seconds,
    pub updated_by: String,
}

/// What became of a profile that was sent.
#[derive(Debug)]
pub struct Put {
    pub created: bool,
    pub changed: bool,
}

const COLUMNS: &str = "name, summary, created_at, created_by, updated_at, updated_by";

fn user(name: &str) -> String {
    format!("profile {name}")
}

/// The profile of this name.
///
/// # Errors
/// The database's.
pub fn get(conn: &Connection, name: &str) -> Result<Option<Profile>> {
    let row = conn
        .prepare_cached(&format!("SELECT {COLUMNS} FROM profiles WHERE name = ?1"))?
        .query_row([name], |row| Ok(read(row)))
        .optional()?;
    row.map(|profile| with_content(conn, profile?)).transpose()
}

/// Profiles in the order of their names, those after `after`.
///
/// # Errors
/// The database's.
pub fn list(conn: &Connection, after: Option<&str>, limit: u32) -> Result<Vec<Profile>> {
    let mut statement = conn
        .prepare_cached(&format!("SELECT {COLUMNS} FROM profiles WHERE name > ?1 ORDER BY name LIMIT ?2"))?;
    let rows = statement.query_map(params![after.unwrap_or_default(), limit], |row| Ok(read(row)))?;
    rows.map(|row| with_content(conn, row??)).collect()
}

/// The names of the profiles with this PayloadIdentifier.
///
/// # Errors
/// The database's.
pub fn named(conn: &Connection, payload_identifier: &str) -> Result<Vec<String>> {
    let mut statement =
        conn.prepare_cached("SELECT name FROM profiles WHERE identifier = ?1 ORDER BY name")?;
    let names = statement.query_map([payload_identifier], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

fn read(row: &Row<'_>) -> Result<Profile> {
    let summary: String = row.get(1)?;
    Ok(Profile {
        name: row.get(0)?,
        summary: serde_json::from_str(&summary)
            .map_err(|source| Error::caused("what was read from a profile is damaged", source))?,
        kept: Kept { id: String::new(), size: 0, secret: false },
        created_at: row.get(2)?,
        created_by: row.get(3)?,
        updated_at: row.get(4)?,
        updated_by: row.get(5)?,
    })
}

fn with_content(conn: &Connection, mut profile: Profile) -> Result<Profile> {
    profile.kept = content::find(conn, &user(&profile.name))?
        .ok_or_else(|| Error::internal(format!("the bytes of the profile {} are gone", profile.name)))?;
    Ok(profile)
}

/// For a dry run, which is rolled back: from now on bytes are served that are not here.
///
/// # Errors
/// As [`put`].
pub fn pretend(tx: &Tx<'_>, name: &str, sha256: &str, size: u64, edit: Edit<'_>) -> Result<()> {
    check_name(name)?;
    let kept = Kept { id: sha256.to_owned(), size, secret: false };
    served::set(tx, served::Kind::Profile, name, &content_of(&kept, MEDIA_TYPE), edit)
}

/// Whether the profile of this name has a password or another secret in it.
///
/// # Errors
/// The database's.
pub fn has_secrets(conn: &Connection, name: &str) -> Result<bool> {
    Ok(get(conn, name)?.is_some_and(|profile| profile.summary["has_secrets"] == true))
}

/// The declarations that point to it.
///
/// # Errors
/// The database's.
pub fn users(conn: &Connection, name: &str) -> Result<Vec<User>> {
    served::users(conn, served::Kind::Profile, name)
}

/// Keeps a profile; one of the same name is replaced.
///
/// # Errors
/// `Invalid` for a name that cannot be one; the database's.
pub fn put(
    tx: &Tx<'_>,
    contents: &Contents,
    name: &str,
    (read, received): (&Mobileconfig, &Received),
    edit: Edit<'_>,
) -> Result<Put> {
    check_name(name)?;
    let before = get(tx, name)?;
    let kept = contents.keep(tx, &user(name), received, false)?;
    served::set(tx, served::Kind::Profile, name, &content_of(&kept, MEDIA_TYPE), edit)?;
    let changed = before.as_ref().is_none_or(|before| before.kept != kept);
    if changed {
        let mut summary = read.shown();
        summary["warnings"] = warnings(name, read).into();
        tx.prepare_cached(
            "INSERT INTO profiles (name, identifier, summary, created_at, created_by, updated_at, updated_by)
             VALUES (?1, ?2, ?3, ?4, ?5, ?4, ?5)
             ON CONFLICT DO UPDATE SET identifier = excluded.identifier, summary = excluded.summary,
                 updated_at = excluded.updated_at, updated_by = excluded.updated_by",
        )?
        .execute(params![name, read.identifier, summary.to_string(), tx.now(), edit.actor])?;
    }
    Ok(Put { created: before.is_none(), changed })
}

fn warnings(name: &str, read: &Mobileconfig) -> Vec<String> {
    let mut warnings = read.warnings.clone();
    if read.identifier != name {
        warnings.push(format!(
            "Its PayloadIdentifier is {}; {name} is only what this server calls it.",
            crate::id::printable(&read.identifier)
        ));
    }
    warnings
}

/// Makes, or leaves as it is, the declaration of the same identifier that installs the profile.
///
/// # Errors
/// `Conflict` when the declaration of that identifier is another.
pub fn declare(tx: &Tx<'_>, name: &str, edit: Edit<'_>) -> Result<declaration::Put> {
    const LEGACY: &str = "com.apple.configuration.legacy";
    let address = served::address(tx, served::Kind::Profile, name)?;
    if let Some(known) = declaration::get(tx, name)? {
        if known.declaration_type != LEGACY || known.payload.get("ProfileURL") != Some(&Json::from(address)) {
            return Err(Error::conflict(format!(
                "the declaration {name} is not one of this profile; change or delete it, or call the profile \
                 something else"
            )));
        }
        return Ok(declaration::Put {
            changed: false,
            server_token: known.server_token,
            warnings: Vec::new(),
        });
    }
    let body = json!({"Type": LEGACY, "Identifier": name, "Payload": {"ProfileURL": address}});
    declaration::put(tx, &check(&body, false)?, false, edit)
}

/// Removes a profile that no declaration points to.
///
/// # Errors
/// `NotFound`; `Conflict` with `users` when it is used.
pub fn delete(tx: &Tx<'_>, name: &str) -> Result<()> {
    if get(tx, name)?.is_none() {
        return Err(Error::NotFound("such profile".into()));
    }
    served::remove(tx, served::Kind::Profile, name)?;
    content::release(tx, &user(name))?;
    tx.prepare_cached("DELETE FROM profiles WHERE name = ?1")?.execute([name])?;
    Ok(())
}
