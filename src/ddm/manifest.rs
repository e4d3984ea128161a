//! Which declarations a channel should have.
//!
//! The declarations of its groups with all that they name, without those that it cannot have, and with
//! those that the server makes. [`Plan`] is what was written, read once for many channels;
//! [`Plan::manifest`] holds a channel against it.
//!
//! **Invariant:** the set is closed: whatever a declaration of it names is in it. What is left out has a
//! sentence that says why.

use rusqlite::Connection;
use serde_json::{Map, Value as Json};
use std::collections::{BTreeMap, BTreeSet};

use super::app_set::{self, AppSet};
use super::group::{self, DEFAULT, Ranked};
use super::own::{self, Capabilities, PREFIX};
use super::predicate::Dialect;
use super::subject::Subject;
use super::update::catalogue::Catalogue;
use super::update::standing::Standing;
use super::update::{self, Updates};
use super::{declaration, generation, personal_address, plans, reads, served};
use crate::error::Result;
use crate::id;
use crate::schema::declarations::{Combine, Kind, Target, combine, left_out};

/// One declaration of a set.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub kind: Kind,
    pub identifier: String,
    pub declaration_type: String,
    pub server_token: String,
    /// What the device gets, if the server made it for this channel.
    pub own: Option<Json>,
}

/// A declaration that a channel's groups have and the channel does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    pub identifier: String,
    pub declaration_type: String,
    /// Why, as a sentence.
    pub words: String,
}

/// What a channel should have.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// In the order of kind and identifier.
    pub items: Vec<Item>,
    pub left_out: Vec<LeftOut>,
    /// The DeclarationsToken.
    pub token: String,
    /// The names of its groups, but for the one of everybody.
    pub groups: Vec<String>,
}

/// All groups and declarations at one generation.
pub struct Plan {
    pub generation: generation::Generation,
    groups: Vec<Ranked>,
    declarations: BTreeMap<String, Planned>,
    organization: Map<String, Json>,
    updates: Updates,
    /// Status items for tests that somebody's predicate reads.
    for_tests: BTreeSet<String>,
    sets: Vec<AppSet>,
    /// Which declaration points to which packages of this server.
    packages: BTreeMap<String, BTreeSet<String>>,
}

struct Planned {
    kind: Kind,
    declaration_type: String,
    payload: Map<String, Json>,
    server_token: String,
    names: Vec<String>,
}

/// What one channel should have, looked at by itself.
///
/// # Errors
/// The database's.
pub fn of(conn: &Connection, subject: &Subject) -> Result<Manifest> {
    plans::present(conn)?.manifest(conn, subject)
}

impl Plan {
    /// Reads what was written; [`plans::present`] does only after an edit.
    ///
    /// # Errors
    /// The database's.
    pub fn read(conn: &Connection) -> Result<Self> {
        let declarations = declaration::all(conn)?.into_iter().map(|(declaration, names)| {
            let planned = Planned {
                kind: declaration.kind,
                declaration_type: declaration.declaration_type,
                payload: declaration.payload,
                server_token: declaration.server_token,
                names,
            };
            (declaration.identifier, planned)
        });
        let (declarations, groups) = (declarations.collect(), group::ranked(conn)?);
        let mut for_tests = reads::for_tests(predicates(&declarations, &groups));
        for_tests.extend(groups.iter().flat_map(Ranked::items_for_tests));
        Ok(Self {
            generation: generation::now(conn)?,
            for_tests,
            groups,
            declarations,
            organization: serde_json::from_str(&generation::organization(conn)?).unwrap_or_default(),
            updates: Updates::read(conn)?,
            sets: app_set::list(conn, None, u32::MAX)?,
            packages: served::package_links(conn)?,
        })
    }

    /// What was written in a declaration.
    pub fn payload(&self, identifier: &str) -> Option<&Map<String, Json>> {
        self.declarations.get(identifier).map(|planned| &planned.payload)
    }

    /// Whether anybody wants something of a channel with this set: something that is not the server's own,
    /// or what it reports, to know who is in a group.
    pub(super) fn wants_something_of(&self, manifest: &Manifest) -> bool {
        let is_wanted =
            |item: &Item| !item.identifier.starts_with(PREFIX) || update::is_of_policy(&item.identifier);
        // What a policy means for a device may depend on what it has not said yet.
        let waits = |out: &LeftOut| update::is_of_policy(&out.identifier);
        manifest.items.iter().any(is_wanted)
            || manifest.left_out.iter().any(waits)
            || self.groups.iter().any(Ranked::reads_status)
    }

    /// Whether a rule of any group reads one of these status items.
    pub fn any_rule_reads(&self, paths: &BTreeSet<String>) -> bool {
        self.groups.iter().any(|group| group.reads(paths))
    }

    /// What predicates read as `@property(…)` on a channel with this set. Of a key that several declarations
    /// have, the last one's counts.
    pub(super) fn properties(&self, manifest: &Manifest) -> Map<String, Json> {
        let mut properties = Map::new();
        for item in manifest.items.iter().filter(|item| item.declaration_type == own::PROPERTIES) {
            let payload = match &item.own {
                Some(body) => body["Payload"].as_object(),
                None => self.declarations.get(&item.identifier).map(|planned| &planned.payload),
            };
            properties.extend(payload.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
        }
        properties
    }

    /// The packages that a set points to.
    pub(super) fn packages_of(&self, manifest: &Manifest) -> BTreeSet<&str> {
        let links = manifest.items.iter().filter_map(|item| self.packages.get(&item.identifier));
        links.flatten().map(String::as_str).collect()
    }

    /// What a channel should have.
    ///
    /// # Errors
    /// The database's.
    pub fn manifest(&self, conn: &Connection, subject: &Subject) -> Result<Manifest> {
        let groups = group::holding(conn, &self.groups, subject)?;
        let mut names: Vec<String> = groups.iter().map(|group| group.name.clone()).collect();
        names.retain(|name| name != DEFAULT);
        names.sort();
        let capabilities = Capabilities::of(conn, &subject.id)?;
        let sets = app_set::active(&self.sets, &names);
        let own = own::items(subject, &capabilities, &names, sets, &self.organization, &self.for_tests);
        let target = subject.target(capabilities.types);
        let updates = self.updates.told(conn, subject, &groups, target.as_ref())?;

        let mut choice = Choice::new(self, &groups);
        choice.leave_out_unsupported(target.as_ref());
        choice.keep(&groups);

        let mut items: Vec<Item> = own.into_iter().filter(|item| can_have(item, target.as_ref())).collect();
        items.extend(updates.items);
        items.extend(choice.activations(&groups));
        items.extend(choice.activations_of_sets(&groups));
        items.extend(choice.kept().map(|(identifier, planned)| Item {
            kind: planned.kind,
            identifier: identifier.to_owned(),
            declaration_type: planned.declaration_type.clone(),
            server_token: planned.server_token.clone(),
            own: None,
        }));
        personal_address::renewed(conn, &subject.id, &self.packages, &mut items)?;
        items.sort_by(|one, other| (one.kind, &one.identifier).cmp(&(other.kind, &other.identifier)));
        let token = token(&items);
        let mut left_out = choice.left_out();
        left_out.extend(updates.left_out);
        Ok(Manifest { items, left_out, token, groups: names })
    }

    /// How far a device is with its software updates, beside all that Apple offers.
    ///
    /// # Errors
    /// The database's.
    pub fn update_standing(
        &self,
        conn: &Connection,
        catalogue: &Catalogue,
        subject: &Subject,
    ) -> Result<Standing> {
        let groups = group::holding(conn, &self.groups, subject)?;
        let allowed = subject.target(Capabilities::of(conn, &subject.id)?.types);
        self.updates.standing(conn, catalogue, subject, &groups, allowed.as_ref())
    }
}

/// The conditions that devices evaluate.
fn predicates<'a>(
    declarations: &'a BTreeMap<String, Planned>,
    groups: &'a [Ranked],
) -> impl Iterator<Item = (&'a str, Dialect)> {
    let activations = declarations.values().filter(|planned| planned.kind == Kind::Activation);
    let of_activations = activations.filter_map(|planned| planned.payload.get("Predicate")?.as_str());
    let of_groups = groups.iter().filter_map(|group| group.predicate.as_deref());
    of_activations.chain(of_groups).map(|text| (text, Dialect::Device))
}

/// A hash of the set; the items are in order.
fn token(items: &[Item]) -> String {
    let lines = items
        .iter()
        .map(|item| format!("{}\0{}\0{}\n", item.kind.name(), item.identifier, item.server_token));
    id::hex(&id::sha256(lines.collect::<String>().as_bytes()))
}

fn can_have(item: &Item, target: Option<&Target>) -> bool {
    let payload = item.own.as_ref().and_then(|body| body["Payload"].as_object());
    match (target, payload) {
        (Some(target), Some(payload)) => left_out(&item.declaration_type, payload, target).is_none(),
        _ => true,
    }
}

/// The declarations that a channel's groups have, while it is found out which of them it gets.
struct Choice<'p> {
    plan: &'p Plan,
    wanted: BTreeMap<&'p str, Wanted>,
}

struct Wanted {
    /// The place of the first group that has it; nothing if it is only named by what a group has.
    assigned: Option<usize>,
    kept: bool,
    /// Why it is left out, as what follows its identifier.
    reason: Option<String>,
}

impl<'p> Choice<'p> {
    fn new(plan: &'p Plan, groups: &[&'p Ranked]) -> Self {
        let mut choice = Self { plan, wanted: BTreeMap::new() };
        for (rank, group) in groups.iter().enumerate() {
            for identifier in &group.declarations {
                choice.want(identifier, Some(rank));
            }
            for set in plan.sets.iter().filter(|set| set.groups.contains(&group.name)) {
                for identifier in &set.declarations {
                    choice.want(identifier, Some(rank));
                }
            }
        }
        choice
    }

    /// Activations name configurations, configurations name assets: it is never deeper, whatever is kept.
    fn want(&mut self, identifier: &'p str, assigned: Option<usize>) {
        let plan = self.plan;
        let Some(planned) = plan.declarations.get(identifier) else { return };
        let wanted = self.wanted.entry(identifier).or_insert(Wanted { assigned, kept: false, reason: None });
        wanted.assigned = wanted.assigned.or(assigned);
        for name in &planned.names {
            if plan.declarations.get(name).is_some_and(|named| named.kind > planned.kind) {
                self.want(name, None);
            }
        }
    }

    fn planned(&self, identifier: &str) -> &'p Planned {
        &self.plan.declarations[identifier]
    }

    fn leave_out_unsupported(&mut self, target: Option<&Target>) {
        let Some(target) = target else { return };
        let plan = self.plan;
        for (identifier, wanted) in &mut self.wanted {
            let planned = &plan.declarations[*identifier];
            wanted.reason = left_out(&planned.declaration_type, &planned.payload, target);
        }
        self.leave_out_incomplete(Kind::Configuration);
        self.leave_out_incomplete(Kind::Activation);
    }

    /// What names something that is left out would be an error on the device.
    fn leave_out_incomplete(&mut self, kind: Kind) {
        let plan = self.plan;
        let out: BTreeSet<&str> =
            self.wanted.iter().filter(|(_, wanted)| wanted.reason.is_some()).map(|(name, _)| *name).collect();
        for (identifier, wanted) in &mut self.wanted {
            let planned = &plan.declarations[*identifier];
            if planned.kind != kind || wanted.reason.is_some() {
                continue;
            }
            let missing = planned.names.iter().find(|name| out.contains(name.as_str()));
            wanted.reason =
                missing.map(|name| format!("is left out because it names {name}, which is left out"));
        }
    }

    /// Keeps what groups have, each with all that it names or not at all. Where a device may have only
    /// one, the first group's stays: what is given up is given up for something that is there.
    fn keep(&mut self, groups: &[&'p Ranked]) {
        let assigned = self.wanted.iter().filter_map(|(name, wanted)| Some((wanted.assigned?, *name)));
        let mut in_turn: Vec<(usize, &'p str)> = assigned.collect();
        in_turn.sort_unstable();
        let mut winners: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
        for (rank, identifier) in in_turn {
            if self.wanted[identifier].reason.is_some() {
                continue;
            }
            let whole = self.with_all_that_it_names(identifier);
            let plan = self.plan;
            let singles: Vec<(&str, &'p str)> = whole
                .iter()
                .map(|name| (plan.declarations[*name].declaration_type.as_str(), *name))
                .filter(|(declaration_type, _)| combine(declaration_type) == Combine::Single)
                .collect();
            let mut with_these = winners.clone();
            let rival = singles.into_iter().find_map(|(declaration_type, name)| {
                let winner = *with_these.entry(declaration_type).or_insert((rank, name));
                (winner.1 != name).then_some((declaration_type, name, winner))
            });
            let Some((declaration_type, name, (first, winner))) = rival else {
                winners = with_these;
                for name in whole {
                    if let Some(wanted) = self.wanted.get_mut(name) {
                        wanted.kept = true;
                    }
                }
                continue;
            };
            let group = &groups[first].name;
            let words = format!(
                "is left out because a device can have only one {declaration_type}, \
                 and {winner} of the group {group} comes first"
            );
            self.give_up(name, words);
            if identifier != name {
                self.give_up(identifier, format!("is left out because it names {name}, which is left out"));
            }
        }
        for wanted in self.wanted.values_mut() {
            if !wanted.kept && wanted.reason.is_none() {
                wanted.reason = Some("is left out together with what names it".to_owned());
            }
        }
    }

    fn with_all_that_it_names(&self, identifier: &'p str) -> BTreeSet<&'p str> {
        let (mut found, mut next) = (BTreeSet::new(), vec![identifier]);
        while let Some(name) = next.pop() {
            if self.wanted.contains_key(name) && found.insert(name) {
                next.extend(self.planned(name).names.iter().map(String::as_str));
            }
        }
        found
    }

    fn give_up(&mut self, identifier: &str, words: String) {
        if let Some(wanted) = self.wanted.get_mut(identifier) {
            wanted.reason = Some(words);
        }
    }

    fn kept(&self) -> impl Iterator<Item = (&'p str, &'p Planned)> {
        let kept = self.wanted.iter().filter(|(_, wanted)| wanted.kept);
        kept.map(|(identifier, _)| (*identifier, self.planned(identifier)))
    }

    /// An activation for each group whose configurations nobody's activation names. One that is itself
    /// left out counts: without its predicate they are not to apply.
    fn activations(&self, groups: &[&'p Ranked]) -> Vec<Item> {
        let kept = self.left_to_us();
        groups
            .iter()
            .filter_map(|group| {
                let of_group = group.declarations.iter().map(String::as_str);
                let configurations: Vec<&str> = of_group.filter(|name| kept.contains(name)).collect();
                (!configurations.is_empty()).then(|| own::activation(group, &configurations))
            })
            .collect()
    }

    /// The configurations that this channel gets and nobody's activation names.
    fn left_to_us(&self) -> BTreeSet<&'p str> {
        let activations =
            self.wanted.keys().map(|name| self.planned(name)).filter(|it| it.kind == Kind::Activation);
        let named: BTreeSet<&str> =
            activations.flat_map(|activation| &activation.names).map(String::as_str).collect();
        self.kept()
            .filter(|(_, planned)| planned.kind == Kind::Configuration)
            .map(|(identifier, _)| identifier)
            .filter(|identifier| !named.contains(identifier))
            .collect()
    }

    /// An activation for each set and each of its groups that the channel is in.
    fn activations_of_sets(&self, groups: &[&'p Ranked]) -> Vec<Item> {
        if self.plan.sets.is_empty() {
            return Vec::new();
        }
        let kept = self.left_to_us();
        let mut items = Vec::new();
        for set in &self.plan.sets {
            for group in groups.iter().filter(|group| set.groups.contains(&group.name)) {
                let of_set = set.declarations.iter().map(String::as_str);
                let configurations: Vec<&str> = of_set.filter(|name| kept.contains(name)).collect();
                if !configurations.is_empty() {
                    items.push(own::activation_of_set(set, group, &configurations));
                }
            }
        }
        items
    }

    fn left_out(&self) -> Vec<LeftOut> {
        let out = self.wanted.iter().filter_map(|(identifier, wanted)| {
            Some(LeftOut {
                identifier: (*identifier).to_owned(),
                declaration_type: self.planned(identifier).declaration_type.clone(),
                words: format!("{identifier} {}.", wanted.reason.as_ref()?),
            })
        });
        out.collect()
    }
}
