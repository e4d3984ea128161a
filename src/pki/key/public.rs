//! Public keys of devices, certificates and requests.
//!
//! Parsed once and kept by whoever verifies often: a device signs each of its requests.
//!
//! **Invariant:** a key exists only within the bounds of [`PublicKey::from_spki`], so no peer can
//! choose one that is trivial to forge or slow to verify with.

use std::fmt;
use std::sync::OnceLock;

use aws_lc_rs::signature::{self as sign, ParsedPublicKey, VerificationAlgorithm};

use super::super::asn1::Reader;
use super::{EC_PUBLIC_KEY, Family, Hash, KeyError, P256, P384, RSA_ENCRYPTION, scheme};

/// Somebody's public key, parsed once for each hash it is used with.
pub struct PublicKey {
    kind: PublicKind,
    /// PKCS #1 RSAPublicKey, or the point.
    bytes: Box<[u8]>,
    parsed: [OnceLock<Option<ParsedPublicKey>>; 4],
}

/// Kind and strength of a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicKind {
    Rsa { bits: usize },
    P256,
    P384,
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo: RSA of 1024 to 8192 bits with an odd exponent of 3 or more, or a
    /// point on P-256 or P-384.
    pub fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        let mut info = Reader::sequence(der)?;
        let (algorithm, parameters) = info.algorithm()?;
        let bytes = info.bits()?;
        info.end()?;
        let kind = match (algorithm, parameters) {
            (rsa, _) if rsa == RSA_ENCRYPTION.as_bytes() => PublicKind::Rsa { bits: rsa_bits(bytes)? },
            (ec, Some(curve)) if ec == EC_PUBLIC_KEY.as_bytes() => match curve.value {
                curve if curve == P256.as_bytes() => PublicKind::P256,
                curve if curve == P384.as_bytes() => PublicKind::P384,
                _ => return Err(KeyError::Weak),
            },
            _ => return Err(KeyError::Weak),
        };
        let key = Self { kind, bytes: bytes.into(), parsed: Default::default() };
        if key.parsed(Hash::Sha256).is_none() {
            return Err(KeyError::Unusable);
        }
        Ok(key)
    }

    pub fn kind(&self) -> PublicKind {
        self.kind
    }

    pub fn family(&self) -> Family {
        match self.kind {
            PublicKind::Rsa { .. } => Family::Rsa,
            PublicKind::P256 | PublicKind::P384 => Family::Ecdsa,
        }
    }

    /// Checks a signature over `message`: PKCS #1 v1.5, or ECDSA in ASN.1 form. ECDSA with SHA-1 on
    /// P-384, and SHA-384 with RSA below 2048 bits, are refused: nobody makes them.
    pub fn verify(&self, hash: Hash, message: &[u8], signature: &[u8]) -> Result<(), KeyError> {
        let key = self.parsed(hash).ok_or(KeyError::Algorithm)?;
        key.verify_sig(message, signature).map_err(|_| KeyError::BadSignature)
    }

    /// As [`PublicKey::verify`], by a signature algorithm identifier (encoded octets) that names a hash.
    pub fn verify_by(&self, algorithm: &[u8], message: &[u8], signature: &[u8]) -> Result<(), KeyError> {
        match scheme(algorithm) {
            Some((family, Some(hash))) if family == self.family() => self.verify(hash, message, signature),
            _ => Err(KeyError::Algorithm),
        }
    }

    fn parsed(&self, hash: Hash) -> Option<&ParsedPublicKey> {
        let slot = &self.parsed[hash as usize];
        slot.get_or_init(|| ParsedPublicKey::new(self.algorithm(hash)?, &self.bytes).ok()).as_ref()
    }

    fn algorithm(&self, hash: Hash) -> Option<&'static dyn VerificationAlgorithm> {
        Some(match (self.kind, hash) {
            (PublicKind::Rsa { .. }, Hash::Sha1) => &sign::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
            (PublicKind::Rsa { .. }, Hash::Sha256) => &sign::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
            (PublicKind::Rsa { .. }, Hash::Sha384) => &sign::RSA_PKCS1_2048_8192_SHA384,
            (PublicKind::Rsa { .. }, Hash::Sha512) => &sign::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
            (PublicKind::P256, Hash::Sha1) => &sign::ECDSA_P256_SHA1_ASN1,
            (PublicKind::P256, Hash::Sha256) => &sign::ECDSA_P256_SHA256_ASN1,
            (PublicKind::P256, Hash::Sha384) => &sign::ECDSA_P256_SHA384_ASN1,
            (PublicKind::P256, Hash::Sha512) => &sign::ECDSA_P256_SHA512_ASN1,
            (PublicKind::P384, Hash::Sha1) => return None,
            (PublicKind::P384, Hash::Sha256) => &sign::ECDSA_P384_SHA256_ASN1,
            (PublicKind::P384, Hash::Sha384) => &sign::ECDSA_P384_SHA384_ASN1,
            (PublicKind::P384, Hash::Sha512) => &sign::ECDSA_P384_SHA512_ASN1,
        })
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.bytes == other.bytes
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "PublicKey({:?})", self.kind)
    }
}

fn rsa_bits(key: &[u8]) -> Result<usize, KeyError> {
    let mut key = Reader::sequence(key)?;
    let (modulus, exponent) = (key.unsigned()?, key.unsigned()?);
    key.end()?;
    let first = modulus.first().ok_or(KeyError::Weak)?;
    // An exponent as long as the modulus makes each verification a thousand times as slow.
    let sound = match exponent {
        [] | [0..=2] => false,
        [.., last] => last % 2 == 1 && exponent.len() <= 4,
    };
    let bits = modulus.len().saturating_mul(8).saturating_sub(first.leading_zeros() as usize);
    if sound && (1024..=8192).contains(&bits) { Ok(bits) } else { Err(KeyError::Weak) }
}

#[cfg(test)]
mod tests {
    use super::super::super::asn1::{self, Oid, SEQUENCE};
    use super::*;

    fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
        let integer = |value: &[u8]| asn1::encode(asn1::INTEGER, &[&[0], value]);
        let key = asn1::encode(SEQUENCE, &[&integer(modulus), &integer(exponent)]);
        let bits = asn1::encode(asn1::BIT_STRING, &[&[0], &key]);
        asn1::encode(SEQUENCE, &[&asn1::algorithm_with_null(RSA_ENCRYPTION), &bits])
    }

    #[test]
    fn weak_and_monstrous_rsa_keys_are_refused() {
        for (length, exponent) in [
            (64, &[1_u8, 0, 1][..]),
            (2048, &[1, 0, 1]),
            (256, &[1]),
            (256, &[2]),
            (256, &[]),
            (256, &[0xff; 256]),
        ] {
            let spki = rsa_spki(&vec![0xff; length], exponent);
            assert_eq!(PublicKey::from_spki(&spki), Err(KeyError::Weak), "{length} {}", exponent.len());
        }
    }

    #[test]
    fn other_curves_and_points_off_the_curve_are_refused() {
        let spki = |curve: Oid, point: &[u8]| {
            let algorithm = asn1::encode(SEQUENCE, &[&asn1::oid(EC_PUBLIC_KEY), &asn1::oid(curve)]);
            asn1::encode(SEQUENCE, &[&algorithm, &asn1::encode(asn1::BIT_STRING, &[&[0], point])])
        };
        let off = [&[4_u8][..], &[7; 64]].concat();
        assert_eq!(PublicKey::from_spki(&spki(P256, &off)), Err(KeyError::Unusable));
        assert_eq!(PublicKey::from_spki(&spki(Oid::new_unwrap("1.3.132.0.10"), &off)), Err(KeyError::Weak));
    }
}
