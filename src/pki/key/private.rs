//! Our private keys: of the authorities, of profile signing, of push certificates.
//!
//! Read from PKCS #8 and from the PEM forms that people have; kept sealed in the database.
//!
//! **Invariant:** a private key is never printed: `Debug` shows `…`.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, Pkcs1PrivateDecryptingKey, PrivateDecryptingKey};
use aws_lc_rs::signature::{self as sign, EcdsaKeyPair, KeyPair};

use super::super::asn1::{self, OBJECT_IDENTIFIER, OCTET_STRING, Reader, SEQUENCE};
use super::super::pem;
use super::{EC_PUBLIC_KEY, Family, Hash, KeyError, P256, P384, RSA_ENCRYPTION, RsaSize};

/// One of our private keys.
pub struct PrivateKey {
    pkcs8: Vec<u8>,
    kind: PrivateKind,
}

enum PrivateKind {
    Rsa { signing: rsa::KeyPair, opening: Pkcs1PrivateDecryptingKey },
    Ecdsa { signing: EcdsaKeyPair, hash: Hash },
}

impl PrivateKey {
    /// A new RSA key. Takes 0.1 to 2 s of CPU: call it where blocking is allowed.
    pub fn generate_rsa(size: RsaSize) -> Result<Self, KeyError> {
        let key = PrivateDecryptingKey::generate(size).map_err(|_| KeyError::Failed)?;
        let pkcs8: Pkcs8V1Der<'_> = key.as_der().map_err(|_| KeyError::Failed)?;
        Self::from_pkcs8(pkcs8.as_ref())
    }

    /// A new ECDSA key on P-256.
    pub fn generate_p256() -> Result<Self, KeyError> {
        let key =
            EcdsaKeyPair::generate(&sign::ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|_| KeyError::Failed)?;
        let pkcs8 = key.to_pkcs8v1().map_err(|_| KeyError::Failed)?;
        Self::from_pkcs8(pkcs8.as_ref())
    }

    /// Reads an unencrypted PKCS #8 PrivateKeyInfo.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let mut info = Reader::sequence(der)?;
        info.value(asn1::INTEGER)?;
        let (algorithm, parameters) = info.algorithm()?;
        let kind = if algorithm == RSA_ENCRYPTION.as_bytes() {
            let signing = rsa::KeyPair::from_pkcs8(der).map_err(|_| KeyError::Unusable)?;
            let opening = PrivateDecryptingKey::from_pkcs8(der).map_err(|_| KeyError::Unusable)?;
            let opening = Pkcs1PrivateDecryptingKey::new(opening).map_err(|_| KeyError::Unusable)?;
            PrivateKind::Rsa { signing, opening }
        } else if algorithm == EC_PUBLIC_KEY.as_bytes() {
            let curve =
                parameters.filter(|curve| curve.tag == OBJECT_IDENTIFIER).ok_or(KeyError::Unusable)?;
            let (algorithm, hash) = match curve.value {
                curve if curve == P256.as_bytes() => (&sign::ECDSA_P256_SHA256_ASN1_SIGNING, Hash::Sha256),
                curve if curve == P384.as_bytes() => (&sign::ECDSA_P384_SHA384_ASN1_SIGNING, Hash::Sha384),
                _ => return Err(KeyError::Unusable),
            };
            let signing = EcdsaKeyPair::from_pkcs8(algorithm, der).map_err(|_| KeyError::Unusable)?;
            PrivateKind::Ecdsa { signing, hash }
        } else {
            return Err(KeyError::Unusable);
        };
        Ok(Self { pkcs8: der.to_vec(), kind })
    }

    /// Reads the first private key of a PEM text: `PRIVATE KEY`, `RSA PRIVATE KEY` or `EC PRIVATE KEY`.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let blocks = pem::blocks(text).map_err(|_| KeyError::Unusable)?;
        let key = blocks.iter().find(|block| block.label.ends_with("PRIVATE KEY")).ok_or(KeyError::NoKey)?;
        if key.encrypted {
            return Err(KeyError::Encrypted);
        }
        match key.label.as_str() {
            "PRIVATE KEY" => Self::from_pkcs8(&key.der),
            "RSA PRIVATE KEY" => {
                Self::from_pkcs8(&wrap(&asn1::algorithm_with_null(RSA_ENCRYPTION), &key.der))
            }
            "EC PRIVATE KEY" => Self::from_sec1(&key.der),
            "ENCRYPTED PRIVATE KEY" => Err(KeyError::Encrypted),
            _ => Err(KeyError::Unusable),
        }
    }

    /// Reads an unencrypted key in DER, whichever of the three forms it has: PKCS #8, PKCS #1 or SEC 1.
    pub fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        Self::from_pkcs8(der)
            .or_else(|_| Self::from_pkcs8(&wrap(&asn1::algorithm_with_null(RSA_ENCRYPTION), der)))
            .or_else(|_| Self::from_sec1(der))
    }

    /// Reads RFC 5915's ECPrivateKey, which must name its curve.
    fn from_sec1(der: &[u8]) -> Result<Self, KeyError> {
        let mut key = Reader::sequence(der)?;
        key.value(asn1::INTEGER)?;
        key.value(OCTET_STRING)?;
        let curve = key.optional(asn1::constructed_context(0))?.ok_or(KeyError::Unusable)?;
        Self::from_pkcs8(&wrap(&asn1::encode(SEQUENCE, &[&asn1::oid(EC_PUBLIC_KEY), curve.value]), der))
    }

    /// The key as PKCS #8 DER, for storing it sealed and for libraries that want it.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    pub fn family(&self) -> Family {
        match self.kind {
            PrivateKind::Rsa { .. } => Family::Rsa,
            PrivateKind::Ecdsa { .. } => Family::Ecdsa,
        }
    }

    /// The hash that goes with this key where nothing else demands another.
    pub fn hash(&self) -> Hash {
        match self.kind {
            PrivateKind::Rsa { .. } => Hash::Sha256,
            PrivateKind::Ecdsa { hash, .. } => hash,
        }
    }

    /// The public key as SubjectPublicKeyInfo DER.
    pub fn public_key_info(&self) -> Result<Vec<u8>, KeyError> {
        let der: Result<PublicKeyX509Der<'_>, _> = match &self.kind {
            PrivateKind::Rsa { signing, .. } => signing.public_key().as_der(),
            PrivateKind::Ecdsa { signing, .. } => signing.public_key().as_der(),
        };
        der.map(|der| der.as_ref().to_vec()).map_err(|_| KeyError::Failed)
    }

    /// Signs `message`. RSA signs with every hash but SHA-1; ECDSA only with [`PrivateKey::hash`].
    pub fn sign(&self, hash: Hash, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let random = SystemRandom::new();
        match &self.kind {
            PrivateKind::Rsa { signing, .. } => {
                let padding: &'static dyn sign::RsaEncoding = match hash {
                    Hash::Sha1 => return Err(KeyError::Algorithm),
                    Hash::Sha256 => &sign::RSA_PKCS1_SHA256,
                    Hash::Sha384 => &sign::RSA_PKCS1_SHA384,
                    Hash::Sha512 => &sign::RSA_PKCS1_SHA512,
                };
                let mut signature = vec![0; signing.public_modulus_len()];
                signing.sign(padding, &random, message, &mut signature).map_err(|_| KeyError::Failed)?;
                Ok(signature)
            }
            PrivateKind::Ecdsa { signing, hash: own } if *own == hash => {
                let signature = signing.sign(&random, message).map_err(|_| KeyError::Failed)?;
                Ok(signature.as_ref().to_vec())
            }
            PrivateKind::Ecdsa { .. } => Err(KeyError::Algorithm),
        }
    }

    /// Decrypts what was encrypted to this RSA key with PKCS #1 v1.5.
    ///
    /// The failure must not become visible to the sender (Bleichenbacher): go on with a random key.
    pub fn decrypt_pkcs1(&self, ciphertext: &[u8]) -> Result<Vec<u8>, KeyError> {
        let PrivateKind::Rsa { opening, .. } = &self.kind else { return Err(KeyError::Algorithm) };
        let mut plaintext = vec![0; opening.min_output_size()];
        let length = opening.decrypt(ciphertext, &mut plaintext).map_err(|_| KeyError::Failed)?.len();
        plaintext.truncate(length);
        Ok(plaintext)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("PrivateKey(…)")
    }
}

fn wrap(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    asn1::encode(SEQUENCE, &[&asn1::small_integer(0), algorithm, &asn1::encode(OCTET_STRING, &[key])])
}

#[cfg(test)]
mod tests {
    use super::super::{PublicKey, PublicKind};
    use super::*;

    const RSA: &str = include_str!("../../../tests/fixtures/cms/rsa.key");
    const RSA_PKCS1: &str = include_str!("../../../tests/fixtures/cms/rsa.pkcs1.key");
    const EC_SEC1: &str = include_str!("../../../tests/fixtures/cms/p256.sec1.key");
    const P384_KEY: &str = include_str!("../../../tests/fixtures/cms/p384.key");

    #[test]
    fn private_keys_are_read_in_all_their_pem_forms() {
        let rsa = PrivateKey::from_pem(RSA).unwrap();
        let same = PrivateKey::from_pem(RSA_PKCS1).unwrap();
        assert_eq!(rsa.public_key_info().unwrap(), same.public_key_info().unwrap());
        assert_eq!(PrivateKey::from_pem(EC_SEC1).unwrap().hash(), Hash::Sha256);
        assert_eq!(PrivateKey::from_pem(P384_KEY).unwrap().hash(), Hash::Sha384);
        assert_eq!(format!("{rsa:?}"), "PrivateKey(…)");
    }

    #[test]
    fn encrypted_and_missing_keys_say_what_to_do() {
        let modern = include_str!("../../../tests/fixtures/cms/rsa.encrypted.key");
        let old = include_str!("../../../tests/fixtures/cms/rsa.encrypted.pkcs1.key");
        assert_eq!(PrivateKey::from_pem(modern).err(), Some(KeyError::Encrypted));
        assert_eq!(PrivateKey::from_pem(old).err(), Some(KeyError::Encrypted));
        assert_eq!(PrivateKey::from_pem("hello").err(), Some(KeyError::NoKey));
    }

    #[test]
    fn what_a_key_signs_its_public_half_verifies() {
        for text in [RSA, EC_SEC1, P384_KEY] {
            let key = PrivateKey::from_pem(text).unwrap();
            let public = PublicKey::from_spki(&key.public_key_info().unwrap()).unwrap();
            let signature = key.sign(key.hash(), b"message").unwrap();
            assert_eq!(public.verify(key.hash(), b"message", &signature), Ok(()));
            assert_eq!(public.verify(key.hash(), b"massage", &signature), Err(KeyError::BadSignature));
            assert_eq!(key.sign(Hash::Sha1, b"message"), Err(KeyError::Algorithm));
        }
    }

    #[test]
    fn generated_keys_are_different_and_work() {
        let (one, two) = (PrivateKey::generate_p256().unwrap(), PrivateKey::generate_p256().unwrap());
        assert_ne!(one.pkcs8(), two.pkcs8());
        let rsa = PrivateKey::generate_rsa(RsaSize::Rsa2048).unwrap();
        let public = PublicKey::from_spki(&rsa.public_key_info().unwrap()).unwrap();
        assert_eq!(public.kind(), PublicKind::Rsa { bits: 2048 });
    }
}
