//! Commands: queued, read, canceled, revealed.
//!
//! `POST, GET /api/v1/enrollments/{id}/commands`, `GET /api/v1/commands`, and one command as
//! `/api/v1/commands/{uuid}` (with `?enrollment=` where several enrollments share the UUID) or
//! `/api/v1/enrollments/{id}/commands/{uuid}`: GET, DELETE, and POST `/reveal`.
//!
//! **Invariant:** what is secret in a request or an answer leaves only through `reveal`, which is
//! written down first.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::auth::{Caller, Scope};
use super::body;
use super::enrollment::existing;
use super::query::{Parameters, page};
use super::reply::Refusal;
use super::{Admin, audit, package, takeover};
use crate::clock::{Seconds, rfc3339};
use crate::error::{Error, Result};
use crate::mdm::escrow::{self, Kind};
use crate::mdm::listing::{self, Command};
use crate::mdm::queue::{self, New, Purpose};
use crate::mdm::{Mdm, enrollment};
use crate::plist;
use crate::schema::commands::{self, Request};
use crate::schema::secrets;
use crate::storage::Tx;

const STATUSES: [&str; 8] =
    ["Pending", "Sent", "NotNow", "Acknowledged", "Error", "CommandFormatError", "Canceled", "Expired"];

/// The members of INTERFACE 7, and `queued_by`. `reveal` shows what is secret.
fn command_json(command: &Command, reveal: bool) -> Value {
    let read = |bytes: &[u8]| plist::parse(bytes).map_or(Value::Null, |value| plist::json::to_json(&value));
    let mut request = read(&command.request)["Command"].take();
    let mut answer = command.answer.as_deref().map_or(Value::Null, read);
    let mut hidden = Vec::new();
    if !reveal {
        hidden = secrets::redact(&command.request_type, &mut request);
        for name in secrets::redact(&command.request_type, &mut answer) {
            if !hidden.contains(&name) {
                hidden.push(name);
            }
        }
    }
    json!({
        "uuid": command.uuid,
        "enrollment_id": command.enrollment_id,
        "request_type": command.request_type,
        "status": command.status,
        "request": request,
        "answer": answer,
        "error_chain": command.error_chain,
        "queued_at": rfc3339(command.queued_at),
        "queued_by": command.queued_by,
        "sent_at": command.sent_at.map(rfc3339),
        "answered_at": command.answered_at.map(rfc3339),
        "expires_at": command.expires_at.map(rfc3339),
        "hidden": hidden,
    })
}

/// Queues a command for one enrollment, and writes down who did; answers what the sender should know.
///
/// # Errors
/// `NotFound`; `Conflict` when the enrollment has ended or has a command of this UUID, or without `force`
/// for one about a profile that is declared there.
pub(super) fn enqueue(
    tx: &Tx<'_>,
    mdm: &Mdm,
    enrollment_id: &str,
    request: &Request,
    actor: &str,
    expires_in: Option<Seconds>,
    force: bool,
) -> Result<Option<String>> {
    if existing(tx, enrollment_id)?.state == enrollment::State::Unenrolled {
        return Err(Error::conflict(
            "this enrollment has ended: nothing can be sent to it before it enrolls again",
        ));
    }
    let warning = takeover::check(tx, enrollment_id, request, force)?;
    package::check_command(tx, enrollment_id, request)?;
    let new = New {
        uuid: &request.uuid,
        request_type: &request.request_type,
        request: &request.plist,
        secret: request.secret,
        urgent: commands::urgent(&request.request_type),
        purpose: Purpose::Asked,
        queued_by: actor,
        expires_at: expires_in.map(|life| tx.now() + life),
    };
    queue::enqueue(tx, &mdm.seal, enrollment_id, &new)?;
    let detail = json!({"uuid": request.uuid, "request_type": request.request_type});
    audit::record(tx, actor, "command.enqueue", enrollment_id, &detail)?;
    Ok(warning)
}

/// Refuses a command that the caller's token may not send.
pub(super) fn allowed(caller: &Caller, request_type: &str) -> Result<(), Refusal> {
    if commands::needs_admin(request_type) { caller.needs(Scope::Admin, request_type) } else { Ok(()) }
}

pub(super) async fn post(
    State(admin): State<Admin>,
    caller: Caller,
    Path(id): Path<String>,
    parameters: Parameters,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let bytes = body::bytes(body)?;
    let (force, expires_in) = (parameters.flag("force")?, parameters.duration("expires_in")?);
    let request = match body::media_type(&headers).as_str() {
        "application/json" => {
            let mut command = body::json(&bytes)?;
            add_unlock_token(&admin.mdm, &id, &mut command, &caller)?;
            commands::from_json(&command, force)?
        }
        "application/x-plist" | "application/xml" | "text/xml" | "application/x-apple-aspen-mdm" => {
            let mut request = commands::from_plist(&bytes)?;
            commands::known(&mut request, force)?;
            request
        }
        _ => {
            return Err(Refusal::unsupported(
                "send a command as JSON (application/json) or as a property list (application/x-plist), \
                 and say which in Content-Type",
            ));
        }
    };
    allowed(&caller, &request.request_type)?;
    let mdm = admin.mdm.clone();
    let queued = admin.mdm.store.write("command.enqueue", move |tx| {
        let warning = enqueue(tx, &mdm, &id, &request, &caller.actor, expires_in, force)?;
        let mut warnings = request.warnings;
        warnings.extend(warning);
        Ok(json!({
            "uuid": request.uuid,
            "enrollment_id": id,
            "request_type": request.request_type,
            "status": "Pending",
            "warnings": warnings,
        }))
    });
    Ok((StatusCode::CREATED, Json(queued.await?)))
}

/// ClearPasscode needs the token that the device entrusted to us; nobody has to know it to use it.
fn add_unlock_token(mdm: &Mdm, id: &str, body: &mut Value, caller: &Caller) -> Result<(), Refusal> {
    let command = if body["Command"].is_object() { &mut body["Command"] } else { body };
    let Value::Object(command) = command else { return Ok(()) };
    if command.get("RequestType") != Some(&json!("ClearPasscode")) || command.contains_key("UnlockToken") {
        return Ok(());
    }
    allowed(caller, "ClearPasscode")?;
    let token = mdm.store.peek(|conn| {
        existing(conn, id)?;
        escrow::current(conn, &mdm.seal, id, Kind::UnlockToken)
    })?;
    let token = token.ok_or_else(|| {
        Error::conflict("this device has sent no unlock token, without which its passcode cannot be cleared")
    })?;
    command.insert("UnlockToken".into(), STANDARD.encode(token).into());
    Ok(())
}

pub(super) async fn list_of_enrollment(
    State(admin): State<Admin>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Json<Value>, Refusal> {
    admin.mdm.store.peek(|conn| existing(conn, &id))?;
    list_for(&admin, Some(id), &parameters).await
}

pub(super) async fn list(State(admin): State<Admin>, parameters: Parameters) -> Result<Json<Value>, Refusal> {
    list_for(&admin, None, &parameters).await
}

async fn list_for(
    admin: &Admin,
    id: Option<String>,
    parameters: &Parameters,
) -> Result<Json<Value>, Refusal> {
    let (limit, before) = (parameters.limit()?, parameters.cursor::<i64>()?);
    let status = parameters.word("status", &STATUSES)?.map(str::to_owned);
    let seal = admin.mdm.seal.clone();
    let listed = admin.mdm.store.read(move |conn| {
        let (found, more) = listing::commands(conn, &seal, id.as_deref(), status.as_deref(), before, limit)?;
        let shown = u32::try_from(found.len()).unwrap_or(u32::MAX);
        let mut items: Vec<_> =
            found.iter().map(|command| (command.id, command_json(command, false))).collect();
        if more {
            // One beyond the page says that there are more.
            items.push((0, Value::Null));
        }
        Ok(page(items, shown))
    });
    Ok(Json(listed.await?))
}

/// Where a command is: behind its UUID, or behind its enrollment and its UUID.
#[derive(serde::Deserialize)]
pub(super) struct Place {
    id: Option<String>,
    uuid: String,
}

impl Place {
    fn find(&self, conn: &Connection, mdm: &Mdm, parameters: &Parameters) -> Result<Command> {
        let whose = self.id.as_deref().or_else(|| parameters.text("enrollment"));
        listing::command(conn, &mdm.seal, &self.uuid, whose)
    }
}

pub(super) async fn show(
    State(admin): State<Admin>,
    Path(place): Path<Place>,
    parameters: Parameters,
) -> Result<Json<Value>, Refusal> {
    let mdm = admin.mdm.clone();
    let shown =
        admin.mdm.store.read(move |conn| Ok(command_json(&place.find(conn, &mdm, &parameters)?, false)));
    Ok(Json(shown.await?))
}

pub(super) async fn delete(
    State(admin): State<Admin>,
    caller: Caller,
    Path(place): Path<Place>,
    parameters: Parameters,
) -> Result<Json<Value>, Refusal> {
    let mdm = admin.mdm.clone();
    let found = admin.mdm.store.read(move |conn| place.find(conn, &mdm, &parameters)).await?;
    // Who may not send a command may not prevent it either.
    allowed(&caller, &found.request_type)?;
    let Command { enrollment_id, uuid, request_type, .. } = found;
    let (id, which, seal) = (enrollment_id.clone(), uuid.clone(), admin.mdm.seal.clone());
    let canceled = admin.mdm.store.write("command.cancel", move |tx| {
        queue::cancel(tx, &enrollment_id, &uuid)?;
        let detail = json!({"uuid": uuid, "request_type": request_type});
        audit::record(tx, &caller.actor, "command.cancel", &enrollment_id, &detail)
    });
    canceled.await?;
    let shown = admin
        .mdm
        .store
        .read(move |conn| Ok(command_json(&listing::command(conn, &seal, &which, Some(&id))?, false)));
    Ok(Json(shown.await?))
}

pub(super) async fn reveal(
    State(admin): State<Admin>,
    caller: Caller,
    Path(place): Path<Place>,
    parameters: Parameters,
) -> Result<Json<Value>, Refusal> {
    let mdm = admin.mdm.clone();
    // What may be megabytes is opened and parsed beside the writer, who only writes down who saw it.
    let opened = admin.mdm.store.read(move |conn| {
        let found = place.find(conn, &mdm, &parameters)?;
        let shown = command_json(&found, true);
        Ok((found.enrollment_id, json!({"uuid": found.uuid, "request_type": found.request_type}), shown))
    });
    let (id, detail, shown) = opened.await?;
    let written = admin
        .mdm
        .store
        .write("command.reveal", move |tx| audit::record(tx, &caller.actor, "command.reveal", &id, &detail));
    written.await?;
    Ok(Json(shown))
}
