//! Renewal of device identities.
//!
//! Apple's devices do not renew the MDM identity by themselves: the server sends InstallProfile with
//! the enrollment profile again, with a new identity payload and everything else as it was. It is
//! looked for at start, at each contact and every ten minutes; one that came to nothing is sent
//! again. See Apple's "Managing certificates for device management services and devices".
//!
//! **Invariant:** a renewal repeats the parameters of the session that the device enrolled with,
//! whatever the configuration says now.

use plist::{Dictionary, Value};
use rusqlite::Connection;

use super::enrollment::{self, State};
use super::queue::{self, New, Purpose};
use super::{Mdm, ending, event};
use crate::clock::Seconds;
use crate::enroll::session::{self, Origin, Parameters};
use crate::error::{Error, Result};
use crate::id;
use crate::pki::identity::{self, Identity};
use crate::pki::tls_authority::Next;
use crate::plist;

/// Sends a renewal to a device that is here and whose identity ends soon or has ended, unless one is under
/// way; answers whether it did. What else the device came for does not depend on it.
pub(super) async fn look_after(mdm: &Mdm, identity: &Identity, device_id: &str) -> bool {
    send_if_due(mdm, identity, device_id).await.unwrap_or_else(|error| {
        not_sent(device_id, &error);
        false
    })
}

async fn send_if_due(mdm: &Mdm, identity: &Identity, device_id: &str) -> Result<bool> {
    // Issuing needs the right time, and a wrong clock makes everything look expired.
    let clock = mdm.store.clock();
    if identity.not_after - mdm.renew_before > clock.now() || !clock.is_sane() {
        return Ok(false);
    }
    // What the device speaks with counts: a newer one that it renewed for itself may not have reached it.
    let ends = (identity.state == identity::State::Pinned).then_some(identity.not_after);
    send(mdm, device_id, ends).await
}

fn not_sent(device_id: &str, error: &Error) {
    tracing::error!(
        enrollment.id = device_id,
        error = error.chain(),
        "a renewal was not sent; it is tried again"
    );
}

/// Looks for devices whose identities end soon; a background task's. One that fails does not keep the
/// others from theirs.
///
/// # Errors
/// The database's.
pub async fn round(mdm: &Mdm) -> Result<usize> {
    let clock = mdm.store.clock();
    if !clock.is_sane() {
        return Ok(0);
    }
    let end = clock.now() + mdm.renew_before;
    let mut due = mdm.store.read(move |conn| identity::ending_before(conn, end)).await?;
    // Who does not trust the TLS root that takes over soon would be lost.
    if let Some(next) = mdm.enroll.next_anchor().filter(|next| next.urgent_from <= clock.now()) {
        let without = mdm.store.read(move |conn| ending::profiles_until(conn, next.made_at)).await?;
        due.extend(without);
    }
    for device_id in &due {
        if let Err(error) = send(mdm, device_id, None).await {
            not_sent(device_id, &error);
        }
    }
    Ok(due.len())
}

/// What a renewal repeats, if one is due now. `ends` is when the identity ends that the device speaks
/// with; without it its newest counts.
fn due(
    conn: &Connection,
    device_id: &str,
    ends: Option<Seconds>,
    renew_before: Seconds,
    next: Option<&Next>,
    now: Seconds,
) -> Result<Option<Parameters>> {
    let known = enrollment::find(conn, device_id)?.filter(|known| known.state == State::Enrolled);
    let newest = identity::newest_of(conn, device_id)?;
    let (Some(known), Some(newest)) = (known, newest) else { return Ok(None) };
    let ends = ends.unwrap_or(newest.not_after);
    let needs_anchor = match next.filter(|next| next.urgent_from <= now) {
        Some(next) => ending::has_profile_until(conn, device_id, next.made_at)?,
        None => false,
    };
    if ends - renew_before > now && !needs_anchor {
        return Ok(None);
    }
    let last = session::newest_renewal(conn, device_id)?;
    let waiting = queue::has_open_renewal(conn, device_id)?;
    if !session::renewal_is_due(last.as_ref(), waiting, ends < now, now) {
        return Ok(None);
    }
    let enrolled_with = known.session_id.as_deref().map(|id| session::find(conn, id)).transpose()?;
    Ok(enrolled_with.flatten().map(|session| session.parameters))
}

/// Answers whether one was sent.
async fn send(mdm: &Mdm, device_id: &str, ends: Option<Seconds>) -> Result<bool> {
    let (now, renew_before) = (mdm.store.clock().now(), mdm.renew_before);
    let (device, next) = (device_id.to_owned(), mdm.enroll.next_anchor());
    let parameters = mdm.store.peek(|conn| due(conn, &device, ends, renew_before, next.as_ref(), now))?;
    let Some(parameters) = parameters else { return Ok(false) };

    let (session_id, challenge) = (id::hex(&id::random::<16>()), id::secret::<32>());
    let profile = mdm.enroll.signed_profile(&parameters, &session_id, &challenge).await?;
    let uuid = id::uuid();
    let request = install_profile(&uuid, profile);
    let seal = mdm.seal.clone();
    mdm.store
        .write("renewal", move |tx| {
            // While the profile was signed, another connection of the device may have sent one.
            if due(tx, &device, ends, renew_before, next.as_ref(), tx.now())?.is_none() {
                return Ok(false);
            }
            queue::cancel_renewals(tx, &device)?;
            let origin = Origin::Renewal(device.clone());
            let expires_at = session::renewal_expiry(tx.now());
            session::open_as(tx, &session_id, &challenge, &origin, &parameters, expires_at)?;
            let new = New {
                uuid: &uuid,
                request_type: "InstallProfile",
                request: &request,
                secret: true,
                urgent: false,
                purpose: Purpose::Renewal,
                queued_by: "russet",
                expires_at: Some(expires_at),
            };
            queue::enqueue(tx, &seal, &device, &new)?;
            event::record(
                tx,
                "renewal-sent",
                Some(&device),
                "The device's identity ends soon; a new one was sent.",
            )?;
            Ok(true)
        })
        .await
}

fn install_profile(uuid: &str, profile: Vec<u8>) -> Vec<u8> {
    let mut command = Dictionary::new();
    command.insert("RequestType".into(), "InstallProfile".into());
    command.insert("Payload".into(), Value::Data(profile));
    let mut request = Dictionary::new();
    request.insert("CommandUUID".into(), uuid.into());
    request.insert("Command".into(), Value::Dictionary(command));
    plist::to_xml(&Value::Dictionary(request))
}
