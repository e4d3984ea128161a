//! Certification requests, as they lie in a SCEP envelope.

#![no_main]

use libfuzzer_sys::fuzz_target;
use russet::pki::scep::csr::Csr;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(csr) = Csr::from_der(bytes) {
        let _ = (csr.subject().to_string(), csr.challenge(), csr.public_key());
    }
});
