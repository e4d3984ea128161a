//! Property lists, XML and binary, bounded.
//!
//! Devices speak nothing else: every check-in, report and reply is one, and people may send commands
//! as one. [`parse`] reads what a peer sent, [`to_xml`] writes what a device is sent, [`json`] turns
//! one into what the API shows; the accessors read a key whose type Apple names.
//!
//! The values are those of the `plist` crate. Its readers are not used: they have no limit of depth
//! or expansion (134 bytes become a gigabyte), read unknown entities as nothing, and panic on a date
//! whose offset leads past the year 9999.
//!
//! **Invariant:** whatever the bytes, [`parse`] needs memory in proportion to [`MAX_NODES`] and the
//! size of the input, and never recurses.

pub mod json;

mod access;
mod binary;
mod build;
mod write;
mod xml;

pub use ::plist::{Date, Dictionary, Integer, Uid, Value};

pub use access::{array, boolean, data, date, dict, integer, kind, needed, real, string};
pub use write::to_xml;

/// How deep arrays and dictionaries may lie in each other. Apple's own messages need fewer than ten.
pub const MAX_DEPTH: usize = 64;

/// How many values one list may have; a report about 2,000 apps has some 30,000.
pub const MAX_NODES: usize = 200_000;

/// Why a property list was refused; each is a sentence for whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlistError {
    /// Neither XML nor binary, e.g. JSON or an OpenStep list.
    #[error("this is not a property list; send it as XML (UTF-8) or in Apple's binary format")]
    NotPlist,
    /// UTF-16 and everything else that is not UTF-8.
    #[error("the property list is not UTF-8; save it as UTF-8 and send it again")]
    Encoding,
    /// An entity or document type that would make the text mean something else.
    #[error(
        "the property list declares a document type or entity of its own; only Apple's DOCTYPE is accepted"
    )]
    Doctype,
    /// More nesting than [`MAX_DEPTH`].
    #[error("the property list is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// More values than [`MAX_NODES`], or a binary list that unfolds to many times its size.
    #[error("the property list holds too much: at most {MAX_NODES} values are accepted")]
    TooMuch,
    /// A dictionary that says two things about one key.
    #[error("the property list has the key {0:?} twice in one dictionary; keep one of them")]
    DuplicateKey(String),
    /// Everything else; `offset` is the byte at which it was noticed.
    #[error("the property list is malformed at byte {offset}: {what}")]
    Malformed {
        /// What is wrong there.
        what: &'static str,
        /// Where, from the first byte.
        offset: u64,
    },
    /// A key has a value of another type than Apple's.
    #[error("{key} must be {wanted}, not {found}")]
    WrongType {
        /// The key.
        key: String,
        /// The type that is due, with its article.
        wanted: &'static str,
        /// The type that is there, with its article.
        found: &'static str,
    },
    /// A key that must be there is not.
    #[error("{0} is missing")]
    Missing(String),
    /// A value that a property list cannot say: JSON's null, a control character.
    #[error("{0}")]
    Unsayable(String),
}

/// Reads an XML or binary property list.
///
/// Refused: other encodings than UTF-8 (a byte order mark is tolerated), document types and entities
/// of the sender's own, NUL characters, duplicate keys, anything after the list, and what exceeds
/// [`MAX_DEPTH`] or [`MAX_NODES`].
pub fn parse(bytes: &[u8]) -> Result<Value, PlistError> {
    if bytes.starts_with(b"bplist") { binary::parse(bytes) } else { xml::parse(bytes) }
}

/// As [`parse`], for the messages whose outermost value is a dictionary.
pub fn parse_dict(bytes: &[u8]) -> Result<Dictionary, PlistError> {
    let value = parse(bytes)?;
    let found = kind(&value);
    value.into_dictionary().ok_or_else(|| PlistError::WrongType {
        key: "the outermost value".to_owned(),
        wanted: "a dictionary",
        found,
    })
}

#[cfg(test)]
mod tests;
