//! The MDM vendor's part: signing a request for a push certificate, and reading such a signed request.
//!
//! Apple's portal takes a property list in base64 with three texts (Apple, "Setting up push notifications for
//! your MDM customers"): `PushCertRequestCSR` (base64 of the DER request), `PushCertCertificateChain` (PEM, the
//! vendor's certificate first, Apple's root last, lines of 64 characters) and `PushCertSignature` (base64 of
//! an RSA signature with SHA-256 over the DER request).
//!
//! **Invariant:** a signed request that leaves here was read again and holds: the signature, the chain, the dates.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::bundle::Bundle;
use crate::clock::{DAY, Seconds, rfc3339};
use crate::error::{Error, Result};
use crate::pki::certificate::Certificate;
use crate::pki::key::{Family, Hash, PrivateKey, PublicKey};
use crate::pki::pem;
use crate::pki::scep::csr::Csr;
use crate::plist::{self, Dictionary, Value};

/// The largest signed request, or file with one, that is read.
pub const LARGEST: usize = 256 * 1024;
/// A vendor's certificate, intermediates, a root.
const LONGEST_CHAIN: usize = 8;
/// How soon the end of the vendor's certificate is worth a word.
const SOON: Seconds = 14 * DAY;

/// What somebody gives to sign with; texts in PEM, or base64 of anything else.
#[derive(Default)]
pub struct Given<'a> {
    pub certificate: &'a [u8],
    pub key: &'a [u8],
    pub chain: Vec<&'a [u8]>,
    /// Of a .p12.
    pub password: Option<&'a str>,
}

/// A vendor who can sign.
#[derive(Debug)]
pub struct Vendor {
    /// The vendor's certificate first, a root last.
    chain: Vec<Certificate>,
    key: PrivateKey,
}

/// A signed request that was read and holds.
#[derive(Debug)]
pub struct Signed {
    /// The request, DER.
    pub csr: Vec<u8>,
    /// Who signed it, as people read it.
    pub vendor: String,
    pub vendor_not_after: Seconds,
    /// As Apple's portal takes it: base64 of the property list, without line ends.
    pub text: String,
}

impl Vendor {
    /// Reads certificate, key and chain, in whatever order the chain's files are.
    ///
    /// # Errors
    /// [`Error::Invalid`] in words for each mistake: not the vendor's key, expired, a link of the chain missing.
    pub fn read(given: &Given<'_>, now: Seconds) -> Result<Self> {
        let at = |place: &'static str| move |error: Error| placed(error, place);
        let first = Bundle::read(&[given.certificate], given.password).map_err(at("/certificate"))?;
        let mut keys = first.keys;
        if !given.key.is_empty() {
            keys.extend(Bundle::read(&[given.key], given.password).map_err(at("/private_key"))?.keys);
        }
        let mut others = Bundle::read(&given.chain, given.password).map_err(at("/chain"))?.certificates;
        let mut certificates = first.certificates;
        certificates.append(&mut others);
        let parsed = parsed(&certificates).map_err(at("/certificate"))?;
        if parsed.is_empty() {
            return Err(Error::invalid_at(
                "/certificate",
                "there is no certificate in this; give the MDM vendor's certificate from developer.apple.com",
            ));
        }
        if keys.is_empty() {
            return Err(Error::invalid_at(
                "/private_key",
                "there is no private key in this; give the key of the MDM vendor's certificate",
            ));
        }
        let (leaf, key) = keys
            .into_iter()
            .find_map(|key| Some((position_of(&parsed, &key)?, key)))
            .ok_or_else(|| {
                Error::invalid_at("/private_key", "the private key does not belong to the vendor's certificate; give the key of the request with which that certificate was made")
            })?;
        if key.family() != Family::Rsa {
            return Err(Error::invalid_at(
                "/private_key",
                "the vendor's key is not RSA, and Apple's portal takes RSA signatures only; use the MDM vendor's certificate from developer.apple.com",
            ));
        }
        let chain = in_order(parsed, leaf).map_err(at("/chain"))?;
        judge(&chain, now).map_err(at("/certificate"))?;
        Ok(Self { chain, key })
    }

    /// Signs a request, DER or PEM.
    ///
    /// # Errors
    /// [`Error::Invalid`] in words: it is no request, or one that is not signed by its own key.
    pub fn sign(&self, csr: &[u8], now: Seconds) -> Result<Signed> {
        let csr = read_csr(csr)?;
        let signature = self
            .key
            .sign(Hash::Sha256, &csr)
            .map_err(|source| Error::caused("the request could not be signed", source))?;
        let chain: String = self.chain.iter().map(Certificate::to_pem).collect();
        let mut list = Dictionary::new();
        list.insert("PushCertRequestCSR".into(), STANDARD.encode(&csr).into());
        list.insert("PushCertCertificateChain".into(), chain.into());
        list.insert("PushCertSignature".into(), STANDARD.encode(signature).into());
        let text = STANDARD.encode(plist::to_xml(&Value::Dictionary(list)));
        Signed::read(text.as_bytes(), now)
    }
}

impl Signed {
    /// Reads what a vendor made: the property list, or base64 of it, whatever its line ends.
    ///
    /// # Errors
    /// [`Error::Invalid`] in words: what Apple's portal would refuse, and why.
    pub fn read(file: &[u8], now: Seconds) -> Result<Self> {
        if file.len() > LARGEST {
            return Err(Error::invalid("the signed request is larger than 256 KiB; choose the right file"));
        }
        let trimmed = file.trim_ascii();
        let xml = match STANDARD.decode(joined(trimmed)) {
            Ok(inner) if !trimmed.starts_with(b"<") => inner,
            _ => trimmed.to_vec(),
        };
        let is_pem = trimmed.starts_with(b"-----BEGIN ");
        let list = plist::parse_dict(&xml).map_err(|_| {
            Error::invalid(if is_pem {
                "this is PEM, not a signed request; give the file that the vendor gave back, a property list in base64"
            } else {
                "this is no signed request: it has to be a property list, or base64 of one; copy the whole file"
            })
        })?;
        let text = |name: &str| {
            list.get(name).and_then(Value::as_string).ok_or_else(|| {
                Error::invalid(format!("the signed request lacks {name}; ask the vendor for a whole one"))
            })
        };
        let decoded = |name: &str| {
            STANDARD.decode(joined(text(name)?.as_bytes())).map_err(|_| {
                Error::invalid(format!(
                    "{name} in the signed request is not base64; ask the vendor for a whole one"
                ))
            })
        };
        let csr = read_csr(&decoded("PushCertRequestCSR")?)?;
        let signature = decoded("PushCertSignature")?;
        let pem = text("PushCertCertificateChain")?;
        let blocks = Certificate::all_from_pem(pem).map_err(|_| {
            Error::invalid("the chain in the signed request is damaged; ask the vendor for a whole one")
        })?;
        if blocks.is_empty() {
            return Err(Error::invalid(
                "the chain in the signed request is empty; ask the vendor for a whole one",
            ));
        }
        let chain = in_order(blocks, 0)?;
        judge(&chain, now)?;
        let key = chain[0]
            .public_key()
            .map_err(|_| Error::invalid("the vendor's certificate has a key that cannot be used"))?;
        key.verify(Hash::Sha256, &csr, &signature).map_err(|_| {
            Error::invalid(
                "the signature of the signed request does not belong to this request and this vendor; Apple takes RSA with \
                 SHA-256 over the DER request. Have it signed again",
            )
        })?;
        Ok(Self {
            csr,
            vendor: chain[0].subject().to_string(),
            vendor_not_after: chain[0].not_after(),
            text: STANDARD.encode(&xml),
        })
    }

    /// A sentence, if the vendor's certificate ends soon.
    pub fn warning(&self, now: Seconds) -> Option<String> {
        (self.vendor_not_after - now < SOON).then(|| {
            format!(
                "The vendor's certificate ends on {}: upload the request before.",
                rfc3339(self.vendor_not_after)
            )
        })
    }
}

/// A request as DER, whether it came as that or as PEM.
///
/// # Errors
/// [`Error::Invalid`] in words.
pub fn read_csr(bytes: &[u8]) -> Result<Vec<u8>> {
    let der = if bytes.trim_ascii_start().starts_with(b"-----BEGIN ") {
        let text = String::from_utf8_lossy(bytes);
        let blocks = pem::blocks(&text).map_err(|_| {
            Error::invalid("the request is damaged; copy the file again, from BEGIN line to END line")
        })?;
        let found = blocks.into_iter().find(|block| block.label.ends_with("CERTIFICATE REQUEST"));
        found.map(|block| block.der).ok_or_else(|| {
            Error::invalid(
                "this is no certificate signing request; its first line would be BEGIN CERTIFICATE REQUEST",
            )
        })?
    } else {
        bytes.to_vec()
    };
    Csr::from_der(&der).map_err(|error| Error::invalid(error.to_string()))?;
    Ok(der)
}

fn parsed(certificates: &[Vec<u8>]) -> Result<Vec<Certificate>> {
    certificates
        .iter()
        .map(|der| {
            Certificate::from_der(der)
                .map_err(|_| Error::invalid("a certificate is damaged; download it again"))
        })
        .collect()
}

fn position_of(certificates: &[Certificate], key: &PrivateKey) -> Option<usize> {
    let own = PublicKey::from_spki(&key.public_key_info().ok()?).ok()?;
    certificates.iter().position(|certificate| certificate.public_key().is_ok_and(|public| public == own))
}

/// The chain from a certificate up to a root that signed itself; what does not belong to it is left out.
fn in_order(mut certificates: Vec<Certificate>, first: usize) -> Result<Vec<Certificate>> {
    let mut chain = vec![certificates.remove(first)];
    loop {
        let last = &chain[chain.len() - 1];
        if last.issuer().der() == last.subject().der() {
            return Ok(chain);
        }
        let signs = |issuer: &Certificate| {
            issuer.subject().der() == last.issuer().der()
                && issuer.public_key().is_ok_and(|key| last.verify_signed_by(&key).is_ok())
        };
        let Some(next) = certificates.iter().position(signs) else {
            return Err(Error::invalid(format!(
                "the chain is not complete: the certificate of {} is missing, or another one of that name; Apple's are at \
                 apple.com/certificateauthority (the WWDR intermediate that issued the vendor's certificate, and the Apple Root CA)",
                last.issuer()
            )));
        };
        if chain.len() == LONGEST_CHAIN {
            return Err(Error::invalid(
                "the chain is longer than 8 certificates; give the vendor's, the intermediate and the root",
            ));
        }
        chain.push(certificates.remove(next));
    }
}

/// What Apple looks at first: whether everything is valid now, and nobody signed who may not.
fn judge(chain: &[Certificate], now: Seconds) -> Result<()> {
    for (place, certificate) in chain.iter().enumerate() {
        let of = if place == 0 { "the MDM vendor's certificate" } else { "a certificate of the chain" };
        if now > certificate.not_after() {
            return Err(Error::invalid(format!(
                "{of} ({}) expired on {}; Apple would refuse the request. Have it signed with a current one",
                certificate.subject(),
                rfc3339(certificate.not_after())
            )));
        }
        if now < certificate.not_before() {
            return Err(Error::invalid(format!(
                "{of} ({}) is not valid before {}; compare this machine's clock",
                certificate.subject(),
                rfc3339(certificate.not_before())
            )));
        }
        if place > 0 && !certificate.is_ca() {
            return Err(Error::invalid(format!(
                "{} in the chain is not a certificate authority; give the intermediate that issued the vendor's certificate",
                certificate.subject()
            )));
        }
    }
    Ok(())
}

fn joined(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect()
}

fn placed(error: Error, place: &str) -> Error {
    match error {
        Error::Invalid { words, suggestion, .. } => {
            Error::Invalid { words, pointer: Some(place.to_owned()), suggestion }
        }
        other => other,
    }
}
