//! What the program understood, as `russet check` prints it.
//!
//! One line for each setting, defaults included, as `table.key  value`; nothing is abbreviated, so
//! that the text of two machines can be compared.
//!
//! **Invariant:** a secret is `set` or `not set`.

use std::fmt::{Debug, Display};
use std::path::Path;

use super::{
    Acme, Appliance, Backup, Challenge, Config, DnsWriter, Enrollment, Identity, Level, Location, Log,
    LogFormat, Mail, MailTls, Network, Organization, Server, Tls, TlsMode, UpdateAlgorithm, UpdateKey,
    Updates, Wifi,
};
use crate::clock::{DAY, HOUR, MINUTE, Seconds};

/// The text: where it comes from, what is hardly meant, then every setting. `overrides` are the names
/// of the variables.
pub fn report(config: &Config, source: Option<&Path>, overrides: &[String], warnings: &[String]) -> String {
    let mut text = match source {
        Some(file) => format!("Read {}.\n", file.display()),
        None => "There is no configuration file; these are the defaults.\n".to_owned(),
    };
    if !overrides.is_empty() {
        text.push_str(&format!("Overridden by {}.\n", overrides.join(", ")));
    }
    if config.public_url_is_localhost() {
        text.push_str("public_url is this machine's own name: no other device can enroll until server.public_url is set.\n");
    }
    for warning in warnings {
        text.push_str(&format!("Warning: {warning}.\n"));
    }
    let mut table = "";
    for (key, value) in rows(config) {
        let this = key.split_once('.').map_or("", |(table, _)| table);
        if this != table || table.is_empty() {
            text.push('\n');
            table = this;
        }
        text.push_str(&format!("{key:<33}  {value}\n"));
    }
    text
}

/// Every setting as it was understood, `table.key` and value, defaults included.
pub fn rows(config: &Config) -> Vec<(&'static str, String)> {
    let mut rows = vec![("data_dir", config.data_dir.display().to_string())];
    rows.extend(serving(config));
    rows.extend(devices(config));
    rows.extend(operation(config));
    rows.extend(appliance(&config.appliance));
    let Log { level, format } = &config.log;
    let format = match format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    rows.extend([("log.level", level.as_str().to_owned()), ("log.format", format.to_owned())]);
    rows
}

fn serving(config: &Config) -> Vec<(&'static str, String)> {
    let Server { listen, admin_listen, http_listen, public_url } = &config.server;
    let Tls { mode, acme } = &config.tls;
    let Acme { directory, contact, challenge, trust, external_account, dns, dns_wait } = acme;
    let (certificate, private_key) = match mode {
        TlsMode::SelfSigned | TlsMode::Acme => ("not used".to_owned(), "not used".to_owned()),
        TlsMode::Files { certificate, private_key } => {
            (certificate.display().to_string(), private_key.display().to_string())
        }
    };
    let challenge = match challenge {
        Challenge::TlsAlpn01 => "tls-alpn-01",
        Challenge::Http01 => "http-01",
        Challenge::Dns01 => "dns-01",
    };
    let mut rows = vec![
        ("server.listen", list(listen)),
        ("server.admin_listen", list(admin_listen)),
        ("server.http_listen", list(http_listen)),
        ("server.public_url", public_url.to_string()),
        ("tls.mode", mode.as_str().to_owned()),
        ("tls.certificate", certificate),
        ("tls.private_key", private_key),
        ("tls.acme.directory", directory.clone()),
        ("tls.acme.contact", shown(contact.as_ref())),
        ("tls.acme.challenge", challenge.to_owned()),
        ("tls.acme.trust", path(trust.as_deref())),
        ("tls.acme.account_key_id", shown(external_account.as_ref().map(|(id, _)| id))),
        ("tls.acme.account_key", secret(external_account.as_ref())),
        ("tls.acme.dns_wait", duration(*dns_wait)),
    ];
    rows.extend(dns_rows(dns.as_ref()));
    rows
}

fn dns_rows(writer: Option<&DnsWriter>) -> Vec<(&'static str, String)> {
    let (server, zone, key, hook) = match writer {
        Some(DnsWriter::Update { server, zone, key }) => {
            (server.to_string(), shown(zone.as_ref()), key.as_ref(), none())
        }
        Some(DnsWriter::Hook(hook)) => (none(), none(), None, hook.join(" ")),
        None => (none(), none(), None, none()),
    };
    let algorithm = |key: &UpdateKey| match key.algorithm {
        UpdateAlgorithm::HmacSha256 => "hmac-sha256",
        UpdateAlgorithm::HmacSha384 => "hmac-sha384",
        UpdateAlgorithm::HmacSha512 => "hmac-sha512",
    };
    vec![
        ("tls.acme.dns_server", server),
        ("tls.acme.dns_zone", zone),
        ("tls.acme.dns_key_name", shown(key.map(|key| &key.name))),
        ("tls.acme.dns_key_algorithm", shown(key.map(algorithm).as_ref())),
        ("tls.acme.dns_key", secret(key)),
        ("tls.acme.dns_hook", hook),
    ]
}

fn devices(config: &Config) -> Vec<(&'static str, String)> {
    let Organization { name, identifier, email, phone } = &config.organization;
    let Enrollment { identity, identity_days, ca_days, renew_before_days, access_rights } =
        &config.enrollment;
    let identity = match identity {
        Identity::Scep => "scep",
    };
    vec![
        ("organization.name", name.clone()),
        ("organization.identifier", identifier.clone()),
        ("organization.email", shown(email.as_ref())),
        ("organization.phone", shown(phone.as_ref())),
        ("apns.server", format!("{} (port {})", config.apns.server, config.apns.server.port)),
        ("apns.trust", path(config.apns.trust.as_deref())),
        ("mdmcert.url", config.mdmcert.url.clone()),
        ("mdmcert.client_key", secret(config.mdmcert.client_key.as_ref())),
        ("mdmcert.trust", path(config.mdmcert.trust.as_deref())),
        ("doctor.public_address", shown(config.doctor.public_address.as_ref())),
        ("doctor.time", list(&config.doctor.time)),
        ("doctor.trust", path(config.doctor.trust.as_deref())),
        ("doctor.hosts", path(config.doctor.hosts.as_deref())),
        ("doctor.resolver", shown(config.doctor.resolver.as_ref())),
        ("doctor.free_mib", config.doctor.free_mib.to_string()),
        ("enrollment.identity", identity.to_owned()),
        ("enrollment.identity_days", identity_days.to_string()),
        ("enrollment.ca_days", ca_days.to_string()),
        ("enrollment.renew_before_days", renew_before_days.to_string()),
        ("enrollment.access_rights", access_rights.to_string()),
        ("proxy.trusted", list(&config.proxy.trusted)),
        ("proxy.client_certificate_header", shown(config.proxy.client_certificate_header.as_ref())),
    ]
}

fn operation(config: &Config) -> Vec<(&'static str, String)> {
    let Mail { server, from, to, user, password, tls, trust } = &config.mail;
    let tls = match tls {
        MailTls::StartTls => "starttls",
        MailTls::Tls => "tls",
        MailTls::None => "none",
    };
    let Updates { catalogue, catalogue_trust, source } = &config.updates;
    let Backup { directory, every, keep, packages } = &config.backup;
    vec![
        ("webhook.url", shown(config.webhook.url.as_ref())),
        ("webhook.secret", secret(config.webhook.secret.as_ref())),
        ("webhook.format", config.webhook.format.word().to_owned()),
        ("webhook.trust", path(config.webhook.trust.as_deref())),
        ("webhook.allow_private", config.webhook.allow_private.to_string()),
        ("webhook.timeout", duration(config.webhook.timeout)),
        ("mail.server", shown(server.as_ref())),
        ("mail.from", shown(from.as_ref())),
        ("mail.to", list(to)),
        ("mail.user", shown(user.as_ref())),
        ("mail.password", secret(password.as_ref())),
        ("mail.tls", tls.to_owned()),
        ("mail.trust", path(trust.as_deref())),
        ("updates.catalogue", location(catalogue)),
        ("updates.catalogue_trust", path(catalogue_trust.as_deref())),
        ("updates.source", source.as_ref().map_or_else(none, location)),
        ("retention.days", config.retention.days.to_string()),
        ("backup.directory", path(directory.as_deref())),
        ("backup.every", duration(*every)),
        ("backup.keep", keep.to_string()),
        ("backup.packages", packages.to_string()),
        ("admin.host", shown(config.admin.host.as_ref())),
    ]
}

fn appliance(appliance: &Appliance) -> Vec<(&'static str, String)> {
    let Appliance { hostname, timezone, ntp, ssh_keys, restore, network, wifi } = appliance;
    let Network { address, gateway, dns } = network;
    let Wifi { ssid, password, country } = wifi;
    vec![
        ("appliance.hostname", hostname.clone()),
        ("appliance.timezone", timezone.clone()),
        ("appliance.ntp", list(ntp)),
        ("appliance.ssh_keys", list(ssh_keys)),
        ("appliance.restore", path(restore.as_deref())),
        ("appliance.network.address", shown(address.as_ref())),
        ("appliance.network.gateway", shown(gateway.as_ref())),
        ("appliance.network.dns", list(dns)),
        ("appliance.wifi.ssid", shown(ssid.as_ref())),
        ("appliance.wifi.password", secret(password.as_ref())),
        ("appliance.wifi.country", shown(country.as_ref())),
    ]
}

impl Level {
    /// The word of the configuration, which `tracing` uses too.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

fn none() -> String {
    "none".to_owned()
}

fn shown(value: Option<&impl Display>) -> String {
    value.map_or_else(none, ToString::to_string)
}

fn list(values: &[impl Display]) -> String {
    if values.is_empty() {
        return none();
    }
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn path(path: Option<&Path>) -> String {
    path.map_or_else(none, |path| path.display().to_string())
}

fn location(location: &Location) -> String {
    match location {
        Location::Url(url) => url.clone(),
        Location::Path(file) => file.display().to_string(),
    }
}

fn secret(secret: Option<&impl Debug>) -> String {
    if secret.is_some() { "set".into() } else { "not set".into() }
}

fn duration(length: Seconds) -> String {
    let (unit, letter) =
        [(HOUR, 'h'), (MINUTE, 'm')].into_iter().find(|(unit, _)| length % unit == 0).unwrap_or((1, 's'));
    if length % DAY == 0 && length > DAY {
        format!("{}d", length / DAY)
    } else {
        format!("{}{letter}", length / unit)
    }
}
