//! PEM: certificates and private keys as people hand them over.

#![no_main]

use libfuzzer_sys::fuzz_target;
use russet::pki::certificate::Certificate;
use russet::pki::key::PrivateKey;
use russet::pki::pem;

fuzz_target!(|text: &str| {
    if let Ok(blocks) = pem::blocks(text) {
        for block in blocks {
            let again = pem::blocks(&pem::encode(&block.label, &block.der)).expect("our own PEM can be read");
            assert!(again.len() == 1 && again[0].der == block.der);
        }
    }
    let _ = Certificate::all_from_pem(text);
    let _ = PrivateKey::from_pem(text);
});
