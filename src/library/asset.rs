//! Assets whose bytes this server keeps, each with the declaration of the same identifier.
//!
//! [`prepare`] makes of what was uploaded what devices expect, outside of any transaction; [`put`] keeps
//! it and makes or updates the declaration. Who changes or deletes that declaration by itself tells
//! [`follow`].
//!
//! **Invariant:** the bytes are there as long as the declaration of their identifier points to them, and
//! what it says of them is true. What is secret is shown to nobody but the devices that are to have it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Map, Value as Json, json};

use super::{check_name, served as content_of};
use crate::apns::check_identity;
use crate::clock::Seconds;
use crate::content::{self, Contents, Kept, Received};
use crate::ddm::declaration::{self, User};
use crate::ddm::{Edit, served};
use crate::error::{Error, Result};
use crate::pki::certificate::Certificate;
use crate::schema::declarations::{Kind, check, check_document};
use crate::storage::Tx;

const DATA: &str = "com.apple.asset.data";
const CERTIFICATE: &str = "com.apple.asset.credential.certificate";
const IDENTITY: &str = "com.apple.asset.credential.identity";
const USER_PASSWORD: &str = "com.apple.asset.credential.userpassword";
/// Those whose bytes can be uploaded; the last four are documents, and secret.
const TYPES: [&str; 6] = [
    DATA,
    CERTIFICATE,
    IDENTITY,
    USER_PASSWORD,
    "com.apple.asset.credential.scep",
    "com.apple.asset.credential.acme",
];
/// More has no certificate, password or identity.
const LARGEST_CREDENTIAL: u64 = 256 * 1024;
const LONGEST_MEDIA_TYPE: usize = 128;
/// What curl says of `--data-binary` where nobody says anything.
const CURLS_OWN: &str = "application/x-www-form-urlencoded";
/// What programs say that know nothing better.
const NO_MEDIA_TYPE: [&str; 4] = ["", "application/octet-stream", "binary/octet-stream", CURLS_OWN];

/// An asset whose bytes are here.
#[derive(Clone, Debug)]
pub struct Asset {
    pub identifier: String,
    pub asset_type: String,
    pub media_type: String,
    pub kept: Kept,
    pub created_at: Seconds,
    pub created_by: String,
    pub updated_at: Seconds,
    pub updated_by: String,
}

/// Bytes as devices get them, and what they are.
#[derive(Debug)]
pub struct Prepared {
    pub asset_type: String,
    pub media_type: String,
    pub received: Received,
    /// What the sender should know, in sentences.
    pub warnings: Vec<String>,
}

/// What was uploaded.
#[derive(Debug)]
pub struct Upload<'a> {
    /// The type that was asked for.
    pub asset_type: Option<&'a str>,
    /// The type that the asset of this identifier has.
    pub known_type: Option<&'a str>,
    /// And its media type.
    pub known_media: Option<&'a str>,
    /// The Content-Type with its parameters; empty when there is none.
    pub media_type: &'a str,
    /// Of a .p12.
    pub password: Option<&'a str>,
    /// Accepts keys of documents that Apple's schema does not know.
    pub force: bool,
}

/// What became of an upload.
#[derive(Debug)]
pub struct Put {
    pub created: bool,
    pub changed: bool,
    pub warnings: Vec<String>,
}

/// Whether the bytes of this type are secret.
pub fn is_secret(asset_type: &str) -> bool {
    asset_type.starts_with("com.apple.asset.credential.") && asset_type != CERTIFICATE
}

/// Makes of an upload what devices expect. It may take a while: a .p12 is opened.
///
/// # Errors
/// `Invalid`, in words, for what is not of the type that it is to be.
pub fn prepare(contents: &Contents, upload: &Upload<'_>, received: Received) -> Result<Prepared> {
    let small = received.bytes().filter(|bytes| bytes.len() as u64 <= LARGEST_CREDENTIAL);
    let asset_type = match upload.asset_type.or(upload.known_type) {
        Some(named) => TYPES.into_iter().find(|known| *known == named).ok_or_else(|| {
            Error::invalid(format!("bytes can be uploaded for these types: {}", TYPES.join(", ")))
        })?,
        None => recognised(&essence(upload.media_type), small.unwrap_or_default()),
    };
    let mut prepared = Prepared {
        asset_type: asset_type.to_owned(),
        media_type: "application/json".to_owned(),
        received,
        warnings: Vec::new(),
    };
    if asset_type == DATA {
        let known = upload.known_media.filter(|_| upload.known_type == Some(DATA));
        prepared.media_type = media_type(upload.media_type, known)?;
        if upload.password.is_some() {
            return Err(Error::invalid("a password belongs to a .p12 (Content-Type: application/x-pkcs12)"));
        }
        return Ok(prepared);
    }
    let Some(bytes) = prepared.received.bytes().filter(|bytes| bytes.len() as u64 <= LARGEST_CREDENTIAL)
    else {
        return Err(Error::invalid(format!("{asset_type} has at most {LARGEST_CREDENTIAL} bytes")));
    };
    if asset_type == CERTIFICATE {
        certificate(bytes)?.clone_into(&mut prepared.media_type);
        return Ok(prepared);
    }
    let is_document = bytes.trim_ascii_start().first() == Some(&b'{');
    if asset_type == IDENTITY && !is_document {
        let password = upload.password.ok_or_else(|| {
            Error::invalid("the password of the .p12 is missing; send it in the header X-Russet-Password")
        })?;
        check_identity(bytes, password)?;
        let document = json!({"Password": password, "Identity": STANDARD.encode(bytes)});
        prepared.received = contents.receive_bytes(document.to_string().as_bytes())?;
        return Ok(prepared);
    }
    // What is wrong in a document is said without any of its values: they may be secret.
    let document: Json = serde_json::from_slice(bytes).map_err(|error| {
        Error::invalid_at("", format!("{asset_type} is a JSON document; this is none: {error}"))
    })?;
    prepared.warnings.extend(check_document(asset_type, &document, upload.force)?.into_iter().flatten());
    if asset_type == IDENTITY {
        let text = |name: &str| document[name].as_str().unwrap_or_default();
        let p12 = STANDARD.decode(text("Identity")).unwrap_or_default();
        check_identity(&p12, text("Password")).map_err(|error| match error {
            Error::Invalid { words, .. } => Error::invalid_at("/Identity", words),
            error => error,
        })?;
    }
    Ok(prepared)
}

fn recognised(media_type: &str, bytes: &[u8]) -> &'static str {
    match media_type {
        "application/x-pkcs12" | "application/pkcs12" => IDENTITY,
        "application/x-x509-ca-cert"
        | "application/x-x509-user-cert"
        | "application/pkix-cert"
        | "application/x-pem-file"
        | "application/pem-certificate-chain"
        | "application/pem"
        | "application/pkcs1" => CERTIFICATE,
        other if NO_MEDIA_TYPE.contains(&other) && certificate(bytes).is_ok() => CERTIFICATE,
        _ => DATA,
    }
}

/// A Content-Type without its parameters, in lower case.
fn essence(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The media type to keep: what was sent, with its parameters. Who says none, or what curl says by itself,
/// leaves that of the asset as it is.
fn media_type(sent: &str, known: Option<&str>) -> Result<String> {
    let (kind, sent) = (essence(sent), sent.trim());
    match known {
        Some(known) if kind.is_empty() || kind == CURLS_OWN => return Ok(known.to_owned()),
        _ if NO_MEDIA_TYPE.contains(&kind.as_str()) => return Ok("application/octet-stream".to_owned()),
        _ => {}
    }
    let parameters = sent.find(';').map_or("", |at| &sent[at..]);
    let whole = format!("{kind}{parameters}");
    is_media_type(&kind, parameters, whole.len()).map(|()| whole)
}

/// RFC 9110, section 8.3.1; it stands in a header later.
fn is_media_type(kind: &str, parameters: &str, length: usize) -> Result<()> {
    let token = |part: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte);
        !part.is_empty() && part.bytes().all(allowed)
    };
    let printable = parameters.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let named = parameters.split(';').skip(1).all(|one| {
        one.split_once('=').is_some_and(|(name, value)| token(name.trim()) && !value.trim().is_empty())
    });
    let fits = kind.split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype));
    if fits && printable && named && length <= LONGEST_MEDIA_TYPE {
        return Ok(());
    }
    Err(Error::invalid("the Content-Type is none; write for example application/zip"))
}

/// One certificate and nothing else; answers the media type that Apple has for its form.
fn certificate(bytes: &[u8]) -> Result<&'static str> {
    if Certificate::from_der(bytes).is_ok() {
        return Ok("application/pkcs1");
    }
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    if text.contains("PRIVATE KEY-----") {
        return Err(Error::invalid(
            "there is a private key in this file; send the certificate alone, or both as a .p12",
        ));
    }
    match Certificate::all_from_pem(text) {
        Ok(found) if found.len() == 1 => Ok("application/pem"),
        Ok(found) if found.len() > 1 => Err(Error::invalid(format!(
            "there are {} certificates in this file; a device takes one of each asset: upload them one by one",
            found.len()
        ))),
        _ => Err(Error::invalid("this is no certificate; send one as PEM, or as DER (.cer, .der, .crt)")),
    }
}

const COLUMNS: &str = "identifier, type, media_type, created_at, created_by, updated_at, updated_by";

/// The bytes' user, as [`content`] knows it.
fn user(identifier: &str) -> String {
    format!("asset {identifier}")
}

/// The asset of this identifier, if its bytes are here.
///
/// # Errors
/// The database's.
pub fn get(conn: &Connection, identifier: &str) -> Result<Option<Asset>> {
    let row = conn
        .prepare_cached(&format!("SELECT {COLUMNS} FROM assets WHERE identifier = ?1"))?
        .query_row([identifier], |row| Ok(read(row)))
        .optional()?;
    row.map(|asset| with_content(conn, asset?)).transpose()
}

/// Assets in the order of their identifiers, those after `after`.
///
/// # Errors
/// The database's.
pub fn list(conn: &Connection, after: Option<&str>, limit: u32) -> Result<Vec<Asset>> {
    let mut statement = conn.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM assets WHERE identifier > ?1 ORDER BY identifier LIMIT ?2"
    ))?;
    let rows = statement.query_map(params![after.unwrap_or_default(), limit], |row| Ok(read(row)))?;
    rows.map(|row| with_content(conn, row??)).collect()
}

fn read(row: &Row<'_>) -> Result<Asset> {
    Ok(Asset {
        identifier: row.get(0)?,
        asset_type: row.get(1)?,
        media_type: row.get(2)?,
        kept: Kept { id: String::new(), size: 0, secret: true },
        created_at: row.get(3)?,
        created_by: row.get(4)?,
        updated_at: row.get(5)?,
        updated_by: row.get(6)?,
    })
}

fn with_content(conn: &Connection, mut asset: Asset) -> Result<Asset> {
    asset.kept = content::find(conn, &user(&asset.identifier))?
        .ok_or_else(|| Error::internal(format!("the bytes of the asset {} are gone", asset.identifier)))?;
    Ok(asset)
}

/// Who uses an asset: what names its declaration, the groups that have it, and other declarations that
/// point to its bytes.
///
/// # Errors
/// The database's.
pub fn users(conn: &Connection, identifier: &str) -> Result<Vec<User>> {
    let mut users = declaration::users(conn, identifier)?;
    let own = User::Declaration(identifier.to_owned());
    for user in served::users(conn, served::Kind::Asset, identifier)? {
        if user != own && !users.contains(&user) {
            users.push(user);
        }
    }
    Ok(users)
}

/// Keeps an asset's bytes, and makes or updates its declaration. What that says beside the reference is
/// left as it is.
///
/// # Errors
/// `Invalid` for an identifier that cannot be one; `Conflict` when a declaration of this identifier is
/// something else, or is used as an asset of another type.
pub fn put(
    tx: &Tx<'_>,
    contents: &Contents,
    identifier: &str,
    prepared: &Prepared,
    edit: Edit<'_>,
) -> Result<Put> {
    let before = get(tx, identifier)?;
    free_for_asset(tx, identifier)?;
    let kept = contents.keep(tx, &user(identifier), &prepared.received, is_secret(&prepared.asset_type))?;
    let declared = declare(tx, identifier, &prepared.asset_type, &prepared.media_type, &kept, edit)?;
    let same = before.as_ref().is_some_and(|before| {
        before.kept == kept
            && before.asset_type == prepared.asset_type
            && before.media_type == prepared.media_type
    });
    if !same {
        tx.prepare_cached(&format!(
            "INSERT INTO assets ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?4, ?5)
             ON CONFLICT DO UPDATE SET type = excluded.type, media_type = excluded.media_type,
                 updated_at = excluded.updated_at, updated_by = excluded.updated_by"
        ))?
        .execute(params![
            identifier,
            prepared.asset_type,
            prepared.media_type,
            tx.now(),
            edit.actor
        ])?;
    }
    let mut warnings = prepared.warnings.clone();
    warnings.extend(declared.warnings);
    Ok(Put { created: before.is_none(), changed: !same || declared.changed, warnings })
}

/// For a dry run, which is rolled back: as [`put`] would, of bytes that are not here. Nothing in them is
/// looked at; answers the media type.
///
/// # Errors
/// As [`put`].
pub fn pretend(
    tx: &Tx<'_>,
    identifier: &str,
    upload: &Upload<'_>,
    (sha256, size): (&str, u64),
    edit: Edit<'_>,
) -> Result<(String, String)> {
    free_for_asset(tx, identifier)?;
    let asset_type = upload
        .asset_type
        .or(upload.known_type)
        .map_or_else(|| recognised(&essence(upload.media_type), &[]).to_owned(), str::to_owned);
    let media_type = media_type(upload.media_type, upload.known_media)?;
    let kept = Kept { id: sha256.to_owned(), size, secret: is_secret(&asset_type) };
    declare(tx, identifier, &asset_type, &media_type, &kept, edit)?;
    Ok((asset_type, media_type))
}

fn free_for_asset(conn: &Connection, identifier: &str) -> Result<()> {
    check_name(identifier)?;
    match declaration::get(conn, identifier)? {
        Some(declared) if declared.kind != Kind::Asset => Err(Error::conflict(format!(
            "{identifier} is {}; choose another identifier for the asset",
            declared.declaration_type
        ))),
        _ => Ok(()),
    }
}

/// Says of an asset which bytes it has, and makes or updates its declaration.
fn declare(
    tx: &Tx<'_>,
    identifier: &str,
    asset_type: &str,
    media_type: &str,
    kept: &Kept,
    edit: Edit<'_>,
) -> Result<declaration::Put> {
    served::set(tx, served::Kind::Asset, identifier, &content_of(kept, media_type), edit)?;
    let declared = declaration::get(tx, identifier)?;
    let declared = declared.filter(|declared| declared.declaration_type == asset_type);
    let force = declared.as_ref().is_some_and(|declared| declared.forced);
    let (mut payload, beside) =
        declared.map(|declared| (declared.payload, declared.beside)).unwrap_or_default();
    payload.insert("Reference".to_owned(), reference(tx, identifier, kept, media_type)?);
    // The key came later than the type; without it devices prove themselves all the same.
    if asset_type != USER_PASSWORD && !payload.contains_key("Authentication") {
        payload.insert("Authentication".to_owned(), json!({"Type": "MDM"}));
    }
    let mut body = Map::new();
    body.insert("Type".to_owned(), asset_type.into());
    body.insert("Identifier".to_owned(), identifier.into());
    body.insert("Payload".to_owned(), payload.into());
    body.extend(beside);
    declaration::put(tx, &check(&Json::Object(body), force)?, force, edit)
}

/// What the declaration says of its bytes. A hash of a secret could be guessed from.
fn reference(conn: &Connection, identifier: &str, kept: &Kept, media_type: &str) -> Result<Json> {
    let mut reference = json!({
        "DataURL": served::address(conn, served::Kind::Asset, identifier)?,
        "ContentType": media_type,
        "Size": kept.size,
    });
    if let Some(sha256) = kept.sha256() {
        reference["Hash-SHA-256"] = sha256.into();
    }
    Ok(reference)
}

/// Removes an asset and its declaration.
///
/// # Errors
/// `NotFound`; `Conflict` with `users` when it is used.
pub fn delete(tx: &Tx<'_>, identifier: &str, edit: Edit<'_>) -> Result<()> {
    if get(tx, identifier)?.is_none() {
        return Err(Error::NotFound("such asset".into()));
    }
    declaration::delete(tx, identifier, edit)?;
    follow(tx, identifier)
}

/// The declaration of this identifier was written or deleted by itself: the bytes go when it does not
/// point to them any more.
///
/// # Errors
/// `Conflict` with `users` when another declaration points to bytes that would go; `Invalid` when it
/// says of the bytes that they are something else.
pub fn follow(tx: &Tx<'_>, identifier: &str) -> Result<()> {
    let Some(asset) = get(tx, identifier)? else { return Ok(()) };
    let own = User::Declaration(identifier.to_owned());
    if served::users(tx, served::Kind::Asset, identifier)?.contains(&own) {
        let declared = declaration::get(tx, identifier)?;
        if declared.is_some_and(|declared| declared.declaration_type != asset.asset_type) {
            let words = format!(
                "The bytes of this asset were uploaded as {}; upload them again with ?type=.",
                asset.asset_type
            );
            return Err(Error::invalid_at("/Type", words).suggesting(asset.asset_type));
        }
        return Ok(());
    }
    served::remove(tx, served::Kind::Asset, identifier)?;
    content::release(tx, &user(identifier))?;
    tx.prepare_cached("DELETE FROM assets WHERE identifier = ?1")?.execute([identifier])?;
    Ok(())
}
