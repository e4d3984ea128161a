//! Declarations as JSON, checked against Apple's schema: what is accepted is accepted again as it is kept.

#![no_main]

use libfuzzer_sys::fuzz_target;
use russet::schema::declarations::check;
use serde_json::{Value, json};

fuzz_target!(|bytes: &[u8]| {
    let Ok(body) = serde_json::from_slice::<Value>(bytes) else { return };
    for force in [false, true] {
        let Ok(checked) = check(&body, force) else { continue };
        let kept = json!({
            "Type": checked.declaration_type, "Identifier": checked.identifier, "Payload": checked.payload,
        });
        let again = check(&kept, force).expect("what is kept can be sent");
        assert_eq!((again.payload, again.references), (checked.payload, checked.references));
    }
});
