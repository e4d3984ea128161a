//! Encrypted CMS as devices write and read it (RFC 5652 section 6), for SCEP.
//!
//! Key transport with RSA (PKCS #1 v1.5) and content in CBC mode, as RFC 8894 wants. Used by
//! [`super::scep`] alone.
//!
//! **Invariant:** nothing that is decrypted is trusted before the signature around it was verified.

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
    UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rsa::{Pkcs1PublicEncryptingKey, PublicEncryptingKey};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use des::{Des, TdesEde3};

use super::ber::{self, Lengths, Malformed, Reader};
use super::certificate::{Certificate, RSA};
use super::cms::{DATA, content_of, wrap};
use super::fault::Fault;
use super::identity::{Key, algorithm};
use crate::id;

const ENVELOPED_DATA: &str = "1.2.840.113549.1.7.3";

/// Encrypts `content` to the RSA key of `recipient`, with AES-128 or triple DES in CBC mode.
pub(super) fn encrypt(
    content: &[u8],
    recipient: &[u8],
    cipher: Cipher,
    lengths: Lengths,
) -> Result<Vec<u8>, Fault> {
    let broken = || Fault::unacceptable("the SCEP authority's certificate has no RSA key to encrypt to");
    let certificate = Certificate::read(recipient)?;
    let (key, iv, encrypted) = cipher.encrypt(content).ok_or_else(broken)?;
    let public = PublicEncryptingKey::from_der(certificate.spki).map_err(|_| broken())?;
    let public = Pkcs1PublicEncryptingKey::new(public).map_err(|_| broken())?;
    let mut wrapped = vec![0; public.ciphertext_size()];
    let wrapped = public.encrypt(&key, &mut wrapped).map_err(|_| broken())?;
    let transport = ber::constructed(
        ber::SEQUENCE,
        &[
            &ber::integer(&[0]),
            &ber::constructed(ber::SEQUENCE, &[certificate.issuer, certificate.serial]),
            &algorithm(RSA),
            &ber::element(ber::OCTET_STRING, wrapped),
        ],
    );
    let id = ber::oid(cipher.oid()).unwrap_or_default();
    let encryption = ber::constructed(ber::SEQUENCE, &[&id, &ber::element(ber::OCTET_STRING, &iv)]);
    let data = ber::oid(DATA).unwrap_or_default();
    // [0] IMPLICIT OCTET STRING: 0x80 is its primitive tag.
    let content =
        lengths.constructed(ber::SEQUENCE, &[&data, &encryption, &lengths.octets(0x80, &encrypted)]);
    let enveloped = lengths
        .constructed(ber::SEQUENCE, &[&ber::integer(&[0]), &ber::element(ber::SET, &transport), &content]);
    Ok(wrap(ENVELOPED_DATA, &enveloped, lengths))
}

/// Decrypts an EnvelopedData with one of its recipients' keys; answers the cipher too.
pub(super) fn decrypt(message: &[u8], key: &Key) -> Result<(Vec<u8>, Cipher), Fault> {
    let der = ber::to_der(message)?;
    let mut fields = content_of(&der, ENVELOPED_DATA)?;
    fields.expect(ber::INTEGER)?;
    fields.optional(ber::CONTEXT_0)?;
    let mut recipient = fields.enter(ber::SET)?.enter(ber::SEQUENCE)?;
    recipient.expect(ber::INTEGER)?;
    recipient.expect(ber::SEQUENCE)?;
    recipient.expect(ber::SEQUENCE)?;
    let wrapped = recipient.expect(ber::OCTET_STRING)?.content;
    let mut content = fields.enter(ber::SEQUENCE)?;
    content.expect(ber::OID)?;
    let mut encryption = content.enter(ber::SEQUENCE)?;
    let cipher = Cipher::named(encryption.expect(ber::OID)?.whole)
        .ok_or_else(|| Fault::unacceptable("the SCEP answer is encrypted with an unknown cipher"))?;
    let iv = encryption.expect(ber::OCTET_STRING)?.content;
    let encrypted = match content.next()? {
        // Implicit [0]: primitive, or constructed of octet strings.
        Some(octets) if octets.tag == 0x80 => octets.content.to_vec(),
        Some(segments) if segments.tag == ber::CONTEXT_0 => {
            let mut octets = Vec::new();
            let mut segments = Reader(segments.content);
            while let Some(segment) = segments.next()? {
                octets.extend_from_slice(segment.content);
            }
            octets
        }
        _ => return Err(Malformed("the encrypted content is missing").into()),
    };
    let plain = key.unwrap(wrapped).and_then(|key| cipher.decrypt(&key, iv, &encrypted));
    let plain = plain
        .ok_or_else(|| Fault::unacceptable("the SCEP answer cannot be decrypted with the device's key"))?;
    Ok((plain, cipher))
}

/// A content cipher of enveloped data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cipher {
    Aes128,
    Aes192,
    Aes256,
    TripleDes,
    /// Only read: servers built on the common Go library answer with it, and devices take it.
    Des,
}

impl Cipher {
    const ALL: [Self; 5] = [Self::Aes128, Self::Aes192, Self::Aes256, Self::TripleDes, Self::Des];

    fn oid(self) -> &'static str {
        match self {
            Self::Aes128 => "2.16.840.1.101.3.4.1.2",
            Self::Aes192 => "2.16.840.1.101.3.4.1.22",
            Self::Aes256 => "2.16.840.1.101.3.4.1.42",
            Self::TripleDes => "1.2.840.113549.3.7",
            Self::Des => "1.3.14.3.2.7",
        }
    }

    fn named(oid: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|cipher| ber::oid(cipher.oid()).as_deref() == Some(oid))
    }

    /// A fresh key, a fresh initialisation vector and the encrypted content.
    fn encrypt(self, content: &[u8]) -> Option<(Vec<u8>, Vec<u8>, Vec<u8>)> {
        if self == Self::TripleDes {
            let (key, iv) = (id::random::<24>(), id::random::<8>());
            let encrypted = cbc::Encryptor::<TdesEde3>::new_from_slices(&key, &iv).ok()?;
            return Some((key.to_vec(), iv.to_vec(), encrypted.encrypt_padded_vec::<Pkcs7>(content)));
        }
        let key = id::random::<32>();
        let (algorithm, length) = self.aes()?;
        let unbound = UnboundCipherKey::new(algorithm, &key[..length]).ok()?;
        let mut in_out = content.to_vec();
        let context = PaddedBlockEncryptingKey::cbc_pkcs7(unbound).ok()?.encrypt(&mut in_out).ok()?;
        let DecryptionContext::Iv128(iv) = context else { return None };
        Some((key[..length].to_vec(), iv.as_ref().to_vec(), in_out))
    }

    fn decrypt(self, key: &[u8], iv: &[u8], encrypted: &[u8]) -> Option<Vec<u8>> {
        if self == Self::TripleDes {
            let cipher = cbc::Decryptor::<TdesEde3>::new_from_slices(key, iv).ok()?;
            return cipher.decrypt_padded_vec::<Pkcs7>(encrypted).ok();
        }
        if self == Self::Des {
            let cipher = cbc::Decryptor::<Des>::new_from_slices(key, iv).ok()?;
            return cipher.decrypt_padded_vec::<Pkcs7>(encrypted).ok();
        }
        let unbound = UnboundCipherKey::new(self.aes()?.0, key).ok()?;
        let iv = DecryptionContext::Iv128(FixedLength::from(<[u8; 16]>::try_from(iv).ok()?));
        let mut in_out = encrypted.to_vec();
        let plain = PaddedBlockDecryptingKey::cbc_pkcs7(unbound).ok()?.decrypt(&mut in_out, iv).ok()?;
        Some(plain.to_vec())
    }

    fn aes(self) -> Option<(&'static aws_lc_rs::cipher::Algorithm, usize)> {
        match self {
            Self::Aes128 => Some((&AES_128, 16)),
            Self::Aes192 => Some((&AES_192, 24)),
            Self::Aes256 => Some((&AES_256, 32)),
            Self::TripleDes | Self::Des => None,
        }
    }
}
