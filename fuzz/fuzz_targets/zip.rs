//! Zip archives as people upload them, and as this server makes them.

#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use russet::library::zip;

fuzz_target!(|bytes: &[u8]| {
    match zip::list(&mut Cursor::new(bytes)) {
        Ok(entries) => assert!(entries.len() <= zip::MOST_ENTRIES),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let Some(files) = zip::read(bytes) else { return };
    // What this server writes has paths that were checked.
    if files.keys().any(|path| path.matches('/').count() > 16) {
        return;
    }
    let Ok(again) = zip::write(&files) else { return };
    assert_eq!(zip::read(&again).as_ref(), Some(&files), "what is written can be read");
});
