//! What ends: the list, renewals that fail, revocation, mail and the calendar.

use std::sync::{Arc, Mutex};

use hyper::StatusCode;
use rcgen::{CertificateParams, KeyPair};
use russet::clock::DAY;
use russet::config::{Config, HostPort, MailTls};
use russet::enroll::invitation::Wanted;
use russet::expiry::{alert, findings, outbox};
use russet::finding::Severity;
use russet::mdm::renewal;
use russet::simulator::{Answer, Channel, Fault, Kind};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::net::TcpListener;

use crate::support::{Appliance, TOPIC};

async fn items(appliance: &Appliance, query: &str) -> Vec<Json> {
    let (status, answer) = appliance.api("GET", &format!("/api/v1/expiry{query}"), None).await;
    assert_eq!(status, 200, "{answer}");
    answer["items"].as_array().unwrap().clone()
}

fn is_refused(fault: &Fault) -> bool {
    matches!(fault, Fault::Refused { status: 400, .. })
}

#[tokio::test]
async fn everything_that_ends_is_in_one_list() {
    let mut appliance = Appliance::start().await;
    let phone = appliance.enroll(Kind::IPhone).await;
    let all = items(&appliance, "").await;
    let mut kinds: Vec<&str> = all.iter().map(|item| item["kind"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    let known = [
        "device-identity",
        "enrollment-ca",
        "profile-signer",
        "push-certificate",
        "tls-authority",
        "tls-certificate",
    ];
    assert_eq!(kinds, known);
    assert!(all.is_sorted_by_key(|item| item["days_left"].as_i64()));
    let of_device = items(&appliance, "?kind=device-identity").await;
    assert_eq!(of_device.len(), 1);
    assert_eq!(of_device[0]["enrollment_id"], phone.udid);
    assert_eq!((&of_device[0]["renews_itself"], &of_device[0]["state"]), (&json!(true), &json!("good")));

    let mut cursor = String::new();
    let mut paged = Vec::new();
    loop {
        let (_, page) = appliance.api("GET", &format!("/api/v1/expiry?limit=4{cursor}"), None).await;
        paged.extend(page["items"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(paged, all);
    for wrong in ["?kind=cheese", "?limit=0", "?cursor=%00"] {
        assert_eq!(appliance.api("GET", &format!("/api/v1/expiry{wrong}"), None).await.0, 400, "{wrong}");
    }
    assert!(findings(&appliance.app().expiry).unwrap().iter().all(|found| found.severity == Severity::Ok));
}

#[tokio::test]
async fn a_renewal_that_fails_says_who_was_asked_when_what_was_answered_and_when_it_is_tried_again() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let days = i64::from(appliance.config.enrollment.identity_days);
    appliance.clock.advance((days - 50) * DAY);
    appliance.app().renew_certificates().await.unwrap();
    renewal::round(&appliance.app().mdm).await.unwrap();
    let item = items(&appliance, "?kind=device-identity").await.remove(0);
    assert_eq!(item["state"], "renewing");
    assert_eq!(item["last_attempt"]["answer"], "The device has not come for it yet.");
    assert!(
        alert::round(&appliance.app().expiry).await.unwrap().is_empty(),
        "nobody is told what may still come"
    );

    let command = phone.idle(Channel::Device).await.unwrap().unwrap();
    phone.report(&command, Answer::error(12021, "no\r\nroom"), Channel::Device).await.unwrap();
    let item = items(&appliance, "?kind=device-identity").await.remove(0);
    assert_eq!(item["state"], "late");
    let answer = item["last_attempt"]["answer"].as_str().unwrap();
    assert!(
        answer.contains("answered Error") && answer.contains("12021") && !answer.contains('\n'),
        "{answer}"
    );
    assert_eq!(item["last_attempt"]["failed"], true);
    assert!(item["next_attempt"].as_str().unwrap() > item["last_attempt"]["at"].as_str().unwrap());
    let found = findings(&appliance.app().expiry).unwrap();
    let failing = found.iter().find(|found| found.code == "identity-renewal-fails").unwrap();
    assert!(failing.seen.contains("answered Error"), "{failing:?}");
    let told = alert::round(&appliance.app().expiry).await.unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].days, told[0].enrollment_id.as_deref()), (60, Some(&*phone.udid)));
    let events: i64 = appliance
        .value("SELECT COUNT(*) FROM events WHERE kind = 'alert' AND enrollment_id = ?1", &phone.udid);
    assert_eq!(events, 1);

    // It works the next time, and all is well.
    appliance.clock.advance(5 * 3600);
    phone.connect(Channel::Device).await.unwrap();
    let item = items(&appliance, "?kind=device-identity").await.remove(0);
    assert_eq!((&item["state"], &item["last_attempt"]), (&json!("good"), &Json::Null));
}

#[tokio::test]
async fn a_renewal_that_scep_refused_is_shown_with_the_reason() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let days = i64::from(appliance.config.enrollment.identity_days);
    appliance.clock.advance((days - 50) * DAY);
    appliance.app().renew_certificates().await.unwrap();
    renewal::round(&appliance.app().mdm).await.unwrap();
    // As if another had used its challenge before.
    let sql = "UPDATE sessions SET enrollment_id = 'another' WHERE renews IS NOT NULL";
    appliance.app().store.write("test", move |tx| Ok(tx.execute(sql, [])?)).await.unwrap();
    phone.connect(Channel::Device).await.unwrap();
    let item = items(&appliance, "?kind=device-identity").await.remove(0);
    let answer = item["last_attempt"]["answer"].as_str().unwrap();
    assert!(
        answer.contains("SCEP refused") && answer.contains("the challenge was used by another key"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_revoked_identity_proves_nothing_ends_nothing_and_the_device_comes_back_by_enrolling() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let path = format!("/api/v1/enrollments/{}/revoke-identity", phone.udid);
    // A renewal that is under way must not be a way back.
    let days = i64::from(appliance.config.enrollment.identity_days);
    appliance.clock.advance((days - 50) * DAY);
    appliance.app().renew_certificates().await.unwrap();
    let renewal = phone.idle(Channel::Device).await.unwrap().unwrap();
    assert_eq!(renewal.request_type, "InstallProfile");

    let (status, revoked) = appliance.api("POST", &path, None).await;
    assert_eq!((status, &revoked["revoked"]), (StatusCode::OK, &json!(1)), "{revoked}");
    assert_eq!(appliance.api("POST", &path, None).await.0, 409, "there is nothing more to revoke");
    assert_eq!(appliance.api("POST", "/api/v1/enrollments/nobody/revoke-identity", None).await.0, 404);
    for _ in 0..2 {
        let fault = phone.connect(Channel::Device).await.unwrap_err();
        assert!(is_refused(&fault), "{fault}");
        assert!(is_refused(&phone.token_update(Channel::Device).await.unwrap_err()));
        assert!(is_refused(&phone.authenticate().await.unwrap_err()));
        appliance.restart(|_| {}).await;
    }
    assert!(phone.is_enrolled(), "nothing that it was answered ends management");
    let state = |appliance: &Appliance, udid: &str| -> String {
        appliance.value("SELECT state FROM enrollments WHERE id = ?1", udid)
    };
    assert_eq!(state(&appliance, &phone.udid), "enrolled");
    let told: i64 = appliance.value(
        "SELECT COUNT(*) FROM events WHERE kind = 'identity-revoked' AND enrollment_id = ?1",
        &phone.udid,
    );
    assert_eq!(told, 1);
    let audited: i64 = appliance
        .value("SELECT COUNT(*) FROM audit WHERE action = 'identity.revoke' AND object = ?1", &phone.udid);
    assert_eq!(audited, 1);
    assert!(items(&appliance, "?kind=device-identity").await.is_empty());
    // Who holds the key and says that the device leaves is not believed.
    let _ = phone.remove_management().await;
    assert_eq!(state(&appliance, &phone.udid), "enrolled");

    let mut again = appliance.device(Kind::IPhone);
    again.udid.clone_from(&phone.udid);
    let link = appliance.invite_as(Wanted { uses: Some(1), reenroll: true, ..Wanted::default() }).await;
    again.enroll(&link).await.unwrap();
    again.connect(Channel::Device).await.unwrap();
    assert_eq!(items(&appliance, "?kind=device-identity").await.len(), 1);
}

/// Identities so long that no renewal comes in time: the profile is sent for the root alone.
#[tokio::test]
async fn devices_without_the_next_tls_root_are_sent_it_before_the_old_one_ends() {
    let mut appliance = Appliance::bare(|config| {
        config.enrollment.ca_days = 300;
        config.enrollment.identity_days = 295;
        config.enrollment.renew_before_days = 4;
    })
    .await;
    appliance.import_push_certificate(TOPIC).await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let (first, identity) = (appliance.app().enroll.anchor(), phone.identity.clone().unwrap());
    appliance.clock.advance(160 * DAY);
    appliance.app().renew_certificates().await.unwrap();
    assert!(appliance.app().enroll.next_anchor().is_some());
    renewal::round(&appliance.app().mdm).await.unwrap();
    assert!(phone.connect(Channel::Device).await.unwrap().is_empty(), "there is time yet");
    let codes = |appliance: &Appliance| -> Vec<&str> {
        let found = findings(&appliance.app().expiry).unwrap();
        found.iter().filter(|found| found.severity > Severity::Ok).map(|found| found.code).collect()
    };
    assert!(codes(&appliance).is_empty());

    appliance.clock.advance(70 * DAY);
    appliance.app().renew_certificates().await.unwrap();
    assert_eq!(codes(&appliance), ["tls-authority-ends"]);
    assert_eq!(
        appliance.app().enroll.anchor(),
        first,
        "nothing is issued from a root that a device does not know"
    );
    renewal::round(&appliance.app().mdm).await.unwrap();
    renewal::round(&appliance.app().mdm).await.unwrap();
    let exchanges = phone.connect(Channel::Device).await.unwrap();
    assert_eq!(exchanges.len(), 1);
    assert_ne!(phone.identity.as_ref().unwrap().certificate, identity.certificate);

    appliance.clock.advance(60);
    appliance.app().renew_certificates().await.unwrap();
    assert_ne!(appliance.app().enroll.anchor(), first, "all have it, so it takes over");
    assert!(codes(&appliance).is_empty());
    appliance.restart(|_| {}).await;
    assert!(phone.connect(Channel::Device).await.unwrap().is_empty());
    let told: i64 = appliance.value("SELECT COUNT(*) FROM events WHERE kind = ?1", "tls-authority-succeeded");
    assert_eq!(told, 1);
}

#[tokio::test]
async fn the_calendar_opens_with_its_own_token_and_with_no_other() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let (status, made) = appliance.api("POST", "/api/v1/calendar", None).await;
    assert_eq!(status, 201, "{made}");
    let url = made["url"].as_str().unwrap().to_owned();
    let feed = phone.fetch(&url).await.unwrap();
    assert_eq!((feed.status, feed.content_type().as_str()), (200, "text/calendar"));
    let text = String::from_utf8(feed.body).unwrap();
    assert!(text.starts_with("BEGIN:VCALENDAR\r\nVERSION:2.0\r\n"), "{text}");
    assert_eq!(text.matches("BEGIN:VEVENT").count(), 5, "identities that are good are in no calendar");
    assert!(text.split("\r\n").all(|line| line.len() <= 75));

    let (_, token) =
        appliance.api("POST", "/api/v1/tokens", Some(json!({"name": "a", "scope": "admin"}))).await;
    let page = url.split_once('?').unwrap().0.to_owned();
    for wrong in ["", "?token=", "?token=x", &format!("?token={}", token["token"].as_str().unwrap())] {
        assert_eq!(phone.fetch(&format!("{page}{wrong}")).await.unwrap().status, 404, "{wrong}");
    }
    let path = format!("/api/v1/calendar/{}", made["id"]);
    assert_eq!(appliance.api("DELETE", &path, None).await.0, 204);
    assert_eq!(appliance.api("DELETE", &path, None).await.0, 404);
    assert_eq!(phone.fetch(&url).await.unwrap().status, 404);
    let (_, list) = appliance.api("GET", "/api/v1/calendar", None).await;
    assert!(list["items"][0]["revoked_at"].is_string());
    assert!(!list.to_string().contains(url.split_once('=').unwrap().1));
}

/// How the stand-in of a mail server behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Smtp {
    Good,
    Refuses,
    HangsUp,
}

/// A stand-in for a mail server: what it was told, line by line.
struct MailServer {
    port: u16,
    heard: Arc<Mutex<Vec<String>>>,
    manner: Arc<Mutex<Smtp>>,
    pem: String,
}

impl MailServer {
    /// `wrapped`: it speaks TLS from the first byte.
    async fn start(wrapped: bool) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let tls = rustls::ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(certificate.der().to_vec())],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
        let listener = TcpListener::bind(("localhost", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let manner = Arc::new(Mutex::new(Smtp::Good));
        let (lines, behaves) = (heard.clone(), manner.clone());
        tokio::spawn(async move {
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
            while let Ok((stream, _)) = listener.accept().await {
                let manner = *behaves.lock().unwrap();
                let (lines, acceptor) = (lines.clone(), acceptor.clone());
                tokio::spawn(async move {
                    if wrapped {
                        let Ok(secure) = acceptor.accept(stream).await else { return };
                        talk(&mut BufStream::new(secure), &lines, manner, true).await;
                        return;
                    }
                    let mut plain = BufStream::new(stream);
                    if talk(&mut plain, &lines, manner, true).await.is_some() {
                        let Ok(secure) = acceptor.accept(plain.into_inner()).await else { return };
                        talk(&mut BufStream::new(secure), &lines, manner, false).await;
                    }
                });
            }
        });
        Self { port, heard, manner, pem: certificate.pem() }
    }

    fn configure(&self, config: &mut Config, tls: MailTls) {
        let trust = config.data_dir.with_file_name("mail.pem");
        std::fs::write(&trust, &self.pem).unwrap();
        config.mail.server = Some(HostPort { host: "localhost".into(), port: self.port });
        config.mail.from = Some("russet@example.org".into());
        config.mail.to = vec!["it@example.org".into(), "head@example.org".into()];
        config.mail.tls = tls;
        config.mail.trust = Some(trust);
    }

    fn text(&self) -> String {
        self.heard.lock().unwrap().join("\n")
    }
}

/// Answers until the client goes; something when it wants to begin TLS.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufStream<S>,
    heard: &Mutex<Vec<String>>,
    manner: Smtp,
    greets: bool,
) -> Option<()> {
    async fn say<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufStream<S>, line: &str) -> Option<()> {
        stream.write_all(format!("{line}\r\n").as_bytes()).await.ok()?;
        stream.flush().await.ok()
    }
    if greets {
        say(stream, "220 stand-in ready").await?;
    }
    let mut in_data = false;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        heard.lock().unwrap().push(line.clone());
        if in_data {
            if line == "." {
                in_data = false;
                say(stream, "250 2.0.0 queued as 42").await?;
            }
            continue;
        }
        let word = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        match word.as_str() {
            "EHLO" if greets => say(stream, "250-stand-in\r\n250 STARTTLS").await?,
            "EHLO" => say(stream, "250-stand-in\r\n250 AUTH PLAIN").await?,
            "STARTTLS" => {
                say(stream, "220 go on").await?;
                return Some(());
            }
            "MAIL" if manner == Smtp::HangsUp => return None,
            "RCPT" if manner == Smtp::Refuses => say(stream, "550 5.1.1 nobody \u{7} here").await?,
            "DATA" => {
                in_data = true;
                say(stream, "354 go on").await?;
            }
            "QUIT" => {
                say(stream, "221 bye").await?;
                return None;
            }
            _ => say(stream, "250 ok").await?,
        }
    }
}

#[tokio::test]
async fn a_test_mail_goes_by_starttls_to_all_and_errors_are_words() {
    let server = MailServer::start(false).await;
    let mut appliance = Appliance::bare(|config| server.configure(config, MailTls::StartTls)).await;
    let (status, sent) = appliance.api("POST", "/api/v1/mail/test", None).await;
    assert_eq!(status, 200, "{sent}");
    assert_eq!(sent["to"], json!(["it@example.org", "head@example.org"]));
    assert!(sent["answer"].as_str().unwrap().contains("queued as 42"), "{sent}");
    let text = server.text();
    let (clear, secret) = text.split_once("STARTTLS").unwrap();
    assert!(!clear.contains("MAIL FROM") && secret.contains("MAIL FROM:<russet@example.org>"), "{text}");
    assert!(
        text.contains("RCPT TO:<it@example.org>") && text.contains("RCPT TO:<head@example.org>"),
        "{text}"
    );

    *server.manner.lock().unwrap() = Smtp::Refuses;
    let (status, refused) = appliance.api("POST", "/api/v1/mail/test", None).await;
    assert_eq!(status, 409);
    let words = refused["error"]["message"].as_str().unwrap();
    assert!(
        words.contains("refused the mail") && words.contains("nobody") && !words.contains('\u{7}'),
        "{words}"
    );
    *server.manner.lock().unwrap() = Smtp::HangsUp;
    let (status, refused) = appliance.api("POST", "/api/v1/mail/test", None).await;
    assert_eq!(status, 409);
    assert!(refused["error"]["message"].as_str().unwrap().contains("cannot be spoken to"), "{refused}");

    // A server whose certificate nobody vouches for is told nothing.
    *server.manner.lock().unwrap() = Smtp::Good;
    server.heard.lock().unwrap().clear();
    let other = MailServer::start(false).await;
    let trust = appliance.config.data_dir.with_file_name("mail.pem");
    std::fs::write(&trust, &other.pem).unwrap();
    appliance.restart(|_| {}).await;
    let (status, refused) = appliance.api("POST", "/api/v1/mail/test", None).await;
    assert_eq!(status, 409);
    assert!(refused["error"]["message"].as_str().unwrap().contains("TLS with localhost"), "{refused}");
    assert!(!server.text().contains("MAIL FROM"));

    appliance.restart(|config| config.mail.server = None).await;
    let (status, none) = appliance.api("POST", "/api/v1/mail/test", None).await;
    assert_eq!(
        (status, none["error"]["message"].as_str().unwrap().contains("[mail]")),
        (StatusCode::CONFLICT, true)
    );
}

#[tokio::test]
async fn mail_goes_by_tls_from_the_first_byte_too() {
    let server = MailServer::start(true).await;
    let appliance = Appliance::bare(|config| server.configure(config, MailTls::Tls)).await;
    let (status, sent) = appliance.api("POST", "/api/v1/mail/test", None).await;
    assert_eq!(status, 200, "{sent}");
    assert!(server.text().starts_with("EHLO localhost"), "{}", server.text());
}

#[tokio::test]
async fn an_alert_is_mailed_once_though_the_mail_server_is_away_and_the_server_restarts() {
    let server = MailServer::start(false).await;
    *server.manner.lock().unwrap() = Smtp::HangsUp;
    let mut appliance = Appliance::bare(|config| server.configure(config, MailTls::None)).await;
    appliance.import_push_certificate(TOPIC).await;
    let ends = appliance.clock.now() + 20 * DAY;
    let set = move |tx: &russet::storage::Tx<'_>| {
        Ok(tx.execute("UPDATE push_certificates SET not_after = ?1", [ends])?)
    };
    appliance.app().store.write("test.push", set).await.unwrap();
    assert_eq!(alert::round(&appliance.app().expiry).await.unwrap().len(), 1);
    assert_eq!(outbox::round(&appliance.app().expiry).await.unwrap(), 0);
    let found = findings(&appliance.app().expiry).unwrap();
    let codes: Vec<_> = found.iter().map(|found| (found.code, found.severity)).collect();
    assert!(codes.contains(&("mail-not-sent", Severity::Warning)), "{codes:?}");
    let found = russet::mdm::pushable::findings(&appliance.app().store).unwrap();
    assert_eq!((found[0].code, found[0].severity), ("push-certificate-expires", Severity::Warning));

    appliance.restart(|_| {}).await;
    assert!(alert::round(&appliance.app().expiry).await.unwrap().is_empty());
    *server.manner.lock().unwrap() = Smtp::Good;
    server.heard.lock().unwrap().clear();
    appliance.clock.advance(3600);
    outbox::round(&appliance.app().expiry).await.unwrap();
    assert_eq!(outbox::round(&appliance.app().expiry).await.unwrap(), 0);
    let sent: i64 =
        appliance.value("SELECT COUNT(*) FROM outbox_mail WHERE sent_at IS NOT NULL AND ?1 <> ''", "x");
    assert_eq!(sent, 1);
    let text = server.text();
    assert_eq!(text.matches("MAIL FROM").count(), 1, "{text}");
    assert!(
        text.contains("identity.apple.com/pushcert") && text.contains("Auto-Submitted: auto-generated"),
        "{text}"
    );
    assert!(!findings(&appliance.app().expiry).unwrap().iter().any(|found| found.code == "mail-not-sent"));
}
