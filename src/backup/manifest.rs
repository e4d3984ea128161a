//! The first thing in a backup: what else is in it, with sizes and hashes.
//!
//! `make` writes it, `archive` holds the rest of the file against it.
//!
//! **Invariant:** a [`Manifest`] that was read names only members that a restore may write: the database,
//! the sealing key, and files under their own hash; each once, none larger than it can be.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::content;
use crate::error::{Error, Result};

/// The manifest's name in the archive.
pub(super) const NAME: &str = "manifest.json";
/// The database's.
pub(super) const DATABASE: &str = crate::storage::FILE;
/// The sealing key's.
pub(super) const SEAL: &str = crate::pki::seal::FILE;
/// The folder of the uploaded files, and what their names begin with.
pub(super) const FILES: &str = "files/";
/// Raised when an older program could not read what is written.
const FORMAT: u32 = 1;
/// The largest manifest, in bytes: some 80,000 files.
pub(super) const LARGEST: u64 = 16 * 1024 * 1024;
/// The largest database: SQLite's own limit is larger, every card is smaller.
const LARGEST_DATABASE: u64 = 1 << 42;

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// The program's version that made it.
    pub program: String,
    /// The version of the database's schema.
    pub schema: i64,
    /// RFC 3339.
    pub created_at: String,
    /// How the server is reached that it is of.
    pub public_url: String,
    /// Whether packages and in-house apps are in it too.
    pub packages: bool,
    /// In the order of the archive.
    pub members: Vec<Member>,
}

/// One file in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub name: String,
    pub size: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
}

impl Manifest {
    pub(super) fn new(
        schema: i64,
        created_at: String,
        public_url: &str,
        packages: bool,
        members: Vec<Member>,
    ) -> Self {
        let program = env!("CARGO_PKG_VERSION").to_owned();
        Self {
            format: FORMAT,
            program,
            schema,
            created_at,
            public_url: public_url.to_owned(),
            packages,
            members,
        }
    }

    /// Reads and checks it.
    ///
    /// # Errors
    /// [`Error::Invalid`] in words: not a manifest, a newer format, members that a restore must not write.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|error| damaged(&format!("its table of contents cannot be read ({error})")))?;
        if manifest.format > FORMAT {
            return Err(Error::invalid(format!(
                "this backup was made by a newer version of russet ({}); install that version, then restore",
                crate::id::printable(&manifest.program)
            )));
        }
        let mut names = BTreeSet::new();
        for member in &manifest.members {
            member.check()?;
            if !names.insert(member.name.as_str()) {
                return Err(damaged(&format!("it names {} twice", member.name)));
            }
        }
        for needed in [DATABASE, SEAL] {
            if !names.contains(needed) {
                return Err(damaged(&format!("there is no {needed} in it")));
            }
        }
        Ok(manifest)
    }

    /// How much room all that is in it takes, in bytes.
    pub fn size(&self) -> u64 {
        self.members.iter().fold(0, |sum, member| sum.saturating_add(member.size))
    }
}

impl Member {
    fn check(&self) -> Result<()> {
        let is_hash = |text: &str| {
            text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let allowed = match self.name.as_str() {
            DATABASE => self.size <= LARGEST_DATABASE,
            SEAL => self.size == 32,
            name => name
                .strip_prefix(FILES)
                .is_some_and(|hash| is_hash(hash) && hash == self.sha256 && self.size <= content::LARGEST),
        };
        if allowed && is_hash(&self.sha256) {
            return Ok(());
        }
        let name: String = crate::id::printable(&self.name).chars().take(80).collect();
        Err(damaged(&format!("it names {name}, which does not belong into a backup")))
    }
}

/// What everything is called that is no whole backup.
pub(super) fn damaged(why: &str) -> Error {
    Error::invalid(format!(
        "this is not a whole backup: {why}; take another file, or copy it again from where it was"
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(name: &str, size: u64) -> Member {
        let sha256 = name.strip_prefix(FILES).map_or_else(|| "0".repeat(64), str::to_owned);
        Member { name: name.into(), size, sha256 }
    }

    fn of(members: Vec<Member>) -> Manifest {
        Manifest::new(5, "2026-12-01T00:00:00Z".into(), "https://mdm.example.org", false, members)
    }

    fn read(manifest: &Manifest) -> Result<Manifest> {
        Manifest::parse(&serde_json::to_vec(manifest).unwrap())
    }

    #[test]
    fn what_was_written_is_read_and_what_a_restore_must_not_write_is_refused() {
        let whole =
            vec![member(DATABASE, 4096), member(SEAL, 32), member(&format!("{FILES}{}", "a".repeat(64)), 9)];
        assert_eq!(read(&of(whole.clone())).unwrap(), of(whole.clone()));
        assert_eq!(of(whole.clone()).size(), 4137);
        for (odd, words) in [
            (member("../russet.toml", 1), "does not belong"),
            (member("/etc/passwd", 1), "does not belong"),
            (member("files/../seal.key", 32), "does not belong"),
            (member("files/short", 1), "does not belong"),
            (member("recovery-key.txt", 1), "does not belong"),
            (member(&format!("{FILES}{}", "b".repeat(64)), content::LARGEST + 1), "does not belong"),
            (member(DATABASE, 4096), "twice"),
        ] {
            let refused = read(&of([whole.clone(), vec![odd]].concat())).unwrap_err().to_string();
            assert!(refused.contains(words), "{refused}");
        }
        for missing in 0..2 {
            let mut members = whole.clone();
            members.remove(missing);
            assert!(read(&of(members)).unwrap_err().to_string().contains("there is no"));
        }
        let mut other_hash = whole.clone();
        other_hash[2].sha256 = "b".repeat(64);
        assert!(read(&of(other_hash)).is_err());
        let newer = Manifest { format: FORMAT + 1, ..of(whole) };
        assert!(read(&newer).unwrap_err().to_string().contains("newer version of russet"));
        assert!(Manifest::parse(b"{}").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_manifest_with_a_path(bytes in proptest::collection::vec(any::<u8>(), 0..200), name in ".{0,40}") {
            let _ = Manifest::parse(&bytes);
            let odd = of(vec![member(DATABASE, 1), member(SEAL, 32), member(&name, 1)]);
            if let Ok(read) = read(&odd) {
                prop_assert!(read.members.iter().all(|member| !member.name.contains("..") && !member.name.starts_with('/')));
            }
        }
    }
}
