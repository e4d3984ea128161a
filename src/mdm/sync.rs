//! Who has to synchronise declarations: looks after each edit, and asks at each Idle.
//!
//! `ddm` keeps what a channel should have; this marks the channels as due whose set changed, in the same
//! transaction, and makes the command when a device has nothing else to do. An edit touches no device's
//! row: [`super::pass`] goes through all of them after the commit, in batches, so that nobody waits for it.
//!
//! **Invariant:** a channel whose set changed is woken once, and one that was not told is asked again at
//! a later Idle until it is.

use plist::{Dictionary, Value};

use super::enrollment::{self, Facts};
use super::queue::{self, New, Purpose};
use super::{subject, wake};
use crate::ddm::manifest::Plan;
use crate::ddm::status::{self, Taken};
use crate::ddm::{self, Subject, plans};
use crate::error::Result;
use crate::id;
use crate::pki::seal::Seal;
use crate::plist;
use crate::storage::Tx;

pub use super::pass::{Pass, round};

/// Looks at the set of one channel anew.
///
/// # Errors
/// The database's.
pub fn refresh(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    refresh_by(tx, &*plans::present(tx)?, enrollment_id)
}

/// Looks at the set of a device anew. Those of its users, who may be a hundred, are only marked: the
/// background looks at them, or each of them when it comes.
///
/// # Errors
/// The database's.
pub fn refresh_device(tx: &Tx<'_>, device_id: &str) -> Result<()> {
    // Where a quiet edit is still to be passed on, this is not taken for part of it.
    ddm::sync::mark(tx, device_id)?;
    refresh(tx, device_id)?;
    let channels = enrollment::channels(tx, device_id)?;
    channels.iter().filter(|id| *id != device_id).try_for_each(|user| ddm::sync::mark(tx, user))
}

pub(super) fn refresh_by(tx: &Tx<'_>, plan: &Plan, enrollment_id: &str) -> Result<()> {
    let is_enrolled = |subject: &Subject| subject.keys.get("state").is_some_and(|state| state == "enrolled");
    let Some(subject) = subject::of(tx, enrollment_id)?.filter(is_enrolled) else {
        return ddm::sync::unmark(tx, enrollment_id);
    };
    let refreshed = ddm::sync::refresh(tx, plan, &subject)?;
    if refreshed.changed {
        // They carry the token of the set before.
        queue::cancel_syncs(tx, enrollment_id)?;
    }
    match (refreshed.wake, refreshed.not_before) {
        (true, None) => wake::due(tx, enrollment_id),
        (true, Some(at)) => wake::by(tx, enrollment_id, at),
        (false, _) if refreshed.changed => nothing_to_tell(tx, enrollment_id),
        (false, _) => Ok(()),
    }
}

/// Does what may change what is known of a device, and looks at its sets if it did.
///
/// # Errors
/// The database's, and those of `work`.
pub fn noticing(tx: &Tx<'_>, device_id: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = subject::of(tx, device_id)?;
    work()?;
    if subject::of(tx, device_id)? == before {
        return Ok(());
    }
    enrollment::channels(tx, device_id)?.iter().try_for_each(|channel| ddm::sync::calm(tx, channel))?;
    refresh_device(tx, device_id)
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
    if taken.changed.is_empty() {
        return Ok(());
    }
    if plans::present(tx)?.any_rule_reads(&taken.changed) {
        // What a user reports is known of that user alone.
        return if enrollment_id == device_id {
            refresh_device(tx, device_id)
        } else {
            refresh(tx, enrollment_id)
        };
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
    if ddm::sync::is_stale(tx, enrollment_id, tx.now())? {
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
    nothing_to_tell(tx, enrollment_id)
}

/// A channel that has what it should have, perhaps because an edit was taken back, is woken no more.
fn nothing_to_tell(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    let outstanding = ddm::sync::find(tx, enrollment_id)?.is_some_and(|sync| sync.is_outstanding());
    if outstanding || queue::has_open(tx, enrollment_id)? {
        return Ok(());
    }
    wake::nothing_due(tx, enrollment_id)
}
