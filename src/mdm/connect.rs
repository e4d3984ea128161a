//! `PUT /mdm/connect`: the command channel (Apple: "Sending MDM commands to a device").
//!
//! A device says Idle or reports what became of a command, and gets the next one or an empty body.
//! Most connections of a healthy fleet have nothing to say and nothing to hear; they touch only the
//! readers.
//!
//! **Invariant:** report and next command are one transaction: a crash never loses one of them.

use axum::body::Bytes;
use plist::{Dictionary, Value};

use super::enrollment::{self, Facts};
use super::ids::Ids;
use super::outbox::{About, Draft};
use super::queue::{self, Answered, Report, Status};
use super::reply::{Refusal, Reply};
use super::{Mdm, caller::Caller, event, package, renewal, sync, wake};
use crate::ddm;
use crate::error::{Error, Result};
use crate::metric::Counter;
use crate::pki::identity::State;
use crate::pki::seal::Seal;
use crate::plist;
use crate::storage::{Reading, Tx};

/// A report of more bytes is a list of something.
const LARGE: usize = 64 * 1024;

/// Contacts on the command channel.
static CONNECTS: Counter =
    Counter::new("russet_connects_total", "Contacts of devices for commands.", "status");

pub(super) async fn handle(
    mdm: &Mdm,
    caller: &Caller,
    reading: Reading<'_>,
    body: Bytes,
) -> Result<Reply, Refusal> {
    // A list of megabytes takes a while to be read; no state of the database is held on to meanwhile.
    let (message, reading) = if body.len() > LARGE {
        drop(reading);
        (plist::parse(&body), mdm.store.reading()?)
    } else {
        (plist::parse(&body), reading)
    };
    let message = message.map_err(Error::from)?;
    let report = message.as_dictionary().ok_or_else(|| Refusal::bad("the report is not a dictionary"))?;
    let ids = Ids::of(report)?;
    let word = plist::string(report, "Status")
        .map_err(Error::from)?
        .ok_or_else(|| Refusal::bad("the report has no Status"))?;
    let status = Status::from_word(word).ok_or_else(|| {
        Refusal::bad(format!("the Status {} is not known here", crate::id::printable(word)))
    })?;
    let uuid = plist::string(report, "CommandUUID").map_err(Error::from)?;
    if status != Status::Idle && uuid.is_none() {
        return Err(Refusal::bad("the report names no CommandUUID"));
    }
    tracing::Span::current().record("enrollment.id", &ids.enrollment_id);
    tracing::Span::current().record("status", status.word());

    let (expired, now) = (mdm.is_expired(caller), mdm.store.clock().now());
    // All that an Idle without work has to know, read at the moment at which its identity was.
    let state = enrollment::find(&reading, &ids.enrollment_id)?.map(|known| known.state);
    let mut waiting = queue::has_open(&reading, &ids.enrollment_id)?;
    if !waiting && status == Status::Idle && !expired {
        waiting = ddm::sync::is_pending(&reading, &ids.enrollment_id, now)?;
    }
    let reportable = match uuid.filter(|_| status != Status::Idle && !waiting) {
        Some(uuid) => queue::was_sent(&reading, &ids.enrollment_id, uuid)?,
        None => waiting,
    };
    let ended = super::ended(&reading, &caller.identity)?;
    drop(reading);
    mdm.heed(ended)?;
    mdm.is_pinned_to(caller, &ids).await?;
    if caller.identity.state == State::Claim {
        return Ok(Reply::Empty);
    }
    super::enrolled(&ids, state)?;
    mdm.contacts.seen(&ids.enrollment_id, now, caller.address);
    CONNECTS.add(status.word());
    if status == Status::Idle {
        let about = About { uuid: None, request_type: "", word, outcome: word };
        mdm.tell(|format| Draft::report(format, &ids, &about, report, &body), "idle", &ids.enrollment_id);
    }

    if ids.kind.is_device() {
        waiting |= renewal::look_after(mdm, &caller.identity, &ids.device_id).await;
    }
    // Nothing to hear, and nothing said that anybody asked for: nothing to write.
    if !waiting && !reportable {
        return Ok(Reply::Empty);
    }

    let _place = mdm.place(caller)?;
    let told = match (mdm.told_as, uuid.filter(|_| status != Status::Idle)) {
        (Some(format), Some(uuid)) => {
            let known = mdm.store.peek(|conn| queue::request_type(conn, &ids.enrollment_id, uuid))?;
            known.map(|request_type| {
                let answer = Report { status, body: &body, answer: &message };
                let outcome = answer.outcome(&request_type).0.word();
                let about = About { uuid: Some(uuid), request_type: &request_type, word, outcome };
                Draft::report(format, &ids, &about, report, &body)
            })
        }
        _ => None,
    };
    let (seal, uuid) = (mdm.seal.clone(), uuid.map(str::to_owned));
    let fingerprint = caller.identity.fingerprint;
    let next = mdm
        .store
        .write("connect", move |tx| {
            super::still_speaks(tx, &fingerprint)?;
            // It was asked to unenroll meanwhile: it hears so at its next contact, and is pushed for it.
            if enrollment::is_asked_to_unenroll(tx, &ids.device_id)? {
                return Ok(None);
            }
            exchange(tx, &seal, &ids, status, uuid.as_deref(), &body, &message, expired, told.as_ref())
        })
        .await?;
    Ok(next.map_or(Reply::Empty, Reply::Plist))
}

#[expect(clippy::too_many_arguments, reason = "one transaction, spelled out where it is used")]
fn exchange(
    tx: &Tx<'_>,
    seal: &Seal,
    ids: &Ids,
    status: Status,
    uuid: Option<&str>,
    body: &[u8],
    message: &Value,
    expired: bool,
    told: Option<&Draft>,
) -> Result<Option<Vec<u8>>> {
    let enrollment = ids.enrollment_id.as_str();
    match uuid {
        Some(uuid) if status != Status::Idle => {
            let report = Report { status, body, answer: message };
            if let Some(answered) = queue::report(tx, seal, enrollment, uuid, &report)? {
                if let Some(told) = told {
                    told.keep(tx, seal)?;
                }
                if !answered.later {
                    learn(tx, ids, status, &answered, message)?;
                }
            }
        }
        _ => queue::idle(tx, enrollment)?,
    }
    let next = match queue::next(tx, seal, enrollment, expired)? {
        None if !expired => sync::command(tx, seal, enrollment)?,
        next => next,
    };
    let next = next.map(|command| package::in_command(tx, enrollment, command)).transpose()?;
    match queue::open_attempts(tx, enrollment)? {
        None => match ddm::sync::pause(tx, enrollment, tx.now())?.filter(|_| !expired) {
            None => wake::nothing_due(tx, enrollment)?,
            Some(pause) => wake::later(tx, enrollment, pause)?,
        },
        Some(attempts) => wake::later(tx, enrollment, wake::pause_after(attempts.saturating_sub(1)))?,
    }
    Ok(next)
}

/// What an answer teaches about the device.
fn learn(tx: &Tx<'_>, ids: &Ids, status: Status, answered: &Answered, message: &Value) -> Result<()> {
    let enrollment = ids.enrollment_id.as_str();
    if answered.purpose_is_renewal && status != Status::Acknowledged {
        event::record(
            tx,
            "renewal-failed",
            Some(enrollment),
            "The device did not install its new identity; it is asked again in four hours.",
        )?;
    }
    if status != Status::Acknowledged {
        return Ok(());
    }
    match answered.request_type.as_str() {
        "DeviceInformation" => {
            match message.as_dictionary().and_then(|report| report.get("QueryResponses")) {
                Some(Value::Dictionary(answers)) => device_information(tx, enrollment, answers),
                _ => Ok(()),
            }
        }
        "DeviceConfigured" | "UserConfigured" => {
            enrollment::configured(tx, enrollment)?;
            sync::refresh(tx, enrollment)
        }
        "EraseDevice" if ids.kind.is_device() => {
            enrollment::erased(tx, enrollment)?;
            event::record(
                tx,
                "erased",
                Some(enrollment),
                "The device acknowledged that it is erasing itself.",
            )
        }
        _ => Ok(()),
    }
}

/// A key of a wrong type is as good as a missing one: the answer itself is kept whole.
fn device_information(tx: &Tx<'_>, enrollment: &str, answers: &Dictionary) -> Result<()> {
    let text = |key: &str| {
        answers.get(key).and_then(Value::as_string).filter(|text| (1..=255).contains(&text.len()))
    };
    let facts = Facts {
        topic: "",
        serial_number: text("SerialNumber"),
        name: text("DeviceName"),
        model: text("Model"),
        model_name: text("ModelName"),
        product_name: text("ProductName"),
        os_version: text("OSVersion"),
        build_version: text("BuildVersion"),
    };
    sync::learn(tx, enrollment, &facts, answers.get("IsSupervised").and_then(Value::as_boolean))
}
