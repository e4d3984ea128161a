//! Making SignedData (RFC 5652 section 5): profiles, SCEP replies, bags of certificates.
//!
//! Always with signed attributes, SHA-2, DER, and the signer's certificate included, which every
//! reader of ours understands: Apple's devices, OpenSSL, the SCEP clients.
//!
//! **Invariant:** nothing is signed with SHA-1, whatever the peer used.

use super::super::asn1::{self, OCTET_STRING, Oid, SEQUENCE, SET};
use super::super::certificate::Certificate;
use super::super::key::{self, Family, Hash, KeyError, PrivateKey};
use super::signed::{CONTENT_TYPE, MESSAGE_DIGEST, SIGNING_TIME};
use super::{DATA, SIGNED_DATA, content_info, issuer_and_serial};
use crate::clock::Seconds;

/// Who signs, and what goes along.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'a> {
    pub key: &'a PrivateKey,
    pub certificate: &'a Certificate,
    /// The DER of certificates to include after the signer's own.
    pub chain: &'a [&'a [u8]],
    /// SHA-2; for ECDSA it must be the key's own ([`PrivateKey::hash`]).
    pub hash: Hash,
}

impl<'a> Signer<'a> {
    /// Signs with the hash that goes with the key and includes no further certificate.
    pub fn new(key: &'a PrivateKey, certificate: &'a Certificate) -> Self {
        Self { key, certificate, chain: &[], hash: key.hash() }
    }
}

/// Signs `content` and embeds it, as a profile is signed. `attributes` are further signed attributes,
/// each with one value in DER. Answers DER.
pub fn sign_attached(
    content: &[u8],
    signer: Signer<'_>,
    attributes: &[(Oid, Vec<u8>)],
    now: Seconds,
) -> Result<Vec<u8>, KeyError> {
    let octets = asn1::encode(OCTET_STRING, &[content]);
    let explicit = asn1::encode(asn1::constructed_context(0), &[&octets]);
    sign(content, &explicit, signer, attributes, now)
}

/// As [`sign_attached`], leaving the content out.
pub fn sign_detached(
    content: &[u8],
    signer: Signer<'_>,
    attributes: &[(Oid, Vec<u8>)],
    now: Seconds,
) -> Result<Vec<u8>, KeyError> {
    sign(content, &[], signer, attributes, now)
}

fn sign(
    content: &[u8],
    embedded: &[u8],
    signer: Signer<'_>,
    attributes: &[(Oid, Vec<u8>)],
    now: Seconds,
) -> Result<Vec<u8>, KeyError> {
    let digest = asn1::encode(OCTET_STRING, &[signer.hash.digest(content).as_ref()]);
    let mut set = vec![
        attribute(CONTENT_TYPE, &asn1::oid(DATA)),
        attribute(MESSAGE_DIGEST, &digest),
        attribute(SIGNING_TIME, &asn1::time(now)),
    ];
    set.extend(attributes.iter().map(|(oid, value)| attribute(*oid, value)));
    let mut set = asn1::set_of(set);
    let signature = signer.key.sign(signer.hash, &set)?;
    set[0] = asn1::constructed_context(0);

    let digest_algorithm = asn1::encode(SEQUENCE, &[&asn1::oid(signer.hash.oid())]);
    let info = asn1::encode(
        SEQUENCE,
        &[
            &asn1::small_integer(1),
            &issuer_and_serial(signer.certificate),
            &digest_algorithm,
            &set,
            &signature_algorithm(signer.key.family(), signer.hash),
            &asn1::encode(OCTET_STRING, &[&signature]),
        ],
    );
    let certificates = [&[signer.certificate.der()], signer.chain].concat().concat();
    Ok(content_info(
        SIGNED_DATA,
        &[
            &asn1::small_integer(1),
            &asn1::encode(SET, &[&digest_algorithm]),
            &asn1::encode(SEQUENCE, &[&asn1::oid(DATA), embedded]),
            &asn1::encode(asn1::constructed_context(0), &[&certificates]),
            &asn1::encode(SET, &[&info]),
        ],
    ))
}

fn attribute(oid: Oid, value: &[u8]) -> Vec<u8> {
    asn1::encode(SEQUENCE, &[&asn1::oid(oid), &asn1::encode(SET, &[value])])
}

fn signature_algorithm(family: Family, hash: Hash) -> Vec<u8> {
    let ecdsa = match (family, hash) {
        // Understood by every reader, whatever the digest; the digest is named beside it.
        (Family::Rsa, _) => return asn1::algorithm_with_null(key::RSA_ENCRYPTION),
        (Family::Ecdsa, Hash::Sha384) => Oid::new_unwrap("1.2.840.10045.4.3.3"),
        (Family::Ecdsa, Hash::Sha512) => Oid::new_unwrap("1.2.840.10045.4.3.4"),
        (Family::Ecdsa, Hash::Sha1 | Hash::Sha256) => Oid::new_unwrap("1.2.840.10045.4.3.2"),
    };
    asn1::encode(SEQUENCE, &[&asn1::oid(ecdsa)])
}

/// A SignedData without signers that only carries certificates, in this order.
pub fn certs_only(certificates: &[&[u8]]) -> Vec<u8> {
    content_info(
        SIGNED_DATA,
        &[
            &asn1::small_integer(1),
            &asn1::encode(SET, &[]),
            &asn1::encode(SEQUENCE, &[&asn1::oid(DATA)]),
            &asn1::encode(asn1::constructed_context(0), certificates),
            &asn1::encode(SET, &[]),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::super::super::asn1::PRINTABLE_STRING;
    use super::super::{CmsError, Signed, verify_attached, verify_detached};
    use super::*;
    use crate::clock::EARLIEST_SANE;

    const CA: &str = include_str!("../../../tests/fixtures/cms/ca.crt");

    fn pairs() -> Vec<(PrivateKey, Certificate)> {
        [
            (
                include_str!("../../../tests/fixtures/cms/rsa.key"),
                include_str!("../../../tests/fixtures/cms/rsa.crt"),
            ),
            (
                include_str!("../../../tests/fixtures/cms/p256.sec1.key"),
                include_str!("../../../tests/fixtures/cms/p256.crt"),
            ),
            (
                include_str!("../../../tests/fixtures/cms/p384.key"),
                include_str!("../../../tests/fixtures/cms/p384.crt"),
            ),
        ]
        .map(|(key, certificate)| {
            (PrivateKey::from_pem(key).unwrap(), Certificate::from_pem(certificate).unwrap())
        })
        .into()
    }

    #[test]
    fn what_is_signed_is_verified_with_every_kind_of_key() {
        let ca = Certificate::from_pem(CA).unwrap();
        for (key, certificate) in &pairs() {
            let signer = Signer { chain: &[ca.der()], ..Signer::new(key, certificate) };
            let signed = sign_attached(b"profile", signer, &[], EARLIEST_SANE).unwrap();
            let (verified, content) = verify_attached(&signed).unwrap();
            assert_eq!(content, b"profile");
            assert_eq!(verified.signer, *certificate);
            assert_eq!(verified.certificates, [certificate.der(), ca.der()]);
            assert_eq!(verified.signing_time, Some(EARLIEST_SANE));

            let detached = sign_detached(b"profile", signer, &[], EARLIEST_SANE).unwrap();
            assert_eq!(verify_detached(&detached, b"profile"), Ok(verified));
            assert_eq!(verify_detached(&detached, b"profiles"), Err(CmsError::DigestMismatch));
            assert_eq!(verify_attached(&detached), Err(CmsError::Detached));
            assert_eq!(verify_detached(&signed, b"profile"), Err(CmsError::Attached));
        }
    }

    #[test]
    fn further_attributes_are_signed_and_found() {
        let (key, certificate) = &pairs()[0];
        let oid = Oid::new_unwrap("1.2.3.4");
        let value = asn1::encode(PRINTABLE_STRING, &[b"value"]);
        let signed = sign_detached(b"", Signer::new(key, certificate), &[(oid, value.clone())], 0).unwrap();
        let parsed = Signed::parse_detached(&signed).unwrap();
        assert_eq!(parsed.attribute(oid), Ok(Some(&value[..])));
        assert_eq!(parsed.attribute(Oid::new_unwrap("1.2.3.5")), Ok(None));

        let twice = [(oid, value.clone()), (oid, value)];
        let signed = sign_detached(b"", Signer::new(key, certificate), &twice, 0).unwrap();
        assert_eq!(Signed::parse_detached(&signed).unwrap().attribute(oid), Err(CmsError::Attributes));
    }

    #[test]
    fn nothing_is_signed_with_sha1() {
        let (key, certificate) = &pairs()[0];
        let signer = Signer { hash: Hash::Sha1, ..Signer::new(key, certificate) };
        assert_eq!(sign_detached(b"", signer, &[], 0), Err(KeyError::Algorithm));
    }

    #[test]
    fn a_bag_of_certificates_has_no_signer() {
        let ca = Certificate::from_pem(CA).unwrap();
        let bag = certs_only(&[ca.der()]);
        assert_eq!(Signed::parse(&bag).err(), Some(CmsError::Signers(0)));
        assert_eq!(super::super::certificates(&bag).unwrap(), [ca.der()]);
    }
}
