//! SetBootstrapToken and GetBootstrapToken: what lets a Mac give its users secure tokens, and its
//! administrator updates, without a password (Apple: "Set Bootstrap Token", "Get Bootstrap Token").
//!
//! **Invariant:** a token goes back byte for byte, to the device that sent it and no other.

use plist::{Dictionary, Value};

use super::ids::Ids;
use super::outbox::Draft;
use super::reply::{Refusal, Reply};
use super::{Mdm, caller::Caller, claim, escrow};
use crate::error::Error;
use crate::pki::identity::{self, State};
use crate::plist;

const LONGEST: usize = 64 * 1024;

pub(super) async fn set(
    mdm: &Mdm,
    caller: &Caller,
    ids: Ids,
    message: &Dictionary,
    told: Option<Draft>,
) -> Result<Reply, Refusal> {
    let token = plist::data(message, "BootstrapToken").map_err(Error::from)?.unwrap_or_default().to_vec();
    if token.len() > LONGEST {
        return Err(Refusal::bad("the BootstrapToken is longer than 64 KiB"));
    }
    let (seal, fingerprint) = (mdm.seal.clone(), caller.identity.fingerprint);
    mdm.store
        .write("set_bootstrap_token", move |tx| {
            if identity::find(tx, &fingerprint)?.is_some_and(|now| now.state == State::Claim) {
                return claim::keep_bootstrap_token(tx, &seal, &fingerprint, &token);
            }
            super::still_speaks(tx, &fingerprint)?;
            if let Some(told) = told {
                told.keep(tx, &seal)?;
            }
            let kind = escrow::Kind::BootstrapToken;
            // Missing or empty means that the device has none any more.
            if token.is_empty() {
                escrow::retire(tx, &ids.device_id, kind)
            } else {
                escrow::store(tx, &seal, &ids.device_id, kind, &token)
            }
        })
        .await?;
    Ok(Reply::Empty)
}

pub(super) fn get(mdm: &Mdm, ids: &Ids) -> Result<Reply, Refusal> {
    let token = mdm
        .store
        .peek(|conn| escrow::current(conn, &mdm.seal, &ids.device_id, escrow::Kind::BootstrapToken))?;
    Ok(match token {
        None => Reply::Empty,
        Some(token) => {
            let mut answer = Dictionary::new();
            answer.insert("BootstrapToken".into(), Value::Data(token));
            Reply::Plist(plist::to_xml(&Value::Dictionary(answer)))
        }
    })
}
