//! Software updates: policies of groups, Apple's catalogue, and what devices are told of both.
//!
//! People write a [`policy`] for a group. For each device channel it becomes declarations that the
//! server makes: `softwareupdate.enforcement.specific` from the first of its groups that enforces
//! something, `softwareupdate.settings` from each, within an activation for each group.
//! [`super::manifest`] puts them into the set; [`standing`] says how far a device is.
//!
//! **Invariant:** what a device is told is a function of policies, catalogue and what is known of the
//! device, and a policy that has nothing for it takes nothing else from it.

pub mod catalogue;
pub mod kept;
pub mod policy;
pub mod standing;

mod rule;
mod settings;
mod target;
#[cfg(test)]
mod tests;

use rusqlite::Connection;
use serde_json::{Map, Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};

use self::catalogue::Catalogue;
use self::policy::Policy;
use self::target::{Device, target};
use super::group::Ranked;
use super::manifest::{Item, LeftOut};
use super::own::{self, PREFIX};
use super::subject::Subject;
use crate::error::Result;
use crate::id;
use crate::schema::declarations::{Target, left_out};
use crate::schema::table::Scope;

const ENFORCEMENT: &str = "com.apple.configuration.softwareupdate.enforcement.specific";
const ACTIVATION: &str = "com.apple.activation.simple";

/// All policies and the catalogue, read once for many channels.
#[derive(Default)]
pub(super) struct Updates {
    /// By group.
    policies: BTreeMap<String, Policy>,
    /// Empty while nobody enforces anything.
    catalogue: Catalogue,
}

/// What a channel is told.
#[derive(Default)]
pub(super) struct Told {
    pub(super) items: Vec<Item>,
    pub(super) left_out: Vec<LeftOut>,
}

/// What is enforced on a device, by which group; or why nothing is.
struct Enforced<'u> {
    policy: &'u Policy,
    target: Result<target::Target, String>,
}

/// Whether what changed of a device may change what it is told.
pub fn reads(changed: &BTreeSet<String>) -> bool {
    changed.contains(target::DEVICE_ID)
}

/// Whether a declaration of the server's own comes from a policy.
pub(super) fn is_of_policy(identifier: &str) -> bool {
    identifier.strip_prefix(PREFIX).is_some_and(|name| name.starts_with("update."))
}

impl Updates {
    pub(super) fn read(conn: &Connection) -> Result<Self> {
        let policies = policy::list(conn, None, u32::MAX)?.into_iter();
        let policies: BTreeMap<_, _> =
            policies.map(|kept| (kept.policy.group.clone(), kept.policy)).collect();
        let catalogue = if policies.is_empty() { Catalogue::default() } else { kept::catalogue(conn)? };
        Ok(Self { policies, catalogue })
    }

    /// What a channel is told of the policies of its groups, the first of which wins. `allowed` is what
    /// the tables of declarations are held against.
    pub(super) fn told(
        &self,
        conn: &Connection,
        subject: &Subject,
        groups: &[&Ranked],
        allowed: Option<&Target>,
    ) -> Result<Told> {
        let mut told = Told::default();
        // Users have no part in it: Apple's tables know both types on the device channel alone.
        if self.policies.is_empty() || subject.channel != Scope::System {
            return Ok(told);
        }
        let device = Device::of(conn, subject)?;
        let winner = self.enforced(&device, groups);
        for group in groups {
            let Some(policy) = self.policies.get(&group.name) else { continue };
            let enforcement = self.enforcement(policy, winner.as_ref(), &device, allowed);
            let settings = Self::settings(policy, allowed);
            let of_group =
                [(ENFORCEMENT, "enforcement", enforcement), (settings::TYPE, "settings", settings)];
            let mut configurations = Vec::new();
            for (declaration_type, name, made) in of_group {
                let Some(made) = made else { continue };
                let name = named(name, group);
                match made {
                    Ok(payload) => {
                        let item = own::item(declaration_type, &name, &payload.into());
                        configurations.push(item.identifier.clone());
                        told.items.push(item);
                    }
                    Err(words) => told.left_out.push(LeftOut {
                        identifier: format!("{PREFIX}{name}"),
                        declaration_type: declaration_type.to_owned(),
                        words,
                    }),
                }
            }
            if !configurations.is_empty() {
                let mut payload = json!({"StandardConfigurations": configurations});
                if let Some(predicate) = &group.predicate {
                    payload["Predicate"] = predicate.as_str().into();
                }
                told.items.push(own::item(ACTIVATION, &named("activation", group), &payload));
            }
        }
        Ok(told)
    }

    /// The first of the groups that enforces anything on this system wins, also where it has no version
    /// for the device: what another group enforces was not meant for it.
    fn enforced(&self, device: &Device, groups: &[&Ranked]) -> Option<Enforced<'_>> {
        let mut policies = groups.iter().filter_map(|group| self.policies.get(&group.name));
        policies.find_map(|policy| {
            let rule = policy.rule(device.platform)?;
            Some(Enforced { policy, target: target(rule, &self.catalogue, device) })
        })
    }

    fn enforcement(
        &self,
        policy: &Policy,
        winner: Option<&Enforced<'_>>,
        device: &Device,
        allowed: Option<&Target>,
    ) -> Option<Result<Map<String, Json>, String>> {
        policy.rule(device.platform)?;
        let winner = winner?;
        let group = &policy.group;
        if winner.policy.group != *group {
            let first = &winner.policy.group;
            return Some(Err(format!(
                "What the update policy of the group {group} enforces is left out because a device can follow \
                 only one, and that of the group {first} comes first."
            )));
        }
        let target = match &winner.target {
            Ok(target) => target,
            Err(why) => {
                return Some(Err(format!(
                    "The update policy of the group {group} enforces nothing here: {why}."
                )));
            }
        };
        Some(for_device(ENFORCEMENT, target.payload(policy.details_url.as_deref()), group, allowed))
    }

    fn settings(policy: &Policy, allowed: Option<&Target>) -> Option<Result<Map<String, Json>, String>> {
        if policy.settings.is_empty() {
            return None;
        }
        let payload = settings::fitting(&policy.settings, allowed);
        let group = &policy.group;
        let made = for_device(settings::TYPE, payload, group, allowed);
        Some(made.and_then(|payload| {
            if payload.is_empty() {
                return Err(format!(
                    "The settings of the update policy of the group {group} have nothing that this device knows: {}.",
                    settings::omitted(&policy.settings, allowed).join("; ")
                ));
            }
            Ok(payload)
        }))
    }

    /// What of the settings of a device's groups it does not get, in sentences; what else they say it gets.
    fn notes(&self, groups: &[&Ranked], allowed: Option<&Target>) -> Vec<String> {
        let policies = groups.iter().filter_map(|group| self.policies.get(&group.name));
        let notes = policies.flat_map(|policy| {
            let omitted = settings::omitted(&policy.settings, allowed).into_iter();
            omitted.map(|why| format!("Of the update policy of the group {}, {why}.", policy.group))
        });
        notes.collect()
    }
}

fn for_device(
    declaration_type: &str,
    payload: Map<String, Json>,
    group: &str,
    allowed: Option<&Target>,
) -> Result<Map<String, Json>, String> {
    match allowed.and_then(|allowed| left_out(declaration_type, &payload, allowed)) {
        Some(why) => Err(format!("{declaration_type} of the update policy of the group {group} {why}.")),
        None => Ok(payload),
    }
}

/// The server's name for what it makes of a group's policy.
fn named(what: &str, group: &Ranked) -> String {
    format!("update.{what}.{}", id::hex(&id::sha256(group.name.as_bytes())[..16]))
}
