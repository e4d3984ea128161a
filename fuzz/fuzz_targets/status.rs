//! Status reports: whatever is JSON is read, and nothing else.

#![no_main]

use libfuzzer_sys::fuzz_target;
use russet::ddm::status::{Said, check};

fuzz_target!(|bytes: &[u8]| {
    assert_eq!(check(bytes).is_ok(), Said::read(bytes.to_vec()).is_ok());
});
