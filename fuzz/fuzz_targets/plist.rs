//! XML and binary property lists: what can be read can be shown, written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use russet::plist;

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = plist::parse(bytes) else { return };
    plist::json::to_json(&value);
    let xml = plist::to_xml(&value);
    // Fractions of seconds and UIDs change once, and never again.
    let again = plist::parse(&xml).expect("what is written can be read");
    assert_eq!(plist::to_xml(&again), xml);
});
