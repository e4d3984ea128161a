//! The names by which this server is known, and what a root is allowed to name.
//!
//! `server` makes [`Names`] from the configuration and the machine; `tls_authority` writes them into
//! the root's constraints (RFC 5280 section 4.2.1.10) and the leaf.
//!
//! **Invariant:** a constraint permits exactly one name or address, nothing below or beside it that
//! this machine is not called.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use der::asn1::Ia5String;
use rcgen::{CidrSubnet, GeneralSubtree, NameConstraints, SanType};
use x509_cert::TbsCertificate;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{NameConstraints as Constraints, SubjectAltName};

use crate::error::{Error, Result};

/// The names of this server; DNS names in lower case, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The host of `public_url`, without brackets.
    host: String,
    dns: Vec<String>,
    addresses: Vec<IpAddr>,
    /// Whether a root that may not name all of them will not do.
    all_needed: bool,
}

impl Names {
    /// From the host of `public_url`, the machine's host name and the listen addresses, of which
    /// wildcards say nothing.
    pub fn new(host: &str, machine: Option<&str>, listen: &[SocketAddr]) -> Self {
        let host = host.trim_start_matches('[').trim_end_matches([']', '.']).to_ascii_lowercase();
        let (mut dns, mut addresses) = (Vec::new(), Vec::new());
        match host.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => dns.push(host.clone()),
        }
        if host == "localhost" {
            addresses.extend([IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)]);
        }
        if let Some(machine) = machine.map(|name| name.trim_end_matches('.').to_ascii_lowercase())
            && is_dns_name(&machine)
        {
            let label = machine.split('.').next().unwrap_or(&machine);
            if label != "localhost" {
                dns.push(format!("{label}.local"));
            }
            dns.push(machine);
        }
        addresses.extend(listen.iter().map(|at| at.ip().to_canonical()).filter(|ip| !ip.is_unspecified()));
        dns.sort();
        dns.dedup();
        addresses.sort();
        addresses.dedup();
        Self { host, dns, addresses, all_needed: false }
    }

    /// With another host by which people reach this server.
    #[must_use]
    pub fn and_host(mut self, host: Option<&str>) -> Self {
        let Some(host) = host else { return self };
        match host.parse() {
            Ok(address) if !self.addresses.contains(&address) => self.addresses.push(address),
            Err(_) if !self.dns.iter().any(|name| name == host) => self.dns.push(host.to_owned()),
            _ => {}
        }
        self.dns.sort();
        self.addresses.sort();
        self
    }

    /// For a server that no device relies on yet: a root that may not name all of these is replaced.
    #[must_use]
    pub fn all_needed(mut self) -> Self {
        self.all_needed = true;
        self
    }

    /// What of these `root` may not name, in words; a leaf goes without it.
    pub(super) fn left_out(&self, root: &TbsCertificate) -> Result<Vec<String>> {
        let constraints = constraints(root)?;
        let dns = self.dns.iter().map(|name| (name.clone(), dns_name(name)));
        let addresses = self.addresses.iter().map(|ip| (ip.to_string(), Some(GeneralName::from(*ip))));
        let all = dns.chain(addresses);
        Ok(all
            .filter(|(_, name)| name.as_ref().is_some_and(|name| !permits(&constraints, name)))
            .map(|(words, _)| words)
            .collect())
    }

    /// The SANs of a leaf under `root`: what the root may not name is left out.
    pub(super) fn permitted(&self, root: &TbsCertificate) -> Result<Vec<GeneralName>> {
        let constraints = constraints(root)?;
        Ok(self.general_names().filter(|name| permits(&constraints, name)).collect())
    }

    /// All names, in the order of a leaf's SANs.
    pub(super) fn general_names(&self) -> impl Iterator<Item = GeneralName> {
        let dns = self.dns.iter().filter_map(|name| dns_name(name));
        dns.chain(self.addresses.iter().copied().map(GeneralName::from))
    }

    /// The host of `public_url`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether `root` will do: it may name the host of `public_url` or, if all are needed, all of them.
    pub(super) fn allow(&self, root: &TbsCertificate) -> bool {
        if self.all_needed && !self.left_out(root).is_ok_and(|left_out| left_out.is_empty()) {
            return false;
        }
        let name = match self.host.parse::<IpAddr>() {
            Ok(address) => Some(GeneralName::from(address)),
            Err(_) => dns_name(&self.host),
        };
        name.is_some_and(|name| constraints(root).is_ok_and(|limits| permits(&limits, &name)))
    }

    /// Exactly these names; of a kind that has none, nothing at all.
    pub(super) fn constraints(&self) -> NameConstraints {
        let mut permitted_subtrees: Vec<_> = self.dns.iter().cloned().map(GeneralSubtree::DnsName).collect();
        permitted_subtrees.extend(self.addresses.iter().map(|address| {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(*address, bits))
        }));
        // A name of one label may be a top-level domain of the Internet ("dev", "app"), and permitting
        // it permits everything below.
        let below = |name: &String| format!(".{name}");
        let mut excluded_subtrees: Vec<_> = self
            .dns
            .iter()
            .filter(|name| !name.contains('.') && !self.dns.iter().any(|other| other.ends_with(&below(name))))
            .map(|name| GeneralSubtree::DnsName(below(name)))
            .collect();
        if self.dns.is_empty() {
            excluded_subtrees.push(GeneralSubtree::DnsName(String::new()));
        }
        if self.addresses.is_empty() {
            excluded_subtrees.push(GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])));
            excluded_subtrees.push(GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])));
        }
        NameConstraints { permitted_subtrees, excluded_subtrees }
    }
}

/// The host name of this machine, where the system tells.
pub fn machine_host_name() -> Option<String> {
    let name = ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok())?
        .trim()
        .to_owned();
    is_dns_name(&name).then_some(name)
}

fn dns_name(name: &str) -> Option<GeneralName> {
    Ia5String::new(name).ok().map(GeneralName::DnsName)
}

fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label) && name.parse::<IpAddr>().is_err()
}

/// The SANs of a certificate.
pub(super) fn alternative_names(certificate: &TbsCertificate) -> Vec<GeneralName> {
    match certificate.get_extension::<SubjectAltName>() {
        Ok(Some((_, names))) => names.0,
        _ => Vec::new(),
    }
}

/// SANs for a new certificate.
pub(super) fn subject_alt_names(names: &[GeneralName]) -> Vec<SanType> {
    names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DnsName(name) => name.as_str().try_into().ok().map(SanType::DnsName),
            GeneralName::IpAddress(octets) => match *octets.as_bytes() {
                [a, b, c, d] => Some(SanType::IpAddress(IpAddr::from([a, b, c, d]))),
                ref long => {
                    <[u8; 16]>::try_from(long).ok().map(|long| SanType::IpAddress(IpAddr::from(long)))
                }
            },
            _ => None,
        })
        .collect()
}

fn constraints(root: &TbsCertificate) -> Result<Constraints> {
    match root.get_extension::<Constraints>() {
        Ok(Some((_, constraints))) => Ok(constraints),
        _ => Err(Error::internal("the TLS root has no name constraints; restore a backup")),
    }
}

/// Whether a root with these constraints, as [`Names::constraints`] makes them, may name this.
fn permits(constraints: &Constraints, name: &GeneralName) -> bool {
    let permitted = constraints.permitted_subtrees.iter().flatten();
    permitted.map(|subtree| &subtree.base).any(|base| match (base, name) {
        (GeneralName::DnsName(base), GeneralName::DnsName(name)) => base == name,
        (GeneralName::IpAddress(base), GeneralName::IpAddress(name)) => {
            let (base, name) = (base.as_bytes(), name.as_bytes());
            base.len() == 2 * name.len() && base.starts_with(name)
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    #[test]
    fn a_server_is_known_by_its_url_its_machine_and_its_addresses() {
        let names = Names::new(
            "MDM.example.org",
            Some("Pi"),
            &[at("10.0.0.5:443"), at("[::]:443"), at("0.0.0.0:80")],
        );
        assert_eq!(names.dns, ["mdm.example.org", "pi", "pi.local"]);
        assert_eq!(names.addresses, [at("10.0.0.5:0").ip()]);
        let names = names.and_host(Some("people.example.org")).and_host(Some("10.0.0.5")).and_host(None);
        assert_eq!(names.dns, ["mdm.example.org", "people.example.org", "pi", "pi.local"]);
        assert_eq!(names.addresses.len(), 1);
        let local = Names::new("localhost", Some("localhost"), &[]);
        assert_eq!(local.dns, ["localhost"]);
        assert_eq!(local.addresses.len(), 2);
        let address = Names::new("[2001:db8::1]", None, &[]);
        assert!(address.dns.is_empty());
        assert_eq!(address.addresses, [at("[2001:db8::1]:0").ip()]);
    }

    #[test]
    fn what_is_no_host_name_is_left_out() {
        for wrong in ["", "my host", "-pi", "10.0.0.5", "a..b", "pi_4"] {
            assert_eq!(Names::new("mdm.example.org", Some(wrong), &[]).dns, ["mdm.example.org"], "{wrong}");
        }
    }

    #[test]
    fn a_machine_called_like_a_top_level_domain_opens_no_domain() {
        let limits = Names::new("mdm.example.org", Some("dev"), &[]).constraints();
        assert!(limits.excluded_subtrees.contains(&GeneralSubtree::DnsName(".dev".to_owned())));
        let limits = Names::new("mdm.lan", Some("lan"), &[]).constraints();
        assert!(!limits.excluded_subtrees.contains(&GeneralSubtree::DnsName(".lan".to_owned())));
    }
}
