//! What a channel should end with, found out from what was written and from Apple's tables alone.
//!
//! Written from the documents and not from the server, which it never asks: INTERFACE of groups and
//! declarations, Apple's tables as data, the states of `management.declarations` as Apple explains them.

use std::collections::{BTreeMap, BTreeSet};

use russet::id;
use serde_json::{Value as Json, json};

use super::condition::{Condition, Fact};
use super::table;
use super::world::{ACTIVATION, Declared, Group, Who, World};

/// A declaration as a channel should have it; whoever has an equal one has no reason to fetch it.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    pub declaration_type: String,
    pub payload: Json,
    pub touched: u32,
}

/// By identifier.
pub type Set = BTreeMap<String, Version>;

#[derive(Clone, Debug, Default)]
pub struct Expected {
    pub set: Set,
    pub left_out: BTreeSet<String>,
    /// Active or not, and `valid`, `invalid` or `unknown`.
    pub states: BTreeMap<String, (bool, &'static str)>,
}

struct Look<'w> {
    world: &'w World,
    who: &'w Who,
    /// The groups that it is in, the one that wins first.
    groups: Vec<(&'w str, &'w Group)>,
}

/// What a channel should have. One whose system is too old has nothing.
pub fn expected(world: &World, who: &Who) -> Expected {
    if !table::is_told(who) {
        return Expected::default();
    }
    let look = Look { world, who, groups: groups(world, who) };
    let wanted = look.wanted();
    let kept = look.kept(&wanted);
    let left_out = wanted.difference(&kept).map(|name| (*name).to_owned()).collect();
    let mut set: Set =
        kept.iter().map(|name| ((*name).to_owned(), version(&world.declarations[*name]))).collect();
    set.extend(look.activations(&wanted, &kept));
    set.extend(look.own());
    let mut expected = Expected { set, left_out, states: BTreeMap::new() };
    expected.states = look.states(&expected.set);
    expected
}

fn version(of: &Declared) -> Version {
    let declaration_type = of.declaration_type.to_owned();
    Version { declaration_type, payload: of.whole_payload(), touched: of.touched }
}

fn groups<'w>(world: &'w World, who: &Who) -> Vec<(&'w str, &'w Group)> {
    let is_by_hand =
        |group: &Group| group.members.contains(&who.id) || group.members.contains(&who.device_id);
    let by_hand: Vec<&str> =
        world.groups.iter().filter(|(_, group)| is_by_hand(group)).map(|(name, _)| name.as_str()).collect();
    let known = |fact: &Fact| match fact {
        Fact::Key(name) => who.key(name, &by_hand),
        Fact::Status(item) => reported(who, item),
        Fact::Property(_) => None,
    };
    let mut groups: Vec<(&str, &Group)> = world
        .groups
        .iter()
        .filter(|(name, group)| {
            *name == "default"
                || is_by_hand(group)
                || group.rule.as_ref().is_some_and(|rule| rule.comes_to(&known) == Some(true))
        })
        .map(|(name, group)| (name.as_str(), group))
        .collect();
    groups.sort_by_key(|(name, group)| (group.order, *name));
    groups
}

/// What a device has told the server of an item; a user's channel can lean on its device's.
fn reported(who: &Who, item: &str) -> Option<Json> {
    let device = Who { is_user: false, ..who.clone() };
    // The version is known from check-ins too.
    let is_known = item == "device.operating-system.version"
        || table::reports(who, item)
        || table::reports(&device, item);
    is_known.then(|| who.says(item))
}

impl<'w> Look<'w> {
    fn declared(&self, name: &str) -> &'w Declared {
        &self.world.declarations[name]
    }

    fn with_all_that_it_names(&self, name: &'w str) -> BTreeSet<&'w str> {
        let mut found = BTreeSet::new();
        let mut next = vec![name];
        while let Some(name) = next.pop() {
            found.insert(name);
            next.extend(self.declared(name).names());
        }
        found
    }

    /// What its groups have, with all that is named.
    fn wanted(&self) -> BTreeSet<&'w str> {
        let assigned = self.groups.iter().flat_map(|(_, group)| &group.declarations);
        assigned.flat_map(|name| self.with_all_that_it_names(name)).collect()
    }

    /// What it gets of it: each with all that it names, or not at all; where there may be only one, the
    /// first group's.
    fn kept(&self, wanted: &BTreeSet<&'w str>) -> BTreeSet<&'w str> {
        let possible = |name: &str| {
            let whole = self.with_all_that_it_names(wanted.get(name).unwrap());
            whole.iter().all(|name| table::can_have(self.who, self.declared(name).declaration_type))
        };
        let mut kept = BTreeSet::new();
        let mut singles: BTreeMap<&str, &str> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for name in self.groups.iter().flat_map(|(_, group)| &group.declarations) {
            if !seen.insert(name) || !possible(name) {
                continue;
            }
            let whole = self.with_all_that_it_names(name);
            let singles_of_it: Vec<(&str, &str)> = whole
                .iter()
                .map(|name| (self.declared(name).declaration_type, *name))
                .filter(|(of, _)| table::is_single(of))
                .collect();
            let mut mine = singles.clone();
            let fits = singles_of_it.iter().all(|(of, name)| *mine.entry(of).or_insert(name) == *name);
            if fits {
                singles = mine;
                kept.extend(whole);
            }
        }
        kept
    }

    /// An activation for each group's configurations that nobody's activation names.
    fn activations(&self, wanted: &BTreeSet<&'w str>, kept: &BTreeSet<&'w str>) -> Set {
        let of_kind = |name: &str, kind: &str| self.declared(name).kind() == kind;
        let named: BTreeSet<&str> = wanted
            .iter()
            .filter(|name| of_kind(name, "activation"))
            .flat_map(|name| self.declared(name).names())
            .collect();
        let mut set = Set::new();
        for (name, group) in &self.groups {
            let free = |name: &&String| {
                of_kind(name, "configuration")
                    && kept.contains(name.as_str())
                    && !named.contains(name.as_str())
            };
            let names: Vec<&String> = group.declarations.iter().filter(free).collect();
            if names.is_empty() {
                continue;
            }
            let mut payload = json!({"StandardConfigurations": names});
            if let Some(predicate) = &group.predicate {
                payload["Predicate"] = predicate.text().into();
            }
            // Only the identifier is the server's own affair; a name of 64 bytes would not do.
            let hash = id::hex(&id::sha256(name.as_bytes())[..16]);
            set.insert(format!("russet.group.{hash}"), made(ACTIVATION, payload));
        }
        set
    }

    /// What the server says of itself and of the device.
    fn own(&self) -> Set {
        let mut groups: Vec<&str> = self.groups.iter().map(|(name, _)| *name).collect();
        groups.retain(|name| *name != "default");
        groups.sort_unstable();
        let items: Vec<Json> =
            table::reported(self.who).into_iter().map(|item| json!({"Name": item})).collect();
        let all = [
            ("activation", ACTIVATION, json!({"StandardConfigurations": ["russet.status"]})),
            (
                "status",
                "com.apple.configuration.management.status-subscriptions",
                json!({"StatusItems": items}),
            ),
            (
                "server-capabilities",
                "com.apple.management.server-capabilities",
                json!({"Version": "1.0.0", "SupportedFeatures": {}}),
            ),
            ("organization", "com.apple.management.organization-info", json!({"Name": "Russet"})),
            (
                "properties",
                "com.apple.management.properties",
                json!({"tags": self.who.tags, "groups": groups, "shard": shard(&self.who.id)}),
            ),
        ];
        let can = all.into_iter().filter(|(_, of, _)| table::can_have(self.who, of));
        can.map(|(name, of, payload)| (format!("russet.{name}"), made(of, payload))).collect()
    }

    /// What the device itself comes to.
    fn states(&self, set: &Set) -> BTreeMap<String, (bool, &'static str)> {
        let has = |fact: &Fact| match fact {
            Fact::Status(item) => table::reports(self.who, item).then(|| self.who.says(item)),
            Fact::Property(name) => Some(property(set, name)),
            Fact::Key(_) => None,
        };
        let of_kind = |kind: &'static str| {
            let start = format!("com.apple.{kind}.");
            set.iter().filter(move |(_, version)| version.declaration_type.starts_with(&start))
        };
        let mut states = BTreeMap::new();
        let (mut named, mut used) = (BTreeSet::new(), BTreeSet::new());
        for (name, version) in of_kind("activation") {
            let state = match self.condition_of(name).map(|condition| condition.on_device(&has)) {
                None | Some(Some(true)) => (true, "valid"),
                Some(Some(false)) => (false, "valid"),
                Some(None) => (false, "invalid"),
            };
            if state.0 {
                let names = version.payload["StandardConfigurations"].as_array().unwrap();
                named.extend(names.iter().filter_map(Json::as_str));
            }
            states.insert(name.clone(), state);
        }
        for (name, version) in of_kind("configuration") {
            let is_active = named.contains(name.as_str());
            if is_active {
                used.extend(version.payload["UserIdentityAssetReference"].as_str());
            }
            states.insert(name.clone(), if is_active { (true, "valid") } else { (false, "unknown") });
        }
        for (name, _) in of_kind("asset") {
            let is_used = used.contains(name.as_str());
            states.insert(name.clone(), if is_used { (true, "valid") } else { (false, "unknown") });
        }
        states.extend(of_kind("management").map(|(name, _)| (name.clone(), (false, "valid"))));
        states
    }

    fn condition_of(&self, name: &str) -> Option<&'w Condition> {
        let by_hand = self.world.declarations.get(name).and_then(|of| of.predicate.as_ref());
        by_hand.or_else(|| {
            let hash = name.strip_prefix("russet.group.")?;
            let of_hash = |name: &&str| id::hex(&id::sha256(name.as_bytes())[..16]) == hash;
            self.groups.iter().find(|(name, _)| of_hash(name))?.1.predicate.as_ref()
        })
    }
}

/// Of several declarations with properties the last one's counts.
pub fn property(set: &Set, name: &str) -> Json {
    let properties = set.values().filter(|of| of.declaration_type == "com.apple.management.properties");
    properties.filter_map(|of| of.payload.get(name)).next_back().cloned().unwrap_or_default()
}

fn made(declaration_type: &str, payload: Json) -> Version {
    Version { declaration_type: declaration_type.to_owned(), payload, touched: 0 }
}

/// FNV-1 modulo 101.
fn shard(text: &str) -> u32 {
    let mut hash = 2_166_136_261_u32;
    for byte in text.bytes() {
        hash = hash.wrapping_mul(16_777_619) ^ u32::from(byte);
    }
    hash % 101
}
