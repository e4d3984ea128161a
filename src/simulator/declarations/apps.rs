//! Apps and packages (Apple: `app.managed`, `package`, `app.managed.list`, `package.list`, "ManifestURL").
//!
//! What is required is queued when its configuration takes effect, what is optional when the person at
//! the device asks for it. After the report of that the device downloads, says that it installs, and says
//! what came of it. What downloads presents no identity; it asks for the package piece by piece, each as
//! long as a hash of the manifest is for, and keeps no more of it than that.
//!
//! **Invariant:** a piece that is not what its hash says is never installed.

use hyper::Method;
use hyper::header::{CONTENT_RANGE, HeaderMap, HeaderValue, RANGE, USER_AGENT};
use plist::{Dictionary, Value};
use serde_json::{Value as Json, json};

use super::report::When;
use super::{Declaration, Reason};
use crate::simulator::device::{Channel, Device};
use crate::simulator::fault::Fault;
use crate::simulator::wire::{Reply, Wire};

const TYPES: [&str; 2] = ["com.apple.configuration.app.managed", "com.apple.configuration.package"];
/// Without hashes it is fetched in pieces of this size.
const PIECE: u64 = 10 << 20;

/// An app or a package that a configuration in effect is about.
#[derive(Clone, Debug)]
pub(super) struct App {
    server_token: String,
    /// The person asked for it, or it is required.
    wanted: bool,
    /// Apple's word.
    pub(super) state: &'static str,
    pub(super) reasons: Vec<Reason>,
    /// What its manifest says of it.
    about: Option<About>,
    /// The server could not be reached or was in trouble.
    is_worth_another_try: bool,
}

#[derive(Clone, Debug)]
struct About {
    bundle_id: String,
    version: String,
    title: String,
}

/// Code, words, and whether another try may help.
struct Failed(&'static str, String, bool);

impl App {
    fn is_waiting(&self) -> bool {
        matches!(self.state, "queued" | "downloading" | "installing")
    }
}

impl super::Engine {
    /// Holds the apps against the configurations that are in effect.
    pub(super) fn settle_apps(&mut self) {
        let active: Vec<(String, Declaration)> = self
            .declarations
            .iter()
            .filter(|(identifier, declaration)| {
                TYPES.contains(&declaration.declaration_type.as_str())
                    && self.states.get(*identifier).is_some_and(|s| s.active && s.valid == "valid")
            })
            .map(|(identifier, declaration)| (identifier.clone(), declaration.clone()))
            .collect();
        self.apps.retain(|identifier, _| active.iter().any(|(name, _)| name == identifier));
        for (identifier, declaration) in active {
            let known = self.apps.get(&identifier);
            if known.is_some_and(|known| known.server_token == declaration.server_token) {
                continue;
            }
            let required = declaration.payload["InstallBehavior"]["Install"] == "Required";
            let wanted = required || known.is_some_and(|known| known.wanted);
            let app = App {
                server_token: declaration.server_token,
                wanted,
                state: if wanted { "queued" } else { "optional" },
                reasons: Vec::new(),
                about: known.and_then(|known| known.about.clone()),
                is_worth_another_try: false,
            };
            self.apps.insert(identifier, app);
        }
    }

    /// What could not be downloaded for a reason that may have passed is tried again.
    pub(super) fn retry_apps(&mut self) {
        for app in self.apps.values_mut().filter(|app| app.is_worth_another_try) {
            (app.state, app.is_worth_another_try) = ("queued", false);
            app.reasons.clear();
        }
    }

    /// `app.managed.list` or `package.list`.
    pub(super) fn listed_apps(&self, name: &'static str) -> Json {
        let list = self.in_effect(name).filter_map(|(identifier, declaration)| {
            let app = self.apps.get(identifier)?;
            let payload = &declaration.payload;
            let named = ["BundleID", "AppStoreID", "AppComposedIdentifier"]
                .iter()
                .find_map(|key| payload[*key].as_str())
                .unwrap_or(identifier);
            let mut entry = json!({
                "identifier": app.about.as_ref().map_or(named, |about| &about.bundle_id),
                "declaration-identifier": identifier,
                "name": app.about.as_ref().map_or(named, |about| &about.title),
                "state": app.state,
            });
            if matches!(app.state, "managed" | "installed") {
                entry["version"] = app.about.as_ref().map_or("1", |about| &about.version).into();
            }
            if !app.reasons.is_empty() {
                entry["reasons"] = app.reasons.iter().map(Reason::report).collect();
            }
            Some(entry)
        });
        Json::Array(list.collect())
    }
}

impl Device {
    /// Apple's word for how the app or package of a configuration stands.
    pub fn app_state(&self, channel: Channel, declaration: &str) -> Option<&'static str> {
        self.engine_of(channel).apps.get(declaration).map(|app| app.state)
    }

    /// The person at the device asks for an app that they may have.
    pub async fn choose_app(&mut self, channel: Channel, declaration: &str) -> Result<(), Fault> {
        if let Some(app) = self.engine(channel).apps.get_mut(declaration) {
            (app.wanted, app.state) = (true, "queued");
            app.reasons.clear();
        }
        self.report_status(channel, When::Changed).await?;
        self.install_apps(channel).await
    }

    /// Downloads and installs what is queued, and reports each step.
    pub(super) async fn install_apps(&mut self, channel: Channel) -> Result<(), Fault> {
        let waiting = |engine: &super::Engine| -> Vec<String> {
            let waiting = engine.apps.iter().filter(|(_, app)| app.is_waiting());
            waiting.map(|(identifier, _)| identifier.clone()).collect()
        };
        let queued = waiting(self.engine_of(channel));
        if queued.is_empty() {
            return Ok(());
        }
        let mut manifests = Vec::new();
        for identifier in queued {
            let read = self.manifest_of(channel, &identifier).await;
            let Some(app) = self.engine(channel).apps.get_mut(&identifier) else { continue };
            match read {
                Ok(manifest) => {
                    app.state = "installing";
                    app.about = manifest.as_ref().map(|manifest| manifest.about.clone());
                    manifests.push((identifier, manifest));
                }
                Err(failed) => app.failed(failed),
            }
        }
        self.report_status(channel, When::Changed).await?;
        for (identifier, manifest) in manifests {
            let done = match manifest {
                Some(manifest) => self.download_package(&manifest).await,
                None => Ok(()),
            };
            let engine = self.engine(channel);
            let is_package = engine
                .declarations
                .get(&identifier)
                .is_some_and(|declaration| declaration.declaration_type == TYPES[1]);
            let Some(app) = engine.apps.get_mut(&identifier) else { continue };
            match done {
                Ok(()) => app.state = if is_package { "installed" } else { "managed" },
                Err(failed) => app.failed(failed),
            }
        }
        self.report_status(channel, When::Changed).await.map(drop)
    }

    /// The manifest of a configuration; nothing for an app of the App Store.
    async fn manifest_of(&mut self, channel: Channel, identifier: &str) -> Result<Option<Manifest>, Failed> {
        let declared = self.engine_of(channel).declarations.get(identifier);
        let Some(url) = declared.and_then(|declared| declared.payload["ManifestURL"].as_str()) else {
            return Ok(None);
        };
        let url = url.to_owned();
        let reply = self.fetch_nameless("manifest", &url, None).await?;
        if reply.status != 200 {
            return Err(refused("manifest", &reply));
        }
        Manifest::read(&reply.body).map(Some).map_err(|words| Failed("Error.DownloadFailed", words, false))
    }

    async fn download_package(&mut self, manifest: &Manifest) -> Result<(), Failed> {
        let damaged = |words: &str| Failed("Error.InstallFailed", words.to_owned(), false);
        let (mut at, mut number) = (0, 0);
        loop {
            let reply = self.fetch_nameless("package", &manifest.url, Some((at, manifest.piece))).await?;
            let whole = match reply.status {
                // It gives it as a whole.
                200 if at == 0 => reply.body.len() as u64,
                206 => length_of_whole(&reply, at).ok_or_else(|| {
                    Failed("Error.DownloadFailed", "The server gave another piece.".into(), false)
                })?,
                _ => return Err(refused("package", &reply)),
            };
            for piece in reply.body.chunks(usize::try_from(manifest.piece).unwrap_or(usize::MAX)) {
                let hash = crate::id::hex(&crate::id::sha256(piece));
                if manifest.hashes.as_ref().is_some_and(|hashes| hashes.get(number) != Some(&hash)) {
                    return Err(damaged("The package is not what its hashes say."));
                }
                number += 1;
            }
            at += reply.body.len() as u64;
            if at >= whole {
                break;
            }
            if reply.body.is_empty() {
                return Err(damaged("The package ends too early."));
            }
        }
        if manifest.hashes.as_ref().is_some_and(|hashes| hashes.len() != number) {
            return Err(damaged("The package is shorter than its hashes say."));
        }
        Ok(())
    }

    /// Fetches as whatever installs apps does: without the device's identity.
    async fn fetch_nameless(
        &mut self,
        what: &str,
        url: &str,
        piece: Option<(u64, u64)>,
    ) -> Result<Reply, Failed> {
        let unreachable = |fault: Fault| Failed("Error.DownloadFailed", fault.to_string(), true);
        let mut wire = Wire::new(self.trust.clone(), self.clock.clone());
        for root in self.management.iter().flat_map(|management| &management.roots) {
            wire.trust_also(root).map_err(unreachable)?;
        }
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static("com.apple.appstored/1.0"));
        if let Some((at, length)) = piece {
            let last = at.saturating_add(length).saturating_sub(1);
            let range = HeaderValue::from_str(&format!("bytes={at}-{last}"));
            headers.insert(RANGE, range.unwrap_or(HeaderValue::from_static("bytes=0-")));
        }
        let reply = wire.send(Method::GET, url, headers, Vec::new()).await.map_err(unreachable)?;
        if matches!(reply.status, 200 | 206) {
            self.meter.took(what, reply.took);
        }
        Ok(reply)
    }
}

impl App {
    fn failed(&mut self, Failed(code, words, is_worth_another_try): Failed) {
        self.state = "failed";
        self.reasons = vec![Reason::error(code, words)];
        self.is_worth_another_try = is_worth_another_try;
    }
}

fn refused(what: &str, reply: &Reply) -> Failed {
    let words = format!("The server answered {} when asked for the {what}.", reply.status);
    Failed("Error.DownloadFailed", words, reply.status >= 500)
}

/// How long the whole is, if the reply is the piece that begins there.
fn length_of_whole(reply: &Reply, at: u64) -> Option<u64> {
    let range = reply.headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    let (piece, whole) = range.split_once('/')?;
    let (first, last) = piece.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let fits = first == at && last.checked_sub(first)?.checked_add(1)? == reply.body.len() as u64;
    if fits { whole.parse().ok() } else { None }
}

/// What a manifest says of the one thing that it is about.
struct Manifest {
    url: String,
    about: About,
    /// How long the pieces are that the hashes are for.
    piece: u64,
    hashes: Option<Vec<String>>,
}

impl Manifest {
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let missing = |what: &str| format!("The manifest has no {what}.");
        let list = crate::plist::parse_dict(bytes).map_err(|error| error.to_string())?;
        let first = |list: &Dictionary, key: &str| -> Option<Dictionary> {
            list.get(key)?.as_array()?.iter().find_map(|value| value.as_dictionary().cloned())
        };
        let item = first(&list, "items").ok_or_else(|| missing("items"))?;
        let assets = item.get("assets").and_then(Value::as_array).ok_or_else(|| missing("assets"))?;
        let asset = assets
            .iter()
            .filter_map(Value::as_dictionary)
            .find(|asset| asset.get("kind").and_then(Value::as_string) == Some("software-package"))
            .ok_or_else(|| missing("software-package"))?;
        let metadata =
            item.get("metadata").and_then(Value::as_dictionary).ok_or_else(|| missing("metadata"))?;
        let text = |of: &Dictionary, key: &str| -> Result<String, String> {
            of.get(key).and_then(Value::as_string).map(str::to_owned).ok_or_else(|| missing(key))
        };
        if text(metadata, "kind")? != "software" {
            return Err("The manifest is about something else than software.".to_owned());
        }
        let piece = asset.get("sha256-size").and_then(Value::as_unsigned_integer);
        let hashes = asset.get("sha256s").and_then(Value::as_array).map(|hashes| {
            hashes.iter().map(|hash| hash.as_string().unwrap_or_default().to_lowercase()).collect()
        });
        if piece.is_some() != hashes.is_some() || piece == Some(0) {
            return Err("The manifest has hashes without their size, or a size without hashes.".to_owned());
        }
        Ok(Self {
            url: text(asset, "url")?,
            about: About {
                bundle_id: text(metadata, "bundle-identifier")?,
                version: text(metadata, "bundle-version").unwrap_or_else(|_| "1".to_owned()),
                title: text(metadata, "title")?,
            },
            piece: piece.unwrap_or(PIECE),
            hashes,
        })
    }
}
