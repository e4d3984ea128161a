//! Status reports: JSON that is kept as it came.

#![no_main]

use libfuzzer_sys::fuzz_target;
use russet::ddm::status;

fuzz_target!(|bytes: &[u8]| {
    if status::check(bytes).is_ok() {
        let report: serde_json::Value = serde_json::from_slice(bytes).expect("a checked report is JSON");
        assert!(report.is_object());
    }
});
