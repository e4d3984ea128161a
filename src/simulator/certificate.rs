//! Certificates as a device reads them, and signatures by their keys (RFC 5280, RFC 8017).
//!
//! Only what enrollment needs: the names that identify a certificate in CMS, its public key, and
//! whether one certificate signed another. Used by [`super::cms`] and [`super::scep`].
//!
//! **Invariant:** chains to trusted roots are not judged here; TLS does that where it matters.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

use super::ber::{self, Malformed, Reader};

pub(super) const RSA: &str = "1.2.840.113549.1.1.1";
const EC: &str = "1.2.840.10045.2.1";
const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";
const BASIC_CONSTRAINTS: &str = "2.5.29.19";

/// A digest algorithm of CMS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    /// What devices up to iOS 9 and some later ones sign with.
    Sha1,
    /// What everything newer uses.
    Sha256,
    /// Only ever read.
    Sha384,
    /// Only ever read.
    Sha512,
}

impl Digest {
    const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    pub(super) fn oid(self) -> &'static str {
        match self {
            Self::Sha1 => "1.3.14.3.2.26",
            Self::Sha256 => "2.16.840.1.101.3.4.2.1",
            Self::Sha384 => "2.16.840.1.101.3.4.2.2",
            Self::Sha512 => "2.16.840.1.101.3.4.2.3",
        }
    }

    /// The OID of this digest with `rsaEncryption`.
    pub(super) fn with_rsa(self) -> &'static str {
        match self {
            Self::Sha1 => "1.2.840.113549.1.1.5",
            Self::Sha256 => "1.2.840.113549.1.1.11",
            Self::Sha384 => "1.2.840.113549.1.1.12",
            Self::Sha512 => "1.2.840.113549.1.1.13",
        }
    }

    fn with_ecdsa(self) -> &'static str {
        match self {
            Self::Sha1 => "1.2.840.10045.4.1",
            Self::Sha256 => "1.2.840.10045.4.3.2",
            Self::Sha384 => "1.2.840.10045.4.3.3",
            Self::Sha512 => "1.2.840.10045.4.3.4",
        }
    }

    /// From an OID element: of the digest itself or of a signature algorithm that names it.
    pub(super) fn named(oid: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|digest| {
            [digest.oid(), digest.with_rsa(), digest.with_ecdsa()]
                .iter()
                .any(|dotted| ber::oid(dotted).as_deref() == Some(oid))
        })
    }

    pub(super) fn of(self, bytes: &[u8]) -> Vec<u8> {
        use aws_lc_rs::digest;
        let algorithm = match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, bytes).as_ref().to_vec()
    }
}

/// The parts of a certificate, as the DER elements that they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Certificate<'a> {
    pub(super) serial: &'a [u8],
    pub(super) issuer: &'a [u8],
    pub(super) subject: &'a [u8],
    pub(super) spki: &'a [u8],
    pub(super) is_authority: bool,
    signed: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Certificate<'a> {
    pub(super) fn read(der: &'a [u8]) -> Result<Self, Malformed> {
        let mut outer = Reader(der).enter(ber::SEQUENCE)?;
        let signed = outer.expect(ber::SEQUENCE)?;
        let algorithm = outer.enter(ber::SEQUENCE)?.expect(ber::OID)?.whole;
        let signature = outer.expect(ber::BIT_STRING)?.content;
        let mut fields = Reader(signed.content);
        fields.optional(ber::CONTEXT_0)?;
        let serial = fields.expect(ber::INTEGER)?.whole;
        fields.expect(ber::SEQUENCE)?;
        let issuer = fields.expect(ber::SEQUENCE)?.whole;
        fields.expect(ber::SEQUENCE)?;
        let subject = fields.expect(ber::SEQUENCE)?.whole;
        let spki = fields.expect(ber::SEQUENCE)?.whole;
        let mut is_authority = false;
        while let Some(field) = fields.next()? {
            if field.tag == ber::CONTEXT_3 {
                is_authority = says_authority(Reader(field.content))?;
            }
        }
        let signature = signature.get(1..).ok_or(Malformed("an empty signature"))?;
        let signed = signed.whole;
        Ok(Self { serial, issuer, subject, spki, is_authority, signed, algorithm, signature })
    }

    /// Whether the key of `issuer` signed this certificate.
    pub(super) fn is_signed_by(&self, issuer: &Certificate) -> bool {
        self.issuer == issuer.subject
            && Digest::named(self.algorithm)
                .is_some_and(|digest| verifies(issuer.spki, digest, self.signed, self.signature))
    }

    pub(super) fn has_rsa_key(&self) -> bool {
        PublicKey::read(self.spki).is_ok_and(|key| ber::oid(RSA).as_deref() == Some(key.algorithm))
    }

    /// The RSAPublicKey or EC point.
    pub(super) fn public_key(&self) -> Result<&'a [u8], Malformed> {
        Ok(PublicKey::read(self.spki)?.bits)
    }
}

fn says_authority(mut explicit: Reader) -> Result<bool, Malformed> {
    let mut extensions = explicit.enter(ber::SEQUENCE)?;
    while let Some(extension) = extensions.next()? {
        let mut fields = Reader(extension.content);
        let id = fields.expect(ber::OID)?;
        fields.optional(ber::BOOLEAN)?;
        if Some(id.whole) == ber::oid(BASIC_CONSTRAINTS).as_deref() {
            let mut value = Reader(fields.expect(ber::OCTET_STRING)?.content).enter(ber::SEQUENCE)?;
            return Ok(value.optional(ber::BOOLEAN)?.is_some_and(|ca| ca.content == [0xff]));
        }
    }
    Ok(false)
}

/// A SubjectPublicKeyInfo, taken apart.
struct PublicKey<'a> {
    /// OID element.
    algorithm: &'a [u8],
    /// A whole element, or nothing.
    parameters: &'a [u8],
    /// RSAPublicKey or EC point.
    bits: &'a [u8],
}

impl<'a> PublicKey<'a> {
    fn read(spki: &'a [u8]) -> Result<Self, Malformed> {
        let mut info = Reader(spki).enter(ber::SEQUENCE)?;
        let mut fields = info.enter(ber::SEQUENCE)?;
        let algorithm = fields.expect(ber::OID)?.whole;
        let parameters = fields.next()?.map_or(&[][..], |element| element.whole);
        let bits = info.expect(ber::BIT_STRING)?.content;
        let bits = bits.get(1..).ok_or(Malformed("an empty public key"))?;
        Ok(Self { algorithm, parameters, bits })
    }
}

/// Whether `signature` over `message` is by the key of `spki`: RSA (PKCS #1 v1.5) or ECDSA.
pub(super) fn verifies(spki: &[u8], digest: Digest, message: &[u8], signature: &[u8]) -> bool {
    let Ok(PublicKey { algorithm: id, parameters, bits }) = PublicKey::read(spki) else { return false };
    let is = |element: &[u8], dotted| ber::oid(dotted).as_deref() == Some(element);
    let algorithm: &dyn VerificationAlgorithm = if is(id, RSA) {
        match digest {
            Digest::Sha1 => &signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
            Digest::Sha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Digest::Sha384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Digest::Sha512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        }
    } else if is(id, EC) && is(parameters, P256) {
        match digest {
            Digest::Sha256 => &signature::ECDSA_P256_SHA256_ASN1,
            Digest::Sha384 => &signature::ECDSA_P256_SHA384_ASN1,
            Digest::Sha1 | Digest::Sha512 => return false,
        }
    } else if is(id, EC) && is(parameters, P384) {
        match digest {
            Digest::Sha256 => &signature::ECDSA_P384_SHA256_ASN1,
            Digest::Sha384 => &signature::ECDSA_P384_SHA384_ASN1,
            Digest::Sha1 | Digest::Sha512 => return false,
        }
    } else {
        return false;
    };
    UnparsedPublicKey::new(algorithm, bits).verify(message, signature).is_ok()
}
