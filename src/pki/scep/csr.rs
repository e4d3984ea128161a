//! PKCS #10 certification requests (RFC 2986), as SCEP clients send them.
//!
//! Only the key and the challenge password are used: what a request asks for (names, CA:TRUE, key
//! usages) is not read, because certificates are issued from our own template.
//!
//! **Invariant:** a [`Csr`] carries a sound RSA key of at least 2048 bits that signed it.

use super::super::asn1::{self, Malformed, OBJECT_IDENTIFIER, Oid, Reader, SEQUENCE, SET};
use super::super::key::{PublicKey, PublicKind};
use super::super::name::Name;

const CHALLENGE_PASSWORD: Oid = Oid::new_unwrap("1.2.840.113549.1.9.7");

/// The most attributes that a request may have.
const MAX_ATTRIBUTES: usize = 32;
/// The longest challenge that is looked at; ours are far shorter.
const MAX_CHALLENGE: usize = 1024;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    #[error("the certification request is damaged")]
    Malformed,
    #[error("the key in the certification request is not RSA of 2048 to 8192 bits; make such a key")]
    Key,
    #[error("the certification request is not signed by the key in it")]
    Signature,
}

impl From<Malformed> for CsrError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// A certification request whose signature is verified.
pub struct Csr {
    subject: Vec<u8>,
    spki: Vec<u8>,
    key: PublicKey,
    bits: usize,
    challenge: Option<String>,
}

impl Csr {
    /// Reads a CertificationRequest and verifies its signature; SHA-1 is accepted, MD5 is not.
    pub fn from_der(der: &[u8]) -> Result<Self, CsrError> {
        let mut outer = Reader::sequence(der)?;
        let signed = outer.expect(SEQUENCE)?;
        let (algorithm, _) = outer.algorithm()?;
        let signature = outer.bits()?;
        outer.end()?;

        let mut info = Reader::new(signed.value);
        info.value(asn1::INTEGER)?;
        let subject = info.expect(SEQUENCE)?.whole;
        let spki = info.expect(SEQUENCE)?.whole;
        // Required by PKCS #10, left out by some clients that have no attributes.
        let attributes = info.optional(asn1::constructed_context(0))?;
        info.end()?;
        let challenge = match attributes {
            Some(attributes) => challenge_password(Reader::new(attributes.value))?,
            None => None,
        };

        let key = PublicKey::from_spki(spki).map_err(|_| CsrError::Key)?;
        let PublicKind::Rsa { bits: bits @ 2048.. } = key.kind() else { return Err(CsrError::Key) };
        key.verify_by(algorithm, signed.whole, signature).map_err(|_| CsrError::Signature)?;
        Ok(Self { subject: subject.to_vec(), spki: spki.to_vec(), key, bits, challenge })
    }

    /// The name that was asked for, for the log; certificates get the names that we choose.
    pub fn subject(&self) -> Name<'_> {
        Name::new(&self.subject)
    }

    /// The SubjectPublicKeyInfo DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    pub fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// The size of the RSA key, at least 2048.
    pub fn bits(&self) -> usize {
        self.bits
    }

    /// The challenge password; a secret, not to be logged.
    pub fn challenge(&self) -> Option<&str> {
        self.challenge.as_deref()
    }
}

impl std::fmt::Debug for Csr {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Csr({}, RSA {} bits, challenge …)", self.subject(), self.bits)
    }
}

fn challenge_password(mut attributes: Reader<'_>) -> Result<Option<String>, CsrError> {
    let (mut found, mut count) = (None, 0);
    while !attributes.is_empty() {
        count += 1;
        let mut attribute = attributes.inside(SEQUENCE)?;
        let kind = attribute.value(OBJECT_IDENTIFIER)?;
        let mut values = attribute.inside(SET)?;
        attribute.end()?;
        if kind == CHALLENGE_PASSWORD.as_bytes() {
            let value = values.element()?;
            if value.value.len() > MAX_CHALLENGE || !values.is_empty() {
                return Err(CsrError::Malformed);
            }
            if found.replace(value.text().ok_or(CsrError::Malformed)?).is_some() {
                return Err(CsrError::Malformed);
            }
        }
    }
    if count > MAX_ATTRIBUTES { Err(CsrError::Malformed) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHA1: &[u8] = include_bytes!("../../../tests/fixtures/cms/rsa.sha1.csr");
    const SHA256: &[u8] = include_bytes!("../../../tests/fixtures/cms/rsa.sha256.csr");

    #[test]
    fn requests_signed_with_sha1_and_sha256_are_read() {
        for der in [SHA1, SHA256] {
            let csr = Csr::from_der(der).unwrap();
            assert_eq!(csr.subject().common_name().as_deref(), Some("phone"));
            assert_eq!(csr.challenge(), Some("secret"));
            assert_eq!(csr.bits(), 2048);
            assert!(!format!("{csr:?}").contains("secret"));
        }
    }

    #[test]
    fn small_and_elliptic_keys_are_refused() {
        let small = include_bytes!("../../../tests/fixtures/cms/small.csr");
        let elliptic = include_bytes!("../../../tests/fixtures/cms/p256.csr");
        assert_eq!(Csr::from_der(small).err(), Some(CsrError::Key));
        assert_eq!(Csr::from_der(elliptic).err(), Some(CsrError::Key));
    }

    #[test]
    fn another_challenge_than_was_signed_is_refused() {
        let at = SHA256.windows(6).position(|window| window == b"secret").unwrap();
        let mut forged = SHA256.to_vec();
        forged[at] = b'S';
        assert_eq!(Csr::from_der(&forged).err(), Some(CsrError::Signature));
    }

    proptest! {
        #[test]
        fn a_damaged_request_is_refused(at in any::<prop::sample::Index>(), flip in 1_u8..) {
            let mut der = SHA256.to_vec();
            let index = at.index(der.len());
            der[index] ^= flip;
            // The two octets of the signature algorithm's parameters are the only ones that mean nothing;
            // they stand before the signature of 256 octets in its BIT STRING.
            let parameters = der.len() - 263..der.len() - 261;
            prop_assert!(Csr::from_der(&der).is_err() || parameters.contains(&index));
            prop_assert!(Csr::from_der(&SHA256[..index]).is_err());
        }
    }
}
