//! TLS mode `files`: a certificate and a key that somebody else renews.
//!
//! `server` loads them at the start and then lets [`CertificateFiles::watch`] run: it looks every few
//! seconds, and at once on SIGHUP, which is what renewal tools send.
//!
//! **Invariant:** files that do not fit together are logged once and never presented; the listeners
//! go on with what they have.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use crate::error::{Error, Result};
use crate::server::tls::{Pair, ServerCertificate};

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(5);

/// The two files and what they looked like when they were last read.
#[derive(Debug)]
pub struct CertificateFiles {
    certificate: PathBuf,
    key: PathBuf,
    seen: [Option<(SystemTime, u64, u64)>; 2],
}

impl CertificateFiles {
    /// Paths of PEM files: the chain, leaf first, and its key.
    pub fn new(certificate: PathBuf, key: PathBuf) -> Self {
        Self { certificate, key, seen: [None; 2] }
    }

    /// Reads both.
    ///
    /// # Errors
    /// A sentence that names the file and what to do.
    pub fn load(&mut self) -> Result<ServerCertificate> {
        // Looked at before it is read: a change in between is seen next time.
        self.seen = self.look();
        ServerCertificate::new(self.read()?)
    }

    /// Presents the files' new content if they changed, or in any case if `forced`; answers whether
    /// it did.
    ///
    /// # Errors
    /// They changed and cannot be used; `server` keeps what it had.
    pub fn refresh(&mut self, server: &ServerCertificate, forced: bool) -> Result<bool> {
        let look = self.look();
        if look == self.seen && !forced {
            return Ok(false);
        }
        self.seen = look;
        server.replace(self.read()?)?;
        Ok(true)
    }

    /// Refreshes for ever and calls `changed` after each change; ends with the task that runs it.
    ///
    /// # Errors
    /// SIGHUP cannot be listened for.
    pub async fn watch(mut self, server: ServerCertificate, changed: impl Fn() + Send) -> Result<()> {
        let mut hangup = signal(SignalKind::hangup())
            .map_err(|source| Error::caused("SIGHUP cannot be listened for", source))?;
        loop {
            let forced = tokio::select! {
                _ = hangup.recv() => true,
                () = tokio::time::sleep(EVERY) => false,
            };
            match self.refresh(&server, forced) {
                Ok(true) => {
                    info!(certificate = %self.certificate.display(), "the TLS certificate was loaded again");
                    changed();
                }
                Ok(false) => {}
                Err(wrong) => {
                    error!("the new TLS certificate is not used, the old one stays: {}", wrong.chain());
                }
            }
        }
    }

    fn read(&self) -> Result<Pair> {
        Pair::read(&self.certificate, &self.key)
    }

    fn look(&self) -> [Option<(SystemTime, u64, u64)>; 2] {
        use std::os::unix::fs::MetadataExt;
        [&self.certificate, &self.key].map(|path| {
            let found = std::fs::metadata(path).ok()?;
            // The inode changes when a file is put in place by renaming, however coarse the times are.
            Some((found.modified().ok()?, found.len(), found.ino()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn write(files: &CertificateFiles, name: &str) -> KeyPair {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
        put(&files.certificate, &certificate.pem());
        put(&files.key, &key.serialize_pem());
        key
    }

    fn put(path: &std::path::Path, text: &str) {
        let new = path.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    #[test]
    fn renewed_files_are_presented_and_broken_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = CertificateFiles::new(folder.path().join("chain.pem"), folder.path().join("key.pem"));
        let missing = files.load().unwrap_err().to_string();
        assert!(missing.contains("chain.pem") && missing.contains("[tls] certificate"), "{missing}");

        write(&files, "one.example.org");
        let server = files.load().unwrap();
        let first = server.pair();
        assert!(!files.refresh(&server, false).unwrap());

        write(&files, "two.example.org");
        assert!(files.refresh(&server, false).unwrap());
        let second = server.pair();
        assert_ne!(first.chain, second.chain);

        put(&files.key, &KeyPair::generate().unwrap().serialize_pem());
        let refused = files.refresh(&server, false).unwrap_err().to_string();
        assert!(refused.contains("does not belong"), "{refused}");
        assert_eq!(server.pair().chain, second.chain);
        assert!(!files.refresh(&server, false).unwrap(), "said once, not every five seconds");

        put(&files.certificate, "not PEM");
        assert!(files.refresh(&server, false).is_err());
        assert!(files.refresh(&server, true).is_err(), "a person who asks is answered");
        assert_eq!(server.pair().chain, second.chain);
    }
}
