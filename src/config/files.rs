//! Whether the files that the configuration names can be read.
//!
//! Called by `check` and by `serve`, after loading and apart from it: the same configuration may be
//! written on one machine and used on another.
//!
//! **Invariant:** files are opened for reading only, and nothing of what they hold is repeated.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{Config, Location, Mistake, TlsMode};

/// More than any chain or list of roots; a larger file is the wrong file.
const LARGEST_PEM: u64 = 4 << 20;

impl Config {
    /// A mistake for each file that is named and cannot be used: missing, unreadable, not PEM.
    pub fn check_files(&self) -> Vec<Mistake> {
        let certificates = "CERTIFICATE-----";
        let mut mistakes = Vec::new();
        let mut look = |key: &str, path: &Path, label: Option<&str>| {
            if let Err(words) = read(path, label) {
                let words = format!("{} {words}", path.display());
                mistakes.push(Mistake { file: None, line: None, key: key.to_owned(), words });
            }
        };
        if let TlsMode::Files { certificate, private_key } = &self.tls.mode {
            look("tls.certificate", certificate, Some(certificates));
            look("tls.private_key", private_key, Some("PRIVATE KEY-----"));
        }
        for (key, trust) in [
            ("tls.acme.trust", &self.tls.acme.trust),
            ("apns.trust", &self.apns.trust),
            ("updates.catalogue_trust", &self.updates.catalogue_trust),
        ] {
            if let Some(path) = trust {
                look(key, path, Some(certificates));
            }
        }
        if let Location::Path(path) = &self.updates.catalogue {
            look("updates.catalogue", path, None);
        }
        mistakes
    }
}

/// The end of a sentence that begins with the path.
fn read(path: &Path, label: Option<&str>) -> Result<(), String> {
    let refused = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist; correct the path or put the file there".to_owned(),
        std::io::ErrorKind::PermissionDenied => {
            "may not be read by this user; change its owner or mode".to_owned()
        }
        _ => format!("cannot be read ({error}); correct the path or the file"),
    };
    // Asked before opening, because opening a pipe would wait for its writer.
    if !path.metadata().map_err(refused)?.is_file() {
        return Err("is not a file; write the path of a file".into());
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(LARGEST_PEM).read_to_end(&mut bytes)).map_err(refused)?;
    match label {
        Some(label) if !String::from_utf8_lossy(&bytes).contains(label) => {
            let wanted = label.trim_end_matches('-').to_lowercase();
            Err(format!("has no {wanted} in it; write the path of a PEM file that has one"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::write;

    use super::*;

    #[test]
    fn files_that_are_missing_or_not_pem_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, private_key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
        let mut config = Config::default();
        assert!(config.check_files().is_empty());

        config.tls.mode =
            TlsMode::Files { certificate: certificate.clone(), private_key: private_key.clone() };
        config.apns.trust = Some(folder.path().to_owned());
        let mistakes = config.check_files();
        assert_eq!(
            mistakes.iter().map(|mistake| mistake.key.as_str()).collect::<Vec<_>>(),
            ["tls.certificate", "tls.private_key", "apns.trust"]
        );
        assert!(
            mistakes[0].words.ends_with("chain.pem does not exist; correct the path or put the file there")
        );
        assert!(mistakes[2].words.ends_with("is not a file; write the path of a file"));

        config.apns.trust = None;
        write(&certificate, "-----BEGIN CERTIFICATE-----\n").unwrap();
        write(&private_key, "-----BEGIN CERTIFICATE-----\n").unwrap();
        let mistakes = config.check_files();
        assert_eq!(mistakes.len(), 1);
        assert!(mistakes[0].words.contains("has no private key in it"), "{}", mistakes[0]);
        write(&private_key, "-----BEGIN EC PRIVATE KEY-----\n").unwrap();
        assert!(config.check_files().is_empty());
    }
}
