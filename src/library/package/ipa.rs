//! Apps for iPhone, iPad, Apple TV and Apple Vision (`.ipa`): a zip archive with one `Payload/*.app`.
//!
//! Two files of it are read: `Info.plist` says what the app is, `embedded.mobileprovision` on which
//! devices it may run and how long. Apple: "Information Property List", "Distribute proprietary
//! in-house apps".
//!
//! **Invariant:** an app that is let in has a bundle identifier and a version that are names and no more.

use super::source::Source;
use super::summary::{Kind, Profile, Summary, is_name, text};
use super::zip::{self, Member};
use crate::clock::{Seconds, rfc3339, seconds};
use crate::error::{Error, Result};
use crate::pki::{ber, cms};
use crate::plist::{self, Dictionary, Value};

const LARGEST_INFO: u64 = 4 * 1024 * 1024;
const LARGEST_PROFILE: u64 = 4 * 1024 * 1024;
/// Info.plist's words for what an app runs on.
const PLATFORMS: [(&str, &str); 5] = [
    ("iPhoneOS", "iOS"),
    ("AppleTVOS", "tvOS"),
    ("XROS", "visionOS"),
    ("WatchOS", "watchOS"),
    ("MacOSX", "macOS"),
];
const FAMILIES: [(i64, &str); 5] =
    [(1, "iPhone"), (2, "iPad"), (3, "Apple TV"), (4, "Apple Watch"), (7, "Apple Vision")];

/// Reads what an app says of itself.
///
/// # Errors
/// `Invalid`, in words.
pub(super) fn read(source: &mut Source<'_>, now: Seconds) -> Result<Summary> {
    let members = zip::members(source, &|name| file_of_app(name).is_some())?;
    let of = |wanted: &str| -> Vec<&Member> {
        members.iter().filter(|member| file_of_app(&member.name) == Some(wanted)).collect()
    };
    let info = match of("Info.plist")[..] {
        [info] => info,
        [] => return Err(Error::invalid("There is no Payload/….app/Info.plist in it; an .ipa has one.")),
        _ => return Err(Error::invalid("There are several apps in it; an .ipa has one.")),
    };
    let bytes = zip::content(source, info, LARGEST_INFO)?;
    let info = plist::parse_dict(&bytes)
        .map_err(|error| Error::invalid(format!("Its Info.plist cannot be read: {error}")))?;
    let mut summary = summary(&info)?;
    summary.profile = match of("embedded.mobileprovision")[..] {
        [member] => read_profile(&zip::content(source, member, LARGEST_PROFILE)?),
        _ => None,
    };
    warn(&mut summary, now);
    Ok(summary)
}

/// The name of a file that lies directly in the app.
fn file_of_app(path: &str) -> Option<&str> {
    let (app, file) = path.strip_prefix("Payload/")?.split_once('/')?;
    (app.len() > 4 && app.ends_with(".app") && !file.contains('/')).then_some(file)
}

fn summary(info: &Dictionary) -> Result<Summary> {
    let string = |key: &str| info.get(key).and_then(Value::as_string).filter(|value| !value.is_empty());
    let named = |key: &str| -> Result<String> {
        let value = string(key).ok_or_else(|| Error::invalid(format!("Its Info.plist has no {key}.")))?;
        if is_name(value) {
            return Ok(value.to_owned());
        }
        Err(Error::invalid(format!("{key} in its Info.plist is {:?}; that is none.", text(value))))
    };
    let bundle_id = named("CFBundleIdentifier")?;
    let list = |key: &str| info.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let platforms =
        list("CFBundleSupportedPlatforms").iter().filter_map(Value::as_string).filter_map(|said| {
            PLATFORMS
                .iter()
                .find(|(word, _)| said.eq_ignore_ascii_case(word))
                .map(|(_, platform)| (*platform).to_owned())
        });
    let number = |value: &Value| {
        value.as_signed_integer().or_else(|| value.as_string().and_then(|text| text.parse().ok()))
    };
    let families = list("UIDeviceFamily").iter().filter_map(number).filter_map(|said| {
        FAMILIES.iter().find(|(number, _)| *number == said).map(|(_, family)| (*family).to_owned())
    });
    Ok(Summary {
        kind: Kind::Ipa,
        title: text(string("CFBundleDisplayName").or_else(|| string("CFBundleName")).unwrap_or(&bundle_id)),
        version: named("CFBundleVersion")?,
        short_version: string("CFBundleShortVersionString").map(text),
        minimum_os: string("MinimumOSVersion").or_else(|| string("LSMinimumSystemVersion")).map(text),
        platforms: platforms.take(8).collect(),
        families: families.take(8).collect(),
        packages: Vec::new(),
        signed: false,
        signed_by: None,
        profile: None,
        warnings: Vec::new(),
        bundle_id,
    })
}

/// A provisioning profile is a property list inside of CMS; devices verify it themselves.
fn read_profile(bytes: &[u8]) -> Option<Profile> {
    let der = ber::to_der(bytes).ok()?;
    let signed = cms::Signed::parse(&der).ok()?;
    let list = plist::parse_dict(signed.content()?).ok()?;
    let expires_at = match list.get("ExpirationDate") {
        Some(Value::Date(date)) => Some(seconds((*date).into())),
        _ => None,
    };
    let teams = list.get("TeamIdentifier").and_then(Value::as_array);
    let flag = |key: &str| list.get(key).and_then(Value::as_boolean).unwrap_or(false);
    Some(Profile {
        name: list.get("Name").and_then(Value::as_string).map(text),
        team: teams.and_then(|teams| teams.first()?.as_string()).map(text),
        team_name: list.get("TeamName").and_then(Value::as_string).map(text),
        expires_at,
        all_devices: flag("ProvisionsAllDevices"),
        devices: list.get("ProvisionedDevices").and_then(Value::as_array).map_or(0, Vec::len),
    })
}

fn warn(summary: &mut Summary, now: Seconds) {
    let mut warnings = Vec::new();
    match &summary.profile {
        None => warnings.push(
            "It has no provisioning profile that can be read (embedded.mobileprovision): devices install such an \
             app from the App Store alone."
                .to_owned(),
        ),
        Some(profile) => {
            // No profile is without a signature beside it; both are for devices to verify.
            summary.signed = true;
            if let Some(at) = profile.expires_at.filter(|at| *at <= now) {
                let at = rfc3339(at);
                warnings.push(format!("Its provisioning profile ended at {at}: the app does not start any more."));
            }
            if !profile.all_devices {
                let devices = profile.devices;
                warnings.push(format!(
                    "Its provisioning profile is not one for in-house apps: it runs on the {devices} devices that are \
                     listed in it and on no other."
                ));
            }
        }
    }
    if summary.platforms.iter().any(|platform| platform == "macOS") {
        warnings.push("It is for macOS; Macs take packages (.pkg).".to_owned());
    }
    summary.warnings = warnings;
}
