//! pkiMessages (RFC 8894 section 3): a request taken apart in two steps, and the reply to it.
//!
//! The outer signature is verified by [`Message::parse`]; from then on the client can be answered in
//! SCEP. [`Message::open`] decrypts with the CA's key. A first request is signed by a throw-away
//! certificate, a renewal by the certificate to be renewed: whether that one is ours is the caller's.
//!
//! **Invariant:** a [`Request`] of type PKCSReq asks for the key that signed it, so a signed request
//! cannot be used to certify somebody else's key.

use aws_lc_rs::rand;

use super::super::asn1::{self, IA5_STRING, OCTET_STRING, Oid, PRINTABLE_STRING, Reader, UTF8_STRING};
use super::super::ber;
use super::super::certificate::Certificate;
use super::super::cms::{self, Cipher, CmsError, Signed, Signer};
use super::super::key::{Hash, KeyError, PrivateKey, PublicKey};
use super::csr::{Csr, CsrError};
use crate::clock::Seconds;

const MESSAGE_TYPE: Oid = Oid::new_unwrap("2.16.840.1.113733.1.9.2");
const PKI_STATUS: Oid = Oid::new_unwrap("2.16.840.1.113733.1.9.3");
const FAIL_INFO: Oid = Oid::new_unwrap("2.16.840.1.113733.1.9.4");
const SENDER_NONCE: Oid = Oid::new_unwrap("2.16.840.1.113733.1.9.5");
const RECIPIENT_NONCE: Oid = Oid::new_unwrap("2.16.840.1.113733.1.9.6");
const TRANSACTION_ID: Oid = Oid::new_unwrap("2.16.840.1.113733.1.9.7");

const MAX_TRANSACTION_ID: usize = 256;
const MAX_NONCE: usize = 64;

/// The messages that are answered with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageType {
    /// 17: signed by the certificate that is to be renewed.
    RenewalReq,
    /// 19: a first request, signed by a self-signed certificate.
    PkcsReq,
}

/// Why a request fails, in the words of RFC 8894 section 3.2.1.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailInfo {
    BadAlg = 0,
    BadMessageCheck = 1,
    BadRequest = 2,
    BadTime = 3,
    BadCertId = 4,
}

/// What a reply repeats of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// ASCII, at most 256 characters.
    pub id: String,
    pub sender_nonce: Vec<u8>,
    /// The digest that the client signed with.
    pub hash: Hash,
}

/// A pkiMessage whose signature is verified; still encrypted.
#[derive(Debug)]
pub struct Message {
    pub transaction: Transaction,
    /// The number as sent, e.g. `19`.
    pub message_type: String,
    /// The certificate whose key signed the message.
    pub signer: Certificate,
    signer_key: PublicKey,
    envelope: Vec<u8>,
}

/// A decrypted request for a certificate.
#[derive(Debug)]
pub struct Request {
    pub transaction: Transaction,
    pub message_type: MessageType,
    /// For PKCSReq self-signed and meaningless; for RenewalReq the certificate to be renewed.
    pub signer: Certificate,
    pub cipher: Cipher,
    pub csr: Csr,
}

/// Why a [`Message`] is no acceptable [`Request`]; answered with [`failure`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("SCEP message type {0} is not supported; send PKCSReq (19) or RenewalReq (17)")]
    MessageType(String),
    #[error(transparent)]
    Envelope(CmsError),
    #[error(transparent)]
    Csr(CsrError),
    #[error("the SCEP request is signed by another key than it asks a certificate for")]
    OtherKey,
}

impl Refusal {
    /// What the client is told. Wrong padding and damaged content are not told apart.
    pub fn fail_info(&self) -> FailInfo {
        match self {
            Self::MessageType(_) | Self::OtherKey => FailInfo::BadRequest,
            Self::Envelope(CmsError::Algorithm) | Self::Csr(CsrError::Key) => FailInfo::BadAlg,
            Self::Envelope(_) | Self::Csr(CsrError::Malformed | CsrError::Signature) => {
                FailInfo::BadMessageCheck
            }
        }
    }
}

impl Message {
    /// Reads a PKIOperation (BER or DER) and verifies its signature. Whoever fails here cannot be
    /// answered in SCEP, for want of a transaction.
    pub fn parse(bytes: &[u8]) -> Result<Self, CmsError> {
        let der = ber::to_der(bytes)?;
        let signed = Signed::parse(&der)?;
        let envelope = signed.content().ok_or(CmsError::Detached)?;
        let signer = Certificate::from_der(signed.signer_der())?;
        let signer_key = signer.public_key()?;
        signed.verify(envelope, &signer_key)?;
        let nonce = signed.attribute(SENDER_NONCE)?.ok_or(CmsError::Attributes)?;
        let nonce = Reader::new(nonce).value(OCTET_STRING)?;
        if nonce.len() > MAX_NONCE {
            return Err(CmsError::Attributes);
        }
        Ok(Self {
            transaction: Transaction {
                id: text(&signed, TRANSACTION_ID)?,
                sender_nonce: nonce.to_vec(),
                hash: signed.hash(),
            },
            message_type: text(&signed, MESSAGE_TYPE)?,
            signer,
            signer_key,
            envelope: envelope.to_vec(),
        })
    }

    /// Decrypts the request with the key of the certificate that GetCACert gave out, and reads it.
    pub fn open(&self, authority: &Certificate, key: &PrivateKey) -> Result<Request, Refusal> {
        let message_type = match self.message_type.as_str() {
            "17" => MessageType::RenewalReq,
            "19" => MessageType::PkcsReq,
            _ => return Err(Refusal::MessageType(self.message_type.clone())),
        };
        let (csr, cipher) = cms::decrypt(&self.envelope, authority, key).map_err(Refusal::Envelope)?;
        let csr = Csr::from_der(&csr).map_err(Refusal::Csr)?;
        if message_type == MessageType::PkcsReq && *csr.public_key() != self.signer_key {
            return Err(Refusal::OtherKey);
        }
        let (transaction, signer) = (self.transaction.clone(), self.signer.clone());
        Ok(Request { transaction, message_type, signer, cipher, csr })
    }
}

fn text(signed: &Signed<'_>, oid: Oid) -> Result<String, CmsError> {
    let element = Reader::new(signed.attribute(oid)?.ok_or(CmsError::Attributes)?).element()?;
    let printable = element.value.iter().all(|byte| (0x20..0x7f).contains(byte));
    let fits = (1..=MAX_TRANSACTION_ID).contains(&element.value.len());
    if !matches!(element.tag, PRINTABLE_STRING | UTF8_STRING | IA5_STRING) || !printable || !fits {
        return Err(CmsError::Attributes);
    }
    element.text().ok_or(CmsError::Attributes)
}

/// A CertRep with the issued certificate (DER) first and `chain` after it, encrypted to the signer of
/// the request in its own cipher (AES-128 where that was DES), signed by `authority`.
pub fn success(
    request: &Request,
    issued: &[u8],
    chain: &[&[u8]],
    authority: Signer<'_>,
    now: Seconds,
) -> Result<Vec<u8>, CmsError> {
    let certificates = cms::certs_only(&[&[issued], chain].concat());
    let cipher = if request.cipher == Cipher::Des { Cipher::Aes128 } else { request.cipher };
    let envelope = cms::encrypt(&certificates, &request.signer, cipher)?;
    let attributes = reply(&request.transaction, "0", None)?;
    Ok(cms::sign_attached(&envelope, answering(&request.transaction, authority), &attributes, now)?)
}

/// A CertRep that says why there is no certificate; it has no content (RFC 8894 section 3.3.2).
pub fn failure(
    transaction: &Transaction,
    fail_info: FailInfo,
    authority: Signer<'_>,
    now: Seconds,
) -> Result<Vec<u8>, CmsError> {
    let attributes = reply(transaction, "2", Some(fail_info))?;
    Ok(cms::sign_detached(&[], answering(transaction, authority), &attributes, now)?)
}

fn answering<'a>(transaction: &Transaction, authority: Signer<'a>) -> Signer<'a> {
    let hash = if transaction.hash == Hash::Sha512 { Hash::Sha512 } else { authority.hash };
    Signer { hash, ..authority }
}

fn reply(
    transaction: &Transaction,
    status: &str,
    fail_info: Option<FailInfo>,
) -> Result<Vec<(Oid, Vec<u8>)>, CmsError> {
    let mut nonce = [0; 16];
    rand::fill(&mut nonce).map_err(|_| KeyError::Failed)?;
    let printable = |text: &str| asn1::encode(PRINTABLE_STRING, &[text.as_bytes()]);
    let octets = |bytes: &[u8]| asn1::encode(OCTET_STRING, &[bytes]);
    let mut attributes = vec![
        (MESSAGE_TYPE, printable("3")),
        (PKI_STATUS, printable(status)),
        (TRANSACTION_ID, printable(&transaction.id)),
        (SENDER_NONCE, octets(&nonce)),
        (RECIPIENT_NONCE, octets(&transaction.sender_nonce)),
    ];
    attributes.extend(fail_info.map(|info| (FAIL_INFO, printable(&(info as u8).to_string()))));
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::EARLIEST_SANE;

    macro_rules! fixture {
        ($name:literal) => {
            include_str!(concat!("../../../tests/fixtures/cms/", $name))
        };
    }

    const CSR: &[u8] = include_bytes!("../../../tests/fixtures/cms/rsa.sha256.csr");

    struct Party {
        key: PrivateKey,
        certificate: Certificate,
    }

    impl Party {
        fn new(key: &str, certificate: &str) -> Self {
            Self {
                key: PrivateKey::from_pem(key).unwrap(),
                certificate: Certificate::from_pem(certificate).unwrap(),
            }
        }

        fn signer(&self) -> Signer<'_> {
            Signer::new(&self.key, &self.certificate)
        }
    }

    fn phone() -> Party {
        Party::new(fixture!("rsa.key"), fixture!("rsa.crt"))
    }

    fn authority() -> Party {
        Party::new(fixture!("ca.key"), fixture!("ca.crt"))
    }

    fn ask(from: Signer<'_>, message_type: &str, csr: &[u8], cipher: Cipher) -> Vec<u8> {
        let envelope = cms::encrypt(csr, &authority().certificate, cipher).unwrap();
        let attributes = [
            (MESSAGE_TYPE, asn1::encode(PRINTABLE_STRING, &[message_type.as_bytes()])),
            (TRANSACTION_ID, asn1::encode(PRINTABLE_STRING, &[b"id+/="])),
            (SENDER_NONCE, asn1::encode(OCTET_STRING, &[&[9; 16]])),
        ];
        cms::sign_attached(&envelope, from, &attributes, EARLIEST_SANE).unwrap()
    }

    fn open(message: &[u8]) -> Result<Request, Refusal> {
        let authority = authority();
        Message::parse(message).unwrap().open(&authority.certificate, &authority.key)
    }

    fn string<'a>(signed: &Signed<'a>, oid: Oid) -> Option<&'a [u8]> {
        signed.attribute(oid).unwrap().map(|value| Reader::new(value).element().unwrap().value)
    }

    #[test]
    fn a_request_is_read_and_answered_in_its_own_cipher_but_never_in_des() {
        let (phone, authority) = (phone(), authority());
        for (asked, answered) in [
            (Cipher::Des, Cipher::Aes128),
            (Cipher::Des3, Cipher::Des3),
            (Cipher::Aes128, Cipher::Aes128),
            (Cipher::Aes192, Cipher::Aes192),
            (Cipher::Aes256, Cipher::Aes256),
        ] {
            let request = open(&ask(phone.signer(), "19", CSR, asked)).unwrap();
            assert_eq!((request.message_type, request.cipher), (MessageType::PkcsReq, asked));
            assert_eq!(request.csr.challenge(), Some("secret"));
            assert_eq!(request.signer, phone.certificate);

            let issued = phone.certificate.der();
            let ca = authority.certificate.der();
            let reply = success(&request, issued, &[ca], authority.signer(), EARLIEST_SANE).unwrap();
            let (verified, envelope) = cms::verify_attached(&reply).unwrap();
            assert_eq!((verified.signer, verified.hash), (authority.certificate.clone(), Hash::Sha256));
            let (bag, cipher) = cms::decrypt(&envelope, &phone.certificate, &phone.key).unwrap();
            assert_eq!(cipher, answered);
            assert_eq!(cms::certificates(&bag).unwrap(), [issued, ca]);

            let signed = Signed::parse(&reply).unwrap();
            assert_eq!(string(&signed, MESSAGE_TYPE), Some(&b"3"[..]));
            assert_eq!(string(&signed, PKI_STATUS), Some(&b"0"[..]));
            assert_eq!(string(&signed, TRANSACTION_ID), Some(&b"id+/="[..]));
            assert_eq!(string(&signed, RECIPIENT_NONCE), Some(&[9; 16][..]));
            assert_ne!(string(&signed, SENDER_NONCE), Some(&[9; 16][..]));
            assert_eq!(string(&signed, FAIL_INFO), None);
        }
    }

    #[test]
    fn a_failure_has_a_reason_and_no_content() {
        let (phone, authority) = (phone(), authority());
        let from = Signer { hash: Hash::Sha512, ..phone.signer() };
        let message = Message::parse(&ask(from, "19", CSR, Cipher::Aes128)).unwrap();
        let reply =
            failure(&message.transaction, FailInfo::BadRequest, authority.signer(), EARLIEST_SANE).unwrap();
        assert_eq!(cms::verify_detached(&reply, b"").unwrap().hash, Hash::Sha512);
        let signed = Signed::parse(&reply).unwrap();
        assert_eq!(string(&signed, PKI_STATUS), Some(&b"2"[..]));
        assert_eq!(string(&signed, FAIL_INFO), Some(&b"2"[..]));
    }

    #[test]
    fn every_other_message_type_is_refused() {
        for message_type in ["3", "18", "20", "21", "22", "99", "019", "x"] {
            let refusal = open(&ask(phone().signer(), message_type, CSR, Cipher::Aes128)).unwrap_err();
            assert_eq!(refusal, Refusal::MessageType(message_type.to_owned()));
            assert_eq!(refusal.fail_info(), FailInfo::BadRequest);
        }
    }

    #[test]
    fn a_first_request_must_be_signed_by_the_key_that_it_certifies_and_a_renewal_need_not() {
        let other = authority();
        let refusal = open(&ask(other.signer(), "19", CSR, Cipher::Aes128)).unwrap_err();
        assert_eq!(refusal, Refusal::OtherKey);
        let renewal = open(&ask(other.signer(), "17", CSR, Cipher::Aes128)).unwrap();
        assert_eq!((renewal.message_type, renewal.signer), (MessageType::RenewalReq, other.certificate));
    }

    #[test]
    fn weak_keys_and_unreadable_requests_are_told_apart_only_where_the_client_can_act() {
        let small = include_bytes!("../../../tests/fixtures/cms/small.csr");
        let weak = open(&ask(phone().signer(), "19", small, Cipher::Aes128)).unwrap_err();
        assert_eq!(weak.fail_info(), FailInfo::BadAlg);
        let garbage = open(&ask(phone().signer(), "19", b"garbage", Cipher::Aes128)).unwrap_err();
        assert_eq!(garbage.fail_info(), FailInfo::BadMessageCheck);
        assert_eq!(Refusal::Envelope(CmsError::Decrypt).fail_info(), FailInfo::BadMessageCheck);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_damaged_message_never_becomes_another_request(at in any::<prop::sample::Index>(), flip in 1_u8..) {
            let phone = phone();
            let authority = authority();
            let mut message = ask(phone.signer(), "19", CSR, Cipher::Des3);
            let index = at.index(message.len());
            message[index] ^= flip;
            let request = Message::parse(&message).map(|read| read.open(&authority.certificate, &authority.key));
            if let Ok(Ok(request)) = request {
                prop_assert_eq!(request.csr.challenge(), Some("secret"));
            }
            prop_assert!(Message::parse(&message[..index]).is_err());
        }
    }
}
