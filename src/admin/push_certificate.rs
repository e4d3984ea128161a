//! `GET, POST /api/v1/push-certificates` and what is below one topic: the certificates with which devices are
//! pushed. How a new one is asked for is in `push_request.rs`.
//!
//! **Invariant:** a private key comes in here and never goes out.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use rusqlite::Connection;
use serde_json::{Value, json};

use super::auth::Caller;
use super::body::Object;
use super::query::{Parameters, page};
use super::reply::Refusal;
use super::{Admin, audit};
use crate::apns::certificate::{self, Import};
use crate::apns::{Pair, PushCertificate, PushResult, request};
use crate::clock::rfc3339;
use crate::error::{Error, Result};
use crate::id;
use crate::mdm::{enrollment, event, wake};

/// In bytes.
const LONGEST_NOTES: usize = 10_000;

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
    let seal = admin.mdm.seal.clone();
    let requests = admin.mdm.store.peek(|conn| request::keys(conn, &seal))?;
    // A .p12 takes a second of work to open.
    let read = tokio::task::spawn_blocking(move || {
        let parts: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
        let (requests, keys): (Vec<_>, Vec<_>) = requests.into_iter().unzip();
        let pair = Pair::from_parts_and(&parts, password.as_deref(), now, keys)?;
        let request = requests.into_iter().find(|request| pair.is_of(request));
        Ok::<_, Error>((pair, request))
    });
    let (pair, request) =
        read.await.map_err(|source| Error::caused("reading the certificate did not finish", source))??;
    let imported = admin.mdm.store.write("push_certificate.import", move |tx| {
        let enrolled = enrollment::on_topics(tx)?;
        let signed_by = request.as_ref().and_then(|request| request.signed_by.as_deref());
        let of_request = request.as_ref().and_then(|request| request.apple_account.as_deref());
        let says = Import {
            apple_account: apple_account.as_deref().or(of_request),
            signed_by: signed_by.unwrap_or(if request.is_some() { "elsewhere" } else { "import" }),
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
        if let Some(request) = &request {
            request::forget(tx, &request.id)?;
        }
        let words = format!(
            "A push certificate for {} was imported, valid until {}.",
            made.topic,
            rfc3339(made.not_after)
        );
        event::record(tx, "push-certificate-imported", None, &words)?;
        if let Some(lost) = replace_topic.filter(|lost| *lost > 0 && devices_on(&enrolled, &made.topic) == 0)
        {
            let words = format!("{lost} devices stay on another topic than {}.", made.topic);
            event::record(tx, "push-topic-replaced", None, &words)?;
        }
        wake::due_on_topic(tx, &made.topic)?;
        let devices = devices_on(&enrolled, &made.topic);
        Ok((made, devices))
    });
    let imported = imported.await?;
    changed(admin).await;
    Ok(imported)
}

/// Lets pushes use what is current now.
async fn changed(admin: &Admin) {
    admin.mdm.apns.reload().await;
    // Only now, or those who are due would be pushed with the certificate that was replaced.
    admin.mdm.store.woken().notify_one();
}

/// What Apple says of this topic's certificate, in the shape of the API: `works, words` and those of a push.
async fn trial(admin: &Admin, topic: &str) -> Value {
    let trial = admin.mdm.apns.try_topic(topic).await;
    let mut shown = trial.result.as_ref().map_or_else(|| json!({}), PushResult::to_json);
    shown["works"] = trial.works.into();
    shown["words"] = trial.words.into();
    shown
}

fn shown(admin: &Admin, certificate: &PushCertificate) -> Result<Value> {
    let enrolled = admin.mdm.store.peek(enrollment::on_topics)?;
    Ok(certificate.to_json(devices_on(&enrolled, &certificate.topic)))
}

fn find(conn: &Connection, topic: &str) -> Result<PushCertificate> {
    certificate::by_topic(conn, topic)?
        .ok_or_else(|| Error::NotFound("push certificate of this topic".into()))
}

pub(super) async fn show(
    State(admin): State<Admin>,
    Path(topic): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let found = admin.mdm.store.peek(|conn| find(conn, &topic))?;
    Ok(Json(shown(&admin, &found)?))
}

pub(super) async fn patch(
    State(admin): State<Admin>,
    caller: Caller,
    Path(topic): Path<String>,
    mut body: Object,
) -> Result<Json<Value>, Refusal> {
    let (notes, account) = (body.text("notes")?, body.text("apple_account")?);
    body.finish()?;
    if notes.as_ref().is_some_and(|notes| notes.len() > LONGEST_NOTES) {
        return Err(Error::invalid_at("/notes", "notes are at most 10,000 bytes").into());
    }
    let made = admin.mdm.store.write("push_certificate.describe", move |tx| {
        let made = certificate::describe(tx, &topic, notes.as_deref(), account.as_deref())?;
        let detail = json!({"apple_account": account, "notes": notes.is_some()});
        audit::record(tx, &caller.actor, "push-certificate.describe", &topic, &detail)?;
        Ok(made)
    });
    Ok(Json(shown(&admin, &made.await?)?))
}

pub(super) async fn roll_back(
    State(admin): State<Admin>,
    caller: Caller,
    Path(topic): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let made = admin.mdm.store.write("push_certificate.roll_back", move |tx| {
        let made = certificate::roll_back(tx, &topic)?;
        let detail = json!({"serial_number": made.serial_number});
        audit::record(tx, &caller.actor, "push-certificate.roll-back", &topic, &detail)?;
        let words = format!("The earlier push certificate for {topic} is used again.");
        event::record(tx, "push-certificate-rolled-back", None, &words)?;
        wake::due_on_topic(tx, &topic)?;
        Ok(made)
    });
    let made = made.await?;
    changed(&admin).await;
    let mut answer = shown(&admin, &made)?;
    answer["test"] = trial(&admin, &made.topic).await;
    Ok(Json(answer))
}

pub(super) async fn test(
    State(admin): State<Admin>,
    Path(topic): Path<String>,
) -> Result<Json<Value>, Refusal> {
    admin.mdm.store.peek(|conn| find(conn, &topic))?;
    Ok(Json(trial(&admin, &topic).await))
}

/// A page to copy for Apple's support, who move a certificate to another account when they are given all of this.
pub(super) async fn support(
    State(admin): State<Admin>,
    Path(topic): Path<String>,
    parameters: Parameters,
) -> Result<Response, Refusal> {
    let one = admin.mdm.store.peek(|conn| find(conn, &topic))?;
    let of = |value: Option<&str>| value.map_or_else(|| "(not written down)".to_owned(), id::printable);
    let text = format!(
        "We ask for an MDM push certificate to be moved to another Apple Account.\n\n\
         Subject DN:              {}\n\
         Common Name (CN):        {}\n\
         Serial number:           {}\n\
         Expires:                 {}\n\
         Present Apple Account:   {}\n\
         New Apple Account:       {}\n\n\
         The topic (UID) has to stay as it is: {}\n",
        id::printable(&one.subject),
        of(one.common_name.as_deref()),
        one.serial_number.to_uppercase(),
        rfc3339(one.not_after),
        of(one.apple_account.as_deref()),
        of(parameters.text("new_account")),
        one.topic
    );
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
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
    let mut answer = imported.to_json(devices);
    // It is in use whatever Apple says of it now: a firewall that is closed today is no reason to refuse it.
    answer["test"] = trial(&admin, &imported.topic).await;
    Ok((StatusCode::CREATED, Json(answer)))
}
