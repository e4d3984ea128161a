//! The library: configuration profiles, and the data of assets, as administrators hand them in.
//!
//! [`profile`] and [`asset`] read what was uploaded, refuse what a device would refuse, keep it as
//! [`crate::content`], and tell [`crate::ddm::served`], which makes it part of what declarations say.
//! [`services`] makes such assets of text files and property lists that people edit here.
//! `mdm` serves them to the devices concerned, `admin` is where people reach them.
//!
//! **Invariant:** what a device is sent are the bytes that somebody uploaded, but for an identity, which
//! devices want as a document together with its password, and for what [`services`] makes.

pub mod asset;
pub mod mobileconfig;
pub mod package;
pub mod profile;
pub mod services;
pub mod upload;
pub mod zip;

use crate::content::Kept;
use crate::ddm::served::Content;
use crate::error::{Error, Result};
use crate::schema::declarations::is_identifier;

/// Whether something may be called this in the library.
///
/// # Errors
/// `Invalid`, in words.
pub fn check_name(name: &str) -> Result<()> {
    // `.` and `..` would be swallowed by whoever builds a path of them.
    if is_identifier(name) && !name.bytes().all(|byte| byte == b'.') {
        return Ok(());
    }
    Err(Error::invalid(
        "the identifier in the address has 1 to 64 letters, digits, dots, underscores and hyphens \
         (A-Z a-z 0-9 . _ -), and not only dots",
    ))
}

/// What [`crate::ddm::served`] is to know of bytes that are kept.
fn served(kept: &Kept, media_type: &str) -> Content {
    Content {
        id: kept.id.clone(),
        size: kept.size,
        sha256: kept.sha256().map(str::to_owned),
        media_type: media_type.to_owned(),
    }
}

#[cfg(test)]
mod tests;
