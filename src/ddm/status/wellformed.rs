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
    let Object = serde_json::from_slice(report)
        .map_err(|error| Error::invalid(format!("the status report is not a JSON object: {error}")))?;
    Ok(())
}

/// A JSON object of any content, read without being built: what it holds is not looked at here.
struct Object;

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Object, A::Error> {
                while members.next_entry::<String, Anything>()?.is_some() {}
                Ok(Object)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// Any value. Unlike `IgnoredAny` it descends, so the reader's limit on depth holds.
struct Anything;

impl<'de> Deserialize<'de> for Anything {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Anything;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a value")
            }
            fn visit_bool<E>(self, _: bool) -> Result<Anything, E> {
                Ok(Anything)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Anything, E> {
                Ok(Anything)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Anything, E> {
                Ok(Anything)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Anything, E> {
                Ok(Anything)
            }
            fn visit_str<E>(self, _: &str) -> Result<Anything, E> {
                Ok(Anything)
            }
            fn visit_unit<E>(self) -> Result<Anything, E> {
                Ok(Anything)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Anything, A::Error> {
                while items.next_element::<Anything>()?.is_some() {}
                Ok(Anything)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Anything, A::Error> {
                while members.next_entry::<String, Anything>()?.is_some() {}
                Ok(Anything)
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
        for wrong in [&b"[]"[..], b"", b"{", b"{} x", b"\"x\"", b"{\"a\": 1e309}", b"\xff"] {
            assert!(check(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
        let deep = format!("{{\"a\": {}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(check(deep.as_bytes()).is_err());
    }
}
