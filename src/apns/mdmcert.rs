//! mdmcert.download: a service that signs requests for push certificates as their MDM vendor.
//!
//! The request goes out as JSON with the certificate to which the answer is to be encrypted; the answer comes by
//! mail, as a file: hexadecimal text of a CMS EnvelopedData (RFC 5652 section 6) around the signed request.
//!
//! **Invariant:** the key that opens the answer is made for one request and never leaves this server.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::CONTENT_TYPE;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_RSA_SHA256};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::vendor::{LARGEST, Signed};
use crate::clock::{DAY, Seconds};
use crate::config::Secret;
use crate::error::{Error, Result};
use crate::https::{self, Client, add_file};
use crate::id;
use crate::pki::certificate::Certificate;
use crate::pki::key::PrivateKey;
use crate::pki::{cms, pem};

const PATIENCE: Duration = Duration::from_secs(60);
/// The service answers a word or two.
const LARGEST_ANSWER: usize = 64 * 1024;

/// Where the service is, and who we are to it.
#[derive(Clone, Debug)]
pub struct Service {
    pub url: String,
    pub client_key: Option<Secret>,
    /// PEM file with an extra root.
    pub trust: Option<PathBuf>,
}

/// The certificate and key to which an answer is encrypted.
pub struct ReplyTo {
    /// DER.
    pub certificate: Vec<u8>,
    pub key_pkcs8: Vec<u8>,
}

impl ReplyTo {
    /// # Errors
    /// The cryptography's.
    pub fn make(now: Seconds) -> Result<Self> {
        let failed = |source| Error::caused("the certificate for the answer cannot be made", source);
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).map_err(failed)?;
        let mut parameters = CertificateParams::new(Vec::new()).map_err(failed)?;
        parameters.distinguished_name.push(DnType::CommonName, "Russet, answer of mdmcert.download");
        let moment = |at| OffsetDateTime::from_unix_timestamp(at).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        parameters.not_before = moment(now - DAY);
        parameters.not_after = moment(now + 365 * DAY);
        let certificate = parameters.self_signed(&key).map_err(failed)?;
        Ok(Self { certificate: certificate.der().to_vec(), key_pkcs8: key.serialize_der() })
    }
}

/// Asks the service to sign a request (DER) and to mail the answer to `email`, which is registered there.
///
/// # Errors
/// [`Error::Conflict`] without a client key, with how to get one; [`Error::Invalid`] in the service's words.
pub async fn ask(service: &Service, csr: &[u8], email: &str, reply_to: &[u8]) -> Result<()> {
    let Some(key) = &service.client_key else {
        return Err(Error::conflict(
            "mdmcert.download wants a client key, which belongs to a program or to an organization: register at \
             https://mdmcert.download, ask its operators for a key of your own, and write it as [mdmcert] client_key; or have the \
             request signed elsewhere",
        ));
    };
    let body = json!({
        "csr": STANDARD.encode(pem::encode("CERTIFICATE REQUEST", csr)),
        "email": email,
        "key": key.reveal(),
        "encrypt": STANDARD.encode(pem::encode("CERTIFICATE", reply_to)),
    });
    let mut roots = https::system_roots();
    if let Some(path) = &service.trust {
        add_file(&mut roots, path, "[mdmcert] trust")?;
    }
    let request = Request::post(&service.url)
        .header(CONTENT_TYPE, "application/json")
        .body(Bytes::from(body.to_string()))
        .map_err(|error| Error::invalid(format!("[mdmcert] url cannot be asked: {error}")))?;
    let answer = Client::new(roots, PATIENCE, LARGEST_ANSWER)?
        .send(request)
        .await
        .map_err(|error| Error::invalid(format!("{}: {error}", service.url)))?;
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if answer.status.is_success() && said["result"] == "success" {
        return Ok(());
    }
    let reason = said["reason"].as_str().unwrap_or("it gives no reason");
    Err(Error::invalid(format!(
        "mdmcert.download did not take the request (it answered {}: {}); is {email} registered there, and the client key yours?",
        answer.status.as_u16(),
        id::printable(reason)
    )))
}

/// Opens the file that the service mailed.
///
/// # Errors
/// [`Error::Invalid`] in words: it is no such file, is cut, was encrypted for another request, or what is inside
/// would be refused by Apple's portal.
pub fn open(file: &[u8], certificate: &[u8], key_pkcs8: &[u8], now: Seconds) -> Result<Signed> {
    if file.len() > 4 * LARGEST {
        return Err(Error::invalid("the mailed file is larger than 1 MiB; choose the right file"));
    }
    let enveloped = unhex(file.trim_ascii()).ok_or_else(|| {
        Error::invalid(
            "this is not the file that mdmcert.download mails (mdm_signed_request….plist.b64.p7, hexadecimal text); save the \
             attachment as it is",
        )
    })?;
    let damaged = |source| Error::caused("the key for the answer cannot be read", source);
    let key = PrivateKey::from_pkcs8(key_pkcs8).map_err(damaged)?;
    let certificate = Certificate::from_der(certificate)
        .map_err(|source| Error::caused("the certificate for the answer cannot be read", source))?;
    let (content, _) = cms::decrypt(&enveloped, &certificate, &key).map_err(|_| {
        Error::invalid(
            "the mailed file cannot be opened: it is cut, or it answers another request; take the newest mail, or ask again",
        )
    })?;
    Signed::read(&content, now)
}

/// Hexadecimal text with white space anywhere; the bytes themselves are taken too.
fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    if text.first() == Some(&0x30) && text.get(1).is_some_and(|byte| *byte >= 0x80) {
        return Some(text.to_vec());
    }
    let digits: Vec<u8> = text
        .iter()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|byte| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return None;
    }
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
