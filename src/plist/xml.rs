//! Reads XML property lists in one pass over `quick-xml`'s tokens.
//!
//! Called by [`super::parse`] for every message of every device, so it copies only what it keeps.
//! The grammar is that of Apple's `PropertyList-1.0.dtd` and nothing around it: no attributes but
//! those of `<plist>`, no processing instructions, the five entities of XML and character references.
//! Control characters other than NUL are let through, since Apple's own writer lets them through.
//!
//! **Invariant:** no text of the document is ever looked up, fetched or expanded.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesDecl, BytesRef, BytesStart, Event};
use std::borrow::Cow;

use super::build::Builder;
use super::{Date, Integer, PlistError, Value};

pub(super) fn parse(bytes: &[u8]) -> Result<Value, PlistError> {
    let mut document = Document { reader: Reader::from_str(text_of(bytes)?), builder: Builder::default() };
    document.prolog()?;
    document.value()?;
    document.epilog()?;
    document.builder.finish().ok_or(PlistError::NotPlist)
}

/// The document as text, without its byte order mark; other encodings are recognised to be refused in
/// words.
fn text_of(bytes: &[u8]) -> Result<&str, PlistError> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let wide = bytes.starts_with(b"\xFE\xFF") || bytes.starts_with(b"\xFF\xFE");
    if wide || bytes.iter().take(4).any(|byte| *byte == 0) {
        return Err(PlistError::Encoding);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| PlistError::Encoding)?;
    if !text.trim_start().starts_with('<') {
        return Err(PlistError::NotPlist);
    }
    if let Some(offset) = text.find('\0') {
        return Err(PlistError::Malformed { what: "a NUL character", offset: offset as u64 });
    }
    Ok(text)
}

struct Document<'a> {
    reader: Reader<&'a [u8]>,
    builder: Builder,
}

impl<'a> Document<'a> {
    /// Declaration, document type and comments, up to and with `<plist>`.
    fn prolog(&mut self) -> Result<(), PlistError> {
        let (mut first, mut doctype) = (true, false);
        loop {
            match self.next()? {
                Event::Decl(declaration) if first => check_encoding(&declaration)?,
                Event::DocType(text) if !doctype => {
                    check_doctype(text.as_ref())?;
                    doctype = true;
                }
                Event::Comment(_) => {}
                Event::Text(text) if is_space(text.as_ref()) => continue,
                Event::Start(tag) if tag.name().as_ref() == "plist" => return Ok(()),
                Event::Empty(tag) if tag.name().as_ref() == "plist" => {
                    return Err(self.malformed("<plist> is empty"));
                }
                _ => return Err(self.malformed("<plist> was expected")),
            }
            first = false;
        }
    }

    /// The one value inside `<plist>`, up to and with `</plist>`.
    fn value(&mut self) -> Result<(), PlistError> {
        loop {
            match self.next()? {
                Event::Start(tag) => self.start(&tag)?,
                Event::Empty(tag) => self.empty(&tag)?,
                Event::End(tag) => match tag.name().as_ref() {
                    "plist" if self.builder.is_done() => return Ok(()),
                    "plist" => return Err(self.malformed("<plist> is empty")),
                    // Leaves read their own end, so this is the end of an array or a dictionary.
                    _ if self.builder.end() => {}
                    _ => return Err(self.malformed("a key without a value")),
                },
                Event::Text(text) if is_space(text.as_ref()) => {}
                Event::Comment(_) => {}
                Event::Eof => return Err(self.malformed("the document ends early")),
                Event::DocType(_) => return Err(PlistError::Doctype),
                _ => return Err(self.malformed("an element was expected")),
            }
        }
    }

    fn epilog(&mut self) -> Result<(), PlistError> {
        loop {
            match self.next()? {
                Event::Eof => return Ok(()),
                Event::Comment(_) => {}
                Event::Text(text) if is_space(text.as_ref()) => {}
                _ => return Err(self.malformed("something follows </plist>")),
            }
        }
    }

    fn start(&mut self, tag: &BytesStart<'a>) -> Result<(), PlistError> {
        self.check_place(tag)?;
        match tag.name().as_ref() {
            "array" => self.builder.array(0),
            "dict" => self.builder.dict(),
            "key" => {
                let name = self.text()?.into_owned();
                self.builder.key(name)
            }
            "string" => {
                let text = self.text()?.into_owned();
                self.builder.leaf(Value::String(text))
            }
            name => {
                let text = self.text()?;
                let value = self.leaf(name, &text)?;
                self.builder.leaf(value)
            }
        }
    }

    fn empty(&mut self, tag: &BytesStart<'a>) -> Result<(), PlistError> {
        self.check_place(tag)?;
        match tag.name().as_ref() {
            "array" => {
                self.builder.array(0)?;
                self.builder.end();
                Ok(())
            }
            "dict" => {
                self.builder.dict()?;
                self.builder.end();
                Ok(())
            }
            "key" => self.builder.key(String::new()),
            "string" => self.builder.leaf(Value::String(String::new())),
            name => {
                let value = self.leaf(name, "")?;
                self.builder.leaf(value)
            }
        }
    }

    /// Keys where keys are due, values where values are, one value in all, and no attributes.
    fn check_place(&self, tag: &BytesStart<'_>) -> Result<(), PlistError> {
        if self.builder.is_done() {
            return Err(self.malformed("<plist> holds more than one value"));
        }
        if !tag.attributes_raw().trim_ascii().is_empty() {
            return Err(self.malformed("attributes have no meaning in a property list"));
        }
        match (tag.name().as_ref() == "key", self.builder.wants_key()) {
            (true, false) => Err(self.malformed("a key where a value was expected")),
            (false, true) => Err(self.malformed("a value where a key was expected")),
            _ => Ok(()),
        }
    }

    fn leaf(&self, name: &str, text: &str) -> Result<Value, PlistError> {
        let value = match name {
            "true" | "false" if text.is_empty() => Some(Value::Boolean(name == "true")),
            "integer" => integer(text.trim_ascii()).map(Value::Integer),
            "real" => text.trim_ascii().parse().ok().map(Value::Real),
            "date" => date(text.trim_ascii()).map(Value::Date),
            "data" => data(text).map(Value::Data),
            "true" | "false" => None,
            _ => return Err(self.malformed("an element that is not part of a property list")),
        };
        value.ok_or_else(|| {
            self.malformed(match name {
                "integer" => "an integer that is none, or needs more than 64 bits",
                "real" => "a real that is no number",
                "date" => "a date that is not written as 2026-11-22T10:30:00Z",
                "data" => "data that is not base64",
                _ => "text in <true> or <false>",
            })
        })
    }

    /// The text of a leaf, up to and with its end tag; borrowed when it is in one piece.
    fn text(&mut self) -> Result<Cow<'a, str>, PlistError> {
        let mut whole = Cow::Borrowed("");
        loop {
            let piece = match self.next()? {
                Event::Text(text) => text.xml10_content(),
                Event::CData(text) => text.xml10_content(),
                Event::GeneralRef(entity) => Cow::Owned(self.resolve(&entity)?),
                Event::Comment(_) => continue,
                Event::End(_) => return Ok(whole),
                Event::Eof => return Err(self.malformed("the document ends early")),
                _ => return Err(self.malformed("an element where text was expected")),
            };
            if whole.is_empty() {
                whole = piece;
            } else {
                whole.to_mut().push_str(&piece);
            }
        }
    }

    fn resolve(&self, entity: &BytesRef<'_>) -> Result<String, PlistError> {
        match entity.resolve_char_ref() {
            Ok(Some('\0')) | Err(_) => Err(self.malformed("a reference to no character")),
            Ok(Some(character)) => Ok(character.into()),
            Ok(None) => match resolve_xml_entity(entity.as_ref()) {
                Some(text) => Ok(text.to_owned()),
                None => Err(self.malformed("an entity that is not defined")),
            },
        }
    }

    fn next(&mut self) -> Result<Event<'a>, PlistError> {
        self.reader.read_event().map_err(|error| match error {
            quick_xml::Error::Encoding(_) => PlistError::Encoding,
            _ => PlistError::Malformed {
                what: "it is not well-formed XML",
                offset: self.reader.error_position(),
            },
        })
    }

    fn malformed(&self, what: &'static str) -> PlistError {
        PlistError::Malformed { what, offset: self.reader.buffer_position() }
    }
}

fn check_encoding(declaration: &BytesDecl<'_>) -> Result<(), PlistError> {
    match declaration.encoding() {
        None => Ok(()),
        Some(Ok(name)) if name.eq_ignore_ascii_case("utf-8") || name.eq_ignore_ascii_case("us-ascii") => {
            Ok(())
        }
        Some(_) => Err(PlistError::Encoding),
    }
}

/// Apple's document type or a bare one. Nothing is fetched either way; but a subset of the sender's
/// own declares entities, and any other address is a sign of a document that hopes to be expanded.
fn check_doctype(text: &str) -> Result<(), PlistError> {
    let rest = text.trim_ascii().strip_prefix("plist").ok_or(PlistError::Doctype)?.trim_ascii();
    let parts: Vec<&str> = rest.split(['"', '\'']).map(str::trim_ascii).collect();
    let apples = |address: &str| {
        let path = address.strip_prefix("http://").or_else(|| address.strip_prefix("https://"));
        path.is_some_and(|path| path.starts_with("www.apple.com/DTDs/PropertyList"))
    };
    match parts.as_slice() {
        [""] => Ok(()),
        ["PUBLIC", _, "", address, ""] if apples(address) => Ok(()),
        _ => Err(PlistError::Doctype),
    }
}

fn is_space(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_whitespace())
}

fn integer(text: &str) -> Option<Integer> {
    if let Ok(value) = text.parse::<i64>() {
        return Some(value.into());
    }
    // Apple's reader takes hexadecimal, too.
    let unsigned = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    unsigned.ok().map(Integer::from)
}

/// Only Apple's own form. The crate would take an offset, and panic where it leads past the year 9999.
fn date(text: &str) -> Option<Date> {
    let apples = text.len() == "2026-11-22T10:30:00Z".len() && text.ends_with('Z');
    if apples { Date::from_xml_format(text).ok() } else { None }
}

fn data(text: &str) -> Option<Vec<u8>> {
    if text.bytes().any(|byte| byte.is_ascii_whitespace()) {
        let packed: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        STANDARD.decode(packed).ok()
    } else {
        STANDARD.decode(text).ok()
    }
}
