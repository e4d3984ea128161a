//! Everything that ends, in one place: identities of devices, our authorities, the TLS certificate, the
//! signer of profiles, push certificates.
//!
//! [`Expiry::all`] is the list; `alert` says in time what somebody has to see to, `outbox` sends it by
//! mail, `calendar` and `feed` show it in calendars, `finding` to `doctor`, `metric` to who draws curves.
//! Nothing is renewed here: `mdm::renewal` and `server` do that.
//!
//! **Invariant:** what renews by itself is silent until that fails or is late.

pub mod alert;
pub mod calendar;
pub mod feed;
mod finding;
mod metric;
pub mod outbox;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::apns::certificate as push_certificate;
use crate::clock::{DAY, Seconds, rfc3339};
use crate::config::{Config, TlsMode};
use crate::error::{Error, Result};
use crate::id;
use crate::mail::Mailer;
use crate::mdm::ending::{self, Attempt};
use crate::mdm::enrollment;
use crate::pki::authority::{self, Lifetimes, Listed};
use crate::pki::certificate::Certificate;
use crate::pki::tls_authority::{Next, renewed_before};
use crate::storage::Store;

pub use finding::findings;
pub use metric::{Sample, metrics};

/// How long after its time the server itself may take to renew what it renews every minute.
const LATE: Seconds = DAY;
/// The earliest alert.
const FIRST_ALERT: i64 = 60;

/// What ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    PushCertificate,
    TlsCertificate,
    TlsAuthority,
    EnrollmentCa,
    ProfileSigner,
    DeviceIdentity,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::PushCertificate,
        Self::TlsCertificate,
        Self::TlsAuthority,
        Self::EnrollmentCa,
        Self::ProfileSigner,
        Self::DeviceIdentity,
    ];

    /// As the API and the metrics say it.
    pub fn word(self) -> &'static str {
        match self {
            Self::PushCertificate => "push-certificate",
            Self::TlsCertificate => "tls-certificate",
            Self::TlsAuthority => "tls-authority",
            Self::EnrollmentCa => "enrollment-ca",
            Self::ProfileSigner => "profile-signer",
            Self::DeviceIdentity => "device-identity",
        }
    }

    /// As a person says it, with its article.
    pub fn words(self) -> &'static str {
        match self {
            Self::PushCertificate => "the push certificate",
            Self::TlsCertificate => "the TLS certificate",
            Self::TlsAuthority => "the TLS authority",
            Self::EnrollmentCa => "the enrollment CA",
            Self::ProfileSigner => "the signer of profiles",
            Self::DeviceIdentity => "the identity of the device",
        }
    }

    /// What to do when it ends and is not renewed, a sentence.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::PushCertificate => {
                "Renew it at identity.apple.com/pushcert with the same Apple Account (Renew, never Create), then \
                 import it: russet push-certificate import."
            }
            Self::TlsCertificate => {
                "Renew the files that [tls] names, or see in the log why the server could not renew its certificate."
            }
            Self::TlsAuthority | Self::EnrollmentCa | Self::ProfileSigner => {
                "See in the log why the server could not make the next one; check its clock and its disk."
            }
            Self::DeviceIdentity => {
                "Switch the device on and connect it to the internet; see docs/expiry.md if it has come and failed."
            }
        }
    }
}

/// One certificate that ends.
#[derive(Clone, Debug)]
pub struct Ends {
    pub kind: Kind,
    /// Whose it is: a name, a topic, a device; printable.
    pub subject: String,
    pub enrollment_id: Option<String>,
    /// SHA-256 of the certificate, hexadecimal: what it is known by.
    pub certificate: String,
    pub not_after: Seconds,
    /// Whether the server renews it, with nobody's help.
    pub renews_itself: bool,
    /// When its renewal begins, if it renews itself.
    pub renewal_at: Option<Seconds>,
    /// Another has taken its place; it is only kept for who still knows it.
    pub succeeded: bool,
    /// Its renewal failed, or is past its time.
    pub late: bool,
    /// Alerts begin so many days before its end.
    pub first_alert: i64,
    pub attempt: Option<Attempt>,
}

impl Ends {
    /// Whether a person has to see to it.
    pub fn needs_somebody(&self) -> bool {
        !self.succeeded && (!self.renews_itself || self.late)
    }

    /// Whole days that are left; negative when it has ended.
    pub fn days_left(&self, now: Seconds) -> i64 {
        (self.not_after - now).div_euclid(DAY)
    }

    fn state(&self, now: Seconds) -> &'static str {
        match () {
            () if self.succeeded => "succeeded",
            () if self.not_after <= now => "ended",
            () if self.renews_itself && self.late => "late",
            () if self.renewal_at.is_some_and(|at| at <= now) => "renewing",
            () if !self.renews_itself && self.days_left(now) < self.first_alert => "ending",
            () => "good",
        }
    }

    /// As the API answers it; times are RFC 3339.
    pub fn to_json(&self, now: Seconds) -> Value {
        json!({
            "kind": self.kind.word(),
            "subject": self.subject,
            "enrollment_id": self.enrollment_id,
            "certificate": self.certificate,
            "not_after": rfc3339(self.not_after),
            "days_left": self.days_left(now),
            "state": self.state(now),
            "renews_itself": self.renews_itself,
            "renewal_at": self.renewal_at.map(rfc3339),
            "last_attempt": self.attempt.as_ref().map(|attempt| json!({
                "at": rfc3339(attempt.at),
                "failed": attempt.failed,
                "answer": attempt.answer,
            })),
            "next_attempt": self.attempt.as_ref().map(|attempt| rfc3339(attempt.next_at)),
        })
    }

    /// Orders the list: what ends first comes first.
    pub fn key(&self) -> String {
        format!("{:012} {} {}", self.not_after, self.kind.word(), self.certificate)
    }
}

/// What `server` presents, asked whenever it is needed.
#[derive(Clone)]
pub struct Watched {
    /// The TLS certificate that is presented now, DER.
    pub tls_certificate: Arc<dyn Fn() -> Option<Vec<u8>> + Send + Sync>,
    /// The TLS root that devices have to get before it takes over.
    pub next_root: Arc<dyn Fn() -> Option<Next> + Send + Sync>,
}

/// The part of the server that watches what ends; a cheap handle.
#[derive(Clone)]
pub struct Expiry(Arc<Parts>);

struct Parts {
    store: Store,
    watched: Watched,
    /// Whether the server renews its TLS certificate.
    tls_renews: bool,
    self_signed: bool,
    lifetimes: Lifetimes,
    renew_before: Seconds,
    mailer: Option<Mailer>,
    /// Held by who sends what waits: two would send it twice.
    sending: Mutex<()>,
    organization: String,
    public_url: String,
    host: String,
}

impl fmt::Debug for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Expiry(…)")
    }
}

impl Expiry {
    /// Puts the parts together; connects to nothing.
    ///
    /// # Errors
    /// The trust file of `[mail]` cannot be used.
    pub fn open(config: &Config, store: &Store, watched: Watched) -> Result<Self> {
        let enrollment = &config.enrollment;
        Ok(Self(Arc::new(Parts {
            store: store.clone(),
            watched,
            tls_renews: !matches!(config.tls.mode, TlsMode::Files { .. }),
            self_signed: matches!(config.tls.mode, TlsMode::SelfSigned),
            lifetimes: Lifetimes { ca_days: enrollment.ca_days, identity_days: enrollment.identity_days },
            renew_before: i64::from(enrollment.renew_before_days) * DAY,
            mailer: Mailer::open(&config.mail, config.public_host())?,
            sending: Mutex::default(),
            organization: config.organization.name.clone(),
            public_url: config.server.public_url.to_string(),
            host: config.public_host().to_owned(),
        })))
    }

    /// Everything that ends, what ends first first.
    ///
    /// # Errors
    /// The database's.
    pub fn all(&self) -> Result<Vec<Ends>> {
        let now = self.0.store.clock().now();
        let presented = (self.0.watched.tls_certificate)();
        let mut all = self.0.store.peek(|conn| {
            let mut all = self.own(conn, presented.as_deref(), now)?;
            all.extend(push_certificates(conn)?);
            all.extend(self.identities(conn, now)?);
            Ok(all)
        })?;
        all.sort_by_cached_key(Ends::key);
        Ok(all)
    }

    /// Sends a mail now, to try whether that works; answers what the server said.
    ///
    /// # Errors
    /// `Conflict` in words: no mail server is configured, or what it answered.
    pub async fn test_mail(&self) -> Result<(Vec<String>, String)> {
        let Some(mailer) = &self.0.mailer else {
            return Err(Error::conflict(
                "no mail server is configured; write `server`, `from` and `to` in [mail] of russet.toml and restart",
            ));
        };
        let subject = format!("Russet at {}: this is a test", self.0.host);
        let body = format!(
            "Somebody asked the server at {} to send this mail.\nIf you read it, alerts will reach you too.\n",
            self.0.public_url
        );
        let sent = mailer.send(&subject, &body, self.0.store.clock().now()).await;
        sent.map(|answer| (mailer.recipients(), answer)).map_err(|not| Error::conflict(not.words))
    }

    fn own(&self, conn: &Connection, presented: Option<&[u8]>, now: Seconds) -> Result<Vec<Ends>> {
        let listed = authority::listed(conn)?;
        let mut all = Vec::new();
        let lead = |life| self.0.lifetimes.lead(life);
        all.extend(in_turn(Kind::EnrollmentCa, &listed.enrollment_cas, now, lead));
        if self.0.self_signed {
            all.extend(in_turn(Kind::TlsAuthority, &listed.tls_roots, now, lead));
            let signer = listed.profile_signer.as_ref().map(|signer| signer.certificate.as_slice());
            all.extend(signer.and_then(|der| of_der(Kind::ProfileSigner, der, now, renewed_before)));
        }
        if let Some(mut tls) =
            presented.and_then(|der| of_der(Kind::TlsCertificate, der, now, renewed_before))
        {
            if !self.0.tls_renews {
                tls.ends.renews_itself = false;
                tls.ends.late = false;
                tls.ends.renewal_at = None;
                // Whatever renews it does so in the last third of its life; before that there is no reason to ask.
                tls.ends.first_alert = FIRST_ALERT.min(tls.life / 4 / DAY);
            }
            all.push(tls);
        }
        Ok(all.into_iter().map(|aged| aged.ends).collect())
    }

    fn identities(&self, conn: &Connection, now: Seconds) -> Result<Vec<Ends>> {
        let renew_before = self.0.renew_before;
        // Some devices are off for a weekend, and some for two.
        let patience = (renew_before / 4).max(DAY);
        let mut all = Vec::new();
        for of in ending::identities(conn)? {
            let renewal_at = of.not_after - renew_before;
            let attempt = if renewal_at <= now { ending::attempt(conn, &of, now)? } else { None };
            let failed = attempt.as_ref().is_some_and(|attempt| attempt.failed);
            let mut name = [of.name.as_deref(), of.serial_number.as_deref()].into_iter().flatten();
            let name = name.find(|text| !text.is_empty()).unwrap_or(&of.enrollment_id);
            all.push(Ends {
                kind: Kind::DeviceIdentity,
                subject: id::printable(name),
                enrollment_id: Some(of.enrollment_id.clone()),
                certificate: id::hex(&of.fingerprint),
                not_after: of.not_after,
                renews_itself: true,
                renewal_at: Some(renewal_at),
                succeeded: false,
                late: failed || renewal_at + patience <= now,
                first_alert: FIRST_ALERT,
                attempt,
            });
        }
        Ok(all)
    }
}

/// An entry with the length of its certificate's life.
struct Aged {
    ends: Ends,
    life: Seconds,
}

/// Authorities, the newest first: the newest that is valid is renewed, the others were.
fn in_turn(kind: Kind, listed: &[Listed], now: Seconds, lead: impl Fn(Seconds) -> Seconds) -> Vec<Aged> {
    let mut all: Vec<Aged> = Vec::new();
    for one in listed {
        let Some(mut aged) = of_der(kind, &one.certificate, now, &lead) else { continue };
        let is_first = all.is_empty();
        if !is_first && aged.ends.not_after <= now {
            continue;
        }
        if !is_first {
            aged.ends.succeeded = true;
            aged.ends.late = false;
            aged.ends.renewal_at = None;
        }
        all.push(aged);
    }
    all
}

/// What the server renews by itself; nothing for a certificate that cannot be read, which was said elsewhere.
fn of_der(kind: Kind, der: &[u8], now: Seconds, before: impl Fn(Seconds) -> Seconds) -> Option<Aged> {
    let certificate = Certificate::from_der(der).ok()?;
    let life = certificate.not_after() - certificate.not_before();
    let renewal_at = certificate.not_after() - before(life);
    let ends = Ends {
        kind,
        subject: id::printable(&certificate.subject().to_string()),
        enrollment_id: None,
        certificate: id::hex(certificate.fingerprint()),
        not_after: certificate.not_after(),
        renews_itself: true,
        renewal_at: Some(renewal_at),
        succeeded: false,
        late: renewal_at + LATE.min(life / 10) <= now,
        first_alert: FIRST_ALERT,
        attempt: None,
    };
    Some(Aged { ends, life })
}

/// Those that push, of topics that devices use or will enroll with.
fn push_certificates(conn: &Connection) -> Result<Vec<Ends>> {
    let topics = enrollment::on_topics(conn)?;
    let mut all = Vec::new();
    let current = push_certificate::list(conn)?.into_iter().filter(|own| own.current);
    for (number, own) in current.enumerate() {
        let devices = topics.iter().find(|(topic, _)| *topic == own.topic).map_or(0, |(_, devices)| *devices);
        let leaf = Certificate::from_pem(&own.certificate).ok();
        all.push(Ends {
            kind: Kind::PushCertificate,
            subject: id::printable(&own.topic),
            enrollment_id: None,
            certificate: leaf.map_or_else(|| own.serial_number.clone(), |leaf| id::hex(leaf.fingerprint())),
            not_after: own.not_after,
            renews_itself: false,
            renewal_at: None,
            // The newest is what new devices enroll with; an older one without devices is of no use.
            succeeded: number > 0 && devices == 0,
            late: false,
            first_alert: FIRST_ALERT,
            attempt: None,
        });
    }
    Ok(all)
}
