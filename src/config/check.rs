//! The checks of single values that are not addresses.
//!
//! Called by `tables` and `appliance`: each takes what was written and answers the value, or a
//! sentence that says what to write instead.
//!
//! **Invariant:** a check looks at the text alone; it opens no file and asks no network.

use std::net::IpAddr;

use ipnet::IpNet;

use super::mistake::nearest;
use crate::clock::{Seconds, parse_duration};

/// Let's Encrypt's directory (RFC 8555 section 7.1.1).
pub(super) const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// A server whose clock is right.
pub(super) const TIME: &str = "https://www.apple.com/";

/// Where mdmcert.download takes requests.
pub(super) const MDMCERT: &str = "https://mdmcert.download/api/v1/signrequest";

/// Where Apple publishes the versions of its operating systems.
pub(super) const APPLE_CATALOGUE: &str = "https://gdmf.apple.com/v2/pmv";

/// One of a few words.
pub(super) fn one_of<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let words: Vec<String> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    Err(match nearest(text, choices.iter().map(|(word, _)| *word)) {
        Some(near) => format!("{text:?} is none of {}; did you mean \"{near}\"?", words.join(", ")),
        None => format!("{text:?} is not a value of this setting; write {}", words.join(" or ")),
    })
}

/// A length of time, in seconds.
pub(super) fn duration(text: &str) -> Result<Seconds, String> {
    parse_duration(text).ok_or_else(|| {
        format!("{text:?} is not a length of time; write for example \"24h\", \"30m\" or \"7d\"")
    })
}

/// One line of text that people read.
pub(super) fn line(text: &str, longest: usize, what: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err(format!("this is empty; write {what}"));
    }
    if text.chars().count() > longest || text.contains(char::is_control) {
        return Err(format!("this has to be one line of at most {longest} characters; write {what}"));
    }
    Ok(text.to_owned())
}

/// A reverse DNS name such as `org.example.school`.
pub(super) fn reverse_dns(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    // Payload identifiers go on after the prefix, and tools cut them at 255 characters.
    if text.len() <= 128 && text.contains('.') && text.split('.').all(label) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{text:?} is not a reverse DNS name of at most 128 letters, digits, dots and hyphens; write for example \"org.example.school\""
        ))
    }
}

/// The addresses of proxies: a CIDR or a single address.
pub(super) fn proxies(text: &str) -> Result<IpNet, String> {
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
        format!("{text:?} is not an address or a CIDR; write for example \"10.0.0.5\" or \"10.0.0.0/24\"")
    })?;
    if net.prefix_len() == 0 {
        return Err(format!(
            "{text} trusts every computer, and anyone could speak for any device; write the proxy's own address"
        ));
    }
    Ok(net.trunc())
}

/// The name of an HTTP header field (RFC 9110 section 5.1), in lower case.
pub(super) fn header_name(text: &str) -> Result<String, String> {
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!("{text:?} is not the name of an HTTP header; write for example \"X-Client-Certificate\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::HOUR;

    #[test]
    fn a_word_that_is_nearly_right_is_suggested() {
        let choices = [("text", 1), ("json", 2)];
        assert_eq!(one_of("json", &choices), Ok(2));
        assert!(one_of("jsno", &choices).unwrap_err().contains("did you mean \"json\"?"));
        assert!(one_of("yaml", &choices).unwrap_err().contains("write \"text\" or \"json\""));
    }

    #[test]
    fn proxies_are_addresses_or_networks_and_never_everyone() {
        assert_eq!(proxies("10.0.0.5").unwrap().to_string(), "10.0.0.5/32");
        assert_eq!(proxies("10.0.0.5/24").unwrap().to_string(), "10.0.0.0/24");
        assert_eq!(proxies("fd00::/8").unwrap().to_string(), "fd00::/8");
        assert!(proxies("0.0.0.0/0").unwrap_err().contains("every computer"));
        assert!(proxies("10.0.0.5/40").unwrap_err().contains("CIDR"));
    }

    #[test]
    fn texts_are_checked_by_what_they_are_for() {
        assert_eq!(duration("24h"), Ok(24 * HOUR));
        assert!(duration("1 day").unwrap_err().contains("24h"));
        assert!(reverse_dns("org.example.school-2").is_ok());
        for wrong in ["org", "org..x", ".org", "org.exämple", "org.ex ample", ""] {
            assert!(reverse_dns(wrong).is_err(), "{wrong}");
        }
        assert_eq!(header_name("X-Client-Cert"), Ok("x-client-cert".into()));
        assert!(header_name("X Client").is_err());
        assert!(line("two\nlines", 200, "a name").unwrap_err().contains("one line"));
        assert!(line(" ", 200, "a name").unwrap_err().contains("empty"));
    }
}
