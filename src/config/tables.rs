//! Every setting with its type, its default and its check, table by table.
//!
//! `load` calls [`config`] once for the file and once with nothing written, which gives the defaults
//! and the list of the settings that exist. The order is that of INTERFACE section 2.
//!
//! **Invariant:** every setting is read exactly once here (or in `appliance`), whatever the others
//! say; so the keys read are the keys that exist.

use std::net::IpAddr;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::address::{HostPort, Location, Origin, host, mail, own_network, socket, url};
use super::settings::Settings;
use super::{
    Acme, Admin, Apns, Backup, Challenge, Config, DnsWriter, Doctor, Enrollment, Identity, Level, Log,
    LogFormat, Mail, MailTls, Mdmcert, Organization, Proxy, Retention, Secret, Server, Tls, TlsMode,
    UpdateAlgorithm, UpdateKey, Updates, Webhook, WebhookFormat, appliance, check, files,
};
use crate::clock::DAY;

/// Reads all tables; mistakes gather in `settings`.
pub(super) fn config(settings: &mut Settings) -> Config {
    let data_dir = settings.folder("data_dir", "./russet-data");
    let server = server(settings);
    let tls = tls(settings);
    of_acme(settings, &tls, &server);
    Config {
        data_dir,
        server,
        tls,
        organization: organization(settings),
        apns: Apns {
            server: settings.text("apns.server", Origin::new("api.push.apple.com", 443), Origin::parse),
            trust: roots(settings, "apns.trust"),
        },
        mdmcert: Mdmcert {
            url: settings.text("mdmcert.url", check::MDMCERT.to_owned(), |text| url(text, &["https"])),
            client_key: settings.optional("mdmcert.client_key", |text| Ok(Secret::new(text))),
            trust: roots(settings, "mdmcert.trust"),
        },
        doctor: Doctor {
            public_address: settings.optional("doctor.public_address", socket),
            time: settings.list("doctor.time", vec![check::TIME.to_owned()], |text| url(text, &["https"])),
            trust: roots(settings, "doctor.trust"),
            hosts: settings.path("doctor.hosts"),
            resolver: settings.optional("doctor.resolver", socket),
            free_mib: settings.number("doctor.free_mib", 512, 16..=100_000_000),
        },
        enrollment: enrollment(settings),
        proxy: proxy(settings),
        webhook: webhook(settings),
        mail: mail_table(settings),
        updates: updates(settings),
        retention: Retention { days: settings.number("retention.days", 90, 1..=36_500) },
        backup: Backup {
            directory: settings.path("backup.directory"),
            every: settings.text("backup.every", DAY, check::duration),
            keep: settings.number("backup.keep", 14, 1..=10_000),
            packages: settings.switch("backup.packages", false),
        },
        admin: Admin { host: settings.optional("admin.host", host) },
        appliance: appliance::table(settings),
        log: log(settings),
    }
}

/// A PEM file with certificates to trust.
fn roots(settings: &mut Settings, key: &'static str) -> Option<PathBuf> {
    let path = settings.path(key);
    settings.file(key, path.as_deref(), Some(files::CERTIFICATE));
    path
}

fn server(settings: &mut Settings) -> Server {
    let listen = settings.list("server.listen", vec![([0; 8], 8443).into()], socket);
    let admin_listen = settings.list("server.admin_listen", Vec::new(), socket);
    let http_listen = settings.list("server.http_listen", Vec::new(), socket);
    let public_url = settings.text("server.public_url", Origin::new("localhost", 8443), Origin::parse);
    let lists = [&listen, &admin_listen, &http_listen];
    let mut all: Vec<_> = lists.into_iter().flatten().filter(|address| address.port() != 0).collect();
    all.sort_unstable();
    if let Some(twice) = all.windows(2).find(|pair| pair[0] == pair[1]) {
        let keys = ["server.http_listen", "server.admin_listen", "server.listen"];
        settings.contradiction(
            &keys,
            format!("{} is written twice; every address can be listened on once", twice[0]),
        );
    }
    if listen.is_empty() {
        settings.contradiction(
            &["server.listen"],
            "the list is empty, so no device could connect; write for example [\"[::]:8443\"] or take the line away",
        );
    }
    Server { listen, admin_listen, http_listen, public_url }
}

fn tls(settings: &mut Settings) -> Tls {
    let mode = settings.text("tls.mode", "self-signed", |text| {
        check::one_of(text, &[("self-signed", "self-signed"), ("files", "files"), ("acme", "acme")])
    });
    let certificate = settings.path("tls.certificate");
    let private_key = settings.path("tls.private_key");
    let acme = Acme {
        directory: settings
            .text("tls.acme.directory", check::LETS_ENCRYPT.to_owned(), |text| url(text, &["https"])),
        contact: settings.optional("tls.acme.contact", mail),
        challenge: settings.text("tls.acme.challenge", Challenge::TlsAlpn01, |text| {
            check::one_of(
                text,
                &[
                    ("tls-alpn-01", Challenge::TlsAlpn01),
                    ("http-01", Challenge::Http01),
                    ("dns-01", Challenge::Dns01),
                ],
            )
        }),
        trust: roots(settings, "tls.acme.trust"),
        external_account: external_account(settings),
        dns: None,
        dns_wait: settings
            .text("tls.acme.dns_wait", 20, |text| if text == "0s" { Ok(0) } else { check::duration(text) }),
    };
    let writer = dns_writer(settings);
    let acme = Acme { dns: writer.filter(|_| acme.challenge == Challenge::Dns01), ..acme };
    if mode == "files" {
        settings.file("tls.certificate", certificate.as_deref(), Some(files::CERTIFICATE));
        settings.file("tls.private_key", private_key.as_deref(), Some(files::PRIVATE_KEY));
    }
    let mode = match (mode, certificate, private_key) {
        ("files", Some(certificate), Some(private_key)) => TlsMode::Files { certificate, private_key },
        ("files", certificate, private_key) => {
            for (key, path) in [("tls.certificate", certificate), ("tls.private_key", private_key)] {
                if path.is_none() {
                    let words =
                        format!("mode \"files\" needs `{}`, the path of a PEM file", &key["tls.".len()..]);
                    settings.contradiction(&[key, "tls.mode"], words);
                }
            }
            TlsMode::SelfSigned
        }
        ("acme", ..) => TlsMode::Acme,
        _ => TlsMode::SelfSigned,
    };
    Tls { mode, acme }
}

/// What mode `acme` asks of the other settings.
fn of_acme(settings: &mut Settings, tls: &Tls, server: &Server) {
    if tls.mode != TlsMode::Acme {
        return;
    }
    let host = &server.public_url.host;
    if !host.contains('.') || host.parse::<IpAddr>().is_ok() {
        settings.contradiction(
            &["server.public_url", "tls.mode"],
            format!(
                "an ACME server gives certificates for names of the public DNS, and {host} is none; write for example \
                 public_url = \"https://mdm.example.org\", or tls.mode = \"self-signed\""
            ),
        );
    }
    match tls.acme.challenge {
        Challenge::Http01 if server.http_listen.is_empty() => settings.contradiction(
            &["tls.acme.challenge"],
            "\"http-01\" is asked over plain HTTP on port 80; write server.http_listen = [\"[::]:80\"] as well",
        ),
        Challenge::Dns01 if tls.acme.dns.is_none() => settings.contradiction(
            &["tls.acme.challenge"],
            "\"dns-01\" needs somebody who writes the record: dns_server for updates by RFC 2136, or dns_hook, a program",
        ),
        Challenge::TlsAlpn01 | Challenge::Http01 | Challenge::Dns01 => {}
    }
}

fn external_account(settings: &mut Settings) -> Option<(String, Secret)> {
    let name = settings
        .optional("tls.acme.account_key_id", |text| check::line(text, 500, "the key ID that the CA gave"));
    let key = settings.optional("tls.acme.account_key", |text| {
        let decoded = URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
        decoded.map(|_| Secret::new(text.trim_end_matches('='))).map_err(|_| {
            "this is not base64url; copy the HMAC key of the external account binding as the CA shows it"
                .into()
        })
    });
    match (name, key) {
        (Some(name), Some(key)) => Some((name, key)),
        (None, None) => None,
        _ => {
            settings.contradiction(
                &["tls.acme.account_key_id", "tls.acme.account_key"],
                "an external account has a key ID and a key; write both, or neither",
            );
            None
        }
    }
}

fn dns_writer(settings: &mut Settings) -> Option<DnsWriter> {
    let server = settings.optional("tls.acme.dns_server", HostPort::parse);
    let zone = settings.optional("tls.acme.dns_zone", host);
    let name = settings.optional("tls.acme.dns_key_name", host);
    let algorithm = settings.text("tls.acme.dns_key_algorithm", UpdateAlgorithm::HmacSha256, |text| {
        check::one_of(
            text,
            &[
                ("hmac-sha256", UpdateAlgorithm::HmacSha256),
                ("hmac-sha384", UpdateAlgorithm::HmacSha384),
                ("hmac-sha512", UpdateAlgorithm::HmacSha512),
            ],
        )
    });
    let secret = settings.optional("tls.acme.dns_key", |text| {
        STANDARD
            .decode(text)
            .map(|_| Secret::new(text))
            .map_err(|_| "this is not base64; copy the secret of the key as tsig-keygen prints it".to_owned())
    });
    let hook = settings.list("tls.acme.dns_hook", Vec::new(), |text| Ok(text.to_owned()));
    let key = match (name, secret) {
        (Some(name), Some(secret)) => Some(UpdateKey { name, algorithm, secret }),
        (None, None) => None,
        _ => {
            settings.contradiction(
                &["tls.acme.dns_key_name", "tls.acme.dns_key"],
                "a key has a name and a secret; write dns_key_name and dns_key, or neither",
            );
            None
        }
    };
    if hook.first().is_some_and(|program| !program.starts_with('/')) {
        settings.contradiction(
            &["tls.acme.dns_hook"],
            "the list begins with the program's whole path, e.g. [\"/etc/russet/dns-hook\"]",
        );
    }
    match (server, hook.is_empty()) {
        (Some(_), false) => {
            settings.contradiction(
                &["tls.acme.dns_hook", "tls.acme.dns_server"],
                "the record is written by dns_server or by dns_hook; take one of the two away",
            );
            None
        }
        (Some(server), true) => Some(DnsWriter::Update { server, zone, key }),
        (None, false) => Some(DnsWriter::Hook(hook)),
        (None, true) => None,
    }
}

fn organization(settings: &mut Settings) -> Organization {
    Organization {
        name: settings.text("organization.name", "Russet".into(), |text| {
            check::line(text, 200, "the name that people know the organization by")
        }),
        identifier: settings.text("organization.identifier", "org.russet".into(), check::reverse_dns),
        email: settings.optional("organization.email", mail),
        phone: settings.optional("organization.phone", |text| check::line(text, 64, "a telephone number")),
    }
}

fn enrollment(settings: &mut Settings) -> Enrollment {
    let identity = settings.text("enrollment.identity", Identity::Scep, |text| match text {
        "acme" => {
            Err("this version gives identities by \"scep\", not yet by \"acme\"; write \"scep\"".into())
        }
        _ => check::one_of(text, &[("scep", Identity::Scep)]),
    });
    let identity_days = settings.number("enrollment.identity_days", 825, 1..=36_500);
    let ca_days = settings.number("enrollment.ca_days", 7300, 2..=36_500);
    // Whoever shortens the identities alone means them to be renewed in time, not at every contact.
    // Days are whole: identities of one day are renewed when they expire, which they may connect for.
    let default = (identity_days / 3).clamp(1, 60).min(identity_days.saturating_sub(1));
    let renew_before_days = settings.number("enrollment.renew_before_days", default, 0..=36_500);
    let access_rights = settings.number("enrollment.access_rights", 8191, 1..=8191);
    if identity_days > ca_days {
        settings.contradiction(
            &["enrollment.identity_days", "enrollment.ca_days"],
            format!("identities of {identity_days} days would outlive their authority of {ca_days}; make identity_days smaller or ca_days larger"),
        );
    }
    // Allowed, because it is the way to see a renewal happen.
    if renew_before_days >= identity_days {
        settings.warning(
            &["enrollment.renew_before_days", "enrollment.identity_days"],
            format!("an identity of {identity_days} days that is due {renew_before_days} days before it expires is renewed again and again; make renew_before_days smaller, unless this is a test"),
        );
    }
    let missing = [(2, 1), (128, 64)]
        .into_iter()
        .filter(|(right, needed)| access_rights & right != 0 && access_rights & needed == 0);
    let complete = missing.fold(access_rights, |rights, (_, needed)| rights | needed);
    if complete != access_rights {
        settings.contradiction(
            &["enrollment.access_rights"],
            format!("right 2 needs right 1 and right 128 needs right 64, else devices refuse the profile; write {complete}"),
        );
    }
    let access_rights = u16::try_from(access_rights).unwrap_or(8191);
    Enrollment { identity, identity_days, ca_days, renew_before_days, access_rights }
}

fn proxy(settings: &mut Settings) -> Proxy {
    let trusted = settings.list("proxy.trusted", Vec::new(), check::proxies);
    let client_certificate_header = settings.optional("proxy.client_certificate_header", check::header_name);
    if client_certificate_header.is_some() && trusted.is_empty() {
        settings.contradiction(
            &["proxy.client_certificate_header", "proxy.trusted"],
            "the header is believed only from a trusted proxy, and `trusted` is empty; write the proxy's address there",
        );
    }
    Proxy { trusted, client_certificate_header }
}

fn webhook(settings: &mut Settings) -> Webhook {
    let url = settings.optional("webhook.url", |text| url(text, &["https", "http"]));
    let secret = settings.optional("webhook.secret", |text| Ok(Secret::new(text)));
    let formats = [WebhookFormat::Russet, WebhookFormat::MicroMdm].map(|format| (format.word(), format));
    let format = settings.text("webhook.format", WebhookFormat::Russet, |text| check::one_of(text, &formats));
    let trust = roots(settings, "webhook.trust");
    let allow_private = settings.switch("webhook.allow_private", false);
    let timeout = settings.text("webhook.timeout", 15, |text| {
        check::duration(text).and_then(|length| match length {
            1..=120 => Ok(length),
            _ => Err("a target has 1 to 120 seconds for its answer; write for example \"15s\"".into()),
        })
    });
    if let Some(place) = url.as_deref().and_then(own_network).filter(|_| !allow_private) {
        settings.contradiction(
            &["webhook.url", "webhook.allow_private"],
            format!(
                "{place} is in this machine's own network, where a webhook could be used to reach what nobody else can; write `allow_private = true` if that is what you want"
            ),
        );
    }
    let is_plain = url.as_deref().is_some_and(|url| !url.to_ascii_lowercase().starts_with("https://"));
    if is_plain && format == WebhookFormat::MicroMdm && !allow_private {
        settings.contradiction(
            &["webhook.url", "webhook.format"],
            "the bodies of format \"micromdm\" hold the secrets of devices; write an https:// address",
        );
    } else if is_plain && secret.is_none() {
        settings.warning(
            &["webhook.url", "webhook.secret"],
            "anybody on the way can read and change what is sent; write an https:// address, or at least a `secret`",
        );
    }
    if secret.is_some() && url.is_none() {
        settings.contradiction(
            &["webhook.secret", "webhook.url"],
            "there is a secret and no `url`; write where events are sent",
        );
    }
    Webhook { url, secret, format, trust, allow_private, timeout }
}

fn mail_table(settings: &mut Settings) -> Mail {
    let server = settings.optional("mail.server", HostPort::parse);
    let from = settings.optional("mail.from", mail);
    let to = settings.list("mail.to", Vec::new(), mail);
    let user = settings.optional("mail.user", |text| check::line(text, 200, "the user name"));
    let password = settings.optional("mail.password", |text| Ok(Secret::new(text)));
    let kinds = [("starttls", MailTls::StartTls), ("tls", MailTls::Tls), ("none", MailTls::None)];
    let tls = settings.text("mail.tls", MailTls::StartTls, |text| check::one_of(text, &kinds));
    let trust = roots(settings, "mail.trust");
    if user.is_some() != password.is_some() {
        settings.contradiction(
            &["mail.user", "mail.password"],
            "one of user and password alone signs nobody in; write both or neither",
        );
    }
    if password.is_some() && tls == MailTls::None {
        settings.contradiction(
            &["mail.tls", "mail.password"],
            "without TLS anybody on the way reads the password; write tls = \"starttls\" or \"tls\"",
        );
    }
    if server.is_some() {
        for (key, missing) in [("mail.from", from.is_none()), ("mail.to", to.is_empty())] {
            if missing {
                settings.contradiction(
                    &[key, "mail.server"],
                    format!("a mail server alone sends nothing; write `{}` too", &key["mail.".len()..]),
                );
            }
        }
    }
    Mail { server, from, to, user, password, tls, trust }
}

fn updates(settings: &mut Settings) -> Updates {
    let apple = Location::Url(check::APPLE_CATALOGUE.to_owned());
    let catalogue = settings.location("updates.catalogue", Some(apple.clone()), |text| url(text, &["https"]));
    if let Some(Location::Path(path)) = &catalogue {
        settings.file("updates.catalogue", Some(path), None);
    }
    Updates {
        // Written and empty means the default: there is no policy without a catalogue.
        catalogue: catalogue.unwrap_or(apple),
        catalogue_trust: roots(settings, "updates.catalogue_trust"),
        // Bundles are signed, so that plain HTTP takes nothing from them.
        source: settings.location("updates.source", None, |text| url(text, &["https", "http"])),
    }
}

fn log(settings: &mut Settings) -> Log {
    let levels = [
        ("error", Level::Error),
        ("warn", Level::Warn),
        ("info", Level::Info),
        ("debug", Level::Debug),
        ("trace", Level::Trace),
    ];
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    Log {
        level: settings.text("log.level", Level::Info, |text| check::one_of(text, &levels)),
        format: settings.text("log.format", LogFormat::Text, |text| check::one_of(text, &formats)),
    }
}
