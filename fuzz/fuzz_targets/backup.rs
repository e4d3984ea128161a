//! Backups as anybody can encrypt them to a server's public key.

#![no_main]

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use libfuzzer_sys::fuzz_target;
use russet::backup::{Manifest, verify_decrypted};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::parse(bytes) {
        assert!(manifest.members.iter().all(|member| !member.name.contains("..")));
    }
    let _ = verify_decrypted(bytes);
    // The checksum of gzip would keep nearly everything out.
    let mut packed = GzEncoder::new(Vec::new(), Compression::none());
    packed.write_all(bytes).expect("memory takes it");
    let packed = packed.finish().expect("memory takes it");
    if let Err(error) = verify_decrypted(&packed) {
        assert!(!error.to_string().is_empty());
    }
});
