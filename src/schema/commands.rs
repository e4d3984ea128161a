//! Apple's commands, and the request that a device is sent.
//!
//! Called by the API and the NanoMDM-compatible routes with what a person sent, and by every part of
//! the server that sends a command of its own. Apple: "Commands and Queries", `mdm/commands/*.yaml`.
//!
//! **Invariant:** a [`Request`]'s bytes say exactly its `uuid` and `request_type`.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;
use std::sync::OnceLock;

pub use super::effect::{needs_admin, urgent};

use super::check::{Checker, child};
use super::secrets::has_secrets;
use super::table::{Key, Support, Table};
use crate::error::{Error, Result};
use crate::id;
use crate::plist::{self, Dictionary, Value};

/// Where a property list has it.
const REQUEST_TYPE: &str = "/Command/RequestType";

/// The longest CommandUUID or RequestType that is accepted, in bytes.
const LONGEST_NAME: usize = 255;

/// What the table says of one command.
#[derive(Deserialize)]
pub struct Command {
    /// Its keys, without RequestType.
    #[serde(default)]
    pub request: Vec<Key>,
    /// Since when which operating system takes it; one that is not listed never does.
    pub os: BTreeMap<String, Support>,
    #[serde(rename = "response")]
    _response: Option<IgnoredAny>,
}

/// A command ready to be queued.
#[derive(Debug)]
pub struct Request {
    pub request_type: String,
    /// CommandUUID: as sent, or made here.
    pub uuid: String,
    /// The whole property list that the device gets, `{CommandUUID, Command}`.
    pub plist: Vec<u8>,
    /// Whether `plist` holds a secret, and so is sealed where it is kept.
    pub secret: bool,
    /// What the sender should know, in sentences.
    pub warnings: Vec<String>,
}

/// What Apple's schema says of a command, if it knows it.
pub fn command(request_type: &str) -> Option<&'static Command> {
    table().items.get(request_type)
}

impl Request {
    /// A command of the server's own; `keys` are those of the command without RequestType.
    pub fn new(request_type: &str, keys: Dictionary) -> Self {
        Self::with_uuid(request_type, id::uuid(), keys)
    }

    /// As [`Request::new`], under a CommandUUID that is chosen by the caller.
    pub fn with_uuid(request_type: &str, uuid: String, keys: Dictionary) -> Self {
        let mut command = Dictionary::new();
        command.insert("RequestType".to_owned(), Value::String(request_type.to_owned()));
        command.extend(keys);
        let command = Value::Dictionary(command);
        let secret = has_secrets(request_type, &command);
        let mut whole = Dictionary::new();
        whole.insert("CommandUUID".to_owned(), Value::String(uuid.clone()));
        whole.insert("Command".to_owned(), command);
        let plist = plist::to_xml(&Value::Dictionary(whole));
        Self { request_type: request_type.to_owned(), uuid, plist, secret, warnings: Vec::new() }
    }
}

/// Makes a request from JSON, typed by Apple's schema.
///
/// The body is the command, `{"RequestType": …, …}`, with or without a `CommandUUID`, or the form that
/// devices know, `{"CommandUUID": …, "Command": {"RequestType": …, …}}`. With `force`, an unknown
/// RequestType, unknown keys and unknown query names are accepted with a warning, and nothing else is.
pub fn from_json(body: &Json, force: bool) -> Result<Request> {
    let Json::Object(body) = body else {
        return Err(Error::invalid_at("", "A command is a JSON object with a RequestType."));
    };
    let (command, at) = match body.get("Command") {
        Some(Json::Object(command)) => (command, "/Command"),
        Some(_) => {
            return Err(Error::invalid_at("/Command", "Command must be an object with a RequestType."));
        }
        None => (body, ""),
    };
    let mut checker = Checker::new(force);
    if !at.is_empty()
        && let Some(name) = body.keys().find(|name| !matches!(name.as_str(), "Command" | "CommandUUID"))
    {
        let words = format!("{:?} has no place beside Command; put it inside.", id::printable(name));
        return Err(Error::invalid_at(child("", name), words));
    }
    let uuid = match body.get("CommandUUID") {
        None => id::uuid(),
        Some(uuid) => name_in_json("CommandUUID", uuid, "")?,
    };
    let request_type = match command.get("RequestType") {
        None => {
            return Err(Error::invalid_at(
                child(at, "RequestType"),
                "RequestType is missing; it names the command.",
            ));
        }
        Some(request_type) => name_in_json("RequestType", request_type, at)?,
    };
    let keys = known_keys(&mut checker, &request_type, at)?;
    let mut rest = command.clone();
    rest.retain(|name, _| name != "RequestType" && !(at.is_empty() && name == "CommandUUID"));
    let mut tether = Map::new();
    // Apple allows this in every command, beside the keys of the schema.
    if let Some(value) = rest.shift_remove("RequestRequiresNetworkTether") {
        if !value.is_boolean() {
            let here = child(at, "RequestRequiresNetworkTether");
            return Err(Error::invalid_at(here, "This must be true or false."));
        }
        tether.insert("RequestRequiresNetworkTether".to_owned(), value);
    }
    let mut dict = match keys {
        Some(keys) => checker.dict(keys, &rest, at)?,
        None => natural(&rest, at)?,
    };
    dict.extend(natural(&tether, at)?);
    let mut request = Request::with_uuid(&request_type, uuid, dict);
    // What is too deep or too large for our own reader could not be shown again either.
    plist::parse(&request.plist)?;
    request.warnings = checker.warnings;
    request.warnings.extend(remarks(&request_type, command));
    Ok(request)
}

/// Takes a command that was sent as a property list.
///
/// Nothing is checked but what the queue needs: `Command.RequestType`, and `CommandUUID` if it is
/// there; [`known`] checks the RequestType too. With a CommandUUID the bytes stay as they are; without, one is added and they are written anew.
pub fn from_plist(bytes: &[u8]) -> Result<Request> {
    let mut whole = plist::parse_dict(bytes).map_err(at(""))?;
    let command = plist::dict(&whole, "Command").and_then(|command| plist::needed("Command", command));
    let command = command.map_err(at("/Command"))?;
    let request_type = plist::string(command, "RequestType")
        .and_then(|request_type| plist::needed("Command.RequestType", request_type))
        .map_err(at(REQUEST_TYPE))?;
    let request_type = checked_name("RequestType", request_type).map_err(at(REQUEST_TYPE))?;
    let secret = has_secrets(&request_type, &Value::Dictionary(command.clone()));
    let (uuid, plist) = match plist::string(&whole, "CommandUUID").map_err(at("/CommandUUID"))? {
        Some(uuid) => (checked_name("CommandUUID", uuid).map_err(at("/CommandUUID"))?, bytes.to_vec()),
        None => {
            let uuid = id::uuid();
            whole.insert("CommandUUID".to_owned(), Value::String(uuid.clone()));
            (uuid, plist::to_xml(&Value::Dictionary(whole)))
        }
    };
    Ok(Request { request_type, uuid, plist, secret, warnings: Vec::new() })
}

/// Refuses a property list whose RequestType Apple's schema does not know; with `force` it is only
/// remarked on. Its keys are the sender's own affair: the device gets the bytes as they are.
pub fn known(request: &mut Request, force: bool) -> Result<()> {
    let mut checker = Checker::new(force);
    known_keys(&mut checker, &request.request_type, "/Command")?;
    request.warnings.extend(checker.warnings);
    Ok(())
}

/// Where in what was sent the mistake is.
fn at<E: ToString>(pointer: &'static str) -> impl Fn(E) -> Error {
    move |error| Error::invalid_at(pointer, error.to_string())
}

/// The keys of a command, or nothing for one that is only accepted by `force`.
fn known_keys(checker: &mut Checker, request_type: &str, at: &str) -> Result<Option<&'static [Key]>> {
    if let Some(command) = command(request_type) {
        return Ok(Some(&command.request));
    }
    let words = format!("Apple's schema has no command {request_type:?}.");
    checker.unknown(
        &child(at, "RequestType"),
        words,
        request_type,
        table().items.keys().map(String::as_str),
    )?;
    Ok(None)
}

/// What is worth knowing before it is sent, though nothing is wrong with it.
fn remarks(request_type: &str, body: &Map<String, Json>) -> Vec<String> {
    let mut remarks = Vec::new();
    let support = command(request_type).into_iter().flat_map(|command| &command.os);
    let removed: Vec<String> =
        support.filter_map(|(os, support)| Some(format!("{os} {}", support.removed.as_deref()?))).collect();
    if !removed.is_empty() {
        remarks.push(format!(
            "Apple removed {request_type} in {}; newer devices do nothing with it.",
            removed.join(", ")
        ));
    }
    if matches!(body.get("PIN"), Some(Json::String(pin)) if pin.chars().count() != 6) {
        remarks.push("A Mac takes a PIN of exactly six characters.".to_owned());
    }
    remarks
}

fn name_in_json(name: &'static str, json: &Json, at: &str) -> Result<String> {
    let text = json
        .as_str()
        .ok_or_else(|| Error::invalid_at(child(at, name), format!("{name} must be a string.")))?;
    checked_name(name, text).map_err(|words| Error::invalid_at(child(at, name), words))
}

/// CommandUUID is any unique string to Apple; ours must also be fit for an address and a log line.
fn checked_name(name: &str, text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > LONGEST_NAME || text.chars().any(char::is_control) {
        return Err(format!("{name} must have 1 to {LONGEST_NAME} bytes and no control characters."));
    }
    Ok(text.to_owned())
}

fn natural(object: &Map<String, Json>, at: &str) -> Result<Dictionary> {
    let mut dict = Dictionary::new();
    for (name, json) in object {
        let wrong = |error: plist::PlistError| Error::invalid_at(child(at, name), error.to_string());
        let value = plist::json::from_json(json).map_err(wrong)?;
        dict.insert(plist::json::sayable(name).map_err(wrong)?.to_owned(), value);
    }
    Ok(dict)
}

fn table() -> &'static Table<Command> {
    static TABLE: OnceLock<Table<Command>> = OnceLock::new();
    TABLE.get_or_init(|| {
        serde_json::from_str(include_str!("data/commands.json"))
            .expect("the embedded table is read by a test")
    })
}

#[cfg(test)]
mod tests;
