//! `GET /mdm/profiles/{identifier}` and `GET /mdm/assets/{identifier}`: what declarations point to.
//!
//! The identity is proven as for a check-in, over the empty body. A device gets what a declaration of
//! one of its channels, or of its users', points to; of everything else it is not told whether it is
//! there. It gets the present bytes: a token that says otherwise is about to be replaced.
//!
//! **Invariant:** nothing here ends management, and nobody gets what is not declared for its device.

use axum::body::Bytes;
use axum::extract::{Extension, Path, State as Handle};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use rusqlite::Connection;

use super::reply::Refusal;
use super::{Mdm, caller, enrollment, sync};
use crate::clock::Seconds;
use crate::content;
use crate::ddm::served::{self, Kind};
use crate::ddm::sync::is_stale;
use crate::error::{Error, Result};
use crate::pki::identity::State;
use crate::request::Peer;
use crate::storage::Tx;

pub(super) async fn profile(
    mdm: Handle<Mdm>,
    Path(identifier): Path<String>,
    peer: Extension<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(mdm, Kind::Profile, identifier, peer, headers, body).await
}

pub(super) async fn asset(
    mdm: Handle<Mdm>,
    Path(identifier): Path<String>,
    peer: Extension<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(mdm, Kind::Asset, identifier, peer, headers, body).await
}

async fn answer(
    Handle(mdm): Handle<Mdm>,
    kind: Kind,
    identifier: String,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match find(&mdm, kind, identifier, &peer, &headers, &body).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

async fn find(
    mdm: &Mdm,
    kind: Kind,
    identifier: String,
    peer: &Peer,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, Refusal> {
    let device = device(mdm, peer, headers, body)?;
    let busy = || Refusal::Failed(Error::Busy);
    let place = mdm.limits.wait_for_reply(&device).ok_or_else(busy)?;
    let (wanted, asked) = (identifier.clone(), device.clone());
    if mdm.store.read(move |conn| channel_for(conn, &asked, kind, &wanted)).await?.is_none() {
        // What was declared just now is not in its set yet.
        let (wanted, asked, now) = (identifier.clone(), device.clone(), mdm.store.clock().now());
        let stale = mdm.store.read(move |conn| stale_channels(conn, &asked, kind, &wanted, now)).await?;
        if stale.is_empty() {
            return Err(Refusal::NotFound);
        }
        if !mdm.limits.spend_on("download", &device, mdm.store.clock().now()) {
            return Err(busy());
        }
        let refresh = move |tx: &Tx<'_>| stale.iter().try_for_each(|channel| sync::refresh(tx, channel));
        mdm.store.write("sync.refresh", refresh).await?;
        let wanted = identifier.clone();
        if mdm.store.read(move |conn| channel_for(conn, &device, kind, &wanted)).await?.is_none() {
            return Err(Refusal::NotFound);
        }
    }
    let user = format!("{} {identifier}", kind.word());
    let found = mdm
        .store
        .read(move |conn| Ok(content::find(conn, &user)?.zip(served::find(conn, kind, &identifier)?)));
    let (kept, served) = found.await?.ok_or(Refusal::NotFound)?;
    tracing::info!(kind = kind.word(), size = kept.size, "a device fetches what a declaration points to");
    Ok(mdm.contents.respond_holding(&mdm.store, &kept, &served.media_type, headers, place).await?)
}

/// The device that asks. One that was told to leave, whose claim waits, or that has not enrolled yet
/// hears no more than one that asks for what there is not.
fn device(mdm: &Mdm, peer: &Peer, headers: &HeaderMap, body: &[u8]) -> Result<String, Refusal> {
    let reading = mdm.store.reading()?;
    let caller = caller::prove(mdm, &reading, peer, headers, body)?;
    if !matches!(caller.identity.state, State::Pinned | State::Superseded) {
        return Err(Refusal::NotFound);
    }
    mdm.in_time(&caller)?;
    mdm.not_expired(&caller)?;
    let device = caller.identity.enrollment_id.ok_or(Refusal::NotFound)?;
    let known = enrollment::find(&reading, &device)?.ok_or(Refusal::NotFound)?;
    if known.state != enrollment::State::Enrolled || known.unenroll_at.is_some() {
        return Err(Refusal::NotFound);
    }
    Ok(device)
}

/// A channel of the device that may have it.
fn channel_for(conn: &Connection, device: &str, kind: Kind, identifier: &str) -> Result<Option<String>> {
    for channel in enrollment::channels(conn, device)? {
        if served::is_for(conn, &channel, kind, identifier)? {
            return Ok(Some(channel));
        }
    }
    Ok(None)
}

/// The channels whose sets are to be looked at anew before they are denied something that some
/// declaration points to.
fn stale_channels(
    conn: &Connection,
    device: &str,
    kind: Kind,
    identifier: &str,
    now: Seconds,
) -> Result<Vec<String>> {
    if served::users(conn, kind, identifier)?.is_empty() {
        return Ok(Vec::new());
    }
    let mut stale = Vec::new();
    for channel in enrollment::channels(conn, device)? {
        // One that has left has no set, and would be stale for ever.
        let known = enrollment::find(conn, &channel)?;
        let stays = known.is_some_and(|known| known.state == enrollment::State::Enrolled);
        if stays && is_stale(conn, &channel, now)? {
            stale.push(channel);
        }
    }
    Ok(stale)
}
