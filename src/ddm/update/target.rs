//! Which version a policy means for one device, and by when.
//!
//! A function of the policy, the catalogue and what is known of the device, and of no time: the same
//! device is told the same until one of these changes. A device that has the version keeps the
//! declaration, so that nothing has to be said when it was updated.
//!
//! **Invariant:** where there is no version for a device, there is a sentence that says why.

use rusqlite::Connection;
use serde_json::{Map, Value as Json};
use time::Duration;

use super::catalogue::Catalogue;
use super::policy::ENFORCED;
use super::rule::{Rule, date};
use crate::ddm::status;
use crate::ddm::subject::Subject;
use crate::error::Result;
use crate::id::printable;
use crate::schema::platform::{Platform, compare_versions};
use crate::schema::table::Enrollment;

/// The item by which Apple's catalogue knows a device.
pub(super) const DEVICE_ID: &str = "softwareupdate.device-id";

/// What of a device decides about its updates.
pub(super) struct Device {
    pub(super) platform: Option<Platform>,
    pub(super) version: Option<String>,
    /// What the catalogue may know it by.
    pub(super) names: Vec<String>,
    pub(super) supervised: bool,
}

impl Device {
    pub(super) fn of(conn: &Connection, subject: &Subject) -> Result<Self> {
        let said = status::value(conn, &subject.device_id, DEVICE_ID)?;
        let names = [said.as_ref(), subject.keys.get("product_name")];
        let names = names.into_iter().flatten().filter_map(Json::as_str).filter(|name| !name.is_empty());
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.dedup();
        Ok(Self {
            platform: subject.platform,
            version: subject.version.clone(),
            names,
            // A Mac that is managed as a device is supervised, said so or not.
            supervised: subject.enrollment == Enrollment::Supervised
                || (subject.platform == Some(Platform::MacOs) && subject.enrollment == Enrollment::Device),
        })
    }

    /// What a sentence calls it.
    fn called(&self) -> String {
        self.names.first().map_or_else(|| "this device".to_owned(), |name| printable(name))
    }
}

/// What is enforced on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) version: String,
    pub(super) build: Option<String>,
    /// TargetLocalDateTime.
    pub(super) at: String,
}

impl Target {
    /// The payload of the declaration.
    pub(super) fn payload(&self, details_url: Option<&str>) -> Map<String, Json> {
        let mut payload = Map::new();
        payload.insert("TargetOSVersion".into(), self.version.as_str().into());
        if let Some(build) = &self.build {
            payload.insert("TargetBuildVersion".into(), build.as_str().into());
        }
        payload.insert("TargetLocalDateTime".into(), self.at.as_str().into());
        if let Some(url) = details_url {
            payload.insert("DetailsURL".into(), url.into());
        }
        payload
    }
}

/// What a rule means for a device; or why it means nothing, as the end of a sentence.
pub(super) fn target(rule: &Rule, catalogue: &Catalogue, device: &Device) -> Result<Target, String> {
    if let Some(platform) = device.platform.filter(|platform| !ENFORCED.contains(platform)) {
        let name = platform.name();
        return Err(format!(
            "Apple lets nobody enforce updates of {name}: the declaration for it cannot be used on {name}"
        ));
    }
    match rule {
        Rule::Version { version, build, at } => {
            let build = build.as_deref();
            // What Apple offers to nobody of this system may be offered later; the device waits for it.
            // What it offers to others only will never come.
            let is_for_others = catalogue.knows(&device.names)
                && !catalogue.offers(&device.names, device.supervised, version, build)
                && catalogue.has(device.platform, version, build);
            if is_for_others {
                return Err(not_for(device, &named(version, build), catalogue));
            }
            Ok(Target { version: version.clone(), build: build.map(str::to_owned), at: at.clone() })
        }
        Rule::Latest { days, at, major } => {
            let major = match (major, device.version.as_deref()) {
                (true, _) => None,
                (false, Some(version)) => Some(version),
                (false, None) => return Err("the device has not said which version it has".to_owned()),
            };
            if catalogue.is_empty() {
                return Err("nothing is known of Apple's releases yet".to_owned());
            }
            let Some(latest) = catalogue.latest(&device.names, device.supervised, major) else {
                return Err(no_latest(device, catalogue, major));
            };
            let day = date(&latest.posted).and_then(|day| day.checked_add(Duration::days((*days).into())));
            let Some(day) = day else {
                return Err("Apple's catalogue does not say when it was released".to_owned());
            };
            let (year, month, day) = day.to_calendar_date();
            Ok(Target {
                version: latest.version.clone(),
                build: Some(latest.build.clone()),
                at: format!("{year:04}-{:02}-{day:02}T{at}", u8::from(month)),
            })
        }
    }
}

fn named(version: &str, build: Option<&str>) -> String {
    build.map_or_else(|| version.to_owned(), |build| format!("{version} ({build})"))
}

fn not_for(device: &Device, version: &str, catalogue: &Catalogue) -> String {
    let newest = catalogue.latest(&device.names, device.supervised, None);
    let newest = newest.map(|release| format!("; the newest for it is {}", release.version));
    format!("Apple does not offer {version} for {}{}", device.called(), newest.unwrap_or_default())
}

fn no_latest(device: &Device, catalogue: &Catalogue, major: Option<&str>) -> String {
    if let Some(version) = major.filter(|_| catalogue.knows(&device.names)) {
        let major = super::catalogue::major_of(version);
        return format!("Apple's catalogue has no release {major} for {}", device.called());
    }
    // Macs stand in the catalogue by an identifier that they say from macOS 15 on.
    let said = device.names.iter().any(|name| Platform::of_product(name).is_none());
    if device.platform == Some(Platform::MacOs) && !said {
        let old = device.version.as_deref().is_some_and(|version| compare_versions(version, "15").is_lt());
        return if old {
            "Macs say by which name Apple's catalogue knows them from macOS 15 on; enforce a version instead"
        } else {
            "the Mac has not yet said by which name Apple's catalogue knows it"
        }
        .to_owned();
    }
    format!("Apple's catalogue has no release for {}", device.called())
}
