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
    /// Whether what is there, by its tag, is what the sender has seen. Weak tags never match.
    pub(super) fn holds(&self, present: Option<&str>) -> bool {
        let Some(wanted) = &self.0 else { return true };
        let Some(present) = present else { return false };
        wanted.split(',').map(str::trim).any(|tag| tag == "*" || tag == format!("\"{present}\""))
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
