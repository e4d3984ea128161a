//! A device starts anew: its first Authenticate, or a claim that was approved.
//!
//! What waited for its earlier life is not for this one: commands, push data, secrets in use, users,
//! declarative state and identities end; history stays. The device may have been erased and set up
//! by somebody else (Apple: "Authenticate").
//!
//! **Invariant:** afterwards exactly one identity speaks for the device.

use plist::Dictionary;

use super::enrollment::{self, Facts};
use super::ids::Ids;
use super::{contact, escrow, event, queue, wake};
use crate::ddm;
use crate::enroll::invitation::Invitation;
use crate::enroll::session::{self, Session};
use crate::error::{Error, Result};
use crate::pki::identity::{self, Fingerprint};
use crate::plist;
use crate::storage::Tx;

/// Begins the enrollment of a device with this identity; it is `pending` until its TokenUpdate.
pub(super) fn begin(
    tx: &Tx<'_>,
    ids: &Ids,
    session: &Session,
    invitation: Option<&Invitation>,
    fingerprint: &Fingerprint,
    message: &Dictionary,
) -> Result<()> {
    let device = ids.device_id.as_str();
    queue::cancel_all(tx, device)?;
    wake::nothing_due_for_all(tx, device)?;
    escrow::retire(tx, device, escrow::Kind::UnlockToken)?;
    escrow::retire(tx, device, escrow::Kind::BootstrapToken)?;
    ddm::forget(tx, device)?;
    enrollment::forget_messages(tx, device)?;
    for user in enrollment::forget_users(tx, device)? {
        ddm::erase(tx, &user)?;
        contact::forget(tx, &user)?;
        enrollment::forget_messages(tx, &user)?;
    }
    let group = invitation.and_then(|invitation| invitation.group.as_deref());
    if let Some(group) = group {
        ddm::group::join(tx, device, group)?;
    }
    session::end_identities(tx, device)?;
    enrollment::begin(tx, ids, &session.id, &facts(message)?)?;
    identity::pin(tx, fingerprint, device)?;
    session::bind(tx, &session.id, device)?;
    event::record(tx, "authenticate", Some(device), "The device began to enroll.")
}

/// What the device says of itself, with Apple's keys and types.
pub(super) fn facts(message: &Dictionary) -> Result<Facts<'_>> {
    Ok(Facts {
        topic: plist::string(message, "Topic")?
            .ok_or_else(|| Error::invalid_at("/Topic", "Authenticate has no Topic"))?,
        serial_number: short(message, "SerialNumber")?,
        name: short(message, "DeviceName")?,
        model: short(message, "Model")?,
        model_name: short(message, "ModelName")?,
        product_name: short(message, "ProductName")?,
        os_version: short(message, "OSVersion")?,
        build_version: short(message, "BuildVersion")?,
    })
}

/// A text that stands in a list: at most 255 bytes.
fn short<'a>(message: &'a Dictionary, key: &'static str) -> Result<Option<&'a str>> {
    match plist::string(message, key)? {
        Some(text) if text.len() > 255 => {
            Err(Error::invalid_at(format!("/{key}"), format!("{key} is longer than 255 bytes")))
        }
        other => Ok(other),
    }
}
