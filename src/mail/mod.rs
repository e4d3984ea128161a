//! Mail by SMTP, through the server that `[mail]` names.
//!
//! `expiry::outbox` keeps what is to be sent and tries again; this sends one message and says in words
//! what became of it.
//!
//! **Invariant:** nothing of a subject or a text can become a header or another recipient.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use lettre::address::Envelope;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use crate::clock::Seconds;
use crate::config::{Mail, MailTls};
use crate::error::{Error, Result};
use crate::id;

/// How long a server may take for each answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much of a server's answer is told.
const LONGEST_ANSWER: usize = 300;
/// How long a subject may be.
const LONGEST_SUBJECT: usize = 150;

/// The way to a mail server.
#[derive(Clone)]
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Address,
    to: Vec<Address>,
    server: String,
    /// Our own name, for the greeting and Message-ID.
    host: String,
}

impl fmt::Debug for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mailer({})", self.server)
    }
}

/// Why a message was not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotSent {
    /// A sentence or two: what the server said, and what to do.
    pub words: String,
}

impl Mailer {
    /// The way that `[mail]` describes; nothing where there is no server. `host` is our own name. Connects
    /// to nothing.
    ///
    /// # Errors
    /// The trust file cannot be read or holds no certificate.
    pub fn open(config: &Mail, host: &str) -> Result<Option<Self>> {
        let (Some(server), Some(from)) = (&config.server, &config.from) else { return Ok(None) };
        let address = |text: &str| {
            text.parse::<Address>().map_err(|source| {
                Error::caused(
                    format!("{} cannot be sent mail to; correct [mail]", id::printable(text)),
                    source,
                )
            })
        };
        let unusable = |source| Error::caused("TLS for mail cannot be prepared", source);
        let parameters = || -> Result<TlsParameters> {
            let mut builder = TlsParameters::builder(server.host.clone());
            if let Some(path) = &config.trust {
                let wrong = |words: &str| {
                    Error::internal(format!("{}: {words}; correct [mail] trust", path.display()))
                };
                let pem = std::fs::read(path).map_err(|error| wrong(&error.to_string()))?;
                let roots = Certificate::from_pem(&pem).map_err(|_| wrong("it holds no certificate"))?;
                builder = builder.certificate_store(CertificateStore::None).add_root_certificate(roots);
            }
            builder.build_rustls().map_err(unusable)
        };
        let tls = match config.tls {
            MailTls::StartTls => Tls::Required(parameters()?),
            MailTls::Tls => Tls::Wrapper(parameters()?),
            MailTls::None => Tls::None,
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(server.host.clone())
            .port(server.port)
            .hello_name(match host.parse() {
                Ok(IpAddr::V4(address)) => ClientId::Ipv4(address),
                Ok(IpAddr::V6(address)) => ClientId::Ipv6(address),
                Err(_) => ClientId::Domain(host.to_owned()),
            })
            .tls(tls)
            .timeout(Some(PATIENCE));
        if let (Some(user), Some(password)) = (&config.user, &config.password) {
            builder = builder.credentials(Credentials::new(user.clone(), password.reveal().to_owned()));
        }
        Ok(Some(Self {
            transport: builder.build(),
            from: address(from)?,
            to: config.to.iter().map(|to| address(to)).collect::<Result<_>>()?,
            server: server.to_string(),
            host: host.to_owned(),
        }))
    }

    /// Whom it sends to.
    pub fn recipients(&self) -> Vec<String> {
        self.to.iter().map(ToString::to_string).collect()
    }

    /// Sends a message of plain text; answers what the server said.
    ///
    /// # Errors
    /// [`NotSent`], in words.
    pub async fn send(&self, subject: &str, text: &str, now: Seconds) -> Result<String, NotSent> {
        let message = self.message(subject, text, now)?;
        let envelope = Envelope::new(Some(self.from.clone()), self.to.clone())
            .map_err(|error| NotSent { words: format!("there is nobody to send to: {error}") })?;
        let bytes = message.formatted();
        let sent = self.transport.send_raw(&envelope, &bytes);
        // The library's patience is for each step; a server that dribbles has no more than this.
        match tokio::time::timeout(PATIENCE * 4, sent).await {
            Ok(Ok(answer)) => {
                let said: Vec<&str> = answer.message().collect();
                Ok(told(&format!("{} {}", answer.code(), said.join(" "))))
            }
            Ok(Err(error)) => Err(NotSent { words: self.words(&error) }),
            Err(_) => Err(NotSent { words: format!("{} did not finish within two minutes", self.server) }),
        }
    }

    fn message(&self, subject: &str, text: &str, now: Seconds) -> Result<Message, NotSent> {
        let subject: String = id::printable(subject).chars().take(LONGEST_SUBJECT).collect();
        let date = UNIX_EPOCH + Duration::from_secs(now.unsigned_abs());
        let mut builder = Message::builder()
            .from(Mailbox::new(Some("Russet".into()), self.from.clone()))
            .subject(subject)
            .date(date)
            .message_id(Some(format!("<{}@{}>", id::hex(&id::random::<16>()), self.host)))
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            builder = builder.to(Mailbox::new(None, to.clone()));
        }
        let mut message = builder
            .body(text.to_owned())
            .map_err(|error| NotSent { words: format!("the message cannot be written: {error}") })?;
        // RFC 3834: nobody's holiday answers it.
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        message.headers_mut().insert_raw(HeaderValue::new(automatic, "auto-generated".to_owned()));
        Ok(message)
    }

    fn words(&self, error: &lettre::transport::smtp::Error) -> String {
        use std::error::Error as _;
        let mut cause = error.to_string();
        let mut source = error.source();
        while let Some(deeper) = source {
            let words = deeper.to_string();
            if !cause.contains(&words) {
                cause = format!("{cause}: {words}");
            }
            source = deeper.source();
        }
        let cause = told(&cause);
        let server = &self.server;
        if error.is_timeout() {
            return format!(
                "{server} did not answer in time ({cause}); check [mail] server and the way to it"
            );
        }
        if error.is_tls() || cause.contains("certificate") {
            return format!("TLS with {server} failed ({cause}); check [mail] tls and trust");
        }
        match error.status().map(u16::from) {
            Some(530 | 534 | 535) => {
                format!(
                    "{server} does not take the user name and password ({cause}); check [mail] user and password"
                )
            }
            Some(code) if code >= 500 => {
                format!("{server} refused the mail ({cause}); check [mail] from and to")
            }
            Some(_) => format!("{server} cannot take the mail now ({cause})"),
            None => {
                format!("{server} cannot be spoken to ({cause}); check [mail] server, tls and the way to it")
            }
        }
    }
}

/// What a stranger's server said, in one printable line.
fn told(text: &str) -> String {
    id::printable(text).chars().take(LONGEST_ANSWER).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HostPort;

    fn mailer() -> Mailer {
        let config = Mail {
            server: Some(HostPort { host: "smtp.example.org".into(), port: 587 }),
            from: Some("russet@example.org".into()),
            to: vec!["it@example.org".into()],
            user: None,
            password: None,
            tls: MailTls::None,
            trust: None,
        };
        Mailer::open(&config, "mdm.example.org").unwrap().unwrap()
    }

    #[test]
    fn nothing_in_a_subject_or_a_text_becomes_a_header() {
        let subject = "iPad\r\nBcc: everybody@example.org\r\n\r\nhello\u{2028}x";
        let message =
            mailer().message(subject, "one\r\n.\r\nRCPT TO:<x@example.org>\r\n", 1_800_000_000).unwrap();
        let text = String::from_utf8(message.formatted()).unwrap();
        let (headers, _) = text.split_once("\r\n\r\n").unwrap();
        assert!(!headers.lines().any(|line| line.to_ascii_lowercase().starts_with("bcc")), "{headers}");
        assert_eq!(headers.lines().filter(|line| line.starts_with("Subject:")).count(), 1);
        assert!(headers.contains("Auto-Submitted: auto-generated"), "{headers}");
        assert!(headers.contains("Date: Fri, 15 Jan 2027"), "{headers}");
        assert!(headers.lines().all(|line| line.len() <= 998));
    }

    #[test]
    fn without_a_server_there_is_no_mail() {
        assert!(Mailer::open(&crate::config::Config::default().mail, "localhost").unwrap().is_none());
    }
}
