//! Authenticate: a device says that it is about to be managed (Apple: "Authenticate").
//!
//! The identity that says it was issued for an enrollment session, and the session decides what it
//! may mean: the first message of a new device, the same message repeated, the renewal of a device
//! that keeps everything, or a claim on a device that is still enrolled.
//!
//! **Invariant:** a live enrollment is begun anew only as INTERFACE 7 allows; anything else waits as
//! a claim and changes nothing.

use axum::body::Bytes;
use plist::Dictionary;

use super::begin::{self, facts};
use super::enrollment::{self, Enrollment, Facts, State};
use super::ids::Ids;
use super::outbox::Draft;
use super::reply::{Refusal, Reply};
use super::{Mdm, caller::Caller, claim, event, sync, unfinished};
use crate::enroll::invitation::Invitation;
use crate::enroll::session::{self, Session};
use crate::error::{Error, Result};
use crate::pki::identity::{self, Identity};
use crate::storage::Tx;

pub(super) async fn handle(
    mdm: &Mdm,
    caller: &Caller,
    ids: Ids,
    message: Dictionary,
    body: Bytes,
    told: Option<Draft>,
) -> Result<Reply, Refusal> {
    if !ids.kind.is_device() {
        return Err(Refusal::bad("Authenticate comes on the device channel only"));
    }
    facts(&message)?;
    let (fingerprint, seal) = (caller.identity.fingerprint, mdm.seal.clone());
    mdm.store
        .write("authenticate", move |tx| {
            let identity = identity::find(tx, &fingerprint)?
                .ok_or_else(|| Error::Unauthenticated("this certificate was not issued here".into()))?;
            authenticate(tx, &ids, &identity, &message, &body)?;
            // What only claims to be the device is not told as if the device had said it.
            match (told, identity::find(tx, &fingerprint)?.map(|identity| identity.state)) {
                (Some(told), Some(identity::State::Pinned | identity::State::Superseded)) => {
                    told.keep(tx, &seal)
                }
                _ => Ok(()),
            }
        })
        .await?;
    Ok(Reply::Empty)
}

fn authenticate(
    tx: &Tx<'_>,
    ids: &Ids,
    identity: &Identity,
    message: &Dictionary,
    body: &[u8],
) -> Result<()> {
    let device = ids.device_id.as_str();
    let session = session::find(tx, &identity.session_id)?
        .ok_or_else(|| Error::internal("the enrollment session of an identity is missing"))?;
    let facts = facts(message)?;
    if facts.topic != session.parameters.topic {
        return Err(Error::invalid_at(
            "/Topic",
            "the Topic is not the one in this device's enrollment profile",
        ));
    }
    let known = enrollment::find(tx, device)?;
    match identity.state {
        identity::State::Dead => {
            Err(Error::Unauthenticated("this identity has ended; enroll again with a new link".into()))
        }
        // The reply got lost: the same claim again.
        identity::State::Claim if identity.enrollment_id.as_deref() == Some(device) => Ok(()),
        // The reply got lost, or the device says it again: the same enrollment, nothing is cleared.
        identity::State::Pinned | identity::State::Superseded
            if identity.enrollment_id.as_deref() == Some(device) =>
        {
            sync::learn(tx, device, &facts, None)?;
            enrollment::keep_message(tx, device, "Authenticate", body)
        }
        identity::State::Claim | identity::State::Pinned | identity::State::Superseded => {
            Err(Error::Unauthenticated("this identity speaks for another device".into()))
        }
        identity::State::Issued => {
            if session.enrollment_id.as_deref().is_some_and(|bound| bound != device) {
                return Err(Error::Unauthenticated(
                    "this enrollment session belongs to another device".into(),
                ));
            }
            match &session.origin {
                session::Origin::Renewal(renewed) if renewed == device => {
                    renew(tx, device, known.as_ref(), &session, identity, &facts)?;
                    enrollment::keep_message(tx, device, "Authenticate", body)
                }
                session::Origin::Renewal(_) => {
                    Err(Error::Unauthenticated("this identity renews another device".into()))
                }
                session::Origin::Invitation(_) => {
                    let invitation = usable_invitation(tx, &session, &facts)?;
                    unfinished::make_room(tx, &invitation)?;
                    if let Some(live) = known.as_ref().filter(|known| is_live(known)) {
                        if !may_replace(live, &invitation) {
                            session::bind(tx, &session.id, device)?;
                            return claim::open(tx, device, identity, body, &facts);
                        }
                        // Whoever ends a live enrollment uses the link up at once: its TokenUpdate may
                        // never come, and a link ends no more devices than it was made for. One that
                        // was made for a serial number has only that one to end.
                        if invitation.serial_number.is_none() {
                            session::count_use(tx, &session)?;
                        }
                    }
                    // A link that anybody may hold does not lead into the groups of whoever had this UDID.
                    if !known.as_ref().is_some_and(|known| may_replace(known, &invitation)) {
                        enrollment::leave_groups(tx, device)?;
                    }
                    begin::begin(tx, ids, &session, Some(&invitation), &identity.fingerprint, message)?;
                    enrollment::keep_message(tx, device, "Authenticate", body)
                }
            }
        }
    }
}

fn usable_invitation(tx: &Tx<'_>, session: &Session, facts: &Facts<'_>) -> Result<Invitation> {
    let invitation =
        session.invitation(tx)?.ok_or_else(|| Error::invalid("the invitation of this profile is gone"))?;
    // A session that was counted is in: its device only repeats itself.
    if let (false, Some(spent)) = (session.counted, invitation.spent(tx.now())) {
        return Err(Error::invalid(spent.words()));
    }
    match &invitation.serial_number {
        Some(wanted) if facts.serial_number != Some(wanted) => {
            Err(Error::invalid("this link was made for another device: the serial number differs"))
        }
        _ => Ok(invitation),
    }
}

/// Whether the enrollment is in use, so that nobody may take its place without proof. One that is
/// `pending` is not: a device whose profile did not install tries again with another at once, and
/// nothing tells it from somebody who knows its UDID; that one could as well have come first.
fn is_live(known: &Enrollment) -> bool {
    known.state == State::Enrolled && known.erased_at.is_none()
}

/// The proofs that stand in an invitation: made for this serial number, or for re-enrollment.
fn may_replace(known: &Enrollment, invitation: &Invitation) -> bool {
    let same_serial = invitation.serial_number.is_some() && invitation.serial_number == known.serial_number;
    invitation.reenroll || same_serial
}

/// The renewal that this server sent arrived: the device is the same and keeps everything.
fn renew(
    tx: &Tx<'_>,
    device: &str,
    known: Option<&Enrollment>,
    session: &Session,
    identity: &Identity,
    facts: &Facts<'_>,
) -> Result<()> {
    if !known.is_some_and(|known| known.state != State::Unenrolled) {
        return Err(Error::Unauthenticated("the enrollment that this identity renews has ended".into()));
    }
    identity::pin(tx, &identity.fingerprint, device)?;
    session::bind(tx, &session.id, device)?;
    sync::learn(tx, device, facts, None)?;
    event::record(tx, "identity-renewed", Some(device), "The device has a new identity certificate.")
}
