//! BER becomes DER, which is not longer and stays as it is.

#![no_main]

use std::borrow::Cow;

use libfuzzer_sys::fuzz_target;
use russet::pki::ber::to_der;

fuzz_target!(|bytes: &[u8]| {
    let Ok(der) = to_der(bytes) else { return };
    assert!(der.len() <= bytes.len());
    assert!(matches!(to_der(&der), Ok(Cow::Borrowed(same)) if same == &*der));
});
