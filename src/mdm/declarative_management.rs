//! DeclarativeManagement: declarative requests inside a check-in (Apple: "DeclarativeManagementRequest").
//!
//! `Endpoint` names what the device wants, `Data` carries its status report. The answers are JSON.
//! What they say is `ddm`'s; here they become replies.
//!
//! A declaration that leads to a package is given an address that is this channel's alone.
//!
//! **Invariant:** that a channel was given the items is on the disk before it gets them.

use plist::Dictionary;

use super::ids::Ids;
use super::outbox::Draft;
use super::reply::{Refusal, Reply};
use super::{Mdm, caller::Caller, sync};
use crate::ddm::sync::Endpoint;
use crate::ddm::{self, personal_address};
use crate::error::Error;
use crate::plist;

/// A status report; `told` is how others are told of it.
pub(super) async fn status(
    mdm: &Mdm,
    caller: &Caller,
    ids: Ids,
    message: &Dictionary,
    told: Option<Draft>,
) -> Result<Reply, Refusal> {
    let (fingerprint, seal) = (caller.identity.fingerprint, mdm.seal.clone());
    let report = plist::data(message, "Data")
        .map_err(Error::from)?
        .ok_or_else(|| Refusal::bad("a status report has no Data"))?
        .to_vec();
    let now = mdm.store.clock().now();
    if mdm.store.peek(|conn| ddm::status::is_repeated(conn, &ids.enrollment_id, &report, now))? {
        return Ok(Reply::Empty);
    }
    mdm.limit(caller)?;
    let report = ddm::status::Report::read(report)?;
    mdm.store
        .write("status_report", move |tx| {
            super::still_speaks(tx, &fingerprint)?;
            let taken = ddm::status::keep(tx, &ids.enrollment_id, &report)?;
            told.map_or(Ok(()), |told| told.keep(tx, &seal))?;
            sync::learn_status(tx, &ids.enrollment_id, &ids.device_id, &taken)
        })
        .await?;
    Ok(Reply::Empty)
}

/// All that a device asks for.
pub(super) async fn handle(
    mdm: &Mdm,
    caller: &Caller,
    ids: Ids,
    message: &Dictionary,
) -> Result<Reply, Refusal> {
    let endpoint = plist::string(message, "Endpoint")
        .map_err(Error::from)?
        .ok_or_else(|| Refusal::bad("DeclarativeManagement has no Endpoint"))?;
    let fingerprint = caller.identity.fingerprint;
    let endpoint = Endpoint::named(endpoint).ok_or(Refusal::NotFound)?;
    let (channel, now) = (ids.enrollment_id, mdm.store.clock().now());
    // Mostly all that is asked is known, and one look answers it.
    let known = mdm.store.peek(|conn| match ddm::sync::find(conn, &channel)? {
        Some(sync) if !sync.is_stale(now) => ddm::sync::answer_by(conn, &sync, &endpoint, now).map(Some),
        _ => Ok(None),
    })?;
    let answer = match known {
        Some(answer) => answer,
        None => {
            let channel_id = channel.clone();
            mdm.store
                .write("sync.refresh", move |tx| {
                    super::still_speaks(tx, &fingerprint)?;
                    sync::refresh(tx, &channel_id)
                })
                .await?;
            mdm.store.peek(|conn| ddm::sync::answer(conn, &channel, &endpoint, now))?
        }
    };
    let answer = answer.ok_or(Refusal::NotFound)?;
    if matches!(endpoint, Endpoint::Declaration(..)) && personal_address::concerns(&answer.body) {
        // Each is a write; a device that asks for the same again and again is not healthy.
        if !mdm.limits.spend_on("address", &channel, now) {
            return Err(Refusal::Failed(Error::Busy));
        }
        let personal = mdm.store.write("address.give", move |tx| {
            super::still_speaks(tx, &fingerprint)?;
            personal_address::personal(tx, &channel, answer.body)
        });
        return Ok(Reply::Json(personal.await?));
    }
    if let Some(token) = answer.tells {
        mdm.store
            .write("sync.told", move |tx| {
                super::still_speaks(tx, &fingerprint)?;
                sync::told(tx, &channel, &token)
            })
            .await?;
    }
    Ok(Reply::Json(answer.body))
}
