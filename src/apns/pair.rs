//! A push certificate and its private key, read from files and checked.
//!
//! `push-certificate import` and the API make a [`Pair`] of what a person gave; `certificate.rs`
//! stores it. The topic is the UID (0.9.2342.19200300.100.1.1, RFC 4519) of the subject, and begins
//! with `com.apple.mgmt.`. Who signed the certificate is shown and not demanded, so that a test can
//! sign its own.
//!
//! **Invariant:** the key of a [`Pair`] belongs to its certificate, which is valid now.

use super::bundle::{Bundle, CERTIFICATE, PRIVATE_KEY};
use super::request::Request;
use crate::clock::{Seconds, rfc3339};
use crate::error::{Error, Result};
use crate::pki::certificate::Certificate;
use crate::pki::key::{PrivateKey, PublicKey};
use crate::pki::name::USER_ID;
use crate::pki::scep::csr::Csr;

const TOPIC_PREFIX: &str = "com.apple.mgmt.";

/// A checked push certificate with its key.
#[derive(Debug)]
pub struct Pair {
    /// What devices enroll with: `com.apple.mgmt.External.<UUID>`.
    pub topic: String,
    /// Lower-case hexadecimal.
    pub serial_number: String,
    /// RFC 4514.
    pub subject: String,
    /// The subject's CN, for people: Apple writes `APSP:<UUID>`.
    pub common_name: Option<String>,
    /// RFC 4514.
    pub issuer: String,
    /// From when it is valid.
    pub not_before: Seconds,
    /// Until when it is valid.
    pub not_after: Seconds,
    /// PEM, leaf first, then whatever chain came with it.
    pub(super) chain: String,
    /// `Debug` elides the bytes.
    pub(super) key: PrivateKey,
}

impl Pair {
    /// Reads and checks certificate, chain and key from any number of files in any order: PEM, DER,
    /// `.p12` (with `password`), or base64 of one of them. A `.p12` may take a second of CPU.
    ///
    /// # Errors
    /// [`Error::Invalid`] with a sentence for every mistake a person can make here, pointing into a body
    /// whose `certificate` is the first part.
    pub fn from_parts(parts: &[&[u8]], password: Option<&str>, now: Seconds) -> Result<Self> {
        Self::from_parts_and(parts, password, now, Vec::new())
    }

    /// As [`Pair::from_parts`]; where the parts have no key, it may be one of `waiting`, the keys of requests.
    ///
    /// # Errors
    /// As [`Pair::from_parts`].
    pub fn from_parts_and(
        parts: &[&[u8]],
        password: Option<&str>,
        now: Seconds,
        waiting: Vec<PrivateKey>,
    ) -> Result<Self> {
        let Bundle { certificates, mut keys } = Bundle::read(parts, password)?;
        if certificates.is_empty() {
            return Err(Error::invalid_at(
                CERTIFICATE,
                "there is no certificate in this; give the file that Apple's portal offered for download",
            ));
        }
        let gave_none = keys.is_empty();
        if gave_none && waiting.is_empty() {
            return Err(Error::invalid_at(
                PRIVATE_KEY,
                "there is no private key in this; give the key that was made with the signing request (or a .p12 \
                 that holds both)",
            ));
        }
        if gave_none {
            keys = waiting;
        }
        let mut parsed = certificates.iter().map(|der| parse(der)).collect::<Result<Vec<_>>>()?;
        let (leaf, key) = keys
            .into_iter()
            .find_map(|key| {
                let public = PublicKey::from_spki(&key.public_key_info().ok()?).ok()?;
                let belongs =
                    |certificate: &Certificate| certificate.public_key().is_ok_and(|own| own == public);
                parsed.iter().position(belongs).map(|leaf| (leaf, key))
            })
            .ok_or_else(|| {
                if gave_none {
                    return Error::invalid_at(
                        PRIVATE_KEY,
                        "this certificate was not made with a request of this server, so its private key is needed too; \
                         give the key that was made with its signing request (or a .p12 that holds both)",
                    );
                }
                Error::invalid_at(
                    PRIVATE_KEY,
                    "the private key does not belong to the certificate; give the key that was made with the \
                     signing request of this certificate",
                )
            })?;
        let certificate = parsed.remove(leaf);
        let topic = topic(&certificate)?;
        check_dates(&certificate, now)?;
        let chain = std::iter::once(&certificate).chain(&parsed).map(Certificate::to_pem).collect();
        Ok(Self {
            topic,
            serial_number: certificate.serial_hex(),
            subject: certificate.subject().to_string(),
            common_name: certificate.subject().common_name(),
            issuer: certificate.issuer().to_string(),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
            chain,
            key,
        })
    }

    /// Whether its key is that of a request.
    pub fn is_of(&self, request: &Request) -> bool {
        Csr::from_der(&request.csr)
            .is_ok_and(|csr| self.key.public_key_info().is_ok_and(|own| own == csr.spki()))
    }
}

fn wrong(words: impl Into<String>) -> Error {
    Error::invalid_at(CERTIFICATE, words)
}

fn parse(der: &[u8]) -> Result<Certificate> {
    Certificate::from_der(der)
        .map_err(|_| wrong("the certificate is damaged; download it again from Apple's portal"))
}

fn topic(certificate: &Certificate) -> Result<String> {
    let subject = certificate.subject();
    let uid = subject.attribute(USER_ID).unwrap_or_default();
    // A topic becomes a header and a value of the enrollment profile.
    let plain = uid.len() <= 200
        && uid.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    if uid.len() > TOPIC_PREFIX.len() && uid.starts_with(TOPIC_PREFIX) && plain {
        return Ok(uid);
    }
    Err(wrong(format!(
        "this is not an MDM push certificate: the UID of its subject ({subject}) does not begin with \
         {TOPIC_PREFIX}; get one at identity.apple.com/pushcert with a signed request"
    )))
}

fn check_dates(certificate: &Certificate, now: Seconds) -> Result<()> {
    let (not_before, not_after) = (certificate.not_before(), certificate.not_after());
    if now > not_after {
        return Err(wrong(format!(
            "this push certificate expired on {}; renew it at identity.apple.com/pushcert (Renew, not Create, with \
             the same Apple Account) and import the new one",
            rfc3339(not_after)
        )));
    }
    if now < not_before {
        return Err(wrong(format!(
            "this push certificate is not valid before {}, and this machine's clock says {}; set the clock, or wait",
            rfc3339(not_before),
            rfc3339(now)
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    // How these were made stands in tests/fixtures/push/README.md.
    macro_rules! fixture {
        ($name:literal) => {
            include_bytes!(concat!("../../tests/fixtures/push/", $name)).as_slice()
        };
    }

    /// 2027-01-01; the fixtures are valid for a hundred years from November 2026.
    const NOW: Seconds = 1_798_761_600;
    const TOPIC: &str = "com.apple.mgmt.External.11111111-2222-3333-4444-555555555555";

    fn refusal(parts: &[&[u8]], password: Option<&str>) -> String {
        Pair::from_parts(parts, password, NOW).unwrap_err().to_string()
    }

    #[test]
    fn a_certificate_of_openssl_is_read_with_its_topic() {
        let pair = Pair::from_parts(&[fixture!("rsa.pem"), fixture!("rsa-pkcs1.key")], None, NOW).unwrap();
        assert_eq!(pair.topic, TOPIC);
        assert_eq!(pair.common_name.as_deref(), Some("APSP:11111111-2222-3333-4444-555555555555"));
        assert_eq!(pair.subject, format!("UID={TOPIC},CN=APSP:11111111-2222-3333-4444-555555555555,C=US"));
        assert_eq!(pair.issuer, pair.subject);
        assert_eq!(rfc3339(pair.not_after), "2126-10-31T03:35:06Z");
        assert!(pair.chain.starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(!format!("{pair:?}").contains("PRIVATE"), "{pair:?}");
    }

    #[test]
    fn every_form_of_the_same_pair_is_the_same_pair() {
        let (certificate, key) = (fixture!("rsa.pem"), fixture!("rsa-pkcs1.key"));
        let expected = Pair::from_parts(&[certificate, key], None, NOW).unwrap();
        let one_file = [key, b"\r\n", certificate].concat();
        let der = Certificate::from_pem(std::str::from_utf8(certificate).unwrap()).unwrap().der().to_vec();
        let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &der);
        let forms: [(&[&[u8]], Option<&str>); 6] = [
            (&[&one_file], None),
            (&[key, &der], None),
            (&[expected.key.pkcs8(), base64.as_bytes()], None),
            (&[fixture!("rsa.p12")], Some("secret")),
            (&[fixture!("rsa-legacy.p12")], Some("secret")),
            (&[fixture!("other.pem"), key, certificate, certificate], None),
        ];
        for (parts, password) in forms {
            let pair = Pair::from_parts(parts, password, NOW).unwrap();
            assert_eq!((&pair.topic, &pair.serial_number), (&expected.topic, &expected.serial_number));
            assert_eq!(pair.key.pkcs8(), expected.key.pkcs8());
            assert!(pair.chain.starts_with(&expected.chain));
        }
        let ec = Pair::from_parts(&[fixture!("ec.pem"), fixture!("ec-sec1.key")], None, NOW).unwrap();
        assert_eq!(ec.topic, TOPIC);
    }

    #[test]
    fn every_mistake_is_answered_with_what_to_do() {
        let (certificate, key) = (fixture!("rsa.pem"), fixture!("rsa-pkcs1.key"));
        let other_key = fixture!("ec-sec1.key");
        assert!(refusal(&[certificate], None).contains("no private key"));
        assert!(refusal(&[key], None).contains("no certificate"));
        assert!(refusal(&[certificate, other_key], None).contains("does not belong"));
        assert!(refusal(&[fixture!("other.pem"), other_key], None).contains("not an MDM push certificate"));
        assert!(refusal(&[certificate, fixture!("rsa-encrypted.key")], None).contains("openssl pkey"));
        assert!(refusal(&[fixture!("rsa.p12")], None).contains("--password-file"));
        assert!(
            refusal(&[fixture!("rsa.p12")], Some("wrong")).contains("password of the .p12 file is wrong")
        );
        assert!(refusal(&[fixture!("request.csr")], None).contains("identity.apple.com"));
        assert!(refusal(&[b"hello"], None).contains("neither a certificate nor a key"));
        assert!(refusal(&[b"\x30\x03abc"], None).contains("neither a certificate, a key nor"));
        assert!(refusal(&[&vec![b'A'; 300_000]], None).contains("256 KiB"));
        assert!(refusal(&[&key.repeat(17)], None).contains("more than 16"));
    }

    #[test]
    fn mistakes_point_into_the_body_of_the_api() {
        let (certificate, key) = (fixture!("rsa.pem"), fixture!("rsa-pkcs1.key"));
        let place = |parts: &[&[u8]]| match Pair::from_parts(parts, Some("wrong"), NOW) {
            Err(Error::Invalid { pointer, .. }) => pointer.unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(place(&[b"hello", key]), "/certificate");
        assert_eq!(place(&[fixture!("other.pem"), fixture!("ec-sec1.key")]), "/certificate");
        assert_eq!(place(&[certificate, b"hello"]), "/private_key");
        assert_eq!(place(&[certificate]), "/private_key");
        assert_eq!(place(&[certificate, fixture!("ec-sec1.key")]), "/private_key");
        assert_eq!(place(&[fixture!("rsa.p12")]), "/password");
    }

    #[test]
    fn a_p12_that_asks_for_endless_work_is_not_opened() {
        use crate::pki::asn1::{INTEGER, OCTET_STRING, SEQUENCE, encode};
        let salt = encode(OCTET_STRING, &[b"saltsalt"]);
        let p12 = |iterations: &[u8]| {
            let mac = encode(SEQUENCE, &[&encode(SEQUENCE, &[]), &salt, &encode(INTEGER, &[iterations])]);
            let hidden = encode(OCTET_STRING, &[&encode(SEQUENCE, &[&mac])]);
            let contents = encode(SEQUENCE, &[&hidden]);
            encode(SEQUENCE, &[&encode(INTEGER, &[&[3]]), &contents])
        };
        assert!(refusal(&[&p12(&[0x0f, 0x42, 0x40])], None).contains("more than 200000 iterations"));
        assert!(refusal(&[&p12(&[0x7f; 30])], None).contains("iterations"));
        assert!(refusal(&[&p12(&[0x08, 0x00])], None).contains("neither a certificate, a key nor"));
    }

    #[test]
    fn an_expired_and_a_future_certificate_are_refused() {
        let parts = [fixture!("rsa.pem"), fixture!("rsa-pkcs1.key")];
        let late = Pair::from_parts(&parts, None, 4_980_000_000).unwrap_err().to_string();
        assert!(late.contains("expired on 2126-10-31T03:35:06Z"), "{late}");
        let early = Pair::from_parts(&parts, None, 0).unwrap_err().to_string();
        assert!(early.contains("clock says 1970-01-01T00:00:00Z"), "{early}");
    }

    #[test]
    fn damaged_files_are_refused_and_never_panic() {
        for whole in [fixture!("rsa.p12"), fixture!("ec.pem"), fixture!("ec-sec1.key")] {
            for length in (0..whole.len()).step_by(7) {
                assert!(Pair::from_parts(&[&whole[..length]], Some("secret"), NOW).is_err());
            }
        }
        let der =
            Certificate::from_pem(std::str::from_utf8(fixture!("ec.pem")).unwrap()).unwrap().der().to_vec();
        for index in 0..der.len() {
            let mut bent = der.clone();
            bent[index] ^= 0xff;
            let _ = Pair::from_parts(&[&bent, fixture!("ec-sec1.key")], None, NOW);
        }
    }
}
