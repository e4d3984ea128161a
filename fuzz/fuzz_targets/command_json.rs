//! Commands as JSON, checked against Apple's schema: what is accepted is what a device can read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use russet::schema::commands;

fuzz_target!(|bytes: &[u8]| {
    let Ok(body) = serde_json::from_slice(bytes) else { return };
    for force in [false, true] {
        let Ok(request) = commands::from_json(&body, force) else { continue };
        let again = commands::from_plist(&request.plist).expect("a device can read it");
        assert_eq!((again.uuid, again.request_type), (request.uuid, request.request_type));
    }
});
