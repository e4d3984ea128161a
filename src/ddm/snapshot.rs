//! Sets of declarations as devices are given them, and every content that such a set names.
//!
//! A device asks for the list first and for each declaration after it. What changes in between must not
//! reach it half: it is served from the set that it was given. Channels that have the same set share it.
//!
//! **Invariant:** what a channel's row names is here.

use rusqlite::{Connection, OptionalExtension, params};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};

use super::manifest::Manifest;
use crate::clock::{DAY, HOUR, Seconds};
use crate::error::Result;
use crate::schema::declarations::Kind;
use crate::storage::Tx;

/// Keeps a set and what the server made for it.
pub(super) fn keep(tx: &Tx<'_>, manifest: &Manifest) -> Result<()> {
    let fresh = tx
        .prepare_cached("UPDATE snapshots SET used_at = ?2 WHERE token = ?1 AND used_at < ?3")?
        .execute(params![manifest.token, tx.now(), tx.now() - HOUR])?;
    if fresh == 1 || exists(tx, &manifest.token)? {
        return Ok(());
    }
    tx.prepare_cached("INSERT INTO snapshots (token, items, used_at) VALUES (?1, ?2, ?3)")?
        .execute(params![manifest.token, answer(manifest).to_string(), tx.now()])?;
    for item in &manifest.items {
        if let Some(body) = &item.own {
            keep_version(tx, &item.server_token, &body.to_string())?;
        }
    }
    Ok(())
}

fn exists(conn: &Connection, token: &str) -> Result<bool> {
    Ok(conn.prepare_cached("SELECT 1 FROM snapshots WHERE token = ?1")?.exists([token])?)
}

/// Keeps a content of a declaration.
pub(super) fn keep_version(tx: &Tx<'_>, server_token: &str, body: &str) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO versions (server_token, body, used_at) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET used_at = excluded.used_at",
    )?
    .execute(params![server_token, body, tx.now()])?;
    Ok(())
}

/// The answer to `declaration-items`. All four arrays are required, empty ones too.
fn answer(manifest: &Manifest) -> Json {
    let lists = Kind::ALL.map(|kind| {
        let of_kind = manifest.items.iter().filter(|item| item.kind == kind);
        let list: Vec<Json> = of_kind
            .map(|item| json!({"Identifier": item.identifier, "ServerToken": item.server_token}))
            .collect();
        (kind.manifest().to_owned(), Json::Array(list))
    });
    json!({"Declarations": Map::from_iter(lists), "DeclarationsToken": manifest.token})
}

/// The answer to `declaration-items` for this set.
pub(super) fn items(conn: &Connection, token: &str) -> Result<Option<String>> {
    Ok(conn
        .prepare_cached("SELECT items FROM snapshots WHERE token = ?1")?
        .query_row([token], |row| row.get(0))
        .optional()?)
}

/// A set as it is kept, read where it lies: of two hundred declarations one is asked for.
#[derive(Deserialize)]
struct Kept<'a> {
    #[serde(borrow, rename = "Declarations")]
    declarations: BTreeMap<&'a str, Vec<Named<'a>>>,
}

/// Identifiers and tokens have no character that JSON escapes.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(rename = "Identifier")]
    identifier: &'a str,
    #[serde(rename = "ServerToken")]
    server_token: &'a str,
}

/// The answer to `declaration/…` from this set.
pub(super) fn declaration(
    conn: &Connection,
    token: &str,
    kind: Kind,
    identifier: &str,
) -> Result<Option<String>> {
    let Some(items) = items(conn, token)? else { return Ok(None) };
    let set: Option<Kept<'_>> = serde_json::from_str(&items).ok();
    let list = set.as_ref().and_then(|set| set.declarations.get(kind.manifest()));
    let Some(named) = list.into_iter().flatten().find(|named| named.identifier == identifier) else {
        return Ok(None);
    };
    Ok(conn
        .prepare_cached("SELECT body FROM versions WHERE server_token = ?1")?
        .query_row([named.server_token], |row| row.get(0))
        .optional()?)
}

/// The configurations and assets of a set in which this text stands, as devices get them.
pub(super) fn mentioning(conn: &Connection, token: &str, text: &str) -> Result<Vec<String>> {
    let mut statement = conn.prepare_cached(
        "SELECT versions.body FROM snapshots, json_each(snapshots.items, '$.Declarations') AS list,
                json_each(list.value) AS item
         JOIN versions ON versions.server_token = item.value ->> 'ServerToken'
         WHERE snapshots.token = ?1 AND list.key IN ('Configurations', 'Assets')
           AND instr(versions.body, ?2) > 0",
    )?;
    let bodies = statement.query_map([token, text], |row| row.get(0))?;
    Ok(bodies.collect::<Result<_, _>>()?)
}

/// Sets that no channel has any more, at most `limit`. What was used within a day stays: somebody may be
/// about to use it again.
///
/// # Errors
/// The database's.
pub fn outlived(conn: &Connection, now: Seconds, limit: u32) -> Result<Vec<String>> {
    let mut statement = conn.prepare_cached(
        "SELECT token FROM snapshots WHERE used_at < ?1
           AND NOT EXISTS (SELECT 1 FROM syncs WHERE syncs.token = snapshots.token)
           AND NOT EXISTS (SELECT 1 FROM syncs WHERE syncs.told_token = snapshots.token)
         LIMIT ?2",
    )?;
    Ok(statement.query_map(params![now - DAY, limit], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Contents that no set names and no declaration has, all of them: for a reader, since it goes through
/// every set.
///
/// # Errors
/// The database's.
pub fn outlived_versions(conn: &Connection, now: Seconds) -> Result<Vec<String>> {
    let mut old = conn.prepare_cached(
        "SELECT server_token FROM versions WHERE used_at < ?1
           AND server_token NOT IN (SELECT server_token FROM declarations)",
    )?;
    let rows = old.query_map([now - DAY], |row| row.get(0))?;
    let mut outlived = rows.collect::<Result<BTreeSet<String>, _>>()?;
    let mut sets = conn.prepare_cached("SELECT items FROM snapshots")?;
    let mut sets = sets.query([])?;
    while let Some(set) = sets.next()? {
        if outlived.is_empty() {
            break;
        }
        let items: String = set.get(0)?;
        let set: Option<Kept<'_>> = serde_json::from_str(&items).ok();
        for named in set.iter().flat_map(|set| set.declarations.values()).flatten() {
            outlived.remove(named.server_token);
        }
    }
    Ok(outlived.into_iter().collect())
}

/// Removes sets that a reader found outlived, those that still are.
///
/// # Errors
/// The database's.
pub fn remove(tx: &Tx<'_>, tokens: &[String]) -> Result<()> {
    tx.prepare_cached(
        "DELETE FROM snapshots WHERE token IN (SELECT value FROM json_each(?1)) AND used_at < ?2
           AND NOT EXISTS (SELECT 1 FROM syncs WHERE syncs.token = snapshots.token)
           AND NOT EXISTS (SELECT 1 FROM syncs WHERE syncs.told_token = snapshots.token)",
    )?
    .execute(params![json!(tokens).to_string(), tx.now() - DAY])?;
    Ok(())
}

/// Removes contents that a reader found outlived. A set that names one again since then was made of the
/// declarations that there are, or has put it back itself, which shows in `used_at`.
///
/// # Errors
/// The database's.
pub fn remove_versions(tx: &Tx<'_>, server_tokens: &[String]) -> Result<()> {
    tx.prepare_cached(
        "DELETE FROM versions WHERE server_token IN (SELECT value FROM json_each(?1)) AND used_at < ?2
           AND server_token NOT IN (SELECT server_token FROM declarations)",
    )?
    .execute(params![json!(server_tokens).to_string(), tx.now() - DAY])?;
    Ok(())
}
