//! Property lists as the API shows them, and JSON as a property list.
//!
//! Data is base64, a date RFC 3339, a UID its number, a real that JSON cannot say a string. The way
//! back is by natural types; where Apple's tables want data or a date, the schema converts.
//!
//! **Invariant:** [`from_json`] makes nothing that XML cannot carry.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value as Json};

use super::write::date_text;
use super::{Dictionary, MAX_DEPTH, PlistError, Value};

/// What the API shows of a property list.
pub fn to_json(value: &Value) -> Json {
    match value {
        Value::Array(values) => values.iter().map(to_json).collect(),
        Value::Dictionary(entries) => Json::Object(dict_to_json(entries)),
        Value::Boolean(boolean) => Json::Bool(*boolean),
        Value::Data(bytes) => Json::String(STANDARD.encode(bytes)),
        Value::Date(date) => Json::String(date_text(*date)),
        Value::Real(real) => Number::from_f64(*real).map_or_else(|| real.to_string().into(), Json::Number),
        Value::Integer(integer) => match integer.as_signed() {
            Some(number) => number.into(),
            None => integer.as_unsigned().map_or(Json::Null, Json::from),
        },
        Value::String(string) => Json::String(string.clone()),
        Value::Uid(uid) => uid.get().into(),
        _ => Json::Null,
    }
}

/// As [`to_json`], for a dictionary.
pub fn dict_to_json(entries: &Dictionary) -> Map<String, Json> {
    entries.iter().map(|(key, value)| (key.clone(), to_json(value))).collect()
}

/// JSON by its natural types: strings stay strings. Null, NUL and other characters that XML has no
/// place for, and nesting deeper than [`MAX_DEPTH`], are refused.
pub fn from_json(json: &Json) -> Result<Value, PlistError> {
    natural(json, 0)
}

fn natural(json: &Json, depth: usize) -> Result<Value, PlistError> {
    if depth > MAX_DEPTH {
        return Err(PlistError::TooDeep);
    }
    Ok(match json {
        Json::Null => {
            return Err(PlistError::Unsayable(
                "null has no place in a property list; leave the key out".to_owned(),
            ));
        }
        Json::Bool(boolean) => Value::Boolean(*boolean),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(integer), _, _) => Value::Integer(integer.into()),
            (None, Some(integer), _) => Value::Integer(integer.into()),
            (None, None, real) => Value::Real(real.unwrap_or(f64::NAN)),
        },
        Json::String(string) => Value::String(sayable(string)?.to_owned()),
        Json::Array(values) => {
            Value::Array(values.iter().map(|value| natural(value, depth + 1)).collect::<Result<_, _>>()?)
        }
        Json::Object(entries) => {
            let mut dict = Dictionary::new();
            for (key, value) in entries {
                dict.insert(sayable(key)?.to_owned(), natural(value, depth + 1)?);
            }
            Value::Dictionary(dict)
        }
    })
}

/// The text itself, unless XML 1.0 has no place for one of its characters.
pub fn sayable(text: &str) -> Result<&str, PlistError> {
    let unsayable = |c: char| {
        (c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\r' | '\x7f'))
            || matches!(c, '\u{fffe}' | '\u{ffff}')
    };
    match text.find(unsayable) {
        None => Ok(text),
        Some(_) => Err(PlistError::Unsayable(
            "a control character has no place in a property list; remove it".to_owned(),
        )),
    }
}
