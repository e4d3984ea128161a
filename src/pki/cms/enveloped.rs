//! EnvelopedData (RFC 5652 section 6): SCEP requests and replies, S/MIME tokens of Apple's portals.
//!
//! Keys are transported with RSA PKCS #1 v1.5, contents encrypted in CBC: that is what SCEP clients
//! speak. DES comes from the `des` crate, everything else from aws-lc.
//!
//! **Invariant:** a wrong key, wrong padding and wrong content look the same to the sender: after a
//! failed key transport decryption goes on with a random key (RFC 3218).

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, Algorithm, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey,
    PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::rand;
use aws_lc_rs::rsa::{Pkcs1PublicEncryptingKey, PublicEncryptingKey};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};

use super::super::asn1::{self, OBJECT_IDENTIFIER, OCTET_STRING, Oid, Reader, SEQUENCE, SET};
use super::super::ber;
use super::super::certificate::{Certificate, Fields};
use super::super::key::{KeyError, PrivateKey, RSA_ENCRYPTION};
use super::{CmsError, DATA, ENVELOPED_DATA, Identifier, content_info, issuer_and_serial, join_pieces, open};

/// The most recipients that are looked through.
const MAX_RECIPIENTS: usize = 16;

/// A content-encryption algorithm, all in CBC mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    Aes128,
    Aes192,
    Aes256,
    /// Triple DES with three keys, for clients before SCEPStandard.
    Des3,
    /// Understood for the oldest SCEP clients; never chosen by us.
    Des,
}

impl Cipher {
    const ALL: [Self; 5] = [Self::Aes128, Self::Aes192, Self::Aes256, Self::Des3, Self::Des];

    const fn oid(self) -> Oid {
        match self {
            Self::Aes128 => Oid::new_unwrap("2.16.840.1.101.3.4.1.2"),
            Self::Aes192 => Oid::new_unwrap("2.16.840.1.101.3.4.1.22"),
            Self::Aes256 => Oid::new_unwrap("2.16.840.1.101.3.4.1.42"),
            Self::Des3 => Oid::new_unwrap("1.2.840.113549.3.7"),
            Self::Des => Oid::new_unwrap("1.3.14.3.2.7"),
        }
    }

    fn from_oid(oid: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|cipher| cipher.oid().as_bytes() == oid)
    }

    fn aes(self) -> Option<&'static Algorithm> {
        match self {
            Self::Aes128 => Some(&AES_128),
            Self::Aes192 => Some(&AES_192),
            Self::Aes256 => Some(&AES_256),
            Self::Des3 | Self::Des => None,
        }
    }

    const fn key_length(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Aes192 | Self::Des3 => 24,
            Self::Aes256 => 32,
            Self::Des => 8,
        }
    }

    const fn block_length(self) -> usize {
        match self {
            Self::Aes128 | Self::Aes192 | Self::Aes256 => 16,
            Self::Des3 | Self::Des => 8,
        }
    }

    fn seal(self, key: &[u8], iv: &[u8], content: &[u8]) -> Option<Vec<u8>> {
        match self.aes() {
            Some(algorithm) => {
                let key = UnboundCipherKey::new(algorithm, key).ok()?;
                let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).ok()?;
                let iv = EncryptionContext::Iv128(<[u8; 16]>::try_from(iv).ok()?.into());
                let mut sealed = content.to_vec();
                key.less_safe_encrypt(&mut sealed, iv).ok()?;
                Some(sealed)
            }
            None if self == Self::Des => {
                let cipher = cbc::Encryptor::<des::Des>::new_from_slices(key, iv).ok()?;
                Some(cipher.encrypt_padded_vec::<Pkcs7>(content))
            }
            None => {
                let cipher = cbc::Encryptor::<des::TdesEde3>::new_from_slices(key, iv).ok()?;
                Some(cipher.encrypt_padded_vec::<Pkcs7>(content))
            }
        }
    }

    fn unseal(self, key: &[u8], iv: &[u8], mut sealed: Vec<u8>) -> Option<Vec<u8>> {
        if sealed.is_empty() || !sealed.len().is_multiple_of(self.block_length()) {
            return None;
        }
        match self.aes() {
            Some(algorithm) => {
                let key = UnboundCipherKey::new(algorithm, key).ok()?;
                let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).ok()?;
                let iv = DecryptionContext::Iv128(<[u8; 16]>::try_from(iv).ok()?.into());
                let length = key.decrypt(&mut sealed, iv).ok()?.len();
                sealed.truncate(length);
                Some(sealed)
            }
            None if self == Self::Des => {
                let cipher = cbc::Decryptor::<des::Des>::new_from_slices(key, iv).ok()?;
                cipher.decrypt_padded_vec::<Pkcs7>(&sealed).ok()
            }
            None => {
                let cipher = cbc::Decryptor::<des::TdesEde3>::new_from_slices(key, iv).ok()?;
                cipher.decrypt_padded_vec::<Pkcs7>(&sealed).ok()
            }
        }
    }
}

/// Encrypts `content` to the RSA key of a certificate. Answers DER.
pub fn encrypt(content: &[u8], recipient: &Certificate, cipher: Cipher) -> Result<Vec<u8>, CmsError> {
    let mut key = vec![0; cipher.key_length()];
    let mut iv = vec![0; cipher.block_length()];
    rand::fill(&mut key).map_err(|_| KeyError::Failed)?;
    rand::fill(&mut iv).map_err(|_| KeyError::Failed)?;
    let sealed = cipher.seal(&key, &iv, content).ok_or(KeyError::Failed)?;

    let transport = PublicEncryptingKey::from_der(recipient.spki()).map_err(|_| KeyError::Algorithm)?;
    let transport = Pkcs1PublicEncryptingKey::new(transport).map_err(|_| KeyError::Algorithm)?;
    let mut wrapped = vec![0; transport.ciphertext_size()];
    let length = transport.encrypt(&key, &mut wrapped).map_err(|_| KeyError::Failed)?.len();

    let recipient = asn1::encode(
        SEQUENCE,
        &[
            &asn1::small_integer(0),
            &issuer_and_serial(recipient),
            &asn1::algorithm_with_null(RSA_ENCRYPTION),
            &asn1::encode(OCTET_STRING, &[&wrapped[..length]]),
        ],
    );
    let algorithm = asn1::encode(SEQUENCE, &[&asn1::oid(cipher.oid()), &asn1::encode(OCTET_STRING, &[&iv])]);
    let encrypted =
        asn1::encode(SEQUENCE, &[&asn1::oid(DATA), &algorithm, &asn1::encode(asn1::context(0), &[&sealed])]);
    let version = asn1::small_integer(0);
    Ok(content_info(ENVELOPED_DATA, &[&version, &asn1::encode(SET, &[&recipient]), &encrypted]))
}

/// Decrypts what was encrypted (BER or DER) to `recipient`, whose key is `key`.
pub fn decrypt(
    enveloped: &[u8],
    recipient: &Certificate,
    key: &PrivateKey,
) -> Result<(Vec<u8>, Cipher), CmsError> {
    let der = ber::to_der(enveloped)?;
    let mut data = open(&der, ENVELOPED_DATA)?;
    data.value(asn1::INTEGER)?;
    // OriginatorInfo: certificates that RSA does not need.
    data.optional(asn1::constructed_context(0))?;
    let mut recipients = data.inside(SET)?;
    let mut encrypted = data.inside(SEQUENCE)?;
    data.optional(asn1::constructed_context(1))?;
    data.end()?;

    encrypted.value(OBJECT_IDENTIFIER)?;
    let (algorithm, iv) = encrypted.algorithm()?;
    let cipher = Cipher::from_oid(algorithm).ok_or(CmsError::Algorithm)?;
    let iv = iv.filter(|iv| iv.tag == OCTET_STRING).ok_or(CmsError::Malformed)?.value;
    let sealed = encrypted.element()?;
    encrypted.end()?;
    let sealed = match sealed.tag {
        tag if tag == asn1::context(0) => sealed.value.to_vec(),
        tag if tag == asn1::constructed_context(0) => join_pieces(sealed.value)?,
        _ => return Err(CmsError::Malformed),
    };

    let wrapped = key_for(recipient, &mut recipients)?;
    let mut content_key = vec![0; cipher.key_length()];
    rand::fill(&mut content_key).map_err(|_| KeyError::Failed)?;
    match key.decrypt_pkcs1(wrapped) {
        Ok(unwrapped) if unwrapped.len() == content_key.len() => content_key = unwrapped,
        Err(KeyError::Algorithm) => return Err(KeyError::Algorithm.into()),
        _ => {}
    }
    let content = cipher.unseal(&content_key, iv, sealed).ok_or(CmsError::Decrypt)?;
    Ok((content, cipher))
}

/// The encrypted key in the KeyTransRecipientInfo that names this certificate.
fn key_for<'a>(recipient: &Certificate, recipients: &mut Reader<'a>) -> Result<&'a [u8], CmsError> {
    let fields = Fields::read(recipient.der())?;
    for _ in 0..MAX_RECIPIENTS {
        if recipients.is_empty() {
            break;
        }
        let element = recipients.element()?;
        // Other kinds of recipients (key agreement, passwords) have context tags.
        if element.tag != SEQUENCE {
            continue;
        }
        let mut info = Reader::new(element.value);
        info.value(asn1::INTEGER)?;
        if !Identifier::read(&mut info)?.names(&fields) {
            continue;
        }
        if info.algorithm()?.0 != RSA_ENCRYPTION.as_bytes() {
            return Err(CmsError::Algorithm);
        }
        return Ok(info.value(OCTET_STRING)?);
    }
    Err(CmsError::Recipient)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    macro_rules! fixture {
        ($name:literal) => {
            include_bytes!(concat!("../../../tests/fixtures/cms/", $name))
        };
    }

    const CONTENT: &[u8] = fixture!("content.bin");

    fn rsa() -> (Certificate, PrivateKey) {
        let certificate = include_str!("../../../tests/fixtures/cms/rsa.crt");
        let key = include_str!("../../../tests/fixtures/cms/rsa.key");
        (Certificate::from_pem(certificate).unwrap(), PrivateKey::from_pem(key).unwrap())
    }

    #[test]
    fn envelopes_made_by_openssl_are_opened() {
        let (certificate, key) = rsa();
        let envelopes: [(&[u8], Cipher); 7] = [
            (fixture!("enveloped.aes-128-cbc.p7"), Cipher::Aes128),
            (fixture!("enveloped.aes-192-cbc.p7"), Cipher::Aes192),
            (fixture!("enveloped.aes-256-cbc.p7"), Cipher::Aes256),
            (fixture!("enveloped.des-ede3-cbc.p7"), Cipher::Des3),
            (fixture!("enveloped.des-cbc.p7"), Cipher::Des),
            (fixture!("enveloped.keyid.p7"), Cipher::Aes128),
            (fixture!("enveloped.two.p7"), Cipher::Aes128),
        ];
        for (envelope, cipher) in envelopes {
            assert_eq!(decrypt(envelope, &certificate, &key), Ok((CONTENT.to_vec(), cipher)));
        }
    }

    #[test]
    fn a_stream_in_pieces_is_joined() {
        let (certificate, key) = rsa();
        let (content, _) = decrypt(fixture!("enveloped.stream.p7"), &certificate, &key).unwrap();
        assert_eq!(content, [b'x'; 20_000]);
    }

    #[test]
    fn what_is_encrypted_is_decrypted_in_every_cipher() {
        let (certificate, key) = rsa();
        for cipher in Cipher::ALL {
            for length in [0, 1, 7, 8, 15, 16, 1000] {
                let content = vec![5; length];
                let envelope = encrypt(&content, &certificate, cipher).unwrap();
                assert_eq!(decrypt(&envelope, &certificate, &key), Ok((content, cipher)));
            }
        }
    }

    #[test]
    fn an_envelope_for_another_certificate_says_so() {
        let (certificate, key) = rsa();
        let other = Certificate::from_pem(include_str!("../../../tests/fixtures/cms/ca.crt")).unwrap();
        let envelope = encrypt(CONTENT, &other, Cipher::Aes128).unwrap();
        assert_eq!(decrypt(&envelope, &certificate, &key), Err(CmsError::Recipient));
        // Same name, other key: as from a client that kept an old certificate of ours.
        let stranger = PrivateKey::generate_rsa(super::super::super::key::RsaSize::Rsa2048).unwrap();
        let envelope = encrypt(CONTENT, &certificate, Cipher::Aes128).unwrap();
        assert_ne!(
            decrypt(&envelope, &certificate, &stranger).ok().map(|(content, _)| content),
            Some(CONTENT.to_vec())
        );
    }

    #[test]
    fn nothing_is_encrypted_to_an_elliptic_key() {
        let elliptic = Certificate::from_pem(include_str!("../../../tests/fixtures/cms/p256.crt")).unwrap();
        assert_eq!(encrypt(CONTENT, &elliptic, Cipher::Aes128), Err(KeyError::Algorithm.into()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_damaged_envelope_never_panics(at in any::<prop::sample::Index>(), byte: u8, legacy: bool) {
            let (certificate, key) = rsa();
            let whole: &[u8] = if legacy { fixture!("enveloped.des-cbc.p7") } else { fixture!("enveloped.keyid.p7") };
            let mut envelope = whole.to_vec();
            let index = at.index(envelope.len());
            envelope[index] = byte;
            let _ = decrypt(&envelope, &certificate, &key);
            prop_assert!(decrypt(&whole[..index], &certificate, &key).is_err());
        }
    }
}
