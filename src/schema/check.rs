//! Checks JSON against the keys of a table, and makes the property list that it stands for.
//!
//! Called by [`super::commands`]. In JSON a string stands for data (base64) and dates (RFC 3339); the
//! table says where.
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
use crate::plist::{Date, Dictionary, Value, json};

/// One check of one body.
pub struct Checker {
    /// Accept unknown names, since Apple may be ahead of the table.
    pub force: bool,
    /// What was accepted only because of `force`, in sentences.
    pub warnings: Vec<String>,
}

impl Checker {
    pub fn new(force: bool) -> Self {
        Self { force, warnings: Vec::new() }
    }

    /// Checks an object against the keys it may have. `at` is its JSON Pointer; every error carries one.
    pub fn dict(&mut self, keys: &[Key], object: &Map<String, Json>, at: &str) -> Result<Dictionary> {
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
    pub fn value(&mut self, key: &Key, json: &Json, at: &str) -> Result<Value> {
        let wrong =
            || Error::invalid_at(at, format!("This must be {}, not {}.", key.kind.words(), kind_of(json)));
        let value = match (key.kind, json) {
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
        };
        allowed(key, json, at)?;
        Ok(value)
    }

    fn array(&mut self, key: &Key, elements: &[Json], at: &str) -> Result<Value> {
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
    fn alternative(&mut self, alternatives: &[Key], json: &Json, at: &str) -> Result<Value> {
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

    fn first_that_fits(&mut self, alternatives: &[Key], json: &Json, at: &str) -> Result<Value> {
        let mut last = None;
        for alternative in alternatives {
            let warned = self.warnings.len();
            match self.value(alternative, json, at) {
                Ok(value) => return Ok(value),
                Err(error) => last = Some(error),
            }
            self.warnings.truncate(warned);
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

fn natural(json: &Json, at: &str) -> Result<Value> {
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
mod tests {
    use super::*;
    use serde_json::json;

    fn key(definition: &str) -> Key {
        serde_json::from_str(definition).unwrap()
    }

    fn refusal(key: &Key, json: &Json) -> (String, String) {
        match Checker::new(false).value(key, json, "/K") {
            Err(Error::Invalid { words, pointer }) => (pointer.unwrap(), words),
            other => panic!("{json} gave {other:?}"),
        }
    }

    #[test]
    fn numbers_are_kept_in_their_range_and_arrays_in_their_length() {
        let number = key(r#"{"key": "K", "type": "int", "range": [1, 5]}"#);
        assert!(Checker::new(false).value(&number, &json!(5), "/K").is_ok());
        assert_eq!(refusal(&number, &json!(6)).1, "This must be 1 to 5, not 6.");
        assert_eq!(
            refusal(&number, &json!(1.5)).1,
            "This must be a whole number, not a number with a fraction."
        );
        let open = key(r#"{"key": "K", "type": "real", "range": [null, 5]}"#);
        assert!(Checker::new(false).value(&open, &json!(-1e9), "/K").is_ok());
        let array = key(r#"{"key": "K", "type": "array", "items": {"type": "string"}, "repeat": [1, 2]}"#);
        assert_eq!(refusal(&array, &json!([])).1, "This must have 1 to 2 elements, not 0.");
        assert_eq!(refusal(&array, &json!(["a", 1])).0, "/K/1");
    }

    #[test]
    fn strings_become_data_and_dates_where_the_table_says_so() {
        let data = key(r#"{"key": "K", "type": "data"}"#);
        assert_eq!(Checker::new(false).value(&data, &json!("AQI="), "").unwrap(), Value::Data(vec![1, 2]));
        assert!(refusal(&data, &json!("AQI")).1.contains("base64"));
        let date = key(r#"{"key": "K", "type": "date"}"#);
        let value = Checker::new(false).value(&date, &json!("2026-11-22T10:30:00+01:00"), "").unwrap();
        assert_eq!(json::to_json(&value), "2026-11-22T09:30:00Z");
        for bad in ["9999-12-31T23:59:59-01:00", "0000-06-01T00:00:00Z", "yesterday", ""] {
            assert!(refusal(&date, &json!(bad)).1.contains("date"), "{bad}");
        }
    }

    #[test]
    fn the_first_alternative_that_fits_is_taken_where_no_key_tells_them_apart() {
        let array = key(r#"{"key": "K", "type": "array", "items": [{"type": "string"}, {"type": "int"}]}"#);
        assert!(Checker::new(false).value(&array, &json!(["a", 1]), "").is_ok());
        assert_eq!(refusal(&array, &json!([true])).0, "/K/0");
    }

    #[test]
    fn pointers_are_escaped() {
        assert_eq!(child("/a", "b/c~d"), "/a/b~1c~0d");
    }

    #[test]
    fn a_constraint_that_the_model_does_not_know_stops_the_table() {
        assert!(serde_json::from_str::<Key>(r#"{"key": "K", "type": "string", "pattern": "x"}"#).is_err());
    }
}
