//! The last SCEP request of each device that was to renew its identity and was refused: table
//! `refused_renewals`, of which this file is the owner.
//!
//! `scep` writes it, `mdm::ending` shows it. A request whose device is not proven, by the challenge of a
//! renewal that we sent or by an identity in use, is in no row.
//!
//! **Invariant:** one row for each device, written at most once a minute.

use std::borrow::Cow;

use rusqlite::{Connection, OptionalExtension, params};

use super::{Enroll, session};
use crate::clock::{MINUTE, Seconds};
use crate::error::Result;
use crate::pki::identity::{self, State};
use crate::pki::scep::message::{MessageType, Request};
use crate::storage::Tx;

/// When and with which words a device's renewal was refused last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub at: Seconds,
    pub words: String,
}

/// Writes down that this request was refused, if it is known whose it is.
///
/// # Errors
/// The database's.
pub(super) async fn note(enroll: &Enroll, request: &Request, words: Cow<'static, str>) -> Result<()> {
    let now = enroll.store.clock().now();
    let whose = enroll.store.peek(|conn| {
        let Some(device) = device(conn, request)? else { return Ok(None) };
        let is_new = last(conn, &device)?.is_none_or(|last| last.at + MINUTE <= now || last.at > now);
        Ok(is_new.then_some(device))
    })?;
    let Some(device) = whose else { return Ok(()) };
    enroll
        .store
        .write("renewal.refused", move |tx| {
            tx.prepare_cached(
                "INSERT OR REPLACE INTO refused_renewals (enrollment_id, at, words) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![device, tx.now(), words])?;
            Ok(())
        })
        .await
}

fn device(conn: &Connection, request: &Request) -> Result<Option<String>> {
    match request.message_type {
        MessageType::PkcsReq => {
            let challenge = request.csr.challenge().filter(|challenge| !challenge.is_empty());
            let session = challenge.map(|challenge| session::by_challenge(conn, challenge)).transpose()?;
            Ok(session.flatten().and_then(session::Session::renewed))
        }
        MessageType::RenewalReq => {
            let identity = identity::find(conn, request.signer.fingerprint())?;
            Ok(identity.filter(|own| own.state == State::Pinned).and_then(|own| own.enrollment_id))
        }
    }
}

/// Removes what is kept of a device.
pub fn forget(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM refused_renewals WHERE enrollment_id = ?1")?.execute([enrollment_id])?;
    Ok(())
}

/// The last refusal of a device.
pub fn last(conn: &Connection, enrollment_id: &str) -> Result<Option<Refused>> {
    Ok(conn
        .prepare_cached("SELECT at, words FROM refused_renewals WHERE enrollment_id = ?1")?
        .query_row([enrollment_id], |row| Ok(Refused { at: row.get(0)?, words: row.get(1)? }))
        .optional()?)
}
