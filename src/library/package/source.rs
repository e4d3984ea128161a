//! A file that is read at places which the file itself names.
//!
//! Called by the readers of archives. What lies outside of the file is the uploader's mistake, and what
//! cannot be read inside of it is the disk's.
//!
//! **Invariant:** nothing is allocated that the file does not have, and nothing beyond the caller's bound.

use std::io::{Read, SeekFrom};

use flate2::Crc;
use flate2::read::{DeflateDecoder, ZlibDecoder};

use crate::content::ReadSeek;
use crate::error::{Error, Result};

/// How the bytes of a member are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packed {
    Plainly,
    /// As zip has it.
    Deflate,
    /// As xar has it, whatever it calls it.
    Zlib,
}

/// What a member may come to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    /// The most that is read.
    pub(super) most: u64,
    /// What the archive says that it has, if it says so.
    pub(super) size: Option<u64>,
    pub(super) crc: Option<u32>,
}

/// The file and its length.
pub(super) struct Source<'a> {
    reader: &'a mut dyn ReadSeek,
    pub(super) length: u64,
}

impl<'a> Source<'a> {
    pub(super) fn new(reader: &'a mut dyn ReadSeek) -> Result<Self> {
        let length = reader.seek(SeekFrom::End(0)).map_err(unreadable)?;
        Ok(Self { reader, length })
    }

    /// Whether so many bytes are there.
    pub(super) fn has(&self, at: u64, length: u64) -> bool {
        at.checked_add(length).is_some_and(|end| end <= self.length)
    }

    /// So many bytes from here on.
    pub(super) fn take(&mut self, at: u64, length: u64) -> Result<impl Read + '_> {
        if !self.has(at, length) {
            return Err(truncated());
        }
        self.reader.seek(SeekFrom::Start(at)).map_err(unreadable)?;
        Ok((&mut *self.reader).take(length))
    }

    /// So many bytes from here on, which are few.
    pub(super) fn bytes(&mut self, at: u64, length: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.take(at, length)?.read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 == length { Ok(bytes) } else { Err(truncated()) }
    }

    /// A member, unpacked and held against what the archive says of it.
    pub(super) fn unpacked(
        &mut self,
        (at, length): (u64, u64),
        packed: Packed,
        bound: Bound,
        what: &str,
    ) -> Result<Vec<u8>> {
        let too_large = || Error::invalid(format!("{what} in it is larger than {} bytes.", bound.most));
        if bound.size.is_some_and(|size| size > bound.most) {
            return Err(too_large());
        }
        let raw = self.take(at, length)?;
        let mut bytes = Vec::new();
        let read = match packed {
            Packed::Plainly => raw.take(bound.most + 1).read_to_end(&mut bytes),
            Packed::Deflate => DeflateDecoder::new(raw).take(bound.most + 1).read_to_end(&mut bytes),
            Packed::Zlib => ZlibDecoder::new(raw).take(bound.most + 1).read_to_end(&mut bytes),
        };
        read.map_err(|_| Error::invalid(format!("{what} in it cannot be unpacked; it is damaged.")))?;
        if bytes.len() as u64 > bound.most {
            return Err(too_large());
        }
        let mut crc = Crc::new();
        crc.update(&bytes);
        let is_right = bound.size.is_none_or(|size| size == bytes.len() as u64)
            && bound.crc.is_none_or(|said| said == crc.sum());
        if is_right { Ok(bytes) } else { Err(Error::invalid(format!("{what} in it is damaged."))) }
    }
}

pub(super) fn truncated() -> Error {
    Error::invalid("It ends too early, or speaks of places that it does not have; upload it again, whole.")
}

fn unreadable(source: std::io::Error) -> Error {
    Error::caused("what was uploaded cannot be read again", source)
}
