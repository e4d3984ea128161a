//! Whose message it is: the identifiers of every check-in and report.

#![no_main]

use libfuzzer_sys::fuzz_target;
use russet::mdm::ids::Ids;
use russet::plist;

fuzz_target!(|bytes: &[u8]| {
    let Ok(message) = plist::parse_dict(bytes) else { return };
    if let Ok(ids) = Ids::of(&message) {
        assert!(!ids.enrollment_id.is_empty());
    }
});
