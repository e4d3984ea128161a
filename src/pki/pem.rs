//! PEM: DER as text between `-----BEGIN …-----` lines (RFC 7468).
//!
//! Used wherever a person hands us a file: push certificates, TLS files, trust roots.
//!
//! **Invariant:** text around and between the blocks is ignored, since `openssl` writes some.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// One block.
#[derive(Clone, PartialEq, Eq)]
pub struct Block {
    /// What stands after `BEGIN`, e.g. `CERTIFICATE`.
    pub label: String,
    /// Whether the old `Proc-Type: 4,ENCRYPTED` header is there; `der` is ciphertext then.
    pub encrypted: bool,
    pub der: Vec<u8>,
}

/// Why text cannot be read as PEM.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    #[error("the block {0} has no END line; the file is cut short, copy it again")]
    Unfinished(String),
    #[error("the block {0} is not base64; the file is damaged, copy it again")]
    Base64(String),
}

/// All blocks of `text`, in order; none is not an error.
pub fn blocks(text: &str) -> Result<Vec<Block>, PemError> {
    let mut found = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")) else {
            continue;
        };
        let end = format!("-----END {label}-----");
        let (mut encrypted, mut body, mut finished) = (false, String::new(), false);
        for line in lines.by_ref() {
            if line == end {
                finished = true;
                break;
            }
            if line.contains(':') {
                encrypted |= line.contains("ENCRYPTED");
            } else {
                body.push_str(line);
            }
        }
        if !finished {
            return Err(PemError::Unfinished(label.to_owned()));
        }
        // The initialisation vector of an encrypted block may wrap; it is of no use to us either way.
        let der = if encrypted { Ok(Vec::new()) } else { STANDARD.decode(body) };
        let der = der.map_err(|_| PemError::Base64(label.to_owned()))?;
        found.push(Block { label: label.to_owned(), encrypted, der });
    }
    Ok(found)
}

/// One block with lines of 64 columns.
pub fn encode(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn blocks_are_found_between_other_lines() {
        let text = format!("Bag Attributes\r\n{}words\n{}", encode("A", &[1; 49]), encode("B C", b""));
        let found = blocks(&text.replace('\n', "\r\n")).unwrap();
        assert_eq!(found.iter().map(|block| block.label.as_str()).collect::<Vec<_>>(), ["A", "B C"]);
        assert_eq!(found[0].der, [1; 49]);
        assert!(text.lines().all(|line| line.len() <= 64));
    }

    #[test]
    fn damaged_blocks_are_named() {
        let cut = blocks("-----BEGIN X-----\nAAAA\n").err();
        assert_eq!(cut, Some(PemError::Unfinished("X".to_owned())));
        let damaged = blocks("-----BEGIN X-----\n!!\n-----END X-----").err();
        assert_eq!(damaged, Some(PemError::Base64("X".to_owned())));
    }

    proptest! {
        #[test]
        fn blocks_are_read_back(der in proptest::collection::vec(any::<u8>(), 0..300)) {
            let found = blocks(&encode("CERTIFICATE", &der)).unwrap();
            prop_assert_eq!(&found[0].der, &der);
        }
    }
}
