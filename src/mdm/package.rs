//! `GET /mdm/manifests/{token}` and `GET /mdm/packages/{token}`: what a device installs.
//!
//! Also [`in_command`], for the commands that install apps on systems without the declarations.
//!
//! The part of a device that fetches these presents no identity, so the address is the proof: a random
//! token for each channel, that was in the declaration or command which the channel was handed
//! ([`personal_address`]). What the channel should not have any more, it does not get, from then on. One
//! that should have it and comes with a token that has ended is told of a new one by its declarations.
//!
//! **Invariant:** whatever is wrong with an address is answered alike, and no address is ever logged.

use axum::Router;
use axum::extract::{Extension, Path, State as Handle};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rusqlite::Connection;

use super::reply::Refusal;
use super::{Mdm, enrollment, sync};
use crate::ddm::personal_address;
use crate::ddm::sync::is_stale;
use crate::error::{Error, Result};
use crate::library::package::{self, Package, manifest};
use crate::plist::{self, Value};
use crate::request::Peer;
use crate::storage::Tx;

/// A command that installs an app has a few hundred bytes.
const LONGEST_COMMAND: usize = 64 * 1024;
const NO_STORE: HeaderValue = HeaderValue::from_static("private, no-store");

pub(super) fn routes() -> Router<Mdm> {
    Router::new()
        .route("/mdm/manifests/{token}", get(show_manifest))
        .route("/mdm/packages/{token}", get(show_package))
}

async fn show_manifest(
    Handle(mdm): Handle<Mdm>,
    Path(token): Path<String>,
    Extension(peer): Extension<Peer>,
) -> Result<Response, Refusal> {
    let (package, _) = find(&mdm, &token, &peer).await?;
    let url = mdm.store.peek(|conn| personal_address::of_bytes(conn, &token))?;
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(manifest::MEDIA_TYPE)),
        (CACHE_CONTROL, NO_STORE),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    Ok((headers, manifest::manifest(&package, &url)).into_response())
}

async fn show_package(
    Handle(mdm): Handle<Mdm>,
    Path(token): Path<String>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (package, channel) = find(&mdm, &token, &peer).await?;
    let place = mdm.limits.wait_for_reply(&channel).ok_or(Refusal::Failed(Error::Busy))?;
    let media_type = package.summary.kind.media_type();
    let responded = mdm.contents.respond_holding(&mdm.store, &package.kept, media_type, &headers, place);
    let mut response = responded.await?;
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    Ok(response)
}

/// The package that an address leads to, and the channel whose address it is.
async fn find(mdm: &Mdm, token: &str, peer: &Peer) -> Result<(Package, String), Refusal> {
    let now = mdm.store.clock().now();
    let wanted = token.to_owned();
    let Some(found) = mdm.store.read(move |conn| personal_address::find(conn, &wanted, now)).await? else {
        // Nobody guesses one; the administrator is to know that somebody tries.
        mdm.guesses.miss(peer.address(), "addresses of packages", now);
        return Err(Refusal::NotFound);
    };
    let who = found.enrollment_id.clone();
    let channel = who.clone();
    if mdm.store.peek(|conn| is_stale(conn, &channel, now))? {
        mdm.store.write("sync.refresh", move |tx| sync::refresh(tx, &channel)).await?;
    }
    let address = found.clone();
    let package = mdm.store.read(move |conn| {
        let may = is_managed(conn, &address.enrollment_id)? && address.holds(conn)?;
        if may { package::get(conn, &address.package) } else { Ok(None) }
    });
    let package = package.await?.ok_or(Refusal::NotFound)?;
    if found.ended {
        let token = token.to_owned();
        let renewed = mdm.store.write("address.renew", move |tx| {
            if personal_address::renew(tx, &token)? {
                sync::refresh(tx, &found.enrollment_id)?;
            }
            Ok(())
        });
        renewed.await?;
        return Err(Refusal::NotFound);
    }
    tracing::info!(size = package.kept.size, "a device fetches a package");
    Ok((package, who))
}

/// A command on its way to a device: an address in it that leads to a package of this server's is replaced by
/// one of the channel's own. Every other command leaves as it was sent.
pub(super) fn in_command(tx: &Tx<'_>, channel: &str, command: Vec<u8>) -> Result<Vec<u8>> {
    if command.len() > LONGEST_COMMAND || !personal_address::concerns(&command) {
        return Ok(command);
    }
    let Ok(mut request) = plist::parse_dict(&command) else { return Ok(command) };
    let Some(Value::Dictionary(keys)) = request.get_mut("Command") else { return Ok(command) };
    let url = keys.get("ManifestURL").and_then(Value::as_string).map(str::to_owned);
    let own = url.map(|url| personal_address::of_command(tx, channel, &url)).transpose()?.flatten();
    let Some(own) = own else { return Ok(command) };
    keys.insert("ManifestURL".into(), own.into());
    Ok(plist::to_xml(&Value::Dictionary(request)))
}

/// Whether a channel is enrolled, and its device is not about to leave.
fn is_managed(conn: &Connection, channel: &str) -> Result<bool> {
    let stays = |known: &enrollment::Enrollment| {
        known.state == enrollment::State::Enrolled && known.unenroll_at.is_none()
    };
    let Some(known) = enrollment::find(conn, channel)?.filter(stays) else { return Ok(false) };
    match &known.parent_id {
        None => Ok(true),
        Some(device) => Ok(enrollment::find(conn, device)?.is_some_and(|device| stays(&device))),
    }
}
