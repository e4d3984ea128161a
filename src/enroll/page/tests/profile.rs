//! What is downloaded: the enrollment profile, for a browser and for Apple Configurator, and the root.

use super::*;
use crate::pki::cms;
use crate::plist::{self, Dictionary, Value};

impl Bench {
    /// What a device with this serial number sends.
    fn machine_info(&self, serial_number: &str) -> Vec<u8> {
        let mut info = Dictionary::new();
        for (key, value) in [
            ("UDID", "00008101-000000000000001E"),
            ("SERIAL", serial_number),
            ("PRODUCT", "iPad13,18"),
            ("VERSION", "22F76"),
        ] {
            info.insert(key.into(), value.into());
        }
        self.sign(&plist::to_xml(&Value::Dictionary(info)))
    }

    fn sign(&self, content: &[u8]) -> Vec<u8> {
        crate::enroll::sign(&self.enroll.signer.load(), content, EARLIEST_SANE).unwrap()
    }
}

/// The content of a signed profile, whose signature holds.
fn content(profile: &[u8]) -> Dictionary {
    let (_, content) = cms::verify_attached(profile).unwrap();
    plist::parse_dict(&content).unwrap()
}

#[test]
fn a_file_is_named_in_ascii() {
    assert_eq!(file_name("Example School"), "Example-School");
    assert_eq!(file_name("Schule Zürich / Süd"), "Schule-Z-rich-S-d");
    assert_eq!(file_name("../../etc\r\n\""), "etc");
    assert_eq!(file_name("学校"), "management");
    assert_eq!(file_name(&"x".repeat(300)), "management");
}

#[tokio::test]
async fn install_downloads_a_signed_profile_with_a_challenge_of_its_own() {
    let bench = Bench::ready(true).await;
    let code = bench.invite(Wanted::default()).await;
    let first = bench.get(&format!("/enroll/{code}/profile")).await;
    assert_eq!(first.status, StatusCode::OK);
    assert_eq!(first.header("content-type"), "application/x-apple-aspen-config");
    assert_eq!(first.header("content-disposition"), "attachment; filename=\"Example-School.mobileconfig\"");
    assert_eq!(first.header("cache-control"), "no-store");
    assert_eq!(plist::string(&content(&first.body), "PayloadType").unwrap(), Some("Configuration"));
    let second = bench.get(&format!("/enroll/{code}/profile")).await;
    let (first, second) = (content(&first.body), content(&second.body));
    assert_eq!(first.get("PayloadIdentifier"), second.get("PayloadIdentifier"));
    assert_ne!(first, second);
}

#[tokio::test]
async fn apple_configurator_gets_the_profile_for_a_signed_machine_info() {
    let bench = Bench::ready(true).await;
    let code = bench.invite(Wanted::default()).await;
    let path = format!("/enroll/{code}/profile");
    let answer = bench.ask(Request::post(&path), bench.machine_info("F9FXXXXXXXXX")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.header("content-type"), "application/x-apple-aspen-config");
    assert!(content(&answer.body).contains_key("PayloadContent"));
}

#[tokio::test]
async fn what_is_not_a_signed_machine_info_is_refused_in_words() {
    let bench = Bench::ready(true).await;
    let code = bench.invite(Wanted::default()).await;
    let path = format!("/enroll/{code}/profile");
    let mut tampered = bench.machine_info("F9FXXXXXXXXX");
    let place = tampered.windows(4).position(|bytes| bytes == b"F9FX").unwrap();
    tampered[place] = b'G';
    for (body, words) in [
        (b"".to_vec(), "not a MachineInfo signed"),
        (plist::to_xml(&Value::Dictionary(Dictionary::new())), "not a MachineInfo signed"),
        (tampered, "not a MachineInfo signed"),
        (bench.sign(b"hello"), "cannot be read"),
        (bench.sign(&plist::to_xml(&Value::Dictionary(Dictionary::new()))), "UDID"),
        (bench.machine_info(""), "no usable SERIAL"),
    ] {
        let answer = bench.ask(Request::post(&path), body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(answer.text().contains(words), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_link_for_one_serial_number_is_refused_to_another_device() {
    let bench = Bench::ready(true).await;
    let wanted = Wanted { serial_number: Some("F9FXXXXXXXXX".into()), ..Wanted::default() };
    let path = format!("/enroll/{}/profile", bench.invite(wanted).await);
    let other = bench.ask(Request::post(&path), bench.machine_info("C02XXXXXXXXX")).await;
    assert_eq!(other.status, StatusCode::CONFLICT);
    assert!(other.text().contains("another serial number"));
    assert_eq!(
        bench.ask(Request::post(&path), bench.machine_info("F9FXXXXXXXXX")).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn the_root_is_handed_out_while_it_is_our_own_and_else_404() {
    let bench = Bench::ready(true).await;
    let root = bench.get("/ca.crt").await;
    assert_eq!((root.status, root.header("content-type")), (StatusCode::OK, "application/x-x509-ca-cert"));
    assert_eq!(Some(root.body), bench.enroll.anchor());
    let profile = bench.get("/trust.mobileconfig").await;
    assert_eq!(profile.header("content-type"), "application/x-apple-aspen-config");
    assert_eq!(profile.header("content-disposition"), "attachment; filename=\"trust.mobileconfig\"");
    let payloads = content(&profile.body);
    let payload = plist::array(&payloads, "PayloadContent").unwrap().unwrap()[0].as_dictionary().unwrap();
    assert_eq!(plist::string(payload, "PayloadType").unwrap(), Some("com.apple.security.root"));

    assert_eq!(bench.get("/trust.mobileconfig").await.body, profile.body, "it is signed once");
    let signer = bench.enroll.signer.load_full();
    let renewed = Signer {
        key: PrivateKey::generate_p256().unwrap(),
        certificate: signer.certificate.clone(),
        chain: Vec::new(),
        anchor: signer.anchor.clone(),
        next: None,
    };
    bench.enroll.signer.store(Arc::new(renewed));
    assert_ne!(bench.get("/trust.mobileconfig").await.body, profile.body, "and again by another signer");

    let public = Bench::ready(false).await;
    for path in ["/ca.crt", "/trust.mobileconfig"] {
        let refused = public.get(path).await;
        assert_eq!(refused.status, StatusCode::NOT_FOUND);
        assert!(refused.text().contains("publicly trusted"));
        assert_eq!(refused.header("content-security-policy"), POLICY);
    }
}

#[tokio::test]
async fn when_too_many_wait_for_a_signature_everybody_is_told_so() {
    let bench = Bench::ready(true).await;
    let path = format!("/enroll/{}/profile", bench.invite(Wanted::default()).await);
    let scep = crate::enroll::scep::routes().with_state(bench.enroll.clone());
    let scep = async || {
        let request = Request::post("/scep?operation=PKIOperation").body(Body::from("junk")).unwrap();
        let answer = scep.clone().oneshot(request).await.unwrap();
        let (status, again) = (answer.status(), answer.headers().contains_key("retry-after"));
        (status.as_u16(), again, to_bytes(answer.into_body(), 1000).await.unwrap())
    };
    let waiting: Vec<_> = std::iter::from_fn(|| bench.enroll.kept.workshop.enter().ok()).collect();
    for path in [path.as_str(), "/trust.mobileconfig"] {
        let busy = bench.get(path).await;
        assert_eq!(busy.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert!(!busy.text().is_empty() && !busy.header("retry-after").is_empty(), "{path}");
    }
    let (status, again, words) = scep().await;
    assert_eq!((status, again), (503, true));
    assert!(words.starts_with(b"the server is busy"));
    drop(waiting);
    assert_eq!(bench.get(&path).await.status, StatusCode::OK);
    assert_eq!(scep().await.0, 400);
}
