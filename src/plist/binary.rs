//! Reads binary property lists (`bplist00`).
//!
//! Called by [`super::parse`]. Objects refer to each other by number, so a list of 134 bytes can
//! unfold to gigabytes and an array can contain itself. Objects are unfolded as they are met, under
//! the limits of [`Builder`] and one more for the bytes of strings and data.
//!
//! **Invariant:** every length is compared with what is left of the input before anything is reserved.

use std::time::{Duration, UNIX_EPOCH};

use super::build::Builder;
use super::{Date, Integer, PlistError, Uid, Value};

const TRAILER: usize = 32;

/// How often the input's own size the strings and data of a list may amount to (writers share equal
/// strings, so a key of 15 bytes costs the next dictionary two), and by how many bytes it may exceed it.
const UNFOLDING: usize = 16;
const UNFOLDED: usize = 32 << 20;

/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z, in seconds from Apple's epoch, 2001-01-01.
const DATES: std::ops::RangeInclusive<f64> = -63_113_904_000.0..=252_423_993_599.0;

/// Unix time of Apple's epoch.
const EPOCH: Duration = Duration::from_secs(978_307_200);

pub(super) fn parse(bytes: &[u8]) -> Result<Value, PlistError> {
    let mut list = List::open(bytes)?;
    let mut builder = Builder::default();
    // What is still to be read of each open collection, innermost last, as references in order.
    let mut open: Vec<Pending> = Vec::new();
    let mut next = list.root;
    loop {
        if builder.wants_key() {
            match list.object(next)? {
                Object::Leaf(Value::String(name)) => builder.key(name)?,
                _ => return Err(malformed("a key that is no string", list.offset(next)?)),
            }
        } else {
            match list.object(next)? {
                Object::Leaf(value) => builder.leaf(value)?,
                Object::Array { first, count } => {
                    // The hint is capped: the count is only proven to fit into the input, once.
                    builder.array(count.min(1024))?;
                    open.push(Pending { values: first, left: count, keys: None });
                }
                Object::Dict { keys, values, count } => {
                    builder.dict()?;
                    open.push(Pending { values, left: count, keys: Some(keys) });
                }
            }
        }
        next = loop {
            match open.last_mut() {
                None => return builder.finish().ok_or(PlistError::NotPlist),
                Some(pending) => match pending.step(list.reference_size, builder.wants_key()) {
                    Some(at) => break list.reference(at)?,
                    None => {
                        builder.end();
                        open.pop();
                    }
                },
            }
        };
    }
}

/// The unread rest of a collection; positions are those of its references in the input.
struct Pending {
    keys: Option<usize>,
    values: usize,
    left: usize,
}

impl Pending {
    /// Where the next reference is: a key when one is due, else a value; nothing at the end.
    fn step(&mut self, size: usize, key_due: bool) -> Option<usize> {
        match &mut self.keys {
            Some(_) if key_due && self.left == 0 => None,
            Some(keys) if key_due => {
                let at = *keys;
                *keys += size;
                Some(at)
            }
            // A dictionary's value: its key was read when `left` still counted the pair.
            Some(_) => self.value(size),
            None if self.left == 0 => None,
            None => self.value(size),
        }
    }

    fn value(&mut self, size: usize) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let at = self.values;
        self.values += size;
        Some(at)
    }
}

enum Object {
    Leaf(Value),
    Array { first: usize, count: usize },
    Dict { keys: usize, values: usize, count: usize },
}

struct List<'a> {
    /// Everything before the trailer.
    body: &'a [u8],
    /// Offset table: position, width of an entry, number of entries.
    table: usize,
    offset_size: usize,
    objects: usize,
    reference_size: usize,
    root: usize,
    /// Bytes of strings and data that may still be copied.
    budget: usize,
}

impl<'a> List<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, PlistError> {
        if !bytes.starts_with(b"bplist0") {
            return Err(PlistError::NotPlist);
        }
        let at = bytes.len().checked_sub(TRAILER).filter(|at| *at > 8);
        let (body, trailer) = bytes.split_at(at.ok_or(malformed("the list ends early", bytes.len()))?);
        let wrong = malformed("a trailer that contradicts the list", body.len());
        let [.., offset_size, reference_size] = trailer[..8] else { return Err(wrong) };
        let (objects, root, table) =
            (number(&trailer[8..16]), number(&trailer[16..24]), number(&trailer[24..32]));
        let (Some(objects), Some(root), Some(table)) = (objects, root, table) else { return Err(wrong) };
        let (offset_size, reference_size) = (usize::from(offset_size), usize::from(reference_size));
        let fits = objects.checked_mul(offset_size).and_then(|size| size.checked_add(table));
        let widths = (1..=8).contains(&offset_size) && (1..=8).contains(&reference_size);
        if !widths || table < 8 || root >= objects || fits.is_none_or(|end| end > body.len()) {
            return Err(wrong);
        }
        let budget = bytes.len().saturating_mul(UNFOLDING).min(bytes.len() + UNFOLDED);
        Ok(Self { body, table, offset_size, objects, reference_size, root, budget })
    }

    /// Where an object begins.
    fn offset(&self, object: usize) -> Result<usize, PlistError> {
        let wrong = malformed("a reference to an object that is not there", self.table);
        if object >= self.objects {
            return Err(wrong);
        }
        let at = self.table + object * self.offset_size;
        match number(self.bytes(at, self.offset_size)?) {
            Some(offset) if (8..self.table).contains(&offset) => Ok(offset),
            _ => Err(wrong),
        }
    }

    /// The object number that stands at `at`.
    fn reference(&self, at: usize) -> Result<usize, PlistError> {
        number(self.bytes(at, self.reference_size)?).ok_or(malformed("a reference out of range", at))
    }

    fn object(&mut self, object: usize) -> Result<Object, PlistError> {
        let at = self.offset(object)?;
        let token = self.bytes(at, 1)?[0];
        let (kind, size) = (token >> 4, token & 0x0f);
        let unknown = malformed("an object of an unknown kind", at);
        let value = match (kind, size) {
            (0x0, 0x8) => Value::Boolean(false),
            (0x0, 0x9) => Value::Boolean(true),
            (0x1, 0..=4) => Value::Integer(integer(self.bytes(at + 1, 1 << size)?).ok_or(unknown)?),
            (0x2, 2..=3) => Value::Real(real(self.bytes(at + 1, 1 << size)?).ok_or(unknown)?),
            (0x3, 3) => {
                let seconds = real(self.bytes(at + 1, 8)?).ok_or(unknown)?;
                Value::Date(date(seconds).ok_or(malformed("a date before year 1 or after 9999", at))?)
            }
            (0x4, _) => {
                let (start, count) = self.length(at, size)?;
                Value::Data(self.copied(start, count)?.to_vec())
            }
            (0x5, _) => {
                let (start, count) = self.length(at, size)?;
                let ascii = self.copied(start, count)?;
                let text = std::str::from_utf8(ascii).ok().filter(|text| text.is_ascii());
                Value::String(no_nul(
                    text.ok_or(malformed("a string that is not ASCII", at))?.to_owned(),
                    at,
                )?)
            }
            (0x6, _) => {
                let (start, count) = self.length(at, size)?;
                let bytes = count.checked_mul(2).ok_or(malformed("a string that is too long", at))?;
                let units = self
                    .copied(start, bytes)?
                    .chunks_exact(2)
                    .map(|two| u16::from_be_bytes([two[0], two[1]]));
                let text: Result<String, _> = char::decode_utf16(units).collect();
                Value::String(no_nul(text.map_err(|_| malformed("a string that is not UTF-16", at))?, at)?)
            }
            (0x8, 0..=7) => {
                let bytes = self.bytes(at + 1, usize::from(size) + 1)?;
                Value::Uid(Uid::new(number64(bytes).ok_or(unknown)?))
            }
            (0xa, _) => {
                let (first, count) = self.length(at, size)?;
                self.references(first, count)?;
                return Ok(Object::Array { first, count });
            }
            (0xd, _) => {
                let (keys, count) = self.length(at, size)?;
                let values = self.references(keys, count)?;
                self.references(values, count)?;
                return Ok(Object::Dict { keys, values, count });
            }
            _ => return Err(unknown),
        };
        Ok(Object::Leaf(value))
    }

    /// The count of a string, data or collection, and where its contents begin: in the token itself,
    /// or after it as an integer.
    fn length(&self, at: usize, size: u8) -> Result<(usize, usize), PlistError> {
        if size < 0x0f {
            return Ok((at + 1, usize::from(size)));
        }
        let wrong = malformed("a length that is none", at);
        let token = self.bytes(at + 1, 1)?[0];
        if !(0x10..=0x13).contains(&token) {
            return Err(wrong);
        }
        let width = 1 << (token & 0x0f);
        let count = number(self.bytes(at + 2, width)?).ok_or(wrong)?;
        Ok((at + 2 + width, count))
    }

    /// Checks that `count` references lie in the input at `at`; answers where they end.
    fn references(&self, at: usize, count: usize) -> Result<usize, PlistError> {
        let size =
            count.checked_mul(self.reference_size).ok_or(malformed("a count that is too large", at))?;
        self.bytes(at, size)?;
        Ok(at + size)
    }

    /// As [`List::bytes`], for what is about to be copied.
    fn copied(&mut self, at: usize, count: usize) -> Result<&'a [u8], PlistError> {
        let bytes = self.bytes(at, count)?;
        self.budget = self.budget.checked_sub(count).ok_or(PlistError::TooMuch)?;
        Ok(bytes)
    }

    fn bytes(&self, at: usize, count: usize) -> Result<&'a [u8], PlistError> {
        let end = at.checked_add(count);
        end.and_then(|end| self.body.get(at..end))
            .ok_or(malformed("an object that reaches beyond the list", at))
    }
}

fn malformed(what: &'static str, at: usize) -> PlistError {
    PlistError::Malformed { what, offset: at as u64 }
}

fn no_nul(text: String, at: usize) -> Result<String, PlistError> {
    if text.contains('\0') { Err(malformed("a NUL character", at)) } else { Ok(text) }
}

/// A big-endian number of at most eight bytes.
fn number64(bytes: &[u8]) -> Option<u64> {
    (bytes.len() <= 8).then(|| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

fn number(bytes: &[u8]) -> Option<usize> {
    number64(bytes).and_then(|number| usize::try_from(number).ok())
}

/// One, two and four bytes are unsigned, eight are signed; sixteen are written for what needs 64 bits
/// unsigned, and say nothing larger that we could keep.
fn integer(bytes: &[u8]) -> Option<Integer> {
    match bytes.len() {
        1 | 2 | 4 => number64(bytes).map(Integer::from),
        8 => Some(i64::from_be_bytes(bytes.try_into().ok()?).into()),
        16 => {
            let wide = i128::from_be_bytes(bytes.try_into().ok()?);
            let signed = i64::try_from(wide).ok().map(Integer::from);
            signed.or_else(|| u64::try_from(wide).ok().map(Integer::from))
        }
        _ => None,
    }
}

fn real(bytes: &[u8]) -> Option<f64> {
    match bytes.len() {
        4 => Some(f64::from(f32::from_be_bytes(bytes.try_into().ok()?))),
        8 => Some(f64::from_be_bytes(bytes.try_into().ok()?)),
        _ => None,
    }
}

fn date(seconds: f64) -> Option<Date> {
    if !DATES.contains(&seconds) {
        return None;
    }
    let distance = Duration::try_from_secs_f64(seconds.abs()).ok()?;
    let epoch = UNIX_EPOCH + EPOCH;
    let time = if seconds < 0.0 { epoch.checked_sub(distance) } else { epoch.checked_add(distance) };
    time.map(Date::from)
}
