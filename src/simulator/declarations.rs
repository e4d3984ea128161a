//! The declarative engine of a channel (Apple: "Leveraging the declarative management data model").
//!
//! A DeclarativeManagement command says "synchronise now"; after the connection the engine asks for
//! tokens, then items, fetches what it does not have, applies it and reports status. Every answer is
//! held against Apple's schema for it.
//!
//! **Invariant:** a declaration whose ServerToken is known is never fetched again.

use std::collections::BTreeMap;

use plist::{Dictionary, Value};
use serde_json::{Value as Json, json};

use super::answers::Answer;
use super::device::{Channel, Device};
use super::fault::Fault;

const MESSAGE: &str = "DeclarativeManagement";
/// The kinds, as the manifest names them and as an endpoint does.
const KINDS: [(&str, &str); 4] = [
    ("Activations", "activation"),
    ("Configurations", "configuration"),
    ("Assets", "asset"),
    ("Management", "management"),
];

/// What a channel knows of its declarations.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    /// By identifier.
    pub declarations: BTreeMap<String, Declaration>,
    /// DeclarationsToken of the last synchronisation.
    pub token: Option<String>,
    due: bool,
    has_reported: bool,
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

impl Device {
    /// Notes that a synchronisation is due; the tokens may have come with the command.
    pub(super) fn declarative_management(&mut self, keys: &Dictionary, channel: Channel) -> Answer {
        if let Some(data) = keys.get("Data").and_then(Value::as_data)
            && sync_token(data).is_err()
        {
            return Answer::error(12098, "Data is not a TokensResponse.");
        }
        self.engine(channel).due = true;
        Answer::done()
    }

    /// Synchronises if a command asked for it; answers whether it did.
    pub async fn synchronise_if_due(&mut self, channel: Channel) -> Result<bool, Fault> {
        if !std::mem::take(&mut self.engine(channel).due) || !self.is_enrolled() {
            return Ok(false);
        }
        self.synchronise(channel).await?;
        Ok(true)
    }

    /// Asks for the tokens and, if they changed, for the declarations; reports status.
    pub async fn synchronise(&mut self, channel: Channel) -> Result<(), Fault> {
        let token = sync_token(&self.endpoint(channel, "tokens", None).await?)?;
        if self.engine(channel).token.as_deref() == Some(&token) && self.engine(channel).has_reported {
            return Ok(());
        }
        let items = self.endpoint(channel, "declaration-items", None).await?;
        let items: Json = serde_json::from_slice(&items)
            .map_err(|_| Fault::unacceptable("declaration-items is not JSON"))?;
        let mut wanted = BTreeMap::new();
        for (manifest, kind) in KINDS {
            let list = items["Declarations"][manifest].as_array().ok_or_else(|| {
                Fault::unacceptable(format!("declaration-items has no array Declarations.{manifest}"))
            })?;
            for item in list {
                let key = |name: &str| {
                    item[name].as_str().filter(|text| (1..=64).contains(&text.len())).ok_or_else(|| {
                        Fault::unacceptable(format!("an item of {manifest} has no {name} of 1 to 64 bytes"))
                    })
                };
                wanted.insert(key("Identifier")?.to_owned(), (kind, key("ServerToken")?.to_owned()));
            }
        }
        let Some(new_token) = items["DeclarationsToken"].as_str().map(str::to_owned) else {
            return Err(Fault::unacceptable("declaration-items has no DeclarationsToken"));
        };
        self.engine(channel).declarations.retain(|identifier, had| {
            wanted
                .get(identifier)
                .is_some_and(|(kind, token)| had.kind == *kind && had.server_token == *token)
        });
        let mut is_complete = true;
        for (identifier, (kind, server_token)) in wanted {
            if self.engine(channel).declarations.contains_key(&identifier) {
                continue;
            }
            let endpoint = format!("declaration/{kind}/{identifier}");
            let bytes = match self.endpoint(channel, &endpoint, None).await {
                // It was withdrawn since the items were listed; the next synchronisation lists them anew.
                Err(Fault::Refused { status: 404, .. }) => {
                    is_complete = false;
                    continue;
                }
                answer => answer?,
            };
            let declaration = read_declaration(&bytes, kind, &identifier, &server_token)?;
            self.engine(channel).declarations.insert(identifier, declaration);
        }
        self.engine(channel).token = is_complete.then_some(new_token);
        self.send_status(channel).await
    }

    /// Sends a status report; the first one is full.
    pub async fn send_status(&mut self, channel: Channel) -> Result<(), Fault> {
        let model = self.kind.model();
        let (os_version, serial, udid) =
            (self.os_version.clone(), self.serial_number.clone(), self.udid.clone());
        let engine = self.engine(channel);
        let mut report =
            json!({ "StatusItems": { "management": { "declarations": engine.status() } }, "Errors": [] });
        if !engine.has_reported {
            report["FullReport"] = true.into();
            report["StatusItems"]["management"]["client-capabilities"] = capabilities();
            report["StatusItems"]["device"] = json!({
                "identifier": { "serial-number": serial, "udid": udid },
                "model": {
                    "family": model.family,
                    "identifier": model.product_name,
                    "marketing-name": model.marketing_name,
                    "number": model.model,
                },
                "operating-system": {
                    "family": model.os_family,
                    "version": os_version,
                    "build-version": model.build_version,
                    "marketing-name": format!("{} {os_version}", model.os_family),
                },
            });
        }
        self.endpoint(channel, "status", Some(report.to_string().into_bytes())).await?;
        self.engine(channel).has_reported = true;
        Ok(())
    }

    async fn endpoint(
        &mut self,
        channel: Channel,
        endpoint: &str,
        data: Option<Vec<u8>>,
    ) -> Result<Vec<u8>, Fault> {
        let mut message = self.message(MESSAGE, channel)?;
        message.insert("Endpoint".into(), Value::from(endpoint));
        if let Some(data) = data {
            message.insert("Data".into(), Value::Data(data));
        }
        Ok(self.check_in(message).await?.body)
    }

    pub(super) fn engine(&mut self, channel: Channel) -> &mut Engine {
        match (channel, &mut self.user) {
            (Channel::User, Some(user)) => &mut user.declarations,
            _ => &mut self.declarations,
        }
    }
}

fn sync_token(bytes: &[u8]) -> Result<String, Fault> {
    let tokens: Json =
        serde_json::from_slice(bytes).map_err(|_| Fault::unacceptable("tokens is not JSON"))?;
    let tokens = &tokens["SyncTokens"];
    let timestamp = tokens["Timestamp"].as_str().unwrap_or_default();
    if timestamp.contains('.') || crate::clock::parse_rfc3339(timestamp).is_none() {
        return Err(Fault::unacceptable("SyncTokens.Timestamp is not RFC 3339 in whole seconds"));
    }
    let token = tokens["DeclarationsToken"].as_str().filter(|token| !token.is_empty());
    token.map(str::to_owned).ok_or_else(|| Fault::unacceptable("SyncTokens has no DeclarationsToken"))
}

fn read_declaration(
    bytes: &[u8],
    kind: &'static str,
    identifier: &str,
    server_token: &str,
) -> Result<Declaration, Fault> {
    let wrong = |what: &str| Fault::unacceptable(format!("the declaration {identifier} {what}"));
    let mut declaration: Json = serde_json::from_slice(bytes).map_err(|_| wrong("is not JSON"))?;
    if declaration["Identifier"] != identifier {
        return Err(wrong("names another Identifier"));
    }
    if declaration["ServerToken"] != server_token {
        return Err(wrong("has another ServerToken than declaration-items said"));
    }
    let declaration_type = declaration["Type"].as_str().unwrap_or_default().to_owned();
    if !declaration_type.starts_with(&format!("com.apple.{kind}.")) {
        return Err(wrong(&format!("is served as {kind}, but its Type is `{declaration_type}`")));
    }
    if !declaration["Payload"].is_object() {
        return Err(wrong("has no Payload object"));
    }
    let payload = declaration["Payload"].take();
    Ok(Declaration { kind, declaration_type, server_token: server_token.to_owned(), payload })
}

impl Engine {
    /// `management.declarations`: what is active, what is valid, and why not.
    fn status(&self) -> Json {
        let mut lists = json!({ "activations": [], "configurations": [], "assets": [], "management": [] });
        for (identifier, declaration) in &self.declarations {
            let (active, valid, reason) = self.judge(identifier, declaration);
            let mut entry = json!({
                "identifier": identifier,
                "server-token": declaration.server_token,
                "active": active,
                "valid": valid,
            });
            if let Some((code, description)) = reason {
                entry["reasons"] = json!([{ "code": code, "description": description }]);
            }
            let list = match declaration.kind {
                "activation" => "activations",
                "configuration" => "configurations",
                "asset" => "assets",
                other => other,
            };
            if let Some(list) = lists[list].as_array_mut() {
                list.push(entry);
            }
        }
        lists
    }

    fn judge(
        &self,
        identifier: &str,
        declaration: &Declaration,
    ) -> (bool, &'static str, Option<(&'static str, &'static str)>) {
        match declaration.kind {
            "activation" if self.lacks_configurations(declaration) => {
                (false, "invalid", Some(("Error.MissingConfigurations", "Configurations are missing.")))
            }
            "activation" => (true, "valid", None),
            "configuration" if !self.is_referenced(identifier, "activation") => (
                false,
                "unknown",
                Some(("Info.NotReferencedByActivation", "No active activation refers to it.")),
            ),
            "configuration" if declaration.payload["ReturnStatus"] == "Failed" => (
                true,
                "invalid",
                Some(("Error.ConfigurationCannotBeApplied", "Configuration cannot be applied")),
            ),
            "configuration" => (true, "valid", None),
            "asset" if !self.is_referenced(identifier, "configuration") => (
                false,
                "unknown",
                Some(("Info.NotReferencedByConfiguration", "No configuration refers to it.")),
            ),
            "asset" => (true, "valid", None),
            // As in the reports of real devices, management declarations are valid without being active.
            _ => (false, "valid", None),
        }
    }

    fn lacks_configurations(&self, activation: &Declaration) -> bool {
        let names = activation.payload["StandardConfigurations"].as_array().map_or(&[][..], Vec::as_slice);
        !names.iter().all(|name| {
            let found = name.as_str().and_then(|name| self.declarations.get(name));
            found.is_some_and(|declaration| declaration.kind == "configuration")
        })
    }

    /// Whether a declaration of `kind` names `identifier` anywhere in its payload.
    fn is_referenced(&self, identifier: &str, kind: &str) -> bool {
        fn names(value: &Json, identifier: &str) -> bool {
            match value {
                Json::String(text) => text == identifier,
                Json::Array(list) => list.iter().any(|value| names(value, identifier)),
                Json::Object(object) => object.values().any(|value| names(value, identifier)),
                _ => false,
            }
        }
        self.declarations.values().any(|other| {
            let counts = kind != "activation" || !self.lacks_configurations(other);
            other.kind == kind && counts && names(&other.payload, identifier)
        })
    }
}

fn capabilities() -> Json {
    json!({
        "supported-versions": ["1.0.0"],
        "supported-features": {},
        "supported-payloads": {
            "declarations": {
                "activations": ["com.apple.activation.simple"],
                "assets": [
                    "com.apple.asset.credential.certificate",
                    "com.apple.asset.credential.userpassword",
                    "com.apple.asset.data",
                    "com.apple.asset.useridentity",
                ],
                "configurations": [
                    "com.apple.configuration.legacy",
                    "com.apple.configuration.management.status-subscriptions",
                    "com.apple.configuration.management.test",
                    "com.apple.configuration.passcode.settings",
                ],
                "management": [
                    "com.apple.management.organization-info",
                    "com.apple.management.properties",
                ],
            },
            "status-items": [
                "device.identifier.serial-number",
                "device.identifier.udid",
                "device.model.family",
                "device.model.identifier",
                "device.operating-system.version",
                "management.client-capabilities",
                "management.declarations",
            ],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(declarations: [(&str, &'static str, Json); 3]) -> Engine {
        let declarations = declarations.map(|(identifier, kind, payload)| {
            let server_token = "1".to_owned();
            (
                identifier.to_owned(),
                Declaration { kind, declaration_type: String::new(), server_token, payload },
            )
        });
        Engine { declarations: declarations.into(), ..Engine::default() }
    }

    #[test]
    fn status_says_what_is_active_and_why_not() {
        let status = engine([
            ("a", "activation", json!({ "StandardConfigurations": ["b"] })),
            ("b", "configuration", json!({ "Echo": "x" })),
            ("c", "configuration", json!({ "Echo": "y" })),
        ])
        .status();
        assert_eq!(status["activations"][0]["active"], true);
        assert_eq!(status["configurations"][0]["valid"], "valid");
        assert_eq!(status["configurations"][1]["reasons"][0]["code"], "Info.NotReferencedByActivation");
    }

    #[test]
    fn an_activation_without_its_configurations_is_invalid() {
        let status = engine([
            ("a", "activation", json!({ "StandardConfigurations": ["b", "missing"] })),
            ("b", "configuration", json!({})),
            ("m", "management", json!({})),
        ])
        .status();
        assert_eq!(status["activations"][0]["reasons"][0]["code"], "Error.MissingConfigurations");
        assert_eq!(status["configurations"][0]["active"], false);
        assert_eq!(status["management"][0]["valid"], "valid");
    }

    #[test]
    fn answers_that_apple_does_not_document_are_refused() {
        let fractions = br#"{"SyncTokens":{"DeclarationsToken":"x","Timestamp":"2026-01-31T12:00:00.5Z"}}"#;
        assert!(sync_token(fractions).is_err());
        let fine = br#"{"SyncTokens":{"DeclarationsToken":"x","Timestamp":"2026-01-31T12:00:00Z"}}"#;
        assert_eq!(sync_token(fine).unwrap(), "x");
        let wrong_kind =
            br#"{"Type":"com.apple.asset.data","Identifier":"a","ServerToken":"1","Payload":{}}"#;
        let fault = read_declaration(wrong_kind, "configuration", "a", "1").unwrap_err();
        assert!(fault.to_string().contains("com.apple.asset.data"));
    }
}
