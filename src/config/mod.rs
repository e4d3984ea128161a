//! Russet's configuration: `russet.toml`, one struct for each table.
//!
//! The commands [`find`] the file, [`read()`] it with its overrides and hand the tables to the layers
//! above; `russet check` prints [`report()`]. [`EXAMPLE`] is every key with its default and a
//! sentence. The keys are a contract: INTERFACE section 2.
//!
//! **Invariant:** a [`Config`] that exists is right as far as one can know without opening anything:
//! paths are absolute, addresses are parsed, and no two values contradict each other.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::clock::Seconds;

mod address;
mod appliance;
mod check;
mod files;
mod load;
mod mistake;
mod report;
mod secret;
mod settings;
mod tables;

pub use address::{HostPort, Location, Origin, is_public};
pub use appliance::{Appliance, Network, Wifi};
pub use load::{Reading, environment, find, load, overrides, parse, read};
pub use mistake::{Mistake, Mistakes};
pub use report::{report, rows};
pub use secret::Secret;

/// The documented example: every key with its default. Parsing it gives [`Config::default`].
pub const EXAMPLE: &str = include_str!("example.toml");

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The folder with `russet.db`, its keys and the socket.
    pub data_dir: PathBuf,
    pub server: Server,
    pub tls: Tls,
    pub organization: Organization,
    pub apns: Apns,
    pub mdmcert: Mdmcert,
    pub doctor: Doctor,
    pub enrollment: Enrollment,
    pub proxy: Proxy,
    pub webhook: Webhook,
    pub mail: Mail,
    pub updates: Updates,
    pub retention: Retention,
    pub backup: Backup,
    pub admin: Admin,
    /// Read on the appliance image only.
    pub appliance: Appliance,
    pub log: Log,
}

/// Where the program listens, and under which name devices know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Never empty.
    pub listen: Vec<SocketAddr>,
    /// Empty: people are served on `listen`.
    pub admin_listen: Vec<SocketAddr>,
    pub http_listen: Vec<SocketAddr>,
    pub public_url: Origin,
}

/// How the server proves its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    pub mode: TlsMode,
    pub acme: Acme,
}

/// Where the TLS certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// A certificate authority of our own, for the host of `public_url` only.
    SelfSigned,
    /// PEM files that someone else renews.
    Files { certificate: PathBuf, private_key: PathBuf },
    /// A certificate authority that speaks ACME (RFC 8555), as the table `acme` says.
    Acme,
}

impl TlsMode {
    /// As it is written.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::SelfSigned => "self-signed",
            Self::Files { .. } => "files",
            Self::Acme => "acme",
        }
    }
}

/// The ACME account and how it proves the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acme {
    pub directory: String,
    pub contact: Option<String>,
    pub challenge: Challenge,
    /// PEM file with an extra root for the ACME server.
    pub trust: Option<PathBuf>,
    /// External account binding (RFC 8555 section 7.3.4): the key's name and the key, in base64url.
    pub external_account: Option<(String, Secret)>,
    /// Who writes the records of challenge `dns-01`; none with another challenge.
    pub dns: Option<DnsWriter>,
    /// How long a new record takes until the whole world sees it, in seconds.
    pub dns_wait: Seconds,
}

/// What puts TXT records into a zone, and takes them out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsWriter {
    /// A name server that takes updates (RFC 2136) signed with a key (RFC 8945).
    Update { server: HostPort, zone: Option<String>, key: Option<UpdateKey> },
    /// A program with its first arguments; called with `present` or `remove`, the name and the value.
    Hook(Vec<String>),
}

/// A TSIG key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateKey {
    pub name: String,
    pub algorithm: UpdateAlgorithm,
    /// In base64, as `tsig-keygen` prints it.
    pub secret: Secret,
}

/// What a TSIG key signs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateAlgorithm {
    HmacSha256,
    HmacSha384,
    HmacSha512,
}

/// How an ACME server sees that the name is ours (RFC 8555 section 8, RFC 8737).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    TlsAlpn01,
    Http01,
    Dns01,
}

/// Who manages the devices, as their people read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Organization {
    pub name: String,
    /// Reverse DNS, the prefix of every PayloadIdentifier.
    pub identifier: String,
    pub email: Option<String>,
    pub phone: Option<String>,
}

/// Apple's push service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apns {
    pub server: Origin,
    /// PEM file with extra root certificates.
    pub trust: Option<PathBuf>,
}

/// What `russet doctor` asks, where it is not what everybody asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doctor {
    /// Connected to in place of what the host of `public_url` resolves to.
    pub public_address: Option<SocketAddr>,
    /// HTTPS servers whose clock ours is compared with.
    pub time: Vec<String>,
    /// PEM file with extra roots for the servers that are asked.
    pub trust: Option<PathBuf>,
    /// A table of hosts in place of the one that is built in; for stand-ins.
    pub hosts: Option<PathBuf>,
    /// The name server that is asked for the names of addresses.
    pub resolver: Option<SocketAddr>,
    /// Free space of the data folder below which it is said, in MiB.
    pub free_mib: u32,
}

/// The service mdmcert.download, which signs requests for push certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mdmcert {
    pub url: String,
    /// What its operators gave to this organization.
    pub client_key: Option<Secret>,
    /// PEM file with an extra root.
    pub trust: Option<PathBuf>,
}

/// What a device enrolls with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrollment {
    pub identity: Identity,
    /// At most `ca_days`.
    pub identity_days: u32,
    pub ca_days: u32,
    pub renew_before_days: u32,
    /// Apple's AccessRights, 1 to 8191.
    pub access_rights: u16,
}

/// The protocol by which a device gets its identity. ACME comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    Scep,
}

/// Proxies in front of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    pub trusted: Vec<IpNet>,
    /// In lower case; only ever set together with `trusted`.
    pub client_certificate_header: Option<String>,
}

/// Where events are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    pub url: Option<String>,
    /// The key of the signatures.
    pub secret: Option<Secret>,
    pub format: WebhookFormat,
    /// PEM file with extra root certificates.
    pub trust: Option<PathBuf>,
    /// Whether the target may be in this machine's own network.
    pub allow_private: bool,
    /// How long the target may take for its whole answer.
    pub timeout: Seconds,
}

/// How bodies are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookFormat {
    /// Our own: decoded, without secrets, with events.
    Russet,
    /// As MicroMDM and NanoMDM write them: the property lists as they came, secrets and all.
    MicroMdm,
}

impl WebhookFormat {
    /// As the configuration and the database write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Russet => "russet",
            Self::MicroMdm => "micromdm",
        }
    }

    /// Reads what [`WebhookFormat::word`] wrote.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Russet, Self::MicroMdm].into_iter().find(|format| format.word() == word)
    }
}

/// Alerts by SMTP; `from` and `to` are there whenever `server` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    pub server: Option<HostPort>,
    pub from: Option<String>,
    pub to: Vec<String>,
    /// There together with `password`, or not at all.
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub tls: MailTls,
    /// PEM file with the roots for `server`, and no others.
    pub trust: Option<PathBuf>,
}

/// How the connection to the mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailTls {
    /// It begins in the clear and goes on only if STARTTLS succeeds (port 587).
    StartTls,
    /// TLS from the first byte (port 465).
    Tls,
    /// Not at all; never with a password.
    None,
}

/// Where updates are announced: Apple's and Russet's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Updates {
    pub catalogue: Location,
    /// PEM file with the roots for `catalogue`.
    pub catalogue_trust: Option<PathBuf>,
    pub source: Option<Location>,
}

/// How long history is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    pub days: u32,
}

/// Backups that nobody has to think of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    pub directory: Option<PathBuf>,
    pub every: Seconds,
    pub keep: u32,
    pub packages: bool,
}

/// How people sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// The host that passkeys belong to, if not that of `public_url`.
    pub host: Option<String>,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub level: Level,
    pub format: LogFormat,
}

/// The least important thing that is still logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl Config {
    /// The host of `public_url`: a DNS name in lower case or an IP address without brackets.
    pub fn public_host(&self) -> &str {
        &self.server.public_url.host
    }

    /// Whether only this machine can use the links that are given out.
    pub fn public_url_is_localhost(&self) -> bool {
        self.server.public_url.is_localhost()
    }

    /// This configuration with `--data-dir`, which is relative to the current directory.
    #[must_use]
    pub fn with_data_dir(self, data_dir: Option<&Path>) -> Self {
        match data_dir {
            Some(folder) => Self { data_dir: settings::absolute(Path::new(""), folder), ..self },
            None => self,
        }
    }
}
