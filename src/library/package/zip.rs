//! Zip archives, as far as it takes to read two files of an app (PKWARE's APPNOTE 6.3.10, 4.3).
//!
//! Nothing is unpacked to the disk. What archives do that people make who want two readers to see two
//! things, or one to unpack without end, is refused: something before the first or after the last of
//! it, entries that overlap, that are encrypted, or whose names lead out of the folder.
//!
//! **Invariant:** memory is bounded by [`MOST_ENTRIES`] and the members asked for, whatever the archive says.

use std::io::{BufReader, Read};

use super::source::{Bound, Packed, Source, truncated};
use crate::error::{Error, Result};
use crate::id::printable;

const MOST_ENTRIES: u64 = 200_000;
/// Of all entries together, as the directory has them.
const LARGEST_DIRECTORY: u64 = 64 * 1024 * 1024;
const LONGEST_NAME: usize = 4096;

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const LOCATOR64: u32 = 0x0706_4b50;
const END_LENGTH: u64 = 22;
const LONGEST_COMMENT: u64 = 65_535;
/// What stands in a field of 32 bits whose value needs 64.
const ELSEWHERE: u32 = u32::MAX;

/// A member that somebody asked for.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) name: String,
    method: u16,
    crc: u32,
    packed: u64,
    size: u64,
    /// Where its local header is.
    at: u64,
}

struct Directory {
    at: u64,
    length: u64,
    entries: u64,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |two| u16::from_le_bytes([two[0], two[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// Reads the directory; answers the members that `wanted` says yes to.
pub(super) fn members(source: &mut Source<'_>, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<Member>> {
    let directory = directory(source)?;
    if directory.entries > MOST_ENTRIES || directory.length > LARGEST_DIRECTORY {
        return Err(Error::invalid(format!("It has more than {MOST_ENTRIES} files; no app has.")));
    }
    let mut found = Vec::new();
    let mut extents = Vec::new();
    let mut left = directory.length;
    let mut reader = BufReader::new(source.take(directory.at, directory.length)?);
    let mut read = |length: usize| -> Result<Vec<u8>> {
        left = left.checked_sub(length as u64).ok_or_else(truncated)?;
        let mut bytes = vec![0; length];
        reader.read_exact(&mut bytes).map_err(|source| Error::caused("an upload cannot be read", source))?;
        Ok(bytes)
    };
    for _ in 0..directory.entries {
        let head = read(46)?;
        if u32_at(&head, 0) != CENTRAL {
            return Err(damaged());
        }
        let (name_length, extra_length) = (usize::from(u16_at(&head, 28)), usize::from(u16_at(&head, 30)));
        let name = read(name_length)?;
        let extra = read(extra_length)?;
        read(usize::from(u16_at(&head, 32)))?;
        let name = checked_name(name)?;
        // Bits 0, 6 and 13: encrypted, in one of three ways.
        if u16_at(&head, 8) & 0x2041 != 0 {
            return Err(Error::invalid("It is encrypted; devices could not install it."));
        }
        let member = member(name, &head, &extra)?;
        // The shortest that its local header can be.
        let end = member.at.checked_add(30 + name_length as u64).and_then(|at| at.checked_add(member.packed));
        extents.push((member.at, end.filter(|end| *end <= directory.at).ok_or_else(truncated)?));
        if wanted(&member.name) {
            found.push(member);
        }
    }
    if left != 0 {
        return Err(damaged());
    }
    drop(reader);
    extents.sort_unstable();
    if extents.first().is_none_or(|(at, _)| *at != 0) {
        return Err(Error::invalid("Something stands before its first file; it is not an app alone."));
    }
    if extents.windows(2).any(|pair| pair[0].1 > pair[1].0) {
        return Err(Error::invalid("Files in it overlap; that is how archives are built that never end."));
    }
    Ok(found)
}

/// The bytes of a member; no more than `most`.
pub(super) fn content(source: &mut Source<'_>, member: &Member, most: u64) -> Result<Vec<u8>> {
    let head = source.bytes(member.at, 30)?;
    let (name_length, extra_length) = (u64::from(u16_at(&head, 26)), u64::from(u16_at(&head, 28)));
    let name = source.bytes(member.at + 30, name_length)?;
    // Whoever reads the file from its beginning is to see the same.
    if u32_at(&head, 0) != LOCAL || name != member.name.as_bytes() || u16_at(&head, 8) != member.method {
        return Err(damaged());
    }
    let what = printable(&member.name);
    let packed = match member.method {
        0 => Packed::Plainly,
        8 => Packed::Deflate,
        other => {
            return Err(Error::invalid(format!(
                "{what} is packed by the method {other}; devices know 0 and 8."
            )));
        }
    };
    let bound = Bound { most, size: Some(member.size), crc: Some(member.crc) };
    source.unpacked((member.at + 30 + name_length + extra_length, member.packed), packed, bound, &what)
}

/// Finds the end of the archive and, by it, the directory.
fn directory(source: &mut Source<'_>) -> Result<Directory> {
    let length = source.length.min(END_LENGTH + LONGEST_COMMENT);
    let tail_at = source.length - length;
    let tail = source.bytes(tail_at, length)?;
    let last = tail.len().checked_sub(22).ok_or_else(no_archive)?;
    // What a comment contains may look like an end; the true one says how long its comment is.
    let fits = |at: &usize| u32_at(&tail, *at) == END && usize::from(u16_at(&tail, at + 20)) == last - at;
    let end = (0..=last).rev().find(fits).ok_or_else(no_archive)?;
    let record = &tail[end..];
    let end_at = tail_at + end as u64;
    if u16_at(record, 4) != 0 || u16_at(record, 6) != 0 || u16_at(record, 8) != u16_at(record, 10) {
        return Err(Error::invalid("It is one of several parts; upload it as one file."));
    }
    let (entries, length, at) = (u16_at(record, 10), u32_at(record, 12), u32_at(record, 16));
    let found = if entries == u16::MAX || length == ELSEWHERE || at == ELSEWHERE {
        directory64(source, end_at)?
    } else {
        (Directory { at: u64::from(at), length: u64::from(length), entries: u64::from(entries) }, end_at)
    };
    let (directory, end_at) = found;
    if directory.at.checked_add(directory.length) != Some(end_at) {
        return Err(damaged());
    }
    Ok(directory)
}

/// As [`directory`], where 32 bits do not do; answers where it ends, too.
fn directory64(source: &mut Source<'_>, end_at: u64) -> Result<(Directory, u64)> {
    let locator_at = end_at.checked_sub(20).ok_or_else(damaged)?;
    let locator = source.bytes(locator_at, 20)?;
    let record_at = u64_at(&locator, 8);
    if u32_at(&locator, 0) != LOCATOR64 {
        return Err(damaged());
    }
    let record = source.bytes(record_at, 56)?;
    let ends = record_at.checked_add(12).and_then(|at| at.checked_add(u64_at(&record, 4)));
    if u32_at(&record, 0) != END64 || ends != Some(locator_at) || u64_at(&record, 24) != u64_at(&record, 32) {
        return Err(damaged());
    }
    let directory =
        Directory { at: u64_at(&record, 48), length: u64_at(&record, 40), entries: u64_at(&record, 32) };
    Ok((directory, record_at))
}

/// What the directory says of a member.
fn member(name: String, head: &[u8], extra: &[u8]) -> Result<Member> {
    let mut wide = zip64(extra);
    let mut value = |narrow: u32| -> Result<u64> {
        if narrow != ELSEWHERE {
            return Ok(u64::from(narrow));
        }
        let (value, rest) = wide.split_at_checked(8).ok_or_else(damaged)?;
        wide = rest;
        Ok(u64_at(value, 0))
    };
    // In this order they stand in the extra field, each only if it is needed.
    let size = value(u32_at(head, 24))?;
    let packed = value(u32_at(head, 20))?;
    let at = value(u32_at(head, 42))?;
    Ok(Member { name, method: u16_at(head, 10), crc: u32_at(head, 16), packed, size, at })
}

/// The extra field with what needs 64 bits.
fn zip64(mut extra: &[u8]) -> &[u8] {
    while extra.len() >= 4 {
        let (kind, length) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        let Some((field, rest)) = extra[4..].split_at_checked(length) else { break };
        if kind == 1 {
            return field;
        }
        extra = rest;
    }
    &[]
}

fn checked_name(name: Vec<u8>) -> Result<String> {
    let refused = |name: &str| {
        Error::invalid(format!(
            "A file in it is called {:?}, which leads out of its folder.",
            printable(name)
        ))
    };
    // Apps have names in other encodings deep inside; none that is read.
    let name = String::from_utf8(name).unwrap_or_else(|name| String::from_utf8_lossy(name.as_bytes()).into());
    let leads_out = name.starts_with('/')
        || name.contains('\0')
        || name.split(['/', '\\']).any(|part| part == "..")
        || name.len() > LONGEST_NAME;
    if leads_out { Err(refused(&name)) } else { Ok(name) }
}

fn damaged() -> Error {
    Error::invalid("The archive contradicts itself; it is damaged, or made to be read in two ways.")
}

fn no_archive() -> Error {
    Error::invalid("It begins as an archive and has no end; upload it again, whole.")
}
