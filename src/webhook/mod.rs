//! Events told to others: the outbox (`mdm::outbox`) is emptied towards one target, in its order.
//!
//! Each is sent until the target answers 2xx, with pauses that grow; what came is removed afterwards, so
//! that a power cut makes something come twice and never not at all. A receiver knows it by its id.
//!
//! **Invariant:** what happened first is told first, and nothing is told to an address of this machine's own
//! network unless the configuration allows it: a name is judged by what it resolves to, at each connection.

mod finding;
mod target;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::sync::Mutex;

use crate::clock::{Seconds, rfc3339};
use crate::config::{self, WebhookFormat};
use crate::error::{Error, Result};
use crate::id;
use crate::mdm::outbox::{self, Waiting};
use crate::pki::seal::Seal;
use crate::storage::Store;
pub use finding::findings;
use target::Target;

/// How many are sent before it is written down that they came, and about how many bytes.
const AT_ONCE: u32 = 20;
const BYTES_AT_ONCE: usize = 4 * 1024 * 1024;
/// How often the target may say of one body that it is wrong.
const MOST_REFUSALS: u32 = 8;

/// The webhook, if there is one; a cheap handle.
#[derive(Clone)]
pub struct Webhook(Option<Arc<Inner>>);

struct Inner {
    store: Store,
    seal: Seal,
    target: Target,
    format: WebhookFormat,
    /// Held while somebody delivers: two at once would mix up the order.
    delivers: Mutex<()>,
}

/// What became of a test.
#[derive(Debug)]
pub struct Tested {
    /// The target took it.
    pub delivered: bool,
    /// What it answered, if it did.
    pub status: Option<u16>,
    /// What that means, a sentence.
    pub words: String,
    /// The beginning of its answer, printable.
    pub answer: String,
    pub milliseconds: u64,
}

impl Webhook {
    /// Gets ready to tell, and has the outbox kept from now on; or neither, where no target is configured.
    ///
    /// # Errors
    /// The file of roots, in words; the database's.
    pub async fn open(settings: &config::Webhook, store: &Store, seal: &Seal) -> Result<Self> {
        let format = settings.url.as_ref().map(|_| settings.format);
        let target = settings.url.as_deref().map(|url| Target::of(settings, url)).transpose()?;
        store.write("webhook.configure", move |tx| outbox::configure(tx, format)).await?;
        Ok(Self(target.map(|target| {
            Arc::new(Inner {
                store: store.clone(),
                seal: seal.clone(),
                target,
                format: settings.format,
                delivers: Mutex::default(),
            })
        })))
    }

    /// How others are told, if anybody is.
    pub fn format(&self) -> Option<WebhookFormat> {
        self.0.as_ref().map(|inner| inner.format)
    }

    /// Sends what is due until nothing waits or something fails; answers how many came.
    ///
    /// # Errors
    /// The database's. What the target does is never an error here: it is written down, and tried again.
    pub async fn round(&self) -> Result<usize> {
        let Some(inner) = &self.0 else { return Ok(0) };
        let _only = inner.delivers.lock().await;
        let store = &inner.store;
        if store.peek(|conn| outbox::has_old(conn, store.clock().now()))? {
            store.write("webhook.give_up", outbox::give_up_old).await?;
        }
        let mut count = 0;
        while store.peek(outbox::state)?.is_due(store.clock().now()) {
            let (told, goes_on) = inner.some().await?;
            count += told;
            if !goes_on {
                break;
            }
        }
        Ok(count)
    }

    /// Sends a message that says it is a test, past everything that waits.
    ///
    /// # Errors
    /// `Conflict` when there is no webhook.
    pub async fn test(&self) -> Result<Tested> {
        let inner = self.0.as_ref().ok_or_else(|| {
            Error::conflict("there is no webhook; write where events are sent as `url` under [webhook] and restart the server")
        })?;
        let (uid, at) = (id::uuid(), rfc3339(inner.store.clock().now()));
        let (topic, body) = match inner.format {
            WebhookFormat::Russet => {
                let words = "This is a test. Somebody asked for it; nothing happened.";
                let body = json!({"id": uid, "at": at, "topic": "test", "event_id": null, "enrollment": null,
                    "kind": "test", "words": words});
                ("test", body)
            }
            WebhookFormat::MicroMdm => {
                ("russet.test", json!({"topic": "russet.test", "event_id": uid, "created_at": at}))
            }
        };
        let began = tokio::time::Instant::now();
        let said = inner.target.send(&uid, topic, body.to_string().into_bytes()).await;
        Ok(Tested {
            delivered: said.took_it(),
            status: said.status,
            words: said.words,
            answer: said.answer,
            milliseconds: millis(began.elapsed()),
        })
    }

    /// How the deliveries go, as the API shows it.
    ///
    /// # Errors
    /// The database's.
    pub fn to_json(&self) -> Result<Json> {
        let Some(inner) = &self.0 else { return Ok(json!({"configured": false})) };
        let (state, oldest) = inner.store.peek(|conn| Ok((outbox::state(conn)?, outbox::oldest(conn)?)))?;
        let failing = state.attempts > 0 && state.waiting > 0;
        Ok(json!({
            "configured": true,
            "url": inner.target.shown(),
            "format": inner.format.word(),
            "signed": inner.target.is_signed(),
            "waiting": state.waiting,
            "bytes": state.bytes,
            "oldest_at": oldest.map(rfc3339),
            "last_success_at": state.last_success_at.map(rfc3339),
            "last_failure_at": state.last_failure_at.map(rfc3339),
            "last_failure": state.last_failure,
            "failures": state.attempts,
            "next_try_at": failing.then(|| rfc3339(state.next_try_at)),
            "dropped": state.dropped,
            "dropped_at": state.dropped_at.map(rfc3339),
        }))
    }
}

impl Inner {
    /// Sends a few; answers how many came, and whether to go on.
    async fn some(&self) -> Result<(usize, bool)> {
        let seal = self.seal.clone();
        let batch = self.store.read(move |conn| outbox::next(conn, &seal, AT_ONCE, BYTES_AT_ONCE)).await?;
        let (mut told, mut failed, mut closed) = (Vec::new(), None, None);
        let is_empty = batch.is_empty();
        for one in batch {
            let Waiting { id, uid, topic, body, attempts } = one;
            let Some(body) = body else {
                closed = Some((id, uid));
                break;
            };
            let said = self.target.send(&uid, &topic, body).await;
            if !said.took_it() {
                failed = Some((id, uid, attempts, said));
                break;
            }
            told.push((id, uid));
        }
        let (count, went_well) = (told.len(), failed.is_none());
        let gives_up = self
            .store
            .write("webhook.told", move |tx| {
                if !told.is_empty() {
                    outbox::told(tx, &told)?;
                }
                if let Some((id, uid)) = closed {
                    let why = "one that held secrets does not open with the sealing key that is here now";
                    outbox::give_up(tx, id, &uid, why)?;
                }
                let Some((id, uid, attempts, said)) = failed else { return Ok(false) };
                let refused = said.is_about_the_body();
                let next: Seconds = outbox::failed(tx, &said.words, refused.then_some(id))?;
                tracing::warn!(next = rfc3339(next), "the webhook was not told: {}", said.words);
                let gives_up = refused && attempts + 1 >= MOST_REFUSALS;
                if gives_up {
                    outbox::give_up(tx, id, &uid, "the target refused one again and again")?;
                }
                Ok(gives_up)
            })
            .await?;
        Ok((count, !is_empty && (went_well || gives_up)))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
