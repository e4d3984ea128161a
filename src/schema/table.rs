//! The shape of Apple's tables, read from the JSON in `data/`.
//!
//! Called by the modules that own a table. The field names are those of the files; their meaning is
//! in the files' own `meta.legend`.
//!
//! **Invariant:** a field of a key that this model does not name stops the table from being read, so
//! that no constraint of a new table (as `format`, which none of ours uses) is passed over in silence.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value as Json;
use std::collections::BTreeMap;

use super::platform::compare_versions;

/// One file of `data/`.
#[derive(Deserialize)]
pub struct Table<T> {
    #[serde(rename = "meta")]
    _meta: IgnoredAny,
    /// What the table describes, by Apple's name.
    pub items: BTreeMap<String, T>,
}

/// Since when, until when, and for whom an operating system knows something; versions as Apple writes
/// them. At a key it says only what differs from the parent.
#[derive(Debug, Deserialize)]
pub struct Support {
    pub since: Option<String>,
    pub deprecated: Option<String>,
    pub removed: Option<String>,
    /// The enrollments that a declaration or status item is for; nothing means all.
    #[serde(rename = "enroll")]
    pub enrollments: Option<Vec<Enrollment>>,
    /// The channels that a declaration or status item is for; nothing means all.
    pub scopes: Option<Vec<Scope>>,
    shared: Option<Shared>,
}

/// An enrollment as the tables of declarations tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Enrollment {
    Supervised,
    /// Of a device that is not supervised.
    Device,
    /// User Enrollment, of a device that belongs to its user.
    User,
    /// None: the declaration lies inside a profile.
    Local,
}

/// A channel: of the device, or of a user who is logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    System,
    User,
}

/// The tables of declarations and of commands say different things of Shared iPad.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Shared {
    Scopes(Vec<Scope>),
    Command(IgnoredAny),
}

impl Support {
    /// Whether a device of this version knows it; one whose version is unknown is taken to.
    pub fn includes(&self, version: Option<&str>) -> bool {
        let Some(version) = version else { return true };
        let since = self.since.as_deref().is_none_or(|since| compare_versions(version, since).is_ge());
        since && self.removed.as_deref().is_none_or(|removed| compare_versions(version, removed).is_lt())
    }

    /// The channels that it is for on a Shared iPad; nothing where the table does not say.
    pub fn shared_scopes(&self) -> Option<&[Scope]> {
        match &self.shared {
            Some(Shared::Scopes(scopes)) => Some(scopes),
            Some(Shared::Command(_)) | None => None,
        }
    }
}

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    String,
    Bool,
    Int,
    Real,
    Data,
    Date,
    Array,
    Dict,
    Any,
}

/// What may stand at a key, or as an element of an array.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// The name; `*` is any name. Elements of arrays need none.
    #[serde(default, rename = "key")]
    pub name: String,
    #[serde(rename = "type")]
    pub kind: Kind,
    #[serde(default, rename = "req")]
    pub required: bool,
    /// The allowed values.
    #[serde(default, rename = "enum")]
    pub allowed: Vec<Json>,
    /// The smallest and the largest number.
    pub range: Option<[Option<f64>; 2]>,
    /// The fewest and the most elements of an array.
    pub repeat: Option<[Option<usize>; 2]>,
    /// The keys of a dictionary; none listed means that any are allowed.
    #[serde(default)]
    pub keys: Vec<Key>,
    /// What an array's elements are: alternatives, if there are several.
    #[serde(default, deserialize_with = "one_or_many")]
    pub items: Vec<Key>,
    /// Names that a string may be, each with an operating system of its own.
    #[serde(default)]
    pub values: Vec<Key>,
    /// The ancestor that has the keys of this one, as `Bookmarks/bookmarks-item`.
    #[serde(rename = "ref")]
    pub same_as: Option<String>,
    /// A string here, or each of an array, names an asset of one of these types.
    #[serde(default)]
    pub assets: Vec<String>,
    /// The media types that such an asset may have; at an asset's own `Reference`, that it may have.
    #[serde(default, rename = "mime")]
    pub media: Vec<String>,
    /// What differs from the parent, by operating system.
    #[serde(default)]
    pub os: BTreeMap<String, Support>,
    /// Operating systems of the parent that do not know this key.
    #[serde(default, rename = "not")]
    pub not_on: Vec<String>,
    #[serde(rename = "default")]
    _default: Option<IgnoredAny>,
    /// Devices combine, not we.
    #[serde(rename = "combine")]
    _combine: Option<IgnoredAny>,
}

impl Key {
    /// The single string that this key must be, as the `Item` of a setting.
    pub fn only(&self) -> Option<&str> {
        match self.allowed.as_slice() {
            [Json::String(only)] if self.required => Some(only),
            _ => None,
        }
    }
}

impl Kind {
    /// As a message says it, with its article.
    pub fn words(self) -> &'static str {
        match self {
            Self::String => "a string",
            Self::Bool => "true or false",
            Self::Int => "a whole number",
            Self::Real => "a number",
            Self::Data => "data as base64, a string",
            Self::Date => "a date as in 2026-11-22T10:30:00Z, a string",
            Self::Array => "an array",
            Self::Dict => "an object",
            Self::Any => "anything",
        }
    }
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Key>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Items {
        One(Box<Key>),
        Many(Vec<Key>),
    }
    Ok(match Items::deserialize(deserializer)? {
        Items::One(key) => vec![*key],
        Items::Many(keys) => keys,
    })
}
