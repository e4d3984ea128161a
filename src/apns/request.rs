//! Requests for push certificates: table `push_requests`, of which this file is the owner.
//!
//! A request is a key and a signing request (RFC 2986, RSA 2048). It goes to an MDM vendor for a signature, then
//! to Apple's portal; the certificate that comes back finds its key here.
//!
//! **Invariant:** a key leaves this table only for a push certificate of its own.

use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, PKCS_RSA_SHA256};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Value, json};

use super::mdmcert::ReplyTo;
use super::vendor::Signed;
use crate::clock::{Seconds, rfc3339};
use crate::error::{Error, Result};
use crate::id;
use crate::pki::key::PrivateKey;
use crate::pki::pem;
use crate::pki::seal::Seal;
use crate::storage::Tx;

/// How many wait at a time; the oldest goes when there is one more.
const KEPT: i64 = 20;

/// A request, without its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub id: String,
    pub made_at: Seconds,
    pub made_by: String,
    pub apple_account: Option<String>,
    /// DER.
    pub csr: Vec<u8>,
    /// How it was signed, when it was: `vendor`, `mdmcert.download`, `elsewhere`.
    pub signed_by: Option<String>,
    /// What Apple's portal takes.
    pub signed_request: Option<String>,
}

/// A key and its signing request, not kept yet.
pub struct Made {
    key_pkcs8: Vec<u8>,
    csr: Vec<u8>,
}

impl Made {
    /// Makes a key and a request for it. Takes a moment of CPU.
    ///
    /// # Errors
    /// The cryptography's; an organization whose name cannot stand in a certificate.
    pub fn new(organization: &str, apple_account: Option<&str>) -> Result<Self> {
        let failed = |source| Error::caused("the signing request cannot be made", source);
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).map_err(failed)?;
        let mut parameters = CertificateParams::new(Vec::new()).map_err(failed)?;
        let mut name = DistinguishedName::new();
        let printable: String = id::printable(organization).chars().take(60).collect();
        name.push(DnType::CommonName, DnValue::Utf8String(format!("{printable} MDM")));
        name.push(DnType::OrganizationName, DnValue::Utf8String(printable));
        if let Some(account) = apple_account.filter(|account| account.is_ascii() && account.contains('@')) {
            // emailAddress (RFC 2985 section 5.2.1).
            let email = DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]);
            name.push(email, DnValue::Utf8String(account.to_owned()));
        }
        parameters.distinguished_name = name;
        let csr = parameters.serialize_request(&key).map_err(failed)?;
        Ok(Self { key_pkcs8: key.serialize_der(), csr: csr.der().to_vec() })
    }
}

impl Request {
    /// The signing request in PEM.
    pub fn csr_pem(&self) -> String {
        pem::encode("CERTIFICATE REQUEST", &self.csr)
    }

    /// As the API shows it: `id, csr, made_at, made_by, apple_account, signed_by, signed_request`.
    pub fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "csr": self.csr_pem(),
            "made_at": rfc3339(self.made_at),
            "made_by": self.made_by,
            "apple_account": self.apple_account,
            "signed_by": self.signed_by,
            "signed_request": self.signed_request,
        })
    }
}

fn key_name(id: &str) -> String {
    format!("push request {id}")
}

fn reply_name(id: &str) -> String {
    format!("push request {id} reply")
}

/// Keeps what was made.
pub fn keep(tx: &Tx<'_>, seal: &Seal, made: &Made, account: Option<&str>, by: &str) -> Result<Request> {
    let id = id::uuid();
    tx.prepare_cached(
        "INSERT INTO push_requests (id, made_at, made_by, apple_account, csr, sealed_key) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![id, tx.now(), by, account, made.csr, seal.seal(&key_name(&id), &made.key_pkcs8)])?;
    tx.prepare_cached(
        "DELETE FROM push_requests WHERE id NOT IN (SELECT id FROM push_requests ORDER BY made_at DESC, rowid DESC LIMIT ?1)",
    )?
    .execute([KEPT])?;
    find(tx, &id)
}

/// All that wait, the newest first.
pub fn list(conn: &Connection) -> Result<Vec<Request>> {
    let mut query = conn.prepare_cached(&select("ORDER BY made_at DESC, rowid DESC"))?;
    Ok(query.query_map([], read)?.collect::<Result<_, _>>()?)
}

/// # Errors
/// [`Error::NotFound`].
pub fn find(conn: &Connection, id: &str) -> Result<Request> {
    let mut query = conn.prepare_cached(&select("WHERE id = ?1"))?;
    query.query_row([id], read).optional()?.ok_or_else(|| Error::NotFound("request of this id".into()))
}

/// Forgets a request and its key; answers whether there was one.
pub fn forget(tx: &Tx<'_>, id: &str) -> Result<bool> {
    Ok(tx.prepare_cached("DELETE FROM push_requests WHERE id = ?1")?.execute([id])? == 1)
}

/// Keeps the signed form of a request.
///
/// # Errors
/// [`Error::Invalid`]: another request was signed.
pub fn sign(tx: &Tx<'_>, id: &str, signed: &Signed, by: &str) -> Result<Request> {
    if find(tx, id)?.csr != signed.csr {
        return Err(Error::invalid(
            "this is the signed form of another request; give the one whose CSR was downloaded here, or make a new request",
        ));
    }
    tx.prepare_cached("UPDATE push_requests SET signed_by = ?2, signed_request = ?3 WHERE id = ?1")?
        .execute(params![id, by, signed.text])?;
    find(tx, id)
}

/// Keeps to whom the answer of mdmcert.download is encrypted.
pub fn expect_reply(tx: &Tx<'_>, seal: &Seal, id: &str, to: &ReplyTo) -> Result<()> {
    let sealed = seal.seal(&reply_name(id), &to.key_pkcs8);
    tx.prepare_cached("UPDATE push_requests SET reply_to = ?2, sealed_reply = ?3 WHERE id = ?1")?
        .execute(params![id, to.certificate, sealed])?;
    Ok(())
}

/// To whom the answer of mdmcert.download is encrypted, if it was asked.
pub fn reply_to(conn: &Connection, seal: &Seal, id: &str) -> Result<Option<ReplyTo>> {
    find(conn, id)?;
    let (certificate, sealed): (Option<Vec<u8>>, Option<Vec<u8>>) = conn
        .prepare_cached("SELECT reply_to, sealed_reply FROM push_requests WHERE id = ?1")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (Some(certificate), Some(sealed)) = (certificate, sealed) else { return Ok(None) };
    Ok(Some(ReplyTo { certificate, key_pkcs8: seal.open_sealed(&reply_name(id), &sealed)? }))
}

/// The keys of all requests, each with its request.
pub fn keys(conn: &Connection, seal: &Seal) -> Result<Vec<(Request, PrivateKey)>> {
    let mut query = conn.prepare_cached("SELECT sealed_key FROM push_requests WHERE id = ?1")?;
    let mut found = Vec::new();
    for request in list(conn)? {
        let sealed: Vec<u8> = query.query_row([&request.id], |row| row.get(0))?;
        let key = PrivateKey::from_pkcs8(&seal.open_sealed(&key_name(&request.id), &sealed)?)
            .map_err(|source| Error::caused("the key of a request cannot be read", source))?;
        found.push((request, key));
    }
    Ok(found)
}

fn select(rest: &str) -> String {
    format!(
        "SELECT id, made_at, made_by, apple_account, csr, signed_by, signed_request FROM push_requests {rest}"
    )
}

fn read(row: &Row<'_>) -> rusqlite::Result<Request> {
    Ok(Request {
        id: row.get(0)?,
        made_at: row.get(1)?,
        made_by: row.get(2)?,
        apple_account: row.get(3)?,
        csr: row.get(4)?,
        signed_by: row.get(5)?,
        signed_request: row.get(6)?,
    })
}
