//! DER elements, without their meaning: what all formats of this layer are read from and written in.
//!
//! Reading borrows; nothing is copied. Writing is bottom-up: [`encode`] wraps finished parts.
//! Received bytes that may be BER pass through [`super::ber::to_der`] first. (ITU-T X.690.)
//!
//! **Invariant:** a [`Reader`] never looks outside the slice it was given and never recurses.

use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

use crate::clock::Seconds;

pub use der::oid::ObjectIdentifier as Oid;

pub const BOOLEAN: u8 = 0x01;
pub const INTEGER: u8 = 0x02;
pub const BIT_STRING: u8 = 0x03;
pub const OCTET_STRING: u8 = 0x04;
pub const NULL: u8 = 0x05;
pub const OBJECT_IDENTIFIER: u8 = 0x06;
pub const UTF8_STRING: u8 = 0x0c;
pub const PRINTABLE_STRING: u8 = 0x13;
pub const TELETEX_STRING: u8 = 0x14;
pub const IA5_STRING: u8 = 0x16;
pub const UTC_TIME: u8 = 0x17;
pub const GENERALIZED_TIME: u8 = 0x18;
pub const BMP_STRING: u8 = 0x1e;
pub const SEQUENCE: u8 = 0x30;
pub const SET: u8 = 0x31;

/// The tag of a primitive `[number]`, number below 31.
pub const fn context(number: u8) -> u8 {
    0x80 | number
}

/// The tag of a constructed `[number]`, number below 31.
pub const fn constructed_context(number: u8) -> u8 {
    0xa0 | number
}

/// The bytes are not the structure that belongs in this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not the ASN.1 structure that belongs here")]
pub struct Malformed;

/// The identifier and length octets of one element.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub tag: u8,
    /// Octets of the value; `None` for BER's indefinite form.
    pub length: Option<usize>,
    /// Octets of the header itself.
    pub size: usize,
    /// Whether the length is written as DER wants it.
    pub minimal: bool,
}

impl Header {
    /// Reads the header at the start of `input`; tag numbers above 30 are refused, no format here has any.
    pub fn read(input: &[u8]) -> Result<Self, Malformed> {
        let (&tag, rest) = input.split_first().ok_or(Malformed)?;
        if tag == 0 || tag & 0x1f == 0x1f {
            return Err(Malformed);
        }
        let &first = rest.first().ok_or(Malformed)?;
        match first {
            0..=0x7f => Ok(Self { tag, length: Some(usize::from(first)), size: 2, minimal: true }),
            0x80 => Ok(Self { tag, length: None, size: 2, minimal: false }),
            // Six octets leave room for padded lengths; no message is larger than four can say.
            0x81..=0x86 => {
                let octets = rest.get(1..1 + usize::from(first & 0x7f)).ok_or(Malformed)?;
                let length = octets.iter().fold(0_u64, |sum, &octet| sum << 8 | u64::from(octet));
                let length = u32::try_from(length).ok().and_then(|length| usize::try_from(length).ok());
                let length = length.ok_or(Malformed)?;
                let minimal = octets[0] != 0 && length > 0x7f;
                Ok(Self { tag, length: Some(length), size: 2 + octets.len(), minimal })
            }
            _ => Err(Malformed),
        }
    }
}

/// One element: its tag, its value, and both with the header.
#[derive(Clone, Copy, Debug)]
pub struct Element<'a> {
    pub tag: u8,
    pub value: &'a [u8],
    pub whole: &'a [u8],
}

/// Reads elements one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    /// The inside of `input`, which must be exactly one SEQUENCE.
    pub fn sequence(input: &'a [u8]) -> Result<Self, Malformed> {
        let mut outer = Self(input);
        let inside = outer.value(SEQUENCE)?;
        outer.end()?;
        Ok(Self(inside))
    }

    /// The next element, whatever it is.
    pub fn element(&mut self) -> Result<Element<'a>, Malformed> {
        let header = Header::read(self.0)?;
        let length = header.length.filter(|_| header.minimal).ok_or(Malformed)?;
        let end = header.size.checked_add(length).ok_or(Malformed)?;
        let (whole, rest) = self.0.split_at_checked(end).ok_or(Malformed)?;
        self.0 = rest;
        Ok(Element { tag: header.tag, value: &whole[header.size..], whole })
    }

    /// The next element, which must have this tag.
    pub fn expect(&mut self, tag: u8) -> Result<Element<'a>, Malformed> {
        self.element().and_then(|element| if element.tag == tag { Ok(element) } else { Err(Malformed) })
    }

    /// The value of the next element, which must have this tag.
    pub fn value(&mut self, tag: u8) -> Result<&'a [u8], Malformed> {
        self.expect(tag).map(|element| element.value)
    }

    /// A reader of the inside of the next element, which must have this tag.
    pub fn inside(&mut self, tag: u8) -> Result<Reader<'a>, Malformed> {
        self.value(tag).map(Reader)
    }

    /// The next element if it has this tag; otherwise nothing is consumed.
    pub fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, Malformed> {
        if self.0.first() == Some(&tag) { self.element().map(Some) } else { Ok(None) }
    }

    /// The octets of an INTEGER that is not negative, without leading zeros.
    pub fn unsigned(&mut self) -> Result<&'a [u8], Malformed> {
        match self.value(INTEGER)? {
            [] | [0x80..=0xff, ..] => Err(Malformed),
            [0, rest @ ..] => Ok(rest),
            value => Ok(value),
        }
    }

    /// The bits of a BIT STRING of whole octets.
    pub fn bits(&mut self) -> Result<&'a [u8], Malformed> {
        match self.value(BIT_STRING)? {
            [0, rest @ ..] => Ok(rest),
            _ => Err(Malformed),
        }
    }

    /// The object identifier (its encoded octets) of an AlgorithmIdentifier, and its parameters.
    pub fn algorithm(&mut self) -> Result<(&'a [u8], Option<Element<'a>>), Malformed> {
        let mut inside = self.inside(SEQUENCE)?;
        let algorithm = inside.value(OBJECT_IDENTIFIER)?;
        let parameters = if inside.is_empty() { None } else { Some(inside.element()?) };
        inside.end()?;
        Ok((algorithm, parameters))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses anything that is left.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

impl Element<'_> {
    /// The text of a string of any usual type; characters that do not decode become U+FFFD.
    pub fn text(&self) -> Option<String> {
        match self.tag {
            UTF8_STRING | PRINTABLE_STRING | IA5_STRING => {
                Some(String::from_utf8_lossy(self.value).into_owned())
            }
            TELETEX_STRING => Some(self.value.iter().copied().map(char::from).collect()),
            BMP_STRING => {
                let units = self.value.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
                Some(char::decode_utf16(units).map(|unit| unit.unwrap_or('\u{fffd}')).collect())
            }
            _ => None,
        }
    }

    /// The time of a UTCTime or GeneralizedTime; seconds may be missing, fractions are cut off.
    pub fn time(&self) -> Result<Seconds, Malformed> {
        let text = std::str::from_utf8(self.value).ok().filter(|text| text.is_ascii()).ok_or(Malformed)?;
        let text = text.strip_suffix('Z').ok_or(Malformed)?;
        let (year, rest) = match self.tag {
            UTC_TIME => {
                let (year, rest) = text.split_at_checked(2).ok_or(Malformed)?;
                let year = digits(year)?;
                (if year < 50 { 2000 + year } else { 1900 + year }, rest)
            }
            GENERALIZED_TIME => {
                let (year, rest) = text.split_at_checked(4).ok_or(Malformed)?;
                (digits(year)?, rest.split_once('.').map_or(rest, |(whole, _)| whole))
            }
            _ => return Err(Malformed),
        };
        if rest.len() != 8 && rest.len() != 10 {
            return Err(Malformed);
        }
        let part = |at: usize| rest.get(at..at + 2).map_or(Ok(0), digits);
        let small = |at: usize| part(at).and_then(|part| u8::try_from(part).map_err(|_| Malformed));
        let month = Month::try_from(small(0)?).map_err(|_| Malformed)?;
        let year = i32::try_from(year).map_err(|_| Malformed)?;
        let date = Date::from_calendar_date(year, month, small(2)?).map_err(|_| Malformed)?;
        let time = Time::from_hms(small(4)?, small(6)?, small(8)?).map_err(|_| Malformed)?;
        Ok(PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp())
    }
}

fn digits(text: &str) -> Result<u32, Malformed> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Malformed);
    }
    text.parse().map_err(|_| Malformed)
}

/// One element: `tag` around the parts.
pub fn encode(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length + 6);
    write_header(tag, length, &mut out);
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// Writes the identifier and length octets of an element as DER wants them.
pub fn write_header(tag: u8, length: usize, out: &mut Vec<u8>) {
    out.push(tag);
    let octets = length.to_be_bytes();
    let significant = &octets[octets.iter().take_while(|&&octet| octet == 0).count()..];
    match significant {
        [] => out.push(0),
        [short @ 0..=0x7f] => out.push(*short),
        long => {
            // At most eight octets, so the sum stays within one.
            out.push(0x80 | u8::try_from(long.len()).unwrap_or(8));
            out.extend_from_slice(long);
        }
    }
}

/// An OBJECT IDENTIFIER.
pub fn oid(oid: Oid) -> Vec<u8> {
    encode(OBJECT_IDENTIFIER, &[oid.as_bytes()])
}

/// A small INTEGER, below 128.
pub fn small_integer(number: u8) -> Vec<u8> {
    encode(INTEGER, &[&[number & 0x7f]])
}

/// An AlgorithmIdentifier with parameters NULL.
pub fn algorithm_with_null(algorithm: Oid) -> Vec<u8> {
    encode(SEQUENCE, &[&oid(algorithm), &[NULL, 0]])
}

/// A SET OF, sorted as DER wants it.
pub fn set_of(mut elements: Vec<Vec<u8>>) -> Vec<u8> {
    elements.sort_unstable();
    encode(SET, &[&elements.concat()])
}

/// A Time as X.509 and CMS write it: UTCTime through 2049, then GeneralizedTime.
pub fn time(at: Seconds) -> Vec<u8> {
    let at = OffsetDateTime::from_unix_timestamp(at).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (month, day) = (u8::from(at.month()), at.day());
    let rest = format!("{month:02}{day:02}{:02}{:02}{:02}Z", at.hour(), at.minute(), at.second());
    let (tag, year) = match at.year() {
        year @ 1950..=2049 => (UTC_TIME, format!("{:02}", year % 100)),
        year => (GENERALIZED_TIME, format!("{year:04}")),
    };
    encode(tag, &[year.as_bytes(), rest.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_time(der: &[u8]) -> Result<Seconds, Malformed> {
        Reader::new(der).element()?.time()
    }

    #[test]
    fn times_are_written_and_read_back_on_both_sides_of_2050() {
        for at in [0, 1_767_225_600, 2_524_607_999, 2_524_608_000, 253_402_300_799] {
            assert_eq!(read_time(&time(at)), Ok(at));
        }
    }

    #[test]
    fn impossible_times_are_refused() {
        for text in ["", "Z", "2601010000Zz", "261301000000Z", "260230000000Z", "26010100000\u{e9}Z", "2601Z"]
        {
            assert_eq!(read_time(&encode(UTC_TIME, &[text.as_bytes()])), Err(Malformed), "{text}");
        }
        assert_eq!(read_time(&encode(GENERALIZED_TIME, &[b"20260101000000.5Z"])), Ok(1_767_225_600));
    }

    #[test]
    fn lengths_are_written_minimally() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let der = encode(OCTET_STRING, &[&vec![7; length]]);
            let header = Header::read(&der).unwrap();
            assert!(header.minimal);
            assert_eq!(header.length, Some(length));
            assert_eq!(header.size + length, der.len());
        }
    }

    #[test]
    fn lengths_beyond_the_input_and_long_tags_are_refused() {
        for bytes in
            [&[0x30_u8][..], &[0x30, 5, 1], &[0x1f, 1, 0], &[0x30, 0x84, 255, 255, 255, 255], &[0x30, 0xff]]
        {
            assert!(Reader::new(bytes).element().is_err());
        }
        assert!(Reader::new(&[0x04, 0x81, 1, 0]).element().is_err(), "not minimal");
    }
}
