//! What each system knows: types of declarations with their top-level keys, and status items.
//!
//! A device announces it as `management.client-capabilities` and holds each declaration against it. The
//! tables beside this file were taken from Apple's schema; the server has its own, checked otherwise.
//!
//! **Invariant:** what a device announces is what it accepts: both are read from the same lines.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::{Value as Json, json};

use crate::simulator::kind::Kind;

/// The channel of a device that knows things.
#[derive(Clone, Debug)]
pub(super) struct Platform {
    pub(super) os: &'static str,
    pub(super) version: String,
    /// `s` supervised, `d` device.
    pub(super) enrollment: char,
    /// `s` system, `u` user.
    pub(super) scope: char,
}

/// From which version on a system has something, and for whom.
struct Support {
    since: &'static str,
    enrollments: &'static str,
    scopes: &'static str,
}

type Systems = BTreeMap<&'static str, Support>;

struct Key {
    kind: &'static str,
    required: bool,
    /// Systems that have it later than the type itself, or never (`-`).
    except: Vec<(&'static str, &'static str)>,
}

struct Known {
    systems: Systems,
    keys: BTreeMap<&'static str, Key>,
}

/// Whether a type is one that the device has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Knows {
    Yes,
    /// The system has it, but not in this enrollment or on this channel.
    NotHere,
    No,
}

/// What is wrong with a payload.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Oddities {
    /// Keys that no system knows.
    pub(super) unknown: Vec<String>,
    /// Keys that this system or version does not know.
    pub(super) unsupported: Vec<String>,
    /// Keys that are missing or of another type.
    pub(super) wrong: Vec<String>,
}

impl Platform {
    pub(super) fn new(kind: Kind, version: &str, supervised: bool, on_user_channel: bool) -> Self {
        let os = match kind {
            Kind::IPhone | Kind::IPad => "iOS",
            Kind::Mac => "macOS",
            Kind::AppleTv => "tvOS",
            Kind::Watch => "watchOS",
            Kind::Vision => "visionOS",
        };
        // Macs and watches that are managed as devices count as supervised.
        let supervised = supervised || matches!(kind, Kind::Mac | Kind::Watch);
        Self {
            os,
            version: version.to_owned(),
            enrollment: if supervised { 's' } else { 'd' },
            scope: if on_user_channel { 'u' } else { 's' },
        }
    }

    fn has(&self, since: &str) -> bool {
        compare_versions(&self.version, since) != Ordering::Less
    }

    fn judge(&self, systems: &Systems) -> Knows {
        match systems.get(self.os).filter(|support| self.has(support.since)) {
            None => Knows::No,
            Some(support)
                if support.enrollments.contains(self.enrollment) && support.scopes.contains(self.scope) =>
            {
                Knows::Yes
            }
            Some(_) => Knows::NotHere,
        }
    }

    pub(super) fn knows(&self, declaration_type: &str) -> Knows {
        known().get(declaration_type).map_or(Knows::No, |known| self.judge(&known.systems))
    }

    /// Whether it reports a status item on this channel.
    pub(super) fn reports(&self, item: &str) -> bool {
        items().get(item).is_some_and(|systems| self.judge(systems) == Knows::Yes)
    }

    pub(super) fn has_full_reports(&self) -> bool {
        let since = match self.os {
            "macOS" => "14",
            "iOS" | "tvOS" => "17",
            _ => "0",
        };
        self.has(since)
    }

    /// Looks at the top-level keys of a payload of a type that is known.
    pub(super) fn oddities(&self, declaration_type: &str, payload: &Json) -> Oddities {
        let mut odd = Oddities::default();
        let (Some(known), Some(payload)) = (known().get(declaration_type), payload.as_object()) else {
            return odd;
        };
        if known.keys.contains_key("*") {
            return odd;
        }
        for (name, value) in payload {
            match known.keys.get(name.as_str()) {
                None => odd.unknown.push(name.clone()),
                Some(key) if !self.has_key(key) => odd.unsupported.push(name.clone()),
                Some(key) if !is_of(key.kind, value) => odd.wrong.push(name.clone()),
                Some(_) => {}
            }
        }
        for (name, key) in &known.keys {
            if key.required && self.has_key(key) && !payload.contains_key(*name) {
                odd.wrong.push((*name).to_owned());
            }
        }
        odd
    }

    fn has_key(&self, key: &Key) -> bool {
        let except = key.except.iter().find(|(os, _)| *os == self.os);
        except.is_none_or(|(_, since)| *since != "-" && self.has(since))
    }

    /// `management.client-capabilities`.
    pub(super) fn announce(&self) -> Json {
        let of = |kind: &str| -> Vec<&str> {
            let prefix = format!("com.apple.{kind}.");
            let types = known().iter().filter(|(name, _)| name.starts_with(&prefix));
            types
                .filter(|(_, known)| self.judge(&known.systems) == Knows::Yes)
                .map(|(name, _)| *name)
                .collect()
        };
        json!({
            "supported-versions": ["1.0.0"],
            "supported-features": {},
            "supported-payloads": {
                "declarations": {
                    "activations": of("activation"),
                    "assets": of("asset"),
                    "configurations": of("configuration"),
                    "management": of("management"),
                },
                "status-items": self.items().collect::<Vec<_>>(),
            },
        })
    }

    pub(super) fn items(&self) -> impl Iterator<Item = &'static str> {
        items().iter().filter(|(_, systems)| self.judge(systems) == Knows::Yes).map(|(name, _)| *name)
    }
}

fn is_of(kind: &str, value: &Json) -> bool {
    match kind {
        "string" | "data" => value.is_string(),
        "bool" => value.is_boolean(),
        "int" => value.is_i64() || value.is_u64(),
        "real" => value.is_number(),
        "array" => value.is_array(),
        "dict" => value.is_object(),
        _ => true,
    }
}

/// Compares dotted numbers; a part that is missing counts as zero.
pub(super) fn compare_versions(one: &str, other: &str) -> Ordering {
    let parts = |text: &str| text.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u64>>();
    let (mut one, mut other) = (parts(one), parts(other));
    let length = one.len().max(other.len());
    one.resize(length, 0);
    other.resize(length, 0);
    one.cmp(&other)
}

fn known() -> &'static BTreeMap<&'static str, Known> {
    static KNOWN: OnceLock<BTreeMap<&'static str, Known>> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let mut found: BTreeMap<&'static str, Known> = BTreeMap::new();
        let mut current = "";
        for line in include_str!("known.txt").lines().filter(|line| !line.starts_with('#')) {
            if let Some((name, systems)) = line.split_once(" | ") {
                current = name;
                found.insert(name, Known { systems: read_systems(systems), keys: BTreeMap::new() });
            } else if let (Some((name, rest)), Some(known)) =
                (line.trim().split_once(" : "), found.get_mut(current))
            {
                let mut parts = rest.split(';').map(str::trim);
                let kind = parts.next().unwrap_or_default();
                let except = parts.filter_map(|part| part.split_once(' ')).collect();
                let key = Key { kind: kind.trim_end_matches('!'), required: kind.ends_with('!'), except };
                known.keys.insert(name, key);
            }
        }
        found
    })
}

fn items() -> &'static BTreeMap<&'static str, Systems> {
    static ITEMS: OnceLock<BTreeMap<&'static str, Systems>> = OnceLock::new();
    ITEMS.get_or_init(|| {
        let lines = include_str!("items.txt").lines().filter_map(|line| line.split_once(" | "));
        lines.filter(|(name, _)| !name.starts_with('#')).map(|(name, of)| (name, read_systems(of))).collect()
    })
}

fn read_systems(text: &'static str) -> Systems {
    text.split("; ")
        .filter_map(|system| {
            let mut words = system.split(' ');
            let os = words.next()?;
            let support = Support { since: words.next()?, enrollments: words.next()?, scopes: words.next()? };
            Some((os, support))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_system_announces_what_it_knows() {
        assert_eq!((known().len(), items().len()), (59, 62));
        let mac = Platform::new(Kind::Mac, "26.1", true, false);
        assert!(mac.reports("diskmanagement.filevault.enabled") && mac.reports("package.list"));
        assert!(!mac.reports("passcode.is-present") && !mac.reports("mdm.push-token"));
        let phone = Platform::new(Kind::IPhone, "26.1", false, false);
        assert_eq!(phone.knows("com.apple.configuration.package"), Knows::No);
        assert_eq!(phone.knows("com.apple.configuration.math.settings"), Knows::NotHere);
        assert_eq!(phone.knows("com.apple.configuration.passcode.settings"), Knows::Yes);
        let announced = phone.announce();
        let configurations = &announced["supported-payloads"]["declarations"]["configurations"];
        assert!(configurations.as_array().unwrap().contains(&json!("com.apple.configuration.legacy")));
        let user = Platform::new(Kind::Mac, "26.1", true, true);
        assert_eq!(user.knows("com.apple.configuration.account.mail"), Knows::Yes);
        assert_eq!(mac.knows("com.apple.configuration.account.mail"), Knows::NotHere);
    }

    #[test]
    fn keys_are_told_apart_by_who_knows_them() {
        let phone = Platform::new(Kind::IPhone, "26.1", true, false);
        let odd = |kind: &str, payload: Json| phone.oddities(kind, &payload);
        let legacy =
            odd("com.apple.configuration.legacy", json!({ "ProfileAssetReference": "a", "Color": 1 }));
        assert_eq!(
            (&legacy.unsupported[..], &legacy.unknown[..]),
            (&["ProfileAssetReference".to_owned()][..], &["Color".to_owned()][..])
        );
        let test = odd("com.apple.configuration.management.test", json!({ "ReturnStatus": true }));
        assert_eq!(test.wrong, ["ReturnStatus", "Echo"]);
        assert_eq!(odd("com.apple.management.properties", json!({ "any": 1 })), Oddities::default());
    }

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(compare_versions("26.10", "26.9.1"), Ordering::Greater);
        assert_eq!(compare_versions("26", "26.0"), Ordering::Equal);
    }
}
