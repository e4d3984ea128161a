//! Addresses at which devices fetch manifests and packages: whoever fetches them presents no identity, so
//! the address itself is the proof, and each channel has its own.
//!
//! A declaration says `…/mdm/manifests/{identifier}`, which nobody can fetch. When it is handed to a
//! channel, [`personal`] puts a token in the identifier's place, of which only the hash is kept; the
//! ServerToken stays what it is. [`find`] says for whom a token stands. One that was used after its end,
//! by a channel that should still have the package, is replaced: [`renew`] changes the ServerToken that
//! this channel is told, so that it fetches the declaration anew.
//!
//! A command may lead to a package, too ([`of_command`]); it is put into the command on its way out, and
//! is good for some days whatever is declared.
//!
//! **Invariant:** a token of a declaration is good only while the set that its channel should have points
//! to the package; the database discloses none, and neither does a log or the API.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Map, Value as Json};
use std::collections::{BTreeMap, BTreeSet};

use super::declaration::{self, token};
use super::manifest::Item;
use super::served::{self, Kind};
use super::sync;
use crate::clock::{DAY, Seconds, is_sane};
use crate::error::Result;
use crate::id;
use crate::storage::Tx;

/// How long a token is good.
const LIFE: Seconds = 30 * DAY;
/// How long one is that a command had.
const LIFE_OF_COMMAND: Seconds = 7 * DAY;
/// How many a channel has of a package: it may ask for the declaration again before it used the last.
const MOST: u32 = 4;
/// When a token ended that was ended before its time.
const ENDED: Seconds = 0;
/// What every declaration with an address of ours has in it.
const MARK: &[u8] = b"/mdm/manifests/";

/// Whom a token was given to, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub enrollment_id: String,
    pub package: String,
    /// It was in a command: nothing need be declared.
    pub by_command: bool,
    /// Its time has come, or the channel was not to have the package meanwhile.
    pub ended: bool,
}

fn hash(token: &str) -> [u8; 32] {
    id::sha256(token.as_bytes())
}

/// Whether a declaration may have addresses to be replaced before a device gets it.
pub fn concerns(declaration: &[u8]) -> bool {
    declaration.windows(MARK.len()).any(|window| window == MARK)
}

/// The declaration with addresses that are this channel's alone. What the channel should not have any
/// more is left as it is, and cannot be fetched.
///
/// # Errors
/// The database's.
pub fn personal(tx: &Tx<'_>, enrollment_id: &str, declaration: Vec<u8>) -> Result<Vec<u8>> {
    let Ok(mut body) = serde_json::from_slice::<Json>(&declaration) else { return Ok(declaration) };
    let Some(payload) = body.get_mut("Payload").and_then(Json::as_object_mut) else {
        return Ok(declaration);
    };
    served::packages(tx, payload, &mut |package| {
        if !is_due(tx, enrollment_id, package)? {
            return Ok(None);
        }
        give(tx, enrollment_id, package, false).map(Some)
    })?;
    Ok(body.to_string().into_bytes())
}

/// The address that a command carries in the place of one that leads to a package of this server's; nothing
/// for any other.
///
/// # Errors
/// The database's.
pub fn of_command(tx: &Tx<'_>, enrollment_id: &str, address: &str) -> Result<Option<String>> {
    let Some(package) = package_at(tx, address)? else { return Ok(None) };
    if served::find(tx, Kind::Package, &package)?.is_none() {
        return Ok(None);
    }
    let token = give(tx, enrollment_id, &package, true)?;
    served::address(tx, Kind::Package, &token).map(Some)
}

/// The package that an address leads to, which may be a path alone.
///
/// # Errors
/// The database's.
pub fn package_at(conn: &Connection, address: &str) -> Result<Option<String>> {
    let base = if address.starts_with('/') { served::public_url(conn)? } else { String::new() };
    let mut payload = Map::from_iter([("ManifestURL".to_owned(), Json::from(format!("{base}{address}")))]);
    let mut found = None;
    served::packages(conn, &mut payload, &mut |package| {
        found = Some(package.to_owned());
        Ok(None)
    })?;
    Ok(found)
}

fn give(tx: &Tx<'_>, enrollment_id: &str, package: &str, by_command: bool) -> Result<String> {
    let token = id::secret::<24>();
    let life = if by_command { LIFE_OF_COMMAND } else { LIFE };
    tx.prepare_cached(
        "INSERT INTO addresses (token_hash, enrollment_id, package, by_command, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![hash(&token), enrollment_id, package, by_command, tx.now() + life])?;
    tx.prepare_cached(
        "DELETE FROM addresses WHERE id IN (
             SELECT id FROM addresses WHERE enrollment_id = ?1 AND package = ?2 AND by_command = ?3
             ORDER BY id DESC LIMIT -1 OFFSET ?4)",
    )?
    .execute(params![enrollment_id, package, by_command, MOST])?;
    Ok(token)
}

/// Whom a token stands for; whether that channel should still have the package is for [`Address::holds`].
///
/// # Errors
/// The database's.
pub fn find(conn: &Connection, token: &str, now: Seconds) -> Result<Option<Address>> {
    Ok(conn
        .prepare_cached(
            "SELECT enrollment_id, package, expires_at, by_command FROM addresses WHERE token_hash = ?1",
        )?
        .query_row([hash(token)], |row| {
            let expires_at: Seconds = row.get(2)?;
            Ok(Address {
                enrollment_id: row.get(0)?,
                package: row.get(1)?,
                by_command: row.get(3)?,
                // A clock that is wrong ends nothing.
                ended: expires_at == ENDED || (is_sane(now) && is_sane(expires_at) && expires_at <= now),
            })
        })
        .optional()?)
}

/// Where the bytes are fetched with this token.
///
/// # Errors
/// The database's.
pub fn of_bytes(conn: &Connection, token: &str) -> Result<String> {
    Ok(format!("{}/mdm/packages/{token}", served::public_url(conn)?))
}

impl Address {
    /// Whether its channel is to have the package.
    ///
    /// # Errors
    /// The database's.
    pub fn holds(&self, conn: &Connection) -> Result<bool> {
        if self.by_command {
            return Ok(!self.ended);
        }
        is_due(conn, &self.enrollment_id, &self.package)
    }
}

/// Whether the set that a channel should have points to a package.
fn is_due(conn: &Connection, enrollment_id: &str, package: &str) -> Result<bool> {
    match sync::find(conn, enrollment_id)? {
        Some(sync) => served::is_in(conn, &sync.token, Kind::Package, package),
        None => Ok(false),
    }
}

/// A token was used after its end: it is gone, and the channel is to be given another. Answers whether
/// that is news; then the channel's set is another.
///
/// # Errors
/// The database's.
pub fn renew(tx: &Tx<'_>, token: &str) -> Result<bool> {
    let Some(address) = find(tx, token, tx.now())?.filter(|address| address.ended && !address.by_command)
    else {
        return Ok(false);
    };
    tx.prepare_cached("DELETE FROM addresses WHERE token_hash = ?1")?.execute([hash(token)])?;
    if !is_due(tx, &address.enrollment_id, &address.package)? {
        return Ok(false);
    }
    tx.prepare_cached(
        "INSERT INTO address_renewals (enrollment_id, package, renewals) VALUES (?1, ?2, 1)
         ON CONFLICT DO UPDATE SET renewals = renewals + 1",
    )?
    .execute([&address.enrollment_id, &address.package])?;
    Ok(true)
}

/// Gives the declarations another ServerToken whose packages need another address on this channel;
/// `links` says which declaration points to which packages.
pub(super) fn renewed(
    conn: &Connection,
    enrollment_id: &str,
    links: &BTreeMap<String, BTreeSet<String>>,
    items: &mut [Item],
) -> Result<()> {
    if links.is_empty() {
        return Ok(());
    }
    let mut statement =
        conn.prepare_cached("SELECT package, renewals FROM address_renewals WHERE enrollment_id = ?1")?;
    let renewals = statement.query_map([enrollment_id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let renewals = renewals.collect::<Result<BTreeMap<String, i64>, _>>()?;
    for item in items.iter_mut().filter(|_| !renewals.is_empty()) {
        let packages = links.get(&item.identifier).into_iter().flatten();
        let count: i64 = packages.filter_map(|package| renewals.get(package)).sum();
        let declaration = if count > 0 { declaration::get(conn, &item.identifier)? } else { None };
        let Some(mut declaration) = declaration else { continue };
        let content = [item.server_token.as_str(), "renewed", &count.to_string()];
        item.server_token = token(item.kind, &item.declaration_type, &item.identifier, &content);
        declaration.server_token.clone_from(&item.server_token);
        item.own = Some(declaration.body());
    }
    Ok(())
}

/// The set of a channel points to these packages and to no others: the tokens of others end at once. They
/// are remembered: a device that gets the package back before it noticed asks with what it has.
pub(super) fn keep_only(tx: &Tx<'_>, enrollment_id: &str, packages: &BTreeSet<&str>) -> Result<()> {
    let mut had = tx.prepare_cached("SELECT DISTINCT package FROM addresses WHERE enrollment_id = ?1")?;
    let had = had.query_map([enrollment_id], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    for package in had.iter().filter(|package| !packages.contains(package.as_str())) {
        tx.prepare_cached(
            "UPDATE addresses SET expires_at = ?3 WHERE enrollment_id = ?1 AND package = ?2 AND by_command = 0",
        )?
        .execute(params![enrollment_id, package, ENDED])?;
    }
    Ok(())
}

/// A channel starts anew, or has left.
pub(super) fn forget(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM addresses WHERE enrollment_id = ?1")?.execute([enrollment_id])?;
    tx.prepare_cached("DELETE FROM address_renewals WHERE enrollment_id = ?1")?.execute([enrollment_id])?;
    Ok(())
}

/// There is no such package any more.
pub(super) fn forget_package(tx: &Tx<'_>, package: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM addresses WHERE package = ?1")?.execute([package])?;
    tx.prepare_cached("DELETE FROM address_renewals WHERE package = ?1")?.execute([package])?;
    Ok(())
}
