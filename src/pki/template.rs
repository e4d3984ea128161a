//! What all certificates that we make have in common.
//!
//! `authority` and `tls_authority` fill it in. Names keep to X.520's bounds, serial numbers are 127
//! random bits (RFC 5280 section 4.1.2.2 asks for at most 20 octets), keys are of the kinds that
//! Apple accepts.
//!
//! **Invariant:** none of the defaults of the library that writes the certificates reaches one: it
//! would date them from 1975 to 4096 and number them by their key.

use std::fmt;

use aws_lc_rs::rsa::PublicEncryptingKey;
use der::Decode;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, PublicKeyData, SerialNumber, SignatureAlgorithm,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use time::OffsetDateTime;
use x509_cert::spki::{ObjectIdentifier, SubjectPublicKeyInfoOwned};
use x509_cert::{Certificate, TbsCertificate};

use crate::clock::{self, Seconds, rfc3339};
use crate::error::{Error, Result};
use crate::id;

/// A certificate of our own with its key.
#[derive(Clone)]
pub struct Certified {
    /// X.509, DER.
    pub certificate: Vec<u8>,
    /// PKCS#8, DER.
    pub key_pkcs8: Vec<u8>,
}

impl fmt::Debug for Certified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certified(…)")
    }
}

/// The public key of a request.
pub(super) struct DeviceKey {
    bytes: Vec<u8>,
    algorithm: &'static SignatureAlgorithm,
}

impl DeviceKey {
    /// Reads a SubjectPublicKeyInfo (DER), and refuses keys that no device should have.
    pub(super) fn parse(spki_der: &[u8]) -> Result<Self> {
        const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
        const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
        const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
        const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
        let refused = || {
            Error::invalid(
                "the public key is not accepted; make an RSA key of at least 2048 bits, or P-256 or P-384",
            )
        };
        let spki = SubjectPublicKeyInfoOwned::from_der(spki_der).map_err(|_| refused())?;
        let curve =
            || spki.algorithm.parameters.as_ref().and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
        let algorithm = match (spki.algorithm.oid, curve()) {
            (RSA, _) => {
                // Refuses sizes outside 2048 to 8192 bits and exponents that make a key worthless.
                PublicEncryptingKey::from_der(spki_der).map_err(|_| refused())?;
                &PKCS_RSA_SHA256
            }
            (EC, Some(P256)) => &PKCS_ECDSA_P256_SHA256,
            (EC, Some(P384)) => &PKCS_ECDSA_P384_SHA384,
            _ => return Err(refused()),
        };
        let bytes = spki.subject_public_key.as_bytes().ok_or_else(refused)?.to_vec();
        Ok(Self { bytes, algorithm })
    }
}

impl PublicKeyData for DeviceKey {
    fn der_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

/// `<organization><suffix>`, within the 64 characters that X.520 allows.
pub(super) fn common_name(organization: &str, suffix: &str) -> String {
    let organization = if organization.trim().is_empty() { "Russet" } else { organization.trim() };
    let room = 64_usize.saturating_sub(suffix.chars().count());
    organization.chars().take(room).chain(suffix.chars()).take(64).collect()
}

/// What all our certificates share: a name, a random serial number of 127 bits, both dates.
pub(super) fn template(name: &str, not_before: Seconds, not_after: Seconds) -> Result<CertificateParams> {
    let at = |seconds| {
        OffsetDateTime::from_unix_timestamp(seconds).map_err(|source| {
            Error::caused("a certificate cannot be dated so far away; check the clock", source)
        })
    };
    let mut serial = id::random::<16>();
    // Positive, and never with leading zeros, which DER would have to leave out.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = at(not_before)?;
    params.not_after = at(not_after)?;
    Ok(params)
}

/// A self-signed certificate with its key.
pub(super) fn self_signed(params: &CertificateParams, key: &KeyPair) -> Result<Certified> {
    let certificate = params.self_signed(key).map_err(not_made)?;
    Ok(Certified { certificate: certificate.der().to_vec(), key_pkcs8: key.serialize_der() })
}

/// What `own`, one of our CAs with nothing but a common name, signs with.
pub(super) fn issuer(certificate: &TbsCertificate, own: &Certified) -> Result<Issuer<'static, KeyPair>> {
    let key = KeyPair::try_from(&PrivatePkcs8KeyDer::from(own.key_pkcs8.as_slice())).map_err(damaged)?;
    let name = certificate.subject().common_name().map_err(damaged)?;
    let name =
        name.ok_or_else(|| Error::internal("the certificate of an authority has no name; restore a backup"))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name.value());
    Ok(Issuer::new(params, key))
}

/// Reads one of our own certificates.
pub(super) fn parse(der: &[u8]) -> Result<TbsCertificate> {
    Ok(Certificate::from_der(der).map_err(damaged)?.tbs_certificate().clone())
}

/// Both dates of a certificate.
pub(super) fn validity(certificate: &TbsCertificate) -> (Seconds, Seconds) {
    let seconds =
        |time: &x509_cert::time::Time| i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
    (seconds(&certificate.validity().not_before), seconds(&certificate.validity().not_after))
}

/// Refuses a time that cannot be right: its certificates would be worthless, or valid for ever.
pub(super) fn sane(now: Seconds) -> Result<()> {
    if clock::is_sane(now) {
        return Ok(());
    }
    Err(Error::internal(format!(
        "this machine's clock says {}, so no certificate is issued; set the time (NTP)",
        rfc3339(now)
    )))
}

/// A library refused to make a key or a certificate.
pub(super) fn not_made(source: rcgen::Error) -> Error {
    Error::caused("a certificate could not be made", source)
}

/// What the database holds of an authority cannot be read.
pub(super) fn damaged(source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::caused("the certificate or key of an authority is damaged; restore a backup", source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_what_x520_allows() {
        assert_eq!(common_name("  ", " Enrollment CA"), "Russet Enrollment CA");
        let long = common_name(&"é".repeat(200), " Enrollment CA");
        assert_eq!(long.chars().count(), 64);
        assert!(long.ends_with("é Enrollment CA"));
    }
}
