//! Commands as property lists: bytes with a CommandUUID stay as they were sent.

#![no_main]

use libfuzzer_sys::fuzz_target;
use russet::schema::commands;

fuzz_target!(|bytes: &[u8]| {
    let Ok(request) = commands::from_plist(bytes) else { return };
    let again = commands::from_plist(&request.plist).expect("a device can read it");
    assert_eq!(again.plist, request.plist);
    assert_eq!((again.uuid, again.request_type), (request.uuid, request.request_type));
});
