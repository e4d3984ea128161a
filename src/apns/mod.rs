//! Pushes: waking devices through Apple's push service (APNs).
//!
//! [`Apns`] knows a topic, a token and a push magic, never a command: `mdm::wake` decides who has
//! work and when to try again, and acts on the [`Verdict`]. A push carries nothing but
//! `{"mdm": <PushMagic>}`; the device then connects and asks what there is ("Setting up push
//! notifications for your MDM customers"). `certificate.rs` keeps the push certificates.
//!
//! **Invariant:** each enrollment is pushed with the newest certificate of its own topic.

mod bundle;
pub mod certificate;
mod client;
#[cfg(test)]
mod loopback;
pub mod mdmcert;
mod pair;
mod reply;
pub mod request;
#[cfg(test)]
mod tests;
pub mod vendor;
mod wire;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::sync::Mutex;
use tokio::time::timeout;

pub use bundle::check_identity;
pub use certificate::PushCertificate;
pub use pair::Pair;
pub use reply::{PushResult, Reply, Verdict};

use crate::clock::{Clock, DAY};
use crate::error::{Error, Result};
use crate::id;
use crate::pki::seal::Seal;
use crate::storage::Store;
use client::{Client, Server};

/// How long APNs may keep a push for a device that is off: it keeps the newest only.
const EXPIRES_AFTER: i64 = 7 * DAY;

/// How long a trial may take: somebody waits for it.
const TRIAL: Duration = Duration::from_secs(10);

/// One wake-up.
#[derive(Clone, PartialEq, Eq)]
pub struct Push {
    /// The topic of the device's enrollment profile.
    pub topic: String,
    /// `Token` of its newest TokenUpdate, as it came.
    pub token: Vec<u8>,
    /// `PushMagic` of its newest TokenUpdate.
    pub magic: String,
}

/// Token and magic are all that it takes to wake a device, and stay out of logs.
impl std::fmt::Debug for Push {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Push").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// What became of a push to nobody.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Whether Apple takes pushes with this certificate.
    pub works: bool,
    /// A sentence or two for people.
    pub words: String,
    /// Apple's answer; none if there was none in time.
    pub result: Option<PushResult>,
}

impl Trial {
    fn of(result: PushResult) -> Self {
        let works = matches!(result.verdict, Verdict::Delivered | Verdict::TokenRejected { .. });
        let words = if works {
            "Apple's push service was reached and takes pushes with this certificate.".to_owned()
        } else {
            result.words.clone()
        };
        Self { works, words, result: Some(result) }
    }
}

/// A cheap handle on the push service.
#[derive(Clone)]
pub struct Apns(Arc<Inner>);

struct Inner {
    store: Store,
    seal: Seal,
    clock: Clock,
    server: Server,
    roots: Arc<RootCertStore>,
    /// One for each topic that was pushed to. The lock is held while a pair is read, so that
    /// [`Apns::reload`] cannot overtake a reader of the old pair.
    clients: Mutex<HashMap<String, Arc<Client>>>,
}

impl Apns {
    /// Gets ready to push through `server` (`https://host:port`), trusting the system's roots and
    /// those in the PEM file `trust`. Nothing is connected before the first push.
    ///
    /// # Errors
    /// The address or the file is wrong, in words.
    pub fn open(
        store: &Store,
        seal: &Seal,
        server: &str,
        trust: Option<&Path>,
        clock: &Clock,
    ) -> Result<Self> {
        Ok(Self(Arc::new(Inner {
            store: store.clone(),
            seal: seal.clone(),
            clock: clock.clone(),
            server: Server::parse(server)?,
            roots: Arc::new(roots(trust)?),
            clients: Mutex::default(),
        })))
    }

    /// Sends one push and waits for the answer: at most 50 seconds where nothing answers.
    /// Many may run at once; they share a connection per topic.
    pub async fn push(&self, push: &Push) -> PushResult {
        let client = match self.client(&push.topic).await {
            Ok(Some(client)) => client,
            Ok(None) => {
                return PushResult::certificate_problem(format!(
                    "There is no push certificate for topic {}. Import the certificate with which this device \
                     enrolled: russet push-certificate import.",
                    push.topic
                ));
            }
            Err(error) => {
                tracing::error!(
                    topic = push.topic,
                    error = error.chain(),
                    "the push certificate cannot be used"
                );
                return PushResult::certificate_problem(format!(
                    "The push certificate cannot be used: {error}."
                ));
            }
        };
        client.push(push, self.0.clock.now() + EXPIRES_AFTER).await
    }

    /// Where pushes go: host and port.
    pub fn server(&self) -> (&str, u16) {
        self.0.server.host_and_port()
    }

    /// Whom it trusts for that.
    pub fn roots(&self) -> &RootCertStore {
        &self.0.roots
    }

    /// One push to a token that no device has: whether Apple lets this certificate in.
    pub async fn try_topic(&self, topic: &str) -> Trial {
        let push = Push { topic: topic.to_owned(), token: id::random::<32>().to_vec(), magic: id::uuid() };
        match timeout(TRIAL, self.push(&push)).await {
            Ok(result) => Trial::of(result),
            Err(_) => Trial {
                works: false,
                words: format!(
                    "{} did not answer within {} seconds. Open the way there (TCP 443 or 2197) in the firewall; until then no \
                     device can be woken.",
                    self.0.server.address(),
                    TRIAL.as_secs()
                ),
                result: None,
            },
        }
    }

    /// Reads certificates anew: to be called when an import was committed. Pushes on their way finish
    /// with the certificate that they began with.
    pub async fn reload(&self) {
        self.0.clients.lock().await.clear();
    }

    async fn client(&self, topic: &str) -> Result<Option<Arc<Client>>> {
        let Inner { store, seal, server, roots, clients, .. } = &*self.0;
        let mut clients = clients.lock().await;
        if let Some(client) = clients.get(topic) {
            return Ok(Some(Arc::clone(client)));
        }
        let Some((chain, key)) = store.peek(|conn| certificate::credentials(conn, seal, topic))? else {
            return Ok(None);
        };
        let client = Arc::new(Client::new(server.clone(), Arc::clone(roots), chain, key)?);
        clients.insert(topic.to_owned(), Arc::clone(&client));
        Ok(Some(client))
    }
}

fn roots(trust: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    let Some(path) = trust else {
        if roots.is_empty() {
            tracing::warn!(
                "this system has no trusted roots: install its package ca-certificates, or pushes fail"
            );
        }
        return Ok(roots);
    };
    let wrong = |what: &str| Error::invalid(format!("[apns] trust: {} {what}", path.display()));
    let pem = std::fs::read(path).map_err(|error| wrong(&format!("cannot be read ({error})")))?;
    let mut found = false;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|_| wrong("has a damaged PEM block"))?;
        roots
            .add(certificate)
            .map_err(|error| wrong(&format!("has a certificate that cannot be a root ({error})")))?;
        found = true;
    }
    if found { Ok(roots) } else { Err(wrong("holds no certificate in PEM")) }
}
