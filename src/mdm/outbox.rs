//! What others are told by webhook, from the moment it happened until it was told.
//!
//! Written in the transaction of what happened, so that neither exists without the other; `webhook`
//! delivers from here. A body is made when it happens and sent as it was made. What a device said is
//! made into a [`Draft`] before its transaction, since a list of megabytes keeps the writer busy.
//!
//! In Russet's own format secrets are `null` with their names under `hidden`. MicroMDM's format carries the
//! property list as the device sent it, secrets and all, so there the body is sealed while it waits.
//!
//! **Invariant:** what waits is bounded in number, in bytes, in age and for each enrollment; when something is
//! lost by that, an event says so.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plist::{Dictionary, Value};
use rusqlite::{Connection, OptionalExtension, Params, params};
use serde_json::{Map, Value as Json, json};

use super::ids::Ids;
use super::{event, listing};
use crate::clock::{DAY, HOUR, Seconds, is_sane, rfc3339};
use crate::config::WebhookFormat;
use crate::error::Result;
use crate::id;
use crate::pki::seal::Seal;
use crate::plist::json::dict_to_json;
use crate::schema::secrets;
use crate::storage::Tx;

/// How many may wait.
pub const MOST: i64 = 20_000;
/// How many bytes they may have together.
pub const MOST_BYTES: i64 = 64 * 1024 * 1024;
/// How many of one enrollment may wait: a device that talks without end takes nobody else's place.
const MOST_OF_ONE: i64 = 1000;
/// How long something waits before it is given up.
pub const LONGEST: Seconds = 3 * DAY;
/// What a device said is decoded up to this many bytes; a Mac with thousands of apps has a megabyte.
const LONGEST_DECODED: usize = 2 * 1024 * 1024;
/// The first pause after a failure, and the longest.
const FIRST_PAUSE: Seconds = 2;
const LONGEST_PAUSE: Seconds = HOUR;

/// What is shown of an enrollment: enough to know the device without asking for it.
const SHOWN: [&str; 14] = [
    "id",
    "type",
    "channel",
    "parent_id",
    "udid",
    "serial_number",
    "name",
    "model",
    "product_name",
    "os_version",
    "build_version",
    "supervised",
    "state",
    "tags",
];

/// Turns the outbox on or off, as the configuration says. What waits stays: a command that is run without
/// the configuration must not lose it.
///
/// # Errors
/// The database's.
pub fn configure(tx: &Tx<'_>, format: Option<WebhookFormat>) -> Result<()> {
    // Another target may have been written: whatever went wrong before is tried at once.
    tx.prepare_cached("UPDATE outbox_state SET format = ?1, next_try_at = 0")?
        .execute([format.map(WebhookFormat::word)])?;
    Ok(())
}

/// Where there is no target any more, what waited too long for one goes, and nobody is told.
///
/// # Errors
/// The database's.
pub fn forget_old(tx: &Tx<'_>) -> Result<()> {
    if is_sane(tx.now()) {
        remove(tx, "at < ?1", [tx.now() - LONGEST])?;
    }
    Ok(())
}

fn format(conn: &Connection) -> Result<Option<WebhookFormat>> {
    let word: Option<String> =
        conn.prepare_cached("SELECT format FROM outbox_state")?.query_row([], |row| row.get(0))?;
    Ok(word.and_then(|word| WebhookFormat::from_word(&word)))
}

/// An event that was just recorded. MicroMDM has no word for those, so its format does without them.
pub(super) fn event(
    tx: &Tx<'_>,
    event_id: i64,
    kind: &str,
    enrollment_id: Option<&str>,
    words: &str,
) -> Result<()> {
    if format(tx)? != Some(WebhookFormat::Russet) {
        return Ok(());
    }
    let mut fields = Map::new();
    fields.insert("kind".into(), kind.into());
    fields.insert("words".into(), words.into());
    let topic = format!("event.{kind}");
    let uid = id::uuid();
    let body = russet_body(tx, &uid, &topic, Some(event_id), enrollment_id, &members(fields))?;
    keep(tx, &uid, &topic, enrollment_id, &body, false)
}

/// What a device said, as it will be told, but for what only the transaction knows.
pub struct Draft {
    format: WebhookFormat,
    topic: String,
    enrollment_id: String,
    /// The members of a JSON object, without its braces.
    fields: String,
    /// MicroMDM's name for that object.
    object: &'static str,
}

impl Draft {
    /// A check-in message, as it was read and as it came.
    pub fn check_in(format: WebhookFormat, ids: &Ids, kind: &str, message: &Dictionary, raw: &[u8]) -> Self {
        let mut fields = match format {
            WebhookFormat::MicroMdm => of_nobody(ids, raw),
            WebhookFormat::Russet if kind == "DeclarativeManagement" => declarative(message),
            WebhookFormat::Russet => redacted("message", kind, message, raw),
        };
        if format == WebhookFormat::Russet {
            fields.insert("message_type".into(), kind.into());
        }
        Self::new(format, format!("mdm.{kind}"), ids, fields, "checkin_event")
    }

    /// A report about a command, or that the device is idle. `outcome` is how the command ended.
    pub fn report(
        format: WebhookFormat,
        ids: &Ids,
        about: &About<'_>,
        report: &Dictionary,
        raw: &[u8],
    ) -> Self {
        let fields = match format {
            WebhookFormat::MicroMdm => {
                let mut fields = of_nobody(ids, raw);
                fields.insert("status".into(), about.word.into());
                fields.insert("command_uuid".into(), about.uuid.unwrap_or_default().into());
                fields
            }
            WebhookFormat::Russet => {
                let mut fields = redacted("answer", about.request_type, report, raw);
                fields.insert(
                    "command".into(),
                    json!({"uuid": about.uuid, "request_type": about.request_type, "status": about.outcome}),
                );
                fields
            }
        };
        Self::new(format, "mdm.Connect".into(), ids, fields, "acknowledge_event")
    }

    fn new(
        format: WebhookFormat,
        topic: String,
        ids: &Ids,
        fields: Map<String, Json>,
        object: &'static str,
    ) -> Self {
        Self { format, topic, enrollment_id: ids.enrollment_id.clone(), fields: members(fields), object }
    }

    /// Puts it into the outbox.
    ///
    /// # Errors
    /// The database's.
    pub fn keep(&self, tx: &Tx<'_>, seal: &Seal) -> Result<()> {
        self.keep_with(tx, seal, "")
    }

    /// As [`Draft::keep`], for a TokenUpdate: the `first` of an enrollment, or a later one.
    ///
    /// # Errors
    /// The database's.
    pub fn keep_token_update(&self, tx: &Tx<'_>, seal: &Seal, first: bool) -> Result<()> {
        if self.format == WebhookFormat::Russet {
            return self.keep(tx, seal);
        }
        // Who enrolled before anybody counted is at least at its second.
        let tally: i64 = tx
            .prepare_cached(
                "INSERT INTO token_updates (enrollment_id, tally) VALUES (?1, ?2)
                 ON CONFLICT DO UPDATE SET tally = CASE excluded.tally WHEN 1 THEN 1 ELSE tally + 1 END
                 RETURNING tally",
            )?
            .query_row(params![self.enrollment_id, if first { 1 } else { 2 }], |row| row.get(0))?;
        self.keep_with(tx, seal, &format!("\"token_update_tally\":{tally},"))
    }

    fn keep_with(&self, tx: &Tx<'_>, seal: &Seal, more: &str) -> Result<()> {
        let (uid, topic) = (id::uuid(), &self.topic);
        let body = match self.format {
            WebhookFormat::Russet => {
                russet_body(tx, &uid, topic, None, Some(&self.enrollment_id), &self.fields)?
            }
            WebhookFormat::MicroMdm => format!(
                "{{\"topic\":{},\"event_id\":{},\"created_at\":{},\"{}\":{{{more}{}}}}}",
                Json::from(topic.as_str()),
                Json::from(uid.as_str()),
                Json::from(rfc3339(tx.now())),
                self.object,
                self.fields
            )
            .into_bytes(),
        };
        let sealed = self.format == WebhookFormat::MicroMdm;
        let body = if sealed { seal.seal(&seal_name(&uid), &body) } else { body };
        keep(tx, &uid, topic, Some(&self.enrollment_id), &body, sealed)
    }
}

/// What a report is about.
pub struct About<'a> {
    pub uuid: Option<&'a str>,
    /// The command's; empty for Idle.
    pub request_type: &'a str,
    /// Status, as the device said it.
    pub word: &'a str,
    /// How the command ended: an answer of which a part failed did not succeed.
    pub outcome: &'a str,
}

fn seal_name(uid: &str) -> String {
    format!("outbox/{uid}")
}

/// The members of an object, without its braces.
fn members(fields: Map<String, Json>) -> String {
    let text = Json::Object(fields).to_string();
    text[1..text.len() - 1].to_owned()
}

/// What MicroMDM and NanoMDM say with every message: who, and the bytes as they came. Queries in our
/// addresses there are none.
fn of_nobody(ids: &Ids, raw: &[u8]) -> Map<String, Json> {
    let mut fields = Map::new();
    match &ids.udid {
        Some(udid) => fields.insert("udid".into(), udid.as_str().into()),
        None => fields.insert("enrollment_id".into(), ids.device_id.as_str().into()),
    };
    let mut nano = json!({"id": ids.enrollment_id, "type": ids.kind.word()});
    if !ids.kind.is_device() {
        nano["parent_id"] = ids.device_id.as_str().into();
    }
    fields.insert("ids".into(), nano);
    fields.insert("url_params".into(), json!({}));
    fields.insert("raw_payload".into(), STANDARD.encode(raw).into());
    fields
}

/// A property list as JSON without its secrets; its bytes only where there are none.
fn redacted(name: &str, request_type: &str, list: &Dictionary, raw: &[u8]) -> Map<String, Json> {
    if let Some(instead) = too_long(name, raw) {
        return instead;
    }
    let mut decoded = Json::Object(dict_to_json(list));
    let hidden = secrets::redact(request_type, &mut decoded);
    let raw = hidden.is_empty().then(|| STANDARD.encode(raw));
    let mut fields = Map::new();
    fields.insert(name.into(), decoded);
    fields.insert("hidden".into(), hidden.into());
    fields.insert("raw".into(), raw.into());
    fields
}

/// What is told in place of something that would take more memory than a device is worth.
fn too_long(name: &str, raw: &[u8]) -> Option<Map<String, Json>> {
    let bytes = Some(raw.len()).filter(|bytes| *bytes > LONGEST_DECODED)?;
    Some(Map::from_iter([(name.to_owned(), Json::Null), ("too_long".to_owned(), bytes.into())]))
}

/// A declarative request; a status report is JSON itself.
fn declarative(message: &Dictionary) -> Map<String, Json> {
    let report = message.get("Data").and_then(Value::as_data).unwrap_or_default();
    let mut fields = too_long("report", report).unwrap_or_else(|| {
        let report = serde_json::from_slice::<Json>(report).unwrap_or_default();
        Map::from_iter([("report".to_owned(), report)])
    });
    fields.insert("endpoint".into(), message.get("Endpoint").and_then(Value::as_string).into());
    fields
}

fn russet_body(
    conn: &Tx<'_>,
    uid: &str,
    topic: &str,
    event_id: Option<i64>,
    enrollment_id: Option<&str>,
    fields: &str,
) -> Result<Vec<u8>> {
    let enrollment = match enrollment_id {
        None => Json::Null,
        // One that is not known (any more) is told by its ID.
        Some(id) => match listing::row(conn, id)? {
            None => json!({"id": id}),
            Some(mut row) => SHOWN.iter().map(|name| ((*name).to_owned(), row[*name].take())).collect(),
        },
    };
    let head = json!({
        "id": uid,
        "at": rfc3339(conn.now()),
        "topic": topic,
        "event_id": event_id,
        "enrollment": enrollment,
    })
    .to_string();
    Ok(format!("{},{fields}}}", &head[..head.len() - 1]).into_bytes())
}

fn keep(
    tx: &Tx<'_>,
    uid: &str,
    topic: &str,
    enrollment_id: Option<&str>,
    body: &[u8],
    sealed: bool,
) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO outbox (uid, at, topic, enrollment_id, body, sealed) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![uid, tx.now(), topic, enrollment_id, body, sealed])?;
    tx.prepare_cached("UPDATE outbox_state SET waiting = waiting + 1, bytes = bytes + ?1")?
        .execute([whole(body.len())])?;
    let mut dropped = 0;
    if let Some(enrollment_id) = enrollment_id {
        let of_one: i64 = tx
            .prepare_cached("SELECT COUNT(*) FROM outbox WHERE enrollment_id = ?1")?
            .query_row([enrollment_id], |row| row.get(0))?;
        if of_one > MOST_OF_ONE {
            dropped += remove(
                tx,
                "id IN (SELECT id FROM outbox WHERE enrollment_id = ?1 ORDER BY id LIMIT 1)",
                [enrollment_id],
            )?;
        }
    }
    loop {
        let (waiting, bytes): (i64, i64) = tx
            .prepare_cached("SELECT waiting, bytes FROM outbox_state")?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if waiting <= 1 || (waiting <= MOST && bytes <= MOST_BYTES) {
            break;
        }
        dropped += remove(tx, "id = (SELECT MIN(id) FROM outbox )", [])?;
    }
    lost(tx, dropped, "more was waiting than is kept")
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Removes those; answers how many.
fn remove(tx: &Tx<'_>, which: &str, values: impl Params) -> Result<i64> {
    let sizes: Vec<i64> = tx
        .prepare_cached(&format!("DELETE FROM outbox WHERE {which} RETURNING length(body)"))?
        .query_map(values, |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let count = whole(sizes.len());
    tx.prepare_cached("UPDATE outbox_state SET waiting = waiting - ?1, bytes = bytes - ?2")?
        .execute([count, sizes.iter().sum()])?;
    Ok(count)
}

/// Something will not be told: that is told, once until something else is.
fn lost(tx: &Tx<'_>, count: i64, why: &str) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let was_told: bool =
        tx.prepare_cached("SELECT dropped_told FROM outbox_state")?.query_row([], |row| row.get(0))?;
    tx.prepare_cached("UPDATE outbox_state SET dropped = dropped + ?1, dropped_at = ?2, dropped_told = 1")?
        .execute(params![count, tx.now()])?;
    if was_told {
        return Ok(());
    }
    tracing::error!(count, "events will never reach the webhook: {why}");
    let words =
        format!("Events were lost on their way to the webhook: {why}. What it knows may be incomplete.");
    event::record(tx, "webhook-dropped", None, &words)
}

/// Gives up what waited too long; not while the clock is wrong.
///
/// # Errors
/// The database's.
pub fn give_up_old(tx: &Tx<'_>) -> Result<()> {
    if !is_sane(tx.now()) {
        return Ok(());
    }
    let count = remove(tx, "at < ?1", [tx.now() - LONGEST])?;
    lost(tx, count, "the target did not take them for three days")
}

/// Whether something waited too long.
///
/// # Errors
/// The database's.
pub fn has_old(conn: &Connection, now: Seconds) -> Result<bool> {
    let oldest = oldest(conn)?;
    Ok(is_sane(now) && oldest.is_some_and(|at| at < now - LONGEST))
}

/// When the oldest that waits happened.
///
/// # Errors
/// The database's.
pub fn oldest(conn: &Connection) -> Result<Option<Seconds>> {
    Ok(conn
        .prepare_cached("SELECT at FROM outbox ORDER BY id LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?)
}

/// One that waits.
pub struct Waiting {
    pub id: i64,
    pub uid: String,
    pub topic: String,
    /// As it is sent; none if it does not open with our sealing key.
    pub body: Option<Vec<u8>>,
    /// How often the target refused this very body.
    pub attempts: u32,
}

/// The next to be told, in their order: at most `limit`, and not much more than `bytes`.
///
/// # Errors
/// The database's.
pub fn next(conn: &Connection, seal: &Seal, limit: u32, bytes: usize) -> Result<Vec<Waiting>> {
    let mut statement = conn
        .prepare_cached("SELECT id, uid, topic, body, sealed, attempts FROM outbox ORDER BY id LIMIT ?1")?;
    let mut rows = statement.query([limit])?;
    let (mut found, mut size) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let (uid, body): (String, Vec<u8>) = (row.get(1)?, row.get(3)?);
        size += body.len();
        if size > bytes && !found.is_empty() {
            break;
        }
        let body = if row.get(4)? { seal.open_sealed(&seal_name(&uid), &body).ok() } else { Some(body) };
        found.push(Waiting { id: row.get(0)?, uid, topic: row.get(2)?, body, attempts: row.get(5)? });
    }
    Ok(found)
}

/// One by its number and its name: numbers may be given again, names are not.
const ONE: &str = "id = ?1 AND uid = ?2";

/// These were told.
///
/// # Errors
/// The database's.
pub fn told(tx: &Tx<'_>, told: &[(i64, String)]) -> Result<()> {
    for (id, uid) in told {
        remove(tx, ONE, params![id, uid])?;
    }
    tx.prepare_cached(
        "UPDATE outbox_state SET last_success_at = ?1, attempts = 0, next_try_at = 0, dropped_told = 0",
    )?
    .execute([tx.now()])?;
    Ok(())
}

/// The target did not take it; answers when it is tried again. `refused` is the one whose body it found
/// wrong, if that is why.
///
/// # Errors
/// The database's.
pub fn failed(tx: &Tx<'_>, words: &str, refused: Option<i64>) -> Result<Seconds> {
    let attempts: u32 =
        tx.prepare_cached("SELECT attempts FROM outbox_state")?.query_row([], |row| row.get(0))?;
    let next = tx.now() + pause_after(attempts);
    tx.prepare_cached(
        "UPDATE outbox_state SET attempts = attempts + 1, next_try_at = ?1, last_failure_at = ?2, last_failure = ?3",
    )?
    .execute(params![next, tx.now(), words])?;
    if let Some(id) = refused {
        tx.prepare_cached("UPDATE outbox SET attempts = attempts + 1 WHERE id = ?1")?.execute([id])?;
    }
    Ok(next)
}

/// Gives up one, so that the others get through; `why` goes on after a colon.
///
/// # Errors
/// The database's.
pub fn give_up(tx: &Tx<'_>, id: i64, uid: &str, why: &str) -> Result<()> {
    let count = remove(tx, ONE, params![id, uid])?;
    tx.prepare_cached("UPDATE outbox_state SET attempts = 0, next_try_at = 0")?.execute([])?;
    lost(tx, count, why)
}

/// Two seconds, doubled to an hour.
fn pause_after(attempts: u32) -> Seconds {
    FIRST_PAUSE.saturating_mul(2_i64.saturating_pow(attempts.min(12))).min(LONGEST_PAUSE)
}

/// How the deliveries go.
#[derive(Debug, Clone)]
pub struct State {
    pub waiting: i64,
    pub bytes: i64,
    /// Failures in a row.
    pub attempts: u32,
    pub next_try_at: Seconds,
    pub last_success_at: Option<Seconds>,
    pub last_failure_at: Option<Seconds>,
    pub last_failure: Option<String>,
    /// How many were lost, ever, and when the last of them.
    pub dropped: i64,
    pub dropped_at: Option<Seconds>,
}

impl State {
    /// Whether the next may be tried now. A try that lies further ahead than any pause is of a clock that
    /// was wrong.
    pub fn is_due(&self, now: Seconds) -> bool {
        self.waiting > 0 && (self.next_try_at <= now || self.next_try_at > now + LONGEST_PAUSE)
    }
}

/// How the deliveries go.
///
/// # Errors
/// The database's.
pub fn state(conn: &Connection) -> Result<State> {
    Ok(conn
        .prepare_cached(
            "SELECT waiting, bytes, attempts, next_try_at, last_success_at, last_failure_at, last_failure, dropped,
                    dropped_at FROM outbox_state",
        )?
        .query_row([], |row| {
            Ok(State {
                waiting: row.get(0)?,
                bytes: row.get(1)?,
                attempts: row.get(2)?,
                next_try_at: row.get(3)?,
                last_success_at: row.get(4)?,
                last_failure_at: row.get(5)?,
                last_failure: row.get(6)?,
                dropped: row.get(7)?,
                dropped_at: row.get(8)?,
            })
        })?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::storage::Store;
    use crate::storage::tests::temporary;

    async fn on(store: &Store, format: WebhookFormat) {
        store.write("test.on", move |tx| configure(tx, Some(format))).await.unwrap();
    }

    /// The same for each store, whose folder it lies in.
    fn seal(store: &Store) -> Seal {
        Seal::open(store.path().parent().unwrap(), None, true).unwrap()
    }

    fn bodies(store: &Store) -> Vec<Json> {
        let seal = seal(store);
        let all = store.peek(|conn| next(conn, &seal, 100_000, usize::MAX)).unwrap();
        all.iter().map(|one| serde_json::from_slice(one.body.as_ref().unwrap()).unwrap()).collect()
    }

    fn message(keys: &[(&str, Value)]) -> Dictionary {
        keys.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
    }

    #[tokio::test]
    async fn an_event_is_told_with_what_happened_or_not_at_all() {
        let (_folder, store) = temporary();
        store.write("test", |tx| event::record(tx, "a", None, "Nobody is told.")).await.unwrap();
        on(&store, WebhookFormat::Russet).await;
        store.write("test", |tx| event::record(tx, "b", Some("A"), "It \"happened\".")).await.unwrap();
        let undone = store.write("test", |tx| {
            event::record(tx, "c", None, "It did not happen.")?;
            Err::<(), _>(Error::invalid("no"))
        });
        undone.await.unwrap_err();
        let all = bodies(&store);
        assert_eq!(all.len(), 1);
        assert_eq!((&all[0]["topic"], &all[0]["kind"]), (&json!("event.b"), &json!("b")));
        assert_eq!(all[0]["words"], "It \"happened\".");
        assert_eq!(all[0]["enrollment"], json!({"id": "A"}));
        assert_eq!(all[0]["event_id"], 2);
        // What waits is not lost by who turns it off for a while.
        store.write("test", |tx| configure(tx, None)).await.unwrap();
        store.write("test", |tx| event::record(tx, "d", None, "Nobody is told.")).await.unwrap();
        on(&store, WebhookFormat::MicroMdm).await;
        store.write("test", |tx| event::record(tx, "e", None, "MicroMDM has no such event.")).await.unwrap();
        assert_eq!(bodies(&store).len(), 1);
        store.clock().advance(LONGEST + 1);
        store.write("test", forget_old).await.unwrap();
        let left = store.peek(state).unwrap();
        assert_eq!((left.waiting, left.bytes, left.dropped), (0, 0, 0));
    }

    #[tokio::test]
    async fn secrets_are_hidden_here_and_sealed_there() {
        let update = message(&[
            ("MessageType", "TokenUpdate".into()),
            ("UDID", "A".into()),
            ("Token", Value::Data(b"0123456789".to_vec())),
            ("PushMagic", "abracadabra".into()),
            ("UnlockToken", Value::Data(b"open sesame".to_vec())),
            ("AwaitingConfiguration", true.into()),
        ]);
        let ids = Ids::of(&update).unwrap();
        for format in [WebhookFormat::Russet, WebhookFormat::MicroMdm] {
            let (_folder, store) = temporary();
            on(&store, format).await;
            let draft = Draft::check_in(format, &ids, "TokenUpdate", &update, b"abracadabra in a list");
            let seal = seal(&store);
            let keep = move |tx: &Tx<'_>| {
                draft.keep_token_update(tx, &seal, true)?;
                draft.keep_token_update(tx, &seal, false)?;
                draft.keep_token_update(tx, &seal, true)
            };
            store.write("test", keep).await.unwrap();
            let raw: Vec<Vec<u8>> = store
                .peek(|conn| {
                    let mut all = conn.prepare("SELECT body FROM outbox")?;
                    Ok(all.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
                })
                .unwrap();
            let secret = STANDARD.encode("abracadabra");
            assert!(!raw.iter().any(|body| String::from_utf8_lossy(body).contains(&secret[..12])));
            let all = bodies(&store);
            match format {
                WebhookFormat::Russet => {
                    let told = &all[0];
                    assert_eq!(told["hidden"], json!(["Token", "PushMagic", "UnlockToken"]));
                    assert_eq!((&told["message"]["UnlockToken"], &told["raw"]), (&Json::Null, &Json::Null));
                    assert_eq!(told["message"]["AwaitingConfiguration"], true);
                }
                WebhookFormat::MicroMdm => {
                    let tallies: Vec<_> =
                        all.iter().map(|one| one["checkin_event"]["token_update_tally"].clone()).collect();
                    assert_eq!(tallies, [1, 2, 1]);
                    assert_eq!(all[0]["checkin_event"]["ids"], json!({"id": "A", "type": "Device"}));
                    let raw = all[0]["checkin_event"]["raw_payload"].as_str().unwrap();
                    assert_eq!(STANDARD.decode(raw).unwrap(), b"abracadabra in a list");
                }
            }
        }
    }

    #[test]
    fn what_is_too_long_is_told_by_its_length() {
        let report = message(&[("UDID", "A".into()), ("Endpoint", "status".into())]);
        let long = vec![b' '; LONGEST_DECODED + 1];
        let fields = redacted("answer", "ProfileList", &report, &long);
        assert_eq!(Json::Object(fields), json!({"answer": null, "too_long": LONGEST_DECODED + 1}));
        // What is no JSON is told as nothing; the report itself is refused where it is taken.
        for odd in [&b"{\"a\":"[..], b"\xff", &b"[".repeat(100_000)] {
            let mut report = report.clone();
            report.insert("Data".into(), Value::Data(odd.to_vec()));
            assert_eq!(Json::Object(declarative(&report)), json!({"report": null, "endpoint": "status"}));
        }
    }

    #[tokio::test]
    async fn what_waits_is_bounded_and_a_loss_is_told_once() {
        let (_folder, store) = temporary();
        on(&store, WebhookFormat::Russet).await;
        let flood = |count: usize, of: Option<&'static str>| {
            move |tx: &Tx<'_>| {
                (0..count).try_for_each(|number| event::record(tx, "x", of, &format!("Number {number}.")))
            }
        };
        store.write("test", flood(10, Some("B"))).await.unwrap();
        store.write("test", flood(1500, Some("A"))).await.unwrap();
        // A device that talks without end loses what is its own, and one event tells so.
        let state_now = store.peek(state).unwrap();
        assert_eq!((state_now.waiting, state_now.dropped), (1011, 500));
        let all = bodies(&store);
        assert_eq!(all.iter().filter(|one| one["enrollment"]["id"] == "B").count(), 10);
        assert_eq!(all.iter().filter(|one| one["kind"] == "webhook-dropped").count(), 1);
        // Bytes are bounded too, and the newest stays.
        let large = "x".repeat(30 * 1024 * 1024);
        for _ in 0..3 {
            let body = large.clone();
            store
                .write("test", move |tx| keep(tx, &id::uuid(), "x", None, body.as_bytes(), false))
                .await
                .unwrap();
        }
        let state_now = store.peek(state).unwrap();
        assert!(state_now.bytes <= MOST_BYTES && state_now.waiting >= 2, "{state_now:?}");
        let counted: (i64, i64) = store
            .peek(|conn| {
                Ok(conn.query_row("SELECT COUNT(*), SUM(length(body)) FROM outbox", [], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?)
            })
            .unwrap();
        assert_eq!(counted, (state_now.waiting, state_now.bytes));
    }

    #[tokio::test]
    async fn what_nobody_takes_for_days_is_given_up_unless_the_clock_is_wrong() {
        let (_folder, store) = temporary();
        on(&store, WebhookFormat::Russet).await;
        store.write("test", |tx| event::record(tx, "x", None, "It happened.")).await.unwrap();
        store.clock().advance(LONGEST);
        assert!(!store.peek(|conn| has_old(conn, store.clock().now())).unwrap());
        store.clock().advance(1);
        assert!(store.peek(|conn| has_old(conn, store.clock().now())).unwrap());
        assert!(!store.peek(|conn| has_old(conn, 0)).unwrap());
        store.write("test", give_up_old).await.unwrap();
        let all = bodies(&store);
        assert_eq!((all.len(), &all[0]["kind"]), (1, &json!("webhook-dropped")));
    }

    #[tokio::test]
    async fn one_that_does_not_open_is_told_from_one_that_does() {
        let (_folder, store) = temporary();
        on(&store, WebhookFormat::MicroMdm).await;
        let (report, elsewhere) = (message(&[("UDID", "A".into())]), tempfile::tempdir().unwrap());
        let ids = Ids::of(&report).unwrap();
        let seals = [seal(&store), Seal::open(elsewhere.path(), None, true).unwrap()];
        let about = About { uuid: None, request_type: "", word: "Idle", outcome: "Idle" };
        let draft = Draft::report(WebhookFormat::MicroMdm, &ids, &about, &report, b"x");
        store.write("test", move |tx| seals.iter().try_for_each(|seal| draft.keep(tx, seal))).await.unwrap();
        let seal = seal(&store);
        let opens = store.peek(|conn| next(conn, &seal, 10, 1000)).unwrap();
        assert_eq!(opens.iter().map(|one| one.body.is_some()).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn pauses_double_from_two_seconds_to_an_hour() {
        let pauses: Vec<_> = (0..13).map(pause_after).collect();
        assert_eq!(pauses[..4], [2, 4, 8, 16]);
        assert!(pauses.is_sorted() && pauses[12] == HOUR && pause_after(u32::MAX) == HOUR);
    }
}
