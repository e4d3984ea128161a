//! Signed CMS as devices write and read it (RFC 5652 section 5).
//!
//! The outer layers are written with indefinite lengths, as Apple's encoder does (compare
//! `MIAGCSqGSIb3DQEHAqCAMIAC…`, the beginning of every `Mdm-Signature`). Used by [`super::scep`],
//! [`super::check_in`] and [`super::profile`].
//!
//! **Invariant:** [`verify`] proves that the signer holds the key of a certificate in the message,
//! and nothing about that certificate.

use super::ber::{self, Element, Lengths, Malformed, Reader};
use super::certificate::{Certificate, Digest, RSA, verifies};
use super::fault::Fault;
use super::identity::{Identity, algorithm, attribute};
use crate::clock::Seconds;

pub(super) const DATA: &str = "1.2.840.113549.1.7.1";
const SIGNED_DATA: &str = "1.2.840.113549.1.7.2";
const CONTENT_TYPE: &str = "1.2.840.113549.1.9.3";
const MESSAGE_DIGEST: &str = "1.2.840.113549.1.9.4";
const SIGNING_TIME: &str = "1.2.840.113549.1.9.5";

/// How a signature is written: devices differ, and a server has to read them all.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// The digest of content and signature.
    pub digest: Digest,
    /// With contentType, messageDigest and signingTime (tvOS, newer iOS), or over the content itself (macOS, older iOS).
    pub signed_attributes: bool,
}

/// Signs `content` without enclosing it: the value of an `Mdm-Signature`, before base64.
pub fn sign_detached(
    identity: &Identity,
    content: &[u8],
    form: Form,
    now: Seconds,
) -> Result<Vec<u8>, Fault> {
    let attributes = form.signed_attributes.then(|| {
        let time = super::identity::utc_time(now);
        vec![attribute(SIGNING_TIME, &time)]
    });
    sign(identity, content, form.digest, attributes, None)
}

/// Signs `content` and encloses it, with `attributes` beside the two that CMS demands.
pub(super) fn sign_attached(
    identity: &Identity,
    content: &[u8],
    digest: Digest,
    attributes: Vec<Vec<u8>>,
    lengths: Lengths,
) -> Result<Vec<u8>, Fault> {
    sign(identity, content, digest, Some(attributes), Some(lengths))
}

fn sign(
    identity: &Identity,
    content: &[u8],
    digest: Digest,
    attributes: Option<Vec<Vec<u8>>>,
    enclosed: Option<Lengths>,
) -> Result<Vec<u8>, Fault> {
    let certificate = Certificate::read(&identity.certificate)?;
    let data = ber::oid(DATA).unwrap_or_default();
    let digest_algorithm = algorithm(digest.oid());
    let (attributes, signature, signature_algorithm) = match attributes {
        None => (Vec::new(), identity.key.sign(digest, content)?, algorithm(digest.with_rsa())),
        Some(mut attributes) => {
            attributes.push(attribute(CONTENT_TYPE, &data));
            let hash = ber::element(ber::OCTET_STRING, &digest.of(content));
            attributes.push(attribute(MESSAGE_DIGEST, &hash));
            let signed = ber::set_of(ber::SET, attributes.clone());
            let signature = identity.key.sign(digest, &signed)?;
            (ber::set_of(ber::CONTEXT_0, attributes), signature, algorithm(RSA))
        }
    };
    let signer = ber::constructed(
        ber::SEQUENCE,
        &[
            &ber::integer(&[1]),
            &ber::constructed(ber::SEQUENCE, &[certificate.issuer, certificate.serial]),
            &digest_algorithm,
            &attributes,
            &signature_algorithm,
            &ber::element(ber::OCTET_STRING, &signature),
        ],
    );
    // Detached signatures are always indefinite: so is every `Mdm-Signature` that was seen.
    let lengths = enclosed.unwrap_or(Lengths::Indefinite);
    let explicit = match enclosed {
        Some(_) => lengths.constructed(ber::CONTEXT_0, &[&lengths.octets(ber::OCTET_STRING, content)]),
        None => Vec::new(),
    };
    let signed_data = lengths.constructed(
        ber::SEQUENCE,
        &[
            &ber::integer(&[1]),
            &ber::element(ber::SET, &digest_algorithm),
            &lengths.constructed(ber::SEQUENCE, &[&data, &explicit]),
            &ber::element(ber::CONTEXT_0, &identity.certificate),
            &ber::element(ber::SET, &signer),
        ],
    );
    Ok(wrap(SIGNED_DATA, &signed_data, lengths))
}

/// A ContentInfo.
pub(super) fn wrap(content_type: &str, content: &[u8], lengths: Lengths) -> Vec<u8> {
    let id = ber::oid(content_type).unwrap_or_default();
    lengths.constructed(ber::SEQUENCE, &[&id, &lengths.constructed(ber::CONTEXT_0, &[content])])
}

/// A signed message whose signature holds.
#[derive(Debug)]
pub(super) struct Verified {
    /// What was signed and enclosed; empty for a message without content (a SCEP failure).
    pub(super) content: Vec<u8>,
    /// The signer's certificate, DER.
    pub(super) signer: Vec<u8>,
    attributes: Attributes,
}

/// OID elements and the content octets of the first value.
type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

impl Verified {
    /// The content octets of a signed attribute's first value.
    pub(super) fn attribute(&self, dotted: &str) -> Option<&[u8]> {
        let id = ber::oid(dotted)?;
        self.attributes.iter().find(|(name, _)| *name == id).map(|(_, value)| value.as_slice())
    }
}

/// Reads an attached SignedData, in DER or BER, with exactly one signer, and verifies it.
pub(super) fn verify(message: &[u8]) -> Result<Verified, Fault> {
    let der = ber::to_der(message)?;
    let parts = SignedData::read(&der)?;
    let mut signers = parts.signers;
    let mut signer = signers.enter(ber::SEQUENCE)?;
    if signers.next()?.is_some() {
        return Err(Fault::unacceptable("the CMS message has several signers"));
    }
    signer.expect(ber::INTEGER)?;
    let issuer_and_serial = signer.expect(ber::SEQUENCE)?.content;
    let certificate = parts
        .certificates
        .iter()
        .find(|der| Certificate::read(der).is_ok_and(|c| [c.issuer, c.serial].concat() == issuer_and_serial))
        .ok_or_else(|| Fault::unacceptable("the CMS message does not contain its signer's certificate"))?;
    let digest = Digest::named(signer.enter(ber::SEQUENCE)?.expect(ber::OID)?.whole)
        .ok_or_else(|| Fault::unacceptable("the CMS message has an unknown digest algorithm"))?;
    let attributes = signer.optional(ber::CONTEXT_0)?;
    signer.expect(ber::SEQUENCE)?;
    let signature = signer.expect(ber::OCTET_STRING)?.content;
    let content = parts.content.unwrap_or_default();
    let spki = Certificate::read(certificate)?.spki;
    let holds = match attributes {
        None => verifies(spki, digest, content, signature),
        Some(set) => verifies(spki, digest, &ber::element(ber::SET, set.content), signature),
    };
    let attributes = match attributes {
        None => Vec::new(),
        Some(set) => read_attributes(set)?,
    };
    let verified = Verified { content: content.to_vec(), signer: certificate.to_vec(), attributes };
    let digests = verified.attributes.is_empty()
        || verified.attribute(MESSAGE_DIGEST) == Some(digest.of(content).as_slice());
    match (holds, digests) {
        (true, true) => Ok(verified),
        (true, false) => Err(Fault::unacceptable("the CMS message's digest is not that of its content")),
        (false, _) => Err(Fault::unacceptable("the CMS message's signature does not verify")),
    }
}

/// The certificates of a SignedData, signed by somebody or by nobody (certs-only).
pub(super) fn certificates(message: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
    let der = ber::to_der(message)?;
    Ok(SignedData::read(&der)?.certificates.iter().map(|der| der.to_vec()).collect())
}

struct SignedData<'a> {
    content: Option<&'a [u8]>,
    certificates: Vec<&'a [u8]>,
    signers: Reader<'a>,
}

impl<'a> SignedData<'a> {
    fn read(der: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = content_of(der, SIGNED_DATA)?;
        fields.expect(ber::INTEGER)?;
        fields.expect(ber::SET)?;
        let mut enclosed = fields.enter(ber::SEQUENCE)?;
        enclosed.expect(ber::OID)?;
        let content = match enclosed.optional(ber::CONTEXT_0)? {
            Some(explicit) => Some(Reader(explicit.content).expect(ber::OCTET_STRING)?.content),
            None => None,
        };
        let mut certificates = Vec::new();
        if let Some(set) = fields.optional(ber::CONTEXT_0)? {
            let mut set = Reader(set.content);
            while let Some(certificate) = set.next()? {
                certificates.push(certificate.whole);
            }
        }
        fields.optional(ber::CONTEXT_0 | 1)?;
        Ok(Self { content, certificates, signers: fields.enter(ber::SET)? })
    }
}

fn read_attributes(set: Element) -> Result<Attributes, Malformed> {
    let mut attributes = Vec::new();
    let mut set = Reader(set.content);
    while let Some(attribute) = set.next()? {
        let mut fields = Reader(attribute.content);
        let id = fields.expect(ber::OID)?.whole.to_vec();
        if let Some(value) = fields.enter(ber::SET)?.next()? {
            attributes.push((id, value.content.to_vec()));
        }
    }
    Ok(attributes)
}

/// What a ContentInfo of the given type holds.
pub(super) fn content_of<'a>(der: &'a [u8], content_type: &str) -> Result<Reader<'a>, Malformed> {
    let mut info = Reader(der).enter(ber::SEQUENCE)?;
    if Some(info.expect(ber::OID)?.whole) != ber::oid(content_type).as_deref() {
        return Err(Malformed("another type of CMS message than expected"));
    }
    info.enter(ber::CONTEXT_0)?.enter(ber::SEQUENCE)
}
