//! Apple's catalogue of operating systems: what is read is bounded, and holds together.

#![no_main]

use libfuzzer_sys::fuzz_target;
use russet::ddm::update::catalogue::parse;

fuzz_target!(|bytes: &[u8]| {
    let Ok(parsed) = parse(bytes) else { return };
    assert!(!parsed.releases.is_empty());
    for release in &parsed.releases {
        assert!(release.posted.len() == 10 && !release.version.is_empty() && !release.build.is_empty());
        assert!(release.devices.is_sorted() && release.devices.iter().all(|device| device.len() <= 64));
    }
});
