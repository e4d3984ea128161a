//! Who is calling: no proof, somebody else's, a forged one (THREATS D5 3, 4, 17).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use russet::clock::DAY;
use russet::pki::asn1;
use russet::pki::certificate::Certificate;
use russet::pki::cms::{self, Signer};
use russet::pki::key::PrivateKey;
use russet::simulator::{Device, Digest, Form, Kind, sign_detached};

use super::forge::{self, Claimed};
use super::odd::{self, Rsa, Signs};
use super::raw::{Answer, Request};
use super::{DEVICE_ROUTES, FETCH_ROUTES, message, report, xml};
use crate::support::{Appliance, NOW, key};

const FORM: Form = Form { digest: Digest::Sha256, signed_attributes: true };

fn idle(device: &Device) -> Vec<u8> {
    xml(report("Idle", &device.udid, []))
}

/// The value of an `Mdm-Signature` that this device makes over a body.
fn signature(device: &Device, body: &[u8]) -> Vec<u8> {
    sign_detached(device.identity.as_ref().unwrap(), body, FORM, NOW).unwrap()
}

async fn ask(appliance: &Appliance, body: &[u8], signature: &[u8]) -> Answer {
    let header = STANDARD.encode(signature);
    Request::put("/mdm/connect", body).header("Mdm-Signature", header).send(appliance).await
}

/// 3: a device route that is added is one that the tests know of.
#[test]
fn the_list_of_device_routes_is_whole() {
    let source = include_str!("../../../src/mdm/mod.rs");
    let routes = source.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    let known = DEVICE_ROUTES.into_iter().chain(FETCH_ROUTES);
    assert!(routes.eq(known), "src/mdm/mod.rs has other routes than DEVICE_ROUTES and FETCH_ROUTES");
}

/// 3: on every device route, with nothing, with emptiness, with two.
#[tokio::test]
async fn without_proof_nothing_is_answered_on_any_device_route() {
    let mut appliance = Appliance::start().await;
    let phone = appliance.enroll(Kind::IPhone).await;
    let body = idle(&phone);
    let good = STANDARD.encode(signature(&phone, &body));
    let requests = DEVICE_ROUTES.map(|path| (path, Request::put(path, body.clone())));
    for (path, bare) in requests.into_iter().chain(FETCH_ROUTES.map(|path| (path, Request::get(path)))) {
        for request in [
            bare.clone(),
            bare.clone().header("Mdm-Signature", ""),
            bare.clone().header("Mdm-Signature", "!"),
            bare.clone().header("Mdm-Signature", "AAAA"),
            bare.clone().header("Mdm-Signature", "A".repeat(40_000)),
            bare.clone().header("Mdm-Signature", b"\xff\xfe"),
            bare.clone().header("Mdm-Signature", &good).header("mdm-signature", &good),
            bare.clone().header("Mdm-Signature", &good).header("mdm-signature", ""),
            bare.clone().header("X-Client-Certificate", "anything"),
            bare.clone().header("Client-Cert", ":AAAA:"),
            bare.clone().header("X-SSL-Client-Verify", "SUCCESS").header("Authorization", "Basic eDp5"),
        ] {
            let answer = request.send(&appliance).await;
            assert_eq!(answer.status, 400, "{path}: {}", answer.text());
            assert!(answer.text().len() > 20, "one clear reason: {}", answer.text());
        }
    }
    let answer = Request::put("/mdm/connect", body).header("Mdm-Signature", &good).send(&appliance).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// 4: a signature is good for the bytes that it was made over, and for nothing else.
#[tokio::test]
async fn a_signature_over_another_body_is_refused() {
    let mut appliance = Appliance::start().await;
    let phone = appliance.enroll(Kind::IPhone).await;
    let body = idle(&phone);
    for signed_attributes in [true, false] {
        for digest in [Digest::Sha1, Digest::Sha256, Digest::Sha512] {
            let form = Form { digest, signed_attributes };
            let signature = sign_detached(phone.identity.as_ref().unwrap(), &body, form, NOW).unwrap();
            assert_eq!(ask(&appliance, &body, &signature).await.status, 200);
            let mut longer = body.clone();
            longer.push(b'\n');
            assert_eq!(ask(&appliance, &longer, &signature).await.status, 400);
            assert_eq!(ask(&appliance, b"", &signature).await.status, 400);
        }
    }
}

/// 4: made by OpenSSL: MD5, no certificates, two signers, content inside, another CA.
#[tokio::test]
async fn a_signature_of_a_foreign_make_is_refused_for_one_clear_reason() {
    let appliance = Appliance::start().await;
    macro_rules! fixture {
        ($name:literal) => {
            &include_bytes!(concat!("../../fixtures/cms/", $name))[..]
        };
    }
    let body = fixture!("content.bin");
    for (signature, reason) in [
        (fixture!("detached.rsa.md5.p7"), "algorithm"),
        (fixture!("detached.nocerts.p7"), "certificate is not in"),
        (fixture!("detached.two.p7"), "2 signers"),
        (fixture!("attached.p7"), "embeds"),
        (fixture!("attached.stream.p7"), "embeds"),
        (fixture!("detached.pss.p7"), "algorithm"),
        (fixture!("detached.rsa.sha256.p7"), "not issued by this server"),
        (fixture!("detached.p256.p7"), "not issued by this server"),
        (fixture!("detached.odd.p7"), "not issued by this server"),
        (fixture!("enveloped.aes-128-cbc.p7"), "another type"),
    ] {
        let answer = ask(&appliance, body, signature).await;
        assert_eq!(answer.status, 400, "{reason}");
        assert!(answer.text().contains(reason), "{reason}: {}", answer.text());
    }
}

/// 4: our issuer's name, our serial number, somebody else's key; in the signature and in TLS.
#[tokio::test]
async fn a_certificate_of_another_ca_with_our_names_is_a_strangers() {
    let mut appliance = Appliance::start().await;
    let phone = appliance.enroll(Kind::IPhone).await;
    let real = Certificate::from_der(&phone.identity.as_ref().unwrap().certificate).unwrap();
    let forger = forge::private(&key(5));
    let claimed = Claimed {
        subject: real.subject().der(),
        issuer: real.issuer().der(),
        serial: real.serial(),
        spki: forger.public_key_info().unwrap(),
        dates: (real.not_before(), real.not_after()),
    };
    let forged = claimed.signed_by(&forger);
    let body = idle(&phone);
    let certificate = Certificate::from_der(&forged).unwrap();
    let signature = cms::sign_detached(&body, Signer::new(&forger, &certificate), &[], NOW).unwrap();
    let answer = ask(&appliance, &body, &signature).await;
    assert_eq!((answer.status, answer.text().contains("not issued by this server")), (400, true));

    // The real certificate beside it, which the signature names: its key did not sign.
    let signature = cms::sign_detached(&body, Signer::new(&forger, &real), &[], NOW).unwrap();
    assert_eq!(ask(&appliance, &body, &signature).await.status, 400);

    // In TLS 1.3 a client that is asked proves its key, so the forged certificate arrives, and is judged.
    let request = Request::put("/mdm/connect", body).presenting_der(&forged, forger.pkcs8());
    assert_eq!(request.send(&appliance).await.status, 400);
}

/// 4: a clock that is a little off is a device's; one that is far off is a replay.
#[tokio::test]
async fn a_signature_made_long_ago_or_far_ahead_is_refused() {
    let mut appliance = Appliance::start().await;
    let phone = appliance.enroll(Kind::IPhone).await;
    let body = idle(&phone);
    let identity = phone.identity.as_ref().unwrap();
    for (at, status) in [
        (NOW - DAY + 60, 200),
        (NOW + DAY - 60, 200),
        (NOW - 2 * DAY, 400),
        (NOW + 2 * DAY, 400),
        (0, 400),
        (4_000_000_000, 400),
    ] {
        let signature = sign_detached(identity, &body, FORM, at).unwrap();
        let answer = ask(&appliance, &body, &signature).await;
        assert_eq!(answer.status, status, "{at}");
        assert!(status == 200 || answer.text().contains("clock"), "{}", answer.text());
    }
}

/// 4: an identity that has expired, proven by its signature alone: it is heard to be renewed, and a year
/// later not even that.
#[tokio::test]
async fn an_expired_signer_gets_its_renewal_and_nothing_else() {
    let mut appliance = Appliance::start().await;
    let mac = appliance.enroll(Kind::Mac).await;
    let waiting = appliance.send(&mac.udid, serde_json::json!({"RequestType": "SecurityInfo"})).await;
    let say = async |path: &str, body: Vec<u8>| {
        let now = appliance.clock.now();
        let signature = sign_detached(mac.identity.as_ref().unwrap(), &body, FORM, now).unwrap();
        let header = STANDARD.encode(signature);
        Request::put(path, body).header("Mdm-Signature", header).send(&appliance).await
    };
    let secret = || xml(message("GetBootstrapToken", &mac.udid, []));
    assert_eq!(say("/mdm/checkin", secret()).await.status, 200);
    appliance.clock.advance(i64::from(appliance.config.enrollment.identity_days + 1) * DAY);
    let refused = say("/mdm/checkin", secret()).await;
    assert_eq!((refused.status, refused.text().contains("expired")), (400, true), "{}", refused.text());
    let next = say("/mdm/connect", idle(&mac)).await;
    assert_eq!(next.status, 200);
    assert!(
        next.text().contains("InstallProfile") && !next.text().contains(&waiting),
        "{:.200}",
        next.text()
    );
    appliance.clock.advance(366 * DAY);
    for (path, body) in [("/mdm/checkin", secret()), ("/mdm/connect", idle(&mac))] {
        let refused = say(path, body).await;
        assert_eq!((refused.status, refused.text().contains("expired")), (400, true), "{}", refused.text());
    }
}

/// 5: a header that was captured from another device.
#[tokio::test]
async fn a_replayed_signature_of_another_device_is_refused_on_my_connection() {
    let mut appliance = Appliance::start().await;
    let phone = appliance.enroll(Kind::IPhone).await;
    let other = appliance.enroll(Kind::IPad).await;
    let body = idle(&other);
    let captured = STANDARD.encode(signature(&other, &body));
    let request = Request::put("/mdm/connect", body)
        .header("Mdm-Signature", captured)
        .presenting(phone.identity.as_ref().unwrap());
    let answer = request.send(&appliance).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("two different devices"), "{}", answer.text());
}

/// 17: nesting, lengths and numbers that no device writes; each within bounds.
#[tokio::test]
async fn ber_bombs_are_refused_within_bounds() {
    let mut appliance = Appliance::start().await;
    let phone = appliance.enroll(Kind::IPhone).await;
    let body = idle(&phone);
    let good = signature(&phone, &body);
    let certificate = phone.identity.as_ref().unwrap().certificate.clone();
    let nested = |depth: usize| [[0x30, 0x80].repeat(depth), [0, 0].repeat(depth)].concat();
    let bag = [&asn1::encode(0xa0, &[&certificate.repeat(15)])[..]].concat();
    let bombs: Vec<Vec<u8>> = vec![
        nested(5_000),
        [0x30, 0x80].repeat(11_000),
        vec![0x24; 20_000],
        [0x24, 0x80].repeat(10_000),
        vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        vec![0x30, 0x88, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        vec![0x30, 0x89, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        vec![0x30, 0xff],
        vec![0x3f, 0x80, 0x80, 0x80, 0x80, 0x01, 0x00],
        asn1::encode(asn1::SEQUENCE, &[&asn1::encode(asn1::OBJECT_IDENTIFIER, &[&[0x81; 20_000]])]),
        asn1::encode(asn1::SEQUENCE, &[&asn1::encode(asn1::OBJECT_IDENTIFIER, &[&[]])]),
        [&good[..], b"more"].concat(),
        good[..good.len() / 2].to_vec(),
        bag,
    ];
    for (number, bomb) in bombs.iter().enumerate() {
        assert_eq!(ask(&appliance, &body, bomb).await.status, 400, "{number}");
    }
    // Every byte of a good signature, changed in turn, is refused or harmless; never a panic.
    for at in (0..good.len()).step_by(23) {
        let mut changed = good.clone();
        changed[at] ^= 0x55;
        assert!([200, 400].contains(&ask(&appliance, &body, &changed).await.status), "{at}");
    }
    assert_eq!(ask(&appliance, &body, &good).await.status, 200);
}

/// 17: a bag is read up to eight certificates, the signer's among them, and not further.
#[tokio::test]
async fn a_bag_of_more_certificates_than_a_chain_has_is_refused() {
    let mut appliance = Appliance::start().await;
    let phone = appliance.enroll(Kind::IPhone).await;
    let body = idle(&phone);
    let identity = phone.identity.as_ref().unwrap();
    let (key, certificate) = (
        PrivateKey::from_pkcs8(identity.pkcs8()).unwrap(),
        Certificate::from_der(&identity.certificate).unwrap(),
    );
    for (more, status) in [(7, 200), (8, 400), (12, 400)] {
        let chain = vec![certificate.der(); more];
        let signer = Signer { chain: &chain, ..Signer::new(&key, &certificate) };
        let answer = ask(&appliance, &body, &cms::sign_detached(&body, signer, &[], NOW).unwrap()).await;
        assert_eq!(answer.status, status, "{more}: {}", answer.text());
        assert!(status == 200 || answer.text().contains("more than 8 certificates"), "{}", answer.text());
    }
    // A thousand that are hardly anything, signed by one that is real.
    let chain = vec![&[0x30, 0][..]; 1000];
    let signer = Signer { chain: &chain, ..Signer::new(&key, &certificate) };
    let message = cms::sign_attached(b"x", signer, &[], NOW).unwrap();
    let answer = Request::post("/scep?operation=PKIOperation", message).send(&appliance).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("more than 8 certificates"), "{}", answer.text());
}

/// Makes the server believe that it issued this certificate to this device.
async fn issue_to(appliance: &Appliance, device: &Device, certificate: &Certificate) {
    let (fingerprint, udid) = (*certificate.fingerprint(), device.udid.clone());
    let change = move |tx: &russet::storage::Tx<'_>| {
        let sql = "UPDATE identities SET fingerprint = ?1 WHERE enrollment_id = ?2";
        assert_eq!(tx.execute(sql, rusqlite::params![fingerprint, udid])?, 1);
        Ok(())
    };
    appliance.app().store.write("test.issue_to", change).await.unwrap();
}

/// 17: keys that would cost seconds or prove nothing: refused as such, with a signature that is good, where
/// anybody may send them (SCEP) and even in a certificate that is in the table.
#[tokio::test]
async fn a_key_of_16k_bits_exponent_one_or_an_odd_curve_is_never_worked_with() {
    fn certified(by: &impl Signs, spki: Vec<u8>) -> Certificate {
        let (subject, dates) = (forge::name("x"), (NOW - DAY, NOW + DAY));
        let claimed = Claimed { subject: &subject, issuer: &subject, serial: &[1], spki, dates };
        Certificate::from_der(&claimed.signed_by(by)).unwrap()
    }
    async fn refused(appliance: &Appliance, phone: &Device, what: &str, by: &impl Signs, of: &Certificate) {
        issue_to(appliance, phone, of).await;
        let body = idle(phone);
        let answer = ask(appliance, &body, &odd::signed_data(by, of, &body, false, &[])).await;
        assert_eq!(answer.status, 400, "{what}");
        assert!(answer.text().contains("the public key is not"), "{what}: {}", answer.text());
        let message = odd::signed_data(by, of, b"x", true, &[]);
        let answer = Request::post("/scep?operation=PKIOperation", message).send(appliance).await;
        assert_eq!(answer.status, 400, "{what}");
        assert!(answer.text().contains("the public key is not"), "{what}: {}", answer.text());
    }
    let mut appliance = Appliance::start().await;
    let phone = appliance.enroll(Kind::IPhone).await;
    for (bits, exponent) in [(512, 65_537), (16_384, 65_537), (2048, 1)] {
        let key = Rsa::of(bits, exponent);
        let certificate = certified(&key, key.spki());
        refused(&appliance, &phone, &format!("RSA {bits} {exponent}"), &key, &certificate).await;
    }
    // These have no arithmetic here; it is not come to.
    let forger = forge::private(&key(5));
    for (what, spki) in [
        ("secp256k1", odd::curve_spki("1.3.132.0.10", 64)),
        ("P-521", odd::curve_spki("1.3.132.0.35", 132)),
        ("brainpoolP256r1", odd::curve_spki("1.3.36.3.3.2.8.1.1.7", 64)),
        ("sect163k1", odd::curve_spki("1.3.132.0.1", 42)),
        ("an exponent like the modulus", odd::rsa_spki(&[0xff; 256], &[0xff; 256])),
        ("a name of 18,000 octets", odd::endless_spki(18_000)),
    ] {
        refused(&appliance, &phone, what, &forger, &certified(&forger, spki)).await;
    }
}

/// 17: an OBJECT IDENTIFIER as long as a whole message.
#[tokio::test]
async fn an_object_identifier_of_almost_64_kib_is_refused() {
    let appliance = Appliance::start().await;
    let forger = forge::private(&key(5));
    let name = forge::name("x");
    let dates = (NOW - DAY, NOW + DAY);
    let long = odd::endless_spki(62_000);
    let claimed = Claimed { subject: &name, issuer: &name, serial: &[1], spki: long, dates };
    let certificate = Certificate::from_der(&claimed.signed_by(&forger)).unwrap();
    let message = odd::signed_data(&forger, &certificate, b"x", true, &[]);
    assert!(message.len() < 64 * 1024);
    let answer = Request::post("/scep?operation=PKIOperation", message).send(&appliance).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("the public key is not"), "{}", answer.text());
    // In the place of the message's own type.
    let message = asn1::encode(asn1::SEQUENCE, &[&odd::endless_oid(65_000), &[0xa0, 0]]);
    let answer = Request::post("/scep?operation=PKIOperation", message).send(&appliance).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("another type"), "{}", answer.text());
}
