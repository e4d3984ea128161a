//! What is inside the files of an import: certificates and private keys.
//!
//! `pair.rs` hands over what a person chose: `.pem` (certificate, chain and key in any
//! order), `.cer` and `.key` in DER, `.p12` (RFC 7292) with its password, or base64 of any of them.
//!
//! **Invariant:** at most [`MAX_FILE`] bytes a file and [`MAX_PARTS`] certificates and keys are looked at,
//! and no .p12 is opened that asks for more than [`MOST_ITERATIONS`].

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use p12_keystore::Pkcs12Archive;
use rustls::pki_types::pem::{self, SectionKind};

use crate::error::{Error, Result};
use crate::pki::asn1::{INTEGER, OCTET_STRING, Reader};
use crate::pki::certificate::Certificate;
use crate::pki::key::{PrivateKey, PublicKey};
use crate::pki::scep::csr::Csr;

/// Where the API's body has what is wrong.
pub(super) const CERTIFICATE: &str = "/certificate";
pub(super) const PRIVATE_KEY: &str = "/private_key";
const PASSWORD: &str = "/password";

/// A hundred times what programs ask for, and less than a second of work.
const MOST_ITERATIONS: u64 = 200_000;
/// The bit of a tag that says that elements are inside.
const CONSTRUCTED: u8 = 0x20;

const MAX_FILE: usize = 256 * 1024;
const MAX_PARTS: usize = 16;

/// Opens a .p12 and finds a certificate and its key in it.
///
/// # Errors
/// `Invalid` in words, without a pointer: it cannot be read, has another password, or lacks one of the two.
pub fn check_identity(p12: &[u8], password: &str) -> Result<()> {
    let bundle = Bundle::read(&[p12], Some(password)).map_err(|error| match error {
        Error::Invalid { words, suggestion, .. } => Error::Invalid { words, pointer: None, suggestion },
        error => error,
    })?;
    let has_key = |certificate: &Vec<u8>| {
        let certificate = Certificate::from_der(certificate).ok();
        let own = certificate.and_then(|certificate| certificate.public_key().ok());
        let mut keys =
            bundle.keys.iter().filter_map(|key| PublicKey::from_spki(&key.public_key_info().ok()?).ok());
        own.is_some_and(|own| keys.any(|key| key == own))
    };
    if !bundle.certificates.iter().any(has_key) {
        return Err(Error::invalid("the .p12 file has no certificate together with its private key"));
    }
    Ok(())
}

/// The certificates (DER) and keys of an import, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Bundle {
    pub(super) certificates: Vec<Vec<u8>>,
    pub(super) keys: Vec<PrivateKey>,
}

impl Bundle {
    /// Reads all `files`; `password` is for `.p12` files. Errors point into the API's body, where the
    /// first file is `certificate` and any other `private_key`.
    pub(super) fn read(files: &[&[u8]], password: Option<&str>) -> Result<Self> {
        let mut bundle = Self::default();
        for (index, file) in files.iter().enumerate() {
            let place = if index == 0 { CERTIFICATE } else { PRIVATE_KEY };
            bundle.add(file, password).map_err(|error| match error {
                Error::Invalid { words, pointer: None, .. } => Error::invalid_at(place, words),
                pointed => pointed,
            })?;
        }
        Ok(bundle)
    }

    fn add(&mut self, file: &[u8], password: Option<&str>) -> Result<()> {
        if file.len() > MAX_FILE {
            return Err(Error::invalid(
                "a certificate or key file is larger than 256 KiB; choose the right file",
            ));
        }
        let text = file.trim_ascii();
        if contains(text, b"-----BEGIN ") {
            return self.add_pem(text);
        }
        // Every DER form begins with a SEQUENCE.
        if text.first() == Some(&0x30) && file.first() == Some(&0x30) {
            return self.add_der(file, password);
        }
        let joined: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        match STANDARD.decode(joined) {
            Ok(inner) if inner.first() == Some(&0x30) => self.add_der(&inner, password),
            Ok(inner) if contains(&inner, b"PushCertRequestCSR") => Err(is_signed_request()),
            Ok(inner) if contains(&inner, b"-----BEGIN ") => self.add_pem(&inner),
            _ if contains(text, b"PushCertRequestCSR") => Err(is_signed_request()),
            _ => Err(Error::invalid(
                "this is neither a certificate nor a key; give the .pem, .cer or .p12 file from Apple's portal and \
                 the private key that was made with the request",
            )),
        }
    }

    fn add_pem(&mut self, mut text: &[u8]) -> Result<()> {
        // PKCS#8, and the older form with headers (RFC 1421 section 4.6.1.1).
        if contains(text, b"BEGIN ENCRYPTED PRIVATE KEY") || contains(text, b"4,ENCRYPTED") {
            return Err(Error::invalid(
                "the private key is encrypted; decrypt it with `openssl pkey -in KEY.pem -out PLAIN.pem` and import \
                 that file",
            ));
        }
        while let Some((kind, der)) = pem::from_buf(&mut text).map_err(|_| {
            Error::invalid("a PEM block is damaged; copy the file again, from BEGIN line to END line")
        })? {
            match kind {
                SectionKind::Certificate => self.certificate(der)?,
                SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
                    self.key(&der)?;
                }
                SectionKind::Csr => return Err(is_request()),
                _ => {}
            }
        }
        Ok(())
    }

    fn add_der(&mut self, der: &[u8], password: Option<&str>) -> Result<()> {
        if Certificate::from_der(der).is_ok() {
            return self.certificate(der.to_vec());
        }
        if let Ok(key) = PrivateKey::from_der(der) {
            return self.push_key(key);
        }
        if Csr::from_der(der).is_ok() {
            return Err(is_request());
        }
        if is_too_much_work(der) {
            return Err(Error::invalid(format!(
                "the .p12 file asks for more than {MOST_ITERATIONS} iterations to open it; make it anew with \
                 `openssl pkcs12 -export`, or convert it to PEM"
            )));
        }
        let archive = Pkcs12Archive::from_pkcs12(der, password.unwrap_or_default()).map_err(
            |source| match (&source, password) {
                (p12_keystore::error::Error::MacError(_), None) => {
                    Error::invalid_at(PASSWORD, "the .p12 file has a password; give it with --password-file")
                }
                (p12_keystore::error::Error::MacError(_), Some(_)) => {
                    Error::invalid_at(PASSWORD, "the password of the .p12 file is wrong")
                }
                _ => Error::invalid(
                    "the file is neither a certificate, a key nor a .p12 that can be read; convert it with \
                     `openssl pkcs12 -in FILE.p12 -nodes -out FILE.pem` and import that",
                ),
            },
        )?;
        for bag in archive.certs {
            self.certificate(bag.cert.as_der().to_vec())?;
        }
        for bag in archive.keys {
            self.key(bag.key.as_der())?;
        }
        Ok(())
    }

    fn certificate(&mut self, der: Vec<u8>) -> Result<()> {
        if self.certificates.len() == MAX_PARTS {
            return Err(too_many());
        }
        // The same certificate twice (a `.cer` beside the `.p12`) is one certificate.
        if !self.certificates.contains(&der) {
            self.certificates.push(der);
        }
        Ok(())
    }

    fn key(&mut self, der: &[u8]) -> Result<()> {
        self.push_key(PrivateKey::from_der(der).map_err(|_| {
            Error::invalid(
                "the private key cannot be read: it has to be RSA of 2048 bits or more, or EC P-256 or P-384",
            )
        })?)
    }

    fn push_key(&mut self, key: PrivateKey) -> Result<()> {
        if self.keys.len() == MAX_PARTS {
            return Err(too_many());
        }
        self.keys.push(key);
        Ok(())
    }
}

/// Whether a .p12 says of anything in it that shows before it is decrypted that its key takes too many
/// iterations to derive (RFC 7292 section 4, RFC 8018 appendix A): there they stand behind a salt.
fn is_too_much_work(der: &[u8]) -> bool {
    let is_too_many = |octets: &[u8]| {
        let number = octets.iter().fold(0_u64, |sum, octet| sum.saturating_mul(256) | u64::from(*octet));
        number > MOST_ITERATIONS
    };
    let mut waiting = vec![der];
    while let Some(inside) = waiting.pop() {
        let (mut reader, mut after_salt) = (Reader::new(inside), false);
        while let Ok(element) = reader.element() {
            if after_salt && element.tag == INTEGER && is_too_many(element.value) {
                return true;
            }
            after_salt = element.tag == OCTET_STRING;
            // Contents are structures inside an OCTET STRING; salts and ciphertexts are not.
            let is_structure = after_salt && Reader::sequence(element.value).is_ok();
            if element.tag & CONSTRUCTED != 0 || is_structure {
                waiting.push(element.value);
            }
        }
    }
    false
}

fn is_request() -> Error {
    Error::invalid(
        "this is the signing request, not the certificate; have it signed by an MDM vendor, upload that at \
         identity.apple.com/pushcert and import what you download there",
    )
}

fn is_signed_request() -> Error {
    Error::invalid(
        "this is the signed request, not the certificate; upload it at identity.apple.com/pushcert and import what you \
         download there",
    )
}

fn too_many() -> Error {
    Error::invalid(
        "there are more than 16 certificates or keys in these files; give only the push certificate, its chain and \
         its key",
    )
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
