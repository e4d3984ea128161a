//! The declarative engine of a channel (Apple: "Leveraging the declarative management data model").
//!
//! A DeclarativeManagement command says "synchronise now"; after the connection the engine asks for
//! tokens, then items, fetches what it does not have ([`sync`]), applies it ([`apply`], with
//! [`predicate`] and what the platform knows, [`capabilities`]) and reports what changed ([`report`]).
//!
//! **Invariant:** a declaration whose ServerToken is known is never fetched again.

mod apply;
mod apps;
mod assets;
mod capabilities;
mod effects;
mod predicate;
mod report;
mod services;
mod status;
mod sync;
#[cfg(test)]
mod tests;
mod update;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};

use self::apps::App;
use self::assets::Asset;
use self::capabilities::Platform;
use self::effects::Installed;
use self::report::Reported;
pub use self::update::Update;
use super::device::{Channel, Device};

/// What a channel knows of its declarations.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    /// By identifier.
    pub declarations: BTreeMap<String, Declaration>,
    /// DeclarationsToken of the last synchronisation.
    pub token: Option<String>,
    /// How many declarations were fetched so far.
    pub fetched: u64,
    /// How many status reports the server took so far.
    pub reports: u64,
    /// How each declaration stands, by identifier.
    states: BTreeMap<String, State>,
    due: Option<Due>,
    reported: Option<Reported>,
    /// Data of assets that were fetched, by the declaration's identifier.
    assets: BTreeMap<String, Asset>,
    /// Profiles of `legacy` configurations, by the declaration's identifier.
    installed: BTreeMap<String, Installed>,
    /// Apps and packages of configurations that are in effect, by the declaration's identifier.
    apps: BTreeMap<String, App>,
}

/// A synchronisation that a command asked for, with the token that came with it.
#[derive(Clone, Debug, Default)]
struct Due {
    token: Option<String>,
}

/// A declaration on the device.
#[derive(Clone, Debug)]
pub struct Declaration {
    /// `activation`, `configuration`, `asset` or `management`.
    pub kind: &'static str,
    /// The type, e.g. `com.apple.configuration.management.test`.
    pub declaration_type: String,
    /// ServerToken.
    pub server_token: String,
    /// Payload.
    pub payload: Json,
}

/// How a declaration stands, as `management.declarations` reports it.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Whether it is in effect.
    pub active: bool,
    /// `valid`, `invalid` or `unknown`.
    pub valid: &'static str,
    /// Why it is not otherwise.
    pub reasons: Vec<Reason>,
}

/// Apple's code, words, and what belongs to the code.
#[derive(Clone, Debug, PartialEq)]
pub struct Reason {
    /// E.g. `Info.Predicate`.
    pub code: &'static str,
    /// For people.
    pub description: String,
    /// As Apple documents it for the code.
    pub details: Json,
}

impl State {
    fn valid(active: bool) -> Self {
        Self { active, valid: "valid", reasons: Vec::new() }
    }

    fn invalid(active: bool, reason: Reason) -> Self {
        Self { active, valid: "invalid", reasons: vec![reason] }
    }

    fn unknown(reason: Reason) -> Self {
        Self { active: false, valid: "unknown", reasons: vec![reason] }
    }
}

impl Reason {
    fn new(code: &'static str, description: impl Into<String>, details: Json) -> Self {
        Self { code, description: description.into(), details }
    }

    /// One whose details are the underlying error.
    fn error(code: &'static str, words: impl Into<String>) -> Self {
        let words = words.into();
        Self { code, details: json!({ "Error": words }), description: words }
    }
}

impl Device {
    /// How each declaration of a channel stands, by identifier.
    pub fn declarations(&self, channel: Channel) -> &BTreeMap<String, State> {
        &self.engine_of(channel).states
    }

    /// The identifiers of the declarations that are in effect on a channel.
    pub fn active_declarations(&self, channel: Channel) -> BTreeSet<&str> {
        let states = self.engine_of(channel).states.iter();
        states.filter(|(_, state)| state.active).map(|(identifier, _)| identifier.as_str()).collect()
    }

    /// Looks at the device anew after something changed on it, and reports what did on a channel;
    /// answers whether there was anything.
    pub async fn report_changes(&mut self, channel: Channel) -> Result<bool, super::Fault> {
        self.apply(channel).await;
        let reported = self.report_status(channel, report::When::Changed).await?;
        self.install_apps(channel).await?;
        Ok(reported)
    }

    /// Sends a status report, even if nothing changed; the first one is full.
    pub async fn send_status(&mut self, channel: Channel) -> Result<(), super::Fault> {
        self.apply(channel).await;
        self.report_status(channel, report::When::Always).await.map(drop)
    }

    /// Sends a full report, as devices do about daily.
    pub async fn send_full_status(&mut self, channel: Channel) -> Result<(), super::Fault> {
        self.apply(channel).await;
        self.report_status(channel, report::When::Full).await.map(drop)
    }

    pub(super) fn engine(&mut self, channel: Channel) -> &mut Engine {
        match (channel, &mut self.user) {
            (Channel::User, Some(user)) => &mut user.declarations,
            _ => &mut self.declarations,
        }
    }

    fn engine_of(&self, channel: Channel) -> &Engine {
        match (channel, &self.user) {
            (Channel::User, Some(user)) => &user.declarations,
            _ => &self.declarations,
        }
    }

    fn platform(&self, channel: Channel) -> Platform {
        Platform::new(self.kind, &self.os_version, self.supervised, channel == Channel::User)
    }
}

impl Engine {
    /// The active and valid configurations of a type, its full name without `com.apple.configuration.`.
    fn in_effect<'a>(
        &'a self,
        name: &'static str,
    ) -> impl Iterator<Item = (&'a String, &'a Declaration)> + 'a {
        self.declarations.iter().filter(move |(identifier, declaration)| {
            declaration.declaration_type.strip_prefix("com.apple.configuration.") == Some(name)
                && self.states.get(*identifier).is_some_and(|state| state.active && state.valid == "valid")
        })
    }
}
