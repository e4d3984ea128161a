//! Hosts, origins and the other addresses of the configuration, read once and then trusted.
//!
//! Called by `tables`; the types travel through the program. Each reader takes what stands in the
//! file and answers the value or a sentence about what to write instead. Hosts follow RFC 1123.
//!
//! **Invariant:** an [`Origin`] is https, a host and a port and nothing else: no path, user or query.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// `https://host[:port]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// A DNS name in lower case, or an IP address; IPv6 without brackets.
    pub host: String,
    /// 443 unless it was written.
    pub port: u16,
}

impl Origin {
    pub(super) fn new(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port }
    }

    /// Reads `https://host[:port]`; one trailing slash is tolerated.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("{text:?} is not a URL; write https:// and the host name"));
        };
        if !scheme.eq_ignore_ascii_case("https") {
            return Err(format!("the URL begins with {scheme:?}; it has to begin with https://"));
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#', '\\']) {
            return Err("the URL goes on after the host; write only https://, the host and, if it is not 443, the port".into());
        }
        let (host, port) = authority(rest)?;
        Ok(Self { host, port: port.unwrap_or(443) })
    }

    /// `host` or, if the port is not 443, `host:port`; IPv6 in brackets. What a `Host` header carries.
    pub fn authority(&self) -> String {
        let host = bracketed(&self.host);
        if self.port == 443 { host } else { format!("{host}:{}", self.port) }
    }

    /// Whether only this machine can reach it: `localhost`, 127.0.0.0/8, `::1`.
    pub fn is_localhost(&self) -> bool {
        self.host == "localhost" || self.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}

/// A host and the port that has to be written, e.g. of a mail server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// As [`Origin::host`].
    pub host: String,
    /// Never 0.
    pub port: u16,
}

impl HostPort {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match authority(text)? {
            (host, Some(port)) => Ok(Self { host, port }),
            (host, None) => Err(format!("the port is missing; write for example \"{host}:587\"")),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", bracketed(&self.host), self.port)
    }
}

/// Something that is fetched or read from the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A checked URL.
    Url(String),
    /// An absolute path.
    Path(PathBuf),
}

/// Reads an IP address with its port, where the program listens.
pub(super) fn socket(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is not an IP address with a port; write for example \"[::]:8443\" (every address of this machine) or \"127.0.0.1:8443\"")
    })
}

/// Reads a DNS name or an IP address and answers it in lower case.
pub(super) fn host(text: &str) -> Result<String, String> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        if ip.is_unspecified() {
            return Err(format!(
                "{text} means every address of a machine; write the name or address that others use"
            ));
        }
        return Ok(ip.to_string());
    }
    if !text.is_ascii() {
        return Err(format!("{text:?} has letters outside ASCII; write the name as DNS has it (xn--…)"));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    // A last label of digits alone would be read as a broken IPv4 address by every client.
    let numeric = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    let last = text.rsplit('.').next().unwrap_or(text);
    if text.len() > 253 || !text.split('.').all(label) || numeric(last) {
        return Err(format!(
            "{text:?} is not a host name or an IP address; write for example \"mdm.example.org\""
        ));
    }
    Ok(text.to_ascii_lowercase())
}

/// Reads a URL with one of `schemes`, a host and anything after it.
pub(super) fn url(text: &str, schemes: &[&str]) -> Result<String, String> {
    let wanted = || format!("{text:?} is not a URL that begins with {}://", schemes.join(":// or "));
    let (scheme, rest) = text.split_once("://").ok_or_else(wanted)?;
    if !schemes.iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err(wanted());
    }
    if let Some(odd) = text.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(format!("the URL has the character {odd:?}; write it percent-encoded"));
    }
    authority(rest.split(['/', '?', '#']).next().unwrap_or(rest))?;
    Ok(text.to_owned())
}

/// Reads a mail address, as far as anyone but its server can know.
pub(super) fn mail(text: &str) -> Result<String, String> {
    match text.split_once('@') {
        Some((user, domain))
            if !user.is_empty()
                && !user.contains(|c: char| c.is_whitespace() || c.is_control() || "<>,;".contains(c)) =>
        {
            host(domain).map(|_| text.to_owned())
        }
        _ => Err(format!("{text:?} is not a mail address; write for example \"it@example.org\"")),
    }
}

/// The host of a URL whose every word says that it is in this machine's own network: an address that is
/// not public, or a name that only a machine or its network knows.
pub(super) fn own_network(url: &str) -> Option<String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (name, _) = authority(rest.split(['/', '?', '#']).next().unwrap_or(rest)).ok()?;
    let name = name.to_ascii_lowercase();
    let bare = name.trim_end_matches('.');
    let own = match bare.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) => !is_public(address),
        Err(_) => {
            // `internal` is set apart for this, and cloud machines find their credentials there.
            let ends = ["localhost", "local", "internal", "home.arpa"];
            let within = |end: &&str| bare.strip_suffix(*end).is_some_and(|rest| rest.ends_with('.'));
            !bare.contains('.') || ends.iter().any(within)
        }
    };
    own.then_some(name)
}

/// Whether an address is one of the public internet's: not this machine, its network, the machines that
/// clouds give credentials from, nor anything that stands for one of those.
///
/// See the special-purpose registries of IANA (RFC 6890), RFC 6052 and RFC 3056.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => {
            let parts = address.segments();
            let embedded = |high: u16, low: u16| {
                let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
                is_public_v4(Ipv4Addr::new(a, b, c, d))
            };
            match parts {
                // Behind a translator (NAT64) or a tunnel (6to4) is an address of IPv4.
                [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
                // Teredo, documentation, benchmarks, and others that are routed to nobody.
                [0x2001, 0..=0x01ff | 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => false,
                // Only 2000::/3 is given out as public.
                [first, ..] => first & 0xe000 == 0x2000,
            }
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        // Shared by the customers of a provider (RFC 6598), protocol assignments, benchmarks.
        || (a == 100 && b & 0xc0 == 64)
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && b & 0xfe == 18))
}

fn authority(text: &str) -> Result<(String, Option<u16>), String> {
    if text.contains('@') {
        return Err("there is a user name in the URL; take away what stands before the @, and the @".into());
    }
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (ip, after) = rest.split_once(']').ok_or("the closing ] of the IPv6 address is missing")?;
            let ip =
                ip.parse::<std::net::Ipv6Addr>().map_err(|_| format!("{ip:?} is not an IPv6 address"))?;
            let port = match after.strip_prefix(':') {
                None if after.is_empty() => None,
                Some(port) => Some(port),
                None => {
                    return Err(format!("{after:?} follows the IPv6 address; write a colon and the port"));
                }
            };
            (ip.to_string(), port)
        }
        None => match text.split_once(':') {
            Some((name, port)) => (name.to_owned(), Some(port)),
            None => (text.to_owned(), None),
        },
    };
    if name.is_empty() {
        return Err("the host name is missing".into());
    }
    let port = match port {
        None => None,
        Some(digits) => match digits.parse::<u16>() {
            Ok(number) if number > 0 && digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(number),
            _ => return Err(format!("{digits:?} is not a port; write a number from 1 to 65535")),
        },
    };
    Ok((host(&name)?, port))
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_our_own_network_is_told_from_what_is_not() {
        for own in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.100.100.200",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "192.0.0.192",
            "198.18.0.1",
            "::",
            "::1",
            "fe80::1",
            "fd00:ec2::254",
            "fec0::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::169.254.169.254",
            "2002:7f00:1::",
            "2001:0:1::1",
            "2001:db8::1",
            "64:ff9b:1::1",
        ] {
            assert!(!is_public(own.parse().unwrap()), "{own}");
        }
        for public in ["8.8.8.8", "17.1.2.3", "172.32.0.1", "100.128.0.1", "2a00:1450::1", "64:ff9b::8.8.8.8"]
        {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for own in [
            "http://localhost/x",
            "https://LOCALHOST:1",
            "https://pi.local/",
            "https://router/",
            "http://[::1]:80/",
            "http://127.0.0.1?x",
            "https://metadata.google.internal/",
            "https://x.home.arpa",
            "http://169.254.169.254/",
        ] {
            assert!(own_network(own).is_some(), "{own}");
        }
        for public in
            ["https://hook.example.org/local", "https://local.example.org", "http://[2a00:1450::1]/"]
        {
            assert_eq!(own_network(public), None, "{public}");
        }
    }

    #[test]
    fn an_origin_is_https_host_and_port() {
        for (written, understood) in [
            ("https://mdm.example.org", "https://mdm.example.org"),
            ("HTTPS://MDM.Example.org/", "https://mdm.example.org"),
            ("https://mdm.example.org:443", "https://mdm.example.org"),
            ("https://localhost:8443", "https://localhost:8443"),
            ("https://[::1]:8443/", "https://[::1]:8443"),
            ("https://192.0.2.7", "https://192.0.2.7"),
        ] {
            assert_eq!(Origin::parse(written).unwrap().to_string(), understood);
        }
    }

    #[test]
    fn an_origin_with_anything_else_is_refused_in_words() {
        for (written, words) in [
            ("http://mdm.example.org", "https://"),
            ("mdm.example.org", "not a URL"),
            ("https://", "host name is missing"),
            ("https://:8443", "host name is missing"),
            ("https://mdm.example.org/mdm", "goes on after the host"),
            ("https://mdm.example.org?x=1", "goes on after the host"),
            ("https://mdm.example.org#top", "goes on after the host"),
            ("https://user:word@mdm.example.org", "user name"),
            ("https://mdm.example.org:0", "not a port"),
            ("https://mdm.example.org:+1", "not a port"),
            ("https://mdm.example.org:99999", "not a port"),
            ("https://mdm_1.example.org", "not a host name"),
            ("https://mdm..org", "not a host name"),
            ("https://1.2.3", "not a host name"),
            ("https://0.0.0.0", "every address"),
            ("https://schüle.example", "xn--"),
            ("https://[::1", "closing ]"),
            ("https://[nonsense]", "IPv6"),
            ("https://[::1]8443", "colon"),
            ("https:// mdm.example.org", "not a host name"),
        ] {
            let refusal = Origin::parse(written).unwrap_err();
            assert!(refusal.contains(words), "{written}: {refusal}");
        }
    }

    #[test]
    fn this_machine_alone_is_recognised() {
        for here in ["https://localhost:8443", "https://127.0.0.1", "https://[::1]"] {
            assert!(Origin::parse(here).unwrap().is_localhost(), "{here}");
        }
        assert!(!Origin::parse("https://localhost.example.org").unwrap().is_localhost());
    }

    #[test]
    fn urls_mail_addresses_and_mail_servers_are_checked() {
        assert!(url("https://hook.example.org/a?b=c", &["https", "http"]).is_ok());
        assert!(
            url("ftp://hook.example.org", &["https", "http"]).unwrap_err().contains("https:// or http://")
        );
        assert!(url("https://hook.example.org/a b", &["https"]).unwrap_err().contains("percent-encoded"));
        assert!(mail("it@example.org").is_ok());
        for wrong in ["it", "@example.org", "i t@example.org", "it@", "it@x\r\ny"] {
            assert!(mail(wrong).is_err(), "{wrong}");
        }
        assert_eq!(HostPort::parse("smtp.example.org:587").unwrap().to_string(), "smtp.example.org:587");
        assert!(HostPort::parse("smtp.example.org").unwrap_err().contains("port is missing"));
    }
}
