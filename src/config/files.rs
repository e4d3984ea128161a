//! Whether the files that the configuration names can be read.
//!
//! Called by `check` and by `serve`, after loading and apart from it: the same configuration may be
//! written on one machine and used on another.
//!
//! **Invariant:** files are opened for reading only, and nothing of what they hold is repeated.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{Mistake, Reading};

/// How the first line of a PEM block with a certificate ends, and that of one with any private key.
pub(super) const CERTIFICATE: &str = "CERTIFICATE-----";
pub(super) const PRIVATE_KEY: &str = "PRIVATE KEY-----";

/// More than any chain or list of roots; a larger file is the wrong file.
const LARGEST_PEM: u64 = 4 << 20;

impl Reading {
    /// A mistake for each file that is named and cannot be used: missing, unreadable, not PEM.
    pub fn missing_files(&self) -> Vec<Mistake> {
        let unusable = self.settings.files.iter().filter_map(|file| {
            let words = read(&file.path, file.label).err()?;
            Some(self.settings.told_at(&[file.key], format!("{} {words}", file.path.display())))
        });
        unusable.collect()
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

    use super::super::load::read;
    use super::*;

    /// `line: key: words` of every mistake, without the path that the words begin with.
    fn mistakes(file: &Path, text: &str) -> Vec<String> {
        write(file, text).unwrap();
        let reading = read(Some(file), std::iter::empty()).unwrap();
        let folder = format!("{}/", file.parent().unwrap().display());
        reading.missing_files().iter().map(|mistake| mistake.to_string().replace(&folder, "")).collect()
    }

    #[test]
    fn files_that_are_missing_or_not_pem_are_named_with_their_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("russet.toml");
        std::fs::create_dir(folder.path().join("etc")).unwrap();
        assert!(mistakes(&file, "").is_empty());

        let tls = "[tls]\nmode = \"files\"\ncertificate = \"chain.pem\"\nprivate_key = \"key.pem\"\n";
        let found = mistakes(&file, &format!("{tls}[apns]\ntrust = \"etc\"\n"));
        let missing = "does not exist; correct the path or put the file there";
        assert_eq!(
            found,
            [
                format!("russet.toml:3: tls.certificate: chain.pem {missing}"),
                format!("russet.toml:4: tls.private_key: key.pem {missing}"),
                "russet.toml:6: apns.trust: etc is not a file; write the path of a file".to_owned(),
            ]
        );
        // What is named and not used is no mistake; what is named beside another mistake is.
        assert!(mistakes(&file, &tls.replace("\"files\"", "\"self-signed\"")).is_empty());
        assert_eq!(mistakes(&file, "[tls]\nmode = \"files\"\ncertificate = \"chain.pem\"\n").len(), 1);

        let pem = |name: &str, label: &str| {
            write(folder.path().join(name), format!("-----BEGIN {label}-----\n")).unwrap();
        };
        pem("chain.pem", "CERTIFICATE");
        pem("key.pem", "CERTIFICATE");
        let found = mistakes(&file, tls);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("key.pem has no private key in it"), "{}", found[0]);
        pem("key.pem", "EC PRIVATE KEY");
        assert!(mistakes(&file, tls).is_empty());
    }
}
