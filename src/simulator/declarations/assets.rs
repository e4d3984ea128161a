//! Data of assets (Apple: `com.apple.asset.data` and its siblings, key `Reference`).
//!
//! It is fetched with the device's identity, unless the asset says that nobody need be proven, and
//! held against what the declaration says of it.
//!
//! **Invariant:** data that does not match its declaration is never used.

use hyper::Method;
use hyper::header::HeaderMap;
use serde_json::Value as Json;

use super::{Declaration, Reason};
use crate::simulator::device::{Channel, Device};
use crate::simulator::wire::Reply;

/// What came of fetching an asset.
#[derive(Clone, Debug)]
pub(super) struct Asset {
    pub(super) server_token: String,
    pub(super) data: Result<Vec<u8>, Reason>,
}

impl super::Engine {
    /// What could not be downloaded is tried again; what is wrong in itself only when it changes.
    pub(super) fn forget_failed_downloads(&mut self) {
        self.retry_apps();
        self.installed.retain(|_, installed| !installed.is_worth_another_try);
        self.assets.retain(|_, asset| {
            asset.data.as_ref().err().is_none_or(|reason| reason.code != "Error.AssetCannotBeDownloaded")
        });
    }
}

impl Device {
    /// Fetches the data of the assets that are in use and not here yet; answers what failed.
    pub(super) async fn fetch_assets(&mut self, channel: Channel) -> Vec<(String, Reason)> {
        let engine = self.engine(channel);
        let used: Vec<(String, Declaration)> = engine
            .declarations
            .iter()
            .filter(|(identifier, asset)| {
                asset.kind == "asset" && engine.states.get(*identifier).is_some_and(|state| state.active)
            })
            .filter(|(_, asset)| asset.payload["Reference"].is_object())
            .map(|(identifier, asset)| (identifier.clone(), asset.clone()))
            .collect();
        engine.assets.retain(|identifier, asset| {
            used.iter()
                .any(|(used, declared)| used == identifier && declared.server_token == asset.server_token)
        });
        let mut failed = Vec::new();
        for (identifier, declared) in used {
            if !self.engine(channel).assets.contains_key(&identifier) {
                let data = self.fetch_asset(&declared.payload).await;
                let asset = Asset { server_token: declared.server_token, data };
                self.engine(channel).assets.insert(identifier.clone(), asset);
            }
            if let Some(Asset { data: Err(reason), .. }) = self.engine(channel).assets.get(&identifier) {
                failed.push((identifier, reason.clone()));
            }
        }
        failed
    }

    async fn fetch_asset(&mut self, payload: &Json) -> Result<Vec<u8>, Reason> {
        let reference = &payload["Reference"];
        let failed = |words: String| Reason::error("Error.AssetCannotBeDownloaded", words);
        let Some(url) = reference["DataURL"].as_str() else {
            return Err(failed("The asset has no DataURL.".to_owned()));
        };
        let anonymous = payload["Authentication"]["Type"] == "None";
        let reply = if anonymous {
            self.wire.send(Method::GET, url, HeaderMap::new(), Vec::new()).await
        } else {
            self.fetch(url).await
        };
        let reply = reply.map_err(|fault| failed(fault.to_string()))?;
        if reply.status != 200 {
            return Err(failed(format!("The server answered {}.", reply.status)));
        }
        self.meter.took("asset", reply.took);
        match mismatch(reference, &reply) {
            Some(words) => Err(Reason::error("Error.AssetCannotBeVerified", words)),
            None => Ok(reply.body),
        }
    }
}

fn mismatch(reference: &Json, reply: &Reply) -> Option<String> {
    let size = reply.body.len();
    if reference["Size"].as_u64().is_some_and(|wanted| u64::try_from(size) != Ok(wanted)) {
        return Some(format!("The data has {size} bytes, not {}.", reference["Size"]));
    }
    let hash = crate::id::hex(&crate::id::sha256(&reply.body));
    if reference["Hash-SHA-256"].as_str().is_some_and(|wanted| !wanted.eq_ignore_ascii_case(&hash)) {
        return Some(format!("The data has the SHA-256 hash {hash}."));
    }
    let kind = reply.content_type();
    if reference["ContentType"].as_str().is_some_and(|wanted| !wanted.eq_ignore_ascii_case(&kind)) {
        return Some(format!("The data came as `{kind}`, not as {}.", reference["ContentType"]));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{CONTENT_TYPE, HeaderValue};
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn data_is_held_against_its_declaration() {
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("Text/Plain; charset=utf-8"))]);
        let reply = Reply { status: 200, headers, body: b"abc".to_vec(), took: Duration::ZERO };
        let hash = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";
        let fits = json!({ "Size": 3, "Hash-SHA-256": hash, "ContentType": "text/plain" });
        assert_eq!(mismatch(&fits, &reply), None);
        for wrong in [json!({ "Size": 4 }), json!({ "Hash-SHA-256": "00" }), json!({ "ContentType": "a/b" })]
        {
            assert!(mismatch(&wrong, &reply).is_some(), "{wrong}");
        }
    }
}
