//! Names of things: random identifiers, hexadecimal, constant-time comparison.
//!
//! Enrollment IDs stay strings throughout: Apple's UDIDs vary in case and form by platform, and
//! are compared byte for byte (never case-folded).
//!
//! **Invariant:** every secret and every identifier that must not be guessed comes from
//! [`random`], the operating system's generator.

use aws_lc_rs::{constant_time, digest, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// `N` random bytes from the operating system's generator.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the operating system's random generator answers");
    bytes
}

/// An unguessable name: `N` random bytes in URL-safe base64 without padding.
pub fn secret<const N: usize>() -> String {
    URL_SAFE_NO_PAD.encode(random::<N>())
}

/// An upper-case UUID of version 4, as Apple writes them.
pub fn uuid() -> String {
    uuid::Uuid::new_v4().hyphenated().to_string().to_uppercase()
}

/// SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
    }
    text
}

/// Reads hexadecimal of either case; `None` for anything else.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.chunks_exact(2)
        .map(|pair| {
            let high = char::from(pair[0]).to_digit(16)?;
            let low = char::from(pair[1]).to_digit(16)?;
            u8::try_from(high * 16 + low).ok()
        })
        .collect()
}

/// Compares secrets without telling by the time it takes where they differ.
pub fn same_secret(one: &[u8], other: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(one, other).is_ok()
}

/// A person's or a device's text as it may stand in a log line or a terminal: control characters
/// and direction overrides are replaced, and it is cut at 200 characters.
pub fn printable(text: &str) -> String {
    let mut printable: String = text
        .chars()
        .take(200)
        .map(|c| {
            let hidden =
                matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if c.is_control() || hidden { '\u{fffd}' } else { c }
        })
        .collect();
    if text.chars().nth(200).is_some() {
        printable.push('…');
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_goes_both_ways() {
        assert_eq!(hex(&[0, 15, 255]), "000fff");
        assert_eq!(from_hex("000FfF"), Some(vec![0, 15, 255]));
        assert_eq!(from_hex("0"), None);
        assert_eq!(from_hex("0g"), None);
        assert_eq!(from_hex("+1"), None);
    }

    #[test]
    fn hostile_text_is_made_printable() {
        assert_eq!(printable("a\n\u{202e}b\0"), "a\u{fffd}\u{fffd}b\u{fffd}");
        assert_eq!(printable(&"x".repeat(300)).chars().count(), 201);
    }

    #[test]
    fn secrets_do_not_repeat() {
        assert_ne!(secret::<16>(), secret::<16>());
        assert!(same_secret(b"one", b"one"));
        assert!(!same_secret(b"one", b"two"));
        assert!(!same_secret(b"one", b"ones"));
    }
}
