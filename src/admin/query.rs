//! What stands behind the question mark, and how lists are cut into pages.
//!
//! A list takes `limit` and `cursor` and answers `{"items": […], "next": "…" or null}`. A cursor is
//! the key of the last item in base64; it stays good whatever is added or removed meanwhile.

use std::collections::HashMap;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::body;
use super::reply::Refusal;
use crate::clock::{Seconds, parse_rfc3339};
use crate::error::{Error, Result};

const DEFAULT_LIMIT: u32 = 100;
const HIGHEST_LIMIT: u32 = 500;

/// The parameters of a request; of several with one name the last counts.
pub(super) struct Parameters(HashMap<String, String>);

impl<S: Sync> FromRequestParts<S> for Parameters {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|_| Error::invalid("what stands behind the ? cannot be read; percent-encode it"))?;
        Ok(Self(pairs.0.into_iter().collect()))
    }
}

impl Parameters {
    /// The value of a parameter, unless it is absent or empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A switch: `?force=1`.
    pub(super) fn flag(&self, name: &str) -> Result<bool> {
        match self.0.get(name).map(String::as_str) {
            None | Some("0" | "false") => Ok(false),
            Some("" | "1" | "true") => Ok(true),
            Some(_) => Err(Error::invalid(format!("{name} must be 1 or 0"))),
        }
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<u64>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Error::invalid(format!("{name} must be a whole number")))
    }

    /// A length of time: `?expires_in=7d`.
    pub(super) fn duration(&self, name: &str) -> Result<Option<Seconds>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        body::duration(name, text).map(Some).map_err(Error::invalid)
    }

    /// A moment: `?since=2026-12-01T00:00:00Z`.
    pub(super) fn moment(&self, name: &str) -> Result<Option<Seconds>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        parse_rfc3339(text)
            .map(Some)
            .ok_or_else(|| Error::invalid(format!("{name} must be a time such as 2026-12-01T08:00:00Z")))
    }

    /// One of several words.
    pub(super) fn word<'a>(&'a self, name: &str, words: &[&str]) -> Result<Option<&'a str>> {
        match self.text(name) {
            Some(word) if !words.contains(&word) => {
                Err(Error::invalid(format!("{name} must be one of {}", words.join(", "))))
            }
            word => Ok(word),
        }
    }

    /// How many items, 1 to 500; 100 when nobody says.
    pub(super) fn limit(&self) -> Result<u32> {
        let Some(text) = self.0.get("limit") else { return Ok(DEFAULT_LIMIT) };
        text.parse()
            .ok()
            .filter(|limit| (1..=HIGHEST_LIMIT).contains(limit))
            .ok_or_else(|| Error::invalid(format!("limit must be a number from 1 to {HIGHEST_LIMIT}")))
    }

    /// The key after which the page begins.
    pub(super) fn cursor<K: FromStr>(&self) -> Result<Option<K>> {
        let Some(text) = self.0.get("cursor") else { return Ok(None) };
        let key = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        key.and_then(|key| key.parse().ok()).map(Some).ok_or_else(|| {
            Error::invalid("cursor must be the `next` of an earlier page; leave it out to begin anew")
        })
    }
}

/// A page of a list. `items` come with their keys, one more than `limit` where there are more.
pub(super) fn page<K: ToString>(mut items: Vec<(K, Value)>, limit: u32) -> Value {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let is_last = items.len() <= limit;
    items.truncate(limit);
    let next = items.last().filter(|_| !is_last).map(|(key, _)| URL_SAFE_NO_PAD.encode(key.to_string()));
    let items: Vec<Value> = items.into_iter().map(|(_, item)| item).collect();
    json!({"items": items, "next": next})
}
