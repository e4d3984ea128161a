//! Who has to synchronise declarations: looks after each edit, and asks at each Idle.
//!
//! `ddm` keeps what a channel should have; this marks the channels as due whose set changed, in the same
//! transaction, and makes the command when a device has nothing else to do. An edit touches no device's
//! row: [`Pass`] goes through all of them after the commit, in batches, so that nobody waits for it.
//!
//! **Invariant:** a channel whose set changed is woken once, and one that was not told is asked again at
//! a later Idle until it is.

use std::sync::Arc;

use plist::{Dictionary, Value};

use super::enrollment::{self, Facts};
use super::queue::{self, New, Purpose};
use super::{Mdm, subject, wake};
use crate::ddm::manifest::Plan;
use crate::ddm::status::{self, Taken};
use crate::ddm::{self, generation};
use crate::error::{Error, Result};
use crate::id;
use crate::pki::seal::Seal;
use crate::plist;
use crate::storage::Tx;

/// How many channels one transaction looks at.
const AT_ONCE: u32 = 200;

/// Looks at the set of one channel anew.
///
/// # Errors
/// The database's.
pub fn refresh(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    refresh_by(tx, &*Plan::current(tx)?, enrollment_id)
}

/// Looks at the set of a device anew, and has those of its users looked at: they may be many.
///
/// # Errors
/// The database's.
pub fn refresh_device(tx: &Tx<'_>, device_id: &str) -> Result<()> {
    for channel in enrollment::channels(tx, device_id)? {
        if channel == device_id { refresh(tx, device_id)? } else { ddm::sync::mark_stale(tx, &channel)? }
    }
    Ok(())
}

fn refresh_by(tx: &Tx<'_>, plan: &Plan, enrollment_id: &str) -> Result<()> {
    let Some(subject) = subject::of(tx, enrollment_id)? else { return Ok(()) };
    if subject.keys.get("state").is_none_or(|state| state != "enrolled") {
        return Ok(());
    }
    let refreshed = ddm::sync::refresh(tx, plan, &subject)?;
    if refreshed.changed {
        // They carry the token of the set before.
        queue::cancel_syncs(tx, enrollment_id)?;
    }
    if refreshed.wake {
        wake::due(tx, enrollment_id)?;
    }
    Ok(())
}

/// Does what may change what is known of a device, and looks at its sets if it did.
///
/// # Errors
/// The database's, and those of `work`.
pub fn noticing(tx: &Tx<'_>, device_id: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = subject::of(tx, device_id)?;
    work()?;
    if subject::of(tx, device_id)? == before { Ok(()) } else { refresh_device(tx, device_id) }
}

/// What a device says of itself outside of status reports.
pub(super) fn learn(tx: &Tx<'_>, device_id: &str, facts: &Facts<'_>, supervised: Option<bool>) -> Result<()> {
    if enrollment::learn(tx, device_id, facts, supervised)? { refresh_device(tx, device_id) } else { Ok(()) }
}

/// What a status report taught.
pub(super) fn learn_status(tx: &Tx<'_>, enrollment_id: &str, device_id: &str, taken: &Taken) -> Result<()> {
    if enrollment_id == device_id {
        let text = |item: &str| -> Result<Option<String>> {
            if !taken.changed.contains(item) {
                return Ok(None);
            }
            let value = status::value(tx, enrollment_id, item)?;
            Ok(value
                .and_then(|value| value.as_str().map(str::to_owned))
                .filter(|text| (1..=255).contains(&text.len())))
        };
        let os_version = text("device.operating-system.version")?;
        let build_version = text("device.operating-system.build-version")?;
        let product_name = text("device.model.identifier")?;
        let facts = Facts {
            product_name: product_name.as_deref(),
            os_version: os_version.as_deref(),
            build_version: build_version.as_deref(),
            ..Facts::default()
        };
        learn(tx, device_id, &facts, None)?;
    }
    if !taken.changed.is_empty() && Plan::current(tx)?.any_rule_reads(&taken.changed) {
        return refresh_device(tx, device_id);
    }
    if taken.changed.contains("management.client-capabilities") || ddm::update::reads(&taken.changed) {
        return refresh(tx, enrollment_id);
    }
    Ok(())
}

/// A channel can be reached, anew or for the first time: what waits for it is said at once.
pub(super) fn reachable(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    refresh(tx, enrollment_id)?;
    let outstanding = ddm::sync::find(tx, enrollment_id)?.is_some_and(|sync| sync.is_outstanding());
    if outstanding || queue::has_open(tx, enrollment_id)? { wake::due(tx, enrollment_id) } else { Ok(()) }
}

/// The command to synchronise, for a channel that has nothing else to do and has to.
pub(super) fn command(tx: &Tx<'_>, seal: &Seal, enrollment_id: &str) -> Result<Option<Vec<u8>>> {
    if ddm::sync::is_stale(tx, enrollment_id)? {
        refresh(tx, enrollment_id)?;
    }
    // One that was put off comes back by itself.
    if queue::has_open_sync(tx, enrollment_id)? {
        return Ok(None);
    }
    let Some(tokens) = ddm::sync::ask(tx, enrollment_id)? else { return Ok(None) };
    let uuid = id::uuid();
    let request = declarative_management(&uuid, tokens);
    let new = New {
        uuid: &uuid,
        request_type: "DeclarativeManagement",
        request: &request,
        secret: false,
        urgent: false,
        purpose: Purpose::Sync,
        queued_by: "russet",
        expires_at: None,
    };
    queue::enqueue(tx, seal, enrollment_id, &new)?;
    queue::next(tx, seal, enrollment_id, false)
}

/// The tokens in it save the device a question.
fn declarative_management(uuid: &str, tokens: Vec<u8>) -> Vec<u8> {
    let mut command = Dictionary::new();
    command.insert("RequestType".into(), "DeclarativeManagement".into());
    command.insert("Data".into(), Value::Data(tokens));
    let mut request = Dictionary::new();
    request.insert("CommandUUID".into(), uuid.into());
    request.insert("Command".into(), Value::Dictionary(command));
    plist::to_xml(&Value::Dictionary(request))
}

/// A channel is about to be given the items of this token: there is nothing to wake it for any more.
pub(super) fn told(tx: &Tx<'_>, enrollment_id: &str, token: &str) -> Result<()> {
    ddm::sync::told(tx, enrollment_id, token)?;
    let outstanding = ddm::sync::find(tx, enrollment_id)?.is_some_and(|sync| sync.is_outstanding());
    if outstanding || queue::has_open(tx, enrollment_id)? {
        return Ok(());
    }
    wake::nothing_due(tx, enrollment_id)
}

/// The way through all channels after an edit, and through those of which something else is known.
#[derive(Default)]
pub struct Pass {
    /// The generation that all channels have seen.
    done: Option<i64>,
    /// The generation at the beginning of the way, and the last channel that was looked at.
    under_way: Option<(i64, String)>,
    /// The last of the stale channels that was looked at.
    stale: String,
}

impl Pass {
    /// Looks at the next batch; answers whether there is more to do. A channel that cannot be looked at
    /// is said and passed over: the others do not wait for it.
    ///
    /// # Errors
    /// The database's; the batch is tried again.
    pub async fn step(&mut self, mdm: &Mdm) -> Result<bool> {
        let now = mdm.store.peek(generation::now)?;
        let (began, after) = match self.under_way.take() {
            Some(under_way) => under_way,
            None if self.done == Some(now.generation) => return self.step_stale(mdm).await,
            None => {
                // It may be large; the writer does not wait while it is read.
                let plan = Arc::new(mdm.store.read(Plan::read).await?);
                let remember = move |tx: &Tx<'_>| {
                    tx.remember(plan);
                    Ok(())
                };
                mdm.store.write("sync.plan", remember).await?;
                (now.generation, String::new())
            }
        };
        self.under_way = Some((began, after.clone()));
        let channels = mdm.store.read(move |conn| enrollment::enrolled_after(conn, &after, AT_ONCE)).await?;
        let Some(last) = channels.last().cloned() else {
            self.under_way = None;
            self.done = Some(began);
            return Ok(true);
        };
        look_at_all(mdm, channels).await?;
        self.under_way = Some((began, last));
        Ok(true)
    }

    async fn step_stale(&mut self, mdm: &Mdm) -> Result<bool> {
        let after = std::mem::take(&mut self.stale);
        let channels = mdm.store.read(move |conn| ddm::sync::stale(conn, &after, AT_ONCE)).await?;
        // Whoever marks one behind this place wakes us again; one that fails waits for that, too.
        let Some(last) = channels.last().cloned() else { return Ok(false) };
        look_at_all(mdm, channels).await?;
        self.stale = last;
        Ok(true)
    }
}

async fn look_at_all(mdm: &Mdm, channels: Vec<String>) -> Result<()> {
    let channels = Arc::new(channels);
    let batch = channels.clone();
    let done = mdm.store.write("sync.pass", move |tx| batch.iter().try_for_each(|id| look_at(tx, id)));
    match done.await {
        Ok(()) => Ok(()),
        Err(Error::Busy) => Err(Error::Busy),
        Err(_) => one_by_one(mdm, &channels).await,
    }
}

/// A channel of a batch that failed took the others with it.
async fn one_by_one(mdm: &Mdm, channels: &[String]) -> Result<()> {
    let mut failed = 0;
    for channel in channels {
        let id = channel.clone();
        match mdm.store.write("sync.pass", move |tx| look_at(tx, &id)).await {
            Ok(()) => {}
            Err(Error::Busy) => return Err(Error::Busy),
            Err(error) => {
                failed += 1;
                tracing::error!(
                    enrollment.id = channel,
                    error = error.chain(),
                    "what this channel should have could not be found out"
                );
                // That is the disk, and no channel.
                if failed == channels.len() {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// Looks at the set of a channel unless somebody did meanwhile.
fn look_at(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    if ddm::sync::is_stale(tx, enrollment_id)? { refresh(tx, enrollment_id) } else { Ok(()) }
}

/// Goes through all channels until each has seen all edits.
///
/// # Errors
/// The database's.
pub async fn round(mdm: &Mdm) -> Result<()> {
    let mut pass = Pass::default();
    while pass.step(mdm).await? {}
    Ok(())
}
