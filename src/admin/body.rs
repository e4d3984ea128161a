//! JSON bodies, read member by member.
//!
//! Handlers take an [`Object`] and ask it for what they know; what is left at the end was misspelt.
//! Commands have a schema of their own and are taken as a whole, by [`json`].
//!
//! **Invariant:** a mistake in a body is 400 with the JSON Pointer (RFC 6901) of its place.

use std::borrow::Cow;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};

use super::reply::Refusal;
use crate::clock::{Seconds, parse_duration};
use crate::error::{Error, Result};
use crate::id::printable;

/// A body that is a JSON object; its members are taken out one after the other.
pub(super) struct Object(Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for Object {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        match Whole::from_request(request, state).await?.0 {
            Value::Object(members) => Ok(Self(members)),
            _ => Err(Error::invalid_at("", "the body must be a JSON object").into()),
        }
    }
}

/// A body that is a JSON object, or nothing, which is the empty object.
pub(super) struct Maybe(pub Object);

impl<S: Send + Sync> FromRequest<S> for Maybe {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        if media_type(request.headers()).is_empty() {
            let body = bytes(Bytes::from_request(request, state).await)?;
            return match body.is_empty() {
                true => Ok(Self(Object(Map::new()))),
                false => Err(Refusal::unsupported("send JSON, with Content-Type: application/json")),
            };
        }
        Ok(Self(Object::from_request(request, state).await?))
    }
}

/// A body that is any JSON.
pub(super) struct Whole(pub Value);

impl<S: Send + Sync> FromRequest<S> for Whole {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let kind = media_type(request.headers());
        let body = bytes(Bytes::from_request(request, state).await)?;
        if kind != "application/json" {
            return Err(Refusal::unsupported("send JSON, with Content-Type: application/json"));
        }
        Ok(Self(json(&body)?))
    }
}

impl From<Map<String, Value>> for Object {
    fn from(members: Map<String, Value>) -> Self {
        Self(members)
    }
}

impl Object {
    /// Takes a text out; null is the same as absent.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Error::invalid_at(pointer(name), format!("{name} must be a string"))),
        }
    }

    /// A text that must be there.
    pub(super) fn needed_text(&mut self, name: &str) -> Result<String> {
        self.text(name)?.ok_or_else(|| Error::invalid_at(pointer(name), format!("{name} is missing")))
    }

    pub(super) fn number(&mut self, name: &str) -> Result<Option<u64>> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or_else(|| {
                Error::invalid_at(pointer(name), format!("{name} must be a whole number, not below 0"))
            }),
        }
    }

    /// A whole number that may be below 0.
    pub(super) fn integer(&mut self, name: &str) -> Result<Option<i64>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value.as_i64();
        number
            .map(Some)
            .ok_or_else(|| Error::invalid_at(pointer(name), format!("{name} must be a whole number")))
    }

    pub(super) fn boolean(&mut self, name: &str) -> Result<Option<bool>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(boolean)) => Ok(Some(boolean)),
            Some(_) => Err(Error::invalid_at(pointer(name), format!("{name} must be true or false"))),
        }
    }

    /// A length of time such as `"7d"`.
    pub(super) fn duration(&mut self, name: &str) -> Result<Option<Seconds>> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        duration(name, &text).map(Some).map_err(|words| Error::invalid_at(pointer(name), words))
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>> {
        self.take(name).map(|value| texts(value, name, &pointer(name))).transpose()
    }

    /// A list of anything.
    pub(super) fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(_) => Err(Error::invalid_at(pointer(name), format!("{name} must be a list"))),
        }
    }

    /// An object of anything.
    pub(super) fn object(&mut self, name: &str) -> Result<Option<Map<String, Value>>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(members)) => Ok(Some(members)),
            Some(_) => Err(Error::invalid_at(pointer(name), format!("{name} must be an object"))),
        }
    }

    /// Takes out whatever there is.
    pub(super) fn any(&mut self, name: &str) -> Option<Value> {
        self.take(name)
    }

    /// Passes over members that a GET of the same object adds, so that what was read can be sent back.
    pub(super) fn pass_over(&mut self, names: &[&str]) {
        for name in names {
            self.0.shift_remove(*name);
        }
    }

    /// Nothing may be left: what we do not know was meant to do something.
    pub(super) fn finish(self) -> Result<()> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(Error::invalid_at(
                pointer(name),
                format!("{:?} is not known here; correct it or leave it out", printable(name)),
            )),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.shift_remove(name).filter(|value| !value.is_null())
    }
}

/// Reads a list of texts that stands at this pointer.
pub(super) fn texts(value: Value, name: &str, at: &str) -> Result<Vec<String>> {
    let wrong = |at: String| Error::invalid_at(at, format!("{name} must be a list of strings"));
    let Value::Array(values) = value else { return Err(wrong(at.to_owned())) };
    let text = |(index, value)| match value {
        Value::String(text) => Ok(text),
        _ => Err(wrong(format!("{at}/{index}"))),
    };
    values.into_iter().enumerate().map(text).collect()
}

/// Reads JSON; its depth is bounded by the parser.
pub(super) fn json(body: &[u8]) -> Result<Value> {
    serde_json::from_slice(body)
        .map_err(|error| Error::invalid_at("", format!("the body is not valid JSON: {error}")))
}

/// The body as it came; an error here is the size, or the connection's.
pub(super) fn bytes(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Refusal> {
    body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is larger than this address takes; send less at once",
        ),
        _ => Error::invalid("the body did not arrive in full; send it again").into(),
    })
}

/// The Content-Type as it came; empty when there is none.
pub(super) fn content_type(headers: &HeaderMap) -> Cow<'_, str> {
    headers.get(CONTENT_TYPE).map(|kind| String::from_utf8_lossy(kind.as_bytes())).unwrap_or_default()
}

/// The Content-Type in lower case, without parameters; empty when there is none.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    content_type(headers).split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Reads a length of time, or says in words how it is written.
pub(super) fn duration(name: &str, text: &str) -> Result<Seconds, String> {
    parse_duration(text).ok_or_else(|| {
        format!("{name} must be a length of time such as 30m, 12h, 7d or 2w, of 100 years at most")
    })
}

fn pointer(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}
