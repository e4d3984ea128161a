//! Accounts and certificates: tables `acme_accounts` and `acme_certificates`, of which this file is the owner.

use instant_acme::AccountCredentials;
use rusqlite::{Connection, OptionalExtension, params};

use super::third_left;
use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::pki::certificate::Certificate;
use crate::pki::seal::Seal;
use crate::storage::Tx;

/// How many certificates of a host are kept, for whoever wants to see what was in use.
const KEPT: i64 = 10;

/// A certificate that a CA issued, with its key.
#[derive(Clone)]
pub struct Issued {
    pub host: String,
    /// The URL of the CA's directory.
    pub directory: String,
    /// The leaf first.
    pub chain: Vec<Certificate>,
    pub key_pkcs8: Vec<u8>,
    pub not_before: Seconds,
    pub not_after: Seconds,
    pub obtained_at: Seconds,
    /// When it is to be replaced.
    pub renew_at: Seconds,
    /// When the CA is asked again for that time.
    pub(super) asked_at: Seconds,
    pub(super) id: i64,
}

/// The key stays out of logs.
impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued")
            .field("host", &self.host)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Issued {
    /// Who issued it, as people read it.
    pub fn issuer(&self) -> String {
        self.chain.first().map(|leaf| leaf.issuer().to_string()).unwrap_or_default()
    }

    pub(super) fn leaf(&self) -> Result<&Certificate> {
        self.chain.first().ok_or_else(|| Error::internal("a TLS certificate is kept without its bytes"))
    }
}

fn key_name(host: &str) -> String {
    format!("acme.key.{host}")
}

fn account_name(directory: &str) -> String {
    format!("acme.account.{directory}")
}

/// The newest certificate of a host.
pub(super) fn newest(conn: &Connection, seal: &Seal, host: &str) -> Result<Option<Issued>> {
    let found = conn
        .prepare_cached(
            "SELECT id, directory, chain, private_key, not_before, not_after, obtained_at, renew_at, asked_at
             FROM acme_certificates WHERE host = ?1 ORDER BY id DESC LIMIT 1",
        )?
        .query_row([host], |row| {
            let (pem, sealed): (String, Vec<u8>) = (row.get(2)?, row.get(3)?);
            let issued = Issued {
                host: host.to_owned(),
                id: row.get(0)?,
                directory: row.get(1)?,
                chain: Vec::new(),
                key_pkcs8: Vec::new(),
                not_before: row.get(4)?,
                not_after: row.get(5)?,
                obtained_at: row.get(6)?,
                renew_at: row.get(7)?,
                asked_at: row.get(8)?,
            };
            Ok((issued, pem, sealed))
        })
        .optional()?;
    let Some((issued, pem, sealed)) = found else { return Ok(None) };
    let damaged = |source| Error::caused("a TLS certificate in the database cannot be read", source);
    Ok(Some(Issued {
        chain: Certificate::all_from_pem(&pem).map_err(damaged)?,
        key_pkcs8: seal.open_sealed(&key_name(host), &sealed)?,
        ..issued
    }))
}

/// Keeps a new certificate; the next to be used.
pub(super) fn keep(tx: &Tx<'_>, seal: &Seal, issued: Issued) -> Result<Issued> {
    let chain: String = issued.chain.iter().map(Certificate::to_pem).collect();
    let now = tx.now();
    let renew_at = third_left(issued.not_before, issued.not_after);
    tx.prepare_cached(
        "INSERT INTO acme_certificates
             (host, directory, chain, private_key, not_before, not_after, obtained_at, renew_at, asked_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?7)",
    )?
    .execute(params![
        issued.host,
        issued.directory,
        chain,
        seal.seal(&key_name(&issued.host), &issued.key_pkcs8),
        issued.not_before,
        issued.not_after,
        now,
        renew_at,
    ])?;
    let id = tx.last_insert_rowid();
    tx.prepare_cached(
        "DELETE FROM acme_certificates WHERE host = ?1 AND id NOT IN
             (SELECT id FROM acme_certificates WHERE host = ?1 ORDER BY id DESC LIMIT ?2)",
    )?
    .execute(params![issued.host, KEPT])?;
    Ok(Issued { id, obtained_at: now, renew_at, asked_at: now, ..issued })
}

/// Keeps when a certificate is to be replaced, and when the CA is asked for that again.
pub(super) fn plan(tx: &Tx<'_>, id: i64, renew_at: Seconds, asked_at: Seconds) -> Result<()> {
    tx.prepare_cached("UPDATE acme_certificates SET renew_at = ?2, asked_at = ?3 WHERE id = ?1")?
        .execute([id, renew_at, asked_at])?;
    Ok(())
}

/// The account at a directory.
pub(super) fn account(conn: &Connection, seal: &Seal, directory: &str) -> Result<Option<AccountCredentials>> {
    let sealed = conn
        .prepare_cached("SELECT credentials FROM acme_accounts WHERE directory = ?1")?
        .query_row([directory], |row| row.get::<_, Vec<u8>>(0))
        .optional()?;
    let Some(sealed) = sealed else { return Ok(None) };
    let json = seal.open_sealed(&account_name(directory), &sealed)?;
    serde_json::from_slice(&json)
        .map(Some)
        .map_err(|source| Error::caused("the account at the ACME server cannot be read", source))
}

/// Keeps an account, in place of an older one.
pub(super) fn keep_account(
    tx: &Tx<'_>,
    seal: &Seal,
    directory: &str,
    contact: Option<&str>,
    credentials: &AccountCredentials,
) -> Result<()> {
    let json = serde_json::to_vec(credentials)
        .map_err(|source| Error::caused("the account at the ACME server cannot be kept", source))?;
    tx.prepare_cached(
        "INSERT INTO acme_accounts (directory, credentials, contact, made_at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (directory) DO UPDATE SET credentials = excluded.credentials,
             contact = excluded.contact, made_at = excluded.made_at",
    )?
    .execute(params![directory, seal.seal(&account_name(directory), &json), contact, tx.now()])?;
    Ok(())
}

/// The contact that the account at a directory was told last.
pub(super) fn contact(conn: &Connection, directory: &str) -> Result<Option<String>> {
    Ok(conn
        .prepare_cached("SELECT contact FROM acme_accounts WHERE directory = ?1")?
        .query_row([directory], |row| row.get(0))
        .optional()?
        .flatten())
}

/// Keeps which contact the account was told.
pub(super) fn keep_contact(tx: &Tx<'_>, directory: &str, contact: Option<&str>) -> Result<()> {
    tx.prepare_cached("UPDATE acme_accounts SET contact = ?2 WHERE directory = ?1")?
        .execute(params![directory, contact])?;
    Ok(())
}

/// Forgets an account that the CA does not know.
pub(super) fn forget_account(tx: &Tx<'_>, directory: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM acme_accounts WHERE directory = ?1")?.execute([directory])?;
    Ok(())
}
