//! `GET /api/v1/enrollments/{id}/claims`, `POST …/claims/{claim}/approve` and `/reject`,
//! `POST /api/v1/claims/approve`: new identities that say they are a device which is enrolled.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::auth::Caller;
use super::body::{self, Object, Whole};
use super::enrollment::existing;
use super::query::{Parameters, page};
use super::reply::Refusal;
use super::{Admin, audit};
use crate::clock::rfc3339;
use crate::error::{Error, Result};
use crate::id::hex;
use crate::mdm::Mdm;
use crate::mdm::claim::{self, Claim};
use crate::storage::Tx;

/// The most claims that one request approves.
const AT_ONCE: usize = 500;

/// A claim, with what its device said of itself in Authenticate.
fn claim_json(claim: &Claim) -> Value {
    json!({
        "id": claim.id,
        "enrollment_id": claim.enrollment_id,
        "state": claim.state,
        "fingerprint": hex(&claim.fingerprint),
        "has_token": claim.has_token,
        "serial_number": claim.serial_number,
        "name": claim.name,
        "model": claim.model,
        "model_name": claim.model_name,
        "product_name": claim.product_name,
        "os_version": claim.os_version,
        "created_at": rfc3339(claim.created_at),
        "decided_at": claim.decided_at.map(rfc3339),
        "decided_by": claim.decided_by,
    })
}

pub(super) async fn list(
    State(admin): State<Admin>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Json<Value>, Refusal> {
    let (limit, before) = (parameters.limit()?, parameters.cursor::<i64>()?);
    let claims = admin.mdm.store.peek(|conn| {
        existing(conn, &id)?;
        claim::list(conn, &id, before, limit + 1)
    })?;
    let items = claims.iter().map(|(row, claim)| (*row, claim_json(claim))).collect();
    Ok(Json(page(items, limit)))
}

#[derive(Clone, Copy)]
enum Decision {
    Approve,
    Reject,
}

fn decide(tx: &Tx<'_>, mdm: &Mdm, claim_id: &str, decision: Decision, actor: &str) -> Result<Value> {
    let (decided, action) = match decision {
        Decision::Approve => (claim::approve(tx, &mdm.seal, claim_id, actor)?, "claim.approve"),
        Decision::Reject => (claim::reject(tx, claim_id, actor)?, "claim.reject"),
    };
    let detail = json!({"claim": decided.id, "fingerprint": hex(&decided.fingerprint)});
    audit::record(tx, actor, action, &decided.enrollment_id, &detail)?;
    let decided = claim::find(tx, claim_id)?;
    Ok(decided.as_ref().map_or(Value::Null, claim_json))
}

async fn decide_one(
    admin: Admin,
    caller: Caller,
    place: (String, String),
    decision: Decision,
) -> Result<Value> {
    let (id, claim_id) = place;
    let mdm = admin.mdm.clone();
    admin
        .mdm
        .store
        .write("claim.decide", move |tx| {
            let waiting = claim::find(tx, &claim_id)?.filter(|claim| claim.enrollment_id == id);
            waiting.ok_or_else(|| Error::NotFound("such claim".into()))?;
            decide(tx, &mdm, &claim_id, decision, &caller.actor)
        })
        .await
}

pub(super) async fn approve(
    State(admin): State<Admin>,
    caller: Caller,
    Path(place): Path<(String, String)>,
) -> Result<Json<Value>, Refusal> {
    Ok(Json(decide_one(admin, caller, place, Decision::Approve).await?))
}

pub(super) async fn reject(
    State(admin): State<Admin>,
    caller: Caller,
    Path(place): Path<(String, String)>,
) -> Result<Json<Value>, Refusal> {
    Ok(Json(decide_one(admin, caller, place, Decision::Reject).await?))
}

/// Approves all of them or, when one cannot be, none. The body is `{"claims": […]}` or the list alone.
pub(super) async fn approve_list(
    State(admin): State<Admin>,
    caller: Caller,
    Whole(body): Whole,
) -> Result<Json<Value>, Refusal> {
    let (list, at) = match body {
        Value::Object(mut members) => {
            let list = members.shift_remove("claims");
            let list =
                list.ok_or_else(|| Error::invalid_at("/claims", "claims is missing: a list of claims' ids"))?;
            Object::from(members).finish()?;
            (list, "/claims")
        }
        list => (list, ""),
    };
    let claims = body::texts(list, "claims", at)?;
    if claims.len() > AT_ONCE {
        let words = format!("at most {AT_ONCE} claims are approved at once; send them in parts");
        return Err(Error::invalid_at(at, words).into());
    }
    let mdm = admin.mdm.clone();
    let approved = admin.mdm.store.write("claim.approve_list", move |tx| {
        let decided = claims.iter().enumerate().map(|(index, claim_id)| {
            decide(tx, &mdm, claim_id, Decision::Approve, &caller.actor).map_err(|error| match error {
                Error::NotFound(_) => Error::invalid_at(format!("{at}/{index}"), "there is no such claim"),
                other => other,
            })
        });
        decided.collect::<Result<Vec<Value>>>()
    });
    Ok(Json(json!({"items": approved.await?})))
}
