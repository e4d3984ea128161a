//! Whether Apple's systems take a TLS certificate, and why not.
//!
//! The rules: RSA of 2048 bits or P-256 and larger, signatures with SHA-256 or better, the name as subjectAltName, the
//! purpose serverAuth, at most 825 days, 398 from an authority that is in the systems' own store (Apple support articles
//! 103769, 102028 and 126655).
//!
//! `doctor` holds what the public address shows against it; a test holds what this server makes itself.

use rustls::pki_types::CertificateDer;

use super::asn1::{OBJECT_IDENTIFIER, Oid, Reader};
use super::certificate::Certificate;
use super::key::{Hash, PublicKind, scheme};
use crate::clock::{DAY, Seconds, rfc3339};

const EXTENDED_KEY_USAGE: Oid = Oid::new_unwrap("2.5.29.37");
const SERVER_AUTH: Oid = Oid::new_unwrap("1.3.6.1.5.5.7.3.1");
/// The longest life of a certificate that a person or a profile made trusted.
const LONGEST: Seconds = 825 * DAY;
/// The longest life of one from a public authority.
const LONGEST_PUBLIC: Seconds = 398 * DAY;

/// Something that Apple's systems would not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// In kebab-case: `expired`, `key`, `signature`, `name`, `lifetime`, `purpose`, `not-yet`, `damaged`.
    pub code: &'static str,
    /// A sentence.
    pub words: String,
}

/// What is wrong with a chain, leaf first, for `host`. `is_public` says that its root is in the systems' own store.
pub fn judge(chain: &[CertificateDer<'_>], host: &str, now: Seconds, is_public: bool) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut say = |code, words: String| found.push(Problem { code, words });
    let Some(leaf) = chain.first().and_then(|der| Certificate::from_der(der).ok()) else {
        say("damaged", "The certificate cannot be read.".to_owned());
        return found;
    };
    if now > leaf.not_after() {
        say("expired", format!("It ended on {}.", rfc3339(leaf.not_after())));
    }
    if now < leaf.not_before() {
        say("not-yet", format!("It is not valid before {}.", rfc3339(leaf.not_before())));
    }
    if !names(&leaf, host) {
        let named = leaf.dns_names().join(", ");
        let named = if named.is_empty() { "no name".to_owned() } else { named };
        say("name", format!("It names {named}, and devices know this server as {host}."));
    }
    let longest = if is_public { LONGEST_PUBLIC } else { LONGEST };
    let life = leaf.not_after() - leaf.not_before();
    if life > longest {
        say(
            "lifetime",
            format!("It is valid for {} days, and Apple takes {} at most.", life / DAY, longest / DAY),
        );
    }
    if !is_for_servers(&leaf) {
        say("purpose", "It is not for servers: the purpose serverAuth is missing.".to_owned());
    }
    for der in chain {
        let Ok(one) = Certificate::from_der(der) else {
            say("damaged", "A certificate of the chain cannot be read.".to_owned());
            continue;
        };
        let whose = one.subject().to_string();
        match one.public_key().map(|key| key.kind()) {
            Ok(PublicKind::Rsa { bits }) if bits < 2048 => {
                say("key", format!("The key of {whose} has {bits} bits, and Apple takes RSA from 2048 on."));
            }
            Ok(_) => {}
            Err(_) => say("key", format!("The key of {whose} is neither RSA nor P-256 or larger.")),
        }
        // How a root signed itself is nobody's concern.
        let is_root = one.issuer().der() == one.subject().der();
        if !is_root && !is_signed_well(der) {
            say("signature", format!("{whose} is signed with something older than SHA-256."));
        }
    }
    found
}

fn names(leaf: &Certificate, host: &str) -> bool {
    if let Ok(address) = host.parse() {
        return leaf.ip_addresses().contains(&address);
    }
    let host = host.to_ascii_lowercase();
    leaf.dns_names().iter().any(|name| {
        let name = name.to_ascii_lowercase();
        // A wildcard is for one label (RFC 6125 section 6.4.3).
        match name.strip_prefix("*.") {
            Some(rest) => host.split_once('.').is_some_and(|(_, of)| of == rest),
            None => name == host,
        }
    })
}

fn is_for_servers(leaf: &Certificate) -> bool {
    let Some(value) = leaf.extension(EXTENDED_KEY_USAGE) else { return false };
    let Ok(mut purposes) = Reader::sequence(value) else { return false };
    while let Ok(purpose) = purposes.value(OBJECT_IDENTIFIER) {
        if purpose == SERVER_AUTH.as_bytes() {
            return true;
        }
    }
    false
}

/// Whether the outer signatureAlgorithm is RSA or ECDSA with SHA-256 or longer.
fn is_signed_well(der: &[u8]) -> bool {
    let algorithm = || -> Option<&[u8]> {
        let mut outer = Reader::sequence(der).ok()?;
        outer.element().ok()?;
        Some(outer.algorithm().ok()?.0)
    };
    match algorithm().map(scheme) {
        Some(Some((_, Some(hash)))) => hash != Hash::Sha1,
        // RSASSA-PSS and what is newer than this list say their hash elsewhere.
        Some(_) => true,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
    use time::OffsetDateTime;

    use super::*;

    const NOW: Seconds = 1_800_000_000;

    fn made(change: impl FnOnce(&mut CertificateParams)) -> Vec<CertificateDer<'static>> {
        let mut parameters = CertificateParams::new(["mdm.example.org".to_owned()]).unwrap();
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        parameters.not_before = at(NOW - DAY);
        parameters.not_after = at(NOW + 100 * DAY);
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut parameters);
        vec![parameters.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()]
    }

    fn codes(chain: &[CertificateDer<'_>], host: &str, is_public: bool) -> Vec<&'static str> {
        judge(chain, host, NOW, is_public).iter().map(|problem| problem.code).collect()
    }

    #[test]
    fn each_rule_of_apple_has_its_word() {
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        let host = "mdm.example.org";
        assert_eq!(codes(&made(|_| {}), host, true), [""; 0]);
        assert_eq!(codes(&made(|_| {}), "other.example.org", true), ["name"]);
        let wild = made(|one| {
            one.subject_alt_names = vec![rcgen::SanType::DnsName("*.example.org".try_into().unwrap())];
        });
        assert_eq!(codes(&wild, host, true), [""; 0]);
        assert_eq!(codes(&wild, "a.mdm.example.org", true), ["name"]);
        assert_eq!(codes(&made(|one| one.not_after = at(NOW - 1)), host, true), ["expired"]);
        assert_eq!(codes(&made(|one| one.not_before = at(NOW + 1)), host, true), ["not-yet"]);
        let long = made(|one| one.not_after = at(NOW + 500 * DAY));
        assert_eq!((codes(&long, host, true), codes(&long, host, false)), (vec!["lifetime"], vec![]));
        let longer = made(|one| one.not_after = at(NOW + 900 * DAY));
        assert_eq!(codes(&longer, host, false), ["lifetime"]);
        assert_eq!(codes(&made(|one| one.extended_key_usages.clear()), host, true), ["purpose"]);
        assert_eq!(codes(&[CertificateDer::from(vec![0; 9])], host, true), ["damaged"]);
        assert_eq!(codes(&[], host, true), ["damaged"]);
    }
}
