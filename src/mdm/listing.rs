//! What people read of enrollments and of the queue: lists, and one row with all that belongs to it.
//!
//! The API calls these. The lists answer questions about several tables at once (an enrollment with
//! its last contact and its waiting claims), so this file reads tables that others own and writes none.
//!
//! **Invariant:** push magic, tokens and sealed bytes of enrollments are never read here.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Value, json};

use super::{queue, subject};
use crate::clock::{Seconds, rfc3339};
use crate::ddm::group::{self, Ranked};
use crate::enroll::invitation;
use crate::error::{Error, Result};
use crate::pki::seal::Seal;

/// Which enrollments, and which of them next.
#[derive(Debug, Default)]
pub struct Which {
    pub state: Option<String>,
    pub kind: Option<String>,
    pub serial_number: Option<String>,
    pub tag: Option<String>,
    /// Part of an ID, name, serial number, model or user's name, whatever its case.
    pub text: Option<String>,
    /// Only those whose ID comes after this one.
    pub after: Option<String>,
    pub limit: u32,
}

/// The origins under which enrolled devices know this server: those of the profiles they enrolled with.
/// One that is asked to leave has to find the server once more, to be told.
pub fn servers_known(conn: &Connection) -> Result<Vec<String>> {
    let mut statement = conn.prepare(
        "SELECT DISTINCT json_extract(s.parameters, '$.server_url')
         FROM enrollments AS e JOIN sessions AS s ON s.id = e.session_id
         WHERE e.state <> 'unenrolled' OR (e.unenroll_at IS NOT NULL AND e.unenroll_told_at IS NULL)",
    )?;
    let urls = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    // `https://host:port` of `https://host:port/mdm/connect`.
    Ok(urls.iter().map(|url| url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/")).collect())
}

/// The columns of [`enrollment_json`], `e` being the enrollment.
const ENROLLMENT: &str = "SELECT
    e.id, e.type, e.channel, e.parent_id, e.udid, e.serial_number, e.name, e.model, e.model_name, e.product_name,
    e.os_version, e.build_version, e.supervised, e.awaiting_configuration, e.state, e.topic, e.tags,
    e.user_short_name, e.user_long_name, e.enrolled_at, e.unenroll_at, e.unenroll_told_at, c.last_seen_at,
    c.last_push_at, c.last_push_answer, e.push_token IS NOT NULL AND e.push_rejected = 0,
    (SELECT COUNT(*) FROM claims WHERE claims.enrollment_id = e.id AND claims.state = 'waiting'),
    i.code, i.created_by, i.created_at
    FROM enrollments AS e LEFT JOIN contacts AS c ON c.enrollment_id = e.id
    LEFT JOIN sessions AS s ON s.id = e.session_id LEFT JOIN invitations AS i ON i.code = s.invitation";

/// Enrollments in the order of their IDs, each as JSON.
pub fn enrollments(conn: &Connection, which: &Which) -> Result<Vec<(String, Value)>> {
    let like = which.text.as_deref().map(|text| {
        let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        format!("%{escaped}%")
    });
    let mut statement = conn.prepare_cached(&format!(
        "{ENROLLMENT}
         WHERE e.id > ?1
           AND (?2 IS NULL OR e.state = ?2) AND (?3 IS NULL OR e.type = ?3)
           AND (?4 IS NULL OR e.serial_number = ?4)
           AND (?5 IS NULL OR EXISTS (SELECT 1 FROM json_each(e.tags) WHERE value = ?5))
           AND (?6 IS NULL OR e.id LIKE ?6 ESCAPE '\\' OR e.name LIKE ?6 ESCAPE '\\'
                OR e.serial_number LIKE ?6 ESCAPE '\\' OR e.model_name LIKE ?6 ESCAPE '\\'
                OR e.product_name LIKE ?6 ESCAPE '\\' OR e.user_short_name LIKE ?6 ESCAPE '\\'
                OR e.user_long_name LIKE ?6 ESCAPE '\\')
         ORDER BY e.id LIMIT ?7"
    ))?;
    let after = which.after.as_deref().unwrap_or_default();
    let rows = statement.query_map(
        params![after, which.state, which.kind, which.serial_number, which.tag, like, which.limit],
        |row| Ok((row.get(0)?, enrollment_json(row)?)),
    )?;
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    let groups = group::ranked(conn)?;
    rows.into_iter().map(|(id, row)| Ok((id, with_groups(conn, &groups, row)?))).collect()
}

/// One enrollment as JSON.
pub fn enrollment(conn: &Connection, id: &str) -> Result<Option<Value>> {
    row(conn, id)?.map(|row| with_groups(conn, &group::ranked(conn)?, row)).transpose()
}

fn with_groups(conn: &Connection, groups: &[Ranked], mut row: Value) -> Result<Value> {
    row["groups"] = group::names_of(conn, groups, &subject::of_row(conn, &row)?)?.into();
    Ok(row)
}

/// As [`enrollment`], without the groups, which are found out from the rest.
pub(super) fn row(conn: &Connection, id: &str) -> Result<Option<Value>> {
    Ok(conn
        .prepare_cached(&format!("{ENROLLMENT} WHERE e.id = ?1"))?
        .query_row([id], enrollment_json)
        .optional()?)
}

fn enrollment_json(row: &Row<'_>) -> rusqlite::Result<Value> {
    let text = |column: usize| row.get::<_, Option<String>>(column);
    let time = |column: usize| Ok::<_, rusqlite::Error>(row.get::<_, Option<Seconds>>(column)?.map(rfc3339));
    let json_text = |text: Option<String>| text.and_then(|text| serde_json::from_str::<Value>(&text).ok());
    Ok(json!({
        "id": text(0)?,
        "type": text(1)?,
        "channel": text(2)?,
        "parent_id": text(3)?,
        "udid": text(4)?,
        "serial_number": text(5)?,
        "name": text(6)?,
        "model": text(7)?,
        "model_name": text(8)?,
        "product_name": text(9)?,
        "os_version": text(10)?,
        "build_version": text(11)?,
        "supervised": row.get::<_, Option<bool>>(12)?,
        "awaiting_configuration": row.get::<_, Option<bool>>(13)?,
        "state": text(14)?,
        "topic": text(15)?,
        "groups": [],
        "tags": json_text(text(16)?).unwrap_or_else(|| json!([])),
        "user_short_name": text(17)?,
        "user_long_name": text(18)?,
        "enrolled_at": time(19)?,
        "unenroll_at": time(20)?,
        "unenroll_told_at": time(21)?,
        "last_seen_at": time(22)?,
        "last_push_at": time(23)?,
        "last_push": json_text(text(24)?),
        "can_be_pushed": row.get::<_, bool>(25)?,
        "claims": row.get::<_, i64>(26)?,
        "invitation": invitation_json(row)?,
    }))
}

/// What it enrolled with. Who may read enrollments may not hold links, so the code is not shown.
fn invitation_json(row: &Row<'_>) -> rusqlite::Result<Value> {
    let Some(code) = row.get::<_, Option<String>>(27)? else { return Ok(Value::Null) };
    let created_at = rfc3339(row.get(29)?);
    let created_by: String = row.get(28)?;
    Ok(json!({"name": invitation::name(&code), "created_by": created_by, "created_at": created_at}))
}

/// How many channels are alike.
pub struct Version {
    pub channel: String,
    pub state: String,
    /// Of the device, also where this is a user.
    pub product_name: Option<String>,
    pub os_version: Option<String>,
    pub count: i64,
}

/// All channels, counted by what they are and run.
///
/// # Errors
/// The database's.
pub fn by_version(conn: &Connection) -> Result<Vec<Version>> {
    let mut statement = conn.prepare_cached(
        "SELECT e.channel, e.state, COALESCE(e.product_name, d.product_name),
                COALESCE(e.os_version, d.os_version), COUNT(*)
         FROM enrollments AS e LEFT JOIN enrollments AS d ON d.id = e.parent_id
         GROUP BY 1, 2, 3, 4",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(Version {
            channel: row.get(0)?,
            state: row.get(1)?,
            product_name: row.get(2)?,
            os_version: row.get(3)?,
            count: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The commands that have no answer yet, counted by their status.
///
/// # Errors
/// The database's.
pub fn open_commands(conn: &Connection) -> Result<BTreeMap<String, i64>> {
    let mut statement = conn.prepare_cached(
        "SELECT status, COUNT(*) FROM commands WHERE status IN ('Pending', 'Sent', 'NotNow') GROUP BY status",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The devices that enrolled with an invitation and have not enrolled with another since, at most `limit`.
pub fn enrolled_with(conn: &Connection, code: &str, limit: u32) -> Result<Vec<String>> {
    let mut statement = conn.prepare_cached(
        "SELECT e.id FROM sessions AS s JOIN enrollments AS e ON e.id = s.enrollment_id AND e.session_id = s.id
         WHERE s.invitation = ?1 ORDER BY e.id LIMIT ?2",
    )?;
    Ok(statement.query_map(params![code, limit], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// One command of one enrollment, opened.
pub struct Command {
    pub id: i64,
    pub uuid: String,
    pub enrollment_id: String,
    pub request_type: String,
    pub status: String,
    /// The property list that the device gets.
    pub request: Vec<u8>,
    /// The property list that it answered.
    pub answer: Option<Vec<u8>>,
    pub error_chain: Option<Value>,
    pub queued_at: Seconds,
    pub queued_by: String,
    pub sent_at: Option<Seconds>,
    pub answered_at: Option<Seconds>,
    pub expires_at: Option<Seconds>,
}

const COMMAND: &str =
    "SELECT id, uuid, enrollment_id, request_type, status, request, answer, sealed, error_chain,
    queued_at, queued_by, sent_at, answered_at, expires_at FROM commands";

/// How many bytes of requests and answers one page may have; what is left comes with the next.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Commands, newest first: those of one enrollment or of all, in one status or in any, before `before`.
/// Answers at most `limit`, fewer where they are large, and whether there are more.
pub fn commands(
    conn: &Connection,
    seal: &Seal,
    enrollment_id: Option<&str>,
    status: Option<&str>,
    before: Option<i64>,
    limit: u32,
) -> Result<(Vec<Command>, bool)> {
    let whose = if enrollment_id.is_some() { "enrollment_id = ?1" } else { "?1 IS NULL" };
    let mut statement = conn.prepare_cached(&format!(
        "{COMMAND} WHERE {whose} AND (?2 IS NULL OR status = ?2) AND id < ?3 ORDER BY id DESC"
    ))?;
    let mut rows = statement.query(params![enrollment_id, status, before.unwrap_or(i64::MAX)])?;
    let mut found: Vec<Command> = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        if found.len() >= usize::try_from(limit).unwrap_or(usize::MAX) || bytes >= PAGE_BYTES {
            return Ok((found, true));
        }
        let command = open(row, seal)?;
        bytes += command.request.len() + command.answer.as_ref().map_or(0, Vec::len);
        found.push(command);
    }
    Ok((found, false))
}

/// Commands of people about profiles that devices acknowledged, newest first, at most `limit`.
///
/// # Errors
/// The database's; the sealing key's.
pub fn of_profiles(conn: &Connection, seal: &Seal, limit: u32, each: &mut dyn FnMut(Command)) -> Result<()> {
    let mut statement = conn.prepare_cached(&format!(
        "{COMMAND} WHERE status = 'Acknowledged' AND purpose = 'asked'
           AND request_type IN ('ProfileList', 'InstallProfile', 'RemoveProfile') ORDER BY id DESC LIMIT ?1"
    ))?;
    let mut rows = statement.query([limit])?;
    while let Some(row) = rows.next()? {
        each(open(row, seal)?);
    }
    Ok(())
}

/// One command. A UUID can be that of commands for several enrollments; then `enrollment_id` decides.
///
/// # Errors
/// `NotFound`; `Conflict` with `enrollments` when it does not say for which.
pub fn command(conn: &Connection, seal: &Seal, uuid: &str, enrollment_id: Option<&str>) -> Result<Command> {
    let enrollment_id = match enrollment_id {
        Some(enrollment_id) => enrollment_id.to_owned(),
        None => only_enrollment(conn, uuid)?,
    };
    let mut statement = conn.prepare_cached(&format!("{COMMAND} WHERE uuid = ?1 AND enrollment_id = ?2"))?;
    let mut rows = statement.query([uuid, &enrollment_id])?;
    match rows.next()? {
        Some(row) => open(row, seal),
        None => Err(Error::NotFound("such command".into())),
    }
}

/// The one enrollment that has a command of this UUID.
fn only_enrollment(conn: &Connection, uuid: &str) -> Result<String> {
    let mut whose: Vec<String> = conn
        .prepare_cached("SELECT enrollment_id FROM commands WHERE uuid = ?1 ORDER BY enrollment_id")?
        .query_map([uuid], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    match (whose.pop(), whose.is_empty()) {
        (None, _) => Err(Error::NotFound("such command".into())),
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            whose.push(last);
            let words = "several enrollments have a command of this UUID; say which with ?enrollment=";
            let details = serde_json::Map::from_iter([("enrollments".to_owned(), json!(whose))]);
            Err(Error::Conflict { words: words.into(), details })
        }
    }
}

fn open(row: &Row<'_>, seal: &Seal) -> Result<Command> {
    let (uuid, enrollment_id): (String, String) = (row.get(1)?, row.get(2)?);
    let (request, answer) =
        queue::open_sealed(seal, &enrollment_id, &uuid, row.get(7)?, row.get(5)?, row.get(6)?)?;
    Ok(Command {
        id: row.get(0)?,
        uuid,
        enrollment_id,
        request_type: row.get(3)?,
        status: row.get(4)?,
        request,
        answer,
        error_chain: row.get::<_, Option<String>>(8)?.and_then(|chain| serde_json::from_str(&chain).ok()),
        queued_at: row.get(9)?,
        queued_by: row.get(10)?,
        sent_at: row.get(11)?,
        answered_at: row.get(12)?,
        expires_at: row.get(13)?,
    })
}
