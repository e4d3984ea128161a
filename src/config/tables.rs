//! Every setting with its type, its default and its check, table by table.
//!
//! `load` calls [`config`] once for the file and once with nothing written, which gives the defaults
//! and the list of the settings that exist. The order is that of INTERFACE section 2.
//!
//! **Invariant:** every setting is read exactly once here (or in `appliance`), whatever the others
//! say; so the keys read are the keys that exist.

use std::path::PathBuf;

use super::address::{HostPort, Location, Origin, host, mail, socket, url};
use super::settings::Settings;
use super::{
    Acme, Admin, Apns, Backup, Challenge, Config, Enrollment, Identity, Level, Log, LogFormat, Mail, MailTls,
    Organization, Proxy, Retention, Secret, Server, Tls, TlsMode, Updates, Webhook, appliance, check, files,
};
use crate::clock::DAY;

/// Reads all tables; mistakes gather in `settings`.
pub(super) fn config(settings: &mut Settings) -> Config {
    Config {
        data_dir: settings.folder("data_dir", "./russet-data"),
        server: server(settings),
        tls: tls(settings),
        organization: organization(settings),
        apns: Apns {
            server: settings.text("apns.server", Origin::new("api.push.apple.com", 443), Origin::parse),
            trust: roots(settings, "apns.trust"),
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
    };
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
        ("acme", ..) => {
            let words = "this version serves \"self-signed\" and \"files\", not yet \"acme\"; write \"files\" and let an ACME client renew them";
            settings.contradiction(&["tls.mode"], words);
            TlsMode::SelfSigned
        }
        _ => TlsMode::SelfSigned,
    };
    Tls { mode, acme }
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
    if secret.is_some() && url.is_none() {
        settings.contradiction(
            &["webhook.secret", "webhook.url"],
            "there is a secret and no `url`; write where events are sent",
        );
    }
    Webhook { url, secret }
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
