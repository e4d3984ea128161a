//! Apple's catalogue of operating systems: which release is for which device.
//!
//! The document is that of <https://gdmf.apple.com/v2/pmv>, or a file or upload of the same form:
//! `PublicAssetSets` are offered to everybody, `AssetSets` to supervised devices too. iPadOS and tvOS
//! stand among iOS; which release is for a device is said by its SupportedDevices: model identifiers as
//! `iPhone17,3`, of Macs the `softwareupdate.device-id`, as `J314sAP`.
//!
//! **Invariant:** what is read is bounded: releases, devices of each, the length of every text.

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use super::rule::{date, is_build, is_version};
use crate::error::{Error, Result};
use crate::schema::platform::{Platform, compare_versions};

/// The largest document; Apple's has less than one MiB.
pub const LARGEST: usize = 4 * 1024 * 1024;
const MOST_RELEASES: usize = 4000;
const MOST_DEVICES: usize = 1000;
/// Of all releases together.
const MOST_NAMED: usize = 200_000;
const LONGEST_DEVICE: usize = 64;

/// One release of an operating system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The list that it stands in: tvOS may stand among iOS.
    pub list: String,
    pub version: String,
    pub build: String,
    /// The day of its release, as `2026-11-03`.
    pub posted: String,
    pub expires: Option<String>,
    /// Offered to everybody, not to supervised devices alone.
    pub public: bool,
    /// In order.
    pub devices: Vec<String>,
}

impl Release {
    /// The system, by the devices that it is for.
    pub fn platform(&self) -> Option<Platform> {
        let by_device = self.devices.iter().find_map(|device| Platform::of_product(device));
        by_device.or_else(|| Platform::ALL.into_iter().find(|platform| platform.name() == self.list))
    }

    fn order(&self, other: &Self) -> Ordering {
        compare_versions(&self.version, &other.version)
            .then_with(|| compare_builds(&self.build, &other.build))
    }
}

/// What was read of a document.
#[derive(Debug)]
pub struct Parsed {
    pub releases: Vec<Release>,
    /// Entries that could not be used, as those without a build.
    pub skipped: usize,
}

/// All releases, by the devices that they are for.
#[derive(Debug, Default)]
pub struct Catalogue {
    pub releases: Vec<Release>,
    by_device: BTreeMap<String, Vec<usize>>,
}

impl Catalogue {
    pub(super) fn new(releases: Vec<Release>) -> Self {
        let mut by_device: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (place, release) in releases.iter().enumerate() {
            for device in &release.devices {
                by_device.entry(device.clone()).or_default().push(place);
            }
        }
        Self { releases, by_device }
    }

    pub fn is_empty(&self) -> bool {
        self.releases.is_empty()
    }

    /// The releases for a device that is known by any of these.
    fn of(&self, device: &[String], supervised: bool) -> impl Iterator<Item = &Release> {
        let places: Vec<usize> =
            device.iter().filter_map(|name| self.by_device.get(name)).flatten().copied().collect();
        let places = places.into_iter();
        places
            .filter_map(|place| self.releases.get(place))
            .filter(move |release| release.public || supervised)
    }

    /// Whether it knows the device at all.
    pub(super) fn knows(&self, device: &[String]) -> bool {
        device.iter().any(|name| self.by_device.contains_key(name))
    }

    /// The newest release for a device, or the newest of its own major version.
    pub(super) fn latest(
        &self,
        device: &[String],
        supervised: bool,
        major: Option<&str>,
    ) -> Option<&Release> {
        let fits =
            |release: &&Release| major.is_none_or(|major| major_of(&release.version) == major_of(major));
        self.of(device, supervised).filter(fits).max_by(|one, other| one.order(other))
    }

    /// Whether there is this version for the device.
    pub(super) fn offers(
        &self,
        device: &[String],
        supervised: bool,
        version: &str,
        build: Option<&str>,
    ) -> bool {
        self.of(device, supervised).any(|release| is_this(release, version, build))
    }

    /// Whether there is this version for other devices of this system.
    pub(super) fn has(&self, platform: Option<Platform>, version: &str, build: Option<&str>) -> bool {
        self.releases.iter().any(|release| release.platform() == platform && is_this(release, version, build))
    }
}

fn is_this(release: &Release, version: &str, build: Option<&str>) -> bool {
    compare_versions(&release.version, version).is_eq() && build.is_none_or(|build| release.build == build)
}

pub(super) fn major_of(version: &str) -> &str {
    version.trim().split('.').next().unwrap_or_default()
}

/// The order of two builds: `23B85` is older than `23C5`, `23B85` older than `23B112`.
pub(super) fn compare_builds(one: &str, other: &str) -> Ordering {
    fn parts(build: &str) -> (u32, &str, u32, &str) {
        let end = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (major, rest) = build.split_at(end(build));
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (letter, rest) = rest.split_at(letters);
        let (number, supplement) = rest.split_at(end(rest));
        (major.parse().unwrap_or(0), letter, number.parse().unwrap_or(0), supplement)
    }
    parts(one).cmp(&parts(other))
}

/// Reads a document of Apple's form.
///
/// # Errors
/// `Invalid`: it is no JSON, not of this form, too large, or has nothing that can be used.
pub fn parse(document: &[u8]) -> Result<Parsed> {
    if document.len() > LARGEST {
        return Err(Error::invalid(format!(
            "the catalogue has {} bytes, and {LARGEST} are the most",
            document.len()
        )));
    }
    let document: Document = serde_json::from_slice(document).map_err(|error| {
        Error::invalid(format!(
            "the catalogue is not JSON of the form of Apple's gdmf.apple.com/v2/pmv: {error}"
        ))
    })?;
    let mut gathered = Gathered::default();
    for (sets, public) in [(document.public, true), (document.supervised, false)] {
        for (list, entries) in sets.unwrap_or_default().lists() {
            for entry in entries {
                gathered.add(list, entry, public)?;
            }
        }
    }
    if gathered.releases.is_empty() {
        return Err(Error::invalid("the catalogue has no release that can be used; is it Apple's?"));
    }
    let releases: Vec<Release> = gathered.releases.into_values().collect();
    Ok(Parsed { releases, skipped: gathered.skipped })
}

#[derive(Default)]
struct Gathered {
    releases: BTreeMap<(&'static str, String, String), Release>,
    skipped: usize,
    named: usize,
}

impl Gathered {
    /// A release that is listed several times, as one that was posted again, has its first day.
    fn add(&mut self, list: &'static str, entry: Entry, public: bool) -> Result<()> {
        let Some(release) = entry.release(list, public) else {
            self.skipped += 1;
            return Ok(());
        };
        self.named += release.devices.len();
        if self.named > MOST_NAMED {
            return Err(Error::invalid("the catalogue names more devices than Apple's ever does"));
        }
        let key = (list, release.version.clone(), release.build.clone());
        match self.releases.entry(key) {
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(release);
            }
            std::collections::btree_map::Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.public |= release.public;
                known.posted = known.posted.clone().min(release.posted);
                known.expires = known.expires.take().max(release.expires);
                known.devices.extend(release.devices);
                known.devices.sort();
                known.devices.dedup();
            }
        }
        Ok(())
    }
}

/// The document, as far as it is read. What else stands in it is passed over without being kept.
#[derive(Deserialize)]
struct Document {
    #[serde(rename = "PublicAssetSets")]
    public: Option<Sets>,
    #[serde(rename = "AssetSets")]
    supervised: Option<Sets>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Sets {
    #[serde(rename = "iOS")]
    ios: Bounded<Entry, MOST_RELEASES>,
    #[serde(rename = "macOS")]
    macos: Bounded<Entry, MOST_RELEASES>,
    #[serde(rename = "tvOS")]
    tvos: Bounded<Entry, MOST_RELEASES>,
    #[serde(rename = "visionOS")]
    visionos: Bounded<Entry, MOST_RELEASES>,
    /// The name of visionOS before it had one.
    #[serde(rename = "xrOS")]
    xros: Bounded<Entry, MOST_RELEASES>,
    #[serde(rename = "watchOS")]
    watchos: Bounded<Entry, MOST_RELEASES>,
}

impl Sets {
    fn lists(self) -> [(&'static str, Vec<Entry>); 6] {
        [
            ("iOS", self.ios.list),
            ("macOS", self.macos.list),
            ("tvOS", self.tvos.list),
            ("visionOS", self.visionos.list),
            ("visionOS", self.xros.list),
            ("watchOS", self.watchos.list),
        ]
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    product_version: Option<String>,
    build: Option<String>,
    posting_date: Option<String>,
    expiration_date: Option<String>,
    #[serde(default)]
    supported_devices: Bounded<String, MOST_DEVICES>,
}

impl Entry {
    fn release(self, list: &'static str, public: bool) -> Option<Release> {
        let is_device = |device: &String| {
            (1..=LONGEST_DEVICE).contains(&device.len()) && device.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let mut devices = self.supported_devices.list;
        devices.retain(is_device);
        devices.sort();
        devices.dedup();
        Some(Release {
            list: list.to_owned(),
            version: self.product_version.filter(|version| is_version(version))?,
            build: self.build.filter(|build| is_build(build))?,
            posted: self.posting_date.filter(|day| date(day).is_some())?,
            expires: self.expiration_date.filter(|day| date(day).is_some()),
            public,
            devices,
        })
    }
}

/// A list of at most so many elements: a longer one is refused before it fills the memory.
struct Bounded<T, const MOST: usize> {
    list: Vec<T>,
}

impl<T, const MOST: usize> Default for Bounded<T, MOST> {
    fn default() -> Self {
        Self { list: Vec::new() }
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for Bounded<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Elements(PhantomData))
    }
}

struct Elements<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Elements<T, MOST> {
    type Value = Bounded<T, MOST>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a list of at most {MOST}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            if list.len() == MOST {
                return Err(serde::de::Error::invalid_length(MOST + 1, &self));
            }
            list.push(element);
        }
        Ok(Bounded { list })
    }
}
