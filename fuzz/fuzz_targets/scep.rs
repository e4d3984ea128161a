//! SCEP messages, signed and encrypted to a fixed CA.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use russet::pki::certificate::Certificate;
use russet::pki::key::PrivateKey;
use russet::pki::scep::message::Message;

static AUTHORITY: LazyLock<(Certificate, PrivateKey)> = LazyLock::new(|| {
    let certificate = Certificate::from_pem(include_str!("../../tests/fixtures/cms/ca.crt"));
    let key = PrivateKey::from_pem(include_str!("../../tests/fixtures/cms/ca.key"));
    (certificate.expect("the fixture is a certificate"), key.expect("the fixture is a key"))
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(message) = Message::parse(bytes) else { return };
    let (certificate, key) = &*AUTHORITY;
    if let Err(refusal) = message.open(certificate, key) {
        let _ = (refusal.fail_info(), refusal.to_string());
    }
});
