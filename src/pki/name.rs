//! Distinguished names of certificates and requests, read leniently.
//!
//! Names are shown to people and searched for one attribute; they are compared as DER, never as text.
//! The text is RFC 4514's: last component first, special characters escaped.
//!
//! **Invariant:** the text holds no control characters, so a subject cannot forge a log line.

use std::fmt::{self, Display, Write as _};

use super::asn1::{Element, OBJECT_IDENTIFIER, Oid, Reader, SEQUENCE, SET};

pub const COMMON_NAME: Oid = Oid::new_unwrap("2.5.4.3");
pub const ORGANIZATION: Oid = Oid::new_unwrap("2.5.4.10");
pub const ORGANIZATIONAL_UNIT: Oid = Oid::new_unwrap("2.5.4.11");
/// The push topic of an APNs certificate.
pub const USER_ID: Oid = Oid::new_unwrap("0.9.2342.19200300.100.1.1");

const SHORT: [(Oid, &str); 8] = [
    (COMMON_NAME, "CN"),
    (ORGANIZATION, "O"),
    (ORGANIZATIONAL_UNIT, "OU"),
    (USER_ID, "UID"),
    (Oid::new_unwrap("2.5.4.6"), "C"),
    (Oid::new_unwrap("2.5.4.7"), "L"),
    (Oid::new_unwrap("2.5.4.8"), "ST"),
    (Oid::new_unwrap("0.9.2342.19200300.100.1.25"), "DC"),
];

/// More attributes than this are not shown or searched.
const MAX_ATTRIBUTES: usize = 64;

/// A Name within the DER of its certificate or request.
#[derive(Clone, Copy)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// The name whose whole SEQUENCE is `der`; what cannot be read in it is left out later.
    pub fn new(der: &'a [u8]) -> Self {
        Self(der)
    }

    /// The DER, for comparing and for copying into other structures.
    pub fn der(self) -> &'a [u8] {
        self.0
    }

    /// The text of the first attribute of this type.
    pub fn attribute(self, oid: Oid) -> Option<String> {
        self.attributes().find(|(kind, _)| *kind == oid.as_bytes()).and_then(|(_, value)| value.text())
    }

    pub fn common_name(self) -> Option<String> {
        self.attribute(COMMON_NAME)
    }

    fn attributes(self) -> impl Iterator<Item = (&'a [u8], Element<'a>)> {
        let mut components = Reader::sequence(self.0).unwrap_or(Reader::new(&[]));
        let mut component = Reader::new(&[]);
        let next = move || {
            if component.is_empty() {
                component = components.inside(SET).ok()?;
            }
            let mut attribute = component.inside(SEQUENCE).ok()?;
            Some((attribute.value(OBJECT_IDENTIFIER).ok()?, attribute.element().ok()?))
        };
        std::iter::from_fn(next).take(MAX_ATTRIBUTES)
    }
}

impl Display for Name<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attributes: Vec<_> = self.attributes().collect();
        for (index, (kind, value)) in attributes.iter().rev().enumerate() {
            if index > 0 {
                out.write_char(',')?;
            }
            match SHORT.iter().find(|(oid, _)| oid.as_bytes() == *kind) {
                Some((_, short)) => out.write_str(short)?,
                None => match Oid::from_bytes(kind) {
                    Ok(oid) => write!(out, "{oid}")?,
                    Err(_) => out.write_char('?')?,
                },
            }
            out.write_char('=')?;
            match value.text() {
                Some(text) => escape(&text, out)?,
                None => {
                    out.write_char('#')?;
                    value.whole.iter().try_for_each(|byte| write!(out, "{byte:02x}"))?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Name({self})")
    }
}

fn escape(text: &str, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    let last = text.chars().count().saturating_sub(1);
    for (index, character) in text.chars().enumerate() {
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => write!(out, "\\{character}")?,
            '#' | ' ' if index == 0 => write!(out, "\\{character}")?,
            ' ' if index == last => out.write_str("\\ ")?,
            // Bidirectional overrides would let a name be read as another.
            _ if character.is_control()
                || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                let mut octets = [0; 4];
                for byte in character.encode_utf8(&mut octets).bytes() {
                    write!(out, "\\{byte:02X}")?;
                }
            }
            _ => out.write_char(character)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::asn1::{BMP_STRING, PRINTABLE_STRING, UTF8_STRING, encode, oid};
    use super::*;

    fn name(attributes: &[(Oid, u8, &[u8])]) -> Vec<u8> {
        let components: Vec<_> = attributes
            .iter()
            .map(|(kind, tag, value)| {
                encode(SET, &[&encode(SEQUENCE, &[&oid(*kind), &encode(*tag, &[value])])])
            })
            .collect();
        encode(SEQUENCE, &[&components.concat()])
    }

    #[test]
    fn names_are_shown_last_component_first_and_escaped() {
        let der = name(&[
            (ORGANIZATION, PRINTABLE_STRING, b"Example, Inc. "),
            (COMMON_NAME, UTF8_STRING, "a\nb\u{202e}".as_bytes()),
            (USER_ID, BMP_STRING, &[0, b'x', 0xd8, 0]),
            (Oid::new_unwrap("1.2.3"), 4, &[9]),
        ]);
        let name = Name::new(&der);
        assert_eq!(
            name.to_string(),
            "1.2.3=#040109,UID=x\u{fffd},CN=a\\0Ab\\E2\\80\\AE,O=Example\\, Inc.\\ "
        );
        assert_eq!(name.common_name().as_deref(), Some("a\nb\u{202e}"));
        assert_eq!(name.attribute(ORGANIZATIONAL_UNIT), None);
    }

    #[test]
    fn an_empty_and_a_broken_name_are_shown_as_nothing() {
        assert_eq!(Name::new(&[0x30, 0]).to_string(), "");
        assert_eq!(Name::new(&[0x30, 3, 0x31, 9, 9]).to_string(), "");
    }
}
