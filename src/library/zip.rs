//! Zip archives (PKWARE's APPNOTE): those that this server makes of text files, and a look into those
//! that people upload.
//!
//! [`write()`] stores files as they are, with one fixed time, so that the same files are always the same
//! bytes and the same hash; [`read()`] takes such an archive apart again. [`list`] reads only the names and
//! modes, of an archive of any size and compression.
//!
//! **Invariant:** whatever the bytes, no more is allocated than the archive has bytes, and no more entries
//! are looked at than [`MOST_ENTRIES`].

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read, Seek, SeekFrom};

use crate::error::{Error, Result};

/// The most entries that are looked at.
pub const MOST_ENTRIES: usize = 10_000;
/// More of a table of contents is not read.
const LARGEST_TABLE: u64 = 4 * 1024 * 1024;

const LOCAL: u32 = 0x0403_4b50;
const ENTRY: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const LENGTH_OF_LOCAL: u32 = 30;
const LENGTH_OF_ENTRY: usize = 46;
const LENGTH_OF_END: usize = 22;
const LONGEST_COMMENT: u64 = 0xffff;
/// Written by a Unix, so that the modes count; version 2.0 knows folders.
const MADE_BY: u16 = (3 << 8) | 20;
const NEEDS: u16 = 20;
/// 1 January 1980, the first day that there is.
const DATE: u16 = (1 << 5) | 1;
const FILE: u32 = 0o100_444;
const FOLDER: u32 = 0o040_755;
/// What an MS-DOS knows of a folder.
const DIRECTORY: u32 = 0x10;

/// What the table of contents says of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    /// The Unix mode; nothing where the archive was not made by a Unix.
    pub mode: Option<u32>,
    stored: bool,
    crc: u32,
    size: u32,
    offset: u32,
}

impl Entry {
    pub fn is_folder(&self) -> bool {
        self.name.ends_with('/')
    }

    /// A link to somewhere, which macOS holds inside the folder.
    pub fn is_link(&self) -> bool {
        self.mode.is_some_and(|mode| mode & 0o170_000 == 0o120_000)
    }

    pub fn is_executable(&self) -> bool {
        !self.is_folder() && !self.is_link() && self.mode.is_some_and(|mode| mode & 0o111 != 0)
    }
}

/// An archive of these files, by their paths, and of the folders that they lie in.
///
/// # Errors
/// `Invalid` when they are too many or too large for the format.
pub fn write(files: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>> {
    let too_much = || Error::invalid("These files are too many or too large for one archive.");
    let mut folders = BTreeSet::new();
    for path in files.keys() {
        folders.extend(path.match_indices('/').map(|(at, _)| path[..=at].to_owned()));
    }
    let folders = folders.iter().map(|folder| (folder.as_str(), FOLDER, [].as_slice()));
    let files = files.iter().map(|(path, bytes)| (path.as_str(), FILE, bytes.as_slice()));
    let mut all: Vec<(&str, u32, &[u8])> = folders.chain(files).collect();
    // A folder stands before what lies in it.
    all.sort_unstable_by_key(|(name, ..)| *name);

    let count = u16::try_from(all.len()).ok().filter(|count| *count < u16::MAX).ok_or_else(too_much)?;
    let (mut archive, mut table) = (Vec::new(), Vec::new());
    for (name, mode, bytes) in all {
        let offset = u32::try_from(archive.len()).map_err(|_| too_much())?;
        let size = u32::try_from(bytes.len()).map_err(|_| too_much())?;
        let length = u16::try_from(name.len()).map_err(|_| too_much())?;
        let mut common = Vec::new();
        for half in [NEEDS, 0, 0, 0, DATE] {
            common.extend(half.to_le_bytes());
        }
        for word in [crc(bytes), size, size] {
            common.extend(word.to_le_bytes());
        }
        common.extend(length.to_le_bytes());
        common.extend([0, 0]);

        archive.extend(LOCAL.to_le_bytes());
        archive.extend(&common);
        archive.extend(name.as_bytes());
        archive.extend(bytes);

        table.extend(ENTRY.to_le_bytes());
        table.extend(MADE_BY.to_le_bytes());
        table.extend(&common);
        table.extend([0; 6]);
        let attributes = (mode << 16) | if mode == FOLDER { DIRECTORY } else { 0 };
        table.extend(attributes.to_le_bytes());
        table.extend(offset.to_le_bytes());
        table.extend(name.as_bytes());
    }
    let offset = u32::try_from(archive.len()).map_err(|_| too_much())?;
    let size = u32::try_from(table.len()).map_err(|_| too_much())?;
    archive.append(&mut table);
    archive.extend(END.to_le_bytes());
    archive.extend([0; 4]);
    archive.extend(count.to_le_bytes().repeat(2));
    archive.extend(size.to_le_bytes());
    archive.extend(offset.to_le_bytes());
    archive.extend([0; 2]);
    Ok(archive)
}

/// The files of an archive whose files are stored as they are; nothing for any other.
pub fn read(archive: &[u8]) -> Option<BTreeMap<String, Vec<u8>>> {
    let (mut files, mut total) = (BTreeMap::new(), 0);
    for entry in list(&mut Cursor::new(archive)).ok()? {
        if entry.is_folder() {
            continue;
        }
        let header = archive.get(usize::try_from(entry.offset).ok()?..)?;
        if !entry.stored || word(header, 0)? != LOCAL {
            return None;
        }
        let begin = u32::from(half(header, 26)?) + u32::from(half(header, 28)?) + LENGTH_OF_LOCAL;
        let begin = usize::try_from(begin).ok()?;
        let bytes = header.get(begin..begin.checked_add(usize::try_from(entry.size).ok()?)?)?;
        // Entries that share their bytes would come to more than the archive has.
        total += bytes.len();
        if total > archive.len() {
            return None;
        }
        let is_whole = crc(bytes) == entry.crc;
        if !is_whole || files.insert(entry.name, bytes.to_vec()).is_some() {
            return None;
        }
    }
    Some(files)
}

/// What lies in an archive.
///
/// # Errors
/// `Invalid`, in words, for what is no zip archive, or one that nobody should be sent.
pub fn list(archive: &mut (impl Read + Seek + ?Sized)) -> Result<Vec<Entry>> {
    let broken = |_| Error::invalid("The archive cannot be read to its end; send it again.");
    let none = || Error::invalid("This is no zip archive, or not a whole one; make it anew with zip -r.");
    let length = archive.seek(SeekFrom::End(0)).map_err(broken)?;
    let tail = length.min(LONGEST_COMMENT + LENGTH_OF_END as u64);
    let tail = piece(archive, length - tail, tail).map_err(broken)?;
    let last = tail.len().checked_sub(LENGTH_OF_END).ok_or_else(none)?;
    let at = (0..=last).rev().find(|at| word(&tail, *at) == Some(END)).ok_or_else(none)?;
    let (count, size, offset) = (half(&tail, at + 10), word(&tail, at + 12), word(&tail, at + 16));
    let (Some(count), Some(size), Some(offset)) = (count, size, offset) else { return Err(none()) };
    let count = usize::from(count);
    if count > MOST_ENTRIES || u64::from(size) > LARGEST_TABLE {
        let words =
            format!("The archive has more than {MOST_ENTRIES} files; devices are not sent that many.");
        return Err(Error::invalid(words));
    }
    if u64::from(offset) + u64::from(size) > length {
        return Err(none());
    }
    let table = piece(archive, offset.into(), size.into()).map_err(broken)?;
    let (mut entries, mut rest) = (Vec::new(), table.as_slice());
    for _ in 0..count {
        let (entry, length) = entry(rest).ok_or_else(none)?;
        entries.push(entry);
        rest = &rest[length..];
    }
    Ok(entries)
}

/// The entry at the beginning of this part of the table, and how long it is.
fn entry(table: &[u8]) -> Option<(Entry, usize)> {
    if word(table, 0)? != ENTRY {
        return None;
    }
    let [name, extra, comment] = [half(table, 28)?, half(table, 30)?, half(table, 32)?].map(usize::from);
    let length = LENGTH_OF_ENTRY + name + extra + comment;
    if length > table.len() {
        return None;
    }
    let name = String::from_utf8_lossy(&table[LENGTH_OF_ENTRY..LENGTH_OF_ENTRY + name]).into_owned();
    let is_unix = half(table, 4)? >> 8 == 3;
    let entry = Entry {
        name,
        mode: is_unix.then_some(word(table, 38)? >> 16),
        // Bit 0: encrypted.
        stored: half(table, 10)? == 0 && half(table, 8)? & 1 == 0 && word(table, 20)? == word(table, 24)?,
        crc: word(table, 16)?,
        size: word(table, 24)?,
        offset: word(table, 42)?,
    };
    Some((entry, length))
}

fn piece(archive: &mut (impl Read + Seek + ?Sized), from: u64, length: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    archive.seek(SeekFrom::Start(from))?;
    archive.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_le_bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

/// CRC-32 as in ISO 3309, without a table: what is archived here is small.
pub(super) fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn files(list: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        list.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect()
    }

    #[test]
    fn the_same_files_are_the_same_bytes_and_come_back() {
        assert_eq!(crc(b"123456789"), 0xcbf4_3926);
        let list_of = [("etc/ssh/sshd_config", "PermitRootLogin no\n"), ("etc/ssh/sshd_config.d/a", "")];
        let archive = write(&files(&list_of)).unwrap();
        let mut other_order = list_of;
        other_order.reverse();
        assert_eq!(archive, write(&files(&other_order)).unwrap());
        assert_eq!(
            crate::id::hex(&crate::id::sha256(&archive)),
            "c83f86890673cf2ae171a20e6d2748824d2a5a27ba58fc97639f8424ae1f0f7b",
            "an archive that changes with the program makes every Mac fetch it again"
        );
        assert_eq!(read(&archive).unwrap(), files(&list_of));
        let entries = list(&mut Cursor::new(&archive)).unwrap();
        let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        let wanted =
            ["etc/", "etc/ssh/", "etc/ssh/sshd_config", "etc/ssh/sshd_config.d/", "etc/ssh/sshd_config.d/a"];
        assert_eq!(names, wanted);
        assert_eq!((entries[0].mode, entries[2].mode), (Some(FOLDER), Some(FILE)));
        assert!(!entries[2].is_executable() && !entries[0].is_executable() && !entries[2].is_link());
    }

    #[test]
    fn what_is_no_archive_is_refused_in_words() {
        let archive = write(&files(&[("etc/a", "text")])).unwrap();
        for wrong in [&b""[..], b"PK", b"\x1f\x8b", &archive[..archive.len() - 1], &archive[20..]] {
            assert!(list(&mut Cursor::new(wrong)).unwrap_err().to_string().contains("zip"));
            assert!(read(wrong).is_none());
        }
        let at = archive.windows(4).position(|window| window == b"text").unwrap();
        let mut changed = archive.clone();
        changed[at] = b'T';
        assert!(read(&changed).is_none() && list(&mut Cursor::new(&changed)).is_ok());
        // Two entries with the same bytes.
        let text = "x".repeat(1000);
        let mut shared = write(&files(&[("a", &text), ("b", "")])).unwrap();
        let table = shared.windows(4).rposition(|four| four == ENTRY.to_le_bytes()).unwrap();
        let first = shared.windows(4).position(|four| four == ENTRY.to_le_bytes()).unwrap();
        shared.copy_within(first + 16..first + 28, table + 16);
        shared.copy_within(first + 42..first + 46, table + 42);
        assert!(list(&mut Cursor::new(&shared)).is_ok() && read(&shared).is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(mut noise in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..300) {
            let _ = read(&noise);
            let mut archive = write(&files(&[("etc/a", "text"), ("etc/b/c", "more")])).unwrap();
            let at = at.min(archive.len());
            let end = (at + noise.len()).min(archive.len());
            noise.truncate(end - at);
            archive[at..end].copy_from_slice(&noise);
            let _ = read(&archive);
        }
    }
}
