//! ASN.1 as devices write it and as they read it: DER, and BER with indefinite lengths.
//!
//! Apple's clients write the outer layers of CMS with indefinite lengths and split long octet
//! strings into segments (X.690 sections 8.1.3.6 and 8.7.3), which strict DER parsers refuse; a
//! simulated device writes the same. Used by [`super::cms`], [`super::identity`] and [`super::scep`].
//!
//! **Invariant:** reading never panics: depth, lengths and ends are checked before they are used.

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const NULL: u8 = 0x05;
pub(super) const OID: u8 = 0x06;
pub(super) const UTF8_STRING: u8 = 0x0c;
pub(super) const PRINTABLE_STRING: u8 = 0x13;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
/// Context-specific, constructed: `[0]`, `[3]`.
pub(super) const CONTEXT_0: u8 = 0xa0;
pub(super) const CONTEXT_3: u8 = 0xa3;

/// Nesting that no certificate, CSR or CMS message reaches.
const DEPTH: usize = 32;
/// The segment in which Apple's encoder splits octet strings.
const SEGMENT: usize = 1024;

/// What was sent is not BER of the expected form.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the ASN.1 is malformed: {0}")]
pub(super) struct Malformed(pub(super) &'static str);

/// One element with a definite length.
pub(super) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    let length = content.len();
    if length < 0x80 {
        bytes.push(u8::try_from(length).unwrap_or(0x7f));
    } else {
        let length = length.to_be_bytes();
        let significant: Vec<u8> = length.iter().copied().skip_while(|byte| *byte == 0).collect();
        bytes.push(0x80 | u8::try_from(significant.len()).unwrap_or(8));
        bytes.extend(significant);
    }
    bytes.extend_from_slice(content);
    bytes
}

/// A constructed element whose content is `parts`, one after the other.
pub(super) fn constructed(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    element(tag, &parts.concat())
}

/// How the outer layers of a message are written; Apple's devices do both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lengths {
    /// DER.
    Definite,
    /// BER: constructed with indefinite lengths, octet strings in segments.
    Indefinite,
}

impl Lengths {
    /// A constructed element.
    pub(super) fn constructed(self, tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        match self {
            Self::Definite => constructed(tag, parts),
            Self::Indefinite => indefinite(tag, parts),
        }
    }

    /// Octets under a primitive tag, or in segments under the constructed one.
    pub(super) fn octets(self, primitive: u8, content: &[u8]) -> Vec<u8> {
        match self {
            Self::Definite => element(primitive, content),
            Self::Indefinite => segmented(primitive | 0x20, content),
        }
    }
}

/// As [`constructed`], with an indefinite length and an end-of-contents.
fn indefinite(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![tag, 0x80];
    bytes.extend(parts.concat());
    bytes.extend([0, 0]);
    bytes
}

/// An octet string, constructed of segments, with an indefinite length.
fn segmented(tag: u8, content: &[u8]) -> Vec<u8> {
    let segments: Vec<Vec<u8>> =
        content.chunks(SEGMENT).map(|segment| element(OCTET_STRING, segment)).collect();
    indefinite(tag, &segments.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// A SET OF in DER's order.
pub(super) fn set_of(tag: u8, mut members: Vec<Vec<u8>>) -> Vec<u8> {
    members.sort();
    element(tag, &members.concat())
}

/// A non-negative INTEGER from big-endian bytes.
pub(super) fn integer(magnitude: &[u8]) -> Vec<u8> {
    let mut content: Vec<u8> = magnitude.iter().copied().skip_while(|byte| *byte == 0).collect();
    if content.first().is_none_or(|byte| *byte >= 0x80) {
        content.insert(0, 0);
    }
    element(INTEGER, &content)
}

/// An object identifier from its dotted form; `None` if it is none.
pub(super) fn oid(dotted: &str) -> Option<Vec<u8>> {
    let arcs: Vec<u64> = dotted.split('.').map(|arc| arc.parse().ok()).collect::<Option<_>>()?;
    let [first, second, rest @ ..] = arcs.as_slice() else { return None };
    if *first > 2 || (*first < 2 && *second > 39) {
        return None;
    }
    let mut content = Vec::new();
    for arc in std::iter::once(first.checked_mul(40)?.checked_add(*second)?).chain(rest.iter().copied()) {
        let mut digits = vec![arc & 0x7f];
        let mut left = arc >> 7;
        while left > 0 {
            digits.push(left & 0x7f | 0x80);
            left >>= 7;
        }
        content.extend(digits.iter().rev().filter_map(|digit| u8::try_from(*digit).ok()));
    }
    Some(element(OID, &content))
}

/// An element that was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    /// With tag and length.
    pub(super) whole: &'a [u8],
}

/// Reads the elements of DER one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// The next element, of any tag; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Element<'a>>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let (tag, length, header) = header(self.0)?;
        let length = length.ok_or(Malformed("an indefinite length where none may be"))?;
        let end = header.checked_add(length).ok_or(Malformed("an impossible length"))?;
        let whole = self.0.get(..end).ok_or(Malformed("it ends too early"))?;
        self.0 = &self.0[end..];
        Ok(Some(Element { tag, content: &whole[header..], whole }))
    }

    /// The next element, which must carry `tag`.
    pub(super) fn expect(&mut self, tag: u8) -> Result<Element<'a>, Malformed> {
        match self.next()? {
            Some(element) if element.tag == tag => Ok(element),
            _ => Err(Malformed("an element is missing or of another type")),
        }
    }

    /// The next element if it carries `tag`.
    pub(super) fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, Malformed> {
        if self.0.first() == Some(&tag) { self.next() } else { Ok(None) }
    }

    /// The content of the next element, which must carry `tag`, to be read in turn.
    pub(super) fn enter(&mut self, tag: u8) -> Result<Reader<'a>, Malformed> {
        Ok(Reader(self.expect(tag)?.content))
    }
}

/// Rewrites one BER element as DER: definite lengths, octet strings in one piece.
pub(super) fn to_der(ber: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut left = ber;
    let der = rewrite(&mut left, DEPTH)?;
    if left.is_empty() { Ok(der) } else { Err(Malformed("something follows the message")) }
}

fn rewrite(left: &mut &[u8], depth: usize) -> Result<Vec<u8>, Malformed> {
    if depth == 0 {
        return Err(Malformed("it is nested too deeply"));
    }
    let (tag, length, header) = header(left)?;
    let is_constructed = tag & 0x20 != 0;
    let Some(length) = length else {
        if !is_constructed {
            return Err(Malformed("a primitive element of indefinite length"));
        }
        *left = &left[header..];
        let mut children = Vec::new();
        loop {
            match left {
                [0, 0, rest @ ..] => {
                    *left = rest;
                    return Ok(join(tag, &children));
                }
                _ => children.push(rewrite(left, depth - 1)?),
            }
        }
    };
    let end = header.checked_add(length).filter(|end| *end <= left.len());
    let end = end.ok_or(Malformed("it ends too early"))?;
    let mut content = &left[header..end];
    *left = &left[end..];
    if !is_constructed {
        return Ok(element(tag, content));
    }
    let mut children = Vec::new();
    while !content.is_empty() {
        children.push(rewrite(&mut content, depth - 1)?);
    }
    Ok(join(tag, &children))
}

/// A constructed OCTET STRING becomes a primitive one; everything else keeps its children.
fn join(tag: u8, children: &[Vec<u8>]) -> Vec<u8> {
    if tag != OCTET_STRING | 0x20 {
        return element(tag, &children.concat());
    }
    let segments: Vec<&[u8]> =
        children.iter().filter_map(|child| Reader(child).next().ok().flatten()).map(|e| e.content).collect();
    element(OCTET_STRING, &segments.concat())
}

/// Tag, length (`None`: indefinite) and the length of the header itself.
fn header(bytes: &[u8]) -> Result<(u8, Option<usize>, usize), Malformed> {
    let [tag, first, rest @ ..] = bytes else { return Err(Malformed("it ends too early")) };
    if tag & 0x1f == 0x1f {
        return Err(Malformed("a tag of several bytes"));
    }
    match first {
        0x80 => Ok((*tag, None, 2)),
        0..0x80 => Ok((*tag, Some(usize::from(*first)), 2)),
        _ => {
            let count = usize::from(first & 0x7f);
            let octets = rest.get(..count).filter(|_| count <= 4).ok_or(Malformed("an impossible length"))?;
            let length = octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet));
            Ok((*tag, Some(length), 2 + count))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_with_indefinite_lengths_reads_as_der() {
        let content: Vec<u8> = (0..2500_u32).map(|n| n.to_be_bytes()[3]).collect();
        let ber = indefinite(SEQUENCE, &[&segmented(OCTET_STRING | 0x20, &content), &integer(&[0x80])]);
        let der = constructed(SEQUENCE, &[&element(OCTET_STRING, &content), &[2, 2, 0, 0x80]]);
        assert_eq!(to_der(&ber), Ok(der.clone()));
        assert_eq!(to_der(&der), Ok(der));
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_survived() {
        let ber = indefinite(SEQUENCE, &[&segmented(OCTET_STRING | 0x20, b"content"), &integer(&[1, 2])]);
        for end in 0..ber.len() {
            assert!(to_der(&ber[..end]).is_err());
        }
        for at in 0..ber.len() {
            for flip in [1, 0x20, 0x80, 0xff] {
                let mut broken = ber.clone();
                broken[at] ^= flip;
                let _ = to_der(&broken);
            }
        }
        assert_eq!(to_der(&[0x30, 0x80].repeat(1000)), Err(Malformed("it is nested too deeply")));
    }

    #[test]
    fn object_identifiers_are_encoded_as_x690_says() {
        assert_eq!(
            oid("1.2.840.113549.1.7.2").as_deref(),
            Some(&[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2][..])
        );
        assert_eq!(oid("2.5.4.3").as_deref(), Some(&[6, 3, 0x55, 4, 3][..]));
        assert_eq!(oid("3.1"), None);
        assert_eq!(oid("CN"), None);
    }
}
