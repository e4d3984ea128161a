//! Apps and installer packages, as people upload them.

#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use russet::error::Error;
use russet::library::package::read;

fuzz_target!(|bytes: &[u8]| {
    match read(&mut Cursor::new(bytes), 1_800_000_000) {
        Ok(summary) => {
            assert!(!summary.bundle_id.is_empty() && !summary.version.is_empty());
            assert!(summary.title.chars().count() <= 201);
        }
        Err(error) => assert!(matches!(error, Error::Invalid { .. }), "{error:?}"),
    }
});
