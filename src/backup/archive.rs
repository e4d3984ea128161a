//! The bytes of a backup: age(gzip(tar)), written and read piece by piece.
//!
//! `make` writes one, and reads it again to be sure; `restore` reads one of somebody's. The format of age
//! is <https://age-encryption.org/v1>: it authenticates each piece of 64 KiB and the end.
//!
//! **Invariant:** reading holds one piece in memory, whatever the file says, and hands on no member under a
//! name or with a size or hash other than the manifest's.

use std::io::{BufReader, Error as IoError, ErrorKind, Read, Write};
use std::path::Path;

use age::{DecryptError, Decryptor, Encryptor, x25519};
use aws_lc_rs::digest::{Context, SHA256};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use tar::{Archive, Builder, EntryType, Header};

use super::manifest::{self, Manifest, Member, damaged};
use super::recovery_key::RecoveryKey;
use crate::error::{Error, Result};
use crate::id;

/// How much is read at once.
const PIECE: usize = 64 * 1024;
/// Of the archive's end: two empty blocks, and what fills the last record.
const END: u64 = 64 * 1024;

/// Writes a whole archive. `open` gives the bytes of each member of the manifest, in its order.
pub(super) fn write<W: Write>(
    out: W,
    recipient: &x25519::Recipient,
    manifest: &Manifest,
    mut open: impl FnMut(&Member) -> Result<Box<dyn Read>>,
) -> Result<W> {
    let recipients: [&dyn age::Recipient; 1] = [recipient];
    let encryptor = Encryptor::with_recipients(recipients.into_iter())
        .map_err(|source| Error::caused("the backup cannot be encrypted", source))?;
    let encrypted = encryptor.wrap_output(out).map_err(unwritten)?;
    let mut tar = Builder::new(GzEncoder::new(encrypted, Compression::fast()));
    let table = serde_json::to_vec_pretty(manifest)
        .map_err(|source| Error::caused("the backup's table of contents cannot be written", source))?;
    append(&mut tar, manifest::NAME, table.len() as u64, &mut table.as_slice())?;
    for member in &manifest.members {
        append(&mut tar, &member.name, member.size, &mut open(member)?)?;
    }
    let encrypted = tar.into_inner().and_then(GzEncoder::finish).map_err(unwritten)?;
    encrypted.finish().map_err(unwritten)
}

fn append<W: Write>(tar: &mut Builder<W>, name: &str, size: u64, bytes: &mut dyn Read) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o600);
    header.set_size(size);
    tar.append_data(&mut header, name, Exactly { bytes, left: size }).map_err(unwritten)
}

/// A member that became shorter would leave an archive that no reader understands.
struct Exactly<'a> {
    bytes: &'a mut dyn Read,
    left: u64,
}

impl Read for Exactly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let got = self.bytes.read(&mut buffer[..most])?;
        if got == 0 {
            return Err(IoError::new(ErrorKind::UnexpectedEof, "a file became shorter while it was copied"));
        }
        self.left -= got as u64;
        Ok(got)
    }
}

/// Reads a whole archive: `begin` hears the manifest before anything else is read, `take` gets each member.
pub(super) fn read(
    file: &Path,
    key: &RecoveryKey,
    begin: &mut dyn FnMut(&Manifest) -> Result<()>,
    take: &mut dyn FnMut(&Member, &mut dyn Read) -> Result<()>,
) -> Result<Manifest> {
    let opened = std::fs::File::open(file)
        .map_err(|error| Error::invalid(format!("{} cannot be read: {error}", file.display())))?;
    unpack(decrypt(BufReader::with_capacity(PIECE, opened), key)?, begin, take)
}

/// Reads what is inside the encryption.
fn unpack<R: Read>(
    decrypted: R,
    begin: &mut dyn FnMut(&Manifest) -> Result<()>,
    take: &mut dyn FnMut(&Member, &mut dyn Read) -> Result<()>,
) -> Result<Manifest> {
    let mut archive = Archive::new(GzDecoder::new(decrypted));
    let manifest = {
        let mut entries = archive.entries().map_err(unread)?;
        let mut next = || entries.next().transpose().map_err(unread);
        let first = next()?.ok_or_else(|| damaged("it is empty"))?;
        let manifest = table(first)?;
        begin(&manifest)?;
        for member in &manifest.members {
            let entry = next()?.ok_or_else(|| damaged("it ends too early"))?;
            check_header(&entry, &member.name, member.size)?;
            let mut hashed = Hashed { bytes: entry, hash: Context::new(&SHA256), size: 0 };
            take(member, &mut hashed)?;
            let found = id::hex(hashed.hash.finish().as_ref());
            if hashed.size != member.size || found != member.sha256 {
                return Err(damaged(&format!("{} in it was changed", member.name)));
            }
        }
        if next()?.is_some() {
            return Err(damaged("there is more in it than it says"));
        }
        manifest
    };
    // The checksum of gzip and the last piece of age come after the archive's end.
    let mut rest = archive.into_inner();
    let over = std::io::copy(&mut (&mut rest).take(END + 1), &mut std::io::sink()).map_err(unread)?;
    let mut behind = rest.into_inner();
    let more = std::io::copy(&mut (&mut behind).take(1), &mut std::io::sink()).map_err(unread)?;
    if over > END || more > 0 {
        return Err(damaged("something follows its end"));
    }
    Ok(manifest)
}

/// Reads what is inside the encryption and keeps nothing of it: anybody can encrypt to a public key, so it is as
/// hostile as the rest.
///
/// # Errors
/// [`Error::Invalid`] in words: it is not whole.
pub fn verify_decrypted(bytes: &[u8]) -> Result<Manifest> {
    unpack(bytes, &mut |_| Ok(()), &mut swallow)
}

fn swallow(_: &Member, bytes: &mut dyn Read) -> Result<()> {
    std::io::copy(bytes, &mut std::io::sink()).map(drop).map_err(unread)
}

/// Reads a whole archive and keeps nothing of it.
///
/// # Errors
/// [`Error::Invalid`] in words: it is of another recovery key, or not whole.
pub fn verify(file: &Path, key: &RecoveryKey) -> Result<Manifest> {
    read(file, key, &mut |_| Ok(()), &mut swallow)
}

fn decrypt<R: Read>(encrypted: R, key: &RecoveryKey) -> Result<impl Read + use<R>> {
    let decryptor = Decryptor::new(encrypted).map_err(|error| undecrypted(&error, key))?;
    decryptor.decrypt(std::iter::once(key.identity())).map_err(|error| undecrypted(&error, key))
}

fn undecrypted(error: &DecryptError, key: &RecoveryKey) -> Error {
    match error {
        DecryptError::NoMatchingKeys => Error::invalid(format!(
            "this backup is encrypted to another recovery key than {}; give the recovery-key.txt of the server that \
             made it, with --key-file",
            key.public()
        )),
        DecryptError::InvalidHeader | DecryptError::UnknownFormat => {
            damaged("it does not begin like a backup of russet")
        }
        DecryptError::Io(error) if error.kind() == ErrorKind::UnexpectedEof => damaged("it ends too early"),
        DecryptError::Io(error) => Error::invalid(format!("the backup cannot be read: {error}")),
        other => damaged(&format!("{other}")),
    }
}

fn table(mut entry: tar::Entry<'_, impl Read>) -> Result<Manifest> {
    let size = entry.size();
    check_header(&entry, manifest::NAME, size)?;
    if size > manifest::LARGEST {
        return Err(damaged("its table of contents is too large"));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(unread)?;
    Manifest::parse(&bytes)
}

fn check_header(entry: &tar::Entry<'_, impl Read>, name: &str, size: u64) -> Result<()> {
    let header = entry.header();
    if header.entry_type() != EntryType::Regular
        || entry.size() != size
        || *entry.path_bytes() != *name.as_bytes()
    {
        return Err(damaged(&format!("{name} is not where it should be")));
    }
    Ok(())
}

struct Hashed<R> {
    bytes: R,
    hash: Context,
    size: u64,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let got = self.bytes.read(buffer)?;
        self.hash.update(&buffer[..got]);
        self.size += got as u64;
        Ok(got)
    }
}

/// The SHA-256 of a file in hexadecimal, and its size.
pub(super) fn hash(path: &Path) -> Result<(String, u64)> {
    let failed = |source| Error::caused(format!("{} cannot be read", path.display()), source);
    let bytes = std::fs::File::open(path).map_err(failed)?;
    let mut hashed = Hashed { bytes, hash: Context::new(&SHA256), size: 0 };
    std::io::copy(&mut hashed, &mut std::io::sink()).map_err(failed)?;
    Ok((id::hex(hashed.hash.finish().as_ref()), hashed.size))
}

fn unwritten(source: IoError) -> Error {
    let words = match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "the backup cannot be written, the disk is full; make room there, or keep fewer with [backup] keep"
        }
        _ => "the backup cannot be written",
    };
    Error::caused(words, source)
}

/// What the layers underneath say of bytes that somebody changed.
fn unread(error: IoError) -> Error {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::PermissionDenied => {
            Error::caused("the backup cannot be unpacked", error)
        }
        _ => damaged(&id::printable(&error.to_string())),
    }
}
