//! What lies in a CMS message, whoever made it and whether rightly.
//!
//! For who has to know what could be hidden in some data: an ill-formed signature hides its content from
//! nobody who does not check it.
//!
//! **Invariant:** what says that it is a CMS message is never taken for data that holds nothing.

use super::{DATA, SIGNED_DATA};
use crate::pki::asn1::{self, Malformed, OBJECT_IDENTIFIER, OCTET_STRING, Reader, SEQUENCE, SET};
use crate::pki::ber;

/// The beginnings of the types of CMS messages: those of PKCS #7 and of S/MIME.
const TYPES: [&[u8]; 2] = [
    &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07],
    &[0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01],
];

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Held {
    /// It is no CMS message, or one that has nothing but certificates in it.
    Nothing,
    Content(Vec<u8>),
    /// It is encrypted, compressed or damaged.
    Unreadable,
}

/// Looks into data.
pub fn held(data: &[u8]) -> Held {
    if !says_it_is(data) {
        return Held::Nothing;
    }
    let Ok(der) = ber::to_der(data) else { return Held::Unreadable };
    match content(&der) {
        Ok(Some(content)) => Held::Content(content.to_vec()),
        Ok(None) => Held::Nothing,
        Err(Malformed) => Held::Unreadable,
    }
}

/// Whether a SEQUENCE begins with such a type, in whatever way its length is written.
fn says_it_is(data: &[u8]) -> bool {
    let [SEQUENCE, length, rest @ ..] = data else { return false };
    let more = if *length > 0x80 { usize::from(length & 0x7f) } else { 0 };
    rest.get(more..).is_some_and(|inside| TYPES.iter().any(|kind| inside.starts_with(kind)))
}

fn content(der: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    let mut info = Reader::sequence(der)?;
    let kind = info.value(OBJECT_IDENTIFIER)?;
    let mut explicit = info.inside(asn1::constructed_context(0))?;
    if kind == DATA.as_bytes() {
        return explicit.value(OCTET_STRING).map(Some);
    }
    if kind != SIGNED_DATA.as_bytes() {
        return Err(Malformed);
    }
    let mut signed = explicit.inside(SEQUENCE)?;
    signed.value(asn1::INTEGER)?;
    signed.value(SET)?;
    let mut encapsulated = signed.inside(SEQUENCE)?;
    encapsulated.value(OBJECT_IDENTIFIER)?;
    match encapsulated.optional(asn1::constructed_context(0))? {
        Some(explicit) => Reader::new(explicit.value).value(OCTET_STRING).map(Some),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_is_seen_and_what_is_encrypted_is_said() {
        let signed = include_bytes!("../../../tests/fixtures/cms/attached.p7");
        let stream = include_bytes!("../../../tests/fixtures/cms/attached.stream.p7");
        let inside = include_bytes!("../../../tests/fixtures/cms/content.bin");
        assert_eq!(held(signed), Held::Content(inside.to_vec()));
        assert_eq!(held(stream), Held::Content(inside.to_vec()));
        assert_eq!(held(include_bytes!("../../../tests/fixtures/cms/detached.p256.p7")), Held::Nothing);
        assert_eq!(
            held(include_bytes!("../../../tests/fixtures/cms/enveloped.aes-256-cbc.p7")),
            Held::Unreadable
        );
        assert_eq!(held(&signed[..signed.len() - 1]), Held::Unreadable);
        assert_eq!(held(&[&signed[..], b"x"].concat()), Held::Unreadable);
        assert_eq!(held(b"0"), Held::Nothing);
        assert_eq!(held(b"0\x82"), Held::Nothing);
        assert_eq!(held(b"some text"), Held::Nothing);
    }
}
