//! `GET, POST /api/v1/push-certificates`: the certificates with which devices are pushed.
//!
//! **Invariant:** a private key comes in here and never goes out.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::auth::Caller;
use super::body::Object;
use super::query::{Parameters, page};
use super::reply::Refusal;
use super::{Admin, audit};
use crate::apns::certificate::{self, Import};
use crate::apns::{Pair, PushCertificate};
use crate::clock::rfc3339;
use crate::error::{Error, Result};
use crate::mdm::{enrollment, wake};

/// What somebody gave to be imported.
#[derive(Default)]
pub(super) struct Given {
    /// PEM, or base64 of anything else, certificate and key in any order.
    pub(super) parts: Vec<String>,
    pub(super) password: Option<String>,
    pub(super) apple_account: Option<String>,
    pub(super) replace_topic: Option<u64>,
}

/// Stores a push certificate; answers it with the number of devices on its topic.
///
/// # Errors
/// `Invalid` for what is wrong with the files; `Conflict` with `existing_topic`, `new_topic` and
/// `enrollments` when devices would be lost.
pub(super) async fn import(admin: &Admin, given: Given, actor: String) -> Result<(PushCertificate, u64)> {
    let Given { parts, password, apple_account, replace_topic } = given;
    let now = admin.now();
    // A .p12 takes a second of work to open.
    let read = tokio::task::spawn_blocking(move || {
        let parts: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
        Pair::from_parts(&parts, password.as_deref(), now)
    });
    let pair =
        read.await.map_err(|source| Error::caused("reading the certificate did not finish", source))??;
    let seal = admin.mdm.seal.clone();
    let imported = admin.mdm.store.write("push_certificate.import", move |tx| {
        let enrolled = enrollment::on_topics(tx)?;
        let says = Import {
            apple_account: apple_account.as_deref(),
            signed_by: "import",
            imported_by: &actor,
            replace_topic,
        };
        let made = certificate::import(tx, &seal, &pair, &says, &enrolled)?;
        let detail = json!({
            "serial_number": made.serial_number,
            "not_after": rfc3339(made.not_after),
            "replace_topic": replace_topic,
        });
        audit::record(tx, &actor, "push-certificate.import", &made.topic, &detail)?;
        wake::due_on_topic(tx, &made.topic)?;
        let devices = devices_on(&enrolled, &made.topic);
        Ok((made, devices))
    });
    let imported = imported.await?;
    admin.mdm.apns.reload().await;
    // Only now, or those who are due would be pushed with the certificate that was replaced.
    admin.mdm.store.woken().notify_one();
    Ok(imported)
}

fn devices_on(enrolled: &[(String, u64)], topic: &str) -> u64 {
    enrolled.iter().find(|(of, _)| of == topic).map_or(0, |(_, devices)| *devices)
}

pub(super) async fn list(State(admin): State<Admin>, parameters: Parameters) -> Result<Json<Value>, Refusal> {
    let (limit, before) = (parameters.limit()?, parameters.cursor::<i64>()?);
    let (all, enrolled) =
        admin.mdm.store.peek(|conn| Ok((certificate::list(conn)?, enrollment::on_topics(conn)?)))?;
    // There are a handful in the life of a server: one a year.
    let items = all
        .iter()
        .filter(|one| before.is_none_or(|before| one.id < before))
        .map(|one| (one.id, one.to_json(devices_on(&enrolled, &one.topic))))
        .collect();
    Ok(Json(page(items, limit)))
}

pub(super) async fn post(
    State(admin): State<Admin>,
    caller: Caller,
    mut body: Object,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let mut parts = vec![body.needed_text("certificate")?];
    parts.extend(body.text("private_key")?);
    let given = Given {
        parts,
        password: body.text("password")?,
        apple_account: body.text("apple_account")?,
        replace_topic: body.number("replace_topic")?,
    };
    body.finish()?;
    let (imported, devices) = import(&admin, given, caller.actor).await?;
    Ok((StatusCode::CREATED, Json(imported.to_json(devices))))
}
