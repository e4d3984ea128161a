//! Whether bytes are a report at all, found out without building it.
//!
//! **Invariant:** it takes no more memory than the deepest value that the reader allows.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::error::{Error, Result};

/// Whether these bytes are a report: a JSON object, not nested beyond what the reader allows (128). Its
/// size is bounded by that of the check-in message that carried it.
///
/// # Errors
/// `Invalid` with what is wrong.
pub fn check(report: &[u8]) -> Result<()> {
    count(report).map(drop)
}

/// As [`check`]; how many values the report has, itself not counted.
pub(super) fn count(report: &[u8]) -> Result<usize> {
    let Object(values) = serde_json::from_slice(report)
        .map_err(|error| Error::invalid(format!("the status report is not a JSON object: {error}")))?;
    Ok(values)
}

/// A JSON object of any content, read without being built: of what it holds only the number is known.
struct Object(usize);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Object, A::Error> {
                let mut values = 0;
                while let Some((Name, Anything(more))) = members.next_entry()? {
                    values += more;
                }
                Ok(Object(values))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// The name of a member, which has to be text and is not kept.
struct Name;

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Name;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a name")
            }
            fn visit_str<E>(self, _: &str) -> Result<Name, E> {
                Ok(Name)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Any value, and how many it is with those within. Unlike `IgnoredAny` it descends, so the reader's
/// limit on depth holds.
struct Anything(usize);

impl<'de> Deserialize<'de> for Anything {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Anything;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a value")
            }
            fn visit_bool<E>(self, _: bool) -> Result<Anything, E> {
                Ok(Anything(1))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Anything, E> {
                Ok(Anything(1))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Anything, E> {
                Ok(Anything(1))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Anything, E> {
                Ok(Anything(1))
            }
            fn visit_str<E>(self, _: &str) -> Result<Anything, E> {
                Ok(Anything(1))
            }
            fn visit_unit<E>(self) -> Result<Anything, E> {
                Ok(Anything(1))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Anything, A::Error> {
                let mut values = 1;
                while let Some(Anything(more)) = items.next_element()? {
                    values += more;
                }
                Ok(Anything(values))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Anything, A::Error> {
                let mut values = 1;
                while let Some((Name, Anything(more))) = members.next_entry()? {
                    values += more;
                }
                Ok(Anything(values))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_an_object_of_bounded_depth() {
        check(br#"{"StatusItems": {"device": {}}, "Errors": [], "n": [1, -1, 1.5, null, true, "x"]}"#)
            .unwrap();
        assert_eq!(count(br#"{"a": [1, {"b": null}], "c": "x"}"#).unwrap(), 5);
        for wrong in [&b"[]"[..], b"", b"{", b"{} x", b"\"x\"", b"{\"a\": 1e309}", b"\xff"] {
            assert!(check(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
        let deep = format!("{{\"a\": {}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(check(deep.as_bytes()).is_err());
    }
}
