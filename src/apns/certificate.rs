//! The push certificates that were imported: table `push_certificates`, of which this file is the owner.
//!
//! The command line and the API call [`import`] and [`list`]; `mod.rs` reads the pair with which to
//! push; `enroll` asks for the topic of new devices ([`newest`]). A device keeps the topic that it
//! enrolled with for good, so a topic that would strand devices is refused ("Renewing your APNs
//! certificates").
//!
//! **Invariant:** certificate and sealed key are one row, written in one transaction: there is never
//! half a push certificate.

use rusqlite::{Connection, OptionalExtension, Row, params};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Map, Value, json};

use super::pair::Pair;
use crate::clock::{Seconds, rfc3339};
use crate::error::{Error, Result};
use crate::pki::seal::Seal;
use crate::storage::Tx;

/// An imported push certificate, without its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushCertificate {
    /// Grows with each import.
    pub id: i64,
    /// What devices enroll with: `com.apple.mgmt.External.<UUID>`.
    pub topic: String,
    /// PEM, leaf first.
    pub certificate: String,
    /// Lower-case hexadecimal.
    pub serial_number: String,
    /// RFC 4514.
    pub subject: String,
    /// The subject's CN.
    pub common_name: Option<String>,
    /// RFC 4514.
    pub issuer: String,
    /// From when it is valid.
    pub not_before: Seconds,
    /// Until when it is valid.
    pub not_after: Seconds,
    /// The Apple Account that made it, as the administrator typed it.
    pub apple_account: Option<String>,
    /// How it came about: `import` …
    pub signed_by: String,
    /// When it was imported.
    pub imported_at: Seconds,
    /// By whom.
    pub imported_by: String,
    /// The one of its topic that pushes.
    pub current: bool,
    /// What people wrote beside it: where the account's password lies, who looks after it.
    pub notes: Option<String>,
}

/// What somebody says along with a pair.
#[derive(Clone, Debug)]
pub struct Import<'a> {
    /// The Apple Account with which the certificate was made.
    pub apple_account: Option<&'a str>,
    /// How it came about: `import`, or how its request was signed: `vendor`, `mdmcert.download`, `elsewhere`.
    pub signed_by: &'a str,
    /// Who imports it.
    pub imported_by: &'a str,
    /// The number of enrollments that this person agrees to lose.
    pub replace_topic: Option<u64>,
}

impl PushCertificate {
    /// Whether its issuer names itself as Apple's. That is shown, never relied on.
    pub fn signed_by_apple(&self) -> bool {
        self.issuer.contains("CN=Apple ") && self.issuer.contains("O=Apple Inc.")
    }

    /// The members of INTERFACE 7 with `issuer` and `signed_by_apple`; times are RFC 3339.
    /// `enrollments` is how many devices use the topic.
    pub fn to_json(&self, enrollments: u64) -> Value {
        json!({
            "topic": self.topic,
            "serial_number": self.serial_number,
            "subject": self.subject,
            "common_name": self.common_name,
            "issuer": self.issuer,
            "signed_by_apple": self.signed_by_apple(),
            "not_before": rfc3339(self.not_before),
            "not_after": rfc3339(self.not_after),
            "apple_account": self.apple_account,
            "signed_by": self.signed_by,
            "imported_at": rfc3339(self.imported_at),
            "imported_by": self.imported_by,
            "enrollments": enrollments,
            "current": self.current,
            "notes": self.notes,
        })
    }
}

/// Stores a pair. A renewal (same topic) takes over and leaves the earlier pair in place, not
/// current; the same certificate again replaces itself. `enrolled` is how many devices there are on
/// each topic. After the commit, [`super::Apns::reload`] makes pushes use it.
///
/// # Errors
/// [`Error::Conflict`] with `existing_topic`, `new_topic` and `enrollments` when devices are enrolled
/// on other topics only and `replace_topic` is not their number.
pub fn import(
    tx: &Tx<'_>,
    seal: &Seal,
    pair: &Pair,
    import: &Import<'_>,
    enrolled: &[(String, u64)],
) -> Result<PushCertificate> {
    refuse_to_strand(pair, import.replace_topic, enrolled)?;
    // The account is asked for once and meant for the topic: a renewal keeps it.
    let (known_account, notes) =
        by_topic(tx, &pair.topic)?.map(|earlier| (earlier.apple_account, earlier.notes)).unwrap_or_default();
    let account = import.apple_account.map(str::to_owned).or(known_account);
    tx.prepare_cached("DELETE FROM push_certificates WHERE topic = ?1 AND certificate = ?2")?
        .execute(params![pair.topic, pair.chain.as_bytes()])?;
    tx.prepare_cached("UPDATE push_certificates SET current = 0 WHERE topic = ?1")?.execute([&pair.topic])?;
    let sealed = seal.seal(&sealed_name(&pair.topic, &pair.serial_number), pair.key.pkcs8());
    tx.prepare_cached(
        "INSERT INTO push_certificates
             (topic, certificate, sealed_key, serial_number, subject, common_name, issuer, not_before,
              not_after, apple_account, signed_by, imported_at, imported_by, notes, current)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, 1)",
    )?
    .execute(params![
        pair.topic,
        pair.chain.as_bytes(),
        sealed,
        pair.serial_number,
        pair.subject,
        pair.common_name,
        pair.issuer,
        pair.not_before,
        pair.not_after,
        account,
        import.signed_by,
        tx.now(),
        import.imported_by,
        notes,
    ])?;
    by_topic(tx, &pair.topic)?.ok_or_else(|| Error::internal("the imported push certificate is not there"))
}

/// Every certificate, the newest import first.
pub fn list(conn: &Connection) -> Result<Vec<PushCertificate>> {
    let mut query = conn.prepare_cached(&select("ORDER BY id DESC"))?;
    Ok(query.query_map([], read)?.collect::<Result<_, _>>()?)
}

/// The newest import: its topic is what new devices enroll with.
pub fn newest(conn: &Connection) -> Result<Option<PushCertificate>> {
    let mut query = conn.prepare_cached(&select("WHERE current = 1 ORDER BY id DESC LIMIT 1"))?;
    Ok(query.query_row([], read).optional()?)
}

/// The certificate with which devices of `topic` are pushed.
pub fn by_topic(conn: &Connection, topic: &str) -> Result<Option<PushCertificate>> {
    let mut query = conn.prepare_cached(&select("WHERE topic = ?1 AND current = 1"))?;
    Ok(query.query_row([topic], read).optional()?)
}

/// Lets the pair before the current one push again, until the next import.
///
/// # Errors
/// [`Error::NotFound`] without such a topic; [`Error::Conflict`] where there is no earlier pair, or it ended.
pub fn roll_back(tx: &Tx<'_>, topic: &str) -> Result<PushCertificate> {
    let current =
        by_topic(tx, topic)?.ok_or_else(|| Error::NotFound("push certificate of this topic".into()))?;
    let earlier = tx
        .prepare_cached(&select("WHERE topic = ?1 AND id < ?2 ORDER BY id DESC LIMIT 1"))?
        .query_row(params![topic, current.id], read)
        .optional()?
        .ok_or_else(|| {
            Error::conflict(
                "there is no earlier certificate of this topic to go back to; import the one that is wanted",
            )
        })?;
    if earlier.not_after <= tx.now() {
        return Err(Error::conflict(format!(
            "the earlier certificate of this topic ended on {}; renew at identity.apple.com/pushcert and import the new one",
            rfc3339(earlier.not_after)
        )));
    }
    tx.prepare_cached("UPDATE push_certificates SET current = (id = ?2) WHERE topic = ?1")?
        .execute(params![topic, earlier.id])?;
    by_topic(tx, topic)?.ok_or_else(|| Error::internal("the earlier push certificate is not there"))
}

/// Writes what people say of a topic's certificates; what is none stays.
///
/// # Errors
/// [`Error::NotFound`].
pub fn describe(
    tx: &Tx<'_>,
    topic: &str,
    notes: Option<&str>,
    account: Option<&str>,
) -> Result<PushCertificate> {
    tx.prepare_cached(
        "UPDATE push_certificates SET notes = COALESCE(?2, notes), apple_account = COALESCE(?3, apple_account)
         WHERE topic = ?1 AND current = 1",
    )?
    .execute(params![topic, notes, account])?;
    by_topic(tx, topic)?.ok_or_else(|| Error::NotFound("push certificate of this topic".into()))
}

/// A certificate chain, leaf first, and its key.
pub(super) type Credentials = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The chain and the opened key of `topic`.
pub(super) fn credentials(conn: &Connection, seal: &Seal, topic: &str) -> Result<Option<Credentials>> {
    let row = conn
        .prepare_cached(
            "SELECT certificate, sealed_key, serial_number FROM push_certificates
             WHERE topic = ?1 AND current = 1",
        )?
        .query_row([topic], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, String>(2)?))
        })
        .optional()?;
    let Some((pem, sealed, serial_number)) = row else { return Ok(None) };
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| Error::caused("a stored push certificate is damaged; import it again", source))?;
    let key = seal.open_sealed(&sealed_name(topic, &serial_number), &sealed)?;
    Ok(Some((chain, PrivatePkcs8KeyDer::from(key).into())))
}

fn refuse_to_strand(pair: &Pair, replace_topic: Option<u64>, enrolled: &[(String, u64)]) -> Result<()> {
    let in_use = || enrolled.iter().filter(|(_, devices)| *devices > 0);
    let Some((existing, _)) = in_use().max_by_key(|(_, devices)| *devices) else { return Ok(()) };
    let devices: u64 = in_use().map(|(_, devices)| devices).sum();
    if in_use().any(|(topic, _)| *topic == pair.topic) || replace_topic == Some(devices) {
        return Ok(());
    }
    let Pair { topic, .. } = pair;
    let words = format!(
        "{devices} enrolled devices use topic {existing}, and this certificate is for {topic}: they would have to \
         enroll again. At identity.apple.com/pushcert choose Renew on the existing certificate, with the Apple \
         Account that made it; to give those devices up, say so with --replace-topic {devices}"
    );
    let mut details = Map::new();
    details.insert("existing_topic".to_owned(), json!(existing));
    details.insert("new_topic".to_owned(), json!(topic));
    details.insert("enrollments".to_owned(), json!(devices));
    Err(Error::Conflict { words, details })
}

/// Ties a sealed key to its certificate, so that rows cannot trade keys.
fn sealed_name(topic: &str, serial_number: &str) -> String {
    format!("push certificate {topic} {serial_number}")
}

fn select(rest: &str) -> String {
    format!(
        "SELECT id, topic, certificate, serial_number, subject, common_name, issuer, not_before, not_after,
                apple_account, signed_by, imported_at, imported_by, current, notes
         FROM push_certificates {rest}"
    )
}

fn read(row: &Row<'_>) -> rusqlite::Result<PushCertificate> {
    Ok(PushCertificate {
        id: row.get(0)?,
        topic: row.get(1)?,
        certificate: String::from_utf8_lossy(&row.get::<_, Vec<u8>>(2)?).into_owned(),
        serial_number: row.get(3)?,
        subject: row.get(4)?,
        common_name: row.get(5)?,
        issuer: row.get(6)?,
        not_before: row.get(7)?,
        not_after: row.get(8)?,
        apple_account: row.get(9)?,
        signed_by: row.get(10)?,
        imported_at: row.get(11)?,
        imported_by: row.get(12)?,
        current: row.get(13)?,
        notes: row.get(14)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::loopback::pair;
    use super::*;
    use crate::storage;

    const SAYS: Import<'_> =
        Import { apple_account: None, signed_by: "import", imported_by: "command line", replace_topic: None };

    fn seal() -> (tempfile::TempDir, Seal) {
        let folder = tempfile::tempdir().unwrap();
        let seal = Seal::open(folder.path(), None, true).unwrap();
        (folder, seal)
    }

    #[tokio::test]
    async fn a_renewal_takes_over_and_the_earlier_pair_stays() {
        let (_folder, store) = storage::tests::temporary();
        let (_keys, seal) = seal();
        let (old, new, other) = (pair("A", "old"), pair("A", "new"), pair("B", "other"));
        let new_key = new.key.pkcs8().to_vec();
        let opens = seal.clone();
        store
            .write("test", move |tx| {
                let account = Import { apple_account: Some("it@example.org"), ..SAYS };
                let first = import(tx, &seal, &old, &account, &[])?;
                import(tx, &seal, &other, &SAYS, &[])?;
                let enrolled = [(first.topic, 3)];
                let renewed = import(tx, &seal, &new, &SAYS, &enrolled)?;
                assert_eq!(renewed.apple_account.as_deref(), Some("it@example.org"));
                import(tx, &seal, &new, &SAYS, &enrolled)
            })
            .await
            .unwrap();
        let (all, newest, (_, key)) = store
            .peek(|conn| {
                let topic = "com.apple.mgmt.External.A";
                Ok((list(conn)?, newest(conn)?.unwrap(), credentials(conn, &opens, topic)?.unwrap()))
            })
            .unwrap();
        let shown: Vec<_> =
            all.iter().map(|one| (one.common_name.as_deref().unwrap(), one.current)).collect();
        assert_eq!(shown, [("new", true), ("other", true), ("old", false)]);
        assert_eq!(newest, all[0]);
        assert_eq!(key.secret_der(), new_key);
        assert_eq!(all[0].to_json(3)["enrollments"], 3);
        assert_eq!(all[0].to_json(3)["signed_by_apple"], false);
    }

    #[tokio::test]
    async fn another_topic_is_refused_while_devices_would_be_lost() {
        let (_folder, store) = storage::tests::temporary();
        let (_keys, seal) = seal();
        let new = pair("B", "created, not renewed");
        store
            .write("test", move |tx| {
                let enrolled = [("com.apple.mgmt.External.A".to_owned(), 7), ("gone".to_owned(), 0)];
                for replace_topic in [None, Some(6)] {
                    let refused = import(tx, &seal, &new, &Import { replace_topic, ..SAYS }, &enrolled);
                    let Err(Error::Conflict { words, details }) = refused else { panic!("{refused:?}") };
                    assert!(words.contains("--replace-topic 7"), "{words}");
                    assert_eq!(
                        Value::from(details),
                        json!({
                            "existing_topic": "com.apple.mgmt.External.A",
                            "new_topic": "com.apple.mgmt.External.B",
                            "enrollments": 7,
                        })
                    );
                    assert_eq!(list(tx)?, []);
                }
                import(tx, &seal, &new, &Import { replace_topic: Some(7), ..SAYS }, &enrolled)
            })
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn the_key_is_not_in_the_file_in_the_clear() {
        let (folder, store) = storage::tests::temporary();
        let (_keys, seal) = seal();
        let pair = pair("A", "one");
        let key = pair.key.pkcs8().to_vec();
        store.write("test", move |tx| import(tx, &seal, &pair, &SAYS, &[])).await.unwrap();
        let mut files = 0;
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(!bytes.windows(32).any(|window| window == &key[key.len() - 32..]));
            files += 1;
        }
        assert!(files > 0);
    }
}
