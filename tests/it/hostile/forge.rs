//! Certificates, signatures and SCEP requests as nobody honest makes them.

use std::sync::Arc;

use russet::clock::Seconds;
use russet::pki::asn1::{self, OCTET_STRING, Oid, PRINTABLE_STRING, Reader, SEQUENCE, SET};
use russet::pki::certificate::Certificate;
use russet::pki::cms::{self, Cipher, Signer};
use russet::pki::key::{Hash, PrivateKey};
use russet::simulator::{Identity, Key};

use super::odd::{self, Signs};
use crate::support::NOW;

const COMMON_NAME: Oid = Oid::new_unwrap("2.5.4.3");
const CHALLENGE_PASSWORD: Oid = Oid::new_unwrap("1.2.840.113549.1.9.7");
const EXTENSION_REQUEST: Oid = Oid::new_unwrap("1.2.840.113549.1.9.14");
const MESSAGE_TYPE: Oid = Oid::new_unwrap("2.16.840.1.113733.1.9.2");
const PKI_STATUS: Oid = Oid::new_unwrap("2.16.840.1.113733.1.9.3");
const FAIL_INFO: Oid = Oid::new_unwrap("2.16.840.1.113733.1.9.4");
const SENDER_NONCE: Oid = Oid::new_unwrap("2.16.840.1.113733.1.9.5");
const TRANSACTION_ID: Oid = Oid::new_unwrap("2.16.840.1.113733.1.9.7");

/// The private key of a simulated device's key.
pub fn private(key: &Arc<Key>) -> PrivateKey {
    PrivateKey::from_pkcs8(Identity::new(key.clone(), Vec::new()).pkcs8()).unwrap()
}

/// A Name with one common name.
pub fn name(common: &str) -> Vec<u8> {
    let value = asn1::encode(asn1::UTF8_STRING, &[common.as_bytes()]);
    let pair = asn1::encode(SEQUENCE, &[&asn1::oid(COMMON_NAME), &value]);
    asn1::encode(SEQUENCE, &[&asn1::encode(SET, &[&pair])])
}

fn bits(octets: &[u8]) -> Vec<u8> {
    asn1::encode(asn1::BIT_STRING, &[&[0], octets])
}

fn signed(by: &impl Signs, content: &[u8]) -> Vec<u8> {
    asn1::encode(SEQUENCE, &[content, &by.algorithm(), &bits(&by.signature(content))])
}

/// A certificate that says whatever it likes. `subject` and `issuer` are Names, `serial` the content of
/// the INTEGER.
pub struct Claimed<'a> {
    pub subject: &'a [u8],
    pub issuer: &'a [u8],
    pub serial: &'a [u8],
    pub spki: Vec<u8>,
    pub dates: (Seconds, Seconds),
}

impl Claimed<'_> {
    pub fn signed_by(&self, by: &impl Signs) -> Vec<u8> {
        let content = asn1::encode(
            SEQUENCE,
            &[
                &asn1::encode(asn1::constructed_context(0), &[&asn1::small_integer(2)]),
                &asn1::encode(asn1::INTEGER, &[self.serial]),
                &by.algorithm(),
                self.issuer,
                &asn1::encode(SEQUENCE, &[&asn1::time(self.dates.0), &asn1::time(self.dates.1)]),
                self.subject,
                &self.spki,
            ],
        );
        signed(by, &content)
    }
}

/// A self-signed certificate for a key, as SCEP requests are signed with.
pub fn throw_away(key: &PrivateKey) -> Certificate {
    let claimed = Claimed {
        subject: &name("MDM SCEP SIGNER"),
        issuer: &name("MDM SCEP SIGNER"),
        serial: &[1],
        spki: key.public_key_info().unwrap(),
        dates: (NOW - 86_400, NOW + 86_400),
    };
    Certificate::from_der(&claimed.signed_by(key)).unwrap()
}

/// What a certificate is asked for with.
pub struct Csr<'a> {
    pub subject: Vec<u8>,
    pub spki: Vec<u8>,
    pub challenge: Option<&'a str>,
    /// Extensions, each a whole SEQUENCE.
    pub extensions: Vec<Vec<u8>>,
}

impl<'a> Csr<'a> {
    pub fn of(key: &impl Signs, challenge: Option<&'a str>) -> Self {
        Self { subject: name("device"), spki: key.spki(), challenge, extensions: Vec::new() }
    }

    pub fn signed_by(&self, key: &impl Signs) -> Vec<u8> {
        let mut attributes = Vec::new();
        if let Some(challenge) = self.challenge {
            let value = asn1::encode(asn1::UTF8_STRING, &[challenge.as_bytes()]);
            attributes.push(attribute(CHALLENGE_PASSWORD, &value));
        }
        if !self.extensions.is_empty() {
            let value = asn1::encode(SEQUENCE, &[&self.extensions.concat()]);
            attributes.push(attribute(EXTENSION_REQUEST, &value));
        }
        let mut attributes = asn1::set_of(attributes);
        attributes[0] = asn1::constructed_context(0);
        let content =
            asn1::encode(SEQUENCE, &[&asn1::small_integer(0), &self.subject, &self.spki, &attributes]);
        signed(key, &content)
    }
}

fn attribute(oid: Oid, value: &[u8]) -> Vec<u8> {
    asn1::encode(SEQUENCE, &[&asn1::oid(oid), &asn1::encode(SET, &[value])])
}

/// A pkiMessage of any type around any request.
pub struct PkiMessage<'a> {
    pub message_type: &'a str,
    pub csr: &'a [u8],
    pub cipher: Cipher,
    pub signer: Signer<'a>,
}

impl PkiMessage<'_> {
    fn attributes(&self) -> [(Oid, Vec<u8>); 3] {
        let printable = |text: &str| asn1::encode(PRINTABLE_STRING, &[text.as_bytes()]);
        let transaction = russet::id::hex(&russet::id::sha256(self.csr));
        [
            (MESSAGE_TYPE, printable(self.message_type)),
            (TRANSACTION_ID, printable(&transaction)),
            (SENDER_NONCE, asn1::encode(OCTET_STRING, &[&[9; 16]])),
        ]
    }

    pub fn to(&self, ca: &Certificate) -> Vec<u8> {
        let envelope = cms::encrypt(self.csr, ca, self.cipher).unwrap();
        cms::sign_attached(&envelope, self.signer, &self.attributes(), NOW).unwrap()
    }

    /// As [`PkiMessage::to`], signed with SHA-1.
    pub fn to_with_sha1(&self, ca: &Certificate) -> Vec<u8> {
        let envelope = cms::encrypt(self.csr, ca, self.cipher).unwrap();
        let by = odd::Numbers::of(self.signer.key.pkcs8(), Hash::Sha1);
        odd::signed_data(&by, self.signer.certificate, &envelope, true, &self.attributes())
    }
}

/// The number that says why a SCEP server refused (RFC 8894 section 3.2.1.4).
pub fn fail_info(reply: &[u8]) -> String {
    let reply = russet::pki::ber::to_der(reply).unwrap();
    let said = cms::Signed::parse(&reply).unwrap().attribute(FAIL_INFO).unwrap().expect("a refusal");
    String::from_utf8(Reader::new(said).value(PRINTABLE_STRING).unwrap().to_vec()).unwrap()
}

/// What a SCEP server answered: a certificate, or nothing.
pub fn issued(reply: &[u8], key: &PrivateKey, recipient: &Certificate) -> Option<Certificate> {
    issued_in(reply, key, recipient).map(|(certificate, _)| certificate)
}

/// As [`issued`], with the cipher that the certificate came in.
pub fn issued_in(reply: &[u8], key: &PrivateKey, recipient: &Certificate) -> Option<(Certificate, Cipher)> {
    let read = cms::verify_attached(reply);
    // A refusal has no content.
    if read == Err(cms::CmsError::Detached) {
        return None;
    }
    let content = read.unwrap().1;
    let signed = russet::pki::ber::to_der(reply).unwrap();
    let status = cms::Signed::parse(&signed).unwrap().attribute(PKI_STATUS).unwrap().unwrap().to_vec();
    assert_eq!(status, asn1::encode(PRINTABLE_STRING, &[b"0"]));
    let (inside, cipher) = cms::decrypt(&content, recipient, key).unwrap();
    let certificates = cms::certificates(&inside).unwrap();
    Some((Certificate::from_der(certificates[0]).unwrap(), cipher))
}
