//! Enrollments that were begun and never finished.
//!
//! A link's use is counted at TokenUpdate, so whoever holds a link can say Authenticate under one
//! UDID after another and never be counted. Of each link only so many are kept, and none for longer
//! than a month.
//!
//! **Invariant:** a device that is enrolled, and one that is still to be told to unenroll, is never
//! touched here.

use super::enrollment::{self, Enrollment, State};
use super::{check_out, claim, forget};
use crate::clock::{DAY, Seconds};
use crate::enroll::invitation::Invitation;
use crate::enroll::session;
use crate::error::Result;
use crate::storage::Tx;

/// How long a TokenUpdate may follow its Authenticate; it comes within seconds.
const PATIENCE: Seconds = 30 * DAY;

/// Before a device begins with this link: the oldest that did not finish give way.
pub(super) fn make_room(tx: &Tx<'_>, invitation: &Invitation) -> Result<()> {
    for (session_id, device_id) in session::unfinished(tx, &invitation.code, invitation.most_unfinished())? {
        // Claims are bounded by themselves: they wait for a decision, and hear it when there is one.
        if claim::matters(tx, &session_id)? {
            continue;
        }
        let known = enrollment::find(tx, &device_id)?;
        let known = known.filter(|known| known.session_id.as_deref() == Some(&session_id));
        if let Some(known) = known {
            if !is_unfinished(&known) {
                continue;
            }
            give_up(tx, &device_id)?;
        }
        claim::abandon(tx, &session_id)?;
        session::remove(tx, &session_id)?;
    }
    Ok(())
}

/// Removes what never finished within a month, and claims that were withdrawn that long ago, at most
/// `limit` of each; answers how many.
///
/// # Errors
/// The database's.
pub fn thin(tx: &Tx<'_>, limit: u32) -> Result<usize> {
    let before = tx.now() - PATIENCE;
    let old = enrollment::unfinished(tx, before, limit)?;
    for device_id in &old {
        let session_id = enrollment::find(tx, device_id)?.and_then(|known| known.session_id);
        give_up(tx, device_id)?;
        if let Some(session_id) = session_id {
            session::remove(tx, &session_id)?;
        }
    }
    Ok(old.len() + claim::thin(tx, before, limit)?)
}

/// What left before it was enrolled counts too.
fn is_unfinished(known: &Enrollment) -> bool {
    known.state == State::Pending || (known.state == State::Unenrolled && known.unenroll_at.is_none())
}

/// A device that was enrolled in an earlier life keeps its history.
fn give_up(tx: &Tx<'_>, device_id: &str) -> Result<()> {
    if enrollment::was_enrolled(tx, device_id)? {
        check_out::leave(tx, device_id)
    } else {
        forget(tx, device_id)
    }
}
