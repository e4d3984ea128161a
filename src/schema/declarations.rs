//! Apple's declarations: their kinds, what the table says of each type, and how several combine.
//!
//! Called by everything that writes, keeps or hands out declarations. [`check`] takes what a person
//! sent, [`left_out`] says whether a device can have it, [`example()`] writes one. Apple: "Declarations",
//! `declarative/declarations/*.yaml`.
//!
//! **Invariant:** the third part of a type is its kind, in the table and for types that Apple adds.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::OnceLock;

pub use checked::{Checked, LONGEST_IDENTIFIER, Reference, Wants, check, is_identifier};
pub use document::check_document;
pub use example::{example, whole_example};
pub use target::{Target, key_left_out, left_out};

use super::table::{Key, Support, Table};

mod checked;
mod document;
mod example;
mod target;

/// What a declaration is to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Makes configurations apply, always or while a predicate holds.
    Activation,
    /// A setting, an account, an app: what should be true of the device.
    Configuration,
    /// Data that configurations name.
    Asset,
    /// What the device should know of its management.
    Management,
}

/// What becomes of several configurations of one type on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Combine {
    /// They stand side by side.
    Multiple,
    /// Only one may be there.
    Single,
    /// The device merges their keys.
    Combined,
}

/// What the table says of one type.
#[derive(Deserialize)]
pub struct Declaration {
    /// The keys of its payload.
    pub keys: Vec<Key>,
    /// Which operating system takes it, and for whom; one that is not listed never does.
    pub os: BTreeMap<String, Support>,
    /// The status items that tell how it fares.
    #[serde(default)]
    pub status: Vec<String>,
    /// Only configurations have one.
    apply: Option<Combine>,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Activation, Self::Configuration, Self::Asset, Self::Management];

    /// The kind of a type, as of `com.apple.configuration.passcode.settings`.
    pub fn of(declaration_type: &str) -> Option<Self> {
        let mut parts = declaration_type.split('.').skip(2);
        let kind = Self::named(parts.next()?)?;
        // A kind alone is no type.
        parts.next().is_some_and(|rest| !rest.is_empty()).then_some(kind)
    }

    /// The kind of this [`Kind::name`].
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// As in a type, and in the address at which a device asks for one.
    pub fn name(self) -> &'static str {
        match self {
            Self::Activation => "activation",
            Self::Configuration => "configuration",
            Self::Asset => "asset",
            Self::Management => "management",
        }
    }

    /// The member of `declaration-items` that lists them.
    pub fn manifest(self) -> &'static str {
        match self {
            Self::Activation => "Activations",
            Self::Configuration => "Configurations",
            Self::Asset => "Assets",
            Self::Management => "Management",
        }
    }
}

/// What Apple's schema says of a type, if it knows it.
pub fn declaration(declaration_type: &str) -> Option<&'static Declaration> {
    // The documents behind credential assets are in the table too, and are no declarations.
    Kind::of(declaration_type)?;
    table().items.get(declaration_type)
}

/// The types that Apple's schema knows, in alphabetical order.
pub fn types() -> impl Iterator<Item = &'static str> {
    table().items.keys().map(String::as_str).filter(|name| Kind::of(name).is_some())
}

/// How several of this type combine. Types that are only known by force, and kinds of which Apple does
/// not say it, stand side by side.
pub fn combine(declaration_type: &str) -> Combine {
    declaration(declaration_type).and_then(|declaration| declaration.apply).unwrap_or(Combine::Multiple)
}

/// Keys of which Apple's documentation, but not the table, asks for one: without any of them the
/// declaration is empty.
fn alternatives(declaration_type: &str) -> &'static [&'static str] {
    match declaration_type {
        "com.apple.configuration.legacy" | "com.apple.configuration.legacy.interactive" => {
            &["ProfileURL", "ProfileAssetReference"]
        }
        "com.apple.configuration.app.managed" => &["AppStoreID", "BundleID", "ManifestURL"],
        _ => &[],
    }
}

fn table() -> &'static Table<Declaration> {
    static TABLE: OnceLock<Table<Declaration>> = OnceLock::new();
    TABLE.get_or_init(|| {
        serde_json::from_str(include_str!("data/declarations.json"))
            .expect("the embedded table is read by a test")
    })
}

#[cfg(test)]
mod tests;
