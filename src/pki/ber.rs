//! BER to DER: devices sign and encrypt in streams, so lengths and strings arrive in pieces.
//!
//! Called on everything received in CMS (`Mdm-Signature`, MachineInfo, SCEP) before it is parsed.
//! Rewrites indefinite and padded lengths and joins constructed strings (X.690 8.1.3, 8.7). It knows
//! no schema: the pieces of an implicitly tagged string (`encryptedContent`) stay what they are, and
//! [`super::cms`] joins them.
//!
//! **Invariant:** bytes that already are DER come back untouched and uncopied, so no signature over
//! them can break; output exceeds the input by at most a few octets; depth never exceeds [`MAX_DEPTH`].

use std::borrow::Cow;

use super::asn1::{Header, Malformed, write_header};

/// The deepest nesting that is read; CMS around a certificate needs about fifteen.
pub const MAX_DEPTH: usize = 32;

/// The most that is read at all; every caller has a smaller limit on its body.
pub const MAX_LENGTH: usize = 16 << 20;

/// Why bytes cannot be read as BER.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BerError {
    #[error("the ASN.1 data is damaged or cut short; send it again unchanged")]
    Malformed,
    #[error("the ASN.1 data is nested more than {MAX_DEPTH} levels deep; nothing valid is")]
    TooDeep,
    #[error("the ASN.1 data is longer than {} MiB; nothing valid is", MAX_LENGTH >> 20)]
    TooLong,
    #[error("there are {0} bytes after the end of the ASN.1 data; send the structure alone")]
    Trailing(usize),
}

impl From<Malformed> for BerError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// The single element in `input` as DER.
pub fn to_der(input: &[u8]) -> Result<Cow<'_, [u8]>, BerError> {
    if input.len() > MAX_LENGTH {
        return Err(BerError::TooLong);
    }
    if let Some(length) = Header::read(input)?.length {
        let end = Header::read(input)?.size + length;
        if input.len() > end {
            return Err(BerError::Trailing(input.len() - end));
        }
        if is_der(input, 0)? {
            return Ok(Cow::Borrowed(input));
        }
    }
    let mut out = Vec::with_capacity(input.len());
    match rewrite(input, 0, &mut out)? {
        [] => Ok(Cow::Owned(out)),
        rest => Err(BerError::Trailing(rest.len())),
    }
}

enum Form {
    Primitive,
    /// Contains elements.
    Nested,
    /// A string in pieces, each of this primitive tag.
    Pieces(u8),
}

fn form(tag: u8) -> Result<Form, BerError> {
    match tag {
        // SEQUENCE, SET, EXTERNAL, EMBEDDED PDV.
        0x30 | 0x31 | 0x28 | 0x2b => Ok(Form::Nested),
        // OCTET STRING, UTF8String and the character strings. No format here has a BIT STRING in pieces.
        0x24 | 0x2c | 0x32..=0x36 | 0x39..=0x3c | 0x3e => Ok(Form::Pieces(tag & !0x20)),
        0x20..=0x3f | 0x10 | 0x11 => Err(BerError::Malformed),
        _ if tag & 0x20 != 0 => Ok(Form::Nested),
        _ => Ok(Form::Primitive),
    }
}

/// Whether these elements are DER as they stand. `false` may be early: [`rewrite`] then looks at the rest.
fn is_der(mut input: &[u8], depth: usize) -> Result<bool, BerError> {
    while !input.is_empty() {
        if depth >= MAX_DEPTH {
            return Err(BerError::TooDeep);
        }
        let header = Header::read(input)?;
        let Some(length) = header.length.filter(|_| header.minimal) else { return Ok(false) };
        let (value, rest) = input[header.size..].split_at_checked(length).ok_or(BerError::Malformed)?;
        match form(header.tag)? {
            Form::Primitive => {}
            Form::Nested if is_der(value, depth + 1)? => {}
            Form::Nested | Form::Pieces(_) => return Ok(false),
        }
        input = rest;
    }
    Ok(true)
}

/// Appends the first element of `input` to `out` as DER; answers what follows it.
fn rewrite<'a>(input: &'a [u8], depth: usize, out: &mut Vec<u8>) -> Result<&'a [u8], BerError> {
    if depth >= MAX_DEPTH {
        return Err(BerError::TooDeep);
    }
    let header = Header::read(input)?;
    let body = &input[header.size..];
    if let Some(length) = header.length {
        let (whole, rest) = input.split_at_checked(header.size + length).ok_or(BerError::Malformed)?;
        if is_der(whole, depth)? {
            out.extend_from_slice(whole);
            return Ok(rest);
        }
    }
    let (start, form) = (out.len(), form(header.tag)?);
    let tag = if let Form::Pieces(primitive) = form { primitive } else { header.tag };
    let rest = match form {
        Form::Primitive => {
            let length = header.length.ok_or(BerError::Malformed)?;
            let (value, rest) = body.split_at_checked(length).ok_or(BerError::Malformed)?;
            out.extend_from_slice(value);
            rest
        }
        Form::Nested => each(body, header.length, |child| rewrite(child, depth + 1, out))?,
        Form::Pieces(piece) => each(body, header.length, |child| join(child, piece, depth + 1, out))?,
    };
    let mut front = Vec::with_capacity(8);
    write_header(tag, out.len() - start, &mut front);
    out.splice(start..start, front);
    Ok(rest)
}

/// Appends the octets of one piece of a string, which may itself be in pieces.
fn join<'a>(input: &'a [u8], piece: u8, depth: usize, out: &mut Vec<u8>) -> Result<&'a [u8], BerError> {
    if depth >= MAX_DEPTH {
        return Err(BerError::TooDeep);
    }
    let header = Header::read(input)?;
    let body = &input[header.size..];
    if header.tag == piece {
        let length = header.length.ok_or(BerError::Malformed)?;
        let (value, rest) = body.split_at_checked(length).ok_or(BerError::Malformed)?;
        out.extend_from_slice(value);
        Ok(rest)
    } else if header.tag == piece | 0x20 {
        each(body, header.length, |child| join(child, piece, depth + 1, out))
    } else {
        Err(BerError::Malformed)
    }
}

/// Lets `child` consume one element after the other to the end of the value; answers what follows.
fn each<'a>(
    body: &'a [u8],
    length: Option<usize>,
    mut child: impl FnMut(&'a [u8]) -> Result<&'a [u8], BerError>,
) -> Result<&'a [u8], BerError> {
    if let Some(length) = length {
        let (mut inside, rest) = body.split_at_checked(length).ok_or(BerError::Malformed)?;
        while !inside.is_empty() {
            inside = child(inside)?;
        }
        return Ok(rest);
    }
    let mut inside = body;
    loop {
        inside = match inside {
            [0, 0, rest @ ..] => return Ok(rest),
            _ => child(inside)?,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::asn1::{OCTET_STRING, SEQUENCE, encode};
    use super::*;

    #[test]
    fn der_is_borrowed() {
        let der = encode(SEQUENCE, &[&encode(OCTET_STRING, &[&[1; 200]]), &[0xa0, 0]]);
        assert!(matches!(to_der(&der), Ok(Cow::Borrowed(same)) if same == der));
    }

    #[test]
    fn indefinite_lengths_padded_lengths_and_strings_in_pieces_become_der() {
        let ber = [
            0x30, 0x80, // SEQUENCE, indefinite
            0x24, 0x80, 0x04, 0x01, b'a', 0x24, 0x03, 0x04, 0x01, b'b', 0x00,
            0x00, // OCTET STRING "a" "b"
            0x02, 0x82, 0x00, 0x01, 0x05, // INTEGER 5, padded length
            0xa0, 0x04, 0x30, 0x80, 0x00, 0x00, // [0] with an indefinite SEQUENCE
            0x00, 0x00,
        ];
        let der = [0x30, 0x0b, 0x04, 0x02, b'a', b'b', 0x02, 0x01, 0x05, 0xa0, 0x02, 0x30, 0x00];
        assert_eq!(to_der(&ber).unwrap(), &der[..]);
    }

    #[test]
    fn what_is_neither_is_refused() {
        assert_eq!(to_der(&[]), Err(BerError::Malformed));
        assert_eq!(to_der(&[0x30, 0x00, 0x00]), Err(BerError::Trailing(1)));
        assert_eq!(to_der(&[0x30, 0x80, 0x00, 0x00, 0x0a]), Err(BerError::Trailing(1)));
        for bad in [
            &[0x30_u8, 0x80][..],
            &[0x04, 0x80, 0, 0],
            &[0x30, 0x80, 0x00],
            &[0x24, 0x03, 0x02, 1, 1],
            &[0x22, 0],
        ] {
            assert_eq!(to_der(bad), Err(BerError::Malformed), "{bad:02x?}");
        }
    }

    #[test]
    fn nesting_is_bounded_in_both_forms() {
        let indefinite = [0x30, 0x80].repeat(100_000);
        assert_eq!(to_der(&indefinite), Err(BerError::TooDeep));
        let pieces = [0x24, 0x80].repeat(100_000);
        assert_eq!(to_der(&pieces), Err(BerError::TooDeep));
        let definite = (0..=MAX_DEPTH).fold(Vec::new(), |inside: Vec<u8>, _| encode(SEQUENCE, &[&inside]));
        assert_eq!(to_der(&definite), Err(BerError::TooDeep));
        let allowed = (0..MAX_DEPTH).fold(Vec::new(), |inside: Vec<u8>, _| encode(SEQUENCE, &[&inside]));
        assert!(to_der(&allowed).is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_become_der(bytes in proptest::collection::vec(
            prop_oneof![Just(0x30_u8), Just(0x80), Just(0), Just(0x24), Just(4), any::<u8>()], 0..64)) {
            if let Ok(der) = to_der(&bytes) {
                prop_assert!(is_der(&der, 0).unwrap());
                prop_assert!(der.len() <= bytes.len());
                prop_assert!(matches!(to_der(&der), Ok(Cow::Borrowed(_))));
            }
        }
    }
}
