//! Services of macOS: configuration files as people edit them, and background tasks.
//!
//! A *service configuration* is a declaration `services.configuration-files` together with the asset of
//! its archive, which is made here of the files; a *background task* is a declaration
//! `services.background-tasks` together with the assets of its launchd property lists. Nothing is kept
//! beside these declarations and assets: what is shown is read from them.
//!
//! Apple: "ServicesConfigurationFiles", "ServicesBackgroundTasks".
//!
//! **Invariant:** the same files are the same archive, so that Macs fetch it when something changed and
//! not otherwise.

pub mod background_task;

mod files;
mod launchd;

use std::collections::BTreeSet;

use rusqlite::Connection;
use serde_json::{Map, Value as Json, json};

use super::asset::{self, Asset, Prepared, Upload};
use super::{check_name, zip};
use crate::clock::rfc3339;
use crate::content::Contents;
use crate::ddm::Edit;
use crate::ddm::declaration::{self, Declaration};
use crate::error::{Error, Result};
use crate::schema::declarations::{LONGEST_IDENTIFIER, check};
use crate::storage::Tx;

const TYPE: &str = "com.apple.configuration.services.configuration-files";
const DATA: &str = "com.apple.asset.data";
const ZIP: &str = "application/zip";
/// What the identifier of the archive's asset ends in.
const FILES: &str = ".files";
/// An archive that is made here is smaller.
const LARGEST_ARCHIVE: u64 = 4 * 1024 * 1024;
/// How many declarations are looked at at once.
const AT_ONCE: u32 = 50;

/// Files of a service that are fit to be kept.
#[derive(Debug)]
pub struct Checked {
    service: String,
    archive: Prepared,
    warnings: Vec<String>,
}

/// What became of what was sent.
#[derive(Debug)]
pub struct Put {
    pub created: bool,
    pub changed: bool,
    pub warnings: Vec<String>,
}

/// Reads `{"service": …, "files": {…}}` member by member and makes the archive; outside of any
/// transaction.
///
/// # Errors
/// `Invalid` with a pointer.
pub fn prepare(contents: &Contents, service: &str, sent: &Map<String, Json>, force: bool) -> Result<Checked> {
    let mut warnings: Vec<String> = files::check_type(service, force)?.into_iter().collect();
    let (files, more) = files::read(service, sent)?;
    warnings.extend(more);
    let archive = data(contents, ZIP, &zip::write(&files)?)?;
    Ok(Checked { service: service.to_owned(), archive, warnings })
}

/// Bytes as the data of an asset.
fn data(contents: &Contents, media_type: &str, bytes: &[u8]) -> Result<Prepared> {
    let upload = Upload {
        asset_type: Some(DATA),
        known_type: None,
        known_media: None,
        media_type,
        password: None,
        force: false,
    };
    asset::prepare(contents, &upload, contents.receive_bytes(bytes)?)
}

/// Keeps the archive and its declarations.
///
/// # Errors
/// `Invalid` for an identifier that cannot be one; `Conflict` when a declaration of this identifier is
/// something else.
pub fn put(
    tx: &Tx<'_>,
    contents: &Contents,
    identifier: &str,
    checked: &Checked,
    edit: Edit<'_>,
) -> Result<Put> {
    let created = is_free(tx, identifier, TYPE, FILES.len())?;
    let archive = format!("{identifier}{FILES}");
    let asset = asset::put(tx, contents, &archive, &checked.archive, edit)?;
    let payload = json!({"ServiceType": checked.service, "DataAssetReference": archive});
    let declared = declare(tx, TYPE, identifier, &payload, edit)?;
    let mut warnings = checked.warnings.clone();
    warnings.extend(asset.warnings.into_iter().chain(declared.warnings));
    Ok(Put { created, changed: created || asset.changed || declared.changed, warnings })
}

/// Whether a configuration of this identifier would be new.
fn is_free(conn: &Connection, identifier: &str, declaration_type: &str, suffix: usize) -> Result<bool> {
    check_name(identifier)?;
    let longest = LONGEST_IDENTIFIER - suffix;
    if identifier.len() > longest {
        let words = format!("the identifier in the address has {longest} characters at most here");
        return Err(Error::invalid(words));
    }
    match declaration::get(conn, identifier)? {
        Some(known) if known.declaration_type != declaration_type => Err(Error::conflict(format!(
            "{identifier} is {}; choose another identifier",
            known.declaration_type
        ))),
        known => Ok(known.is_none()),
    }
}

fn declare(
    tx: &Tx<'_>,
    declaration_type: &str,
    identifier: &str,
    payload: &Json,
    edit: Edit<'_>,
) -> Result<declaration::Put> {
    let body = json!({"Type": declaration_type, "Identifier": identifier, "Payload": payload});
    declaration::put(tx, &check(&body, false)?, false, edit)
}

/// A service configuration with its files; nothing if there is none, or one whose archive came from
/// elsewhere and is not to be edited here.
///
/// # Errors
/// The database's and the disk's.
pub fn get(conn: &Connection, contents: &Contents, identifier: &str) -> Result<Option<Json>> {
    let Some(declared) = declaration::get(conn, identifier)? else { return Ok(None) };
    Ok(whole(conn, contents, &declared)?.map(|(_, files, mut shown)| {
        shown["files"] = files::shown(&files);
        shown
    }))
}

/// Service configurations in the order of their identifiers, those after `after`, with the sizes of their
/// files.
///
/// # Errors
/// The database's and the disk's.
pub fn list(
    conn: &Connection,
    contents: &Contents,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<(String, Json)>> {
    of_type(conn, TYPE, after, limit, |declared| {
        Ok(whole(conn, contents, declared)?.map(|(_, files, mut shown)| {
            let sizes = files.into_iter().map(|(path, bytes)| (path, Json::from(bytes.len())));
            shown["files"] = sizes.collect::<Map<_, _>>().into();
            shown
        }))
    })
}

/// Those declarations of a type that `show` has something to say of.
fn of_type(
    conn: &Connection,
    declaration_type: &str,
    after: Option<&str>,
    limit: u32,
    show: impl Fn(&Declaration) -> Result<Option<Json>>,
) -> Result<Vec<(String, Json)>> {
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let (mut found, mut after) = (Vec::new(), after.map(str::to_owned));
    loop {
        let batch = declaration::list(conn, after.as_deref(), AT_ONCE)?;
        let Some(last) = batch.last() else { return Ok(found) };
        after = Some(last.identifier.clone());
        for declared in batch.into_iter().filter(|one| one.declaration_type == declaration_type) {
            if found.len() >= most {
                return Ok(found);
            }
            if let Some(shown) = show(&declared)? {
                found.push((declared.identifier, shown));
            }
        }
    }
}

/// The asset of the archive, the files in it, and what is shown beside them.
fn whole(
    conn: &Connection,
    contents: &Contents,
    declared: &Declaration,
) -> Result<Option<(Asset, files::Files, Json)>> {
    let archive = format!("{}{FILES}", declared.identifier);
    let is_ours = declared.declaration_type == TYPE
        && declared.payload.get("DataAssetReference") == Some(&json!(archive));
    let Some(asset) = is_ours.then(|| asset::get(conn, &archive)).transpose()?.flatten() else {
        return Ok(None);
    };
    if asset.media_type != ZIP || asset.kept.secret || asset.kept.size > LARGEST_ARCHIVE {
        return Ok(None);
    }
    let Some(files) = zip::read(&contents.load(conn, &asset.kept)?) else { return Ok(None) };
    let is_later = asset.updated_at > declared.updated_at;
    let updated_by = if is_later { &asset.updated_by } else { &declared.updated_by };
    let shown = json!({
        "identifier": declared.identifier,
        "service": declared.payload.get("ServiceType"),
        "files": null,
        "archive": {"asset": archive, "size": asset.kept.size, "sha256": asset.kept.sha256()},
        "updated_at": rfc3339(declared.updated_at.max(asset.updated_at)),
        "updated_by": updated_by,
    });
    Ok(Some((asset, files, shown)))
}

/// Removes a service configuration with its archive.
///
/// # Errors
/// `NotFound`; `Conflict` with `users` when it is used.
pub fn delete(tx: &Tx<'_>, contents: &Contents, identifier: &str, edit: Edit<'_>) -> Result<()> {
    if get(tx, contents, identifier)?.is_none() {
        return Err(Error::NotFound("such service configuration".into()));
    }
    declaration::delete(tx, identifier, edit)?;
    asset::delete(tx, &format!("{identifier}{FILES}"), edit)
}

/// The identifiers of the declarations and assets that service configurations and background tasks are
/// made of.
///
/// # Errors
/// The database's and the disk's.
pub fn generated(conn: &Connection, contents: &Contents) -> Result<BTreeSet<String>> {
    let mut names = background_task::generated(conn, contents)?;
    for (identifier, _) in list(conn, contents, None, u32::MAX)? {
        names.insert(format!("{identifier}{FILES}"));
        names.insert(identifier);
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
