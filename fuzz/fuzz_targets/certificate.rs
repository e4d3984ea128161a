//! X.509 certificates of others: everything that is asked of one has an answer.

#![no_main]

use libfuzzer_sys::fuzz_target;
use russet::pki::certificate::Certificate;

fuzz_target!(|bytes: &[u8]| {
    let Ok(certificate) = Certificate::from_der(bytes) else { return };
    assert_eq!(certificate.der(), bytes);
    let _ = format!("{certificate:?} {} {}", certificate.subject(), certificate.issuer());
    let _ = (certificate.serial_hex(), certificate.is_ca(), certificate.dns_names(), certificate.uris());
    let _ = (certificate.not_before(), certificate.not_after());
    if let Ok(key) = certificate.public_key() {
        let _ = certificate.verify_signed_by(&key);
    }
    let again = Certificate::from_pem(&certificate.to_pem()).expect("our own PEM can be read");
    assert_eq!(again, certificate);
});
