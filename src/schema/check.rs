//! Checks JSON against the keys of a table, and makes the property list that it stands for.
//!
//! Called by [`super::commands`] and [`super::declarations`]. In JSON a string stands for data (base64)
//! and dates (RFC 3339); the table says where.
//!
//! **Invariant:** with `force`, names that the table does not know are accepted with a warning, and
//! nothing else is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json};
use time::format_description::well_known::Rfc3339;

use super::nearest::suggestion;
use super::table::{Key, Kind};
use crate::error::{Error, Result};
use crate::id::printable;
use crate::plist::{Date, Dictionary, MAX_DEPTH, Value, json};

/// The longest value that a refusal repeats as it should be, in bytes.
const LONGEST_SUGGESTION: usize = 200;

/// One check of one body.
pub struct Checker<'t> {
    /// Accept unknown names, since Apple may be ahead of the table.
    pub force: bool,
    /// What was accepted only because of `force`, in sentences.
    pub warnings: Vec<String>,
    /// The assets that the values name, in their order.
    pub assets: Vec<NamedAsset<'t>>,
    /// The keys around the value at hand, outermost first: some keys have the keys of one of them.
    within: Vec<&'t Key>,
}

/// An asset that a value names.
pub struct NamedAsset<'t> {
    pub pointer: String,
    pub identifier: String,
    /// The key that says which types and media types it may have.
    pub key: &'t Key,
}

impl<'t> Checker<'t> {
    pub fn new(force: bool) -> Self {
        Self { force, warnings: Vec::new(), assets: Vec::new(), within: Vec::new() }
    }

    /// Checks an object against the keys it may have. `at` is its JSON Pointer; every error carries one.
    pub fn dict(&mut self, keys: &'t [Key], object: &Map<String, Json>, at: &str) -> Result<Dictionary> {
        let mut dict = Dictionary::new();
        for (name, json) in object {
            let here = child(at, name);
            let key =
                keys.iter().find(|key| key.name == *name).or_else(|| keys.iter().find(|key| key.name == "*"));
            let value = match key {
                Some(key) => self.value(key, json, &here)?,
                None => {
                    let known = keys.iter().map(|key| key.name.as_str());
                    self.unknown(
                        &here,
                        format!("Apple's schema has no key {:?} here.", printable(name)),
                        name,
                        known,
                    )?;
                    natural(json, &here)?
                }
            };
            let name = json::sayable(name).map_err(|error| Error::invalid_at(here, error.to_string()))?;
            dict.insert(name.to_owned(), value);
        }
        match keys.iter().find(|key| key.required && key.name != "*" && !object.contains_key(&key.name)) {
            Some(key) => {
                let words = format!("{} is missing; it must be {}.", key.name, key.kind.words());
                Err(Error::invalid_at(child(at, &key.name), words))
            }
            None => Ok(dict),
        }
    }

    /// Checks one value against what its key says.
    pub fn value(&mut self, key: &'t Key, json: &Json, at: &str) -> Result<Value> {
        let key = self.meant(key, at)?;
        self.within.push(key);
        let value = self.typed(key, json, at)?;
        self.within.pop();
        allowed(key, json, at)?;
        if !key.assets.is_empty() {
            self.name_assets(key, json, at);
        }
        Ok(value)
    }

    /// The key itself, or the ancestor whose keys it shares.
    fn meant(&self, key: &'t Key, at: &str) -> Result<&'t Key> {
        let Some(path) = &key.same_as else { return Ok(key) };
        // Only a key that contains itself makes the depth of a table endless.
        if self.within.len() > MAX_DEPTH {
            return Err(Error::invalid_at(at, "This is nested too deeply."));
        }
        let (name, is_element) =
            path.split_once('/').map_or((path.as_str(), false), |(name, _)| (name, true));
        let ancestor = self.within.iter().rev().find(|ancestor| ancestor.name == name).copied();
        let ancestor = ancestor.unwrap_or(key);
        Ok(if is_element { ancestor.items.first().unwrap_or(ancestor) } else { ancestor })
    }

    fn name_assets(&mut self, key: &'t Key, json: &Json, at: &str) {
        let named = |pointer: String, json: &Json| {
            json.as_str().map(|identifier| NamedAsset { pointer, identifier: identifier.to_owned(), key })
        };
        match json {
            Json::Array(elements) => {
                let elements = elements.iter().enumerate();
                self.assets.extend(elements.filter_map(|(index, json)| named(format!("{at}/{index}"), json)));
            }
            json => self.assets.extend(named(at.to_owned(), json)),
        }
    }

    fn typed(&mut self, key: &'t Key, json: &Json, at: &str) -> Result<Value> {
        let wrong = || wrong_type(key, json, at);
        Ok(match (key.kind, json) {
            (Kind::Any, _) => natural(json, at)?,
            (Kind::Bool, Json::Bool(boolean)) => Value::Boolean(*boolean),
            (Kind::Int, Json::Number(number)) if !number.is_f64() => natural(json, at)?,
            (Kind::Real, Json::Number(number)) => Value::Real(number.as_f64().ok_or_else(wrong)?),
            (Kind::String, Json::String(string)) => {
                self.named(key, string, at)?;
                natural(json, at)?
            }
            (Kind::Data, Json::String(text)) => Value::Data(STANDARD.decode(text).map_err(|_| {
                Error::invalid_at(at, "This must be data as base64, with padding and without line breaks.")
            })?),
            (Kind::Date, Json::String(text)) => Value::Date(date(text).ok_or_else(|| {
                Error::invalid_at(
                    at,
                    "This must be a date between the years 1 and 9999, as in 2026-11-22T10:30:00Z.",
                )
            })?),
            (Kind::Array, Json::Array(elements)) => self.array(key, elements, at)?,
            // A dictionary whose keys Apple does not list may have any.
            (Kind::Dict, Json::Object(_)) if key.keys.is_empty() => natural(json, at)?,
            (Kind::Dict, Json::Object(object)) => Value::Dictionary(self.dict(&key.keys, object, at)?),
            _ => return Err(wrong()),
        })
    }

    fn array(&mut self, key: &'t Key, elements: &[Json], at: &str) -> Result<Value> {
        if let Some([least, most]) = key.repeat
            && (least.is_some_and(|least| elements.len() < least)
                || most.is_some_and(|most| elements.len() > most))
        {
            let words = format!("This must have {} elements, not {}.", bounds(least, most), elements.len());
            return Err(Error::invalid_at(at, words));
        }
        let mut values = Vec::with_capacity(elements.len());
        for (index, element) in elements.iter().enumerate() {
            let here = format!("{at}/{index}");
            values.push(match key.items.as_slice() {
                [] => natural(element, &here)?,
                [item] => self.value(item, element, &here)?,
                alternatives => self.alternative(alternatives, element, &here)?,
            });
        }
        Ok(Value::Array(values))
    }

    /// One of several kinds of element. Where a key names the kind, as the `Item` of a setting, that one
    /// is judged; otherwise the first that fits.
    fn alternative(&mut self, alternatives: &'t [Key], json: &Json, at: &str) -> Result<Value> {
        let Some(tag) = discriminator(alternatives) else {
            return self.first_that_fits(alternatives, json, at);
        };
        let Json::Object(object) = json else { return self.value(&alternatives[0], json, at) };
        let here = child(at, tag);
        let Some(name) = object.get(tag).and_then(Json::as_str) else {
            return Err(Error::invalid_at(
                here,
                format!("{tag} is missing or no string; it says which kind this is."),
            ));
        };
        let tagged =
            |key: &Key| key.keys.iter().find(|key| key.name == tag).and_then(Key::only) == Some(name);
        if let Some(alternative) = alternatives.iter().find(|key| tagged(key)) {
            return self.value(alternative, json, at);
        }
        let known = alternatives.iter().flat_map(|key| key.keys.iter().filter(|key| key.name == tag));
        self.unknown(
            &here,
            format!("Apple's schema has no {tag} {:?}.", printable(name)),
            name,
            known.filter_map(Key::only),
        )?;
        natural(json, at)
    }

    fn first_that_fits(&mut self, alternatives: &'t [Key], json: &Json, at: &str) -> Result<Value> {
        let mut last = None;
        let (warned, named, depth) = (self.warnings.len(), self.assets.len(), self.within.len());
        for alternative in alternatives {
            match self.value(alternative, json, at) {
                Ok(value) => return Ok(value),
                Err(error) => last = Some(error),
            }
            self.warnings.truncate(warned);
            self.assets.truncate(named);
            self.within.truncate(depth);
        }
        Err(last.unwrap_or_else(|| Error::invalid_at(at, "Apple's schema allows nothing here.")))
    }

    /// A string that must be one of the names the table lists, as a query of DeviceInformation.
    fn named(&mut self, key: &Key, string: &str, at: &str) -> Result<()> {
        if key.values.is_empty() || key.values.iter().any(|value| value.name == string) {
            return Ok(());
        }
        let known = key.values.iter().map(|value| value.name.as_str());
        self.unknown(at, format!("Apple's schema has no {:?} here.", printable(string)), string, known)
    }

    /// Refuses a name that the table does not know, or accepts it with a warning.
    pub(super) fn unknown<'a>(
        &mut self,
        at: &str,
        words: String,
        name: &str,
        known: impl Iterator<Item = &'a str>,
    ) -> Result<()> {
        if self.force {
            self.warnings.push(words);
            return Ok(());
        }
        let did_you_mean = suggestion(name, known);
        Err(Error::invalid_at(at, format!("{words}{did_you_mean} To send it all the same, add ?force=1.")))
    }
}

/// The pointer to a member, escaped by RFC 6901.
pub fn child(at: &str, name: &str) -> String {
    format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// What is due and what came; with what to write instead, if what came can only have meant one thing.
fn wrong_type(key: &Key, json: &Json, at: &str) -> Error {
    let words = format!("This must be {}, not {}.", key.kind.words(), kind_of(json));
    let text =
        corrected(key, json).filter(|json| allowed(key, json, at).is_ok()).map(|json| json.to_string());
    match text.filter(|text| text.len() <= LONGEST_SUGGESTION) {
        Some(text) => {
            Error::invalid_at(at, format!("{words} Write {} instead.", printable(&text))).suggesting(text)
        }
        None => Error::invalid_at(at, words),
    }
}

/// The value that was meant, where quotes or brackets were forgotten or are too many.
fn corrected(key: &Key, json: &Json) -> Option<Json> {
    match (key.kind, json) {
        (Kind::Bool, Json::String(text)) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(Json::Bool(true)),
            "false" | "no" | "off" | "0" => Some(Json::Bool(false)),
            _ => None,
        },
        (Kind::Bool, Json::Number(number)) => match number.as_u64() {
            Some(1) => Some(Json::Bool(true)),
            Some(0) => Some(Json::Bool(false)),
            _ => None,
        },
        (Kind::Int, Json::String(text)) => text.trim().parse().ok().map(|number: i64| number.into()),
        // Only what has no fraction is printed without one.
        (Kind::Int, Json::Number(number)) => {
            number.as_f64()?.to_string().parse().ok().map(|number: i64| number.into())
        }
        (Kind::Real, Json::String(text)) => {
            let real = || text.trim().parse().ok().and_then(serde_json::Number::from_f64);
            text.trim().parse().ok().map(|number: i64| number.into()).or_else(|| real().map(Json::Number))
        }
        // A number with a fraction was probably a version, and may have lost a zero.
        (Kind::String, Json::Number(number)) if !number.is_f64() => Some(number.to_string().into()),
        (Kind::Array, Json::String(_)) => match key.items.as_slice() {
            [item] if item.kind == Kind::String => Some(Json::Array(vec![json.clone()])),
            _ => None,
        },
        _ => None,
    }
}

/// Enum and range.
fn allowed(key: &Key, json: &Json, at: &str) -> Result<()> {
    if !key.allowed.is_empty() && !key.allowed.contains(json) {
        let list: Vec<String> = key.allowed.iter().map(Json::to_string).collect();
        return Err(Error::invalid_at(at, format!("This must be one of {}.", list.join(", "))));
    }
    if let (Some([least, most]), Some(number)) = (key.range, json.as_f64())
        && (least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most))
    {
        return Err(Error::invalid_at(at, format!("This must be {}, not {number}.", bounds(least, most))));
    }
    Ok(())
}

fn bounds<T: std::fmt::Display>(least: Option<T>, most: Option<T>) -> String {
    match (least, most) {
        (Some(least), Some(most)) => format!("{least} to {most}"),
        (Some(least), None) => format!("at least {least}"),
        (None, Some(most)) => format!("at most {most}"),
        (None, None) => "any number of".to_owned(),
    }
}

/// The key by which all the alternatives can be told apart.
fn discriminator(alternatives: &[Key]) -> Option<&str> {
    let first = alternatives.first()?.keys.iter().filter(|key| key.only().is_some());
    let tags = |name: &str| {
        alternatives.iter().all(|one| one.keys.iter().any(|key| key.name == name && key.only().is_some()))
    };
    first.map(|key| key.name.as_str()).find(|name| tags(name))
}

/// A value of which the table says nothing.
pub(super) fn natural(json: &Json, at: &str) -> Result<Value> {
    json::from_json(json).map_err(|error| Error::invalid_at(at, error.to_string()))
}

fn date(text: &str) -> Option<Date> {
    let time = time::OffsetDateTime::parse(text, &Rfc3339).ok()?;
    // An offset may lead out of the years that a property list can say.
    let time =
        time.checked_to_offset(time::UtcOffset::UTC).filter(|time| (1..=9999).contains(&time.year()))?;
    let whole = time.replace_nanosecond(0).ok()?;
    Some(Date::from(std::time::SystemTime::from(whole)))
}

fn kind_of(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(number) if number.is_f64() => "a number with a fraction",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
