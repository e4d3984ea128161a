//! Keys and escrowed secrets at rest.
//!
//! AES-256-GCM with a random nonce and the name of what is sealed as associated data, so that one
//! sealed value cannot stand in for another. The key is a file of mode 0600 beside the database, or
//! a systemd credential (`LoadCredential=seal.key`, systemd.exec(5)); a copied database alone
//! discloses nothing.
//!
//! **Invariant:** a lost key is never replaced by a new one while something is sealed with it.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::error::{Error, Result};
use crate::id;

/// The key's file in the data folder, and the credential's name.
pub const FILE: &str = "seal.key";

/// The sealing key; cheap to clone.
#[derive(Clone)]
pub struct Seal(Arc<Inner>);

struct Inner {
    key: LessSafeKey,
    /// The key's own bytes, which a backup carries.
    bytes: [u8; 32],
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(…)")
    }
}

impl Seal {
    /// Reads the key from `$CREDENTIALS_DIRECTORY/seal.key`, else from `<data_dir>/seal.key`, which is
    /// made when `may_create` says that nothing is sealed yet.
    ///
    /// # Errors
    /// The key is missing, unreadable or not 32 bytes.
    pub fn open(data_dir: &Path, credentials: Option<&Path>, may_create: bool) -> Result<Self> {
        let credential = credentials.map(|folder| folder.join(FILE)).filter(|path| path.exists());
        let path = credential.unwrap_or_else(|| data_dir.join(FILE));
        match std::fs::read(&path) {
            Ok(bytes) => Self::from_bytes(&bytes).ok_or_else(|| {
                Error::internal(format!(
                    "{} is not a sealing key (32 bytes); restore it from a backup",
                    path.display()
                ))
            }),
            Err(missing) if missing.kind() == std::io::ErrorKind::NotFound && may_create => {
                let key = id::random::<32>();
                write_private(&path, &key)?;
                Self::from_bytes(&key).ok_or_else(|| Error::internal("a new sealing key was refused"))
            }
            Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => Err(Error::internal(format!(
                "the sealing key {} is missing, and the database holds keys that only it opens; \
                 put it back from a backup of the data folder",
                path.display()
            ))),
            Err(source) => {
                Err(Error::caused(format!("the sealing key {} cannot be read", path.display()), source))
            }
        }
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; 32] = bytes.try_into().ok()?;
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes).ok()?);
        Some(Self(Arc::new(Inner { key, bytes })))
    }

    /// The key itself, for what is encrypted to the recovery key and for nothing else.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0.bytes
    }

    /// Seals `plain` under `name`: nonce, ciphertext, tag.
    pub fn seal(&self, name: &str, plain: &[u8]) -> Vec<u8> {
        let nonce = id::random::<NONCE_LEN>();
        let mut sealed = plain.to_vec();
        self.0
            .key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(name.as_bytes()),
                &mut sealed,
            )
            .expect("AES-GCM seals anything under 64 GiB");
        let mut out = nonce.to_vec();
        out.append(&mut sealed);
        out
    }

    /// Opens what [`Seal::seal`] made under the same `name`.
    ///
    /// # Errors
    /// Another key or name sealed it, or it was changed.
    pub fn open_sealed(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>> {
        let wrong = || {
            Error::internal(
                "a sealed secret does not open with this sealing key; put back the seal.key that belongs to this database",
            )
        };
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(wrong)?;
        let mut plain = rest.to_vec();
        let length = self
            .0
            .key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(name.as_bytes()), &mut plain)
            .map_err(|_| wrong())?
            .len();
        plain.truncate(length);
        Ok(plain)
    }
}

/// The folder that a path is in; a bare name is in the working folder, which `parent` calls "".
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a new file that only its owner reads, on the disk before it is relied on. A power cut leaves
/// the whole file or none: an empty key would stop every later start.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let unfinished = path.with_added_extension("new");
    let write = || -> std::io::Result<()> {
        // What a power cut left of an earlier attempt; nobody else writes here, the folder is locked.
        if unfinished.exists() {
            std::fs::remove_file(&unfinished)?;
        }
        let mut file = std::fs::File::options().create_new(true).write(true).mode(0o600).open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&unfinished, path)?;
        std::fs::File::open(folder_of(path))?.sync_all()
    };
    write().map_err(|source| Error::caused(format!("{} cannot be written", path.display()), source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_under_its_own_name_only() {
        let folder = tempfile::tempdir().unwrap();
        let seal = Seal::open(folder.path(), None, true).unwrap();
        let sealed = seal.seal("a", b"secret");
        let again = Seal::open(folder.path(), None, false).unwrap();
        assert_eq!(again.open_sealed("a", &sealed).unwrap(), b"secret");
        assert!(again.open_sealed("b", &sealed).is_err());
        assert!(again.open_sealed("a", &sealed[..20]).is_err());
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
    }

    #[test]
    fn a_bare_name_is_in_the_working_folder() {
        assert_eq!(folder_of(Path::new("a.backup")), Path::new("."));
        assert_eq!(folder_of(Path::new("/srv/a.backup")), Path::new("/srv"));
    }

    #[test]
    fn a_lost_key_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let lost = Seal::open(folder.path(), None, false).unwrap_err();
        assert!(lost.to_string().contains("put it back"), "{lost}");
    }

    #[test]
    fn what_a_power_cut_left_of_a_key_is_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let unfinished = folder.path().join("seal.key.new");
        std::fs::write(&unfinished, b"").unwrap();
        let seal = Seal::open(folder.path(), None, true).unwrap();
        assert!(!unfinished.exists());
        let again = Seal::open(folder.path(), None, false).unwrap();
        assert_eq!(again.open_sealed("a", &seal.seal("a", b"secret")).unwrap(), b"secret");
    }

    #[test]
    fn the_key_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        Seal::open(folder.path(), None, true).unwrap();
        let mode = std::fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
