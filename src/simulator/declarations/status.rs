//! The values of status items (Apple: `declarative/status/*.yaml`).
//!
//! Which of them a device has, [`super::capabilities`] knows; predicates and reports read them here.
//!
//! **Invariant:** the same device in the same state says the same.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use crate::simulator::device::{Channel, Device};
use crate::simulator::kind::Kind;
use crate::simulator::profile::certificate;

impl Device {
    /// The value of a status item on a channel; `None` if there is nothing to say.
    pub(super) fn status_item(&self, item: &str, channel: Channel) -> Option<Json> {
        let model = self.kind.model();
        let update = self.update.as_ref();
        Some(match item {
            "device.identifier.serial-number" => json!(self.serial_number),
            "device.identifier.udid" => json!(self.udid),
            "device.model.family" => json!(model.family),
            "device.model.identifier" => json!(model.product_name),
            "device.model.marketing-name" => json!(model.marketing_name),
            "device.model.number" => json!(model.model),
            "device.operating-system.family" => json!(model.os_family),
            "device.operating-system.version" => json!(self.os_version),
            "device.operating-system.build-version"
            | "device.operating-system.supplemental.build-version" => json!(self.build_version),
            "device.operating-system.supplemental.extra-version" => json!(""),
            "device.operating-system.marketing-name" => {
                json!(format!("{} {}", model.os_family, self.os_version))
            }
            "device.power.battery-health" => json!("normal"),
            "device.system.health" => json!({ "Camera": "ok", "Display": "ok" }),
            "diskmanagement.filevault.enabled" => json!(self.filevault),
            "management.client-capabilities" => self.platform(channel).announce(),
            "management.declarations" => self.engine_of(channel).listed(),
            "mdm.app" => json!([]),
            "services.background-task" => self.background_tasks(channel),
            "mdm.enrollment-type" if self.platform(channel).enrollment == 's' => json!("supervised"),
            "mdm.enrollment-type" => json!("device"),
            "mdm.is-awaiting-configuration" => json!(self.awaiting_configuration),
            "mdm.is-return-to-service" | "mdm.is-shared-ipad" | "security.lockdown-mode" => json!(false),
            "mdm.push-magic" => json!(self.push_of(channel).magic),
            "mdm.push-token" => json!(STANDARD.encode(self.push_of(channel).token)),
            "passcode.is-present" => json!(self.passcode),
            "passcode.is-compliant" => json!(self.passcode || !self.engine_of(channel).requires_passcode()),
            "screensharing.connection.group.unresolved-connection" => json!([]),
            "security.certificate.list" => self.certificates(channel),
            "softwareupdate.beta-enrollment" => json!(self.engine_of(channel).required_beta().unwrap_or("")),
            "softwareupdate.device-id" if self.kind == Kind::Mac => json!("J715AP"),
            "softwareupdate.device-id" => json!(model.product_name),
            "softwareupdate.install-state" => json!(update.map_or("none", |update| update.state)),
            "softwareupdate.pending-version" => match update {
                Some(update) => json!({
                    "os-version": update.version,
                    "build-version": update.build,
                    "target-local-date-time": update.deadline,
                }),
                None => json!({ "os-version": "", "build-version": "" }),
            },
            "softwareupdate.install-reason" => match update {
                Some(update) => json!({ "reason": ["declaration"], "declaration-id": update.declaration }),
                None => json!({ "reason": [] }),
            },
            "softwareupdate.failure-reason" => match update.and_then(|update| update.failure.as_ref()) {
                Some((count, reason, at)) => json!({ "count": count, "reason": reason, "timestamp": at }),
                None => json!({ "count": 0 }),
            },
            "app.managed.list" => self.engine_of(channel).listed_apps("app.managed"),
            "package.list" => self.engine_of(channel).listed_apps("package"),
            _ if item.starts_with("account.list.") => self.accounts(channel, &item["account.list.".len()..]),
            "test.array-value" => json!([{ "key1": "one", "key2": "two" }]),
            "test.boolean-value" => json!(true),
            "test.dictionary-value" => json!({ "key1": "one", "key2": "two" }),
            "test.integer-value" => json!(42),
            "test.real-value" => json!(3.5),
            "test.string-value" => json!("text"),
            _ => return None,
        })
    }

    fn push_of(&self, channel: Channel) -> &crate::simulator::Push {
        match (channel, &self.user) {
            (Channel::User, Some(user)) => &user.push,
            _ => &self.push,
        }
    }

    /// The identity, the roots of the enrollment, and what `security.certificate` brought.
    fn certificates(&self, channel: Channel) -> Json {
        let entry = |der: &[u8], name: &str, is_identity: bool| {
            json!({
                "identifier": crate::id::hex(&crate::id::sha256(der)),
                "subject-summary": name,
                "is-identity": is_identity,
                "data": STANDARD.encode(der),
            })
        };
        let mut list = Vec::new();
        list.extend(self.identity.iter().map(|own| entry(&own.certificate, "MDM Identity", true)));
        let roots = self.management.iter().flat_map(|management| &management.roots);
        list.extend(roots.map(|root| entry(root, "Root", false)));
        let engine = self.engine_of(channel);
        for (identifier, declaration) in engine.in_effect("security.certificate") {
            let asset = declaration.payload["CredentialAssetReference"].as_str().unwrap_or_default();
            let data = engine.assets.get(asset).and_then(|asset| asset.data.as_ref().ok());
            if let Some(Ok(der)) = data.map(|data| certificate(data)) {
                let mut entry = entry(&der, asset, false);
                entry["declaration-identifier"] = json!(identifier);
                list.push(entry);
            }
        }
        Json::Array(list)
    }

    fn accounts(&self, channel: Channel, kind: &str) -> Json {
        let name = match kind {
            "caldav" => "account.caldav",
            "carddav" => "account.carddav",
            "exchange" => "account.exchange",
            "google" => "account.google",
            "ldap" => "account.ldap",
            "mail.incoming" | "mail.outgoing" => "account.mail",
            _ => "account.subscribed-calendar",
        };
        let list = self.engine_of(channel).in_effect(name).map(|(identifier, declaration)| {
            let payload = &declaration.payload;
            let host = [&payload["HostName"], &payload["IncomingServer"]["HostName"]];
            let host = host.into_iter().find_map(Json::as_str).unwrap_or_default();
            json!({
                "identifier": format!("{kind}-{identifier}"),
                "declaration-identifier": identifier,
                "visible-name": payload["VisibleName"].as_str().unwrap_or(identifier),
                "hostname": host,
            })
        });
        Json::Array(list.collect())
    }
}

impl super::Engine {
    /// The token of the beta program that a configuration in effect requires.
    fn required_beta(&self) -> Option<&str> {
        let mut settings = self.in_effect("softwareupdate.settings");
        settings.find_map(|(_, declaration)| {
            let beta = &declaration.payload["Beta"];
            beta["RequireProgram"]["Token"].as_str().filter(|_| beta["ProgramEnrollment"] == "AlwaysOn")
        })
    }

    /// Whether a passcode configuration in effect asks for one.
    fn requires_passcode(&self) -> bool {
        self.in_effect("passcode.settings").any(|(_, declaration)| {
            let payload = &declaration.payload;
            let asks = ["RequirePasscode", "RequireAlphanumericPasscode", "RequireComplexPasscode"]
                .iter()
                .any(|key| payload[*key] == true);
            asks || ["MinimumLength", "MinimumComplexCharacters"]
                .iter()
                .any(|key| payload[*key].as_u64().is_some_and(|length| length > 0))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::simulator::Trust;

    /// Items of things that simulated devices do not have.
    const SILENT: [&str; 10] = [
        "content-cache.info",
        "content-cache.parents",
        "content-cache.peers",
        "content-cache.status",
        "enhanced-logging.applecare-token",
        "enhanced-logging.status",
        "enhanced-logging.timestamp",
        "migration-assistant.report",
        "migration-assistant.state",
        "test.error-value",
    ];

    #[test]
    fn every_item_that_is_announced_has_a_value() {
        for kind in Kind::ALL {
            let mut device = Device::new(kind, 0, &Trust::nobody(), Clock::set_to(1_800_000_000));
            device.os_version = "27.0".to_owned();
            for channel in [Channel::Device, Channel::User] {
                for item in device.platform(channel).items() {
                    let has = device.status_item(item, channel).is_some();
                    assert_eq!(has, !SILENT.contains(&item), "{item}");
                }
            }
        }
    }
}
