//! `GET /api/v1/compliance`, `GET /api/v1/groups/{name}/compliance`,
//! `GET /api/v1/enrollments/{id}/compliance`: one page of security facts.
//!
//! `?want=passcode_present,lockdown_mode` holds devices against facts that are only noted otherwise,
//! `?ignore=filevault` only notes one. The first page of a list has a `summary` of all of it.
//!
//! **Invariant:** a list is made of devices, each once; their users are not counted.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use rusqlite::Connection;
use serde_json::{Value, json};

use super::query::{Parameters, page};
use super::reply::Refusal;
use super::{Admin, fleet, group};
use crate::clock::{Seconds, parse_rfc3339, rfc3339};
use crate::ddm::compliance::{self, Compliance, Standing, Wants};
use crate::ddm::group::{DEFAULT, Group, check_rule};
use crate::ddm::manifest::Plan;
use crate::ddm::membership;
use crate::ddm::plans;
use crate::ddm::predicate::{Predicate, Truth};
use crate::ddm::{Subject, compliance::NAMES};
use crate::error::{Error, Result};
use crate::mdm::contact::Contacts;
use crate::mdm::subject;

const AT_ONCE: u32 = 500;
/// How many devices a summary names for each fact.
const MOST_NAMED: usize = 100;

/// What all devices of a request are held against.
struct Measure {
    wants: Wants,
    contacts: Contacts,
    now: Seconds,
}

impl Measure {
    fn of(admin: &Admin, parameters: &Parameters) -> Result<Self> {
        let text = |name| parameters.text(name).unwrap_or_default();
        let wants = Wants::read(text("want"), text("ignore"))?;
        Ok(Self { wants, contacts: admin.mdm.contacts.clone(), now: admin.now() })
    }

    fn apply(&self, conn: &Connection, plan: &Plan, subject: &Subject) -> Result<Compliance> {
        let written = subject.keys.get("last_seen_at").and_then(Value::as_str).and_then(parse_rfc3339);
        // Contacts of the last minute are not in the database yet.
        let seen = written.max(self.contacts.unwritten(&subject.id));
        compliance::of(conn, plan, subject, seen, self.now, &self.wants)
    }
}

/// The group that is asked about.
struct Members {
    group: Group,
    rule: Option<Predicate>,
}

impl Members {
    fn of(conn: &Connection, name: &str) -> Result<Self> {
        let group = group::existing(conn, name)?;
        let rule = group.rule.as_deref().map(check_rule).transpose()?;
        Ok(Self { group, rule })
    }

    fn have(&self, conn: &Connection, subject: &Subject) -> Result<bool> {
        if self.group.name == DEFAULT || self.group.members.contains(&subject.id) {
            return Ok(true);
        }
        let Some(rule) = &self.rule else { return Ok(false) };
        Ok(membership::by_rule(conn, rule, subject)? == Truth::True)
    }
}

fn shown(subject: &Subject, found: &Compliance) -> Value {
    let key = |name: &str| subject.keys.get(name).cloned().unwrap_or_default();
    json!({
        "id": subject.id,
        "name": key("name"),
        "serial_number": key("serial_number"),
        "platform": key("platform"),
        "os_version": key("os_version"),
        "compliant": found.compliant(),
        "last_seen_at": found.last_seen_at.map(rfc3339),
        "last_report_at": found.last_report_at.map(rfc3339),
        "facts": found.facts.iter().map(compliance::Fact::shown).collect::<Vec<_>>(),
    })
}

/// How many fare how, and who fails what.
#[derive(Default)]
struct Summary {
    devices: usize,
    compliant: usize,
    not_compliant: usize,
    facts: BTreeMap<&'static str, Counts>,
}

#[derive(Default)]
struct Counts {
    by_standing: BTreeMap<&'static str, usize>,
    failing: Vec<Value>,
}

impl Summary {
    fn add(&mut self, subject: &Subject, found: &Compliance) {
        self.devices += 1;
        self.compliant += usize::from(found.compliant() == Some(true));
        self.not_compliant += usize::from(found.compliant() == Some(false));
        for fact in &found.facts {
            let counts = self.facts.entry(fact.name).or_default();
            *counts.by_standing.entry(fact.standing().word()).or_default() += 1;
            if fact.standing() == Standing::Failing && counts.failing.len() < MOST_NAMED {
                let name = subject.keys.get("name");
                counts.failing.push(json!({"id": subject.id, "name": name, "words": fact.words}));
            }
        }
    }

    fn shown(&self) -> Value {
        let facts = NAMES.iter().filter_map(|name| {
            let counts = self.facts.get(name)?;
            let standings = [
                Standing::Ok,
                Standing::Failing,
                Standing::Unknown,
                Standing::NotApplicable,
                Standing::Noted,
            ];
            let mut shown: Value = standings
                .map(Standing::word)
                .map(|word| (word.to_owned(), counts.by_standing.get(word).copied().unwrap_or(0).into()))
                .into_iter()
                .collect::<serde_json::Map<_, _>>()
                .into();
            shown["name"] = (*name).into();
            shown["enrollments"] = counts.failing.clone().into();
            Some(shown)
        });
        json!({
            "devices": self.devices,
            "compliant": self.compliant,
            "not_compliant": self.not_compliant,
            "unknown": self.devices - self.compliant - self.not_compliant,
            "facts": facts.collect::<Vec<_>>(),
        })
    }
}

/// What a list has: devices by their IDs, and the summary of all.
type Walked = (Vec<(String, Value)>, Option<Summary>);

/// Devices after `after`, at most `limit`; and of all of them the summary, if `after` is the beginning.
fn walk(
    conn: &Connection,
    measure: &Measure,
    members: Option<&Members>,
    after: Option<String>,
    limit: u32,
) -> Result<Walked> {
    let plan = plans::present(conn)?;
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut summary = after.is_none().then(Summary::default);
    let (mut items, mut after) = (Vec::new(), after.unwrap_or_default());
    loop {
        let batch = fleet::subjects(conn, &after, AT_ONCE)?;
        let Some(last) = batch.last() else { return Ok((items, summary)) };
        after.clone_from(&last.id);
        for subject in batch.iter().filter(|subject| subject.id == subject.device_id) {
            if items.len() >= most && summary.is_none() {
                return Ok((items, None));
            }
            if !members.map_or(Ok(true), |members| members.have(conn, subject))? {
                continue;
            }
            let found = measure.apply(conn, &plan, subject)?;
            if let Some(summary) = &mut summary {
                summary.add(subject, &found);
            }
            if items.len() < most {
                items.push((subject.id.clone(), shown(subject, &found)));
            }
        }
    }
}

async fn list(admin: Admin, group: Option<String>, parameters: Parameters) -> Result<Json<Value>, Refusal> {
    let (limit, cursor) = (parameters.limit()?, parameters.cursor::<String>()?);
    let measure = Measure::of(&admin, &parameters)?;
    let found = admin.mdm.store.read(move |conn| {
        let members = group.as_deref().map(|name| Members::of(conn, name)).transpose()?;
        walk(conn, &measure, members.as_ref(), cursor, limit + 1)
    });
    let (items, summary) = found.await?;
    let mut shown = page(items, limit);
    shown["summary"] = summary.map_or(Value::Null, |summary| summary.shown());
    Ok(Json(shown))
}

pub(super) async fn fleet(
    State(admin): State<Admin>,
    parameters: Parameters,
) -> Result<Json<Value>, Refusal> {
    list(admin, None, parameters).await
}

pub(super) async fn group(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    parameters: Parameters,
) -> Result<Json<Value>, Refusal> {
    list(admin, Some(name), parameters).await
}

pub(super) async fn enrollment(
    State(admin): State<Admin>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Json<Value>, Refusal> {
    let measure = Measure::of(&admin, &parameters)?;
    let found = admin.mdm.store.read(move |conn| {
        let subject = subject::of(conn, &id)?.ok_or_else(|| Error::NotFound("such enrollment".into()))?;
        Ok(shown(&subject, &measure.apply(conn, &*plans::present(conn)?, &subject)?))
    });
    Ok(Json(found.await?))
}
