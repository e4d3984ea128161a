//! What `doctor` says of the certificate from the CA.

use super::{Acme, Attempt, Issued};
use crate::clock::{DAY, rfc3339};
use crate::error::Result;
use crate::finding::{Finding, Severity};

/// How long before its end a certificate that is not renewed is a failure.
const SHORT: i64 = 7 * DAY;

/// Everything that is to be said of it.
///
/// # Errors
/// The database's.
pub fn findings(acme: &Acme) -> Result<Vec<Finding>> {
    let now = acme.0.store.clock().now();
    let failed = acme.attempts()?.into_iter().next().filter(|last| last.failed);
    let host = acme.0.host.clone();
    Ok(vec![match (acme.current()?, failed) {
        (None, failed) => none(acme, host, failed),
        (Some(current), Some(failed)) => fails(host, &current, &failed, now),
        (Some(current), None) => Finding::ok(
            "acme-certificate",
            host,
            format!(
                "The TLS certificate of {} is valid until {} and is renewed on {}.",
                current.issuer(),
                rfc3339(current.not_after),
                rfc3339(current.renew_at)
            ),
        ),
    }])
}

fn none(acme: &Acme, host: String, failed: Option<Attempt>) -> Finding {
    let (severity, seen) = match failed {
        Some(failed) => (
            Severity::Failing,
            format!(
                "There is no certificate from {} yet: {} It is asked again at {}.",
                acme.directory(),
                failed.words,
                rfc3339(failed.next_at)
            ),
        ),
        None => (Severity::Warning, format!("There is no certificate from {} yet.", acme.directory())),
    };
    Finding {
        code: "acme-no-certificate",
        subject: host,
        severity,
        seen,
        means: "Until then this server presents a certificate of its own, which devices trust only if they got it \
                with their enrollment profile."
            .into(),
        remedy: "Mend what it says, then ask at once: russet tls renew.".into(),
    }
}

fn fails(host: String, current: &Issued, failed: &Attempt, now: i64) -> Finding {
    let short = current.not_after - now < SHORT;
    Finding {
        code: "acme-renewal-fails",
        subject: host,
        severity: if short { Severity::Failing } else { Severity::Warning },
        seen: format!(
            "The TLS certificate could not be renewed at {}: {} It is tried again at {}.",
            rfc3339(failed.at),
            failed.words,
            rfc3339(failed.next_at)
        ),
        means: format!(
            "The one in use ends at {}; after that no device connects.",
            rfc3339(current.not_after)
        ),
        remedy: "Mend what it says, then renew at once: russet tls renew.".into(),
    }
}
