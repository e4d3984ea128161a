//! The server's TLS certificate from a certificate authority that speaks ACME (RFC 8555).
//!
//! `server` opens [`Acme`] in mode `acme`, presents what [`Acme::current`] answers and lets
//! [`Acme::round`] run; whatever is issued later comes to it through [`Acme::on_issue`]. `order.rs` is one
//! conversation with the CA, `challenge.rs` what proves the name meanwhile, `kept.rs` the tables,
//! `window.rs` when it is time.
//!
//! **Invariant:** a certificate that works stays in use until another one works; account, keys and the
//! pauses after failures outlive the process, so that no restart asks the CA more often.

mod attempt;
pub mod challenge;
mod dns;
mod finding;
mod hook;
mod http;
mod kept;
mod order;
#[cfg(test)]
mod tests;
mod window;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use tokio::sync::Mutex;

pub use attempt::Attempt;
pub use challenge::Challenges;
pub use finding::findings;
pub use kept::Issued;

use crate::clock::Seconds;
use crate::config;
use crate::error::{Error, Result};
use crate::https::{self, add_file};
use crate::id;
use crate::mdm::event;
use crate::pki::seal::Seal;
use crate::storage::Store;

/// The TLS certificate of one host; a cheap handle.
#[derive(Clone)]
pub struct Acme(Arc<Inner>);

/// What is done with a certificate that was issued.
type Present = Box<dyn Fn(&Issued) -> Result<()> + Send + Sync>;

struct Inner {
    store: Store,
    seal: Seal,
    host: String,
    settings: config::Acme,
    roots: RootCertStore,
    challenges: Challenges,
    present: OnceLock<Present>,
    /// One conversation with the CA at a time.
    under_way: Mutex<()>,
}

impl Acme {
    /// Gets ready to ask for certificates for `host`; asks nobody yet.
    ///
    /// # Errors
    /// The file of roots cannot be read, in words.
    pub fn open(store: &Store, seal: &Seal, host: &str, settings: &config::Acme) -> Result<Self> {
        Ok(Self(Arc::new(Inner {
            store: store.clone(),
            seal: seal.clone(),
            host: host.to_owned(),
            settings: settings.clone(),
            roots: roots(settings.trust.as_deref())?,
            challenges: Challenges::default(),
            present: OnceLock::new(),
            under_way: Mutex::new(()),
        })))
    }

    /// What the listeners answer while a name is being proven.
    pub fn challenges(&self) -> &Challenges {
        &self.0.challenges
    }

    /// The newest certificate of this host.
    ///
    /// # Errors
    /// The database's; a sealed key that cannot be opened.
    pub fn current(&self) -> Result<Option<Issued>> {
        let Inner { store, seal, host, .. } = &*self.0;
        store.peek(|conn| kept::newest(conn, seal, host))
    }

    /// Says what is done with each new certificate; called once, by whoever presents them.
    pub fn on_issue(&self, present: impl Fn(&Issued) -> Result<()> + Send + Sync + 'static) {
        let _ = self.0.present.set(Box::new(present));
    }

    /// The CA that is asked: the URL of its directory.
    pub fn directory(&self) -> &str {
        &self.0.settings.directory
    }

    /// How the last attempts ended, newest first.
    ///
    /// # Errors
    /// The database's.
    pub fn attempts(&self) -> Result<Vec<Attempt>> {
        self.0.store.peek(|conn| attempt::newest(conn, &self.0.host))
    }

    /// Gets a certificate if there is none, or if it is time to renew it; while the clock is wrong, nothing.
    ///
    /// # Errors
    /// The database's. What the CA refuses is kept as an attempt and is no error here.
    pub async fn round(&self) -> Result<()> {
        let Some(_turn) = self.turn() else { return Ok(()) };
        let clock = self.0.store.clock();
        if !clock.is_sane() {
            return Ok(());
        }
        let last = self.attempts()?.into_iter().next();
        let now = clock.now();
        if last.is_some_and(|last| last.failed && now < last.next_at) {
            return Ok(());
        }
        let current = self.current()?;
        if let Some(current) = &current
            && !window::is_due(&self.0, current, now).await?
        {
            return Ok(());
        }
        self.attempt(current.as_ref()).await.map(drop)
    }

    /// Gets a new certificate now, whatever the time.
    ///
    /// # Errors
    /// [`Error::Invalid`] in the CA's words; [`Error::Conflict`] while it is being asked already, or
    /// while the clock is wrong.
    pub async fn renew(&self) -> Result<Issued> {
        let Some(_turn) = self.turn() else {
            return Err(Error::conflict("a certificate is being asked for already; wait for its answer"));
        };
        if !self.0.store.clock().is_sane() {
            return Err(Error::conflict("the clock of this machine is wrong; set the time, then ask again"));
        }
        let current = self.current()?;
        self.attempt(current.as_ref()).await?
    }

    fn turn(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        self.0.under_way.try_lock().ok()
    }

    /// Asks the CA once and keeps how it ended. The outer error is ours, the inner one the CA's.
    async fn attempt(&self, current: Option<&Issued>) -> Result<Result<Issued>> {
        let obtained = match order::obtain(&self.0, current).await {
            Ok(issued) => self.show(&issued).map(|()| issued),
            Err(refused) => Err(refused),
        };
        let seal = self.0.seal.clone();
        let host = self.0.host.clone();
        match obtained {
            Ok(issued) => {
                let kept = self
                    .0
                    .store
                    .write("acme.issued", move |tx| {
                        let issued = kept::keep(tx, &seal, issued)?;
                        let words = format!(
                            "{} gave a TLS certificate for {}, valid until {}.",
                            issued.issuer(),
                            issued.host,
                            crate::clock::rfc3339(issued.not_after)
                        );
                        event::record(tx, "tls-certificate-renewed", None, &words)?;
                        attempt::note(tx, &host, &words, None, issued.renew_at)?;
                        Ok(issued)
                    })
                    .await?;
                tracing::info!(host = kept.host, not_after = kept.not_after, "a TLS certificate was issued");
                Ok(Ok(kept))
            }
            Err(refused) => {
                let words = id::printable(&format!("{}.", refused.chain().trim_end_matches('.')));
                tracing::error!(host, words, "no TLS certificate was issued; the old one stays");
                self.0
                    .store
                    .write("acme.refused", move |tx| {
                        let failures = attempt::failures_in_a_row(tx, &host)?;
                        let told = format!("There is no new TLS certificate for {host}: {words}");
                        event::record(tx, "tls-certificate-failed", None, &told)?;
                        attempt::note(tx, &host, &words, Some(failures), tx.now())
                    })
                    .await?;
                Ok(Err(refused))
            }
        }
    }

    /// Hands a certificate to the listeners before it is kept: one that they refuse is none.
    fn show(&self, issued: &Issued) -> Result<()> {
        self.0.present.get().map_or(Ok(()), |present| present(issued))
    }
}

fn roots(trust: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = https::system_roots();
    if let Some(path) = trust {
        add_file(&mut roots, path, "[tls.acme] trust")?;
    }
    Ok(roots)
}

/// When what is valid from `not_before` to `not_after` has a third of its life left.
fn third_left(not_before: Seconds, not_after: Seconds) -> Seconds {
    not_after - (not_after - not_before) / 3
}
