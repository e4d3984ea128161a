//! InstallProfile, RemoveProfile and ProfileList, and the renewal of the enrollment profile.
//!
//! An enrollment profile with the installed one's PayloadIdentifier renews it: immutable keys are
//! compared as Apple documents for `com.apple.mdm`, a new identity is fetched, and the device says
//! Authenticate and TokenUpdate with it before it acknowledges.
//!
//! **Invariant:** a renewal that fails leaves the old identity and profile in use.

use plist::{Dictionary, Value};

use super::answers::Answer;
use super::device::{Channel, Device};
use super::fault::Fault;
use super::profile::{self, Management, Profile};

impl Device {
    /// Installs a configuration profile, or renews the enrollment profile with one.
    pub(super) async fn install_profile(&mut self, bytes: &[u8]) -> Answer {
        let profile = match Profile::read(bytes) {
            Ok(profile) => profile,
            Err(fault) => return Answer::error(4001, &fault.to_string()),
        };
        if Management::is_in(&profile) {
            return match self.renew(profile).await {
                Ok(()) => Answer::done(),
                Err(fault) => {
                    let label = self.label();
                    self.meter.failed(&format!("a renewal was not installed: {fault}"), &label);
                    Answer::error(4001, &fault.to_string())
                }
            };
        }
        for payload in profile.payloads_of("com.apple.security.root") {
            let content = payload.get("PayloadContent").and_then(Value::as_data).unwrap_or_default();
            if let Err(fault) = profile::certificate(content).and_then(|der| self.wire.trust_also(&der)) {
                return Answer::error(4001, &fault.to_string());
            }
        }
        self.profiles.retain(|installed| installed.identifier != profile.identifier);
        self.profiles.push(profile);
        Answer::done()
    }

    async fn renew(&mut self, profile: Profile) -> Result<(), Fault> {
        let newer = Management::read(&profile)?;
        let current = self.managed()?.clone();
        if newer.identifier != current.identifier {
            return Err(Fault::unacceptable(format!(
                "the device is managed by the profile {} and takes no second one ({})",
                current.identifier, newer.identifier
            )));
        }
        if let Some(words) = current.forbids(&newer) {
            return Err(Fault::unacceptable(words));
        }
        for root in &newer.roots {
            self.wire.trust_also(root)?;
        }
        let identity = self.obtain_identity(&newer).await?;
        let before = (self.identity.clone(), self.profiles.clone());
        self.adopt(profile, newer, identity);
        let mut said = self.authenticate().await;
        if said.is_ok() {
            said = self.token_update(Channel::Device).await;
        }
        if said.is_err() && self.is_enrolled() {
            (self.identity, self.profiles) = before;
            self.management = Some(current);
            let presented = self.identity.clone().filter(|_| self.presents_certificate);
            self.wire.present(presented);
        }
        said
    }

    pub(super) fn remove_profile(&mut self, identifier: &str) -> Answer {
        let is_ours = self.management.as_ref().is_some_and(|m| m.identifier == identifier);
        let before = self.profiles.len();
        if self.is_declared(identifier) {
            return Answer::error(12075, "The profile is managed by a declaration.");
        }
        if !is_ours {
            self.profiles.retain(|installed| installed.identifier != identifier);
        }
        if self.profiles.len() == before {
            let words =
                format!("The profile “{}” is not installed by MDM.", crate::id::printable(identifier));
            return Answer::error(12075, &words);
        }
        Answer::done()
    }

    pub(super) fn profile_list(&self, keys: &Dictionary) -> Answer {
        let managed_only = keys.get("ManagedOnly").and_then(Value::as_boolean).unwrap_or(false);
        let own = self.management.as_ref().map(|management| management.identifier.as_str());
        let list = self
            .profiles
            .iter()
            .filter(|profile| !managed_only || Some(profile.identifier.as_str()) != own)
            .map(|profile| listed(profile, Some(profile.identifier.as_str()) != own))
            .collect();
        Answer::with([("ProfileList", Value::Array(list))])
    }
}

fn listed(profile: &Profile, is_managed: bool) -> Value {
    let copied = |from: &Dictionary, names: &[&str]| {
        let mut keys = Dictionary::new();
        for name in names {
            if let Some(value) = from.get(name) {
                keys.insert((*name).to_owned(), value.clone());
            }
        }
        keys
    };
    let mut keys = copied(
        &profile.keys,
        &[
            "PayloadIdentifier",
            "PayloadUUID",
            "PayloadVersion",
            "PayloadDisplayName",
            "PayloadDescription",
            "PayloadOrganization",
            "PayloadRemovalDisallowed",
        ],
    );
    let content = profile.payloads.iter().map(|payload| {
        let names = ["PayloadIdentifier", "PayloadType", "PayloadVersion", "PayloadDisplayName"];
        Value::Dictionary(copied(payload, &names))
    });
    keys.insert("PayloadContent".into(), Value::Array(content.collect()));
    keys.insert("IsManaged".into(), is_managed.into());
    keys.insert("IsEncrypted".into(), false.into());
    keys.insert("HasRemovalPasscode".into(), false.into());
    if let Some(signer) = &profile.signer {
        keys.insert("SignerCertificates".into(), Value::Array(vec![Value::Data(signer.clone())]));
    }
    Value::Dictionary(keys)
}
