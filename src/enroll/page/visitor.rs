//! Who opens a page: the language and the kind of device that the browser names.
//!
//! **Invariant:** headers only choose words; nothing is allowed or refused because of them.

use std::convert::Infallible;
use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};

use crate::request::Peer;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    English,
    German,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Device {
    /// iPhone, or an iPad that says so.
    Handheld,
    /// A Mac, or an iPad: Safari on iPad calls itself a Mac unless the person asked for mobile pages.
    MacOrPad,
    /// Anything that cannot be enrolled from its browser.
    Other,
}

#[derive(Debug)]
pub(super) struct Visitor {
    pub(super) language: Language,
    pub(super) device: Device,
    pub(super) reads_html: bool,
    pub(super) address: Option<IpAddr>,
}

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self {
            language: language(value(&parts.headers, &header::ACCEPT_LANGUAGE)),
            device: device(value(&parts.headers, &header::USER_AGENT)),
            reads_html: value(&parts.headers, &header::ACCEPT).contains("text/html"),
            address: parts.extensions.get::<Peer>().and_then(Peer::address),
        })
    }
}

fn value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The first of our languages with the highest weight (RFC 9110 section 12.5.4).
fn language(accepted: &str) -> Language {
    let mut best = (0.0, Language::English);
    for range in accepted.split(',').take(32) {
        let (tag, parameters) = range.split_once(';').unwrap_or((range, ""));
        let weight: f32 = match parameters.trim().strip_prefix("q=") {
            Some(weight) => weight.trim().parse().unwrap_or(0.0),
            None => 1.0,
        };
        let language = match tag.trim().split('-').next().unwrap_or_default() {
            primary if primary.eq_ignore_ascii_case("de") => Language::German,
            primary if primary.eq_ignore_ascii_case("en") => Language::English,
            _ => continue,
        };
        if weight > best.0 {
            best = (weight, language);
        }
    }
    best.1
}

fn device(user_agent: &str) -> Device {
    if ["iPhone", "iPad", "iPod"].iter().any(|name| user_agent.contains(name)) {
        Device::Handheld
    } else if user_agent.contains("Macintosh") {
        Device::MacOrPad
    } else {
        Device::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_the_one_that_the_browser_wants_most() {
        for (accepted, wanted) in [
            ("", Language::English),
            ("de-CH, de;q=0.9, en;q=0.8", Language::German),
            ("en-GB,en;q=0.9,de;q=0.8", Language::English),
            ("fr, de;q=0.5, en;q=0.4", Language::German),
            ("fr", Language::English),
            ("DE;q=nonsense, en;q=NaN", Language::English),
        ] {
            assert_eq!(language(accepted), wanted, "{accepted}");
        }
    }

    #[test]
    fn an_ipad_may_call_itself_a_mac() {
        assert_eq!(device("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X)"), Device::Handheld);
        assert_eq!(device("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)"), Device::MacOrPad);
        assert_eq!(device("curl/8.0"), Device::Other);
    }
}
