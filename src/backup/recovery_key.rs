//! The key that opens backups: an age identity, in a file and on paper.
//!
//! Made once, when the data folder is made; shown by the sign-in flow until somebody says that it was
//! written down. The file is what `age-keygen` writes, so that `age -d -i recovery-key.txt` opens a backup.
//!
//! **Invariant:** a recovery key that was made is never replaced by another of ours: who moved the file to a
//! safe place finds that backups still open with it.

use std::path::Path;

use age::secrecy::ExposeSecret;
use age::x25519;
use rusqlite::{Connection, OptionalExtension, params};

use crate::clock::{Seconds, rfc3339};
use crate::error::{Error, Result};
use crate::id;
use crate::pki::seal::{Seal, write_private};
use crate::storage::{Store, Tx};

/// The file's name in the data folder.
pub const FILE: &str = "recovery-key.txt";
/// The largest file that is looked at.
const LARGEST: u64 = 64 * 1024;

/// The private key.
pub struct RecoveryKey(x25519::Identity);

impl RecoveryKey {
    /// Reads the file of a key.
    ///
    /// # Errors
    /// [`Error::Invalid`] in words: it cannot be read, or there is no key in it.
    pub fn read(path: &Path) -> Result<Self> {
        use std::io::Read;
        let mut text = String::new();
        std::fs::File::open(path).and_then(|file| file.take(LARGEST).read_to_string(&mut text)).map_err(
            |error| Error::invalid(format!("the recovery key {} cannot be read: {error}", path.display())),
        )?;
        Self::parse(&text).ok_or_else(|| {
            Error::invalid(format!(
                "{} holds no recovery key: that is a line that begins with AGE-SECRET-KEY-1; copy it again, letter by letter",
                path.display()
            ))
        })
    }

    /// Finds the key among the lines of a text; who typed it may have used small letters and spaces.
    pub fn parse(text: &str) -> Option<Self> {
        text.lines()
            .map(|line| line.split_whitespace().collect::<String>().to_ascii_uppercase())
            .find_map(|line| line.parse().ok())
            .map(Self)
    }

    fn generate() -> Self {
        Self(x25519::Identity::generate())
    }

    /// What may be shown to everybody: `age1…`.
    pub fn public(&self) -> String {
        self.0.to_public().to_string()
    }

    /// The line to write down: `AGE-SECRET-KEY-1…`.
    pub fn secret(&self) -> String {
        self.0.to_string().expose_secret().to_owned()
    }

    pub(super) fn identity(&self) -> &dyn age::Identity {
        &self.0
    }

    /// The file's text.
    pub(super) fn text(&self, now: Seconds) -> String {
        format!(
            "# The recovery key of this Russet server. Whoever has it can read its backups; without it nobody can.\n\
             # created: {}\n# public key: {}\n{}\n",
            rfc3339(now),
            self.public(),
            self.secret()
        )
    }
}

/// What is known of the key without the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// `age1…`: what backups are encrypted to.
    pub public_key: String,
    /// Since when.
    pub made_at: Seconds,
    /// When somebody said that it was written down.
    pub written_down_at: Option<Seconds>,
}

impl Known {
    pub(super) fn recipient(&self) -> Result<x25519::Recipient> {
        self.public_key
            .parse()
            .map_err(|_| Error::internal("the stored public recovery key is damaged; restore a backup"))
    }
}

/// What is known of the key.
///
/// # Errors
/// The database's.
pub fn known(conn: &Connection) -> Result<Option<Known>> {
    Ok(conn
        .prepare_cached("SELECT public_key, made_at, written_down_at FROM recovery_key")?
        .query_row([], |row| {
            Ok(Known { public_key: row.get(0)?, made_at: row.get(1)?, written_down_at: row.get(2)? })
        })
        .optional()?)
}

/// Somebody says that the key with this public half was written down.
///
/// # Errors
/// `Conflict` when that is not the present one.
pub fn acknowledge(tx: &Tx<'_>, public_key: &str) -> Result<()> {
    let noted = tx
        .prepare_cached(
            "UPDATE recovery_key SET written_down_at = IFNULL(written_down_at, ?1) WHERE public_key = ?2",
        )?
        .execute(params![tx.now(), public_key])?;
    if noted == 0 {
        return Err(Error::conflict(
            "the recovery key is another by now; look at it again and write that one down",
        ));
    }
    Ok(())
}

/// Finds the key, or makes the first. A file that somebody put there in place of ours is taken.
pub(super) async fn open(store: &Store, data_dir: &Path) -> Result<Known> {
    let path = data_dir.join(FILE);
    let before = store.peek(known)?;
    let public_key = match (path.exists(), &before) {
        (true, _) => RecoveryKey::read(&path)?.public(),
        // Somebody took it away to keep it safe: backups are encrypted to it all the same.
        (false, Some(before)) => before.public_key.clone(),
        (false, None) => {
            let key = RecoveryKey::generate();
            write_private(&path, key.text(store.clock().now()).as_bytes())?;
            key.public()
        }
    };
    if let Some(before) = before.filter(|before| before.public_key == public_key) {
        return Ok(before);
    }
    let keep = move |tx: &Tx<'_>| {
        tx.execute("DELETE FROM recovery_key", [])?;
        tx.execute(
            "INSERT INTO recovery_key (id, public_key, made_at) VALUES (1, ?1, ?2)",
            params![public_key, tx.now()],
        )?;
        known(tx)?.ok_or_else(|| Error::internal("the recovery key is not there"))
    };
    store.write("recovery_key.keep", keep).await
}

/// Writes the sealing key, encrypted to the recovery key, unless what is there is of these two.
pub(super) async fn keep_sealing_key(store: &Store, seal: &Seal, key: &Known, path: &Path) -> Result<()> {
    let of =
        id::hex(&id::sha256(format!("{} {}", key.public_key, id::hex(&id::sha256(seal.bytes()))).as_bytes()));
    let current: Option<String> = store
        .peek(|conn| Ok(conn.query_row("SELECT sealing_key_of FROM recovery_key", [], |row| row.get(0))?))?;
    if path.exists() && current.as_deref() == Some(&of) {
        return Ok(());
    }
    let encrypted = age::encrypt(&key.recipient()?, seal.bytes())
        .map_err(|source| Error::caused("the sealing key cannot be encrypted", source))?;
    write_private(path, &encrypted)?;
    store
        .write("recovery_key.sealing_key", move |tx| {
            tx.execute("UPDATE recovery_key SET sealing_key_of = ?1", [of])?;
            Ok(())
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::tests::temporary;

    #[test]
    fn a_key_is_found_in_its_file_and_as_somebody_typed_it() {
        let key = RecoveryKey::generate();
        let text = key.text(1_798_761_600);
        assert!(text.contains("# created: 2027-01-01T00:00:00Z"));
        assert_eq!(RecoveryKey::parse(&text).unwrap().public(), key.public());
        let typed = key.secret().to_lowercase();
        let (one, other) = typed.split_at(30);
        assert_eq!(RecoveryKey::parse(&format!("  {one} {other}\r\n")).unwrap().public(), key.public());
        for wrong in ["", "AGE-SECRET-KEY-1", &key.secret()[..60], &key.public()] {
            assert!(RecoveryKey::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_key_that_was_put_in_a_safe_is_not_replaced_and_one_that_was_put_there_is_taken() {
        let (folder, store) = temporary();
        let first = open(&store, folder.path()).await.unwrap();
        let path = folder.path().join(FILE);
        store
            .write("test", {
                let public = first.public_key.clone();
                move |tx| acknowledge(tx, &public)
            })
            .await
            .unwrap();
        std::fs::rename(&path, folder.path().join("safe.txt")).unwrap();
        let again = open(&store, folder.path()).await.unwrap();
        assert_eq!(again.public_key, first.public_key);
        assert!(again.written_down_at.is_some() && !path.exists());
        let other = RecoveryKey::generate();
        std::fs::write(&path, other.text(0)).unwrap();
        let taken = open(&store, folder.path()).await.unwrap();
        assert_eq!((taken.public_key, taken.written_down_at), (other.public(), None));
        std::fs::write(&path, "nothing").unwrap();
        let refused = open(&store, folder.path()).await.unwrap_err().to_string();
        assert!(refused.contains("AGE-SECRET-KEY-1"), "{refused}");
        let old = first.public_key;
        assert!(store.write("test", move |tx| acknowledge(tx, &old)).await.is_err());
    }

    #[tokio::test]
    async fn the_sealing_key_is_kept_for_those_who_copy_the_database() {
        let (folder, store) = temporary();
        let seal = Seal::open(folder.path(), None, true).unwrap();
        let key = open(&store, folder.path()).await.unwrap();
        let path = folder.path().join(super::super::SEALING_KEY);
        keep_sealing_key(&store, &seal, &key, &path).await.unwrap();
        let first = std::fs::read(&path).unwrap();
        keep_sealing_key(&store, &seal, &key, &path).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first, "the card is not written for nothing");
        let private = RecoveryKey::read(&folder.path().join(FILE)).unwrap();
        assert_eq!(
            age::decrypt(&private.0, &first).unwrap(),
            std::fs::read(folder.path().join("seal.key")).unwrap()
        );
    }
}
