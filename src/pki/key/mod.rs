//! Keys: our private ones, and the public ones of devices.
//!
//! RSA with PKCS #1 v1.5 and ECDSA on P-256 and P-384 are what Apple's devices and services use.
//! SHA-1 is accepted in verification only (old devices sign `Mdm-Signature` and SCEP with it).
//!
//! **Invariant:** MD5 and every other algorithm have no name here, so they cannot be accepted.

mod private;
mod public;

use aws_lc_rs::digest::{self, Digest};

use super::asn1::{Malformed, Oid};

pub use aws_lc_rs::rsa::KeySize as RsaSize;
pub use private::PrivateKey;
pub use public::{PublicKey, PublicKind};

pub const RSA_ENCRYPTION: Oid = Oid::new_unwrap("1.2.840.113549.1.1.1");
pub const EC_PUBLIC_KEY: Oid = Oid::new_unwrap("1.2.840.10045.2.1");
const P256: Oid = Oid::new_unwrap("1.2.840.10045.3.1.7");
const P384: Oid = Oid::new_unwrap("1.3.132.0.34");

/// Why a key cannot be used, or a signature is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("there is no private key in the text; give the PEM file that begins with BEGIN PRIVATE KEY")]
    NoKey,
    #[error("the private key is encrypted; decrypt it first: openssl pkey -in key.pem -out plain.pem")]
    Encrypted,
    #[error(
        "the key is damaged, or neither RSA (2048 to 8192 bits) nor ECDSA on P-256 or P-384; make another"
    )]
    Unusable,
    #[error(
        "the public key is not RSA of 1024 to 8192 bits with a sound exponent, nor ECDSA on P-256 or P-384"
    )]
    Weak,
    #[error("the algorithm is not one for this key; use RSA PKCS #1 v1.5 or ECDSA with SHA-2")]
    Algorithm,
    #[error("the signature does not match")]
    BadSignature,
    #[error("generating random numbers or keys failed; the system is short of something")]
    Failed,
}

impl From<Malformed> for KeyError {
    fn from(_: Malformed) -> Self {
        Self::Unusable
    }
}

/// A hash function of signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// Accepted from old devices, never made.
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    /// The digest of `message`.
    pub fn digest(self, message: &[u8]) -> Digest {
        let algorithm = match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, message)
    }

    /// The identifier of the digest algorithm, as in CMS.
    pub const fn oid(self) -> Oid {
        match self {
            Self::Sha1 => Oid::new_unwrap("1.3.14.3.2.26"),
            Self::Sha256 => Oid::new_unwrap("2.16.840.1.101.3.4.2.1"),
            Self::Sha384 => Oid::new_unwrap("2.16.840.1.101.3.4.2.2"),
            Self::Sha512 => Oid::new_unwrap("2.16.840.1.101.3.4.2.3"),
        }
    }

    /// The hash with this identifier (encoded octets); `None` for MD5 and all others.
    pub fn from_oid(oid: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| hash.oid().as_bytes() == oid)
    }
}

/// The two kinds of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Rsa,
    Ecdsa,
}

/// What a signature algorithm identifier (encoded octets) says: the family and, unless it is left to
/// another field, the hash.
pub fn scheme(oid: &[u8]) -> Option<(Family, Option<Hash>)> {
    const SCHEMES: [(Oid, Family, Option<Hash>); 10] = [
        (RSA_ENCRYPTION, Family::Rsa, None),
        (Oid::new_unwrap("1.2.840.113549.1.1.5"), Family::Rsa, Some(Hash::Sha1)),
        (Oid::new_unwrap("1.2.840.113549.1.1.11"), Family::Rsa, Some(Hash::Sha256)),
        (Oid::new_unwrap("1.2.840.113549.1.1.12"), Family::Rsa, Some(Hash::Sha384)),
        (Oid::new_unwrap("1.2.840.113549.1.1.13"), Family::Rsa, Some(Hash::Sha512)),
        // Apple's own CMS library names the key's algorithm for ECDSA too.
        (EC_PUBLIC_KEY, Family::Ecdsa, None),
        (Oid::new_unwrap("1.2.840.10045.4.1"), Family::Ecdsa, Some(Hash::Sha1)),
        (Oid::new_unwrap("1.2.840.10045.4.3.2"), Family::Ecdsa, Some(Hash::Sha256)),
        (Oid::new_unwrap("1.2.840.10045.4.3.3"), Family::Ecdsa, Some(Hash::Sha384)),
        (Oid::new_unwrap("1.2.840.10045.4.3.4"), Family::Ecdsa, Some(Hash::Sha512)),
    ];
    let (_, family, hash) = SCHEMES.iter().find(|(known, ..)| known.as_bytes() == oid)?;
    Some((*family, *hash))
}
