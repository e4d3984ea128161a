//! Alerts: what ends and needs somebody is told at 60, 30, 14, 7, 3 and 1 days. Table `alerts`, of which
//! this file is the owner.
//!
//! An alert is a line of the log, an event (`alert`), and, with the others of its round, a mail. The round
//! is one transaction: it is never told twice, and never forgotten, whenever the server stops.
//!
//! **Invariant:** each certificate is told of at most once for each of its days, the days only shrink, and
//! after a step of the clock over several of them the least is told alone.

use rusqlite::{Connection, params};

use super::{Ends, Expiry, outbox};
use crate::clock::{DAY, Seconds, rfc3339};
use crate::error::Result;
use crate::mdm::event;
use crate::storage::Tx;

/// When alerts are given, in days before the end.
pub const DAYS: [i64; 6] = [60, 30, 14, 7, 3, 1];

/// How long after its certificate's end an alert is remembered.
const REMEMBERED: Seconds = 400 * DAY;
/// How many alerts one mail spells out.
const IN_ONE_MAIL: usize = 50;

/// One alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Of [`DAYS`].
    pub days: i64,
    pub kind: &'static str,
    pub subject: String,
    pub enrollment_id: Option<String>,
    /// SHA-256, hexadecimal.
    pub certificate: String,
    pub not_after: Seconds,
    /// What is told, a sentence or two.
    pub words: String,
    /// What to do, a sentence.
    pub remedy: &'static str,
}

/// Gives the alerts that are due; a background task's. While the clock cannot be right there are none.
///
/// # Errors
/// The database's.
pub async fn round(expiry: &Expiry) -> Result<Vec<Alert>> {
    let store = &expiry.0.store;
    if !store.clock().is_sane() {
        return Ok(Vec::new());
    }
    let now = store.clock().now();
    let all = expiry.all()?;
    let waiting = store.peek(|conn| due(conn, &all, now))?;
    if waiting.is_empty() {
        return Ok(waiting);
    }
    let (mails, host) = (expiry.0.mailer.is_some(), expiry.0.host.clone());
    let given = store
        .write("alerts", move |tx| {
            let given = due(tx, &all, now)?;
            for alert in &given {
                give(tx, alert)?;
            }
            thin(tx, now - REMEMBERED)?;
            if mails && !given.is_empty() {
                let (subject, body) = mail(&given, &host);
                outbox::enqueue(tx, &subject, &body)?;
            }
            Ok(given)
        })
        .await?;
    for alert in &given {
        tracing::warn!(kind = alert.kind, subject = alert.subject, days = alert.days, "{}", alert.words);
    }
    Ok(given)
}

/// What is to be told now.
fn due(conn: &Connection, all: &[Ends], now: Seconds) -> Result<Vec<Alert>> {
    let mut told = conn.prepare_cached("SELECT MIN(days) FROM alerts WHERE certificate = ?1")?;
    let mut due = Vec::new();
    for ends in all.iter().filter(|ends| ends.needs_somebody()) {
        let left = ends.not_after - now;
        let days = DAYS.into_iter().filter(|days| left <= days * DAY && *days <= ends.first_alert).min();
        let Some(days) = days else { continue };
        let least: Option<i64> = told.query_row([&ends.certificate], |row| row.get(0))?;
        if least.is_none_or(|least| days < least) {
            due.push(alert(ends, days, now));
        }
    }
    Ok(due)
}

fn alert(ends: &Ends, days: i64, now: Seconds) -> Alert {
    let what = format!("{} {}", ends.kind.words(), ends.subject);
    let mut words = if ends.not_after <= now {
        format!("{what} ended at {}.", rfc3339(ends.not_after))
    } else {
        let left = match ends.days_left(now) {
            0 => "less than a day".to_owned(),
            1 => "one day".to_owned(),
            left => format!("{left} days"),
        };
        format!("{what} ends in {left}, at {}.", rfc3339(ends.not_after))
    };
    if let Some(first) = words.get(..1).map(str::to_uppercase) {
        words.replace_range(..1, &first);
    }
    match &ends.attempt {
        Some(attempt) => {
            words.push_str(&format!(" A new one was sent at {}. {}", rfc3339(attempt.at), attempt.answer));
        }
        None if ends.renews_itself => words.push_str(" It should have been renewed by now."),
        None => {}
    }
    Alert {
        days,
        kind: ends.kind.word(),
        subject: ends.subject.clone(),
        enrollment_id: ends.enrollment_id.clone(),
        certificate: ends.certificate.clone(),
        not_after: ends.not_after,
        words,
        remedy: ends.kind.remedy(),
    }
}

fn give(tx: &Tx<'_>, alert: &Alert) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO alerts (certificate, days, at, kind, subject, not_after, words)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        alert.certificate,
        alert.days,
        tx.now(),
        alert.kind,
        alert.subject,
        alert.not_after,
        alert.words
    ])?;
    event::record(tx, "alert", alert.enrollment_id.as_deref(), &format!("{} {}", alert.words, alert.remedy))
}

fn thin(tx: &Tx<'_>, before: Seconds) -> Result<()> {
    tx.prepare_cached("DELETE FROM alerts WHERE not_after < ?1")?.execute([before])?;
    Ok(())
}

/// How many alerts were given for each kind and day.
pub(super) fn counts(conn: &Connection) -> Result<Vec<(String, i64, i64)>> {
    let mut statement = conn
        .prepare_cached("SELECT kind, days, COUNT(*) FROM alerts GROUP BY kind, days ORDER BY kind, days")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Subject and text of the mail of one round.
fn mail(given: &[Alert], host: &str) -> (String, String) {
    let subject = match given {
        [one] => format!("Russet at {host}: {} ends", one.subject),
        more => format!("Russet at {host}: {} certificates end", more.len()),
    };
    let mut body = String::new();
    for alert in given.iter().take(IN_ONE_MAIL) {
        body.push_str(&format!("{}\n{}\n\n", alert.words, alert.remedy));
    }
    if given.len() > IN_ONE_MAIL {
        body.push_str(&format!(
            "And {} more; see them all with: russet expiry\n\n",
            given.len() - IN_ONE_MAIL
        ));
    }
    body.push_str(&format!(
        "Sent by the Russet server at {host}. Each is told once at 60, 30, 14, 7, 3 and 1 days.\n"
    ));
    (subject, body)
}
