//! `GET, PUT /api/v1/uploads/{sha256}`: bytes that are sent ahead of an apply which names them.
//!
//! GET (or HEAD) is 200 where they need not be sent: some upload, asset or profile has them already.
//!
//! **Invariant:** bytes are kept under no hash but their own.

use axum::Json;
use axum::extract::{Path, Request, State};
use serde_json::{Value, json};

use super::Admin;
use super::declaration::Tagged;
use super::precondition::{self, IfMatch};
use super::reply::Refusal;
use crate::content::{self, Kept};
use crate::error::Error;
use crate::library::upload;

pub(super) async fn show(State(admin): State<Admin>, Path(sha256): Path<String>) -> Result<Tagged, Refusal> {
    let known = admin.mdm.store.peek(|conn| content::known(conn, &sha256))?;
    let known = known.ok_or_else(|| Error::NotFound("such upload".into()))?;
    Ok((precondition::header(&known.id), shown(&known)))
}

pub(super) async fn put(
    State(admin): State<Admin>,
    Path(sha256): Path<String>,
    condition: IfMatch,
    request: Request,
) -> Result<Tagged, Refusal> {
    let known = admin.mdm.store.peek(|conn| content::known(conn, &sha256))?;
    if !condition.holds(known.as_ref().map(|known| known.id.as_str())) {
        return Err(precondition::failed());
    }
    let received = admin.mdm.contents.receive(request.into_body()).await?;
    if received.sha256 != sha256 {
        let words = format!("these bytes have the SHA-256 {}, not that of the address", received.sha256);
        return Err(Error::invalid_at("", words).into());
    }
    let contents = admin.mdm.contents.clone();
    let kept = admin.mdm.store.write("upload.put", move |tx| upload::put(tx, &contents, &received)).await?;
    Ok((precondition::header(&kept.id), shown(&kept)))
}

fn shown(kept: &Kept) -> Json<Value> {
    Json(json!({"sha256": kept.id, "size": kept.size}))
}
