//! CheckOut: the user or an administrator removed the profile (Apple: "CheckOut").
//!
//! Best effort on Apple's side: that it did not come proves nothing. What was escrowed stays as
//! history; pushes and commands end.

use super::ids::Ids;
use super::outbox::Draft;
use super::reply::{Refusal, Reply};
use super::{Mdm, caller::Caller, claim, enrollment, event, queue, wake};
use crate::ddm;
use crate::enroll::session;
use crate::error::Result;
use crate::pki::identity::{self, State};
use crate::storage::Tx;

pub(super) async fn handle(
    mdm: &Mdm,
    caller: &Caller,
    ids: Ids,
    told: Option<Draft>,
) -> Result<Reply, Refusal> {
    let (fingerprint, seal) = (caller.identity.fingerprint, mdm.seal.clone());
    mdm.store
        // What it is now counts: a claim may have been approved since it was proven, and then who was
        // the device must not take the new one along.
        .write("check_out", move |tx| {
            match identity::find(tx, &fingerprint)?.map_or(State::Dead, |now| now.state) {
                State::Claim => claim::withdraw(tx, &fingerprint),
                // The reply got lost and the device says it again.
                State::Dead | State::Issued => Ok(()),
                State::Pinned | State::Superseded if ids.kind.is_device() => {
                    leave(tx, &ids.device_id)?;
                    told.map_or(Ok(()), |told| told.keep(tx, &seal))?;
                    let words = "Management was removed on the device.";
                    event::record(tx, "check-out", Some(&ids.device_id), words)
                }
                State::Pinned | State::Superseded => {
                    enrollment::end(tx, &ids.enrollment_id)?;
                    ddm::forget(tx, &ids.enrollment_id)?;
                    queue::cancel_all(tx, &ids.enrollment_id)?;
                    wake::nothing_due(tx, &ids.enrollment_id)?;
                    told.map_or(Ok(()), |told| told.keep(tx, &seal))
                }
            }
        })
        .await?;
    Ok(Reply::Empty)
}

/// The device is managed no more; what is known of it stays.
pub(super) fn leave(tx: &Tx<'_>, device_id: &str) -> Result<()> {
    queue::cancel_all(tx, device_id)?;
    wake::nothing_due_for_all(tx, device_id)?;
    enrollment::end(tx, device_id)?;
    for channel in enrollment::channels(tx, device_id)? {
        ddm::forget(tx, &channel)?;
    }
    session::end_identities(tx, device_id)
}
