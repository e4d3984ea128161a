//! The reachability table: whether this network leads to the hosts that Apple's devices and this server need.
//!
//! `russet doctor --hosts` runs it alone, on any computer in the network in question, without server or
//! configuration; `GET /api/v1/reachability` runs it from the server. `hosts.json` is the table, after Apple support article 101555
//! ("Use Apple products on enterprise networks"): of a host with a wildcard, one that it stands for.
//!
//! **Invariant:** at most 48 questions are under way, each bounded in time; nothing is sent but handshakes,
//! questions for names, and one for the time.

mod name;
mod text;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use text::{advice, table};

use super::probe::{Reached, probe};
use crate::clock::Seconds;
use crate::config;
use crate::error::{Error, Result};
use crate::finding::{Finding, Severity};
use crate::https::{self, add_file};
use crate::id;

/// The table that is built in.
const HOSTS: &str = include_str!("hosts.json");
/// The root of what some of Apple's hosts show, which no system but Apple's trusts.
const APPLE_ROOT: &[u8] = include_bytes!("../../server/apple-root.pem");
const AT_ONCE: usize = 48;
const PATIENCE: Duration = Duration::from_secs(5);
/// Seconds from 1900 to 1970 (RFC 5905 section 6).
const NTP_EPOCH: i64 = 2_208_988_800;
/// How far this machine's clock may be from Apple's.
const APART: Seconds = 60;
/// Where Apple says that its push couriers are (support article 102266).
const PUSH_RANGES: [&str; 9] = [
    "17.249.0.0/16",
    "17.252.0.0/16",
    "17.57.144.0/22",
    "17.188.128.0/18",
    "17.188.20.0/23",
    "2620:149:a44::/48",
    "2403:300:a42::/48",
    "2403:300:a51::/48",
    "2a01:b740:a42::/48",
];

/// How a host is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Tls,
    /// Only whether the port is open.
    Tcp,
    /// UDP, for the time.
    Ntp,
}

/// A row of the table.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    pub host: String,
    pub port: u16,
    pub kind: Kind,
    pub platforms: String,
    pub category: String,
    /// `devices`, `server` or `both`.
    pub needed_by: String,
    /// What fails without it, a sentence.
    pub without: String,
    /// Connected to in place of what the name resolves to; for stand-ins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<SocketAddr>,
}

/// How far it was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Open,
    /// Somebody else answers in Apple's place.
    Intercepted,
    Refused,
    /// Nothing comes back.
    Blocked,
    NoName,
    NoRoute,
}

/// A row with what was found.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub status: Status,
    #[serde(flatten)]
    pub host: Host,
    pub address: Option<IpAddr>,
    pub reverse_dns: Option<String>,
    pub latency_ms: u64,
    /// Who issued the certificate that was shown.
    pub issuer: Option<String>,
    /// Of push couriers: whether the address is one that Apple names for them.
    pub in_apple_range: Option<bool>,
    /// How far this machine's clock is ahead, in seconds; where the time was asked for.
    pub clock_ahead: Option<Seconds>,
    /// A sentence where something is wrong.
    pub words: Option<String>,
}

/// Everything that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Survey {
    pub items: Vec<Row>,
    /// Whether nothing at all was reached: no internet here.
    pub no_route: bool,
}

/// Whom the survey asks, and trusts.
#[derive(Clone)]
pub struct Surveyor {
    hosts: Vec<Host>,
    resolver: Option<SocketAddr>,
    roots: Arc<RootCertStore>,
}

impl Surveyor {
    /// # Errors
    /// A file of the configuration cannot be read, in words.
    pub fn new(settings: &config::Doctor) -> Result<Self> {
        let mut roots = https::system_roots();
        for der in CertificateDer::pem_slice_iter(APPLE_ROOT).flatten() {
            let _ = roots.add(der);
        }
        if let Some(path) = &settings.trust {
            add_file(&mut roots, path, "[doctor] trust")?;
        }
        let hosts = match &settings.hosts {
            Some(path) => read(path)?,
            None => built_in()?,
        };
        let resolver = settings.resolver.or_else(name::resolver_of_system);
        Ok(Self { hosts, resolver, roots: Arc::new(roots) })
    }

    /// Asks all of them; takes some fifteen seconds where nothing answers. `now` is this machine's time.
    pub async fn survey(&self, now: Seconds) -> Survey {
        let room = Arc::new(Semaphore::new(AT_ONCE));
        let mut asked = JoinSet::new();
        for (place, host) in self.hosts.iter().cloned().enumerate() {
            let (surveyor, room) = (self.clone(), room.clone());
            asked.spawn(async move {
                let _turn = room.acquire().await;
                (place, surveyor.ask(host, now).await)
            });
        }
        let mut rows = Vec::new();
        while let Some(row) = asked.join_next().await {
            rows.extend(row);
        }
        rows.sort_by_key(|(place, _)| *place);
        let items: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
        let lost = |row: &Row| matches!(row.status, Status::NoName | Status::NoRoute);
        let no_route = !items.is_empty() && items.iter().all(lost);
        Survey { items, no_route }
    }

    async fn ask(&self, host: Host, now: Seconds) -> Row {
        let begun = Instant::now();
        let mut row = Row {
            status: Status::NoRoute,
            address: None,
            reverse_dns: None,
            latency_ms: 0,
            issuer: None,
            in_apple_range: None,
            clock_ahead: None,
            words: None,
            host,
        };
        match row.host.kind {
            Kind::Tls => self.ask_tls(&mut row, now).await,
            Kind::Tcp | Kind::Ntp => ask_plain(&mut row, now).await,
        }
        row.latency_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        if let (Some(address), Some(resolver)) = (row.address, self.resolver) {
            row.reverse_dns = name::reverse(address, resolver).await;
        }
        if let Some(address) =
            row.address.filter(|_| row.host.category == "push" && row.host.needed_by != "server")
        {
            row.in_apple_range = Some(is_apples(address));
        }
        row
    }

    async fn ask_tls(&self, row: &mut Row, now: Seconds) {
        let seen = probe(&row.host.host, row.host.port, row.host.instead, &self.roots, now).await;
        row.address = seen.addresses.first().map(|address| address.ip().to_canonical());
        (row.status, row.words) = match seen.reached {
            Reached::Tls(tls) => {
                row.issuer = Some(tls.issuer());
                match tls.wrong {
                    None => (Status::Open, None),
                    Some(wrong) => (
                        Status::Intercepted,
                        Some(format!(
                            "A certificate of {} is shown in place of Apple's ({wrong}).",
                            row.issuer.as_deref().unwrap_or_default()
                        )),
                    ),
                }
            }
            Reached::NoTls(words) => {
                (Status::Intercepted, Some(format!("What answers there is not Apple's: {words}.")))
            }
            Reached::NoName(words) => {
                (Status::NoName, Some(format!("The name cannot be resolved: {words}.")))
            }
            Reached::Refused => (Status::Refused, Some("The connection is refused.".to_owned())),
            Reached::Silent => (Status::Blocked, Some("Nothing comes back.".to_owned())),
            Reached::NoRoute => (Status::NoRoute, Some("There is no route.".to_owned())),
        };
    }
}

async fn ask_plain(row: &mut Row, now: Seconds) {
    let address = match row.host.instead {
        Some(address) => Ok(Some(address)),
        None => match timeout(PATIENCE, lookup_host((row.host.host.as_str(), row.host.port))).await {
            Ok(found) => found.map(|mut found| found.next()),
            Err(_) => Ok(None),
        },
    };
    let address = match address {
        Ok(Some(address)) => address,
        Ok(None) => {
            (row.status, row.words) = (Status::NoName, Some("The name has no address.".to_owned()));
            return;
        }
        Err(error) => {
            let words = format!("The name cannot be resolved: {}.", id::printable(&error.to_string()));
            (row.status, row.words) = (Status::NoName, Some(words));
            return;
        }
    };
    row.address = Some(address.ip().to_canonical());
    if row.host.kind == Kind::Ntp {
        match timeout(PATIENCE, ask_time(address)).await {
            Ok(Ok(theirs)) => {
                row.status = Status::Open;
                row.clock_ahead = Some(now - theirs);
            }
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                (row.status, row.words) = (Status::Refused, Some("The question is refused.".to_owned()));
            }
            Ok(Err(_)) => (row.status, row.words) = (Status::NoRoute, Some("There is no route.".to_owned())),
            Err(_) => (row.status, row.words) = (Status::Blocked, Some("Nothing comes back.".to_owned())),
        }
        return;
    }
    (row.status, row.words) = match timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(Ok(_)) => (Status::Open, None),
        Ok(Err(error)) => match error.kind() {
            std::io::ErrorKind::ConnectionRefused => {
                (Status::Refused, Some("The connection is refused.".to_owned()))
            }
            std::io::ErrorKind::TimedOut => (Status::Blocked, Some("Nothing comes back.".to_owned())),
            _ => (Status::NoRoute, Some("There is no route.".to_owned())),
        },
        Err(_) => (Status::Blocked, Some("Nothing comes back.".to_owned())),
    };
}

/// The time at a server of it (RFC 4330 section 5): the second at which it sent its answer.
async fn ask_time(address: SocketAddr) -> std::io::Result<Seconds> {
    let any: SocketAddr = if address.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    let mut question = [0; 48];
    // Version 4, client.
    question[0] = 0x23;
    socket.send(&question).await?;
    let mut answer = [0; 48];
    let length = socket.recv(&mut answer).await?;
    let seconds = <[u8; 4]>::try_from(&answer[40..44]).map(u32::from_be_bytes).unwrap_or_default();
    // Mode 4 is a server's; 0 means that it does not know the time itself.
    if length < 48 || answer[0] & 7 != 4 || seconds == 0 {
        return Err(std::io::Error::other("its answer is none"));
    }
    Ok(i64::from(seconds) - NTP_EPOCH)
}

fn is_apples(address: IpAddr) -> bool {
    PUSH_RANGES.iter().filter_map(|range| range.parse::<IpNet>().ok()).any(|range| range.contains(&address))
}

/// The table that is built in.
///
/// # Errors
/// It is damaged, which a test rules out.
pub fn built_in() -> Result<Vec<Host>> {
    serde_json::from_str(HOSTS).map_err(|source| Error::caused("the table of hosts cannot be read", source))
}

fn read(path: &Path) -> Result<Vec<Host>> {
    let wrong = |words: String| Error::invalid(format!("[doctor] hosts: {}: {words}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_str(&text)
        .map_err(|error| wrong(format!("{error}; docs/network.md shows how a row looks")))
}

impl Survey {
    /// Whether anything that is needed is closed.
    pub fn is_failing(&self) -> bool {
        self.no_route || self.items.iter().any(|row| row.status != Status::Open)
    }

    /// A finding for each category that has something closed, or one that says that all is open.
    pub fn findings(&self) -> Vec<Finding> {
        if self.no_route {
            return vec![Finding {
                code: "hosts-no-route",
                subject: "network".into(),
                severity: Severity::Warning,
                seen: "There is no route from here to any of Apple's hosts.".into(),
                means: "This network has no internet; devices in it cannot be activated, woken or updated.".into(),
                remedy: "Connect it to the internet, or run russet doctor --hosts on a computer in the devices' own network.".into(),
            }];
        }
        let mut found = Vec::new();
        let mut categories: Vec<&str> = self.items.iter().map(|row| row.host.category.as_str()).collect();
        categories.dedup();
        for category in categories {
            let of: Vec<_> = self.items.iter().filter(|row| row.host.category == category).collect();
            for (code, status_of, words) in [
                ("hosts-intercepted", [Status::Intercepted].as_slice(), "somebody else answers in place of"),
                (
                    "hosts-blocked",
                    [Status::Refused, Status::Blocked, Status::NoName, Status::NoRoute].as_slice(),
                    "this network does not lead to",
                ),
            ] {
                let wrong: Vec<_> = of.iter().filter(|row| status_of.contains(&row.status)).collect();
                let Some(first) = wrong.first() else { continue };
                let names: Vec<_> =
                    wrong.iter().map(|row| format!("{}:{}", row.host.host, row.host.port)).collect();
                found.push(Finding {
                    code,
                    subject: category.to_owned(),
                    severity: Severity::Warning,
                    seen: format!("From here, {words} {}.", names.join(", ")),
                    means: first.host.without.clone(),
                    remedy: match code {
                        "hosts-intercepted" => "Exclude Apple's hosts from the inspection of TLS: *.apple.com and 17.0.0.0/8.".into(),
                        _ => "Ask who runs the network to open them, outgoing; docs/network.md lists them with their ports.".into(),
                    },
                });
            }
        }
        let outside: Vec<_> = self.items.iter().filter(|row| row.in_apple_range == Some(false)).collect();
        if let Some(first) = outside.first() {
            found.push(Finding {
                code: "push-address-outside-apple",
                subject: first.host.host.clone(),
                severity: Severity::Warning,
                seen: format!(
                    "{} leads to {}, which is not among the addresses that Apple names for pushes.",
                    first.host.host,
                    first.address.map(|address| address.to_string()).unwrap_or_default()
                ),
                means:
                    "A name server here answers something of its own, or something answers in Apple's place."
                        .into(),
                remedy: "Let the network's name servers answer what Apple's say.".into(),
            });
        }
        let apart = self.items.iter().filter_map(|row| row.clock_ahead).max_by_key(|ahead| ahead.abs());
        if let Some(ahead) = apart.filter(|ahead| ahead.abs() > APART) {
            found.push(Finding {
                code: "clock-differs",
                subject: "clock".into(),
                severity: Severity::Warning,
                seen: format!("This computer's clock is {ahead} seconds ahead of Apple's."),
                means: "Certificates are taken for expired or not valid yet.".into(),
                remedy: "Set the clock of this computer, and look again.".into(),
            });
        }
        if found.is_empty() {
            let seen = format!("All {} hosts are reached from here.", self.items.len());
            found.push(Finding::ok("hosts", "network", seen));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_table_is_whole_and_names_nothing_twice() {
        let hosts = built_in().unwrap();
        assert!(hosts.len() > 60, "{}", hosts.len());
        let mut seen = HashSet::new();
        for host in &hosts {
            assert!(seen.insert((&host.host, host.port, host.kind as u8)), "{} is there twice", host.host);
            assert!(["devices", "server", "both"].contains(&host.needed_by.as_str()), "{}", host.host);
            assert!(host.without.ends_with('.') && host.instead.is_none(), "{}", host.host);
        }
        for category in [
            "activation",
            "push",
            "software update",
            "app store",
            "certificate validation",
            "device management",
        ] {
            assert!(hosts.iter().any(|host| host.category == category), "{category}");
        }
        for port in [5223, 443, 2197, 123, 80] {
            assert!(hosts.iter().any(|host| host.port == port), "{port}");
        }
    }

    #[test]
    fn the_ranges_for_pushes_are_those_that_apple_names() {
        assert!(PUSH_RANGES.iter().all(|range| range.parse::<IpNet>().is_ok()));
        for (address, apples) in
            [("17.57.146.20", true), ("17.1.2.3", false), ("2620:149:a44::1", true), ("192.0.2.1", false)]
        {
            assert_eq!(is_apples(address.parse().unwrap()), apples, "{address}");
        }
    }

    #[test]
    fn the_document_has_the_table() {
        let document = include_str!("../../../docs/network.md");
        for host in built_in().unwrap() {
            let protocol = if host.kind == Kind::Ntp { "UDP" } else { "TCP" };
            let row = format!(
                "| {} | {protocol} {} | {} | {} |",
                host.host, host.port, host.platforms, host.without
            );
            assert!(document.contains(&row), "docs/network.md lacks\n{row}");
        }
    }
}
