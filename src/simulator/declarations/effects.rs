//! What configurations that are in effect do to the device.
//!
//! Profiles of `legacy` come and go with their configurations; apps and packages are queued
//! ([`super::apps`]); a test fails if it says so. Everything else that configurations change is read
//! from those in effect when it is asked for ([`super::status`]), so nothing is left when they go.
//!
//! **Invariant:** what a declaration brought is removed with it.

use serde_json::Value as Json;

use super::apply::references;
use super::{Declaration, Reason, State};
use crate::simulator::answers::Status;
use crate::simulator::device::{Channel, Device};
use crate::simulator::profile::{Management, Profile};

const CANNOT: &str = "Error.ConfigurationCannotBeApplied";

/// What came of installing the profile that a configuration points to.
#[derive(Clone, Debug)]
pub(super) struct Installed {
    pub(super) server_token: String,
    /// Its PayloadIdentifier, or why not.
    pub(super) outcome: Result<String, Reason>,
    /// Whether the server could not be reached or was in trouble.
    pub(super) is_worth_another_try: bool,
}

/// Words, and whether another try may help.
struct Failed {
    words: String,
    is_worth_another_try: bool,
}

impl From<String> for Failed {
    fn from(words: String) -> Self {
        Self { words, is_worth_another_try: false }
    }
}

impl Device {
    /// Lets the configurations take effect; those that fail are marked so.
    pub(super) async fn take_effect(&mut self, channel: Channel) {
        let failed = self.fetch_assets(channel).await;
        for (asset, reason) in failed {
            let engine = self.engine(channel);
            for (identifier, declaration) in &engine.declarations {
                let refers =
                    declaration.kind == "configuration" && references(&declaration.payload).contains(&asset);
                if let Some(state) = engine.states.get_mut(identifier).filter(|state| refers && state.active)
                {
                    let words = format!("The asset {asset} cannot be used: {}", reason.description);
                    *state = State::invalid(true, Reason::error(CANNOT, words));
                }
            }
            engine.states.insert(asset, State::invalid(true, reason));
        }
        self.install_declared(channel).await;
        self.engine(channel).settle_apps();
        if channel == Channel::Device {
            self.follow_updates();
        }
    }

    async fn install_declared(&mut self, channel: Channel) {
        let engine = self.engine(channel);
        let active: Vec<(String, Declaration)> = engine
            .declarations
            .iter()
            .filter(|(identifier, declaration)| {
                declaration.kind == "configuration"
                    && engine.states.get(*identifier).is_some_and(|s| s.active && s.valid == "valid")
            })
            .map(|(identifier, declaration)| (identifier.clone(), declaration.clone()))
            .collect();
        for (identifier, declaration) in &active {
            if let Err(reason) = self.install(identifier, declaration, channel).await {
                self.engine(channel).states.insert(identifier.clone(), State::invalid(true, reason));
            }
        }
        let engine = self.engine(channel);
        let (kept, gone) = std::mem::take(&mut engine.installed)
            .into_iter()
            .partition(|(identifier, _)| active.iter().any(|(name, _)| name == identifier));
        engine.installed = kept;
        self.retract(gone.into_values());
    }

    async fn install(
        &mut self,
        identifier: &str,
        declaration: &Declaration,
        channel: Channel,
    ) -> Result<(), Reason> {
        if let Some(done) = self.engine_of(channel).judge_service(identifier, declaration) {
            return done;
        }
        let payload = &declaration.payload;
        match declaration.declaration_type.as_str() {
            "com.apple.configuration.management.test" if payload["ReturnStatus"] == "Failed" => {
                return Err(Reason::error(CANNOT, "Configuration cannot be applied"));
            }
            "com.apple.configuration.legacy" | "com.apple.configuration.legacy.interactive" => {}
            _ => return Ok(()),
        }
        let known = self.engine(channel).installed.get(identifier).cloned();
        if let Some(known) = known.as_ref().filter(|known| known.server_token == declaration.server_token) {
            return known.outcome.clone().map(drop);
        }
        let outcome = self.install_declared_profile(payload, channel).await;
        let is_worth_another_try = outcome.as_ref().is_err_and(|failed| failed.is_worth_another_try);
        let outcome = outcome.map_err(|failed| Reason::error(CANNOT, failed.words));
        let said = outcome.clone().map(drop);
        let server_token = declaration.server_token.clone();
        let installed = Installed { server_token, outcome, is_worth_another_try };
        self.engine(channel).installed.insert(identifier.to_owned(), installed);
        // The profile that it replaces goes, unless it was replaced under the same identifier.
        self.retract(known.into_iter());
        said
    }

    async fn install_declared_profile(&mut self, payload: &Json, channel: Channel) -> Result<String, Failed> {
        let failed = |words: &str| Failed::from(words.to_owned());
        let bytes = if let Some(asset) = payload["ProfileAssetReference"].as_str() {
            let asset = self.engine(channel).assets.get(asset).cloned();
            asset.and_then(|asset| asset.data.ok()).ok_or_else(|| failed("The profile is not here."))?
        } else {
            let Some(url) = payload["ProfileURL"].as_str() else {
                return Err(failed("There is no ProfileURL."));
            };
            if !self.is_own_server(url) {
                return Err(failed(&format!("{url} is not on the device management service.")));
            }
            self.download("profile", url).await?
        };
        let profile = Profile::read(&bytes).map_err(|fault| failed(&fault.to_string()))?;
        if Management::is_in(&profile) {
            return Err(failed("A profile that manages the device cannot be declared."));
        }
        let answer = self.install_profile(&bytes).await;
        if answer.status == Status::Acknowledged {
            return Ok(profile.identifier);
        }
        Err(failed("The profile could not be installed."))
    }

    /// ProfileURL must be on the server that manages the device.
    fn is_own_server(&self, url: &str) -> bool {
        let authority = |url: &str| {
            url.parse::<hyper::Uri>().ok().and_then(|uri| uri.authority().map(ToString::to_string))
        };
        let own = self.management.as_ref().and_then(|management| authority(&management.server_url));
        own.is_some() && own == authority(url)
    }

    /// Fetches with the device's identity.
    async fn download(&mut self, what: &str, url: &str) -> Result<Vec<u8>, Failed> {
        let fetched = self.fetch(url).await;
        let reply =
            fetched.map_err(|fault| Failed { words: fault.to_string(), is_worth_another_try: true })?;
        if reply.status != 200 {
            let words = format!("The server answered {} when asked for the {what}.", reply.status);
            return Err(Failed { words, is_worth_another_try: reply.status >= 500 });
        }
        self.meter.took(what, reply.took);
        Ok(reply.body)
    }

    /// Removes profiles whose configurations are gone, unless another one brought them too.
    fn retract(&mut self, gone: impl Iterator<Item = Installed>) {
        for identifier in gone.filter_map(|gone| gone.outcome.ok()) {
            if !self.is_declared(&identifier) {
                self.profiles.retain(|profile| profile.identifier != identifier);
            }
        }
    }

    /// Whether a declaration brought this profile: commands cannot change it then.
    pub(in crate::simulator) fn is_declared(&self, profile: &str) -> bool {
        let engines = [Some(&self.declarations), self.user.as_ref().map(|user| &user.declarations)];
        let mut installed = engines.into_iter().flatten().flat_map(|engine| engine.installed.values());
        installed.any(|installed| installed.outcome.as_deref().is_ok_and(|name| name == profile))
    }
}
