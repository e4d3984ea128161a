//! The addresses in a payload that may lead to this server.
//!
//! [`super::resolve`] holds them against what is served. What is not exactly an address of ours is
//! somebody else's: nothing is decoded or normalised.
//!
//! **Invariant:** [`link`] is something only for an https address of this server's own host and port with
//! one of its three paths and an identifier, and nothing before, between or after.

use serde_json::{Map, Value as Json};

use super::Content;
use crate::config::Origin;
use crate::error::{Error, Result};
use crate::schema::check::child;
use crate::schema::declarations::is_identifier;

/// What is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Profile,
    Asset,
    /// A package or an app; what declarations point to is its manifest.
    Package,
}

/// An address that leads here.
pub(super) type Link = (Kind, String);

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Profile, Self::Asset, Self::Package];

    /// As the database and sentences have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::Asset => "asset",
            Self::Package => "package",
        }
    }

    pub(super) fn folder(self) -> &'static str {
        match self {
            Self::Profile => "/mdm/profiles/",
            Self::Asset => "/mdm/assets/",
            Self::Package => "/mdm/manifests/",
        }
    }

    /// Whether this key may lead to it.
    pub(super) fn fits(self, key: &str) -> bool {
        match key {
            "ProfileURL" => self == Self::Profile,
            "ManifestURL" => self == Self::Package,
            // The data of an asset may be that of a profile.
            _ => self != Self::Package,
        }
    }
}

pub(super) fn address_under(public_url: &str, kind: Kind, identifier: &str) -> String {
    format!("{public_url}{}{identifier}", kind.folder())
}

/// The server of an https address.
pub(super) fn origin(text: &str) -> Option<Origin> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    Origin::parse(&format!("{scheme}://{authority}")).ok()
}

/// What an address leads to, if it leads to something of this server's.
pub(super) fn link(base: &str, text: &str) -> Option<Link> {
    let ours = Origin::parse(base).ok()?;
    if origin(text)? != ours {
        return None;
    }
    let rest = &text[text.find("://")? + 3..];
    let path = &rest[rest.find('/')?..];
    Kind::ALL.into_iter().find_map(|kind| {
        let name = path.strip_prefix(kind.folder())?;
        is_identifier(name).then(|| (kind, name.to_owned()))
    })
}

/// An address in a payload.
pub(super) struct Place<'a> {
    pub(super) key: &'a str,
    pub(super) pointer: String,
    /// The pointer to what it stands in.
    around: &'a str,
    members: &'a mut Map<String, Json>,
}

impl Place<'_> {
    pub(super) fn text(&self) -> &str {
        self.members.get(self.key).and_then(Json::as_str).unwrap_or_default()
    }

    pub(super) fn set(&mut self, address: String) {
        self.members.insert(self.key.to_owned(), address.into());
    }

    /// Devices hold the data against what stands beside its address.
    pub(super) fn is_true_of(&self, content: &Content) -> Result<()> {
        if self.key != "DataURL" {
            return Ok(());
        }
        for (name, truth) in facts(content) {
            let Some(said) = self.members.get(name) else { continue };
            let same = match (said, &truth) {
                (Json::String(said), Json::String(truth)) => said.eq_ignore_ascii_case(truth),
                (said, truth) => said == truth,
            };
            if !same {
                let words =
                    format!("This is not true of what this server has; write {truth} or leave it out.");
                let refused = Error::invalid_at(child(self.around, name), words);
                return Err(refused.suggesting(truth.to_string()));
            }
        }
        Ok(())
    }

    /// Brings what stands beside the address up to date.
    pub(super) fn describe(&mut self, content: &Content) {
        if self.key == "DataURL" {
            for (name, truth) in facts(content) {
                if let Some(said) = self.members.get_mut(name) {
                    *said = truth;
                }
            }
        }
    }
}

/// What a `Reference` says of data, as far as everybody may know it.
fn facts(content: &Content) -> Vec<(&'static str, Json)> {
    let mut facts = vec![("ContentType", content.media_type.as_str().into()), ("Size", content.size.into())];
    facts.extend(content.sha256.as_deref().map(|sha256| ("Hash-SHA-256", sha256.into())));
    facts
}

/// Calls `what` for each address of a payload. How deep it is nested was bounded when it was read.
pub(super) fn each_address(
    payload: &mut Map<String, Json>,
    what: &mut dyn FnMut(&mut Place<'_>) -> Result<()>,
) -> Result<()> {
    within(payload, "/Payload", what)
}

fn within(
    members: &mut Map<String, Json>,
    at: &str,
    what: &mut dyn FnMut(&mut Place<'_>) -> Result<()>,
) -> Result<()> {
    for key in ["ProfileURL", "ManifestURL", "DataURL"] {
        if members.get(key).is_some_and(Json::is_string) {
            what(&mut Place { key, pointer: child(at, key), around: at, members })?;
        }
    }
    for (name, value) in members.iter_mut() {
        let here = child(at, name);
        match value {
            Json::Object(members) => within(members, &here, what)?,
            Json::Array(list) => {
                let objects = list.iter_mut().enumerate();
                for (index, value) in objects {
                    if let Json::Object(members) = value {
                        within(members, &format!("{here}/{index}"), what)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_addresses_of_this_server_are_links() {
        let base = "https://mdm.example.org";
        let profile = |name: &str| Some((Kind::Profile, name.to_owned()));
        for (text, expected) in [
            ("https://mdm.example.org/mdm/profiles/wifi", profile("wifi")),
            ("HTTPS://MDM.example.org:443/mdm/profiles/a.b-c_d", profile("a.b-c_d")),
            ("https://mdm.example.org/mdm/assets/x", Some((Kind::Asset, "x".to_owned()))),
            ("https://mdm.example.org/mdm/manifests/x", Some((Kind::Package, "x".to_owned()))),
            ("http://mdm.example.org/mdm/profiles/wifi", None),
            ("https://mdm.example.org:8443/mdm/profiles/wifi", None),
            ("https://mdm.example.org@evil.example/mdm/profiles/wifi", None),
            ("https://evil.example/mdm/profiles/wifi", None),
            ("https://mdm.example.org.evil.example/mdm/profiles/wifi", None),
            ("https://mdm.example.org\\@evil.example/mdm/profiles/wifi", None),
            ("https://mdm.example.org/mdm/profiles/../assets/x", None),
            ("https://mdm.example.org/mdm/profiles/a/b", None),
            ("https://mdm.example.org/mdm/profiles/%2e%2e", None),
            ("https://mdm.example.org/mdm/profiles/x?y", None),
            ("https://mdm.example.org/mdm/profiles/x#y", None),
            ("https://mdm.example.org/mdm/profiles/", None),
            ("https://mdm.example.org/mdm/profiles", None),
            ("https://mdm.example.org", None),
            ("/mdm/profiles/wifi", None),
            ("", None),
        ] {
            assert_eq!(link(base, text), expected, "{text}");
        }
    }
}
