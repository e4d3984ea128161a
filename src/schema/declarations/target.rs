//! Whether a device can have a declaration.
//!
//! Called for each device when its set of declarations is made, and by what shows people why one is not
//! in it. Apple: `supportedOS`, `allowed-enrollments`, `allowed-scopes`, and the status item
//! `management.client-capabilities`.
//!
//! **Invariant:** what is not known of a device is no reason to leave anything out.

use serde_json::{Map, Value as Json};
use std::collections::BTreeSet;

use super::{alternatives, declaration};
use crate::schema::platform::{Platform, compare_versions};
use crate::schema::table::{Enrollment, Key, Scope, Support};

/// What decides about a channel of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub platform: Platform,
    /// Of the operating system, as the device said it.
    pub version: Option<String>,
    pub enrollment: Enrollment,
    pub channel: Scope,
    pub shared_ipad: bool,
    /// The types of all kinds in its client-capabilities.
    pub supported: Option<BTreeSet<String>>,
}

/// Why this device cannot have this declaration, as what follows the declaration's name in a sentence;
/// nothing if it can. Types that the table does not know are for every device that does not deny them.
pub fn left_out(declaration_type: &str, payload: &Map<String, Json>, target: &Target) -> Option<String> {
    if let Some(known) = declaration(declaration_type) {
        let Some(support) = known.os.get(target.platform.name()) else {
            return Some(format!("cannot be used on {}", target.platform.name()));
        };
        let reason = by_version(support, "", target)
            .or_else(|| by_enrollment(support, target))
            .or_else(|| by_channel(support, target))
            .or_else(|| by_keys(&known.keys, payload, target))
            .or_else(|| by_alternatives(declaration_type, &known.keys, payload, target));
        if reason.is_some() {
            return reason;
        }
    }
    let denied = target.supported.as_ref().is_some_and(|supported| !supported.contains(declaration_type));
    denied.then(|| "is left out because the device says it does not support it".to_owned())
}

/// `what` is empty, or says which part needs another version, as ` for ProfileAssetReference`.
fn by_version(support: &Support, what: &str, target: &Target) -> Option<String> {
    let version = target.version.as_deref()?;
    if support.includes(Some(version)) {
        return None;
    }
    let name = target.platform.name();
    let since = support.since.as_deref().filter(|since| compare_versions(version, since).is_lt());
    Some(match (since, support.removed.as_deref()) {
        (Some(since), _) => format!("needs {name} {since} or later{what}; this device has {version}"),
        (None, removed) => {
            format!("was removed in {name} {}; this device has {version}", removed.unwrap_or_default())
        }
    })
}

fn by_enrollment(support: &Support, target: &Target) -> Option<String> {
    let allowed = support.enrollments.as_deref()?;
    // Macs and watches have no other enrollment of a device than one that supervises: the table never
    // says `device` for them, and one that has not yet said that it is supervised will.
    let enrollment = match (target.platform, target.enrollment) {
        (Platform::MacOs | Platform::WatchOs, Enrollment::Device) => Enrollment::Supervised,
        (_, enrollment) => enrollment,
    };
    if allowed.contains(&enrollment) {
        return None;
    }
    let (device, user) = (allowed.contains(&Enrollment::Device), allowed.contains(&Enrollment::User));
    Some(
        match (device, user) {
            (true, _) => "cannot be used with User Enrollment",
            (false, true) => "is for supervised devices and User Enrollment only",
            (false, false) => "is for supervised devices only",
        }
        .to_owned(),
    )
}

fn by_channel(support: &Support, target: &Target) -> Option<String> {
    let shared = support.shared_scopes().filter(|_| target.shared_ipad);
    let allowed = shared.or(support.scopes.as_deref())?;
    if allowed.contains(&target.channel) {
        return None;
    }
    Some(
        match (allowed, target.channel) {
            ([], _) => "cannot be used on Shared iPad",
            (_, Scope::System) => "is for users, not for the device as a whole",
            (_, Scope::User) => "is for the device as a whole, not for a user",
        }
        .to_owned(),
    )
}

/// Without a key that is required the rest is nothing to the device; a newer key that is optional it
/// passes over, and says so.
fn by_keys(keys: &[Key], values: &Map<String, Json>, target: &Target) -> Option<String> {
    keys.iter().find_map(|key| {
        let value = values.get(&key.name)?;
        match lacks(key, target) {
            // A required key that a platform does not have at all is not required there.
            Some(reason) if key.required && !key.not_on.iter().any(|os| os == target.platform.name()) => {
                Some(reason)
            }
            Some(_) => None,
            None => by_keys(&key.keys, value.as_object()?, target),
        }
    })
}

fn by_alternatives(
    declaration_type: &str,
    keys: &[Key],
    payload: &Map<String, Json>,
    target: &Target,
) -> Option<String> {
    let names = alternatives(declaration_type);
    let written =
        keys.iter().filter(|key| names.contains(&key.name.as_str()) && payload.contains_key(&key.name));
    let reasons: Vec<Option<String>> = written.map(|key| lacks(key, target)).collect();
    // One that the device knows is enough.
    if reasons.iter().any(Option::is_none) { None } else { reasons.into_iter().flatten().next() }
}

/// Why a device does not heed this key, as what follows its name; nothing if it does.
pub fn key_left_out(key: &Key, target: &Target) -> Option<String> {
    let os = target.platform.name();
    if key.not_on.iter().any(|other| other == os) {
        return Some(format!("cannot be used on {os}"));
    }
    let support = key.os.get(os)?;
    by_version(support, "", target).or_else(|| by_enrollment(support, target))
}

/// Why the device does not know this key.
fn lacks(key: &Key, target: &Target) -> Option<String> {
    let (os, name) = (target.platform.name(), &key.name);
    if key.not_on.iter().any(|other| other == os) {
        return Some(format!("cannot be used on {os} with {name}"));
    }
    by_version(key.os.get(os)?, &format!(" for {name}"), target)
}
