//! Background tasks: an archive of executables that was uploaded, and launchd property lists.
//!
//! **Invariant:** the assets of the property lists are those that the declaration names, and no others of
//! their names are left.

use std::collections::BTreeSet;

use rusqlite::Connection;
use serde_json::{Map, Value as Json, json};

use super::{Put, data, declare, is_free, launchd, of_type};
use crate::clock::rfc3339;
use crate::content::Contents;
use crate::ddm::Edit;
use crate::ddm::declaration::{self, Declaration};
use crate::error::{Error, Result};
use crate::library::asset::{self, Prepared};
use crate::library::zip;
use crate::storage::Tx;

const TYPE: &str = "com.apple.configuration.services.background-tasks";
const PLIST: &str = "application/plist";
const MOST_LAUNCHD: usize = 20;
const LONGEST_TEXT: usize = 255;
/// How much longer than a task's own identifier that of a property list may be.
const SUFFIX: usize = ".launchd-20".len();
/// Property lists are smaller; what is larger was not put here.
const LARGEST_PLIST: u64 = 1024 * 1024;
/// A larger archive is not looked into.
const LARGEST_LOOK: u64 = 32 * 1024 * 1024;
/// Where macOS expands the archive, with the TaskType behind it (Apple: "ServicesBackgroundTasks").
const PLACE: &str = "/var/db/ManagedConfigurationFiles/BackgroundTaskServices/Services/";

/// A background task as it was sent.
#[derive(Debug)]
pub struct Sent {
    pub task_type: String,
    pub description: Option<String>,
    /// The identifier of an asset.
    pub executable: Option<String>,
    pub launchd: Vec<Json>,
}

/// One that is fit to be kept.
#[derive(Debug)]
pub struct Checked {
    sent: Sent,
    /// Context and property list.
    launchd: Vec<(String, Prepared)>,
    warnings: Vec<String>,
}

fn asset_name(identifier: &str, index: usize) -> String {
    format!("{identifier}.launchd-{}", index + 1)
}

/// Checks what was sent, outside of any transaction.
///
/// # Errors
/// `Invalid` with a pointer.
pub fn prepare(contents: &Contents, sent: Sent) -> Result<Checked> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let task_type = sent.task_type.as_str();
    if task_type.is_empty()
        || task_type.len() > LONGEST_TEXT
        || !task_type.chars().all(fits)
        || task_type.split('.').any(str::is_empty)
    {
        let words = "A task is named in reverse DNS style, as org.example.inventory.";
        return Err(Error::invalid_at("/task_type", words));
    }
    if sent.executable.is_none() && sent.launchd.is_empty() {
        let words = "Nothing would happen: name an executable, or launchd property lists, or both.";
        return Err(Error::invalid_at("/launchd", words));
    }
    if sent.launchd.len() > MOST_LAUNCHD {
        let words = format!("There can be {MOST_LAUNCHD} launchd property lists at most.");
        return Err(Error::invalid_at("/launchd", words));
    }
    let place = format!("{PLACE}{task_type}/");
    let (mut list, mut warnings, mut labels) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (index, one) in sent.launchd.iter().enumerate() {
        let at = format!("/launchd/{index}");
        let context = one["context"].as_str().filter(|context| matches!(*context, "daemon" | "agent"));
        let context = context.ok_or_else(|| {
            let words =
                "context is daemon, for what runs as the system, or agent, for what runs as each user.";
            Error::invalid_at(format!("{at}/context"), words)
        })?;
        let odd = one
            .as_object()
            .into_iter()
            .flat_map(Map::keys)
            .find(|key| !matches!(key.as_str(), "context" | "plist"));
        if let Some(odd) = odd {
            let at = crate::schema::check::child(&at, odd);
            return Err(Error::invalid_at(at, "An item of launchd has context and plist only."));
        }
        let launchd = launchd::read(&one["plist"], &format!("{at}/plist"))?;
        let label = &launchd.label;
        let program = launchd.program.strip_prefix("/private").unwrap_or(&launchd.program);
        if !program.starts_with('/') {
            warnings
                .push(format!("{label} runs {program}, which is no whole path; launchd may not find it."));
        } else if sent.executable.is_some() && !program.starts_with(&place) {
            warnings.push(format!("{label} runs {program}; the archive is expanded to {place}."));
        } else if sent.executable.is_none() && program.starts_with(&place) {
            warnings.push(format!("{label} runs {program}, and there is no archive that brings it."));
        }
        if launchd.is_disabled {
            warnings.push(format!("{label} says Disabled: it is never started."));
        }
        if !labels.insert(launchd.label) {
            let words = "Two property lists have this Label; launchd would load only one of them.";
            return Err(Error::invalid_at(format!("{at}/plist/Label"), words));
        }
        list.push((context.to_owned(), data(contents, PLIST, &launchd.xml)?));
    }
    Ok(Checked { sent, launchd: list, warnings })
}

/// Keeps the property lists and the declaration.
///
/// # Errors
/// `Invalid` with a pointer when the executable is no asset, or its archive is none that a Mac may be
/// given; `Conflict` when a declaration of this identifier is something else.
pub fn put(
    tx: &Tx<'_>,
    contents: &Contents,
    identifier: &str,
    checked: &Checked,
    edit: Edit<'_>,
) -> Result<Put> {
    let created = is_free(tx, identifier, TYPE, SUFFIX)?;
    let mut warnings = checked.warnings.clone();
    let mut payload = Map::new();
    payload.insert("TaskType".into(), checked.sent.task_type.as_str().into());
    if let Some(description) = &checked.sent.description {
        payload.insert("TaskDescription".into(), description.as_str().into());
    }
    if let Some(executable) = &checked.sent.executable {
        warnings.extend(look_into(tx, contents, executable)?);
        payload.insert("ExecutableAssetReference".into(), executable.as_str().into());
    }
    let mut changed = created;
    let mut list = Vec::new();
    for (index, (context, plist)) in checked.launchd.iter().enumerate() {
        let name = asset_name(identifier, index);
        let asset = asset::put(tx, contents, &name, plist, edit)?;
        changed |= asset.changed;
        warnings.extend(asset.warnings);
        list.push(json!({"FileAssetReference": name, "Context": context}));
    }
    let count = list.len();
    if count > 0 {
        payload.insert("LaunchdConfigurations".into(), list.into());
    }
    let declared = declare(tx, TYPE, identifier, &payload.into(), edit)?;
    forget_plists(tx, identifier, count, edit)?;
    warnings.extend(declared.warnings);
    Ok(Put { created, changed: changed || declared.changed, warnings })
}

/// Removes the property lists from this one on, which nothing names any more.
fn forget_plists(tx: &Tx<'_>, identifier: &str, from: usize, edit: Edit<'_>) -> Result<()> {
    for index in from..MOST_LAUNCHD {
        let name = asset_name(identifier, index);
        if asset::get(tx, &name)?.is_some_and(|asset| asset.media_type == PLIST) {
            asset::delete(tx, &name, edit)?;
        }
    }
    Ok(())
}

/// Whether an uploaded archive is one that runs; answers what its sender should know.
fn look_into(conn: &Connection, contents: &Contents, executable: &str) -> Result<Option<String>> {
    let wrong = |words: String| Error::invalid_at("/executable", words);
    if declaration::get(conn, executable)?.is_none() {
        let words = format!(
            "There is no asset {executable}; upload the zip archive first (PUT /api/v1/assets/{executable})."
        );
        return Err(wrong(words));
    }
    let Some(asset) = asset::get(conn, executable)? else { return Ok(None) };
    if asset.kept.secret || asset.kept.size > LARGEST_LOOK {
        return Ok(None);
    }
    let archive = contents.load(conn, &asset.kept)?;
    let entries = zip::list(&mut std::io::Cursor::new(archive)).map_err(|error| wrong(error.to_string()))?;
    let outside =
        |name: &str| name.starts_with('/') || name.contains('\\') || name.split('/').any(|part| part == "..");
    if let Some(entry) = entries.iter().find(|entry| outside(&entry.name)) {
        return Err(wrong(format!(
            "The archive has {:?}, which leads out of its folder.",
            crate::id::printable(&entry.name)
        )));
    }
    Ok((!entries.iter().any(zip::Entry::is_executable)).then(|| {
        format!(
            "No file in {executable} is executable; set the mode with chmod +x, and make the archive on a Mac."
        )
    }))
}

/// A background task with its property lists; nothing if there is none, or one whose property lists were
/// put elsewhere and are not to be edited here.
///
/// # Errors
/// The database's and the disk's.
pub fn get(conn: &Connection, contents: &Contents, identifier: &str) -> Result<Option<Json>> {
    declaration::get(conn, identifier)?
        .map(|declared| shown(conn, contents, &declared))
        .transpose()
        .map(Option::flatten)
}

/// Background tasks in the order of their identifiers, those after `after`.
///
/// # Errors
/// The database's and the disk's.
pub fn list(
    conn: &Connection,
    contents: &Contents,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<(String, Json)>> {
    of_type(conn, TYPE, after, limit, |declared| shown(conn, contents, declared))
}

fn shown(conn: &Connection, contents: &Contents, declared: &Declaration) -> Result<Option<Json>> {
    if declared.declaration_type != TYPE {
        return Ok(None);
    }
    let payload = &declared.payload;
    let (mut launchd, mut updated) = (Vec::new(), (declared.updated_at, declared.updated_by.clone()));
    let named = payload.get("LaunchdConfigurations").and_then(Json::as_array).into_iter().flatten();
    for (index, one) in named.enumerate() {
        let name = asset_name(&declared.identifier, index);
        let asset = if one["FileAssetReference"] == name.as_str() { asset::get(conn, &name)? } else { None };
        let Some(asset) = asset.filter(|asset| !asset.kept.secret && asset.kept.size <= LARGEST_PLIST) else {
            return Ok(None);
        };
        let Ok(plist) = String::from_utf8(contents.load(conn, &asset.kept)?) else { return Ok(None) };
        launchd.push(json!({"context": one["Context"], "plist": plist}));
        if asset.updated_at > updated.0 {
            updated = (asset.updated_at, asset.updated_by);
        }
    }
    Ok(Some(json!({
        "identifier": declared.identifier,
        "task_type": payload.get("TaskType"),
        "description": payload.get("TaskDescription"),
        "executable": payload.get("ExecutableAssetReference"),
        "launchd": launchd,
        "updated_at": rfc3339(updated.0),
        "updated_by": updated.1,
    })))
}

/// Removes a background task with its property lists; the executable stays.
///
/// # Errors
/// `NotFound`; `Conflict` with `users` when it is used.
pub fn delete(tx: &Tx<'_>, contents: &Contents, identifier: &str, edit: Edit<'_>) -> Result<()> {
    if get(tx, contents, identifier)?.is_none() {
        return Err(Error::NotFound("such background task".into()));
    }
    declaration::delete(tx, identifier, edit)?;
    forget_plists(tx, identifier, 0, edit)
}

/// What background tasks are made of.
pub(super) fn generated(conn: &Connection, contents: &Contents) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for (identifier, shown) in list(conn, contents, None, u32::MAX)? {
        let count = shown["launchd"].as_array().map_or(0, Vec::len);
        names.extend((0..count).map(|index| asset_name(&identifier, index)));
        names.insert(identifier);
    }
    Ok(names)
}
