//! Reads one key of a dictionary, whose type Apple names.
//!
//! Called by every handler of a device's message. A key that is absent is `None`; a key of another
//! type is an error with the key's name, never a guess and never a panic.
//!
//! **Invariant:** an accessor accepts exactly one type, but for [`real`], which also takes an integer,
//! since writers drop the fraction of a whole number.

use super::{Date, Dictionary, PlistError, Value};

/// The type of a value as a message says it, with its article.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "an array",
        Value::Dictionary(_) => "a dictionary",
        Value::Boolean(_) => "a boolean",
        Value::Data(_) => "data",
        Value::Date(_) => "a date",
        Value::Real(_) => "a real",
        Value::Integer(_) => "an integer",
        Value::String(_) => "a string",
        Value::Uid(_) => "a UID",
        _ => "something else",
    }
}

pub fn string<'a>(dict: &'a Dictionary, key: &str) -> Result<Option<&'a str>, PlistError> {
    of_kind(dict, key, "a string", Value::as_string)
}

pub fn data<'a>(dict: &'a Dictionary, key: &str) -> Result<Option<&'a [u8]>, PlistError> {
    of_kind(dict, key, "data", Value::as_data)
}

pub fn boolean(dict: &Dictionary, key: &str) -> Result<Option<bool>, PlistError> {
    of_kind(dict, key, "a boolean", Value::as_boolean)
}

/// An integer that fits 64 bits with a sign.
pub fn integer(dict: &Dictionary, key: &str) -> Result<Option<i64>, PlistError> {
    of_kind(dict, key, "an integer below 2^63", Value::as_signed_integer)
}

pub fn real(dict: &Dictionary, key: &str) -> Result<Option<f64>, PlistError> {
    #[expect(clippy::cast_precision_loss, reason = "a real is what is asked for")]
    of_kind(dict, key, "a real", |value| {
        value.as_real().or_else(|| value.as_signed_integer().map(|n| n as f64))
    })
}

pub fn date(dict: &Dictionary, key: &str) -> Result<Option<Date>, PlistError> {
    of_kind(dict, key, "a date", Value::as_date)
}

pub fn array<'a>(dict: &'a Dictionary, key: &str) -> Result<Option<&'a [Value]>, PlistError> {
    of_kind(dict, key, "an array", |value| value.as_array().map(Vec::as_slice))
}

pub fn dict<'a>(dict: &'a Dictionary, key: &str) -> Result<Option<&'a Dictionary>, PlistError> {
    of_kind(dict, key, "a dictionary", Value::as_dictionary)
}

/// Makes absence an error: `needed("UDID", string(message, "UDID")?)?`.
pub fn needed<T>(key: &str, value: Option<T>) -> Result<T, PlistError> {
    value.ok_or_else(|| PlistError::Missing(key.to_owned()))
}

fn of_kind<'a, T>(
    dict: &'a Dictionary,
    key: &str,
    wanted: &'static str,
    read: impl Fn(&'a Value) -> Option<T>,
) -> Result<Option<T>, PlistError> {
    let Some(value) = dict.get(key) else { return Ok(None) };
    match read(value) {
        Some(found) => Ok(Some(found)),
        None => Err(PlistError::WrongType { key: key.to_owned(), wanted, found: kind(value) }),
    }
}
