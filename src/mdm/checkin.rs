//! `PUT /mdm/checkin`: check-in messages (Apple: "Check-in").
//!
//! Reads the property list, finds out who speaks, and hands each MessageType to its file. Unknown
//! keys are kept with the message, unknown messages are refused with 400.
//!
//! **Invariant:** a message is acted on for the enrollment that its certificate is pinned to and for
//! no other, whatever its UDID says.

use axum::body::Bytes;
use plist::Dictionary;

use super::caller::Caller;
use super::ids::Ids;
use super::reply::{Refusal, Reply};
use super::{Mdm, authenticate, bootstrap_token, check_out, declarative_management, renewal, token_update};
use crate::error::Error;
use crate::pki::identity::State;
use crate::plist;
use crate::schema;

/// These messages are kept as they came, so they are bounded; a device's have a few kilobytes.
const LONGEST_KEPT: usize = 256 * 1024;

pub(super) async fn handle(mdm: &Mdm, caller: &Caller, body: Bytes) -> Result<Reply, Refusal> {
    let message = plist::parse_dict(&body).map_err(Error::from)?;
    let kind = plist::string(&message, "MessageType")
        .map_err(Error::from)?
        .ok_or_else(|| Refusal::bad("the message has no MessageType"))?
        .to_owned();
    schema::checkin::check_types(&kind, &message)?;
    let ids = Ids::of(&message)?;
    tracing::Span::current().record("message", crate::id::printable(&kind));
    tracing::Span::current().record("enrollment.id", &ids.enrollment_id);

    if matches!(kind.as_str(), "Authenticate" | "TokenUpdate") && body.len() > LONGEST_KEPT {
        return Err(Refusal::bad("the message is longer than 256 KiB; no device's is"));
    }
    match kind.as_str() {
        "Authenticate" => {
            mdm.check_ended(caller)?;
            mdm.in_time(caller)?;
            mdm.limit(caller)?;
            let reply = authenticate::handle(mdm, caller, ids, message, body).await?;
            tracing::info!("a device began to enroll");
            Ok(reply)
        }
        "TokenUpdate" => {
            mdm.speaks_for(caller, &ids).await?;
            mdm.limit(caller)?;
            let enrollment_id = ids.enrollment_id.clone();
            let device_id = ids.device_id.clone();
            let reply = token_update::handle(mdm, caller, ids, message).await?;
            // Who only claims to be the device was not the device's contact.
            if caller.identity.state != State::Claim {
                mdm.contacts.seen(&enrollment_id, mdm.store.clock().now(), caller.address);
                renewal::look_after(mdm, &caller.identity, &device_id).await;
            }
            Ok(reply)
        }
        "CheckOut" => {
            mdm.may_leave(caller, &ids).await?;
            check_out::handle(mdm, caller, ids).await
        }
        _ => {
            mdm.speaks_for(caller, &ids).await?;
            // An expired identity is let in to be renewed and for nothing else.
            mdm.not_expired(caller)?;
            if caller.identity.state == State::Claim {
                if kind == "SetBootstrapToken" {
                    mdm.limit(caller)?;
                    return bootstrap_token::set(mdm, caller, ids, &message).await;
                }
                return known(&kind).then_some(Reply::Empty).ok_or_else(|| unknown(&kind));
            }
            if kind == "UserAuthenticate" {
                // A user who logs in has no channel yet: it is the device that has to be enrolled.
                // Network and mobile accounts of Macs are not managed; 410 says so for this login session.
                mdm.is_enrolled(&ids, &ids.device_id)?;
                return Err(Refusal::UserNotManaged);
            }
            mdm.is_enrolled(&ids, &ids.enrollment_id)?;
            renewal::look_after(mdm, &caller.identity, &ids.device_id).await;
            others(mdm, caller, ids, &kind, &message).await
        }
    }
}

async fn others(
    mdm: &Mdm,
    caller: &Caller,
    ids: Ids,
    kind: &str,
    message: &Dictionary,
) -> Result<Reply, Refusal> {
    mdm.contacts.seen(&ids.enrollment_id, mdm.store.clock().now(), caller.address);
    match kind {
        "SetBootstrapToken" => bootstrap_token::set(mdm, caller, ids, message).await,
        "GetBootstrapToken" => bootstrap_token::get(mdm, &ids),
        "DeclarativeManagement" => declarative_management::handle(mdm, caller, ids, message).await,
        // Tokens come from Apple's business services, which this server is not connected to.
        // 404 would say that the token is another enrollment's.
        "GetToken" => match plist::string(message, "TokenServiceType").map_err(Error::from)? {
            Some(service) => Err(Refusal::bad(format!(
                "this server has no tokens for {}: it is not connected to Apple's business services",
                crate::id::printable(service)
            ))),
            None => Err(Refusal::bad("GetToken has no TokenServiceType")),
        },
        "ReturnToService" => {
            Err(Refusal::bad("this device is not being returned to service; nothing is prepared for it"))
        }
        _ => Err(unknown(kind)),
    }
}

fn known(kind: &str) -> bool {
    matches!(
        kind,
        "SetBootstrapToken"
            | "GetBootstrapToken"
            | "DeclarativeManagement"
            | "UserAuthenticate"
            | "GetToken"
            | "ReturnToService"
    )
}

fn unknown(kind: &str) -> Refusal {
    Refusal::bad(format!("the MessageType {} is not known here", crate::id::printable(kind)))
}
