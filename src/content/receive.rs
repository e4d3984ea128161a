//! Bytes on their way in: hashed while they come, in memory while they are few, in a file beyond that.
//!
//! **Invariant:** a file has its final name only when all of it is on the disk.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use aws_lc_rs::digest::{Context, SHA256};
use axum::body::{Body, Bytes};
use http_body_util::BodyExt;

use super::{Contents, FOLDER, IN_DATABASE, INCOMING, LARGEST, Pending, Place, Received};
use crate::error::{Error, Result};
use crate::id;

impl Contents {
    /// Reads a body to its end. The route bounds it; what is beyond [`LARGEST`] is refused here too.
    ///
    /// # Errors
    /// `Invalid` for a body that breaks off or is too large; the disk's, in words.
    pub async fn receive(&self, mut body: Body) -> Result<Received> {
        let mut arriving = Arriving::new(self);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|broken| {
                Error::invalid(format!(
                    "The body did not arrive whole ({broken}); nothing was kept. Send it again."
                ))
            })?;
            let Ok(piece) = frame.into_data() else { continue };
            // A card may take long to write: other requests do not wait for it.
            arriving = if arriving.fits(&piece) {
                arriving.add(&piece)?;
                arriving
            } else {
                blocking(move || arriving.add(&piece).map(|()| arriving)).await?
            };
        }
        blocking(move || arriving.finish()).await
    }

    /// As [`Contents::receive`], for bytes that are here already.
    ///
    /// # Errors
    /// The disk's, in words.
    pub fn receive_bytes(&self, bytes: &[u8]) -> Result<Received> {
        let mut arriving = Arriving::new(self);
        arriving.add(bytes)?;
        arriving.finish()
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|source| Error::caused("what was sent could not be written", source))?
}

struct Arriving {
    contents: Contents,
    hash: Context,
    size: u64,
    bytes: Vec<u8>,
    file: Option<Incoming>,
}

/// A file that is being written; gone with this unless it was finished.
struct Incoming {
    contents: Contents,
    name: String,
    file: std::fs::File,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // After it was given its final name there is nothing here.
        let _ = std::fs::remove_file(self.contents.path(&self.name));
    }
}

impl Arriving {
    fn new(contents: &Contents) -> Self {
        let hash = Context::new(&SHA256);
        Self { contents: contents.clone(), hash, size: 0, bytes: Vec::new(), file: None }
    }

    fn fits(&self, piece: &Bytes) -> bool {
        self.file.is_none() && self.size + piece.len() as u64 <= IN_DATABASE
    }

    fn add(&mut self, piece: &[u8]) -> Result<()> {
        self.hash.update(piece);
        self.size += piece.len() as u64;
        if self.size > LARGEST {
            return Err(Error::invalid(format!("A file has at most {LARGEST} bytes.")));
        }
        if self.file.is_none() && self.size > IN_DATABASE {
            let mut incoming = Incoming::create(&self.contents)?;
            incoming.write(&std::mem::take(&mut self.bytes))?;
            self.file = Some(incoming);
        }
        match &mut self.file {
            Some(incoming) => incoming.write(piece),
            None => {
                self.bytes.extend_from_slice(piece);
                Ok(())
            }
        }
    }

    fn finish(self) -> Result<Received> {
        let sha256 = id::hex(self.hash.finish().as_ref());
        let place = match self.file {
            None => Place::Memory(self.bytes),
            Some(incoming) => Place::File(incoming.finish(&sha256)?),
        };
        Ok(Received { sha256, size: self.size, place })
    }
}

impl Incoming {
    fn create(contents: &Contents) -> Result<Self> {
        let name = format!("{INCOMING}{}", id::hex(&id::random::<16>()));
        let create = || {
            std::fs::DirBuilder::new().recursive(true).create(&contents.0.folder)?;
            std::fs::File::options().create_new(true).write(true).mode(0o600).open(contents.path(&name))
        };
        let file = create().map_err(failed)?;
        Ok(Self { contents: contents.clone(), name, file })
    }

    fn write(&mut self, piece: &[u8]) -> Result<()> {
        self.file.write_all(piece).map_err(failed)
    }

    fn finish(self, sha256: &str) -> Result<Pending> {
        self.file.sync_all().map_err(failed)?;
        let mut pending = self.contents.pending();
        std::fs::rename(self.contents.path(&self.name), self.contents.path(sha256)).map_err(failed)?;
        *pending.entry(sha256.to_owned()).or_default() += 1;
        drop(pending);
        let kept = Pending { contents: self.contents.clone(), name: sha256.to_owned() };
        std::fs::File::open(&self.contents.0.folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(kept)
    }
}

fn failed(source: std::io::Error) -> Error {
    let words = match source.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            "the disk is full: nothing was kept; free space on the disk that holds the data folder".to_owned()
        }
        _ => format!("nothing was kept: the folder {FOLDER} in the data folder cannot be written"),
    };
    Error::caused(words, source)
}
