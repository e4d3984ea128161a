//! SignedData (RFC 5652 section 5): `Mdm-Signature`, MachineInfo, profiles, SCEP messages.
//!
//! [`Signed::parse`] borrows and does no public-key arithmetic; [`Signed::verify`] takes the signer's
//! key, so that a caller who has seen [`Signed::signer_der`] before need not parse its key again.
//!
//! **Invariant:** where there are signed attributes, the digest of the content is compared with
//! messageDigest before anything is believed; a signature over attributes alone authenticates no body.

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::super::asn1::{self, OBJECT_IDENTIFIER, OCTET_STRING, Oid, Reader, SEQUENCE, SET};
use super::super::certificate::{self, Fields};
use super::super::key::{self, Family, Hash, KeyError, PublicKey};
use super::{CmsError, Identifier, SIGNED_DATA, open};
use crate::clock::Seconds;

/// The most certificates that a message may carry.
pub(super) const MAX_CERTIFICATES: usize = 8;
/// The most signed attributes that are read.
const MAX_ATTRIBUTES: usize = 32;

pub(super) const CONTENT_TYPE: Oid = Oid::new_unwrap("1.2.840.113549.1.9.3");
pub(super) const MESSAGE_DIGEST: Oid = Oid::new_unwrap("1.2.840.113549.1.9.4");
pub(super) const SIGNING_TIME: Oid = Oid::new_unwrap("1.2.840.113549.1.9.5");

/// A parsed SignedData with exactly one signer; nothing is verified yet.
pub struct Signed<'a> {
    content_type: &'a [u8],
    content: Option<&'a [u8]>,
    certificates: Vec<&'a [u8]>,
    signer: &'a [u8],
    hash: Hash,
    family: Family,
    /// The whole `[0]` element.
    attributes: Option<&'a [u8]>,
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    /// Reads a ContentInfo with SignedData in DER, with content or detached.
    pub fn parse(der: &'a [u8]) -> Result<Self, CmsError> {
        let mut data = open(der, SIGNED_DATA)?;
        data.value(asn1::INTEGER)?;
        data.value(SET)?;
        let mut encapsulated = data.inside(SEQUENCE)?;
        let content_type = encapsulated.value(OBJECT_IDENTIFIER)?;
        let content = match encapsulated.optional(asn1::constructed_context(0))? {
            Some(explicit) => {
                let mut explicit = Reader::new(explicit.value);
                let content = explicit.value(OCTET_STRING)?;
                explicit.end()?;
                Some(content)
            }
            None => None,
        };
        encapsulated.end()?;
        let certificates = match data.optional(asn1::constructed_context(0))? {
            Some(set) => read_certificates(set.value)?,
            None => Vec::new(),
        };
        // Revocation lists are of no use to us.
        data.optional(asn1::constructed_context(1))?;
        let mut signers = data.inside(SET)?;
        data.end()?;
        let mut info = one_signer(&mut signers)?;

        info.value(asn1::INTEGER)?;
        let identifier = Identifier::read(&mut info)?;
        let hash = Hash::from_oid(info.algorithm()?.0).ok_or(CmsError::Algorithm)?;
        let attributes = info.optional(asn1::constructed_context(0))?.map(|attributes| attributes.whole);
        let (algorithm, _) = info.algorithm()?;
        let signature = info.value(OCTET_STRING)?;
        info.optional(asn1::constructed_context(1))?;
        info.end()?;
        let (family, named) = key::scheme(algorithm).ok_or(CmsError::Algorithm)?;
        if named.is_some_and(|named| named != hash) {
            return Err(CmsError::Algorithm);
        }
        let signer = certificates
            .iter()
            .find(|der| Fields::read(der).is_ok_and(|certificate| identifier.names(&certificate)))
            .ok_or(CmsError::SignerMissing)?;
        Ok(Self { content_type, content, signer, certificates, hash, family, attributes, signature })
    }

    /// As [`Signed::parse`], refusing embedded content.
    pub fn parse_detached(der: &'a [u8]) -> Result<Self, CmsError> {
        let signed = Self::parse(der)?;
        if signed.content.is_some() { Err(CmsError::Attached) } else { Ok(signed) }
    }

    /// The embedded content.
    pub fn content(&self) -> Option<&'a [u8]> {
        self.content
    }

    /// The DER of the signer's certificate.
    pub fn signer_der(&self) -> &'a [u8] {
        self.signer
    }

    /// SHA-256 of the signer's certificate, by which a caller finds the key it has parsed before.
    pub fn signer_fingerprint(&self) -> [u8; 32] {
        certificate::fingerprint(self.signer)
    }

    /// All certificates of the message, the signer's among them.
    pub fn certificates(&self) -> &[&'a [u8]] {
        &self.certificates
    }

    /// The digest algorithm that the signer chose.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Whether the key of the signer's certificate signed `content`; `key` must be that key.
    pub fn verify(&self, content: &[u8], key: &PublicKey) -> Result<(), CmsError> {
        if key.family() != self.family {
            return Err(CmsError::Algorithm);
        }
        let Some(attributes) = self.attributes else {
            return Ok(key.verify(self.hash, content, self.signature)?);
        };
        let stated = self.attribute(MESSAGE_DIGEST)?.ok_or(CmsError::Attributes)?;
        let stated = Reader::new(stated).value(OCTET_STRING)?;
        verify_slices_are_equal(self.hash.digest(content).as_ref(), stated)
            .map_err(|_| CmsError::DigestMismatch)?;
        let content_type = self.attribute(CONTENT_TYPE)?.ok_or(CmsError::Attributes)?;
        if Reader::new(content_type).value(OBJECT_IDENTIFIER)? != self.content_type {
            return Err(CmsError::Attributes);
        }
        // What is signed is the SET OF, not the [0] that stands in its place (RFC 5652 section 5.4).
        let mut set = attributes.to_vec();
        set[0] = SET;
        match key.verify(self.hash, &set, self.signature) {
            // Signed as DER wants it, sent in another order.
            Err(KeyError::BadSignature) => Ok(key.verify(self.hash, &sorted(&set)?, self.signature)?),
            other => Ok(other?),
        }
    }

    /// The time that the signer claims, if it claims one.
    ///
    /// # Errors
    /// It is repeated or cannot be read: as good as none it would escape every check of its time.
    pub fn signing_time(&self) -> Result<Option<Seconds>, CmsError> {
        let Some(stated) = self.attribute(SIGNING_TIME)? else { return Ok(None) };
        let time = Reader::new(stated).element()?.time().map_err(|_| CmsError::Attributes)?;
        Ok(Some(time))
    }

    /// The single value (a whole element) of a signed attribute; repeated attributes and several values
    /// are refused, because readers disagree which one counts.
    pub fn attribute(&self, oid: Oid) -> Result<Option<&'a [u8]>, CmsError> {
        let Some(attributes) = self.attributes else { return Ok(None) };
        let mut reader = Reader::new(attributes).inside(asn1::constructed_context(0))?;
        let (mut found, mut count) = (None, 0);
        while !reader.is_empty() {
            count += 1;
            let mut attribute = reader.inside(SEQUENCE)?;
            let kind = attribute.value(OBJECT_IDENTIFIER)?;
            let mut values = attribute.inside(SET)?;
            attribute.end()?;
            if kind == oid.as_bytes() {
                let value = values.element()?.whole;
                if found.replace(value).is_some() || !values.is_empty() {
                    return Err(CmsError::Attributes);
                }
            }
        }
        if count > MAX_ATTRIBUTES { Err(CmsError::Attributes) } else { Ok(found) }
    }
}

/// The DER of all certificates in a SignedData (in DER), signed or not.
pub fn certificates(der: &[u8]) -> Result<Vec<&[u8]>, CmsError> {
    let mut data = open(der, SIGNED_DATA)?;
    data.value(asn1::INTEGER)?;
    data.value(SET)?;
    data.value(SEQUENCE)?;
    let set = data.optional(asn1::constructed_context(0))?;
    set.map_or(Ok(Vec::new()), |set| read_certificates(set.value))
}

fn read_certificates(set: &[u8]) -> Result<Vec<&[u8]>, CmsError> {
    let mut reader = Reader::new(set);
    let mut certificates = Vec::new();
    while !reader.is_empty() {
        if certificates.len() == MAX_CERTIFICATES {
            return Err(CmsError::TooManyCertificates);
        }
        certificates.push(reader.expect(SEQUENCE)?.whole);
    }
    Ok(certificates)
}

fn one_signer<'a>(signers: &mut Reader<'a>) -> Result<Reader<'a>, CmsError> {
    if signers.is_empty() {
        return Err(CmsError::Signers(0));
    }
    let signer = signers.inside(SEQUENCE)?;
    let mut count = 1;
    while !signers.is_empty() {
        signers.element()?;
        count += 1;
    }
    if count == 1 { Ok(signer) } else { Err(CmsError::Signers(count)) }
}

fn sorted(set: &[u8]) -> Result<Vec<u8>, CmsError> {
    let mut reader = Reader::new(set).inside(SET)?;
    let mut elements = Vec::new();
    while !reader.is_empty() {
        elements.push(reader.element()?.whole.to_vec());
    }
    Ok(asn1::set_of(elements))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::ber::{BerError, to_der};
    use super::super::super::certificate::Certificate;
    use super::super::{verify_attached, verify_detached};
    use super::*;

    macro_rules! fixture {
        ($name:literal) => {
            include_bytes!(concat!("../../../tests/fixtures/cms/", $name))
        };
    }

    const CONTENT: &[u8] = fixture!("content.bin");
    const SHA256: &[u8] = fixture!("detached.rsa.sha256.p7");

    /// The outermost `levels` in indefinite form, as Apple's devices send them. OpenSSL makes no such
    /// detached signature: with `-stream` it embeds the content.
    fn loosen(der: &[u8], levels: usize) -> Vec<u8> {
        let (mut reader, mut out) = (Reader::new(der), Vec::new());
        while let Ok(element) = reader.element() {
            if levels > 0 && element.tag & 0x20 != 0 {
                out.extend([element.tag, 0x80]);
                out.extend(loosen(element.value, levels - 1));
                out.extend([0, 0]);
            } else {
                out.extend(element.whole);
            }
        }
        out
    }

    #[test]
    fn signatures_made_by_openssl_are_verified() {
        let rsa = Certificate::from_pem(include_str!("../../../tests/fixtures/cms/rsa.crt")).unwrap();
        let apple = loosen(fixture!("detached.noattr.sha1.p7"), 4);
        let ours: [(&[u8], Hash); 10] = [
            (fixture!("detached.rsa.sha1.p7"), Hash::Sha1),
            (SHA256, Hash::Sha256),
            (fixture!("detached.rsa.sha384.p7"), Hash::Sha384),
            (fixture!("detached.rsa.sha512.p7"), Hash::Sha512),
            (fixture!("detached.noattr.sha1.p7"), Hash::Sha1),
            (fixture!("detached.noattr.sha256.p7"), Hash::Sha256),
            (fixture!("detached.keyid.p7"), Hash::Sha256),
            (&apple, Hash::Sha1),
            (fixture!("detached.chain.p7"), Hash::Sha256),
            (fixture!("attached.p7"), Hash::Sha256),
        ];
        for (index, (signature, hash)) in ours.into_iter().enumerate() {
            let verified = match index {
                9 => verify_attached(signature).map(|(verified, _)| verified),
                _ => verify_detached(signature, CONTENT),
            };
            let verified = verified.unwrap_or_else(|error| panic!("{index}: {error}"));
            assert_eq!((verified.signer, verified.hash), (rsa.clone(), hash), "{index}");
            assert_eq!(verified.signing_time.is_some(), ![4, 5, 7].contains(&index), "{index}");
            assert_eq!(verified.certificates.len(), if index == 8 { 2 } else { 1 });
        }
        for other in [
            &fixture!("detached.small.sha1.p7")[..],
            fixture!("detached.p256.p7"),
            fixture!("detached.p384.p7"),
            fixture!("detached.odd.p7"),
        ] {
            verify_detached(other, CONTENT).unwrap();
        }
    }

    #[test]
    fn content_in_several_pieces_is_joined() {
        assert_eq!(verify_attached(fixture!("attached.stream.p7")).unwrap().1, CONTENT);
    }

    #[test]
    fn another_body_is_refused_with_and_without_attributes() {
        assert_eq!(verify_detached(SHA256, b"other"), Err(CmsError::DigestMismatch));
        assert_eq!(verify_detached(&loosen(SHA256, 9), b""), Err(CmsError::DigestMismatch));
        let bare = fixture!("detached.noattr.sha256.p7");
        assert_eq!(verify_detached(bare, b"other"), Err(KeyError::BadSignature.into()));
    }

    #[test]
    fn md5_pss_missing_certificates_and_second_signers_are_refused() {
        let refused: [(&[u8], CmsError); 5] = [
            (fixture!("detached.rsa.md5.p7"), CmsError::Algorithm),
            (fixture!("detached.pss.p7"), CmsError::Algorithm),
            (fixture!("detached.nocerts.p7"), CmsError::SignerMissing),
            (fixture!("detached.two.p7"), CmsError::Signers(2)),
            (fixture!("attached.p7"), CmsError::Attached),
        ];
        for (signature, error) in refused {
            assert_eq!(verify_detached(signature, CONTENT), Err(error));
        }
    }

    #[test]
    fn the_key_of_another_certificate_does_not_verify() {
        let other = Certificate::from_pem(include_str!("../../../tests/fixtures/cms/ca.crt")).unwrap();
        let signed = Signed::parse_detached(SHA256).unwrap();
        let error = signed.verify(CONTENT, &other.public_key().unwrap());
        assert_eq!(error, Err(KeyError::BadSignature.into()));
        let elliptic = Certificate::from_pem(include_str!("../../../tests/fixtures/cms/p256.crt")).unwrap();
        assert_eq!(signed.verify(CONTENT, &elliptic.public_key().unwrap()), Err(CmsError::Algorithm));
    }

    #[test]
    fn attributes_in_another_order_than_der_wants_are_verified() {
        let der = to_der(SHA256).unwrap();
        let signed = Signed::parse(&der).unwrap();
        let attributes = signed.attributes.unwrap();
        let mut inside = Reader::new(attributes).inside(0xa0).unwrap();
        let mut elements = Vec::new();
        while !inside.is_empty() {
            elements.push(inside.element().unwrap().whole);
        }
        elements.reverse();
        let reordered = asn1::encode(0xa0, &[&elements.concat()]);
        assert_ne!(reordered, attributes);
        let at = der.windows(attributes.len()).position(|window| window == attributes).unwrap();
        let mut sent = der.to_vec();
        sent.splice(at..at + attributes.len(), reordered);
        assert!(verify_detached(&sent, CONTENT).is_ok());
    }

    #[test]
    fn a_signing_time_that_is_repeated_or_unreadable_is_not_as_good_as_none() {
        let der = to_der(SHA256).unwrap();
        let signed = Signed::parse(&der).unwrap();
        assert!(signed.signing_time().unwrap().is_some());
        let mut inside = Reader::new(signed.attributes.unwrap()).inside(0xa0).unwrap();
        let mut elements = Vec::new();
        while !inside.is_empty() {
            elements.push(inside.element().unwrap().whole);
        }
        let is_time = |element: &&&[u8]| {
            Reader::new(element).inside(SEQUENCE).unwrap().value(OBJECT_IDENTIFIER).unwrap()
                == SIGNING_TIME.as_bytes()
        };
        let stated = elements.iter().find(is_time).unwrap().to_vec();
        let damaged = stated.strip_suffix(b"Z").unwrap().iter().chain(b"z").copied().collect::<Vec<_>>();
        for more in [&stated, &damaged] {
            let others = elements.iter().filter(|element| more == &stated || !is_time(element));
            let attributes = asn1::encode(0xa0, &[&others.copied().collect::<Vec<_>>().concat(), more]);
            let signed = Signed { attributes: Some(&attributes), ..Signed::parse(&der).unwrap() };
            assert_eq!(signed.signing_time(), Err(CmsError::Attributes));
        }
    }

    #[test]
    fn a_thousand_certificates_and_trailing_bytes_are_refused() {
        let certificate = Certificate::from_pem(include_str!("../../../tests/fixtures/cms/rsa.crt")).unwrap();
        let bag = super::super::certs_only(&vec![certificate.der(); 1000]);
        assert_eq!(Signed::parse(&bag).err(), Some(CmsError::TooManyCertificates));
        let longer = [SHA256, b"\n"].concat();
        assert_eq!(verify_detached(&longer, CONTENT), Err(CmsError::Ber(BerError::Trailing(1))));
    }

    proptest! {
        #[test]
        fn a_damaged_signature_never_panics_and_never_speaks_for_other_content(
            at in any::<prop::sample::Index>(), byte: u8, stream: bool,
        ) {
            let mut signature = if stream { loosen(SHA256, 5) } else { SHA256.to_vec() };
            let index = at.index(signature.len());
            signature[index] = byte;
            let _ = verify_detached(&signature, CONTENT);
            prop_assert!(verify_detached(&signature, b"other").is_err());
            prop_assert!(verify_detached(&signature[..index], CONTENT).is_err());
        }

        #[test]
        fn arbitrary_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(verify_attached(&bytes).is_err());
        }
    }
}
