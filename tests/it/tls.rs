//! The server's certificate: its own authority, or files that someone else renews.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use russet::config::TlsMode;
use russet::pki::{certificate::Certificate, cms};
use russet::simulator::{Channel, Kind, Trust};

use crate::support::{Appliance, TOPIC};

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Puts a certificate for localhost and its key into the folder.
    fn renew(&self, folder: &Path) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
        std::fs::write(folder.join("chain.pem"), format!("{}{}", certificate.pem(), self.pem)).unwrap();
    }
}

#[tokio::test]
async fn with_certificate_files_devices_enroll_and_profiles_are_signed_by_the_tls_key() {
    let authority = Authority::new();
    let files = tempfile::tempdir().unwrap();
    authority.renew(files.path());
    let mut appliance = Appliance::bare(|config| {
        config.tls.mode = TlsMode::Files {
            certificate: files.path().join("chain.pem"),
            private_key: files.path().join("key.pem"),
        };
    })
    .await;
    appliance.trust = Trust::nobody().and_pem(authority.pem.as_bytes()).unwrap();
    appliance.import_push_certificate(TOPIC).await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    assert!(phone.connect(Channel::Device).await.unwrap().is_empty());

    let link = appliance.invite(1).await;
    let profile = phone.fetch(&format!("{link}/profile")).await.unwrap();
    let (signed, content) = cms::verify_attached(&profile.body).unwrap();
    let tls =
        Certificate::from_pem(&std::fs::read_to_string(files.path().join("chain.pem")).unwrap()).unwrap();
    assert_eq!(signed.signer.fingerprint(), tls.fingerprint());
    let content = String::from_utf8(content).unwrap();
    assert!(!content.contains("com.apple.security.root"), "who is trusted already needs no anchor");
    assert_eq!(
        phone.fetch(&format!("{}/ca.crt", appliance.config.server.public_url)).await.unwrap().status,
        404
    );
}

#[tokio::test]
async fn the_self_signed_root_speaks_for_its_host_alone_and_never_for_devices() {
    let appliance = Appliance::start().await;
    let anchor = Certificate::from_der(&appliance.app().enroll.anchor().unwrap()).unwrap();
    let identities = appliance.app().enroll.authority().unwrap();
    assert!(anchor.is_ca());
    assert_ne!(anchor.der(), identities.certificate_der());
    // id-ce-nameConstraints, RFC 5280 section 4.2.1.10.
    let constraints = anchor.extension(russet::pki::asn1::Oid::new_unwrap("2.5.29.30"));
    assert!(constraints.is_some_and(|bytes| bytes.windows(9).any(|window| window == b"localhost")));
}

#[tokio::test]
async fn what_was_signed_by_the_signer_is_kept_for_as_long_as_it_is_the_signer() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.device(Kind::IPhone);
    let url = format!("{}/trust.mobileconfig", appliance.config.server.public_url);
    let first = phone.fetch(&url).await.unwrap();
    assert_eq!(first.status, 200);
    // Signed anew it would say another time.
    appliance.clock.advance(90);
    appliance.app().renew_certificates().await.unwrap();
    assert_eq!(phone.fetch(&url).await.unwrap().body, first.body);
}

#[tokio::test]
async fn a_new_signer_of_profiles_is_used_though_the_tls_certificate_stays() {
    let appliance = Appliance::start().await;
    let app = appliance.app();
    let invitation = app
        .store
        .write("test", |tx| russet::enroll::invitation::create(tx, &Default::default(), "test"))
        .await
        .unwrap();
    let signer = async || {
        let profile = app.enroll.profile(&invitation).await.unwrap();
        cms::verify_attached(&profile).unwrap().0.signer
    };
    let before = signer().await;
    let gone = "DELETE FROM authorities WHERE purpose = 'profile-signer'";
    app.store.write("test", move |tx| Ok(tx.execute(gone, [])?)).await.unwrap();
    app.renew_certificates().await.unwrap();
    assert_ne!(signer().await, before);
}
