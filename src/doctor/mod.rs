//! What is wrong with this server, its network and its devices, and what to do about it.
//!
//! `russet doctor` and `GET /api/v1/findings` ask [`Doctor::findings`]: a file here for each matter that only looks from
//! outside, and the `findings` of the layers beneath for what they know of themselves.
//!
//! **Invariant:** looking changes nothing, takes at most some twenty seconds whatever the network does, and is remembered
//! for five minutes. Whoever wants it fresh gets it at most every few seconds, so that nobody makes this server look all day.

mod apns;
mod bundle;
mod clock;
mod database;
mod devices;
mod disk;
pub mod hosts;
mod memory;
pub mod probe;
mod public_url;
pub mod recent;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::RootCertStore;
use tokio::join;

use crate::acme::{self, Acme};
use crate::backup::{self, Backups};
use crate::config::{self, Config, Origin};
use crate::error::{Error, Result};
use crate::expiry::{self, Expiry};
use crate::finding::Finding;
use crate::https::{self, add_file};
use crate::mdm::{Mdm, pushable};
use crate::pki::chain::Chain;
use crate::webhook::{self, Webhook};

/// How long what was found is good enough for the next who asks.
const FRESH: Duration = Duration::from_secs(300);
/// As fresh as anybody gets it.
const FRESHEST: Duration = Duration::from_secs(5);

/// Looks after everything; a cheap handle.
#[derive(Clone)]
pub struct Doctor(Arc<Inner>);

struct Inner {
    mdm: Mdm,
    backups: Backups,
    acme: Option<Acme>,
    expiry: Expiry,
    webhook: Webhook,
    chain: Chain,
    self_signed: bool,
    data_dir: PathBuf,
    public_url: Origin,
    settings: config::Doctor,
    roots: RootCertStore,
    found: Mutex<Option<(Instant, Vec<Finding>)>>,
    surveyed: Mutex<Option<(Instant, hosts::Survey)>>,
    /// One look at a time.
    looking: tokio::sync::Mutex<()>,
}

impl Doctor {
    /// Puts the parts together; looks at nothing yet. `chain` is what the listeners present.
    ///
    /// # Errors
    /// The file of roots cannot be read, in words.
    pub fn new(
        config: &Config,
        mdm: &Mdm,
        backups: &Backups,
        acme: Option<&Acme>,
        webhook: &Webhook,
        expiry: &Expiry,
        chain: &Chain,
    ) -> Result<Self> {
        let mut roots = https::system_roots();
        if let Some(path) = &config.doctor.trust {
            add_file(&mut roots, path, "[doctor] trust")?;
        }
        Ok(Self(Arc::new(Inner {
            mdm: mdm.clone(),
            backups: backups.clone(),
            acme: acme.cloned(),
            webhook: webhook.clone(),
            expiry: expiry.clone(),
            chain: chain.clone(),
            self_signed: config.tls.mode == config::TlsMode::SelfSigned,
            data_dir: config.data_dir.clone(),
            public_url: config.server.public_url.clone(),
            settings: config.doctor.clone(),
            roots,
            found: Mutex::default(),
            surveyed: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
        })))
    }

    /// Everything that is to be said, the worst first. `fresh` looks again although somebody looked a moment ago.
    ///
    /// # Errors
    /// The database's.
    pub async fn findings(&self, fresh: bool) -> Result<Vec<Finding>> {
        let _turn = self.0.looking.lock().await;
        if let Some(found) = remembered(&self.0.found, if fresh { FRESHEST } else { FRESH }) {
            return Ok(found);
        }
        let found = self.look().await?;
        *self.0.found.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), found.clone()));
        Ok(found)
    }

    /// Asks all hosts of the reachability table, from this machine; at most once in five minutes.
    ///
    /// # Errors
    /// A file of the configuration cannot be read.
    pub async fn survey(&self) -> Result<hosts::Survey> {
        let _turn = self.0.looking.lock().await;
        self.survey_in_turn().await
    }

    async fn survey_in_turn(&self) -> Result<hosts::Survey> {
        if let Some(survey) = remembered(&self.0.surveyed, FRESH) {
            return Ok(survey);
        }
        let surveyor = hosts::Surveyor::new(&self.0.settings)?;
        let survey = surveyor.survey(self.0.mdm.store.clock().now()).await;
        *self.0.surveyed.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Instant::now(), survey.clone()));
        Ok(survey)
    }

    async fn look(&self) -> Result<Vec<Finding>> {
        let inner = &self.0;
        let local = inner.clone();
        let local = tokio::task::spawn_blocking(move || local.look_here());
        let (public_url, clock, apns, survey, local) = join!(
            public_url::findings(inner),
            clock::findings(inner),
            apns::findings(inner),
            self.survey_in_turn(),
            local,
        );
        let mut found =
            local.map_err(|source| Error::caused("looking did not come to its end", source))??;
        found.extend(public_url.into_iter().chain(clock).chain(apns).chain(survey?.findings()));
        // The order of the checks within each severity.
        found.sort_by_key(|one| std::cmp::Reverse(one.severity));
        Ok(found)
    }
}

impl Inner {
    /// What needs no network: what the parts know, the disk, the memory.
    fn look_here(&self) -> Result<Vec<Finding>> {
        let store = &self.mdm.store;
        let mut found = pushable::findings(store)?;
        found.extend(backup::findings(&self.backups)?);
        if let Some(acme) = &self.acme {
            found.extend(acme::findings(acme)?);
        }
        found.extend(expiry::findings(&self.expiry)?);
        found.extend(webhook::findings(&self.webhook)?);
        found.extend(devices::findings(&self.mdm)?);
        found.extend(database::findings(store));
        found.extend(disk::findings(&self.data_dir, self.settings.free_mib));
        found.extend(memory::findings());
        Ok(found)
    }
}

/// What was found less than `age` ago.
fn remembered<T: Clone>(found: &Mutex<Option<(Instant, T)>>, age: Duration) -> Option<T> {
    let found = found.lock().unwrap_or_else(PoisonError::into_inner);
    found.as_ref().filter(|(at, _)| at.elapsed() < age).map(|(_, found)| found.clone())
}
