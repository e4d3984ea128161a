//! Keys of devices, what they ask to have certified, and the identities that they get.
//!
//! A PKCS #10 request (RFC 2986) and the throw-away certificate that signs it on its way, as
//! [`super::scep`] needs them; and the identity that TLS and `Mdm-Signature` present afterwards.
//!
//! **Invariant:** a private key is used only here and by TLS; nothing prints it.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize, Pkcs1PrivateDecryptingKey, PrivateDecryptingKey};
use aws_lc_rs::signature::{self, KeyPair as _};
use num_bigint::BigUint;
use time::OffsetDateTime;

use super::ber::{self, Malformed, Reader};
use super::certificate::{Digest, RSA};
use super::fault::Fault;
use crate::clock::{DAY, Seconds};

const CHALLENGE_PASSWORD: &str = "1.2.840.113549.1.9.7";
const EXTENSION_REQUEST: &str = "1.2.840.113549.1.9.14";
const KEY_USAGE: &str = "2.5.29.15";

/// An RSA key of a device. Generating one takes a tenth of a second and more.
pub struct Key {
    pair: KeyPair,
    pkcs8: Vec<u8>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// A new key of 2048, 3072 or 4096 bits; anything smaller becomes 2048.
    pub fn generate(bits: u64) -> Result<Self, Fault> {
        let size = match bits {
            ..3072 => KeySize::Rsa2048,
            3072..4096 => KeySize::Rsa3072,
            4096.. => KeySize::Rsa4096,
        };
        let broken = |_| Fault::unacceptable("no RSA key could be generated on this machine");
        let pair = KeyPair::generate(size).map_err(broken)?;
        let der: Pkcs8V1Der = pair.as_der().map_err(broken)?;
        let pkcs8 = der.as_ref().to_vec();
        Ok(Self { pair, pkcs8 })
    }

    pub(super) fn bits(&self) -> u64 {
        u64::try_from(self.pair.public_modulus_len()).unwrap_or(0) * 8
    }

    /// PKCS #8, for TLS.
    pub(super) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The RSAPublicKey.
    pub(super) fn public_key(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// The SubjectPublicKeyInfo.
    pub(super) fn spki(&self) -> Vec<u8> {
        let algorithm = algorithm(RSA);
        let bits = [&[0], self.public_key()].concat();
        ber::constructed(ber::SEQUENCE, &[&algorithm, &ber::element(ber::BIT_STRING, &bits)])
    }

    /// PKCS #1 v1.5.
    pub(super) fn sign(&self, digest: Digest, message: &[u8]) -> Result<Vec<u8>, Fault> {
        let padding = match digest {
            Digest::Sha1 => return Ok(self.sign_sha1(message)?),
            Digest::Sha256 => &signature::RSA_PKCS1_SHA256,
            Digest::Sha384 => &signature::RSA_PKCS1_SHA384,
            Digest::Sha512 => &signature::RSA_PKCS1_SHA512,
        };
        let mut signed = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(padding, &SystemRandom::new(), message, &mut signed)
            .map_err(|_| Fault::unacceptable("the device's key cannot sign"))?;
        Ok(signed)
    }

    /// The cryptographic library verifies SHA-1 but no longer signs with it; Apple's devices do,
    /// so this is RFC 8017 section 8.2.1 by hand. Timing does not matter: the key is a simulated one's.
    fn sign_sha1(&self, message: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut outer = Reader(&self.pkcs8).enter(ber::SEQUENCE)?;
        outer.expect(ber::INTEGER)?;
        outer.expect(ber::SEQUENCE)?;
        let mut private = Reader(outer.expect(ber::OCTET_STRING)?.content).enter(ber::SEQUENCE)?;
        private.expect(ber::INTEGER)?;
        let modulus = BigUint::from_bytes_be(private.expect(ber::INTEGER)?.content);
        private.expect(ber::INTEGER)?;
        let exponent = BigUint::from_bytes_be(private.expect(ber::INTEGER)?.content);
        let hash = ber::element(ber::OCTET_STRING, &Digest::Sha1.of(message));
        let info = ber::constructed(ber::SEQUENCE, &[&algorithm(Digest::Sha1.oid()), &hash]);
        let length = self.pair.public_modulus_len();
        let mut padded = vec![0xff; length];
        padded[..2].copy_from_slice(&[0, 1]);
        padded[length - info.len() - 1] = 0;
        padded[length - info.len()..].copy_from_slice(&info);
        let signed = BigUint::from_bytes_be(&padded).modpow(&exponent, &modulus).to_bytes_be();
        Ok([vec![0; length - signed.len()], signed].concat())
    }

    /// Decrypts what was encrypted to this key with PKCS #1 v1.5.
    pub(super) fn unwrap(&self, wrapped: &[u8]) -> Option<Vec<u8>> {
        let key = PrivateDecryptingKey::from_pkcs8(&self.pkcs8).ok()?;
        let key = Pkcs1PrivateDecryptingKey::new(key).ok()?;
        let mut plain = vec![0; key.min_output_size()];
        Some(key.decrypt(wrapped, &mut plain).ok()?.to_vec())
    }
}

/// A key with the certificate that the server issued for it.
#[derive(Clone, Debug)]
pub struct Identity {
    pub(super) key: Arc<Key>,
    /// The certificate, DER.
    pub certificate: Vec<u8>,
}

impl Identity {
    /// Joins a key and a certificate that belong together.
    pub fn new(key: Arc<Key>, certificate: Vec<u8>) -> Self {
        Self { key, certificate }
    }

    /// The private key, PKCS #8 DER, for clients beside the simulator (`curl --cert`).
    pub fn pkcs8(&self) -> &[u8] {
        self.key.pkcs8()
    }
}

/// `SEQUENCE { OID, NULL }`.
pub(super) fn algorithm(dotted: &str) -> Vec<u8> {
    let id = ber::oid(dotted).unwrap_or_default();
    ber::constructed(ber::SEQUENCE, &[&id, &ber::element(ber::NULL, &[])])
}

/// A Name from relative distinguished names, each a list of (type, value) with the short types of
/// Apple's SCEP payload (C, L, ST, O, OU, CN) or dotted OIDs.
pub(super) fn name(relative: &[Vec<(String, String)>]) -> Result<Vec<u8>, Fault> {
    let mut names = Vec::new();
    for pairs in relative {
        let mut members = Vec::new();
        for (kind, value) in pairs {
            let dotted = match kind.as_str() {
                "C" => "2.5.4.6",
                "L" => "2.5.4.7",
                "ST" => "2.5.4.8",
                "O" => "2.5.4.10",
                "OU" => "2.5.4.11",
                "CN" => "2.5.4.3",
                dotted => dotted,
            };
            let id = ber::oid(dotted).ok_or_else(|| {
                Fault::unacceptable(format!(
                    "the Subject of the SCEP payload names `{kind}`, which is neither C, L, ST, O, OU, CN nor a dotted OID"
                ))
            })?;
            let tag = if kind == "C" { ber::PRINTABLE_STRING } else { ber::UTF8_STRING };
            members.push(ber::constructed(ber::SEQUENCE, &[&id, &ber::element(tag, value.as_bytes())]));
        }
        names.extend(ber::set_of(ber::SET, members));
    }
    Ok(ber::element(ber::SEQUENCE, &names))
}

/// A PKCS #10 request with a challengePassword and, if not zero, a keyUsage extension request.
///
/// `usage` are the bits of Apple's `Key Usage`: 1 signing, 4 encryption.
pub(super) fn certificate_request(
    key: &Key,
    subject: &[u8],
    challenge: Option<&str>,
    usage: u64,
) -> Result<Vec<u8>, Fault> {
    let mut attributes = Vec::new();
    if let Some(challenge) = challenge {
        let printable = challenge.bytes().all(|b| b.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&b));
        let tag = if printable { ber::PRINTABLE_STRING } else { ber::UTF8_STRING };
        attributes.push(attribute(CHALLENGE_PASSWORD, &ber::element(tag, challenge.as_bytes())));
    }
    if usage & 5 != 0 {
        let bits = (if usage & 1 != 0 { 0x80 } else { 0 }) | (if usage & 4 != 0 { 0x20 } else { 0 });
        let unused = if usage & 4 != 0 { 5 } else { 7 };
        let extension = key_usage(&[unused, bits]);
        attributes.push(attribute(EXTENSION_REQUEST, &ber::element(ber::SEQUENCE, &extension)));
    }
    let attributes = ber::set_of(ber::CONTEXT_0, attributes);
    let info = ber::constructed(ber::SEQUENCE, &[&ber::integer(&[0]), subject, &key.spki(), &attributes]);
    signed(key, &info)
}

/// The self-signed certificate that signs a PKCSReq (RFC 8894 section 2.3), named as Apple names it.
pub(super) fn throw_away(key: &Key, now: Seconds) -> Result<Vec<u8>, Fault> {
    let subject = name(&[vec![("CN".into(), "MDM SCEP SIGNER".into())], vec![("C".into(), "US".into())]])?;
    let validity = ber::constructed(ber::SEQUENCE, &[&utc_time(now), &utc_time(now + 365 * DAY)]);
    let extensions = ber::element(ber::SEQUENCE, &key_usage(&[7, 0x80]));
    let certificate = ber::constructed(
        ber::SEQUENCE,
        &[
            &ber::element(ber::CONTEXT_0, &ber::integer(&[2])),
            &ber::integer(&[1]),
            &algorithm(Digest::Sha256.with_rsa()),
            &subject,
            &validity,
            &subject,
            &key.spki(),
            &ber::element(ber::CONTEXT_3, &extensions),
        ],
    );
    signed(key, &certificate)
}

/// UTCTime, which RFC 5280 wants for years before 2050.
pub(super) fn utc_time(at: Seconds) -> Vec<u8> {
    let at = OffsetDateTime::from_unix_timestamp(at).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let text = format!(
        "{:02}{:02}{:02}{:02}{:02}{:02}Z",
        at.year().rem_euclid(100),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    );
    ber::element(ber::UTC_TIME, text.as_bytes())
}

/// An attribute with one value.
pub(super) fn attribute(dotted: &str, value: &[u8]) -> Vec<u8> {
    let id = ber::oid(dotted).unwrap_or_default();
    ber::constructed(ber::SEQUENCE, &[&id, &ber::element(ber::SET, value)])
}

fn key_usage(bits: &[u8]) -> Vec<u8> {
    let id = ber::oid(KEY_USAGE).unwrap_or_default();
    let value = ber::element(ber::OCTET_STRING, &ber::element(ber::BIT_STRING, bits));
    let critical = ber::element(ber::BOOLEAN, &[0xff]);
    ber::constructed(ber::SEQUENCE, &[&id, &critical, &value])
}

fn signed(key: &Key, content: &[u8]) -> Result<Vec<u8>, Fault> {
    let signature = [vec![0], key.sign(Digest::Sha256, content)?].concat();
    Ok(ber::constructed(
        ber::SEQUENCE,
        &[content, &algorithm(Digest::Sha256.with_rsa()), &ber::element(ber::BIT_STRING, &signature)],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::certificate::{self, Certificate};

    #[test]
    fn a_throw_away_certificate_is_signed_by_itself() {
        let key = Key::generate(2048).unwrap();
        let der = throw_away(&key, 1_800_000_000).unwrap();
        let certificate = Certificate::read(&der).unwrap();
        assert!(certificate.is_signed_by(&certificate));
        assert!(certificate.has_rsa_key() && !certificate.is_authority);
        assert_eq!(certificate.public_key().unwrap(), key.public_key());
    }

    #[test]
    fn sha1_signatures_verify() {
        let key = Key::generate(2048).unwrap();
        let signed = key.sign(Digest::Sha1, b"Idle").unwrap();
        assert!(certificate::verifies(&key.spki(), Digest::Sha1, b"Idle", &signed));
        assert!(!certificate::verifies(&key.spki(), Digest::Sha1, b"idle", &signed));
    }

    #[test]
    fn a_subject_with_an_unknown_type_is_refused_in_words() {
        let fault = name(&[vec![("XX".into(), "x".into())]]).unwrap_err();
        assert!(fault.to_string().contains("`XX`"));
    }
}
