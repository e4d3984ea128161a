//! Configuration profiles, signed or not, as people upload them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use russet::library::mobileconfig::Mobileconfig;

fuzz_target!(|bytes: &[u8]| {
    match Mobileconfig::read(bytes) {
        Ok(profile) => {
            assert!(!profile.identifier.is_empty() && !profile.uuid.is_empty());
            assert!(profile.payloads.iter().all(|payload| payload.payload_type != "com.apple.mdm"));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
