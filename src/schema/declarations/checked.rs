//! A declaration as a person writes it, checked against Apple's schema.
//!
//! Called by the API, by `apply` and by whatever makes declarations of its own, before anything is
//! kept. That what it names exists, and that its predicate can be read, is for the caller to see.
//!
//! **Invariant:** the payload of a [`Checked`] is the one that was sent, in its order and with its
//! values; nothing is corrected in silence.

use serde_json::{Map, Value as Json};

use super::{Declaration, Kind, alternatives, declaration, types};
use crate::error::{Error, Result};
use crate::id::printable;
use crate::plist::MAX_DEPTH;
use crate::schema::check::{Checker, NamedAsset, child, natural};
use crate::schema::nearest::suggestion;
use crate::schema::status::{status_item, status_items};

/// What Apple allows an Identifier, in bytes.
pub const LONGEST_IDENTIFIER: usize = 64;
const LONGEST_TYPE: usize = 255;
/// Names and values together, in bytes. What is large travels as an asset, not in a declaration.
const LARGEST: usize = 1024 * 1024;
/// Each of these looks for the nearest name, and nobody reads more.
const MOST_REMARKS: usize = 20;

/// A declaration that a device can be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    pub kind: Kind,
    pub declaration_type: String,
    pub identifier: String,
    pub payload: Map<String, Json>,
    /// Members beside the payload that only `force` let in; they belong to the declaration.
    pub beside: Map<String, Json>,
    /// The declarations that it names.
    pub references: Vec<Reference>,
    /// An activation's condition, which nobody has read yet.
    pub predicate: Option<String>,
    /// What the sender should know, in sentences.
    pub warnings: Vec<String>,
}

/// One declaration naming another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Where, as a JSON Pointer from the root of the declaration.
    pub pointer: String,
    /// The Identifier of the other.
    pub identifier: String,
    pub wants: Wants,
    /// The media types that the asset may have; none listed means any.
    pub media: Vec<String>,
}

/// What the other declaration has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wants {
    Configuration,
    /// An asset of one of these types.
    Asset(Vec<String>),
}

/// Checks `{"Type", "Identifier", "Payload"}`. With `force`, unknown types and keys are accepted with a
/// warning, and nothing else is.
///
/// # Errors
/// [`Error::Invalid`] with a JSON Pointer from the root of `body`, and with a suggestion where what was
/// sent can only have meant one thing.
pub fn check(body: &Json, force: bool) -> Result<Checked> {
    let Json::Object(members) = body else {
        return Err(Error::invalid_at(
            "",
            "A declaration is a JSON object with Type, Identifier and Payload.",
        ));
    };
    bounded(body)?;
    let mut checker = Checker::new(force);
    let (declaration_type, kind) = named_type(&mut checker, members)?;
    let identifier = identifier(members)?;
    let known = declaration(&declaration_type);
    let mut payload = match members.get("Payload") {
        Some(Json::Object(payload)) => payload.clone(),
        Some(_) => return Err(Error::invalid_at("/Payload", "Payload must be an object.")),
        None => return Err(Error::invalid_at("/Payload", "Payload is missing; it must be an object.")),
    };
    let beside = beside(&mut checker, members, kind, known, &mut payload)?;
    match known {
        Some(known) => {
            checker.dict(&known.keys, &payload, "/Payload")?;
            remarks(&mut checker.warnings, &declaration_type, known, &payload);
        }
        None => {
            for (name, json) in &payload {
                natural(json, &child("/Payload", name))?;
            }
        }
    }
    let mut references = Vec::new();
    let mut predicate = None;
    if kind == Kind::Activation {
        references.extend(configurations(&payload)?);
        predicate = payload.get("Predicate").and_then(Json::as_str).map(str::to_owned);
    }
    for asset in checker.assets {
        references.push(reference(asset)?);
    }
    let warnings = checker.warnings;
    Ok(Checked { kind, declaration_type, identifier, payload, beside, references, predicate, warnings })
}

/// Whether a declaration may be called this. Apple allows more, but identifiers stand in addresses.
pub fn is_identifier(text: &str) -> bool {
    (1..=LONGEST_IDENTIFIER).contains(&text.len()) && text.bytes().all(is_plain)
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// Refuses what is too deep or too large, whoever built it.
fn bounded(body: &Json) -> Result<()> {
    let mut waiting = vec![(body, 0)];
    let mut size = 0;
    while let Some((json, depth)) = waiting.pop() {
        if depth > MAX_DEPTH {
            let words = format!("The declaration is nested deeper than {MAX_DEPTH} levels.");
            return Err(Error::invalid_at("", words));
        }
        size += 1;
        match json {
            Json::String(text) => size += text.len(),
            Json::Array(elements) => waiting.extend(elements.iter().map(|json| (json, depth + 1))),
            Json::Object(members) => {
                size += members.keys().map(String::len).sum::<usize>();
                waiting.extend(members.values().map(|json| (json, depth + 1)));
            }
            Json::Null | Json::Bool(_) | Json::Number(_) => {}
        }
        if size > LARGEST {
            let words = "The declaration is larger than 1 MiB; what is large belongs into an asset.";
            return Err(Error::invalid_at("", words));
        }
    }
    Ok(())
}

fn named_type(checker: &mut Checker<'_>, members: &Map<String, Json>) -> Result<(String, Kind)> {
    let refused = |words: String| Error::invalid_at("/Type", words);
    let name = match members.get("Type") {
        Some(Json::String(name)) => name,
        Some(_) => return Err(refused("Type must be a string.".to_owned())),
        None => {
            let words = "Type is missing; it names what is declared, as in com.apple.configuration.legacy.";
            return Err(refused(words.to_owned()));
        }
    };
    let known = declaration(name).is_some();
    if !known && name.starts_with("com.apple.credential.") {
        let words = "This is a document at the DataURL of an asset, not a declaration.";
        return Err(refused(words.to_owned()));
    }
    // Such a type is refused also by force: there is no list in which a device could be told of it.
    let is_well_formed = (1..=LONGEST_TYPE).contains(&name.len()) && name.bytes().all(is_plain);
    let Some(kind) = Kind::of(name).filter(|_| is_well_formed) else {
        let did_you_mean = nearest_type(name);
        return Err(refused(format!(
            "{:?} is no type of declaration: its third part must be activation, configuration, asset or \
             management, as in com.apple.configuration.legacy.{did_you_mean}",
            printable(name)
        )));
    };
    if !known {
        let words = format!("Apple's schema has no declaration {name:?}.");
        checker.unknown("/Type", words, name, types())?;
    }
    Ok((name.clone(), kind))
}

/// People leave the first parts out.
fn nearest_type(name: &str) -> String {
    let end = format!(".{name}");
    let known = types().find(|known| known.ends_with(&end));
    known.map_or_else(|| suggestion(name, types()), |known| format!(" Did you mean {known:?}?"))
}

fn identifier(members: &Map<String, Json>) -> Result<String> {
    let refused = |words: &str| Err(Error::invalid_at("/Identifier", words));
    match members.get("Identifier") {
        Some(Json::String(text)) if is_identifier(text) => Ok(text.clone()),
        Some(Json::String(_)) => refused(
            "An Identifier has 1 to 64 letters, digits, dots, underscores and hyphens (A-Z a-z 0-9 . _ -).",
        ),
        Some(_) => refused("Identifier must be a string."),
        None => refused("Identifier is missing; it is the name by which other declarations know this one."),
    }
}

/// What stands beside the payload: nothing that counts, or something that belongs into it.
fn beside(
    checker: &mut Checker<'_>,
    members: &Map<String, Json>,
    kind: Kind,
    known: Option<&Declaration>,
    payload: &mut Map<String, Json>,
) -> Result<Map<String, Json>> {
    let mut beside = Map::new();
    for (name, json) in members {
        match name.as_str() {
            "Type" | "Identifier" | "Payload" | "ServerToken" => {}
            "Server Token" => checker.warnings.push(
                "\"Server Token\" was taken for ServerToken, which the server computes itself.".to_owned(),
            ),
            "Predicate" if kind == Kind::Activation => {
                checker.warnings.push(move_predicate(json, payload)?);
            }
            name => {
                let here = child("", name);
                let is_payloads = known.is_some_and(|known| known.keys.iter().any(|key| key.name == name));
                let words = if is_payloads {
                    format!("{name} has no place beside Payload; put it inside.")
                } else {
                    format!("A declaration has no {:?} beside its Payload.", printable(name))
                };
                checker.unknown(&here, words, name, ["Type", "Identifier", "Payload"].into_iter())?;
                natural(json, &here)?;
                beside.insert(name.to_owned(), json.clone());
            }
        }
    }
    Ok(beside)
}

fn move_predicate(json: &Json, payload: &mut Map<String, Json>) -> Result<String> {
    if !json.is_string() {
        return Err(Error::invalid_at("/Predicate", "Predicate must be a string, inside Payload."));
    }
    match payload.get("Predicate") {
        None => {
            payload.insert("Predicate".to_owned(), json.clone());
            Ok("Predicate was moved into Payload, where it belongs.".to_owned())
        }
        Some(inside) if inside == json => Ok("Predicate beside Payload repeats the one inside.".to_owned()),
        Some(_) => {
            let words =
                "There is another Predicate inside Payload; only that one belongs there. Leave this one out.";
            Err(Error::invalid_at("/Predicate", words))
        }
    }
}

fn configurations(payload: &Map<String, Json>) -> Result<Vec<Reference>> {
    let at = "/Payload/StandardConfigurations";
    let names = payload.get("StandardConfigurations").and_then(Json::as_array);
    let named =
        names.into_iter().flatten().enumerate().filter_map(|(index, name)| Some((index, name.as_str()?)));
    named.map(|(index, name)| reference_to(format!("{at}/{index}"), name, Wants::Configuration)).collect()
}

fn reference(asset: NamedAsset<'_>) -> Result<Reference> {
    let wants = Wants::Asset(asset.key.assets.clone());
    let reference = reference_to(asset.pointer, &asset.identifier, wants)?;
    Ok(Reference { media: asset.key.media.clone(), ..reference })
}

fn reference_to(pointer: String, identifier: &str, wants: Wants) -> Result<Reference> {
    if !is_identifier(identifier) {
        let what = match wants {
            Wants::Configuration => "a configuration",
            Wants::Asset(_) => "an asset",
        };
        let words = format!(
            "This must be the Identifier of {what}: 1 to 64 letters, digits, dots, underscores, hyphens."
        );
        return Err(Error::invalid_at(pointer, words));
    }
    Ok(Reference { pointer, identifier: identifier.to_owned(), wants, media: Vec::new() })
}

/// What is worth knowing, though nothing in the table forbids it.
fn remarks(
    warnings: &mut Vec<String>,
    declaration_type: &str,
    known: &Declaration,
    payload: &Map<String, Json>,
) {
    let either = alternatives(declaration_type);
    if !either.is_empty() && !either.iter().any(|name| payload.contains_key(*name)) {
        warnings.push(format!("Without {} there is nothing to install.", either.join(" or ")));
    }
    for (name, json) in payload {
        let media = known.keys.iter().filter(|key| key.name == *name && key.assets.is_empty());
        let media: Vec<&str> = media.flat_map(|key| &key.media).map(String::as_str).collect();
        let Some(content_type) = json.get("ContentType").and_then(Json::as_str) else { continue };
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if !media.is_empty() && !media.iter().any(|media| essence.eq_ignore_ascii_case(media)) {
            let content_type = printable(content_type);
            warnings.push(format!("Devices expect {} here, not {content_type:?}.", media.join(" or ")));
        }
    }
    if declaration_type == "com.apple.configuration.management.status-subscriptions" {
        let items = payload.get("StatusItems").and_then(Json::as_array).into_iter().flatten();
        let names = items.filter_map(|item| item.get("Name")?.as_str());
        for name in names.filter(|name| status_item(name).is_none()).take(MOST_REMARKS) {
            let did_you_mean = suggestion(name, status_items());
            warnings.push(format!("Apple's schema has no status item {:?}.{did_you_mean}", printable(name)));
        }
    }
}
