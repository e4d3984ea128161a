//! Synchronisation: tokens, declaration-items, declaration (Apple: `declarative/protocol/*.yaml`).
//!
//! Every answer is held against Apple's schema for it.
//!
//! **Invariant:** the DeclarationsToken is kept only once everything that it stands for was fetched.

use std::collections::BTreeMap;

use plist::{Dictionary, Value};
use serde_json::Value as Json;

use super::report::When;
use super::{Declaration, Due};
use crate::simulator::answers::Answer;
use crate::simulator::device::{Channel, Device};
use crate::simulator::fault::Fault;

const MESSAGE: &str = "DeclarativeManagement";
/// The kinds, as the manifest names them and as an endpoint does.
const KINDS: [(&str, &str); 4] = [
    ("Activations", "activation"),
    ("Configurations", "configuration"),
    ("Assets", "asset"),
    ("Management", "management"),
];

impl Device {
    /// Notes that a synchronisation is due; the tokens may have come with the command.
    pub(in crate::simulator) fn declarative_management(
        &mut self,
        keys: &Dictionary,
        channel: Channel,
    ) -> Answer {
        let token = match keys.get("Data").and_then(Value::as_data).map(sync_token) {
            Some(Err(_)) => return Answer::error(12098, "Data is not a TokensResponse."),
            Some(Ok(token)) => Some(token),
            None => None,
        };
        self.engine(channel).due = Some(Due { token });
        Answer::done()
    }

    /// Synchronises if a command asked for it; answers whether it did.
    pub async fn synchronise_if_due(&mut self, channel: Channel) -> Result<bool, Fault> {
        let Some(due) = self.engine(channel).due.take().filter(|_| self.is_enrolled()) else {
            return Ok(false);
        };
        let done = self.synchronise_with(channel, due.token).await;
        if done.is_err() && self.is_enrolled() {
            // A device that could not synchronise tries again when it connects next.
            self.engine(channel).due = Some(Due::default());
        }
        done.map(|()| true)
    }

    /// Asks for the tokens and, if they changed, for the declarations; reports status.
    pub async fn synchronise(&mut self, channel: Channel) -> Result<(), Fault> {
        self.synchronise_with(channel, None).await
    }

    async fn synchronise_with(&mut self, channel: Channel, token: Option<String>) -> Result<(), Fault> {
        let token = match token {
            Some(token) => token,
            None => sync_token(&self.endpoint(channel, "tokens", None).await?)?,
        };
        if self.engine(channel).token.as_deref() != Some(&token) {
            self.fetch_declarations(channel).await?;
        }
        self.engine(channel).forget_failed_downloads();
        self.apply(channel).await;
        self.report_status(channel, When::Changed).await?;
        self.install_apps(channel).await
    }

    async fn fetch_declarations(&mut self, channel: Channel) -> Result<(), Fault> {
        let items = self.endpoint(channel, "declaration-items", None).await?;
        let items: Json = serde_json::from_slice(&items)
            .map_err(|_| Fault::unacceptable("declaration-items is not JSON"))?;
        let wanted = read_items(&items)?;
        let Some(new_token) = items["DeclarationsToken"].as_str().map(str::to_owned) else {
            return Err(Fault::unacceptable("declaration-items has no DeclarationsToken"));
        };
        // From here on the device has neither the old set nor the new one, until all was fetched.
        self.engine(channel).token = None;
        // What is to be replaced stays in effect until its successor is here; what is gone goes.
        self.engine(channel)
            .declarations
            .retain(|identifier, had| wanted.get(identifier).is_some_and(|(kind, _)| had.kind == *kind));
        let mut is_complete = true;
        for (identifier, (kind, server_token)) in wanted {
            let had = self.engine(channel).declarations.get(&identifier);
            if had.is_some_and(|had| had.server_token == server_token) {
                continue;
            }
            let endpoint = format!("declaration/{kind}/{identifier}");
            let bytes = match self.endpoint(channel, &endpoint, None).await {
                // It was withdrawn since the items were listed; the next synchronisation lists them anew.
                Err(Fault::Refused { status: 404, .. }) => {
                    self.engine(channel).declarations.remove(&identifier);
                    is_complete = false;
                    continue;
                }
                answer => answer?,
            };
            let declaration = read_declaration(&bytes, kind, &identifier, &server_token)?;
            self.engine(channel).declarations.insert(identifier, declaration);
            self.engine(channel).fetched += 1;
        }
        self.engine(channel).token = is_complete.then_some(new_token);
        Ok(())
    }

    pub(super) async fn endpoint(
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
}

/// Kind and ServerToken of each declaration, by identifier.
fn read_items(items: &Json) -> Result<BTreeMap<String, (&'static str, String)>, Fault> {
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
            let identifier = key("Identifier")?;
            if wanted.insert(identifier.to_owned(), (kind, key("ServerToken")?.to_owned())).is_some() {
                return Err(Fault::unacceptable(format!("declaration-items lists {identifier} twice")));
            }
        }
    }
    Ok(wanted)
}

pub(super) fn sync_token(bytes: &[u8]) -> Result<String, Fault> {
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

pub(super) fn read_declaration(
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
