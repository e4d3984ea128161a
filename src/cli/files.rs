//! Objects as files: `DIR/declarations/<identifier>.json`, `DIR/groups/<name>.json`,
//! `DIR/app-sets/<name>.json`, `DIR/updates/<group>.json`, `DIR/services/<identifier>.json`,
//! `DIR/background-tasks/<identifier>.json`. Profiles and assets are [`super::bytes`]'.
//!
//! **Invariant:** nothing is read or written outside the folders, whatever an object is called.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::{Failure, bytes};
use crate::id::printable;
use crate::schema::nearest;

/// The folders, each with the member of an object that its file is named after.
pub(super) const FOLDERS: [(&str, &str); 6] = [
    ("declarations", "Identifier"),
    ("groups", "name"),
    ("app-sets", "name"),
    ("updates", "group"),
    ("services", "identifier"),
    ("background-tasks", "identifier"),
];
pub(super) const ENDING: &str = ".json";

/// What the API calls the objects of a folder.
pub(super) fn list_of(folder: &'static str) -> &'static str {
    match folder {
        "app-sets" => "app_sets",
        "updates" => "update_policies",
        "background-tasks" => "background_tasks",
        folder => folder,
    }
}

/// The names of all folders.
pub(super) fn known() -> Vec<&'static str> {
    let with_bytes = bytes::FOLDERS.iter().map(|(folder, _)| *folder);
    FOLDERS.iter().map(|(folder, _)| *folder).chain(with_bytes).collect()
}

/// What stands beside the known folders or in them and is not read, in sentences: it may be misspelt.
pub(super) fn passed_over(folder: &Path) -> Result<Vec<String>, Failure> {
    let mut words = Vec::new();
    for path in entries(folder)? {
        let name = name_of(&path);
        if path.is_dir() && !known().contains(&name) {
            let meant = nearest::suggestion(name, known().into_iter());
            words.push(format!(
                "{}: passed over; the folders that are read are {}.{meant}",
                path.display(),
                known().join(", ")
            ));
        } else if path.is_file() && [ENDING, ".mobileconfig"].iter().any(|ending| name.ends_with(ending)) {
            let words_of_file = format!("{}: passed over; put it into one of the folders", path.display());
            words.push(format!("{words_of_file} {}.", known().join(", ")));
        }
    }
    for (kind, endings) in FOLDERS.map(|(kind, _)| (kind, &[ENDING][..])).iter().chain(&bytes::FOLDERS) {
        let inside = folder.join(kind);
        if !inside.is_dir() {
            continue;
        }
        for path in entries(&inside)? {
            let name = name_of(&path);
            if !path.is_file() || !endings.iter().any(|ending| name.ends_with(ending)) {
                words.push(format!(
                    "{}: passed over; files of {kind} end in {}.",
                    path.display(),
                    endings.join(" or ")
                ));
            }
        }
    }
    Ok(words)
}

/// What is in a folder, in order, without what is hidden or left over from an export that broke off.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| wrong(folder, &error))? {
        let path = entry.map_err(|error| wrong(folder, &error))?.path();
        if !name_of(&path).starts_with('.') && !name_of(&path).ends_with(".new") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(OsStr::to_str).unwrap_or_default()
}

pub(super) fn wrong(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::Wrong(format!("{}: {error}", path.display()))
}

/// The files of one folder whose names end so, in order; nothing if there is no such folder.
pub(super) fn files(folder: &Path, ending: &str) -> Result<Option<Vec<PathBuf>>, Failure> {
    if !folder.is_dir() {
        return Ok(None);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| wrong(folder, &error))? {
        let path = entry.map_err(|error| wrong(folder, &error))?.path();
        let is_ours = path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.ends_with(ending));
        if is_ours && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(Some(found))
}

/// Reads a file; its name stands in for the object's own, and must not contradict it.
pub(super) fn read(path: &Path, member: &str) -> Result<Json, Failure> {
    let text = fs::read(path).map_err(|error| wrong(path, &error))?;
    let mut object: Json =
        serde_json::from_slice(&text).map_err(|error| wrong(path, &format!("this is not JSON: {error}")))?;
    let Json::Object(members) = &mut object else {
        return Err(wrong(path, &"this is not a JSON object"));
    };
    let stem = stem(path, ENDING);
    match members.get(member) {
        None => {
            members.insert(member.to_owned(), stem.into());
        }
        Some(Json::String(named)) if named != stem => {
            let words = format!("{member} is {0:?}; name the file {0}{ENDING}", printable(named));
            return Err(wrong(path, &words));
        }
        Some(_) => {}
    }
    Ok(object)
}

/// The name of the object that a file is of.
pub(super) fn stem<'a>(path: &'a Path, ending: &str) -> &'a str {
    let name = path.file_name().and_then(OsStr::to_str);
    name.and_then(|name| name.strip_suffix(ending)).unwrap_or_default()
}

/// The file of an object.
pub(super) fn path(folder: &Path, name: &str, ending: &str) -> Result<PathBuf, Failure> {
    // The server allows no such name; a file outside the folder would be somebody else's.
    if name.is_empty() || name.contains(['/', '\0']) {
        return Err(Failure::Wrong(format!("{:?} cannot be the name of a file", printable(name))));
    }
    Ok(folder.join(format!("{name}{ending}")))
}

/// Writes a file beside and puts it into place, if it is not so already.
pub(super) fn write(path: &Path, object: &Json) -> Result<(), Failure> {
    let text = format!("{object:#}\n");
    if fs::read(path).is_ok_and(|known| known == text.as_bytes()) {
        return Ok(());
    }
    let beside = path.with_extension("json.new");
    fs::write(&beside, text).map_err(|error| wrong(&beside, &error))?;
    fs::rename(&beside, path).map_err(|error| wrong(path, &error))
}
