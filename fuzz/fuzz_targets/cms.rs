//! CMS: detached (`Mdm-Signature`), attached (MachineInfo, profiles) and enveloped (SCEP).

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use russet::pki::certificate::Certificate;
use russet::pki::key::PrivateKey;
use russet::pki::{ber, cms};

/// What the fixtures are signed over.
const CONTENT: &[u8] = include_bytes!("../../tests/fixtures/cms/content.bin");

static RECIPIENT: LazyLock<(Certificate, PrivateKey)> = LazyLock::new(|| {
    let certificate = Certificate::from_pem(include_str!("../../tests/fixtures/cms/rsa.crt"));
    let key = PrivateKey::from_pem(include_str!("../../tests/fixtures/cms/rsa.key"));
    (certificate.expect("the fixture is a certificate"), key.expect("the fixture is a key"))
});

fuzz_target!(|bytes: &[u8]| {
    let _ = cms::verify_detached(bytes, CONTENT);
    let _ = cms::verify_attached(bytes);
    if let Ok(der) = ber::to_der(bytes) {
        let (certificate, key) = &*RECIPIENT;
        let _ = cms::certificates(&der);
        let _ = cms::decrypt(&der, certificate, key);
    }
});
