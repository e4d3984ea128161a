//! `GET /api/v1/enrollments`, `GET, PATCH, DELETE /api/v1/enrollments/{id}`: devices and their users.
//!
//! `{id}` is the enrollment ID, percent-encoded. DELETE asks a device to unenroll: it is pushed until
//! it has heard so; `?forget=1` removes the record of one that will never come.
//!
//! **Invariant:** a device only leaves management by its own next contact; nothing here waits for it.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::auth::Caller;
use super::body::Object;
use super::query::{Parameters, page};
use super::reply::Refusal;
use super::{Admin, audit};
use crate::clock::rfc3339;
use crate::error::{Error, Result};
use crate::id;
use crate::mdm::enrollment::{self, Enrollment, State as Stands};
use crate::mdm::ids::Kind;
use crate::mdm::listing::{self, Which};
use crate::mdm::{forget, queue, revoke_identities, sync, wake};

const MOST_TAGS: usize = 100;
const LONGEST_TAG: usize = 100;

/// The enrollment with this ID, in any state.
pub(super) fn existing(conn: &rusqlite::Connection, id: &str) -> Result<Enrollment> {
    enrollment::find(conn, id)?.ok_or_else(|| Error::NotFound("such enrollment".into()))
}

impl Admin {
    /// Contacts of the last minute are not in the database yet.
    fn with_last_contact(&self, mut shown: Value) -> Value {
        let unwritten = shown["id"].as_str().and_then(|id| self.mdm.contacts.unwritten(id));
        if let Some(at) = unwritten {
            shown["last_seen_at"] = rfc3339(at).into();
        }
        shown
    }

    fn enrollment_json(&self, id: &str) -> Result<Value> {
        let found = self.mdm.store.peek(|conn| listing::enrollment(conn, id))?;
        Ok(self.with_last_contact(found.ok_or_else(|| Error::NotFound("such enrollment".into()))?))
    }
}

pub(super) async fn list(State(admin): State<Admin>, parameters: Parameters) -> Result<Json<Value>, Refusal> {
    let kinds =
        [Kind::Device, Kind::User, Kind::SharedIpad, Kind::UserEnrollmentDevice, Kind::UserEnrollment]
            .map(Kind::word);
    let states = [Stands::Pending, Stands::Enrolled, Stands::Unenrolled].map(Stands::word);
    let limit = parameters.limit()?;
    let text = |name| parameters.text(name).map(str::to_owned);
    let which = Which {
        state: parameters.word("state", &states)?.map(str::to_owned),
        kind: parameters.word("type", &kinds)?.map(str::to_owned),
        serial_number: text("serial_number"),
        tag: text("tag"),
        text: text("q"),
        after: parameters.cursor()?,
        limit: limit + 1,
    };
    let found = admin.mdm.store.read(move |conn| listing::enrollments(conn, &which)).await?;
    let items = found.into_iter().map(|(id, shown)| (id, admin.with_last_contact(shown))).collect();
    Ok(Json(page(items, limit)))
}

pub(super) async fn show(State(admin): State<Admin>, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    Ok(Json(admin.enrollment_json(&id)?))
}

pub(super) async fn patch(
    State(admin): State<Admin>,
    caller: Caller,
    Path(id): Path<String>,
    mut body: Object,
) -> Result<Json<Value>, Refusal> {
    let tags = body.texts("tags")?.map(checked).transpose()?;
    body.finish()?;
    let enrollment_id = id.clone();
    let changed = admin.mdm.store.write("enrollment.patch", move |tx| {
        existing(tx, &enrollment_id)?;
        let Some(tags) = tags else { return Ok(()) };
        sync::noticing(tx, &enrollment_id, || enrollment::tag(tx, &enrollment_id, &tags))?;
        audit::record(tx, &caller.actor, "enrollment.patch", &enrollment_id, &json!({"tags": tags}))
    });
    changed.await?;
    Ok(Json(admin.enrollment_json(&id)?))
}

/// Tags in order, each once.
fn checked(mut tags: Vec<String>) -> Result<Vec<String>> {
    for (index, tag) in tags.iter().enumerate() {
        if tag.is_empty() || tag.len() > LONGEST_TAG || tag.trim() != tag || id::printable(tag) != *tag {
            let words = format!("a tag has 1 to {LONGEST_TAG} printable characters");
            return Err(Error::invalid_at(format!("/tags/{index}"), words));
        }
    }
    tags.sort();
    tags.dedup();
    if tags.len() > MOST_TAGS {
        return Err(Error::invalid_at("/tags", format!("an enrollment has at most {MOST_TAGS} tags")));
    }
    Ok(tags)
}

pub(super) async fn delete(
    State(admin): State<Admin>,
    caller: Caller,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Response, Refusal> {
    let for_good = parameters.flag("forget")?;
    let device_id = id.clone();
    let done = admin.mdm.store.write("enrollment.delete", move |tx| {
        let known = existing(tx, &device_id)?;
        if let Some(parent_id) = &known.parent_id {
            return Err(Error::conflict(format!(
                "this is a user of the device {parent_id} and leaves with it; unenroll the device"
            )));
        }
        if for_good {
            forget(tx, &device_id)?;
            return audit::record(tx, &caller.actor, "enrollment.forget", &device_id, &Value::Null);
        }
        // One that has left needs not be told; one that was asked before is being told.
        if known.state != Stands::Unenrolled {
            enrollment::ask_to_unenroll(tx, &device_id)?;
            queue::cancel_all(tx, &device_id)?;
            wake::nothing_due_for_all(tx, &device_id)?;
            wake::due(tx, &device_id)?;
        }
        audit::record(tx, &caller.actor, "enrollment.unenroll", &device_id, &Value::Null)
    });
    done.await?;
    if for_good {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(Json(admin.enrollment_json(&id)?).into_response())
}

pub(super) async fn revoke_identity(
    State(admin): State<Admin>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let device_id = id.clone();
    let done = admin.mdm.store.write("identity.revoke", move |tx| {
        let known = existing(tx, &device_id)?;
        if let Some(parent_id) = &known.parent_id {
            return Err(Error::conflict(format!(
                "this is a user of the device {parent_id}, which has the identity; revoke that one's"
            )));
        }
        let revoked = revoke_identities(tx, &device_id)?;
        audit::record(tx, &caller.actor, "identity.revoke", &device_id, &json!({"revoked": revoked}))?;
        Ok(revoked)
    });
    let revoked = done.await?;
    Ok(Json(json!({"id": id, "revoked": revoked})))
}
