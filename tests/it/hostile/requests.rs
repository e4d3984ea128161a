//! Requests to the CA that ask for more than an identity, or with a key that is none (THREATS D5 22).

use russet::pki::asn1::{self, Oid, SEQUENCE};
use russet::pki::certificate::Certificate;
use russet::pki::key::{Hash, PrivateKey};
use russet::pki::pem;
use russet::simulator::{Channel, Identity, Kind};

use super::forge::{self, Csr};
use super::odd::{self, Numbers, Rsa};
use super::raw::Request;
use super::scep::{Client, challenge, post};
use super::xml;
use crate::support::{Appliance, key};

/// 22: what the certificate says comes from the template.
#[tokio::test]
async fn a_request_for_more_than_an_identity_gets_an_identity() {
    let mut appliance = Appliance::start().await;
    let phone = appliance.enroll(Kind::IPhone).await;
    let client = Client::new(&appliance, 0).await;
    let secret = challenge(&appliance, &appliance.invite(1).await).await;
    let extension = |oid: &str, value: &[u8]| {
        let value = asn1::encode(asn1::OCTET_STRING, &[value]);
        let critical = asn1::encode(asn1::BOOLEAN, &[&[0xff]]);
        asn1::encode(SEQUENCE, &[&asn1::oid(Oid::new_unwrap(oid)), &critical, &value])
    };
    let real = Certificate::from_der(&phone.identity.as_ref().unwrap().certificate).unwrap();
    let is_ca = asn1::encode(SEQUENCE, &[&asn1::encode(asn1::BOOLEAN, &[&[0xff]])]);
    let server = asn1::encode(SEQUENCE, &[&asn1::oid(Oid::new_unwrap("1.3.6.1.5.5.7.3.1"))]);
    let host = asn1::encode(SEQUENCE, &[&asn1::encode(asn1::context(2), &[b"localhost"])]);
    let csr = Csr {
        subject: real.subject().der().to_vec(),
        extensions: vec![
            extension("2.5.29.19", &is_ca),
            extension("2.5.29.15", &asn1::encode(asn1::BIT_STRING, &[&[1, 0x06]])),
            extension("2.5.29.37", &server),
            extension("2.5.29.17", &host),
        ],
        ..Csr::of(&client.key, Some(&secret))
    };
    let message = client.message("19", &csr.signed_by(&client.key));
    let certificate = client.issued(&post(&appliance, message).await).unwrap();
    assert!(!certificate.is_ca());
    assert!(certificate.dns_names().is_empty());
    assert_ne!(certificate.subject().der(), real.subject().der());
    let usage = certificate.extension(Oid::new_unwrap("2.5.29.15")).unwrap();
    assert_eq!(usage[3] & 0x06, 0, "neither keyCertSign nor cRLSign: {usage:?}");
    let purposes = certificate.extension(Oid::new_unwrap("2.5.29.37")).unwrap();
    assert_eq!(purposes, asn1::encode(SEQUENCE, &[&asn1::oid(Oid::new_unwrap("1.3.6.1.5.5.7.3.2"))]));
    certificate.verify_signed_by(&client.ca.public_key().unwrap()).unwrap();
}

/// 22: the names of people, of the server and of nobody: the template's name stands in each, and none opens
/// what people open.
#[tokio::test]
async fn a_name_of_an_administrator_or_of_the_server_is_not_taken_over() {
    let appliance = Appliance::start().await;
    let client = Client::new(&appliance, 0).await;
    for asked in ["admin", "socket", "session", "Administrator", "localhost", "*", ""] {
        let secret = challenge(&appliance, &appliance.invite(1).await).await;
        let csr = Csr { subject: forge::name(asked), ..Csr::of(&client.key, Some(&secret)) };
        let message = client.message("19", &csr.signed_by(&client.key));
        let certificate = client.issued(&post(&appliance, message).await).unwrap();
        let named = certificate.subject().common_name().unwrap();
        assert!(named != asked && named.len() == 32, "{asked}: {named}");
        let identity = Identity::new(key(0), certificate.der().to_vec());
        for path in ["/api/v1/enrollments", "/api/v1/tokens", "/api/v1/push-certificates"] {
            assert_eq!(Request::get(path).presenting(&identity).send(&appliance).await.status, 401, "{path}");
        }
    }
    // A subject that names an attribute of 20,000 octets is not even read.
    let secret = challenge(&appliance, &appliance.invite(1).await).await;
    let pair =
        asn1::encode(SEQUENCE, &[&odd::endless_oid(20_000), &asn1::encode(asn1::UTF8_STRING, &[b"x"])]);
    let subject = asn1::encode(SEQUENCE, &[&asn1::encode(asn1::SET, &[&pair])]);
    let csr = Csr { subject, ..Csr::of(&client.key, Some(&secret)) };
    let message = client.message("19", &csr.signed_by(&client.key));
    assert!(client.issued(&post(&appliance, message).await).unwrap().der().len() < 2000);
}

/// 22: a name of a live device gets its holder nothing of that device.
#[tokio::test]
async fn a_certificate_never_speaks_for_the_device_whose_key_or_name_it_has() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    // The same key, for instance of a cloned image: another session, another identity.
    let number = 1;
    let client = Client::new(&appliance, number).await;
    let secret = challenge(&appliance, &appliance.invite(1).await).await;
    let certificate = client.ask(&appliance, Some(&secret)).await.unwrap();
    let identity = Identity::new(key(number), certificate.der().to_vec());
    let body = xml(super::report("Idle", &phone.udid, []));
    let answer = Request::put("/mdm/connect", body).presenting(&identity).send(&appliance).await;
    assert_eq!(answer.status, 400);
    phone.connect(Channel::Device).await.unwrap();
}

/// 22: small keys, other keys, keys that the sender does not hold.
#[tokio::test]
async fn a_key_that_is_weak_or_not_the_senders_is_refused() {
    let appliance = Appliance::start().await;
    let client = Client::new(&appliance, 0).await;
    let other = forge::private(&key(1));
    let secret = challenge(&appliance, &appliance.invite(1).await).await;
    let rsa = |modulus: &[u8], exponent: &[u8]| {
        let key = asn1::encode(
            SEQUENCE,
            &[&asn1::encode(asn1::INTEGER, &[modulus]), &asn1::encode(asn1::INTEGER, &[exponent])],
        );
        let algorithm = asn1::algorithm_with_null(Oid::new_unwrap("1.2.840.113549.1.1.1"));
        asn1::encode(SEQUENCE, &[&algorithm, &asn1::encode(asn1::BIT_STRING, &[&[0], &key])])
    };
    let p256 = PrivateKey::generate_p256().unwrap().public_key_info().unwrap();
    for spki in [
        other.public_key_info().unwrap(),
        rsa(&[0x7f; 64], &[1, 0, 1]),
        rsa(&[0x7f; 128], &[1, 0, 1]),
        rsa(&[0x7f; 256], &[1]),
        rsa(&[0x7f; 4096], &[1, 0, 1]),
        rsa(&[], &[]),
        p256,
        asn1::encode(SEQUENCE, &[]),
    ] {
        let csr = Csr { spki, ..Csr::of(&client.key, Some(&secret)) };
        let answer = post(&appliance, client.message("19", &csr.signed_by(&client.key))).await;
        assert_eq!(client.issued(&answer), None);
    }
    // Signed as they should be, by the keys that they ask for: it is the policy that refuses (badAlg).
    let why = async |by: &dyn Fn(&str) -> Vec<u8>| {
        let answer = post(&appliance, client.message("19", &by(&secret))).await;
        assert_eq!(client.issued(&answer), None);
        forge::fail_info(&answer.body)
    };
    for (bits, exponent) in [(512, 65_537), (2048, 1), (9000, 65_537)] {
        let weak = Rsa::of(bits, exponent);
        let refused = why(&|secret| Csr::of(&weak, Some(secret)).signed_by(&weak)).await;
        assert_eq!(refused, "0", "RSA {bits} {exponent}");
    }
    let elliptic = PrivateKey::generate_p256().unwrap();
    assert_eq!(why(&|secret| Csr::of(&elliptic, Some(secret)).signed_by(&elliptic)).await, "0");
    let small = pem::blocks(include_str!("../../fixtures/cms/small.key")).unwrap();
    let small = Numbers::of(&small[0].der, Hash::Sha256);
    assert_eq!(why(&|secret| Csr::of(&small, Some(secret)).signed_by(&small)).await, "0", "RSA 1024");
    // Somebody else's whole request, wrapped by me: nothing is wrong with its key, but whose it is
    // (badRequest).
    assert_eq!(why(&|secret| Csr::of(&other, Some(secret)).signed_by(&other)).await, "2");
}
