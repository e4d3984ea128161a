//! Signed requests for push certificates, and the file that mdmcert.download mails.

#![no_main]

use libfuzzer_sys::fuzz_target;
use russet::apns::vendor::{Given, Signed, Vendor, read_csr};

/// A time at which certificates of the corpus are valid.
const NOW: i64 = 1_796_000_000;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(signed) = Signed::read(bytes, NOW) {
        // What was read once reads again, as what it was.
        let again = Signed::read(signed.text.as_bytes(), NOW).expect("it was read before");
        assert_eq!(again.csr, signed.csr);
    }
    let _ = read_csr(bytes);
    let given = Given { certificate: bytes, key: bytes, chain: vec![bytes], password: None };
    if let Err(error) = Vendor::read(&given, NOW) {
        assert!(!error.to_string().is_empty());
    }
});
