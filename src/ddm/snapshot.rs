//! Sets of declarations as devices are given them, and every content that such a set names.
//!
//! A device asks for the list first and for each declaration after it. What changes in between must not
//! reach it half: it is served from the set that it was given. Channels that have the same set share it.
//!
//! **Invariant:** what a channel's row names is here.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Map, Value as Json, json};

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

/// Its declarations of one kind: identifier and ServerToken.
pub(super) fn tokens(conn: &Connection, token: &str, kind: Kind) -> Result<Vec<(String, String)>> {
    let Some(items) = items(conn, token)? else { return Ok(Vec::new()) };
    let mut items: Json = serde_json::from_str(&items).unwrap_or_default();
    let Json::Array(list) = items["Declarations"][kind.manifest()].take() else { return Ok(Vec::new()) };
    let text = |item: &Json, key: &str| item[key].as_str().unwrap_or_default().to_owned();
    Ok(list.iter().map(|item| (text(item, "Identifier"), text(item, "ServerToken"))).collect())
}

/// The answer to `declaration/…` from this set.
pub(super) fn declaration(
    conn: &Connection,
    token: &str,
    kind: Kind,
    identifier: &str,
) -> Result<Option<String>> {
    let mut tokens = tokens(conn, token, kind)?.into_iter();
    let Some((_, server_token)) = tokens.find(|(name, _)| name == identifier) else { return Ok(None) };
    Ok(conn
        .prepare_cached("SELECT body FROM versions WHERE server_token = ?1")?
        .query_row([server_token], |row| row.get(0))
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

/// Before when something was used that may go: somebody may be about to use again what is younger.
fn before(now: Seconds) -> Seconds {
    now - DAY
}

/// Removes up to `limit` sets that no channel has any more; answers how many.
///
/// # Errors
/// The database's.
pub fn thin(tx: &Tx<'_>, limit: u32) -> Result<usize> {
    Ok(tx
        .prepare_cached(
            "DELETE FROM snapshots WHERE token IN (
                 SELECT token FROM snapshots WHERE used_at < ?1
                   AND NOT EXISTS (SELECT 1 FROM syncs WHERE syncs.token = snapshots.token)
                   AND NOT EXISTS (SELECT 1 FROM syncs WHERE syncs.told_token = snapshots.token)
                 LIMIT ?2)",
        )?
        .execute(params![before(tx.now()), limit])?)
}

/// The ServerTokens of contents that neither a declaration nor a set has: all sets are read for it.
///
/// # Errors
/// The database's.
pub fn outlived(conn: &Connection, now: Seconds) -> Result<Vec<String>> {
    let mut statement = conn.prepare_cached(
        "SELECT server_token FROM versions WHERE used_at < ?1
           AND server_token NOT IN (SELECT server_token FROM declarations)
           AND server_token NOT IN (SELECT item.value FROM snapshots, json_tree(snapshots.items) AS item
                                    WHERE item.key = 'ServerToken')",
    )?;
    Ok(statement.query_map([before(now)], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Removes contents that [`outlived`] found and that nobody used since.
///
/// # Errors
/// The database's.
pub fn remove(tx: &Tx<'_>, server_tokens: &[String]) -> Result<()> {
    let mut remove = tx.prepare_cached("DELETE FROM versions WHERE server_token = ?1 AND used_at < ?2")?;
    for token in server_tokens {
        remove.execute(params![token, before(tx.now())])?;
    }
    Ok(())
}
