//! What `doctor` says of what ends.

use super::{Ends, Expiry, Kind, outbox};
use crate::clock::{Seconds, rfc3339};
use crate::error::Result;
use crate::finding::{Finding, Severity};
use crate::mdm::ending;

/// How many devices a finding names.
const NAMED: usize = 10;

/// Everything that is to be said of certificates and of mail.
///
/// # Errors
/// The database's.
pub fn findings(expiry: &Expiry) -> Result<Vec<Finding>> {
    let now = expiry.0.store.clock().now();
    let all = expiry.all()?;
    let mut found: Vec<Finding> = all.iter().filter_map(|ends| of_own(ends, now)).collect();
    let identities: Vec<&Ends> = all.iter().filter(|ends| ends.kind == Kind::DeviceIdentity).collect();
    found.extend(of_identities(&identities, now));
    if let Some(next) = (expiry.0.watched.next_root)().filter(|next| next.urgent_from <= now) {
        let without = expiry.0.store.peek(|conn| ending::profiles_until(conn, next.made_at))?;
        found.extend(of_next_root(&without));
    }
    if expiry.0.mailer.is_some()
        && let Some(trouble) = expiry.0.store.peek(outbox::trouble)?
    {
        found.push(Finding {
            code: "mail-not-sent",
            subject: trouble.subject,
            severity: Severity::Warning,
            seen: format!(
                "The last alert could not be mailed, after {} tries: {}",
                trouble.attempts, trouble.answer
            ),
            means: "Nobody is warned by mail before something ends.".into(),
            remedy: "Correct [mail] in russet.toml, restart, and try: russet mail test.".into(),
        });
    }
    Ok(found)
}

fn of_own(ends: &Ends, now: Seconds) -> Option<Finding> {
    let (code, means) = match ends.kind {
        Kind::TlsCertificate => ("tls-certificate-ends", "When it has ended no device connects any more."),
        Kind::TlsAuthority => (
            "tls-authority-ends",
            "When it has ended, devices that were not sent the next one do not trust this server any more.",
        ),
        Kind::EnrollmentCa => {
            ("enrollment-ca-ends", "When it has ended no device can enroll or renew its identity.")
        }
        Kind::ProfileSigner => {
            ("profile-signer-ends", "When it has ended, profiles are shown as not verified.")
        }
        // Identities are told together, and push certificates with what depends on them (`mdm/pushable.rs`).
        Kind::DeviceIdentity | Kind::PushCertificate => return None,
    };
    if ends.succeeded {
        return None;
    }
    let seen = if ends.not_after <= now {
        format!("It ended at {}.", rfc3339(ends.not_after))
    } else {
        format!("It ends at {}, in {} days.", rfc3339(ends.not_after), ends.days_left(now))
    };
    let severity = match () {
        () if ends.not_after <= now => Severity::Failing,
        () if ends.needs_somebody() && ends.days_left(now) < ends.first_alert => Severity::Warning,
        () => return Some(Finding::ok(code, &ends.subject, seen)),
    };
    let (means, remedy) = (means.into(), ends.kind.remedy().into());
    Some(Finding { code, subject: ends.subject.clone(), severity, seen, means, remedy })
}

fn of_next_root(without: &[String]) -> Option<Finding> {
    if without.is_empty() {
        return None;
    }
    let names: Vec<&str> = without.iter().take(NAMED).map(String::as_str).collect();
    Some(Finding {
        code: "tls-authority-ends",
        subject: listed(&names, without.len()),
        severity: Severity::Warning,
        seen: format!("{} devices have not got the TLS root that takes over soon.", without.len()),
        means: "When it has taken over they do not trust this server and have to enroll again.".into(),
        remedy: "Switch them on and let them connect: they are sent it at once.".into(),
    })
}

fn of_identities(all: &[&Ends], now: Seconds) -> Vec<Finding> {
    let mut found = Vec::new();
    let (ended, left): (Vec<&Ends>, Vec<&Ends>) = all.iter().partition(|ends| ends.not_after <= now);
    if !ended.is_empty() {
        found.push(Finding {
            code: "identities-end",
            subject: named(&ended),
            // A device that is lost for good is no reason for the whole server to be called ill.
            severity: Severity::Warning,
            seen: format!("The identities of {} devices have ended.", ended.len()),
            means: "Each may connect for a year after that, to be renewed and for nothing else.".into(),
            remedy: Kind::DeviceIdentity.remedy().into(),
        });
    }
    let failing: Vec<&Ends> = left.into_iter().filter(|ends| ends.late).collect();
    if let Some(first) = failing.first() {
        let answer = first.attempt.as_ref().map_or_else(
            || "Nothing was sent yet.".to_owned(),
            |attempt| {
                format!(
                    "Of the first: asked at {}, tried again at {}. {}",
                    rfc3339(attempt.at),
                    rfc3339(attempt.next_at),
                    attempt.answer
                )
            },
        );
        found.push(Finding {
            code: "identity-renewal-fails",
            subject: named(&failing),
            severity: Severity::Warning,
            seen: format!("The identities of {} devices should have been renewed. {answer}", failing.len()),
            means: format!(
                "The first ends at {}; then that device is not managed any more.",
                rfc3339(first.not_after)
            ),
            remedy: Kind::DeviceIdentity.remedy().into(),
        });
    }
    if found.is_empty()
        && let Some(first) = all.first()
    {
        let seen = format!(
            "The identities of {} devices are good; the first ends at {}.",
            all.len(),
            rfc3339(first.not_after)
        );
        found.push(Finding::ok("identities-end", "devices", seen));
    }
    found
}

fn named(devices: &[&Ends]) -> String {
    let names: Vec<&str> = devices.iter().take(NAMED).map(|ends| ends.subject.as_str()).collect();
    listed(&names, devices.len())
}

fn listed(names: &[&str], all: usize) -> String {
    let more = all.saturating_sub(names.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}
