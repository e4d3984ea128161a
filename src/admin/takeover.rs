//! Profiles that commands installed and profiles that declarations install: each device has its own.
//!
//! A device hands a profile that a command installed over to a declaration only if it is the same one:
//! the PayloadIdentifier and PayloadUUID, the number, types and order of its payloads. From then on
//! commands about it fail there (Apple: `com.apple.configuration.legacy`). [`warnings`] says beforehand
//! which devices will not hand theirs over; [`check`] keeps commands away from what is declared.
//!
//! **Invariant:** what is not known is not warned of.

use rusqlite::Connection;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

use super::Admin;
use crate::ddm::served::{self, Kind};
use crate::error::{Error, Result};
use crate::id::printable;
use crate::library::mobileconfig::Mobileconfig;
use crate::library::profile::{self, Profile};
use crate::mdm::listing::{self, Command};
use crate::plist::{self, Dictionary};
use crate::schema::commands::Request;

/// How many answers and commands are looked at, the newest first.
const MOST: u32 = 2000;

/// What makes one profile the same as another to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    identifier: String,
    uuid: String,
    types: Vec<String>,
}

impl From<Mobileconfig> for Shape {
    fn from(read: Mobileconfig) -> Self {
        let types = read.payloads.into_iter().map(|payload| payload.payload_type).collect();
        Self { identifier: read.identifier, uuid: read.uuid, types }
    }
}

impl From<&Profile> for Shape {
    fn from(profile: &Profile) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let summary = &profile.summary;
        let payloads = summary["payloads"].as_array().map(Vec::as_slice).unwrap_or_default();
        Self {
            identifier: text(&summary["payload_identifier"]),
            uuid: text(&summary["uuid"]),
            types: payloads.iter().map(|payload| text(&payload["type"])).collect(),
        }
    }
}

/// The devices on which commands installed something else under the PayloadIdentifier of one of these.
///
/// # Errors
/// The database's.
pub(super) async fn warnings(admin: &Admin, shapes: Vec<Shape>) -> Result<Vec<String>> {
    if shapes.is_empty() {
        return Ok(Vec::new());
    }
    let seal = admin.mdm.seal.clone();
    let found = admin.mdm.store.read(move |conn| {
        let mut installed = Installed::default();
        listing::of_profiles(conn, &seal, MOST, &mut |command| installed.add(&command))?;
        let mut warnings = Vec::new();
        for shape in shapes {
            warnings.extend(installed.other_than(conn, &shape)?);
        }
        Ok(warnings)
    });
    found.await
}

/// What devices have by commands, as far as their newest answers and what was sent after them tell.
#[derive(Default)]
struct Installed {
    /// By enrollment and PayloadIdentifier; nothing for one that was removed.
    known: BTreeMap<(String, String), Option<Shape>>,
    /// Whose list was seen: what is older does not count.
    complete: BTreeSet<String>,
}

impl Installed {
    /// Takes the next older command.
    fn add(&mut self, command: &Command) {
        let id = &command.enrollment_id;
        if self.complete.contains(id) {
            return;
        }
        let request =
            || Some(plist::parse_dict(&command.request).ok()?.get("Command")?.as_dictionary()?.clone());
        match command.request_type.as_str() {
            "ProfileList" => {
                let answer = command.answer.as_deref().and_then(|answer| plist::parse_dict(answer).ok());
                let Some(answer) = answer else { return };
                let list = answer.get("ProfileList").and_then(plist::Value::as_array);
                for shape in list.into_iter().flatten().filter_map(listed) {
                    self.known.entry((id.clone(), shape.identifier.clone())).or_insert(Some(shape));
                }
                self.complete.insert(id.clone());
            }
            "InstallProfile" => {
                let shape = request().as_ref().and_then(carried);
                if let Some(shape) = shape {
                    self.known.entry((id.clone(), shape.identifier.clone())).or_insert(Some(shape));
                }
            }
            _ => {
                let removed = request().and_then(|request| text(&request, "Identifier"));
                if let Some(identifier) = removed {
                    self.known.entry((id.clone(), identifier)).or_insert(None);
                }
            }
        }
    }

    fn other_than(&self, conn: &Connection, shape: &Shape) -> Result<Option<String>> {
        let mut devices = Vec::new();
        for ((id, identifier), known) in &self.known {
            let differs =
                *identifier == shape.identifier && known.as_ref().is_some_and(|known| known != shape);
            // One that has it by a declaration gets the next by it too.
            if differs && declaring(conn, id, identifier)?.is_empty() {
                devices.push(id.as_str());
            }
        }
        let Some(first) = devices.first() else { return Ok(None) };
        Ok(Some(format!(
            "On {} enrollments (as {}) a command installed another profile {}: its PayloadUUID, or the number, \
             types or order of its payloads differ, so these devices do not hand it over to a declaration. \
             Declare the same one first, or remove it there with RemoveProfile.",
            devices.len(),
            printable(first),
            printable(&shape.identifier)
        )))
    }
}

/// One entry of a ProfileList.
fn listed(entry: &plist::Value) -> Option<Shape> {
    let entry = entry.as_dictionary()?;
    let payloads = entry.get("PayloadContent").and_then(plist::Value::as_array);
    let types =
        payloads.into_iter().flatten().filter_map(|payload| text(payload.as_dictionary()?, "PayloadType"));
    Some(Shape {
        identifier: text(entry, "PayloadIdentifier")?,
        uuid: text(entry, "PayloadUUID")?,
        types: types.collect(),
    })
}

/// The profile of an InstallProfile.
fn carried(command: &Dictionary) -> Option<Shape> {
    Some(Mobileconfig::read(command.get("Payload")?.as_data()?).ok()?.into())
}

fn text(members: &Dictionary, key: &str) -> Option<String> {
    Some(members.get(key)?.as_string()?.to_owned())
}

/// The profiles of the library with this PayloadIdentifier that are declared for an enrollment.
fn declaring(conn: &Connection, enrollment_id: &str, payload_identifier: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for name in profile::named(conn, payload_identifier)? {
        if served::is_for(conn, enrollment_id, Kind::Profile, &name)? {
            names.push(name);
        }
    }
    Ok(names)
}

/// Refuses a command about a profile that a declaration manages there; by force it is a warning.
///
/// # Errors
/// `Conflict`, in words.
pub(super) fn check(
    conn: &Connection,
    enrollment_id: &str,
    request: &Request,
    force: bool,
) -> Result<Option<String>> {
    if !["InstallProfile", "RemoveProfile"].contains(&request.request_type.as_str()) {
        return Ok(None);
    }
    let list = plist::parse_dict(&request.plist).unwrap_or_default();
    let Some(command) = list.get("Command").and_then(plist::Value::as_dictionary) else { return Ok(None) };
    let identifier = match request.request_type.as_str() {
        "InstallProfile" => match command.get("Payload").and_then(plist::Value::as_data) {
            Some(payload) => match Mobileconfig::read(payload) {
                Ok(profile) => Some(profile.identifier),
                Err(error) => return unreadable(conn, enrollment_id, &error, force),
            },
            None => None,
        },
        _ => text(command, "Identifier"),
    };
    let Some(identifier) = identifier else { return Ok(None) };
    let names = declaring(conn, enrollment_id, &identifier)?;
    if names.is_empty() {
        return Ok(None);
    }
    let words = format!(
        "{} is declared for this enrollment (profile {}), and devices refuse commands about what is declared; \
         change the profile, or take its declaration from the enrollment",
        printable(&identifier),
        names.join(", ")
    );
    refuse(words, force)
}

/// Where profiles are declared, one that cannot be looked into may be one of them.
fn unreadable(conn: &Connection, enrollment_id: &str, error: &Error, force: bool) -> Result<Option<String>> {
    for profile in profile::list(conn, None, u32::MAX)? {
        if served::is_for(conn, enrollment_id, Kind::Profile, &profile.name)? {
            let words = format!(
                "this profile cannot be looked into ({error}), so it may be one that is declared for this \
                 enrollment, as {} is",
                profile.name
            );
            return refuse(words, force);
        }
    }
    Ok(None)
}

fn refuse(words: String, force: bool) -> Result<Option<String>> {
    if force {
        Ok(Some(words))
    } else {
        Err(Error::conflict(format!("{words}; ?force=1 sends it all the same")))
    }
}
