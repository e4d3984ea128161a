//! When devices were last here, and from where.
//!
//! An idle device connects often and says nothing new, so its last contact is kept in memory and
//! written in bulk: an SD card is not worn out by devices that have nothing to say. What is lost in
//! a power cut is a minute of "last seen", which the next contact brings back.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension, params};

use crate::clock::Seconds;
use crate::error::Result;
use crate::storage::{Store, Tx};

/// Contacts that are not written yet; cheap to clone.
#[derive(Clone, Default)]
pub struct Contacts(Arc<Mutex<HashMap<String, Contact>>>);

/// When, and from which address.
type Contact = (Seconds, Option<IpAddr>);

impl Contacts {
    /// This enrollment is here now.
    pub fn seen(&self, enrollment_id: &str, now: Seconds, from: Option<IpAddr>) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.get_mut(enrollment_id) {
            Some(at) => *at = (now, from),
            None => {
                waiting.insert(enrollment_id.to_owned(), (now, from));
            }
        }
    }

    /// What is not written yet of one enrollment.
    pub fn unwritten(&self, enrollment_id: &str) -> Option<Seconds> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(enrollment_id).map(|(at, _)| *at)
    }

    /// Writes what has gathered; called every minute and at the end.
    ///
    /// # Errors
    /// The database's; what was not written is gathered again.
    pub async fn flush(&self, store: &Store) -> Result<()> {
        let gathered = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if gathered.is_empty() {
            return Ok(());
        }
        let rows = gathered.clone();
        let written = store
            .write("contacts", move |tx| {
                let mut statement = tx.prepare_cached(
                    "INSERT INTO contacts (enrollment_id, last_seen_at, address) VALUES (?1, ?2, ?3)
                     ON CONFLICT DO UPDATE SET last_seen_at = excluded.last_seen_at, address = excluded.address",
                )?;
                for (enrollment_id, (at, from)) in &rows {
                    statement.execute(params![enrollment_id, at, from.map(|from| from.to_string())])?;
                }
                Ok(())
            })
            .await;
        if written.is_err() {
            let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            for (enrollment_id, at) in gathered {
                waiting.entry(enrollment_id).or_insert(at);
            }
        }
        written
    }
}

/// What APNs last answered about a channel, as JSON.
pub fn pushed(tx: &Tx<'_>, enrollment_id: &str, answer: &str) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO contacts (enrollment_id, last_push_at, last_push_answer) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET last_push_at = excluded.last_push_at,
                                   last_push_answer = excluded.last_push_answer",
    )?
    .execute(params![enrollment_id, tx.now(), answer])?;
    Ok(())
}

/// When a channel was last here and last pushed, as far as it is written.
pub fn find(conn: &Connection, enrollment_id: &str) -> Result<(Option<Seconds>, Option<Seconds>)> {
    Ok(conn
        .prepare_cached("SELECT last_seen_at, last_push_at FROM contacts WHERE enrollment_id = ?1")?
        .query_row([enrollment_id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?
        .unwrap_or_default())
}

/// A device that Apple took a push for, or that was here.
#[derive(Clone, Debug)]
pub struct Heard {
    pub enrollment_id: String,
    pub last_seen_at: Option<Seconds>,
    /// The address that it last spoke from.
    pub address: Option<IpAddr>,
    /// When Apple last took a push for it; none if its last answer was another.
    pub accepted_at: Option<Seconds>,
}

/// All enrolled devices, with when they were last heard of.
pub fn all_heard(conn: &Connection) -> Result<Vec<Heard>> {
    let mut statement = conn.prepare_cached(
        "SELECT contacts.enrollment_id, last_seen_at, address,
                CASE WHEN json_extract(last_push_answer, '$.status') = 200 THEN last_push_at END
         FROM contacts JOIN enrollments ON enrollments.id = contacts.enrollment_id
         WHERE enrollments.state = 'enrolled' AND enrollments.channel = 'device'",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(Heard {
            enrollment_id: row.get(0)?,
            last_seen_at: row.get(1)?,
            address: row.get::<_, Option<String>>(2)?.and_then(|text| text.parse().ok()),
            accepted_at: row.get(3)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Forgets when a channel was here.
pub fn forget(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM contacts WHERE enrollment_id = ?1")?.execute([enrollment_id])?;
    Ok(())
}
