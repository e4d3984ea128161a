//! What was read of an app or a package.
//!
//! **Invariant:** every text of it is short and printable: whoever made the file chose it, and it is shown
//! to people and written into manifests, and never into a command.

use serde::{Deserialize, Serialize};

use crate::clock::Seconds;
use crate::id::printable;

const LONGEST_NAME: usize = 155;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An app for iOS, iPadOS, tvOS or visionOS.
    Ipa,
    /// An installer package for macOS.
    Pkg,
}

/// What it says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub kind: Kind,
    pub title: String,
    /// Of an app its own, of a package that of its product or of the first of its packages.
    pub bundle_id: String,
    pub version: String,
    pub short_version: Option<String>,
    pub minimum_os: Option<String>,
    pub platforms: Vec<String>,
    /// Apple's device families that an app is made for.
    pub families: Vec<String>,
    /// What a package installs.
    pub packages: Vec<Inside>,
    /// It carries a signature; whether that is good is for devices to say.
    pub signed: bool,
    pub signed_by: Option<String>,
    pub profile: Option<Profile>,
    pub warnings: Vec<String>,
}

/// One of the packages inside of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inside {
    pub identifier: String,
    pub version: Option<String>,
}

/// The provisioning profile of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    pub name: Option<String>,
    pub team: Option<String>,
    pub team_name: Option<String>,
    pub expires_at: Option<Seconds>,
    /// It is one for in-house apps.
    pub all_devices: bool,
    /// How many devices are listed in it.
    pub devices: usize,
}

impl Kind {
    /// As the API and the database have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ipa => "ipa",
            Self::Pkg => "pkg",
        }
    }

    /// As devices get it.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Ipa => "application/octet-stream",
            Self::Pkg => "application/vnd.apple.installer+xml",
        }
    }
}

/// A text as it is kept.
pub(super) fn text(said: &str) -> String {
    printable(said.trim())
}

/// Whether it can be a bundle identifier or a version.
pub(super) fn is_name(said: &str) -> bool {
    (1..=LONGEST_NAME).contains(&said.len())
        && said.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_+() ".contains(&byte))
        && said.trim() == said
}
