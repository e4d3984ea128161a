//! An imported push certificate with its key: PEM, DER, PKCS #12, base64.

#![no_main]

use libfuzzer_sys::fuzz_target;
use russet::apns::Pair;

/// Within the dates of the seeds.
const NOW: i64 = 1_800_000_000;

fuzz_target!(|bytes: &[u8]| {
    // A `.p12` is opened by its password; that of the seeds gets past the MAC.
    for password in [None, Some("secret")] {
        if let Ok(pair) = Pair::from_parts(&[bytes], password, NOW) {
            assert!(pair.topic.starts_with("com.apple.mgmt."));
        }
    }
});
