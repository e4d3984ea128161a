//! Who is calling: no proof, somebody else's, a forged one (THREATS D5 3, 4, 17).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use russet::clock::DAY;
use russet::pki::asn1;
use russet::pki::certificate::Certificate;
use russet::pki::cms::{self, Signer};
use russet::simulator::{Device, Digest, Form, Kind, sign_detached};

use super::forge::{self, Claimed};
use super::raw::{Answer, Request};
use super::{report, xml};
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

/// 3: on every device route, with nothing, with emptiness, with two.
#[tokio::test]
async fn without_proof_nothing_is_answered_on_any_device_route() {
    let mut appliance = Appliance::start().await;
    let phone = appliance.enroll(Kind::IPhone).await;
    let body = idle(&phone);
    let good = STANDARD.encode(signature(&phone, &body));
    for path in ["/mdm/connect", "/mdm/checkin"] {
        let bare = Request::put(path, body.clone());
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

/// 17: a signer's certificate with a key that would cost seconds or prove nothing is not ours anyway.
#[tokio::test]
async fn a_key_of_16k_bits_or_exponent_one_is_never_worked_with() {
    let appliance = Appliance::start().await;
    let forger = forge::private(&key(5));
    for (modulus, exponent) in
        [(vec![0x7f; 2048], vec![1, 0, 1]), (vec![0x7f; 256], vec![1]), (vec![1], vec![3])]
    {
        let rsa = asn1::encode(
            asn1::SEQUENCE,
            &[&asn1::encode(asn1::INTEGER, &[&modulus]), &asn1::encode(asn1::INTEGER, &[&exponent])],
        );
        let algorithm = asn1::algorithm_with_null(asn1::Oid::new_unwrap("1.2.840.113549.1.1.1"));
        let bits = asn1::encode(asn1::BIT_STRING, &[&[0], &rsa]);
        let claimed = Claimed {
            subject: &forge::name("x"),
            issuer: &forge::name("x"),
            serial: &[0xff, 1],
            spki: asn1::encode(asn1::SEQUENCE, &[&algorithm, &bits]),
            dates: (NOW - DAY, NOW + DAY),
        };
        let Ok(certificate) = Certificate::from_der(&claimed.signed_by(&forger)) else { continue };
        let signer = Signer::new(&forger, &certificate);
        let signature = cms::sign_detached(b"x", signer, &[], NOW).unwrap();
        assert_eq!(ask(&appliance, b"x", &signature).await.status, 400);
        let message = cms::sign_attached(b"x", signer, &[], NOW).unwrap();
        let answer = Request::post("/scep?operation=PKIOperation", message).send(&appliance).await;
        assert_eq!(answer.status, 400);
    }
}
