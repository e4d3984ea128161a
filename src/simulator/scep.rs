//! A SCEP client as in devices (RFC 8894): capabilities, authority, one certificate request.
//!
//! [`super::enrollment`] calls it with what the profile's `com.apple.security.scep` payload says.
//!
//! **Invariant:** a certificate is taken only from an answer that the authority signed, that repeats
//! our transaction and nonce, and that was issued for our key by the authority itself.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::ber::{self, Lengths};
use super::certificate::{Certificate, Digest};
use super::cms;
use super::envelope::{self, Cipher};
use super::fault::Fault;
use super::identity::{self, Identity, Key, attribute};
use super::profile::ScepPayload;
use super::report::Meter;
use super::wire::{Reply, Wire};
use crate::clock::Seconds;
use crate::id;

const MESSAGE_TYPE: &str = "2.16.840.1.113733.1.9.2";
const PKI_STATUS: &str = "2.16.840.1.113733.1.9.3";
const FAIL_INFO: &str = "2.16.840.1.113733.1.9.4";
const SENDER_NONCE: &str = "2.16.840.1.113733.1.9.5";
const RECIPIENT_NONCE: &str = "2.16.840.1.113733.1.9.6";
const TRANSACTION_ID: &str = "2.16.840.1.113733.1.9.7";

/// Asks the authority of `payload` to certify `key`.
pub(super) async fn request_identity(
    wire: &mut Wire,
    payload: &ScepPayload,
    key: Arc<Key>,
    lengths: Lengths,
    now: Seconds,
    meter: &Meter,
) -> Result<Identity, Fault> {
    let capabilities = Capabilities::read(&get(wire, payload, "GetCACaps", None, meter).await?.body);
    let authorities = authorities(&get(wire, payload, "GetCACert", payload.name.as_deref(), meter).await?)?;
    let recipient = recipient(&authorities)?;

    let subject = identity::name(&payload.subject)?;
    let request =
        identity::certificate_request(&key, &subject, payload.challenge.as_deref(), payload.key_usage)?;
    let signer = Identity::new(key.clone(), identity::throw_away(&key, now)?);
    let nonce = id::random::<16>();
    // Of the whole request, not of the key alone: devices of a large fleet share keys.
    let transaction = id::hex(&id::sha256(&request)[..20]).to_uppercase();
    let printable = |text: &str| ber::element(ber::PRINTABLE_STRING, text.as_bytes());
    let message = cms::sign_attached(
        &signer,
        &envelope::encrypt(&request, recipient, capabilities.cipher, lengths)?,
        capabilities.digest,
        vec![
            attribute(MESSAGE_TYPE, &printable("19")),
            attribute(SENDER_NONCE, &ber::element(ber::OCTET_STRING, &nonce)),
            attribute(TRANSACTION_ID, &printable(&transaction)),
            attribute("1.2.840.113549.1.9.5", &identity::utc_time(now)),
        ],
        lengths,
    )?;
    let reply = if capabilities.post {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-pki-message"));
        let url = with_query(&payload.url, "operation=PKIOperation");
        let reply = wire.send(Method::POST, &url, headers, message).await?;
        accepted(reply, "PKIOperation", meter)?
    } else {
        get(wire, payload, "PKIOperation", Some(&STANDARD.encode(message)), meter).await?
    };
    let certificate = read_answer(&reply, &authorities, &key, &transaction, &nonce)?;
    Ok(Identity::new(key, certificate))
}

async fn get(
    wire: &mut Wire,
    payload: &ScepPayload,
    operation: &str,
    message: Option<&str>,
    meter: &Meter,
) -> Result<Reply, Fault> {
    let mut query = format!("operation={operation}");
    if let Some(message) = message {
        query.push_str("&message=");
        query.extend(utf8_percent_encode(message, NON_ALPHANUMERIC));
    }
    let reply =
        wire.send(Method::GET, &with_query(&payload.url, &query), HeaderMap::new(), Vec::new()).await?;
    accepted(reply, operation, meter)
}

fn with_query(url: &str, query: &str) -> String {
    format!("{url}{}{query}", if url.contains('?') { '&' } else { '?' })
}

fn accepted(reply: Reply, operation: &str, meter: &Meter) -> Result<Reply, Fault> {
    if reply.status == 200 {
        meter.took(operation, reply.took);
        return Ok(reply);
    }
    let (step, status, body) = (format!("SCEP {operation}"), reply.status, reply.words());
    Err(Fault::Refused { step, status, body })
}

struct Capabilities {
    post: bool,
    cipher: Cipher,
    digest: Digest,
}

impl Capabilities {
    fn read(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let offers = |name: &str| text.lines().any(|line| line.trim().eq_ignore_ascii_case(name));
        let standard = offers("SCEPStandard");
        Self {
            post: standard || offers("POSTPKIOperation"),
            cipher: if standard || offers("AES") { Cipher::Aes128 } else { Cipher::TripleDes },
            digest: if standard || offers("SHA-256") { Digest::Sha256 } else { Digest::Sha1 },
        }
    }
}

fn authorities(reply: &Reply) -> Result<Vec<Vec<u8>>, Fault> {
    match reply.content_type().as_str() {
        "application/x-x509-ca-cert" => Ok(vec![reply.body.clone()]),
        "application/x-x509-ca-ra-cert" => cms::certificates(&reply.body),
        other => Err(Fault::unacceptable(format!("SCEP GetCACert was answered with the type `{other}`"))),
    }
}

/// The certificate to encrypt to: a registration authority's where there is one.
fn recipient(authorities: &[Vec<u8>]) -> Result<&[u8], Fault> {
    let with_rsa = |authority: bool| {
        authorities
            .iter()
            .find(|der| Certificate::read(der).is_ok_and(|c| c.has_rsa_key() && c.is_authority == authority))
    };
    let found = with_rsa(false).or_else(|| with_rsa(true));
    found.map(Vec::as_slice).ok_or_else(|| {
        Fault::unacceptable("SCEP GetCACert holds no RSA certificate, so nothing can be encrypted to it")
    })
}

fn read_answer(
    reply: &Reply,
    authorities: &[Vec<u8>],
    key: &Key,
    transaction: &str,
    nonce: &[u8],
) -> Result<Vec<u8>, Fault> {
    if reply.content_type() != "application/x-pki-message" {
        let kind = reply.content_type();
        return Err(Fault::unacceptable(format!("SCEP PKIOperation was answered with the type `{kind}`")));
    }
    let answer = cms::verify(&reply.body)?;
    let must = |holds: bool, words: &str| if holds { Ok(()) } else { Err(Fault::unacceptable(words)) };
    must(authorities.contains(&answer.signer), "the SCEP answer is not signed by the authority")?;
    must(answer.attribute(MESSAGE_TYPE) == Some(b"3"), "the SCEP answer is no CertRep")?;
    must(
        answer.attribute(TRANSACTION_ID) == Some(transaction.as_bytes()),
        "the SCEP answer belongs to another transaction",
    )?;
    must(answer.attribute(RECIPIENT_NONCE) == Some(nonce), "the SCEP answer does not repeat our nonce")?;
    must(
        answer.attribute(SENDER_NONCE).is_some_and(|own| own.len() == 16),
        "the SCEP answer has no senderNonce of 16 bytes",
    )?;
    match answer.attribute(PKI_STATUS) {
        Some(b"0") => {}
        Some(b"2") => {
            let info = match answer.attribute(FAIL_INFO) {
                Some(b"0") => "badAlg",
                Some(b"1") => "badMessageCheck",
                Some(b"2") => "badRequest",
                Some(b"3") => "badTime",
                Some(b"4") => "badCertId",
                _ => "without a failInfo",
            };
            return Err(Fault::unacceptable(format!("SCEP refused the request: {info}")));
        }
        Some(b"3") => return Err(Fault::unacceptable("SCEP answered PENDING, which is not waited for")),
        _ => return Err(Fault::unacceptable("the SCEP answer has no pkiStatus")),
    }
    let (inner, _) = envelope::decrypt(&answer.content, key)?;
    let issued = cms::certificates(&inner)?;
    let authorities: Vec<Certificate> =
        authorities.iter().filter_map(|der| Certificate::read(der).ok()).collect();
    let own = issued.into_iter().find(|der| {
        Certificate::read(der).is_ok_and(|c| {
            c.public_key() == Ok(key.public_key()) && authorities.iter().any(|ca| c.is_signed_by(ca))
        })
    });
    own.ok_or_else(|| {
        Fault::unacceptable("the SCEP answer holds no certificate for our key that the authority issued")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_choose_cipher_digest_and_method() {
        let modern = Capabilities::read(b"Renewal\r\nAES\r\nSHA-256\r\nPOSTPKIOperation\r\n");
        assert!(modern.post && modern.cipher == Cipher::Aes128 && modern.digest == Digest::Sha256);
        let old = Capabilities::read(b"");
        assert!(!old.post && old.cipher == Cipher::TripleDes && old.digest == Digest::Sha1);
    }

    #[test]
    fn a_request_reads_back_as_it_was_written() {
        let key = Key::generate(2048).unwrap();
        let certificate = identity::throw_away(&key, 1_800_000_000).unwrap();
        let signer = Identity::new(Arc::new(key), certificate);
        for cipher in [Cipher::Aes128, Cipher::Aes192, Cipher::Aes256, Cipher::TripleDes] {
            for (digest, lengths) in
                [(Digest::Sha1, Lengths::Definite), (Digest::Sha256, Lengths::Indefinite)]
            {
                let enveloped = envelope::encrypt(b"request", &signer.certificate, cipher, lengths).unwrap();
                let kind = ber::element(ber::PRINTABLE_STRING, b"19");
                let attributes = vec![attribute(MESSAGE_TYPE, &kind)];
                let message = cms::sign_attached(&signer, &enveloped, digest, attributes, lengths).unwrap();
                let verified = cms::verify(&message).unwrap();
                assert_eq!(verified.attribute(MESSAGE_TYPE), Some(&b"19"[..]));
                let (plain, used) = envelope::decrypt(&verified.content, &signer.key).unwrap();
                assert_eq!((plain.as_slice(), used), (&b"request"[..], cipher));
            }
        }
    }
}
