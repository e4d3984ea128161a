//! The push certificate's life: asked for, signed by a vendor, imported, renewed, and never lost by mistake.
//!
//! Vendors, Apple's portal and mdmcert.download are played by certificates made here; `openssl` is the judge of
//! what Apple's portal would be given.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_RSA_SHA256, PublicKeyData,
    RsaKeySize,
};
use russet::clock::DAY;
use russet::config::Secret;
use russet::mdm::pushable;
use russet::pki::pem;
use russet::pki::scep::csr::Csr;
use russet::plist;
use russet::simulator::{Channel, Device, Kind};
use serde_json::{Value as Json, json};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use x509_cert::der::Decode;
use x509_cert::spki::SubjectPublicKeyInfoOwned;

use crate::support::{Appliance, NOW, TOPIC, acceptor};

/// Apple's authorities and a vendor, as made here.
struct Vendor {
    folder: tempfile::TempDir,
}

impl Vendor {
    /// Whose certificate ends after `days`.
    fn ending(days: i64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let moment = |at| OffsetDateTime::from_unix_timestamp(at).unwrap();
        let authority = |name: &str| {
            let mut parameters = CertificateParams::new(Vec::new()).unwrap();
            parameters.distinguished_name.push(DnType::CommonName, name);
            parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            parameters.not_before = moment(NOW - 400 * DAY);
            parameters.not_after = moment(NOW + 4000 * DAY);
            parameters
        };
        let rsa = || KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let (root, root_key) = (authority("Apple Root CA made here"), rsa());
        let root_pem = root.self_signed(&root_key).unwrap().pem();
        let root = Issuer::new(root, root_key);
        let (middle, middle_key) = (authority("Apple WWDR made here"), rsa());
        let middle_pem = middle.signed_by(&middle_key, &root).unwrap().pem();
        let middle = Issuer::new(middle, middle_key);
        let mut leaf = CertificateParams::new(Vec::new()).unwrap();
        leaf.distinguished_name.push(DnType::CommonName, "MDM Vendor: Example");
        leaf.not_before = moment(NOW - 300 * DAY);
        leaf.not_after = moment(NOW + days * DAY);
        let key = rsa();
        let leaf = leaf.signed_by(&key, &middle).unwrap();
        for (name, text) in [
            ("root.pem", root_pem),
            ("wwdr.pem", middle_pem),
            ("vendor.pem", leaf.pem()),
            ("vendor.key", key.serialize_pem()),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        std::fs::write(folder.path().join("vendor.cer"), leaf.der()).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// The body of a request to sign.
    fn body(&self) -> Json {
        // The root first: whoever gives the chain need not know its order.
        json!({
            "certificate": self.text("vendor.pem"),
            "private_key": self.text("vendor.key"),
            "chain": [self.text("root.pem"), self.text("wwdr.pem")],
        })
    }
}

/// What Apple's portal gives back for a request: a certificate for this topic, PEM.
fn portal(csr: &str, topic: &str) -> String {
    let request = Csr::from_der(&pem::blocks(csr).unwrap()[0].der).unwrap();
    // The last field of the SubjectPublicKeyInfo is a BIT STRING with the key in it.
    let spki = SubjectPublicKeyInfoOwned::from_der(request.spki()).unwrap();
    let theirs = Theirs(spki.subject_public_key.raw_bytes().to_vec());
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "Apple Application Integration made here");
    let issuer = Issuer::new(authority, key);
    let user_id = DnType::CustomDnType(vec![0, 9, 2342, 19_200_300, 100, 1, 1]);
    let mut leaf = CertificateParams::new(Vec::new()).unwrap();
    leaf.distinguished_name = rcgen::DistinguishedName::new();
    leaf.distinguished_name.push(user_id, topic);
    leaf.distinguished_name.push(DnType::CommonName, "APSP:made-here");
    leaf.not_before = OffsetDateTime::from_unix_timestamp(NOW - DAY).unwrap();
    leaf.not_after = OffsetDateTime::from_unix_timestamp(NOW + 365 * DAY).unwrap();
    leaf.signed_by(&theirs, &issuer).unwrap().pem()
}

/// The RSA key of a request.
struct Theirs(Vec<u8>);

impl PublicKeyData for Theirs {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_RSA_SHA256
    }
}

/// Runs openssl; answers what it printed.
fn openssl(folder: &Path, arguments: &str) -> String {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .output()
        .expect("openssl cannot be started; install Debian's package openssl");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "openssl {arguments}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn request(appliance: &Appliance, account: &str) -> (String, String) {
    let body = json!({"apple_account": account});
    let (status, made) = appliance.api("POST", "/api/v1/push-certificates/request", Some(body)).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let text = |key: &str| made[key].as_str().unwrap().to_owned();
    (text("id"), text("csr"))
}

async fn refused(appliance: &Appliance, path: &str, body: Json) -> String {
    let (status, answer) = appliance.api("POST", path, Some(body)).await;
    assert!(status.is_client_error(), "{answer}");
    answer["error"]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_the_portal_takes_holds_step_by_step_in_openssl() {
    let appliance = Appliance::bare(|_| {}).await;
    let vendor = Vendor::ending(60);
    let (id, csr) = request(&appliance, "mdm@example.org").await;
    let path = format!("/api/v1/push-certificates/request/{id}/sign");
    let (status, text) = appliance.api("POST", &path, Some(vendor.body())).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let list = plist::parse_dict(&STANDARD.decode(text.as_str().unwrap()).unwrap()).unwrap();
    let part = |name: &str| list.get(name).unwrap().as_string().unwrap().to_owned();
    let folder = vendor.folder.path();

    // The request inside is the one that was made here, in DER, without line ends, signed by its key.
    std::fs::write(folder.join("csr.der"), STANDARD.decode(part("PushCertRequestCSR")).unwrap()).unwrap();
    std::fs::write(folder.join("made.csr"), csr).unwrap();
    openssl(folder, "req -inform DER -in csr.der -verify -noout");
    let key = |form: &str| openssl(folder, &format!("req {form} -pubkey -noout"));
    assert_eq!(key("-inform DER -in csr.der"), key("-in made.csr"));
    assert!(openssl(folder, "req -in made.csr -noout -text").contains("Public-Key: (2048 bit)"));

    // The signature is the vendor's, RSA with SHA-256 over these bytes.
    std::fs::write(folder.join("signature"), STANDARD.decode(part("PushCertSignature")).unwrap()).unwrap();
    std::fs::write(folder.join("vendor.pub"), openssl(folder, "x509 -in vendor.pem -pubkey -noout")).unwrap();
    openssl(folder, "dgst -sha256 -verify vendor.pub -signature signature csr.der");

    // The chain is whole, the vendor's certificate first, in lines of 64 characters.
    let chain = part("PushCertCertificateChain");
    assert!(chain.starts_with(vendor.text("vendor.pem").trim_end().replace("\r\n", "\n").as_str()));
    std::fs::write(folder.join("chain.pem"), &chain).unwrap();
    openssl(folder, &format!("verify -attime {NOW} -CAfile root.pem -untrusted wwdr.pem vendor.pem"));
    assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 3);
    assert!(chain.trim_end().ends_with(vendor.text("root.pem").trim_end()));
    for block in chain.split("-----END CERTIFICATE-----") {
        let lines: Vec<_> = block.lines().filter(|line| !line.is_empty() && !line.starts_with('-')).collect();
        let Some((last, whole)) = lines.split_last() else { continue };
        assert!(whole.iter().all(|line| line.len() == 64) && last.len() <= 64, "{block}");
    }

    // The certificate that the portal gives finds its key here, and says how it came about.
    let certificate = portal(&vendor.text("made.csr"), TOPIC);
    let body = json!({"certificate": certificate});
    let (status, made) = appliance.api("POST", "/api/v1/push-certificates", Some(body)).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    assert_eq!((&made["signed_by"], &made["apple_account"]), (&json!("vendor"), &json!("mdm@example.org")));
    assert_eq!(made["topic"], TOPIC);
    let (_, left) = appliance.api("GET", "/api/v1/push-certificates/requests", None).await;
    assert_eq!(left["items"], json!([]), "the request is done with");
}

#[tokio::test]
async fn the_command_line_signs_without_a_server_and_as_the_api_does() {
    let vendor = Vendor::ending(4000);
    let folder = vendor.folder.path();
    openssl(folder, "req -new -newkey rsa:2048 -nodes -keyout own.key -out own.csr -subj /CN=own");
    let russet = |arguments: &str| {
        Command::new(env!("CARGO_BIN_EXE_russet"))
            .args(arguments.split_whitespace())
            .current_dir(folder)
            .env_clear()
            .output()
            .unwrap()
    };
    // Made certificates are dated by the tests' clock; the command has the machine's.
    let made = russet(
        "push-certificate sign --csr own.csr --vendor-cert vendor.cer --vendor-key vendor.key --chain root.pem wwdr.pem --out signed.txt",
    );
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let checked = russet("push-certificate check signed.txt");
    let words = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(words.contains("The signature and the chain hold. Signed by CN=MDM Vendor: Example"), "{words}");

    std::fs::write(folder.join("windows.txt"), vendor.text("signed.txt").replace('A', "A\r\n")).unwrap();
    assert!(russet("push-certificate check windows.txt").status.success(), "line ends change nothing");
    let mut list = plist::parse_dict(&STANDARD.decode(vendor.text("signed.txt")).unwrap()).unwrap();
    list.insert("PushCertSignature".into(), STANDARD.encode([7; 256]).into());
    std::fs::write(folder.join("broken.txt"), plist::to_xml(&plist::Value::Dictionary(list))).unwrap();
    let refused = russet("push-certificate check broken.txt");
    assert_eq!(refused.status.code(), Some(1));
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("does not belong to this request and this vendor"), "{words}");
}

#[tokio::test]
async fn what_a_vendor_gives_wrong_is_said_before_anybody_goes_to_apple() {
    let appliance = Appliance::bare(|_| {}).await;
    let (vendor, other) = (Vendor::ending(60), Vendor::ending(60));
    let (id, csr) = request(&appliance, "mdm@example.org").await;
    let sign = format!("/api/v1/push-certificates/request/{id}/sign");
    let with = |key: &str, value: Json| {
        let mut body = vendor.body();
        body[key] = value;
        body
    };
    for (body, words) in [
        (with("private_key", other.text("vendor.key").into()), "does not belong to the vendor's certificate"),
        (with("private_key", json!("")), "no private key in this"),
        (with("certificate", csr.clone().into()), "this is the signing request, not the certificate"),
        (with("certificate", "rubbish".into()), "neither a certificate nor a key"),
        (
            with("chain", json!([vendor.text("root.pem")])),
            "the certificate of CN=Apple WWDR made here is missing",
        ),
        (
            with("chain", json!([other.text("root.pem"), other.text("wwdr.pem")])),
            "is missing, or another one of that name",
        ),
        (with("chain", json!([vendor.text("wwdr.pem")])), "the certificate of CN=Apple Root CA"),
        (Vendor::ending(-1).body(), "expired on"),
    ] {
        let said = refused(&appliance, &sign, body).await;
        assert!(said.contains(words), "{said} instead of {words}");
    }
    // Another's request, signed: this server has no key for it.
    let (other_id, _) = request(&appliance, "mdm@example.org").await;
    let path = format!("/api/v1/push-certificates/request/{other_id}/sign");
    let (_, signed) = appliance.api("POST", &path, Some(vendor.body())).await;
    let check = "/api/v1/push-certificates/check";
    let path = format!("/api/v1/push-certificates/request/{id}/signed");
    let (status, answer) = appliance.post_bytes(&path, signed.as_str().unwrap()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(answer["error"]["message"].as_str().unwrap().contains("of another request"), "{answer}");
    let (status, answer) = appliance.post_bytes(check, signed.as_str().unwrap()).await;
    assert_eq!((status, &answer["request"]), (StatusCode::OK, &json!(other_id)), "{answer}");
    for (file, words) in
        [(csr.as_str(), "this is PEM"), ("x", "no signed request"), ("", "no signed request")]
    {
        let (status, answer) = appliance.post_bytes(check, file).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(answer["error"]["message"].as_str().unwrap().contains(words), "{answer}");
    }
}

/// Answers one POST over TLS as mdmcert.download does, and gives back its body.
async fn mdmcert(folder: &Path, answer: &'static str) -> (String, PathBuf, tokio::task::JoinHandle<Json>) {
    let (acceptor, pem) = acceptor("localhost");
    let trust = folder.join("mdmcert.pem");
    std::fs::write(&trust, pem).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/api/v1/signrequest", listener.local_addr().unwrap().port());
    let asked = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        let mut seen = Vec::new();
        let body = loop {
            let mut piece = [0; 4096];
            let read = stream.read(&mut piece).await.unwrap();
            seen.extend_from_slice(&piece[..read]);
            let Some(end) = seen.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            if let Ok(body) = serde_json::from_slice(&seen[end + 4..]) {
                break body;
            }
        };
        let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
        stream.write_all(reply.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        body
    });
    (url, trust, asked)
}

#[tokio::test]
async fn the_answer_that_mdmcert_download_mails_is_opened() {
    let vendor = Vendor::ending(60);
    let folder = vendor.folder.path();
    let (url, trust, asked) = mdmcert(folder, r#"{"result":"success"}"#).await;
    let appliance = Appliance::bare(|config| {
        config.mdmcert.url = url;
        config.mdmcert.trust = Some(trust);
        config.mdmcert.client_key = Some(Secret::new("the-client-key"));
    })
    .await;
    let (id, csr) = request(&appliance, "mdm@example.org").await;
    let path = format!("/api/v1/push-certificates/request/{id}");
    let (status, answer) =
        appliance.api("POST", &format!("{path}/mdmcert"), Some(json!({"email": "it@example.org"}))).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let asked = asked.await.unwrap();
    assert_eq!((&asked["email"], &asked["key"]), (&json!("it@example.org"), &json!("the-client-key")));
    let decoded = |key: &str| STANDARD.decode(asked[key].as_str().unwrap()).unwrap();
    assert_eq!(String::from_utf8(decoded("csr")).unwrap(), csr);

    // The service's side: its vendor signs, openssl encrypts to the certificate that came along.
    std::fs::write(folder.join("reply-to.pem"), decoded("encrypt")).unwrap();
    let (_, signed) = appliance.api("POST", &format!("{path}/sign"), Some(vendor.body())).await;
    std::fs::write(folder.join("signed.b64"), signed.as_str().unwrap()).unwrap();
    for cipher in ["-des3", "-aes128", "-aes256"] {
        openssl(
            folder,
            &format!("smime -encrypt -binary {cipher} -in signed.b64 -out mail.p7 -outform DER reply-to.pem"),
        );
        let hex: String =
            std::fs::read(folder.join("mail.p7")).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
        let (status, opened) = appliance.post_bytes(&format!("{path}/mdmcert-answer"), &hex).await;
        assert_eq!((status, &opened), (StatusCode::OK, &signed), "{cipher}");
        for (file, words) in
            [(&hex[..hex.len() / 4 * 2], "it is cut"), ("not hexadecimal", "save the attachment as it is")]
        {
            let (_, refused) = appliance.post_bytes(&format!("{path}/mdmcert-answer"), file).await;
            assert!(refused["error"]["message"].as_str().unwrap().contains(words), "{refused}");
        }
    }
    let (_, shown) = appliance.api("GET", &path, None).await;
    assert_eq!(shown["signed_by"], "mdmcert.download");
    assert!(!shown.to_string().contains("PRIVATE KEY"));

    let (other, _) = request(&appliance, "mdm@example.org").await;
    let (status, refused) = appliance
        .post_bytes(&format!("/api/v1/push-certificates/request/{other}/mdmcert-answer"), "30")
        .await;
    assert_eq!(status, StatusCode::CONFLICT, "{refused}");
}

#[tokio::test]
async fn without_a_client_key_it_is_said_how_to_get_one() {
    let appliance = Appliance::bare(|_| {}).await;
    let (id, _) = request(&appliance, "mdm@example.org").await;
    let path = format!("/api/v1/push-certificates/request/{id}/mdmcert");
    let words = refused(&appliance, &path, json!({"email": "it@example.org"})).await;
    assert!(words.contains("[mdmcert] client_key") && words.contains("ask its operators"), "{words}");
}

/// A hundred phones that are enrolled.
async fn hundred(appliance: &mut Appliance) -> (Vec<Device>, Vec<impl Sized + use<>>) {
    let link = appliance.invite(100).await;
    let (mut devices, mut ears) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        let mut device = appliance.device(Kind::IPhone);
        ears.push(device.hear(&appliance.apple));
        device.enroll(&link).await.unwrap();
        devices.push(device);
    }
    (devices, ears)
}

/// All that the database has of enrollments.
fn rows(appliance: &Appliance) -> Vec<String> {
    appliance
        .app()
        .store
        .peek(|conn| {
            let mut statement = conn.prepare(
                "SELECT id || state || topic || hex(push_token) || push_magic FROM enrollments ORDER BY id",
            )?;
            let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .unwrap()
}

async fn renewed(appliance: &Appliance, topic: &str, replace: Option<u64>) -> (StatusCode, Json) {
    let (_, csr) = request(appliance, "mdm@example.org").await;
    let body = json!({"certificate": portal(&csr, topic), "replace_topic": replace});
    appliance.api("POST", "/api/v1/push-certificates", Some(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_changes_nothing_for_a_hundred_devices_and_another_topic_names_them() {
    let mut appliance = Appliance::start().await;
    let (mut devices, _ears) = hundred(&mut appliance).await;
    let before = rows(&appliance);

    // The same topic.
    let (status, made) = renewed(&appliance, TOPIC, None).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    assert_eq!((&made["enrollments"], &made["current"]), (&json!(100), &json!(true)));
    assert_eq!(made["test"]["works"], true, "{made}");
    assert_eq!(rows(&appliance), before);
    for device in &mut devices {
        let path = format!("/api/v1/enrollments/{}/push", device.udid);
        let (_, pushed) = appliance.api("POST", &path, None).await;
        assert_eq!(pushed["status"], 200, "{pushed}");
    }
    assert!(devices[57].connect(Channel::Device).await.is_ok());
    let store = &appliance.app().store;
    assert!(pushable::findings(store).unwrap().iter().all(|found| found.code != "devices-on-lost-topic"));

    // Another topic.
    let other = "com.apple.mgmt.External.created-not-renewed";
    for number in [None, Some(99), Some(101)] {
        let (status, refused) = renewed(&appliance, other, number).await;
        assert_eq!(status, StatusCode::CONFLICT);
        let error = &refused["error"];
        assert!(
            error["message"].as_str().unwrap().starts_with("100 enrolled devices use topic"),
            "{refused}"
        );
        assert_eq!((&error["existing_topic"], &error["new_topic"]), (&json!(TOPIC), &json!(other)));
        assert_eq!(error["enrollments"], 100);
    }
    let (_, listed) = appliance.api("GET", "/api/v1/push-certificates", None).await;
    assert_eq!(listed["items"][0]["topic"], TOPIC, "the working one stays");

    // Forced.
    let (status, made) = renewed(&appliance, other, Some(100)).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let found = pushable::findings(store).unwrap();
    let lost = found.iter().find(|found| found.code == "devices-on-lost-topic").unwrap();
    assert!(lost.seen.starts_with("100 devices are enrolled with another topic"), "{lost:?}");
    for device in &devices {
        assert!(lost.seen.contains(&device.serial_number), "{} is named", device.serial_number);
    }
    let (_, events) = appliance.api("GET", "/api/v1/events?kind=push-topic-replaced", None).await;
    assert!(events["items"][0]["words"].as_str().unwrap().starts_with("100 devices"), "{events}");
}

#[tokio::test]
async fn the_pair_before_is_the_way_back_and_what_people_write_stays() {
    let appliance = Appliance::bare(|_| {}).await;
    let (_, first) = renewed(&appliance, TOPIC, None).await;
    let path = format!("/api/v1/push-certificates/{TOPIC}");
    let words = refused(&appliance, &format!("{path}/rollback"), json!({})).await;
    assert!(words.contains("no earlier certificate"), "{words}");
    let notes = json!({"notes": "The password lies in the safe.", "apple_account": "mdm@school.example"});
    let (status, _) = appliance.api("PATCH", &path, Some(notes)).await;
    assert_eq!(status, StatusCode::OK);

    let (_, second) = renewed(&appliance, TOPIC, None).await;
    assert_eq!(second["notes"], "The password lies in the safe.");
    let (status, back) = appliance.api("POST", &format!("{path}/rollback"), None).await;
    assert_eq!((status, &back["serial_number"]), (StatusCode::OK, &first["serial_number"]), "{back}");
    let (_, shown) = appliance.api("GET", &path, None).await;
    assert_eq!(shown["serial_number"], first["serial_number"]);
    let (_, third) = renewed(&appliance, TOPIC, None).await;
    assert_eq!(third["current"], true, "the next import is used again");

    let (status, _) = appliance.api("GET", "/api/v1/push-certificates/none", None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let support = appliance.text(&format!("{path}/support?new_account=new%40school.example")).await;
    let serial = third["serial_number"].as_str().unwrap().to_uppercase();
    for part in ["APSP:made-here", serial.as_str(), "new@school.example", TOPIC] {
        assert!(support.contains(part), "{part} in {support}");
    }
}

#[tokio::test]
async fn files_that_are_not_it_are_refused_in_words_and_the_working_one_stays() {
    let appliance = Appliance::bare(|_| {}).await;
    renewed(&appliance, TOPIC, None).await;
    let (id, csr) = request(&appliance, "mdm@example.org").await;
    let good = portal(&csr, TOPIC);
    let vendor = Vendor::ending(60);
    let folder = vendor.folder.path();
    std::fs::write(folder.join("good.pem"), &good).unwrap();
    openssl(
        folder,
        "req -x509 -newkey rsa:2048 -nodes -keyout web.key -out web.pem -days 3650 -subj /CN=www.example.org",
    );
    openssl(folder, "pkcs12 -export -in web.pem -inkey web.key -out web.p12 -passout pass:secret");
    let p12 = std::fs::read(folder.join("web.p12")).unwrap();
    let csr_der = STANDARD.encode(&pem::blocks(&csr).unwrap()[0].der);
    let (_, signed) = {
        let path = format!("/api/v1/push-certificates/request/{id}/sign");
        appliance.api("POST", &path, Some(vendor.body())).await
    };
    for (body, words) in [
        (json!({"certificate": csr}), "this is the signing request, not the certificate"),
        (json!({"certificate": csr_der}), "this is the signing request, not the certificate"),
        (json!({"certificate": signed}), "this is the signed request, not the certificate"),
        (
            json!({"certificate": vendor.text("web.pem"), "private_key": vendor.text("web.key")}),
            "not an MDM push certificate",
        ),
        (json!({"certificate": vendor.text("web.pem")}), "not made with a request of this server"),
        (
            json!({"certificate": good, "private_key": vendor.text("web.key")}),
            "does not belong to the certificate",
        ),
        (
            json!({"certificate": STANDARD.encode(&p12), "password": "wrong"}),
            "the password of the .p12 file is wrong",
        ),
        (json!({"certificate": STANDARD.encode(&p12)}), "has a password"),
        (
            json!({"certificate": STANDARD.encode(&p12[..p12.len() / 2]), "password": "secret"}),
            "convert it with",
        ),
        (json!({"certificate": good.replace("MII", "M")}), "damaged"),
    ] {
        let said = refused(&appliance, "/api/v1/push-certificates", body).await;
        assert!(said.contains(words), "{said} instead of {words}");
    }
    let (_, listed) = appliance.api("GET", "/api/v1/push-certificates", None).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "the working one stays");

    // What the portal offers in DER, and PEM with Windows line ends, are as good.
    let (_, other) = request(&appliance, "mdm@example.org").await;
    let other = portal(&other, TOPIC);
    for form in [STANDARD.encode(&pem::blocks(&good).unwrap()[0].der), other.replace('\n', "\r\n")] {
        let body = json!({"certificate": form});
        let (status, made) = appliance.api("POST", "/api/v1/push-certificates", Some(body)).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
    }
}
