//! What this server serves that declarations point to: profiles, the data of assets, manifests.
//!
//! An address in a declaration (`ProfileURL`, `DataURL`, `ManifestURL`) that leads to this server is a
//! link. What it names must be here and stays as long as it is named; its content is part of the
//! ServerToken, so that a changed file reaches the devices that have it and nobody else. Whoever keeps
//! the bytes says [`set`] and [`remove`].
//!
//! **Invariant:** the links of a declaration are those of its payload, and each leads to something.

mod address;

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Map, Value as Json};
use std::collections::{BTreeMap, BTreeSet};

pub use address::Kind;

use super::declaration::{self, User};
use super::{Edit, personal_address, snapshot, sync};
use crate::config::Origin;
use crate::error::{Error, Result};
use crate::storage::Tx;
use address::{Link, Place, address_under, each_address, link, origin};

/// The bytes that are served at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Another with each change of the bytes.
    pub id: String,
    pub size: u64,
    /// Of a secret, nothing.
    pub sha256: Option<String>,
    pub media_type: String,
}

/// Where devices reach this server; at each start, since the configuration may have changed. What
/// declarations say of it is changed with it: they lead to the same things.
///
/// # Errors
/// The database's.
pub fn set_public_url(tx: &Tx<'_>, url: &str) -> Result<()> {
    let before = public_url(tx)?;
    if before == url {
        return Ok(());
    }
    tx.prepare_cached("UPDATE served_at SET public_url = ?1")?.execute([url])?;
    let mut linked = tx.prepare_cached("SELECT DISTINCT declaration FROM served_links ORDER BY 1")?;
    let linked = linked.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    let edit = Edit { actor: "server", notify: false };
    for identifier in linked {
        declaration::change(tx, &identifier, edit, |declaration| {
            each_address(&mut declaration.payload, &mut |place| {
                if let Some((kind, name)) = link(&before, place.text()) {
                    place.set(address_under(url, kind, &name));
                }
                Ok(())
            })
        })?;
    }
    Ok(())
}

/// Where devices reach this server.
///
/// # Errors
/// The database's.
pub fn public_url(conn: &Connection) -> Result<String> {
    Ok(conn.prepare_cached("SELECT public_url FROM served_at")?.query_row([], |row| row.get(0))?)
}

/// Where devices fetch this.
///
/// # Errors
/// The database's.
pub fn address(conn: &Connection, kind: Kind, identifier: &str) -> Result<String> {
    Ok(address_under(&public_url(conn)?, kind, identifier))
}

/// What is served under this name.
///
/// # Errors
/// The database's.
pub fn find(conn: &Connection, kind: Kind, identifier: &str) -> Result<Option<Content>> {
    Ok(conn
        .prepare_cached(
            "SELECT content_id, size, sha256, media_type FROM served WHERE kind = ?1 AND identifier = ?2",
        )?
        .query_row([kind.word(), identifier], |row| {
            let size: i64 = row.get(1)?;
            Ok(Content {
                id: row.get(0)?,
                size: size.cast_unsigned(),
                sha256: row.get(2)?,
                media_type: row.get(3)?,
            })
        })
        .optional()?)
}

/// From now on this is served under this name. Every declaration that points to it gets a new
/// ServerToken if it is something else than before, and says what is true of it.
///
/// # Errors
/// The database's.
pub fn set(tx: &Tx<'_>, kind: Kind, identifier: &str, content: &Content, edit: Edit<'_>) -> Result<()> {
    if find(tx, kind, identifier)?.as_ref() == Some(content) {
        return Ok(());
    }
    tx.prepare_cached(
        "INSERT INTO served (kind, identifier, content_id, size, sha256, media_type)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO UPDATE SET content_id = excluded.content_id, size = excluded.size,
             sha256 = excluded.sha256, media_type = excluded.media_type",
    )?
    .execute(params![
        kind.word(),
        identifier,
        content.id,
        content.size.cast_signed(),
        content.sha256,
        content.media_type
    ])?;
    let base = public_url(tx)?;
    for user in linked_by(tx, kind, identifier)? {
        let hash = content_of(tx, &links_of(tx, &user)?)?;
        declaration::change(tx, &user, edit, |declaration| {
            declaration.content = hash;
            each_address(&mut declaration.payload, &mut |place| {
                if link(&base, place.text()).is_some_and(|found| found == (kind, identifier.to_owned())) {
                    place.describe(content);
                }
                Ok(())
            })
        })?;
    }
    Ok(())
}

/// This is served no more.
///
/// # Errors
/// `Conflict` with `users` when a declaration points to it.
pub fn remove(tx: &Tx<'_>, kind: Kind, identifier: &str) -> Result<()> {
    let users = users(tx, kind, identifier)?;
    if !users.is_empty() {
        let words =
            format!("declarations point to the {} {identifier}; change or delete those first", kind.word());
        return Err(declaration::used(words, &users));
    }
    tx.prepare_cached("DELETE FROM served WHERE kind = ?1 AND identifier = ?2")?
        .execute([kind.word(), identifier])?;
    if kind == Kind::Package { personal_address::forget_package(tx, identifier) } else { Ok(()) }
}

/// The declarations that point to it.
///
/// # Errors
/// The database's.
pub fn users(conn: &Connection, kind: Kind, identifier: &str) -> Result<Vec<User>> {
    Ok(linked_by(conn, kind, identifier)?.into_iter().map(User::Declaration).collect())
}

fn linked_by(conn: &Connection, kind: Kind, identifier: &str) -> Result<Vec<String>> {
    let mut statement = conn.prepare_cached(
        "SELECT declaration FROM served_links WHERE kind = ?1 AND identifier = ?2 ORDER BY declaration",
    )?;
    let names = statement.query_map([kind.word(), identifier], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

/// Whether a channel may fetch it: a declaration of the set that it should have points to it, or one of the
/// set that it was told last which is still as it was told. A device that does not ask what it should have
/// now gets nothing that came since.
///
/// # Errors
/// The database's.
pub fn is_for(conn: &Connection, enrollment_id: &str, kind: Kind, identifier: &str) -> Result<bool> {
    let Some(sync) = sync::find(conn, enrollment_id)? else { return Ok(false) };
    if is_in(conn, &sync.token, kind, identifier)? {
        return Ok(true);
    }
    let Some(told) = &sync.told_token else { return Ok(false) };
    let is_as_told = |body: &Map<String, Json>| {
        let name = body.get("Identifier").and_then(Json::as_str).unwrap_or_default();
        let token = declaration::get(conn, name)?.map(|declaration| declaration.server_token);
        Ok(token.is_some() && token.as_deref() == body.get("ServerToken").and_then(Json::as_str))
    };
    points_to(conn, told, kind, identifier, &is_as_told)
}

/// Whether a declaration of this set points to it.
///
/// # Errors
/// The database's.
pub(super) fn is_in(conn: &Connection, token: &str, kind: Kind, identifier: &str) -> Result<bool> {
    points_to(conn, token, kind, identifier, &|_| Ok(true))
}

/// Whether a declaration of this set for which `counts` points to it.
fn points_to(
    conn: &Connection,
    token: &str,
    kind: Kind,
    identifier: &str,
    counts: &dyn Fn(&Map<String, Json>) -> Result<bool>,
) -> Result<bool> {
    let base = public_url(conn)?;
    let wanted = (kind, identifier.to_owned());
    let path = format!("{}{identifier}", kind.folder());
    for body in snapshot::mentioning(conn, token, &path)? {
        let Ok(mut body) = serde_json::from_str::<Map<String, Json>>(&body) else { continue };
        let mut found = false;
        if let Some(Json::Object(payload)) = body.get_mut("Payload") {
            each_address(payload, &mut |place| {
                found |= link(&base, place.text()).as_ref() == Some(&wanted);
                Ok(())
            })?;
        }
        if found && counts(&body)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What leads to the server at this address, as a path alone: so it can be applied to another one.
///
/// # Errors
/// None at present.
pub fn without_host(base: &str, payload: &mut Map<String, Json>) -> Result<()> {
    each_address(payload, &mut |place| {
        if let Some((kind, name)) = link(base, place.text()) {
            place.set(address_under("", kind, &name));
        }
        Ok(())
    })
}

/// The packages that a payload points to; each address is given to `replaced`, which may say what is to
/// stand there instead.
pub(super) fn packages(
    conn: &Connection,
    payload: &mut Map<String, Json>,
    replaced: &mut dyn FnMut(&str) -> Result<Option<String>>,
) -> Result<()> {
    let base = public_url(conn)?;
    each_address(payload, &mut |place| {
        if let Some((Kind::Package, name)) = link(&base, place.text())
            && let Some(instead) = replaced(&name)?
        {
            place.set(address_under(&base, Kind::Package, &instead));
        }
        Ok(())
    })
}

/// Which declaration points to which package.
pub(super) fn package_links(conn: &Connection) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut statement =
        conn.prepare_cached("SELECT declaration, identifier FROM served_links WHERE kind = 'package'")?;
    let mut links = BTreeMap::<_, BTreeSet<String>>::new();
    for row in statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))? {
        let (declaration, package) = row?;
        links.entry(declaration).or_default().insert(package);
    }
    Ok(links)
}

/// What a declaration points to.
pub(super) struct Linked {
    links: BTreeSet<Link>,
    /// A hash of what is there; nothing for a declaration that points to nothing of ours.
    pub(super) content: Option<String>,
    pub(super) warnings: Vec<String>,
}

/// Reads the addresses of a payload, completes those that are a path alone, and holds each against
/// what is served.
///
/// # Errors
/// `Invalid` with a pointer for an address that leads nowhere, or where a device would not follow.
pub(super) fn resolve(conn: &Connection, payload: &mut Map<String, Json>, force: bool) -> Result<Linked> {
    let base = public_url(conn)?;
    let mut linked = Linked { links: BTreeSet::new(), content: None, warnings: Vec::new() };
    each_address(payload, &mut |place| {
        let completed = format!("{base}{}", place.text());
        if place.text().starts_with('/') && link(&base, &completed).is_some() {
            linked.warnings.push(format!("{} was completed: {completed}.", place.key));
            place.set(completed);
        }
        match link(&base, place.text()) {
            Some((kind, _)) if !kind.fits(place.key) => {
                let words = format!("{} cannot lead to a {} of this server.", place.key, kind.word());
                Err(Error::invalid_at(place.pointer.as_str(), words))
            }
            Some((kind, name)) => {
                let Some(content) = find(conn, kind, &name)? else {
                    let words = format!("This server has no {0} {name}; upload that first.", kind.word());
                    return Err(Error::invalid_at(place.pointer.as_str(), words));
                };
                place.is_true_of(&content)?;
                linked.links.insert((kind, name));
                Ok(())
            }
            None => elsewhere(&base, place, force).map(|warning| linked.warnings.extend(warning)),
        }
    })?;
    let authentication = payload.get("Authentication").and_then(|authentication| authentication.get("Type"));
    if !linked.links.is_empty() && authentication == Some(&Json::from("None")) {
        let words = "This server gives what it has to devices that prove who they are, and to nobody else.";
        return Err(Error::invalid_at("/Payload/Authentication/Type", words).suggesting("\"MDM\""));
    }
    linked.content = content_of(conn, &linked.links)?;
    Ok(linked)
}

/// An address that is no link; answers what its writer should know.
fn elsewhere(base: &str, place: &Place<'_>, force: bool) -> Result<Option<String>> {
    let refused = |words: String| Err(Error::invalid_at(place.pointer.as_str(), words));
    let example = |kind: Kind| address_under(base, kind, "{identifier}");
    let origin = origin(place.text());
    if place.key != "ProfileURL" {
        let ours = origin.is_some() && origin == Origin::parse(base).ok();
        return Ok(ours.then(|| {
            format!("{} leads to this server, which serves nothing there that it knows of.", place.key)
        }));
    }
    let here = example(Kind::Profile);
    match origin {
        None => {
            refused(format!("ProfileURL must begin with https://; a profile of this server is at {here}."))
        }
        Some(origin) if Some(&origin) == Origin::parse(base).ok().as_ref() => {
            refused(format!("There is no profile at this address; a profile of this server is at {here}."))
        }
        Some(_) if force => Ok(Some(
            "ProfileURL leads to another host; devices take profiles from the server that manages them."
                .to_owned(),
        )),
        Some(_) => refused(format!(
            "Devices take profiles only from the server that manages them; upload it, and write {here}."
        )),
    }
}

/// One hash of all that a declaration points to.
fn content_of(conn: &Connection, links: &BTreeSet<Link>) -> Result<Option<String>> {
    let mut ids = Vec::new();
    for (kind, name) in links {
        ids.extend(find(conn, *kind, name)?.map(|content| content.id));
    }
    Ok((!ids.is_empty()).then(|| ids.join(" ")))
}

/// The profiles that a declaration points to.
///
/// # Errors
/// The database's.
pub fn profiles_of(conn: &Connection, declaration: &str) -> Result<Vec<String>> {
    let links = links_of(conn, declaration)?.into_iter();
    Ok(links.filter(|(kind, _)| *kind == Kind::Profile).map(|(_, name)| name).collect())
}

fn links_of(conn: &Connection, declaration: &str) -> Result<BTreeSet<Link>> {
    let mut statement =
        conn.prepare_cached("SELECT kind, identifier FROM served_links WHERE declaration = ?1")?;
    let rows = statement.query_map([declaration], |row| {
        let word: String = row.get(0)?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.word() == word);
        Ok((kind.ok_or(rusqlite::Error::InvalidQuery)?, row.get(1)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Remembers what a declaration points to.
pub(super) fn keep_links(tx: &Tx<'_>, declaration: &str, linked: &Linked) -> Result<()> {
    forget_links(tx, declaration)?;
    for (kind, name) in &linked.links {
        tx.prepare_cached("INSERT INTO served_links (declaration, kind, identifier) VALUES (?1, ?2, ?3)")?
            .execute([declaration, kind.word(), name])?;
    }
    Ok(())
}

/// A declaration is gone.
pub(super) fn forget_links(tx: &Tx<'_>, declaration: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM served_links WHERE declaration = ?1")?.execute([declaration])?;
    Ok(())
}
