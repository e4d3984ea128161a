//! X.509 certificates of others: devices, push certificates, TLS files.
//!
//! More lenient than RFC 5280, because devices and old CAs are: serial numbers of any length and
//! sign, empty subjects, unknown critical extensions. What a certificate may be used for is decided
//! where it is used.
//!
//! **Invariant:** the DER is kept as it came; everything answered is a view of it.

use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::ops::Range;

use aws_lc_rs::digest::{SHA256, digest};

use super::asn1::{self, BOOLEAN, Malformed, OBJECT_IDENTIFIER, OCTET_STRING, Oid, Reader, SEQUENCE};
use super::key::{KeyError, PublicKey};
use super::name::Name;
use super::pem;
use crate::clock::Seconds;

const BASIC_CONSTRAINTS: Oid = Oid::new_unwrap("2.5.29.19");
const SUBJECT_ALT_NAME: Oid = Oid::new_unwrap("2.5.29.17");
const AUTHORITY_KEY_IDENTIFIER: Oid = Oid::new_unwrap("2.5.29.35");
const SUBJECT_KEY_IDENTIFIER: Oid = Oid::new_unwrap("2.5.29.14");

/// More extensions than this are refused.
const MAX_EXTENSIONS: usize = 64;
/// A certificate longer than this is refused.
const MAX_LENGTH: usize = 64 << 10;

/// Why a certificate cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    #[error("the certificate is damaged or not an X.509 certificate")]
    Malformed,
    #[error("there is no certificate in the text; give the PEM file that begins with BEGIN CERTIFICATE")]
    Missing,
    #[error(transparent)]
    Pem(#[from] pem::PemError),
}

impl From<Malformed> for CertificateError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// A certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Box<[u8]>,
    fingerprint: [u8; 32],
    serial: Range<usize>,
    issuer: Range<usize>,
    subject: Range<usize>,
    spki: Range<usize>,
    not_before: Seconds,
    not_after: Seconds,
}

/// The fields of a certificate, borrowed from its DER; cheap enough for each request.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    /// The part that is signed.
    pub tbs: &'a [u8],
    /// The value of the INTEGER, as encoded.
    pub serial: &'a [u8],
    /// The whole SEQUENCE.
    pub issuer: &'a [u8],
    pub not_before: Seconds,
    pub not_after: Seconds,
    /// The whole SEQUENCE.
    pub subject: &'a [u8],
    /// The whole SubjectPublicKeyInfo.
    pub spki: &'a [u8],
    extensions: Reader<'a>,
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Reads a Certificate (RFC 5280 section 4.1).
    pub fn read(der: &'a [u8]) -> Result<Self, Malformed> {
        if der.len() > MAX_LENGTH {
            return Err(Malformed);
        }
        let mut outer = Reader::sequence(der)?;
        let signed = outer.expect(SEQUENCE)?;
        let (algorithm, _) = outer.algorithm()?;
        let signature = outer.bits()?;
        outer.end()?;

        let mut tbs = Reader::new(signed.value);
        tbs.optional(asn1::constructed_context(0))?;
        let serial = tbs.value(asn1::INTEGER)?;
        let (inner_algorithm, _) = tbs.algorithm()?;
        let issuer = tbs.expect(SEQUENCE)?.whole;
        let mut validity = tbs.inside(SEQUENCE)?;
        let (not_before, not_after) = (validity.element()?.time()?, validity.element()?.time()?);
        let subject = tbs.expect(SEQUENCE)?.whole;
        let spki = tbs.expect(SEQUENCE)?.whole;
        tbs.optional(asn1::context(1))?;
        tbs.optional(asn1::context(2))?;
        let extensions = match tbs.optional(asn1::constructed_context(3))? {
            Some(extensions) => Reader::sequence(extensions.value)?,
            None => Reader::new(&[]),
        };
        tbs.end()?;
        if serial.is_empty() || inner_algorithm != algorithm {
            return Err(Malformed);
        }
        let tbs = signed.whole;
        let fields = Self {
            tbs,
            serial,
            issuer,
            not_before,
            not_after,
            subject,
            spki,
            extensions,
            algorithm,
            signature,
        };
        // Read here once, so that later a missing extension is missing and not unreadable.
        let mut extensions = fields.extensions;
        let mut count = 0;
        while !extensions.is_empty() {
            read_extension(&mut extensions)?;
            count += 1;
        }
        if count > MAX_EXTENSIONS { Err(Malformed) } else { Ok(fields) }
    }

    /// The value (inside of the OCTET STRING) of an extension.
    pub fn extension(&self, oid: Oid) -> Option<&'a [u8]> {
        let mut extensions = self.extensions;
        while let Ok((kind, value)) = read_extension(&mut extensions) {
            if kind == oid.as_bytes() {
                return Some(value);
            }
        }
        None
    }

    pub fn subject_key_identifier(&self) -> Option<&'a [u8]> {
        Reader::new(self.extension(SUBJECT_KEY_IDENTIFIER)?).value(OCTET_STRING).ok()
    }

    /// The identifier of the key that signed it (RFC 5280 section 4.2.1.1).
    pub fn authority_key_identifier(&self) -> Option<&'a [u8]> {
        let mut inside = Reader::sequence(self.extension(AUTHORITY_KEY_IDENTIFIER)?).ok()?;
        Some(inside.optional(asn1::context(0)).ok()??.value)
    }
}

fn read_extension<'a>(extensions: &mut Reader<'a>) -> Result<(&'a [u8], &'a [u8]), Malformed> {
    let mut extension = extensions.inside(SEQUENCE)?;
    let kind = extension.value(OBJECT_IDENTIFIER)?;
    extension.optional(BOOLEAN)?;
    let value = extension.value(OCTET_STRING)?;
    extension.end()?;
    Ok((kind, value))
}

impl Certificate {
    /// Reads a certificate as it came over the wire.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let fields = Fields::read(der)?;
        // Each part is a slice of `der`, so the distance of their addresses is its place in there.
        let place = |part: &[u8]| {
            let at = part.as_ptr().addr() - der.as_ptr().addr();
            at..at + part.len()
        };
        Ok(Self {
            fingerprint: fingerprint(der),
            serial: place(fields.serial),
            issuer: place(fields.issuer),
            subject: place(fields.subject),
            spki: place(fields.spki),
            not_before: fields.not_before,
            not_after: fields.not_after,
            der: der.into(),
        })
    }

    /// Reads the first certificate of a PEM text.
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        Self::all_from_pem(text)?.into_iter().next().ok_or(CertificateError::Missing)
    }

    /// Reads all certificates of a PEM text, in order.
    pub fn all_from_pem(text: &str) -> Result<Vec<Self>, CertificateError> {
        let is_certificate = |block: &pem::Block| {
            matches!(block.label.as_str(), "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE")
        };
        let blocks = pem::blocks(text)?;
        blocks.iter().filter(|block| is_certificate(block)).map(|block| Self::from_der(&block.der)).collect()
    }

    pub fn der(&self) -> &[u8] {
        &self.der
    }

    pub fn to_pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.der)
    }

    /// SHA-256 of the DER.
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// The octets of the serial number as encoded: big-endian, with a leading zero where the first bit is set.
    pub fn serial(&self) -> &[u8] {
        &self.der[self.serial.clone()]
    }

    /// The serial number in lower-case hexadecimal, without that zero.
    pub fn serial_hex(&self) -> String {
        let serial = match self.serial() {
            [0, rest @ ..] if !rest.is_empty() => rest,
            serial => serial,
        };
        hex(serial)
    }

    pub fn issuer(&self) -> Name<'_> {
        Name::new(&self.der[self.issuer.clone()])
    }

    pub fn subject(&self) -> Name<'_> {
        Name::new(&self.der[self.subject.clone()])
    }

    pub fn not_before(&self) -> Seconds {
        self.not_before
    }

    pub fn not_after(&self) -> Seconds {
        self.not_after
    }

    /// The SubjectPublicKeyInfo DER.
    pub fn spki(&self) -> &[u8] {
        &self.der[self.spki.clone()]
    }

    pub fn public_key(&self) -> Result<PublicKey, KeyError> {
        PublicKey::from_spki(self.spki())
    }

    /// Whether `issuer` signed this certificate. Dates and names are not looked at.
    pub fn verify_signed_by(&self, issuer: &PublicKey) -> Result<(), KeyError> {
        let fields = Fields::read(&self.der)?;
        issuer.verify_by(fields.algorithm, fields.tbs, fields.signature)
    }

    /// The value (inside of the OCTET STRING) of an extension.
    pub fn extension(&self, oid: Oid) -> Option<&[u8]> {
        Fields::read(&self.der).ok()?.extension(oid)
    }

    /// The identifier of the key that signed it (RFC 5280 section 4.2.1.1).
    pub fn authority_key_identifier(&self) -> Option<&[u8]> {
        Fields::read(&self.der).ok()?.authority_key_identifier()
    }

    /// Whether basicConstraints says CA.
    pub fn is_ca(&self) -> bool {
        let says_ca = |value| Reader::sequence(value).and_then(|mut inside| inside.value(BOOLEAN));
        self.extension(BASIC_CONSTRAINTS).is_some_and(|value| matches!(says_ca(value), Ok([1..=0xff])))
    }

    /// The dNSName entries of subjectAltName.
    pub fn dns_names(&self) -> Vec<String> {
        self.alternative_names(asn1::context(2))
    }

    /// The uniformResourceIdentifier entries of subjectAltName.
    pub fn uris(&self) -> Vec<String> {
        self.alternative_names(asn1::context(6))
    }

    /// The iPAddress entries of subjectAltName.
    pub fn ip_addresses(&self) -> Vec<IpAddr> {
        let address = |value: &[u8]| match value.len() {
            4 => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        };
        self.names_tagged(asn1::context(7)).filter_map(address).collect()
    }

    fn alternative_names(&self, tag: u8) -> Vec<String> {
        self.names_tagged(tag)
            .filter_map(|value| std::str::from_utf8(value).ok().map(str::to_owned))
            .collect()
    }

    fn names_tagged(&self, tag: u8) -> impl Iterator<Item = &[u8]> {
        let value = self.extension(SUBJECT_ALT_NAME).unwrap_or_default();
        let mut names = Reader::sequence(value).unwrap_or(Reader::new(&[]));
        std::iter::from_fn(move || names.element().ok())
            .filter(move |name| name.tag == tag)
            .map(|name| name.value)
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Certificate({}, {})", self.subject(), self.serial_hex())
    }
}

/// SHA-256 of a certificate's DER, which names it in the program and the database.
pub fn fingerprint(der: &[u8]) -> [u8; 32] {
    let mut print = [0; 32];
    print.copy_from_slice(digest(&SHA256, der).as_ref());
    print
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::name::USER_ID;
    use super::*;

    const CA: &str = include_str!("../../tests/fixtures/cms/ca.crt");
    const RSA: &str = include_str!("../../tests/fixtures/cms/rsa.crt");
    const ODD: &str = include_str!("../../tests/fixtures/cms/odd.crt");

    #[test]
    fn a_certificate_is_read_as_openssl_wrote_it() {
        let (ca, leaf) = (Certificate::from_pem(CA).unwrap(), Certificate::from_pem(RSA).unwrap());
        assert!(ca.is_ca() && !leaf.is_ca());
        assert_eq!(leaf.subject().to_string(), "CN=device\\, one,UID=com.apple.mgmt.External.1");
        assert_eq!(leaf.subject().attribute(USER_ID).as_deref(), Some("com.apple.mgmt.External.1"));
        assert_eq!(leaf.issuer().der(), ca.subject().der());
        assert_eq!(leaf.dns_names(), ["one.example.org", "two.example.org"]);
        assert_eq!(leaf.uris(), ["urn:example:session"]);
        assert!(leaf.not_before() < leaf.not_after());
        assert_eq!(leaf.verify_signed_by(&ca.public_key().unwrap()), Ok(()));
        assert_eq!(ca.verify_signed_by(&leaf.public_key().unwrap()), Err(KeyError::BadSignature));
        assert_eq!(Certificate::from_pem(&leaf.to_pem()), Ok(leaf));
    }

    #[test]
    fn an_empty_subject_and_a_serial_of_32_octets_are_no_obstacle() {
        let odd = Certificate::from_pem(ODD).unwrap();
        assert_eq!(odd.subject().to_string(), "");
        assert_eq!(odd.serial_hex(), "f1".repeat(32));
        assert_eq!(odd.serial().len(), 33);
    }

    #[test]
    fn a_text_without_certificates_says_so() {
        assert_eq!(Certificate::from_pem("nothing"), Err(CertificateError::Missing));
        let key = include_str!("../../tests/fixtures/cms/rsa.key");
        assert_eq!(Certificate::from_pem(key), Err(CertificateError::Missing));
    }

    proptest! {
        #[test]
        fn a_damaged_certificate_never_panics(at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()) {
            let whole = Certificate::from_pem(RSA).unwrap();
            let mut der = whole.der().to_vec();
            let index = at.index(der.len());
            der[index] = byte;
            if let Ok(read) = Certificate::from_der(&der) {
                let _ = (read.subject().to_string(), read.dns_names(), read.is_ca(), read.serial_hex());
                if let Ok(key) = read.public_key() {
                    let _ = read.verify_signed_by(&key);
                }
            }
            prop_assert!(Certificate::from_der(&whole.der()[..cut.index(whole.der().len())]).is_err());
        }
    }
}
