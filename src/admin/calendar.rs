//! `GET, POST /api/v1/calendar`, `DELETE …/{number}`, and the feed itself: `GET /calendar.ics?token=…`.
//!
//! **Invariant:** the feed opens with a token that was made for it and with no other, and no API token is
//! ever written into an address.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde_json::{Value, json};

use super::auth::Caller;
use super::query::{Parameters, page};
use super::reply::Refusal;
use super::{Admin, audit};
use crate::clock::rfc3339;
use crate::error::{Error, Result};
use crate::expiry::{calendar, feed};
use crate::request::Peer;

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/calendar.ics", get(show))
}

pub(super) async fn list(State(admin): State<Admin>, parameters: Parameters) -> Result<Json<Value>, Refusal> {
    let (limit, before) = (parameters.limit()?, parameters.cursor::<i64>()?);
    let feeds = admin.mdm.store.peek(feed::list)?;
    let items = feeds
        .iter()
        .filter(|feed| before.is_none_or(|before| feed.id < before))
        .map(|feed| {
            let shown = json!({
                "id": feed.id,
                "created_at": rfc3339(feed.created_at),
                "created_by": feed.created_by,
                "revoked_at": feed.revoked_at.map(rfc3339),
            });
            (feed.id, shown)
        })
        .collect();
    Ok(Json(page(items, limit)))
}

pub(super) async fn post(
    State(admin): State<Admin>,
    caller: Caller,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let made = admin.mdm.store.write("calendar.create", move |tx| {
        let made = feed::create(tx, &caller.actor)?;
        audit::record(tx, &caller.actor, "calendar.create", &made.0.to_string(), &Value::Null)?;
        Ok(made)
    });
    let (number, token) = made.await?;
    let url = format!("{}/calendar.ics?token={token}", admin.page_url);
    Ok((StatusCode::CREATED, Json(json!({"id": number, "url": url}))))
}

pub(super) async fn delete(
    State(admin): State<Admin>,
    caller: Caller,
    Path(number): Path<i64>,
) -> Result<StatusCode, Refusal> {
    let done = admin.mdm.store.write("calendar.revoke", move |tx| {
        if !feed::revoke(tx, number)? {
            return Err(Error::NotFound("such address of the calendar that is still good".into()));
        }
        audit::record(tx, &caller.actor, "calendar.revoke", &number.to_string(), &Value::Null)
    });
    done.await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn show(
    State(admin): State<Admin>,
    peer: Option<Extension<Peer>>,
    parameters: Parameters,
) -> Result<Response, Refusal> {
    let token = parameters.text("token").unwrap_or_default();
    if !admin.mdm.store.peek(|conn| feed::opens(conn, token))? {
        let address = peer.and_then(|Extension(peer)| peer.address());
        if admin.guesses.miss(address, "calendar addresses", admin.now()) {
            return Err(Refusal::too_many());
        }
        return Err(
            Error::NotFound("calendar at this address; make a new one with: russet calendar".into()).into()
        );
    }
    let expiry = admin.expiry.clone();
    let text = super::blocking(move || calendar::calendar(&expiry)).await?;
    Ok(([(CONTENT_TYPE, "text/calendar; charset=utf-8")], text).into_response())
}
