//! `ETag` and `If-Match` (RFC 9110): what two people edit is not lost by the second writing.
//!
//! **Invariant:** a condition is held against what is there in the transaction that writes.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::header::{ETAG, IF_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use serde_json::Value;

use super::reply::Refusal;
use crate::id;

/// The condition of a request.
pub(super) struct IfMatch(Option<String>);

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let values: Vec<_> =
            parts.headers.get_all(IF_MATCH).iter().map(|value| value.to_str().unwrap_or_default()).collect();
        Ok(Self((!values.is_empty()).then(|| values.join(","))))
    }
}

impl IfMatch {
    /// Whether what is there, by its tag, is what the sender has seen. Weak tags never match; what cannot
    /// be read is a condition that does not hold.
    pub(super) fn holds(&self, present: Option<&str>) -> bool {
        let Some(wanted) = &self.0 else { return true };
        let Some(present) = present else { return false };
        tags(wanted).is_some_and(|tags| {
            tags.iter().any(|tag| matches!(tag, Tag::Any) || *tag == Tag::Strong(present))
        })
    }
}

/// A member of the list in an `If-Match`.
#[derive(Debug, PartialEq, Eq)]
enum Tag<'a> {
    Any,
    Strong(&'a str),
    Weak,
}

/// Reads the list; nothing if it is none. A tag may have commas in it (RFC 9110, 8.8.3), so the list is
/// not simply taken apart at them.
fn tags(text: &str) -> Option<Vec<Tag<'_>>> {
    let (mut tags, mut rest) = (Vec::new(), text);
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return Some(tags);
        }
        let (is_weak, opaque) = match rest.strip_prefix("W/") {
            Some(opaque) => (true, opaque),
            None => (false, rest),
        };
        let tag = if let Some(after) = rest.strip_prefix('*') {
            rest = after;
            Tag::Any
        } else {
            let (tag, after) = opaque.strip_prefix('"')?.split_once('"')?;
            rest = after;
            if is_weak { Tag::Weak } else { Tag::Strong(tag) }
        };
        tags.push(tag);
        rest = rest.trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with(',') {
            return None;
        }
    }
}

/// What a request is answered whose condition does not hold.
pub(super) fn failed() -> Refusal {
    Refusal::new(
        StatusCode::PRECONDITION_FAILED,
        "somebody changed it since you read it; read it again and repeat your change",
    )
}

/// The tag of an object as it is shown.
pub(super) fn tag(shown: &Value) -> String {
    id::hex(&id::sha256(shown.to_string().as_bytes())[..16])
}

/// The header of a tag, which is hexadecimal.
pub(super) fn header(tag: &str) -> [(HeaderName, HeaderValue); 1] {
    let value = HeaderValue::from_str(&format!("\"{tag}\""));
    [(ETAG, value.unwrap_or(HeaderValue::from_static("\"\"")))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_read_as_rfc_9110_says() {
        let holds = |text: &str, present| IfMatch(Some(text.to_owned())).holds(present);
        for yes in ["*", " * ", "\"a\"", "\"x\", \"a\"", "\"x\",,\"a\" ,", "\"x,y\", \"a\"", "W/\"x\",\"a\""]
        {
            assert!(holds(yes, Some("a")), "{yes}");
            assert!(!holds(yes, None), "{yes}: what is not there matches nothing");
        }
        for no in [
            "",
            "\"x\"",
            "W/\"a\"",
            "w/\"a\"",
            "a",
            "\"a",
            "a\"",
            "\"x\"\"a\"",
            "\"x,\"a\",y\"",
            "\"a\" x",
            "\"A\"",
        ] {
            assert!(!holds(no, Some("a")), "{no}");
        }
        assert!(IfMatch(None).holds(None));
    }
}
