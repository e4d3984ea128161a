//! Invitations: links that let devices enroll.
//!
//! A link can be for one device or for many, ends by itself, can be revoked, and can be made for one
//! serial number or for devices that are still enrolled. The API and `russet invite` make them, the
//! landing page and SCEP ask whether they still hold.
//!
//! **Invariant:** a use is counted when a device's first TokenUpdate completes, and at most `uses`
//! devices ever complete one.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;

use crate::clock::{DAY, Seconds};
use crate::error::{Error, Result};
use crate::id;
use crate::storage::Tx;

/// How long a link works when nobody says otherwise.
pub const DEFAULT_LIFE: Seconds = 7 * DAY;
/// The longest that a link for devices that are still enrolled may work.
pub const REENROLL_LIFE: Seconds = DAY;
/// The longest that any link may work.
const LONGEST_LIFE: Seconds = 366 * DAY;
/// How many enrollments that were begun and not finished are remembered for each device that may enroll.
const UNFINISHED: u32 = 10;
/// However many uses there are: what is kept is looked through at each Authenticate.
const MOST_UNFINISHED: u32 = 1000;
/// The most devices that one link may enroll.
const MOST_USES: u32 = 100_000;

/// What the maker of an invitation asks for.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub uses: Option<u32>,
    pub expires_in: Option<Seconds>,
    pub group: Option<String>,
    pub serial_number: Option<String>,
    pub reenroll: bool,
}

/// One invitation.
#[derive(Debug, Clone)]
pub struct Invitation {
    pub code: String,
    pub uses: u32,
    pub used: u32,
    pub expires_at: Seconds,
    pub group: Option<String>,
    pub serial_number: Option<String>,
    pub reenroll: bool,
    pub created_at: Seconds,
    pub created_by: String,
    pub revoked_at: Option<Seconds>,
}

/// Why a link does not work any more, in words for the person who opened it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Spent {
    Revoked,
    Expired,
    UsedUp,
}

impl Spent {
    /// A sentence for the person who opened the link.
    pub fn words(self) -> &'static str {
        match self {
            Self::Revoked => "This link was withdrawn. Ask your administrator for a new one.",
            Self::Expired => "This link has expired. Ask your administrator for a new one.",
            Self::UsedUp => {
                "This link has been used as often as it was made for. Ask your administrator for a new one."
            }
        }
    }
}

impl Invitation {
    /// What it is called where the code must not stand: it tells one link from another without being one.
    pub fn name(&self) -> String {
        name(&self.code)
    }

    /// How many profiles that nobody installed, and how many devices that never finished, are kept of it.
    pub fn most_unfinished(&self) -> u32 {
        (UNFINISHED + UNFINISHED * self.uses).min(MOST_UNFINISHED)
    }

    /// Whether another device may still enroll with it.
    pub fn spent(&self, now: Seconds) -> Option<Spent> {
        if self.revoked_at.is_some() {
            Some(Spent::Revoked)
        } else if self.expires_at <= now {
            Some(Spent::Expired)
        } else if self.used >= self.uses {
            Some(Spent::UsedUp)
        } else {
            None
        }
    }
}

/// As [`Invitation::name`].
pub fn name(code: &str) -> String {
    format!("invitation {}", id::hex(&id::sha256(code.as_bytes())[..4]))
}

/// Makes an invitation.
///
/// # Errors
/// `Invalid`, with the JSON pointer of what is out of range.
pub fn create(tx: &Tx<'_>, wanted: &Wanted, created_by: &str) -> Result<Invitation> {
    let uses = wanted.uses.unwrap_or(1);
    if uses == 0 || uses > MOST_USES {
        return Err(Error::invalid_at(
            "/uses",
            format!("a link is for 1 to {MOST_USES} devices; write a number in that range"),
        ));
    }
    let life = wanted.expires_in.unwrap_or(if wanted.reenroll { REENROLL_LIFE } else { DEFAULT_LIFE });
    if !(1..=LONGEST_LIFE).contains(&life) {
        return Err(Error::invalid_at(
            "/expires_in",
            "a link works for at most a year; write for example \"7d\"",
        ));
    }
    if wanted.reenroll && life > REENROLL_LIFE {
        return Err(Error::invalid_at(
            "/expires_in",
            "a link for devices that are still enrolled works for at most 24 hours; write \"24h\" or less",
        ));
    }
    let invitation = Invitation {
        code: id::secret::<16>(),
        uses,
        used: 0,
        expires_at: tx.now() + life,
        group: wanted.group.clone(),
        serial_number: wanted.serial_number.clone(),
        reenroll: wanted.reenroll,
        created_at: tx.now(),
        created_by: created_by.to_owned(),
        revoked_at: None,
    };
    tx.prepare_cached(
        "INSERT INTO invitations (code, uses, expires_at, group_name, serial_number, reenroll, created_at, created_by)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        invitation.code,
        uses,
        invitation.expires_at,
        invitation.group,
        invitation.serial_number,
        invitation.reenroll,
        tx.now(),
        created_by
    ])?;
    Ok(invitation)
}

const COLUMNS: &str =
    "code, uses, used, expires_at, group_name, serial_number, reenroll, created_at, created_by, revoked_at";

fn read(row: &Row<'_>) -> rusqlite::Result<Invitation> {
    Ok(Invitation {
        code: row.get(0)?,
        uses: row.get(1)?,
        used: row.get(2)?,
        expires_at: row.get(3)?,
        group: row.get(4)?,
        serial_number: row.get(5)?,
        reenroll: row.get(6)?,
        created_at: row.get(7)?,
        created_by: row.get(8)?,
        revoked_at: row.get(9)?,
    })
}

/// The invitation with this code, spent or not.
pub fn find(conn: &Connection, code: &str) -> Result<Option<Invitation>> {
    Ok(conn
        .prepare_cached(&format!("SELECT {COLUMNS} FROM invitations WHERE code = ?1"))?
        .query_row([code], read)
        .optional()?)
}

/// Invitations after the one at `cursor` (its row number), newest first, with their row numbers.
pub fn list(conn: &Connection, before: Option<i64>, limit: u32) -> Result<Vec<(i64, Invitation)>> {
    let mut statement = conn.prepare_cached(&format!(
        "SELECT {COLUMNS}, rowid FROM invitations WHERE rowid < ?1 ORDER BY rowid DESC LIMIT ?2"
    ))?;
    let rows = statement
        .query_map(params![before.unwrap_or(i64::MAX), limit], |row| Ok((row.get(10)?, read(row)?)))?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

/// Withdraws an invitation; devices that enrolled with it stay enrolled.
///
/// # Errors
/// `NotFound` when there is no such code.
pub fn revoke(tx: &Tx<'_>, code: &str) -> Result<()> {
    let changed = tx
        .prepare_cached("UPDATE invitations SET revoked_at = COALESCE(revoked_at, ?2) WHERE code = ?1")?
        .execute(params![code, tx.now()])?;
    if changed == 0 {
        return Err(Error::NotFound("such invitation".into()));
    }
    Ok(())
}

/// Counts one use.
///
/// # Errors
/// `Invalid` when all uses are taken: two devices raced for the last one.
pub(super) fn count(tx: &Tx<'_>, code: &str) -> Result<()> {
    let changed = tx
        .prepare_cached("UPDATE invitations SET used = used + 1 WHERE code = ?1 AND used < uses")?
        .execute([code])?;
    if changed == 0 {
        return Err(Error::invalid(Spent::UsedUp.words()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::tests::temporary;

    #[tokio::test]
    async fn a_link_is_spent_when_its_uses_are_counted() {
        let (_folder, store) = temporary();
        store
            .write("test", |tx| {
                let made = create(tx, &Wanted { uses: Some(2), ..Wanted::default() }, "test")?;
                count(tx, &made.code)?;
                assert_eq!(find(tx, &made.code)?.unwrap().spent(tx.now()), None);
                count(tx, &made.code)?;
                assert_eq!(find(tx, &made.code)?.unwrap().spent(tx.now()), Some(Spent::UsedUp));
                assert!(matches!(count(tx, &made.code), Err(Error::Invalid { .. })));
                Ok(())
            })
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_link_expires_and_can_be_revoked() {
        let (_folder, store) = temporary();
        store
            .write("test", |tx| {
                let made = create(tx, &Wanted { expires_in: Some(60), ..Wanted::default() }, "test")?;
                assert_eq!(made.spent(tx.now() + 60), Some(Spent::Expired));
                revoke(tx, &made.code)?;
                assert_eq!(find(tx, &made.code)?.unwrap().spent(tx.now()), Some(Spent::Revoked));
                assert!(matches!(revoke(tx, "none"), Err(Error::NotFound(_))));
                Ok(())
            })
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_link_for_enrolled_devices_works_a_day_at_the_most() {
        let (_folder, store) = temporary();
        store
            .write("test", |tx| {
                let wanted = Wanted { reenroll: true, expires_in: Some(2 * DAY), ..Wanted::default() };
                assert!(matches!(create(tx, &wanted, "test"), Err(Error::Invalid { pointer: Some(_), .. })));
                let wanted = Wanted { reenroll: true, ..Wanted::default() };
                assert_eq!(create(tx, &wanted, "test")?.expires_at, tx.now() + DAY);
                Ok(())
            })
            .await
            .unwrap();
    }
}
