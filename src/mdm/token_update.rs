//! TokenUpdate: how a channel is pushed (Apple: "TokenUpdate").
//!
//! The first after Authenticate makes the device enrolled and counts the use of its invitation;
//! user channels begin with their own. Token, PushMagic and Topic always come together, for each
//! channel by itself. A missing UnlockToken or AwaitingConfiguration means that nothing changed.
//!
//! **Invariant:** an unlock token is never overwritten with nothing.

use plist::Dictionary;

use super::enrollment::{self, Push, State};
use super::ids::Ids;
use super::outbox::Draft;
use super::reply::{Refusal, Reply};
use super::{Mdm, caller::Caller, claim, escrow, event, queue, sync};
use crate::clock::HOUR;
use crate::enroll::session;
use crate::error::{Error, Result};
use crate::pki::identity::{self, Identity};
use crate::pki::seal::Seal;
use crate::plist;
use crate::storage::Tx;

/// Apple's tokens have 32 bytes; they are opaque and may grow.
const LONGEST_TOKEN: usize = 256;
/// About 2 kB in the field.
const LONGEST_UNLOCK_TOKEN: usize = 64 * 1024;

pub(super) async fn handle(
    mdm: &Mdm,
    caller: &Caller,
    ids: Ids,
    message: Dictionary,
    told: Option<Draft>,
) -> Result<Reply, Refusal> {
    let update = Update::read(&message)?;
    let session = mdm.store.peek(|conn| session::find(conn, &caller.identity.session_id))?;
    if session.is_some_and(|session| session.parameters.topic != update.topic) {
        note_other_topic(mdm, caller).await;
        return Err(Refusal::from(Error::invalid_at(
            "/Topic",
            "the Topic is not the one in this device's enrollment profile",
        )));
    }
    let seal = mdm.seal.clone();
    let fingerprint = caller.identity.fingerprint;
    mdm.store
        .write("token_update", move |tx| {
            let identity = identity::find(tx, &fingerprint)?
                .ok_or_else(|| Error::Unauthenticated("this certificate was not issued here".into()))?;
            let before = enrollment::find(tx, &ids.enrollment_id)?.map(|known| known.state);
            apply(tx, &seal, &identity, &ids, &update)?;
            match told {
                // What only claims to be the device is not told as if the device had said it.
                Some(told) if identity.state != identity::State::Claim => {
                    told.keep_token_update(tx, &seal, before != Some(State::Enrolled))
                }
                _ => Ok(()),
            }
        })
        .await?;
    Ok(Reply::Empty)
}

/// Whoever pushes this device has another certificate, or it was given another profile: an administrator
/// can read it. Once an hour, so that a device cannot fill the disk with it.
async fn note_other_topic(mdm: &Mdm, caller: &Caller) {
    let speaks = matches!(caller.identity.state, identity::State::Pinned | identity::State::Superseded);
    // Of who only claims to be the device nothing is told as if it were the device.
    let Some(device) = caller.identity.enrollment_id.clone().filter(|_| speaks) else { return };
    if !mdm.limits.once(&format!("topic {device}"), mdm.store.clock().now(), HOUR) {
        return;
    }
    let words =
        "The device wants to be pushed with another topic than its enrollment profile names; it was refused.";
    let noted = mdm
        .store
        .write("topic_mismatch", move |tx| event::record(tx, "topic-mismatch", Some(&device), words));
    if let Err(error) = noted.await {
        tracing::warn!(error = error.chain(), "an event was not written down");
    }
}

/// The message, read.
struct Update {
    topic: String,
    token: Vec<u8>,
    magic: String,
    unlock_token: Option<Vec<u8>>,
    awaiting: Option<bool>,
    /// The message without its tokens, as it is kept.
    kept: Vec<u8>,
}

impl Update {
    fn read(message: &Dictionary) -> Result<Self> {
        let needed = |key: &str| Error::invalid_at(format!("/{key}"), format!("TokenUpdate has no {key}"));
        let topic = plist::string(message, "Topic")?.ok_or_else(|| needed("Topic"))?.to_owned();
        let token = plist::data(message, "Token")?.ok_or_else(|| needed("Token"))?.to_vec();
        let magic = plist::string(message, "PushMagic")?.ok_or_else(|| needed("PushMagic"))?.to_owned();
        if !(1..=LONGEST_TOKEN).contains(&token.len()) {
            return Err(Error::invalid_at("/Token", format!("a push token has 1 to {LONGEST_TOKEN} bytes")));
        }
        if !(1..=255).contains(&magic.len()) || magic.chars().any(char::is_control) {
            return Err(Error::invalid_at(
                "/PushMagic",
                "PushMagic has 1 to 255 bytes and no control characters",
            ));
        }
        let unlock_token = plist::data(message, "UnlockToken")?.filter(|token| !token.is_empty());
        if unlock_token.is_some_and(|token| token.len() > LONGEST_UNLOCK_TOKEN) {
            return Err(Error::invalid_at("/UnlockToken", "the UnlockToken is longer than 64 KiB"));
        }
        let unlock_token = unlock_token.map(<[u8]>::to_vec);
        let awaiting = plist::boolean(message, "AwaitingConfiguration")?;
        let mut kept = message.clone();
        for secret in ["Token", "PushMagic", "UnlockToken"] {
            kept.remove(secret);
        }
        let kept = plist::to_xml(&::plist::Value::Dictionary(kept));
        Ok(Self { topic, token, magic, unlock_token, awaiting, kept })
    }

    fn push(&self) -> Push<'_> {
        Push { topic: &self.topic, magic: &self.magic, token: &self.token }
    }
}

fn apply(tx: &Tx<'_>, seal: &Seal, identity: &Identity, ids: &Ids, update: &Update) -> Result<()> {
    let session = session::find(tx, &identity.session_id)?
        .ok_or_else(|| Error::internal("the enrollment session of an identity is missing"))?;
    match identity.state {
        identity::State::Claim if ids.kind.is_device() => {
            // A claim is answered 200 throughout; a link that was used up meanwhile is the business of
            // whoever approves it.
            match session::count_use(tx, &session) {
                Ok(()) | Err(Error::Invalid { .. }) => {}
                Err(error) => return Err(error),
            }
            claim::update_token(
                tx,
                seal,
                &identity.fingerprint,
                &update.push(),
                update.unlock_token.as_deref(),
                &update.kept,
            )
        }
        // Users of a device that only claims to be one are nobody yet.
        identity::State::Claim => Ok(()),
        identity::State::Pinned | identity::State::Superseded if ids.kind.is_device() => {
            device(tx, seal, identity, &session, ids, update)
        }
        identity::State::Pinned | identity::State::Superseded => user(tx, ids, update),
        identity::State::Issued => Err(Error::Unauthenticated("TokenUpdate came before Authenticate".into())),
        identity::State::Dead => {
            Err(Error::Unauthenticated("this identity has ended; enroll again with a new link".into()))
        }
    }
}

fn device(
    tx: &Tx<'_>,
    seal: &Seal,
    identity: &Identity,
    session: &session::Session,
    ids: &Ids,
    update: &Update,
) -> Result<()> {
    let id = ids.enrollment_id.as_str();
    let known = enrollment::find(tx, id)?
        .ok_or_else(|| Error::Unauthenticated("TokenUpdate came before Authenticate".into()))?;
    if known.state == State::Unenrolled {
        return Err(Error::Unauthenticated("this enrollment has ended; enroll again with a new link".into()));
    }
    if known.state == State::Pending {
        session::count_use(tx, session)?;
    }
    if let Some(erased_at) = known.erased_at {
        enrollment::is_still_here(tx, id, erased_at)?;
    }
    enrollment::update_token(tx, ids, &update.push(), update.awaiting)?;
    enrollment::keep_message(tx, id, "TokenUpdate", &update.kept)?;
    if let Some(token) = &update.unlock_token {
        escrow::store(tx, seal, id, escrow::Kind::UnlockToken, token)?;
    }
    if identity.state == identity::State::Pinned {
        identity::supersede_earlier(tx, id, &identity.fingerprint)?;
        if session.renews(id) {
            queue::cancel_renewals(tx, id)?;
        }
    }
    if known.state == State::Pending {
        event::record(tx, "enrolled", Some(id), "The device enrolled.")?;
    }
    sync::reachable(tx, id)
}

fn user(tx: &Tx<'_>, ids: &Ids, update: &Update) -> Result<()> {
    let id = ids.enrollment_id.as_str();
    let parent = enrollment::find(tx, &ids.device_id)?;
    if !parent.is_some_and(|device| device.state == State::Enrolled) {
        return Err(Error::Unauthenticated("the device of this user is not enrolled".into()));
    }
    let known = enrollment::find(tx, id)?;
    if known.is_none() && enrollment::count_users(tx, &ids.device_id)? >= enrollment::MOST_USERS {
        let words = format!("this device has {} users already; no more are managed", enrollment::MOST_USERS);
        return Err(Error::invalid(words));
    }
    enrollment::update_token(tx, ids, &update.push(), update.awaiting)?;
    enrollment::keep_message(tx, id, "TokenUpdate", &update.kept)?;
    if known.is_none_or(|user| user.state != State::Enrolled) {
        event::record(tx, "enrolled", Some(id), "A user of the device can be managed.")?;
    }
    sync::reachable(tx, id)
}
