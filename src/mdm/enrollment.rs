//! Enrollments: one row for each channel of each device.
//!
//! Check-in messages write them, the queue, `wake` and the API read them. Apple's words: a device
//! channel is created by Authenticate, a user channel by its own TokenUpdate.
//!
//! **Invariant:** only an acknowledged check-in, an administrator's word, or the device's own answer
//! changes `state`; nothing that merely fails does.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::ids::Ids;
use crate::clock::Seconds;
use crate::ddm;
use crate::error::Result;
use crate::storage::Tx;

/// The most users that one device has: a Shared iPad of a school has dozens, a device that invents
/// them would fill the disk, and each has a set of declarations to be looked at.
pub const MOST_USERS: i64 = 100;

/// Where an enrollment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Said Authenticate; its TokenUpdate is still to come.
    Pending,
    Enrolled,
    /// Said CheckOut, or an administrator ended it.
    Unenrolled,
}

impl State {
    /// As the API and the database write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Enrolled => "enrolled",
            Self::Unenrolled => "unenrolled",
        }
    }

    fn from_word(word: &str) -> Self {
        match word {
            "enrolled" => Self::Enrolled,
            "pending" => Self::Pending,
            _ => Self::Unenrolled,
        }
    }
}

/// What the handlers need to know of an enrollment; the API reads more (`admin::enrollment`).
#[derive(Clone, Debug)]
pub struct Enrollment {
    pub id: String,
    pub parent_id: Option<String>,
    pub state: State,
    pub session_id: Option<String>,
    pub serial_number: Option<String>,
    pub os_version: Option<String>,
    pub product_name: Option<String>,
    pub topic: Option<String>,
    pub unenroll_at: Option<Seconds>,
    pub unenroll_told_at: Option<Seconds>,
    pub erased_at: Option<Seconds>,
}

const COLUMNS: &str = "id, parent_id, state, session_id, serial_number, os_version, product_name, topic, \
                       unenroll_at, unenroll_told_at, erased_at";

fn read(row: &Row<'_>) -> rusqlite::Result<Enrollment> {
    Ok(Enrollment {
        id: row.get(0)?,
        parent_id: row.get(1)?,
        state: State::from_word(row.get_ref(2)?.as_str()?),
        session_id: row.get(3)?,
        serial_number: row.get(4)?,
        os_version: row.get(5)?,
        product_name: row.get(6)?,
        topic: row.get(7)?,
        unenroll_at: row.get(8)?,
        unenroll_told_at: row.get(9)?,
        erased_at: row.get(10)?,
    })
}

/// The enrollment with this ID.
pub fn find(conn: &Connection, id: &str) -> Result<Option<Enrollment>> {
    Ok(conn
        .prepare_cached(&format!("SELECT {COLUMNS} FROM enrollments WHERE id = ?1"))?
        .query_row([id], read)
        .optional()?)
}

/// What a device says of itself in Authenticate.
#[derive(Clone, Debug, Default)]
pub struct Facts<'a> {
    pub topic: &'a str,
    pub serial_number: Option<&'a str>,
    pub name: Option<&'a str>,
    pub model: Option<&'a str>,
    pub model_name: Option<&'a str>,
    pub product_name: Option<&'a str>,
    pub os_version: Option<&'a str>,
    pub build_version: Option<&'a str>,
}

/// A fresh Authenticate: whatever was there of this device starts anew, as `pending`.
pub fn begin(tx: &Tx<'_>, ids: &Ids, session_id: &str, facts: &Facts<'_>) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO enrollments (id, type, channel, udid, state, session_id, topic, serial_number,
                                  name, model, model_name, product_name, os_version, build_version,
                                  created_at)
         VALUES (?1, ?2, 'device', ?3, 'pending', ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
         ON CONFLICT (id) DO UPDATE SET
             type = excluded.type, udid = excluded.udid, state = 'pending', session_id = excluded.session_id,
             topic = excluded.topic,
             serial_number = COALESCE(excluded.serial_number, serial_number),
             name = COALESCE(excluded.name, name), model = COALESCE(excluded.model, model),
             model_name = COALESCE(excluded.model_name, model_name),
             product_name = COALESCE(excluded.product_name, product_name),
             os_version = COALESCE(excluded.os_version, os_version),
             build_version = COALESCE(excluded.build_version, build_version),
             push_magic = NULL, push_token = NULL, push_rejected = 0, push_token_at = NULL,
             awaiting_configuration = NULL, supervised = NULL, unenroll_at = NULL, unenroll_told_at = NULL, erased_at = NULL",
    )?
    .execute(params![
        ids.enrollment_id,
        ids.kind.word(),
        ids.udid,
        session_id,
        facts.topic,
        facts.serial_number,
        facts.name,
        facts.model,
        facts.model_name,
        facts.product_name,
        facts.os_version,
        facts.build_version,
        tx.now(),
    ])?;
    Ok(())
}

/// The push triple of a channel, as its latest TokenUpdate gave it.
pub struct Push<'a> {
    pub topic: &'a str,
    pub magic: &'a str,
    pub token: &'a [u8],
}

/// A TokenUpdate: the channel can be pushed, and from the first on it is enrolled.
pub fn update_token(tx: &Tx<'_>, ids: &Ids, push: &Push<'_>, awaiting: Option<bool>) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO enrollments (id, type, channel, parent_id, udid, user_id, user_short_name, user_long_name,
                                  state, topic, push_magic, push_token, push_token_at, awaiting_configuration,
                                  enrolled_at, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'enrolled', ?9, ?10, ?11, ?12, ?13, ?12, ?12)
         ON CONFLICT (id) DO UPDATE SET
             user_short_name = COALESCE(excluded.user_short_name, user_short_name),
             user_long_name = COALESCE(excluded.user_long_name, user_long_name),
             enrolled_at = CASE WHEN state = 'enrolled' THEN enrolled_at ELSE excluded.enrolled_at END,
             state = 'enrolled', topic = excluded.topic, push_magic = excluded.push_magic,
             -- The device says that this is its token: what Apple said before is asked anew.
             push_rejected = 0, push_token = excluded.push_token, push_token_at = excluded.push_token_at,
             awaiting_configuration = COALESCE(excluded.awaiting_configuration, awaiting_configuration)",
    )?
    .execute(params![
        ids.enrollment_id,
        ids.kind.word(),
        if ids.kind.is_device() { "device" } else { "user" },
        (!ids.kind.is_device()).then_some(&ids.device_id),
        ids.udid,
        ids.user_id,
        ids.user_short_name,
        ids.user_long_name,
        push.topic,
        push.magic,
        push.token,
        tx.now(),
        awaiting,
    ])?;
    Ok(())
}

/// The device and its users are gone: no pushes any more.
pub fn end(tx: &Tx<'_>, device_id: &str) -> Result<()> {
    tx.prepare_cached(
        "UPDATE enrollments SET state = 'unenrolled', push_magic = NULL, push_token = NULL,
                                awaiting_configuration = NULL, unenroll_at = NULL
         WHERE id = ?1 OR parent_id = ?1",
    )?
    .execute([device_id])?;
    Ok(())
}

/// An administrator wants it gone: its tokens stay, so that it can be pushed until it has been told.
pub fn ask_to_unenroll(tx: &Tx<'_>, device_id: &str) -> Result<()> {
    tx.prepare_cached(
        "UPDATE enrollments SET state = 'unenrolled', unenroll_at = COALESCE(unenroll_at, ?2)
         WHERE id = ?1 OR parent_id = ?1",
    )?
    .execute(params![device_id, tx.now()])?;
    Ok(())
}

/// Whether an administrator wants a device gone.
pub fn is_asked_to_unenroll(conn: &Connection, device_id: &str) -> Result<bool> {
    Ok(conn
        .prepare_cached("SELECT 1 FROM enrollments WHERE id = ?1 AND unenroll_at IS NOT NULL")?
        .exists([device_id])?)
}

/// It has been given the answer that makes it unenroll; there is nothing left to push for.
pub fn told_to_unenroll(tx: &Tx<'_>, device_id: &str) -> Result<()> {
    tx.prepare_cached(
        "UPDATE enrollments SET unenroll_told_at = COALESCE(unenroll_told_at, ?2),
                                push_magic = NULL, push_token = NULL
         WHERE id = ?1 OR parent_id = ?1",
    )?
    .execute(params![device_id, tx.now()])?;
    Ok(())
}

/// EraseDevice was acknowledged: the next Authenticate of this device is a new life.
pub fn erased(tx: &Tx<'_>, device_id: &str) -> Result<()> {
    tx.prepare_cached("UPDATE enrollments SET erased_at = ?2 WHERE id = ?1")?
        .execute(params![device_id, tx.now()])?;
    Ok(())
}

/// It said something after it acknowledged EraseDevice: it was not erased. Answers whether that was news.
pub fn is_still_here(tx: &Tx<'_>, device_id: &str, erased_at: Seconds) -> Result<bool> {
    let changed = tx
        .prepare_cached("UPDATE enrollments SET erased_at = NULL WHERE id = ?1 AND erased_at = ?2")?
        .execute(params![device_id, erased_at])?;
    Ok(changed > 0)
}

/// Whoever comes next under this ID inherits nothing that was meant for the device in its earlier life.
pub fn leave_groups(tx: &Tx<'_>, device_id: &str) -> Result<()> {
    ddm::group::leave_all(tx, device_id)?;
    tx.prepare_cached("UPDATE enrollments SET tags = '[]' WHERE id = ?1")?.execute([device_id])?;
    Ok(())
}

/// Devices whose Authenticate came before then and whose TokenUpdate never did.
pub fn unfinished(conn: &Connection, before: Seconds, limit: u32) -> Result<Vec<String>> {
    let mut statement = conn.prepare_cached(
        "SELECT e.id FROM enrollments AS e
         JOIN messages AS m ON m.enrollment_id = e.id AND m.message_type = 'Authenticate'
         WHERE m.received_at < ?1 AND e.channel = 'device'
           AND (e.state = 'pending' OR (e.state = 'unenrolled' AND e.enrolled_at IS NULL AND e.unenroll_at IS NULL))
         LIMIT ?2",
    )?;
    Ok(statement.query_map(params![before, limit], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Whether a device was ever enrolled, in this life or an earlier one.
pub fn was_enrolled(conn: &Connection, device_id: &str) -> Result<bool> {
    Ok(conn
        .prepare_cached("SELECT 1 FROM enrollments WHERE id = ?1 AND enrolled_at IS NOT NULL")?
        .exists([device_id])?)
}

/// How many user channels a device has, those that ended too.
pub fn count_users(conn: &Connection, device_id: &str) -> Result<i64> {
    Ok(conn
        .prepare_cached("SELECT COUNT(*) FROM enrollments WHERE parent_id = ?1")?
        .query_row([device_id], |row| row.get(0))?)
}

/// The user channels of a device, removed with all that hangs on them when it starts anew.
pub fn forget_users(tx: &Tx<'_>, device_id: &str) -> Result<Vec<String>> {
    let users: Vec<String> = tx
        .prepare_cached("DELETE FROM enrollments WHERE parent_id = ?1 RETURNING id")?
        .query_map([device_id], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(users)
}

/// The IDs of a device and its users.
pub fn channels(conn: &Connection, device_id: &str) -> Result<Vec<String>> {
    Ok(conn
        .prepare_cached("SELECT id FROM enrollments WHERE id = ?1 OR parent_id = ?1 ORDER BY id")?
        .query_map([device_id], |row| row.get(0))?
        .collect::<Result<_, _>>()?)
}

/// Channels that are enrolled, in the order of their IDs, those after `after`.
pub fn enrolled_after(conn: &Connection, after: &str, limit: u32) -> Result<Vec<String>> {
    Ok(conn
        .prepare_cached(
            "SELECT id FROM enrollments WHERE id > ?1 AND state = 'enrolled' ORDER BY id LIMIT ?2",
        )?
        .query_map(params![after, limit], |row| row.get(0))?
        .collect::<Result<_, _>>()?)
}

/// Whether a device is a Shared iPad: its users are of that kind.
pub fn has_shared_users(conn: &Connection, device_id: &str) -> Result<bool> {
    Ok(conn
        .prepare_cached("SELECT 1 FROM enrollments WHERE parent_id = ?1 AND type = 'Shared iPad' LIMIT 1")?
        .exists([device_id])?)
}

/// An administrator's words for an enrollment; they replace the earlier ones.
pub fn tag(tx: &Tx<'_>, id: &str, tags: &[String]) -> Result<()> {
    tx.prepare_cached("UPDATE enrollments SET tags = ?2 WHERE id = ?1")?
        .execute(params![id, serde_json::json!(tags).to_string()])?;
    Ok(())
}

/// Removes the record of a device that will never come, and of its users.
pub fn forget(tx: &Tx<'_>, device_id: &str) -> Result<bool> {
    tx.prepare_cached(
        "DELETE FROM messages
         WHERE enrollment_id IN (SELECT ?1 UNION SELECT id FROM enrollments WHERE parent_id = ?1)",
    )?
    .execute([device_id])?;
    let removed =
        tx.prepare_cached("DELETE FROM enrollments WHERE id = ?1 OR parent_id = ?1")?.execute([device_id])?;
    Ok(removed > 0)
}

/// Whether any device is enrolled or about to be, or is still to be told that it is not any more.
pub fn is_any_enrolled(conn: &Connection) -> Result<bool> {
    Ok(conn
        .prepare_cached(
            "SELECT 1 FROM enrollments
             WHERE state <> 'unenrolled' OR (unenroll_at IS NOT NULL AND unenroll_told_at IS NULL) LIMIT 1",
        )?
        .exists([])?)
}

/// How many live devices there are on each topic.
pub fn on_topics(conn: &Connection) -> Result<Vec<(String, u64)>> {
    let mut statement = conn.prepare_cached(
        "SELECT topic, COUNT(*) FROM enrollments
         WHERE state <> 'unenrolled' AND channel = 'device' AND topic IS NOT NULL
         GROUP BY topic",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The serial numbers (else the IDs) of the live devices on a topic, at most `limit` of them.
pub fn names_on_topic(conn: &Connection, topic: &str, limit: usize) -> Result<Vec<String>> {
    let mut statement = conn.prepare_cached(
        "SELECT COALESCE(serial_number, id) FROM enrollments
         WHERE state <> 'unenrolled' AND channel = 'device' AND topic = ?1 ORDER BY 1 LIMIT ?2",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let names = statement.query_map(params![topic, limit], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

/// What DeviceInformation answered, where it says something: shapes as Apple's QueryResponses. Answers
/// whether that was news; mostly it is not, and then nothing is written.
pub fn learn(tx: &Tx<'_>, id: &str, facts: &Facts<'_>, supervised: Option<bool>) -> Result<bool> {
    let mut statement = tx.prepare_cached(
        "UPDATE enrollments SET
             serial_number = COALESCE(?2, serial_number), name = COALESCE(?3, name), model = COALESCE(?4, model),
             model_name = COALESCE(?5, model_name), product_name = COALESCE(?6, product_name),
             os_version = COALESCE(?7, os_version), build_version = COALESCE(?8, build_version),
             supervised = COALESCE(?9, supervised)
         WHERE id = ?1
           AND (COALESCE(?2, serial_number) IS NOT serial_number OR COALESCE(?3, name) IS NOT name
                OR COALESCE(?4, model) IS NOT model OR COALESCE(?5, model_name) IS NOT model_name
                OR COALESCE(?6, product_name) IS NOT product_name OR COALESCE(?7, os_version) IS NOT os_version
                OR COALESCE(?8, build_version) IS NOT build_version OR COALESCE(?9, supervised) IS NOT supervised)",
    )?;
    let changed = statement.execute(params![
        id,
        facts.serial_number,
        facts.name,
        facts.model,
        facts.model_name,
        facts.product_name,
        facts.os_version,
        facts.build_version,
        supervised,
    ])?;
    Ok(changed > 0)
}

/// Leaves Setup Assistant: DeviceConfigured was acknowledged.
pub fn configured(tx: &Tx<'_>, id: &str) -> Result<()> {
    tx.prepare_cached("UPDATE enrollments SET awaiting_configuration = 0 WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// Keeps a check-in message as it came, unknown keys and all; the caller took the tokens out.
pub fn keep_message(tx: &Tx<'_>, id: &str, message_type: &str, body: &[u8]) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO messages (enrollment_id, message_type, body, received_at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET body = excluded.body, received_at = excluded.received_at",
    )?
    .execute(params![id, message_type, body, tx.now()])?;
    Ok(())
}

/// Removes the messages that were kept of a channel.
pub fn forget_messages(tx: &Tx<'_>, id: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM messages WHERE enrollment_id = ?1")?.execute([id])?;
    Ok(())
}

/// APNs said no to this very token; it is not used again before the next TokenUpdate.
pub fn reject_token(tx: &Tx<'_>, id: &str, token: &[u8]) -> Result<()> {
    tx.prepare_cached("UPDATE enrollments SET push_rejected = 1 WHERE id = ?1 AND push_token = ?2")?
        .execute(params![id, token])?;
    Ok(())
}

/// What APNs said of the tokens of a topic was said to a certificate that is no longer used.
pub fn accept_tokens(tx: &Tx<'_>, topic: &str) -> Result<()> {
    tx.prepare_cached("UPDATE enrollments SET push_rejected = 0 WHERE topic = ?1 AND push_rejected = 1")?
        .execute([topic])?;
    Ok(())
}

/// What it takes to push a channel, when that token came, and whether APNs said no to it.
pub fn push_of(conn: &Connection, id: &str) -> Result<Option<(crate::apns::Push, Seconds, bool)>> {
    Ok(conn
        .prepare_cached(
            "SELECT topic, push_token, push_magic, push_token_at, push_rejected FROM enrollments
             WHERE id = ?1 AND push_token IS NOT NULL",
        )?
        .query_row([id], |row| {
            let push = crate::apns::Push { topic: row.get(0)?, token: row.get(1)?, magic: row.get(2)? };
            Ok((push, row.get(3)?, row.get(4)?))
        })
        .optional()?)
}
