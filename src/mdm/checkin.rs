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
use super::outbox::Draft;
use super::reply::{Refusal, Reply};
use super::{Mdm, authenticate, bootstrap_token, check_out, declarative_management, renewal, token_update};
use crate::error::Error;
use crate::metric::Counter;
use crate::pki::identity::State;
use crate::plist;
use crate::schema;

/// These messages are kept as they came, so they are bounded; a device's have a few kilobytes.
const LONGEST_KEPT: usize = 256 * 1024;

/// Check-in messages that were read.
static CHECK_INS: Counter = Counter::new("russet_check_ins_total", "Check-in messages of devices.", "type");

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
    CHECK_INS.add(counted(&kind));
    let told = |format| Draft::check_in(format, &ids, &kind, &message, &body);
    match kind.as_str() {
        "Authenticate" => {
            mdm.check_ended(caller)?;
            mdm.in_time(caller)?;
            mdm.limit(caller)?;
            let told = mdm.told_as.map(told);
            let reply = authenticate::handle(mdm, caller, ids, message, body, told).await?;
            tracing::info!("a device began to enroll");
            Ok(reply)
        }
        "TokenUpdate" => {
            mdm.speaks_for(caller, &ids).await?;
            mdm.limit(caller)?;
            let enrollment_id = ids.enrollment_id.clone();
            let device_id = ids.device_id.clone();
            let told = mdm.told_as.map(told);
            let reply = token_update::handle(mdm, caller, ids, message, told).await?;
            // Who only claims to be the device was not the device's contact.
            if caller.identity.state != State::Claim {
                mdm.contacts.seen(&enrollment_id, mdm.store.clock().now(), caller.address);
                renewal::look_after(mdm, &caller.identity, &device_id).await;
            }
            Ok(reply)
        }
        "CheckOut" => {
            mdm.may_leave(caller, &ids).await?;
            let told = mdm.told_as.map(told);
            check_out::handle(mdm, caller, ids, told).await
        }
        _ => {
            mdm.speaks_for(caller, &ids).await?;
            // An expired identity is let in to be renewed and for nothing else.
            mdm.not_expired(caller)?;
            if caller.identity.state == State::Claim {
                if kind == "SetBootstrapToken" {
                    mdm.limit(caller)?;
                    return bootstrap_token::set(mdm, caller, ids, &message, None).await;
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
            others(mdm, caller, ids, &kind, &message, &body).await
        }
    }
}

async fn others(
    mdm: &Mdm,
    caller: &Caller,
    ids: Ids,
    kind: &str,
    message: &Dictionary,
    body: &[u8],
) -> Result<Reply, Refusal> {
    mdm.contacts.seen(&ids.enrollment_id, mdm.store.clock().now(), caller.address);
    let told = |format| Draft::check_in(format, &ids, kind, message, body);
    match kind {
        "SetBootstrapToken" => {
            let told = mdm.told_as.map(told);
            bootstrap_token::set(mdm, caller, ids, message, told).await
        }
        "GetBootstrapToken" => {
            mdm.tell(told, "told", &ids.enrollment_id);
            bootstrap_token::get(mdm, &ids)
        }
        "DeclarativeManagement" if is_status(message) => {
            let told = mdm.told_as.map(told);
            declarative_management::status(mdm, caller, ids, message, told).await
        }
        "DeclarativeManagement" => {
            mdm.tell(told, "told", &ids.enrollment_id);
            declarative_management::handle(mdm, caller, ids, message).await
        }
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

/// A status report, which is the one declarative request that says something.
fn is_status(message: &Dictionary) -> bool {
    matches!(plist::string(message, "Endpoint"), Ok(Some("status")))
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

/// The message's type as it is counted: a device cannot invent one.
fn counted(kind: &str) -> &'static str {
    match kind {
        "Authenticate" => "Authenticate",
        "TokenUpdate" => "TokenUpdate",
        "CheckOut" => "CheckOut",
        "SetBootstrapToken" => "SetBootstrapToken",
        "GetBootstrapToken" => "GetBootstrapToken",
        "DeclarativeManagement" => "DeclarativeManagement",
        "UserAuthenticate" => "UserAuthenticate",
        "GetToken" => "GetToken",
        "ReturnToService" => "ReturnToService",
        _ => "other",
    }
}

fn unknown(kind: &str) -> Refusal {
    Refusal::bad(format!("the MessageType {} is not known here", crate::id::printable(kind)))
}
