//! `GET, POST /api/v1/invitations`, `GET, DELETE /api/v1/invitations/{code}`: links that let devices
//! enroll.
//!
//! **Invariant:** whoever may not make a link is not shown one: below scope `admin` codes are null.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::auth::{Caller, Scope};
use super::body::Object;
use super::query::{Parameters, page};
use super::reply::Refusal;
use super::{Admin, audit};
use crate::clock::rfc3339;
use crate::enroll::Settings;
use crate::enroll::invitation::{self, Invitation, Wanted};
use crate::error::{Error, Result};
use crate::id;
use crate::mdm::listing;

/// The longest name of a group and the longest serial number.
const LONGEST_NAME: usize = 100;
/// How many devices are listed with the link that they came with; `used` counts them all.
const MOST_ENROLLMENTS: u32 = 500;

impl Admin {
    fn invitation_json(&self, invitation: &Invitation, caller: &Caller) -> Value {
        let Settings { public_url, public_url_is_localhost, .. } = &*self.mdm.enroll.settings;
        let url = format!("{public_url}/enroll/{}", invitation.code);
        let state = match invitation.spent(self.now()) {
            None => "open",
            Some(invitation::Spent::Revoked) => "revoked",
            Some(invitation::Spent::Expired) => "expired",
            Some(invitation::Spent::UsedUp) => "used up",
        };
        let mut shown = json!({
            "name": invitation.name(),
            "code": invitation.code,
            "url": url,
            "profile_url": format!("{url}/profile"),
            "state": state,
            "uses": invitation.uses,
            "used": invitation.used,
            "expires_at": rfc3339(invitation.expires_at),
            "group": invitation.group,
            "serial_number": invitation.serial_number,
            "reenroll": invitation.reenroll,
            "created_at": rfc3339(invitation.created_at),
            "created_by": invitation.created_by,
            "revoked_at": invitation.revoked_at.map(rfc3339),
        });
        if *public_url_is_localhost {
            shown["warning"] = format!(
                "Only this machine can use the link, since this server is known as {public_url}. Set public_url \
                 under [server] in russet.toml to the name by which devices reach this server."
            )
            .into();
        }
        if caller.scope < Scope::Admin {
            for secret in ["code", "url", "profile_url"] {
                shown[secret] = Value::Null;
            }
            shown["hidden"] = json!(["code", "url", "profile_url"]);
        }
        shown
    }
}

pub(super) async fn list(
    State(admin): State<Admin>,
    caller: Caller,
    parameters: Parameters,
) -> Result<Json<Value>, Refusal> {
    let (limit, before) = (parameters.limit()?, parameters.cursor::<i64>()?);
    let found = admin.mdm.store.peek(|conn| invitation::list(conn, before, limit + 1))?;
    let items = found.iter().map(|(row, found)| (*row, admin.invitation_json(found, &caller))).collect();
    Ok(Json(page(items, limit)))
}

pub(super) async fn show(
    State(admin): State<Admin>,
    caller: Caller,
    Path(code): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let (found, enrollments) = admin.mdm.store.peek(|conn| {
        let found = invitation::find(conn, &code)?;
        Ok((found, listing::enrolled_with(conn, &code, MOST_ENROLLMENTS)?))
    })?;
    let found = found.ok_or_else(|| Error::NotFound("such invitation".into()))?;
    let mut shown = admin.invitation_json(&found, &caller);
    shown["enrollments"] = json!(enrollments);
    Ok(Json(shown))
}

pub(super) async fn post(
    State(admin): State<Admin>,
    caller: Caller,
    mut body: Object,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let uses = body.number("uses")?;
    let wanted = Wanted {
        // More than fits is more than is allowed; `create` says how many are.
        uses: uses.map(|uses| u32::try_from(uses).unwrap_or(u32::MAX)),
        expires_in: body.duration("expires_in")?,
        group: name(&mut body, "group")?,
        serial_number: name(&mut body, "serial_number")?,
        reenroll: body.boolean("reenroll")?.unwrap_or(false),
    };
    body.finish()?;
    if let Some(words) = admin.mdm.enroll.obstacle()? {
        return Err(Error::conflict(words).into());
    }
    let actor = caller.actor.clone();
    let made = admin.mdm.store.write("invitation.create", move |tx| {
        let made = invitation::create(tx, &wanted, &actor)?;
        // Never the code: it is worth an enrollment to whoever reads it.
        let detail = json!({
            "uses": made.uses,
            "expires_at": rfc3339(made.expires_at),
            "group": made.group,
            "serial_number": made.serial_number,
            "reenroll": made.reenroll,
        });
        audit::record(tx, &actor, "invitation.create", &made.name(), &detail)?;
        Ok(made)
    });
    Ok((StatusCode::CREATED, Json(admin.invitation_json(&made.await?, &caller))))
}

pub(super) async fn delete(
    State(admin): State<Admin>,
    caller: Caller,
    Path(code): Path<String>,
) -> Result<StatusCode, Refusal> {
    let revoked = admin.mdm.store.write("invitation.revoke", move |tx| {
        invitation::revoke(tx, &code)?;
        audit::record(tx, &caller.actor, "invitation.revoke", &invitation::name(&code), &Value::Null)
    });
    revoked.await?;
    Ok(StatusCode::NO_CONTENT)
}

fn name(body: &mut Object, member: &str) -> Result<Option<String>> {
    let Some(name) = body.text(member)? else { return Ok(None) };
    if name.is_empty() || name.len() > LONGEST_NAME || id::printable(&name) != name {
        let words = format!("{member} has 1 to {LONGEST_NAME} printable characters, or is left out");
        return Err(Error::invalid_at(format!("/{member}"), words));
    }
    Ok(Some(name))
}
