//! Xar archives, as far as it takes to read two documents of an installer package.
//!
//! A header, a table of contents as XML under zlib, and a heap. Nothing is unpacked to the disk.
//!
//! **Invariant:** the table is bounded in bytes, events and depth before and while it is read, and no text of
//! it is looked up or expanded.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::Event;

use super::source::{Bound, Packed, Source, truncated};
use super::summary::text;
use crate::error::{Error, Result};
use crate::pki::certificate::Certificate;

const MAGIC: &[u8] = b"xar!";
const HEADER: u64 = 28;
const LONGEST_HEADER: u64 = 4096;
/// Of the table, packed and not; that of a package with thousands of files has a megabyte.
const LARGEST_PACKED: u64 = 8 * 1024 * 1024;
const LARGEST_TABLE: u64 = 32 * 1024 * 1024;
const DEEPEST: usize = 64;
const MOST_EVENTS: usize = 500_000;
const LONGEST_TEXT: usize = 64 * 1024;

/// A file at the top of the archive.
#[derive(Clone, Debug, Default)]
struct Member {
    name: String,
    offset: Option<u64>,
    length: Option<u64>,
    size: Option<u64>,
    encoding: Option<String>,
}

/// What the table says.
#[derive(Debug, Default)]
pub(super) struct Table {
    members: Vec<Member>,
    pub(super) signed: bool,
    pub(super) signed_by: Option<String>,
    heap: u64,
}

impl Table {
    /// Reads the header and the table.
    pub(super) fn read(source: &mut Source<'_>) -> Result<Self> {
        let head = source.bytes(0, HEADER)?;
        let number = |at: usize, count: usize| -> u64 {
            head.iter().skip(at).take(count).fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        let (header, packed, size) = (number(4, 2), number(8, 8), number(16, 8));
        if !head.starts_with(MAGIC) || number(6, 2) != 1 || !(HEADER..=LONGEST_HEADER).contains(&header) {
            return Err(Error::invalid("It begins as an installer package and goes on as something else."));
        }
        if packed > LARGEST_PACKED || size > LARGEST_TABLE {
            return Err(Error::invalid("Its table of contents is larger than that of any package."));
        }
        let bound = Bound { most: LARGEST_TABLE, size: Some(size), crc: None };
        let table = source.unpacked((header, packed), Packed::Zlib, bound, "The table of contents")?;
        let table = std::str::from_utf8(&table).map_err(|_| damaged())?;
        let mut read = Reading::default().whole(table)?;
        read.heap = header + packed;
        Ok(read)
    }

    /// The bytes of a file in it; no more than `most`.
    pub(super) fn content(&self, source: &mut Source<'_>, name: &str, most: u64) -> Result<Option<Vec<u8>>> {
        let mut found = self.members.iter().filter(|member| member.name == name);
        let Some(member) = found.next() else { return Ok(None) };
        if found.next().is_some() {
            return Err(damaged());
        }
        let (Some(offset), Some(length)) = (member.offset, member.length) else { return Err(damaged()) };
        let packed = match member.encoding.as_deref() {
            None | Some("application/octet-stream") => Packed::Plainly,
            Some("application/x-gzip") => Packed::Zlib,
            Some(other) => {
                let words = format!("{name} in it is packed as {}, which is not read here.", text(other));
                return Err(Error::invalid(words));
            }
        };
        let at = self.heap.checked_add(offset).ok_or_else(truncated)?;
        let bound = Bound { most, size: member.size, crc: None };
        source.unpacked((at, length), packed, bound, name).map(Some)
    }
}

/// Where the reader is: an open element of the table.
#[derive(Default)]
struct Reading {
    table: Table,
    /// The names of the open elements.
    open: Vec<String>,
    /// The files among them.
    files: Vec<Member>,
    text: String,
}

impl Reading {
    fn whole(mut self, table: &str) -> Result<Table> {
        let mut reader = Reader::from_str(table);
        reader.config_mut().expand_empty_elements = true;
        for _ in 0..MOST_EVENTS {
            match reader.read_event().map_err(|_| damaged())? {
                Event::Start(tag) => {
                    if self.open.len() >= DEEPEST {
                        return Err(damaged());
                    }
                    self.open.push(tag.name().as_ref().to_owned());
                    self.text.clear();
                    let attribute = |name: &str| -> Result<Option<String>> {
                        let found = tag.try_get_attribute(name).map_err(|_| damaged())?;
                        Ok(found.map(|found| found.value.into_owned()))
                    };
                    match tag.name().as_ref() {
                        "file" => self.files.push(Member::default()),
                        "encoding" if self.is_in_data() => {
                            let style = attribute("style")?;
                            if let Some(file) = self.files.last_mut() {
                                file.encoding = style;
                            }
                        }
                        "name" if attribute("enctype")?.is_some_and(|kind| kind != "none") => {
                            return Err(damaged());
                        }
                        _ => {}
                    }
                }
                Event::End(_) => self.end()?,
                Event::Text(said) => self.add(said.as_ref())?,
                Event::CData(said) => self.add(said.as_ref())?,
                Event::GeneralRef(entity) => {
                    let resolved = match entity.resolve_char_ref() {
                        Ok(Some(character)) => character.to_string(),
                        _ => resolve_xml_entity(entity.as_ref()).ok_or_else(damaged)?.to_owned(),
                    };
                    self.add(&resolved)?;
                }
                Event::Decl(_) | Event::Comment(_) => {}
                Event::Eof if self.open.is_empty() => return Ok(self.table),
                _ => return Err(damaged()),
            }
        }
        Err(Error::invalid("Its table of contents lists more than that of any package."))
    }

    fn add(&mut self, said: &str) -> Result<()> {
        if self.text.len() + said.len() > LONGEST_TEXT {
            return Err(damaged());
        }
        self.text.push_str(said);
        Ok(())
    }

    fn is_in_data(&self) -> bool {
        matches!(&self.open[..], [.., file, data, _] if file == "file" && data == "data")
    }

    fn end(&mut self) -> Result<()> {
        let name = self.open.pop().ok_or_else(damaged)?;
        let text = std::mem::take(&mut self.text);
        let parent = self.open.last().map(String::as_str).unwrap_or_default();
        let before = self.open.len().checked_sub(2).and_then(|at| self.open.get(at)).map(String::as_str);
        let number = || text.trim().parse::<u64>().map_err(|_| damaged());
        match (name.as_str(), parent) {
            ("file", _) => {
                let file = self.files.pop().ok_or_else(damaged)?;
                if self.files.is_empty() && !file.name.is_empty() {
                    self.table.members.push(file);
                }
            }
            ("name", "file") => {
                if text.is_empty() || text == ".." || text == "." || text.contains(['/', '\0']) {
                    let words = format!(
                        "A file in it is called {:?}, which leads out of its folder.",
                        crate::id::printable(&text)
                    );
                    return Err(Error::invalid(words));
                }
                if let Some(file) = self.files.last_mut() {
                    file.name = text;
                }
            }
            ("offset" | "length" | "size", "data") if before == Some("file") => {
                let number = number()?;
                if let Some(file) = self.files.last_mut() {
                    match name.as_str() {
                        "offset" => file.offset = Some(number),
                        "length" => file.length = Some(number),
                        _ => file.size = Some(number),
                    }
                }
            }
            ("X509Certificate", "X509Data")
                if self.open.iter().any(|open| open == "signature" || open == "x-signature") =>
            {
                self.table.signed = true;
                let compact: String = text.split_ascii_whitespace().collect();
                let der = STANDARD.decode(compact).ok();
                let certificate = der.and_then(|der| Certificate::from_der(&der).ok());
                // The first is the signer's, the others its issuers'.
                if self.table.signed_by.is_none() {
                    self.table.signed_by = certificate
                        .and_then(|certificate| certificate.subject().common_name())
                        .map(|name| self::text(&name));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn damaged() -> Error {
    Error::invalid("Its table of contents cannot be read; the package is damaged.")
}
