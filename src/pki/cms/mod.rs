//! CMS (RFC 5652): signed and enveloped messages of devices, SCEP clients and Apple's portals.
//!
//! [`Signed`] reads and verifies, [`sign_attached`] makes SignedData; [`decrypt`] and [`encrypt`] are for
//! EnvelopedData. Both read
//! DER: pass what was received through [`super::ber::to_der`] first, or use the functions that do.
//!
//! **Invariant:** verification proves that the holder of the embedded certificate's key signed these
//! bytes, and nothing else. Chain, dates and revocation are the caller's.

mod enveloped;
mod held;
mod sign;
mod signed;
mod verify;

use super::asn1::{self, Malformed, OBJECT_IDENTIFIER, OCTET_STRING, Oid, Reader, SEQUENCE};
use super::ber::BerError;
use super::certificate::CertificateError;
use super::key::KeyError;

pub use enveloped::{Cipher, decrypt, encrypt};
pub use held::{Held, held};
pub use sign::{Signer, certs_only, sign_attached, sign_detached};
pub use signed::{Signed, certificates};
pub use verify::{Verified, verify_attached, verify_detached};

const DATA: Oid = Oid::new_unwrap("1.2.840.113549.1.7.1");
const SIGNED_DATA: Oid = Oid::new_unwrap("1.2.840.113549.1.7.2");
const ENVELOPED_DATA: Oid = Oid::new_unwrap("1.2.840.113549.1.7.3");

/// Why a CMS message is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CmsError {
    #[error("the CMS message is damaged or of another type than is expected here")]
    Malformed,
    #[error(transparent)]
    Ber(#[from] BerError),
    #[error("the CMS message has {0} signers; exactly one must sign")]
    Signers(usize),
    #[error(
        "the CMS message carries more than {} certificates; send the signer's and its chain",
        signed::MAX_CERTIFICATES
    )]
    TooManyCertificates,
    #[error("the signer's certificate is not in the CMS message; it must be included")]
    SignerMissing,
    #[error("the signature embeds its content; a detached signature is expected here")]
    Attached,
    #[error("the signature has no content; it must be embedded here")]
    Detached,
    #[error(
        "the CMS message uses an algorithm that is not accepted; use RSA PKCS #1 v1.5 or ECDSA with SHA-2, and AES-CBC"
    )]
    Algorithm,
    #[error("the signature is over other content: its messageDigest does not match")]
    DigestMismatch,
    #[error("the signed attributes are incomplete, repeated or contradict the message")]
    Attributes,
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(
        "the CMS message is encrypted for another certificate; fetch the current one and encrypt for that"
    )]
    Recipient,
    #[error("the CMS message cannot be decrypted")]
    Decrypt,
}

impl From<Malformed> for CmsError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// A reader of the inside of a ContentInfo that must hold this type.
fn open(der: &[u8], kind: Oid) -> Result<Reader<'_>, CmsError> {
    let mut info = Reader::sequence(der)?;
    if info.value(OBJECT_IDENTIFIER)? != kind.as_bytes() {
        return Err(CmsError::Malformed);
    }
    let mut explicit = info.inside(asn1::constructed_context(0))?;
    info.end()?;
    let inside = explicit.inside(SEQUENCE)?;
    explicit.end()?;
    Ok(inside)
}

/// A ContentInfo of this type around the parts of its SEQUENCE.
fn content_info(kind: Oid, parts: &[&[u8]]) -> Vec<u8> {
    let content = asn1::encode(SEQUENCE, parts);
    let explicit = asn1::encode(asn1::constructed_context(0), &[&content]);
    asn1::encode(SEQUENCE, &[&asn1::oid(kind), &explicit])
}

/// IssuerAndSerialNumber of a certificate.
fn issuer_and_serial(certificate: &super::certificate::Certificate) -> Vec<u8> {
    let serial = asn1::encode(asn1::INTEGER, &[certificate.serial()]);
    asn1::encode(SEQUENCE, &[certificate.issuer().der(), &serial])
}

/// How a message names a certificate.
#[derive(Clone, Copy)]
enum Identifier<'a> {
    IssuerAndSerial { issuer: &'a [u8], serial: &'a [u8] },
    SubjectKeyIdentifier(&'a [u8]),
}

impl<'a> Identifier<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        if let Some(key) = reader.optional(asn1::context(0))? {
            return Ok(Self::SubjectKeyIdentifier(key.value));
        }
        let mut inside = reader.inside(SEQUENCE)?;
        let issuer = inside.expect(SEQUENCE)?.whole;
        let serial = inside.value(asn1::INTEGER)?;
        inside.end()?;
        Ok(Self::IssuerAndSerial { issuer, serial })
    }

    fn names(&self, certificate: &super::certificate::Fields<'_>) -> bool {
        match *self {
            Self::IssuerAndSerial { issuer, serial } => {
                certificate.issuer == issuer && certificate.serial == serial
            }
            Self::SubjectKeyIdentifier(key) => certificate.subject_key_identifier() == Some(key),
        }
    }
}

/// Joins the pieces of an implicitly tagged OCTET STRING, which [`super::ber`] leaves as elements.
fn join_pieces(pieces: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut reader = Reader::new(pieces);
    let mut joined = Vec::with_capacity(pieces.len());
    while !reader.is_empty() {
        joined.extend_from_slice(reader.value(OCTET_STRING)?);
    }
    Ok(joined)
}
