//! What `doctor` says of push certificates: whether the devices that are enrolled can be woken, and for how long.

use rusqlite::Connection;

use super::enrollment;
use crate::apns::certificate::{self, PushCertificate};
use crate::clock::{DAY, Seconds, rfc3339};
use crate::error::Result;
use crate::finding::{Finding, Severity};
use crate::id;
use crate::storage::Store;

/// Renewing takes a person a day or two, and the person may be on holiday.
const SOON: Seconds = 30 * DAY;
/// How many devices a finding names.
const NAMED: usize = 500;

/// Everything that is to be said of push certificates.
///
/// # Errors
/// The database's.
pub fn findings(store: &Store) -> Result<Vec<Finding>> {
    let now = store.clock().now();
    store.peek(|conn| {
        let Some(newest) = certificate::newest(conn)? else { return Ok(vec![missing()]) };
        let enrolled = enrollment::on_topics(conn)?;
        let mut found = Vec::new();
        for one in certificate::list(conn)?.iter().filter(|one| one.current) {
            let devices =
                enrolled.iter().find(|(topic, _)| *topic == one.topic).map_or(0, |(_, devices)| *devices);
            // One that no device depends on and none will is history.
            if devices > 0 || one.topic == newest.topic {
                found.push(of_dates(one, devices, now));
                found.extend(of_account(one));
            }
        }
        for (topic, devices) in
            enrolled.iter().filter(|(topic, devices)| *devices > 0 && *topic != newest.topic)
        {
            found.push(of_old_topic(conn, topic, *devices, &newest, now)?);
        }
        Ok(found)
    })
}

fn missing() -> Finding {
    Finding {
        code: "push-certificate-missing",
        subject: "push certificate".into(),
        severity: Severity::Failing,
        seen: "There is no push certificate.".into(),
        means: "No device can enroll, and none can be woken.".into(),
        remedy: "Begin with: russet push-certificate request (docs/push-certificate.md has every step)."
            .into(),
    }
}

fn of_dates(one: &PushCertificate, devices: u64, now: Seconds) -> Finding {
    let account = one.apple_account.as_deref().unwrap_or("the Apple Account that made it");
    let end = rfc3339(one.not_after);
    let left = one.not_after - now;
    if left > SOON {
        return Finding::ok(
            "push-certificate",
            one.topic.clone(),
            format!("The push certificate of {devices} devices is valid until {end}."),
        );
    }
    let ended = left <= 0;
    Finding {
        code: "push-certificate-expires",
        subject: one.topic.clone(),
        severity: if ended { Severity::Failing } else { Severity::Warning },
        seen: if ended {
            format!("The push certificate of {devices} devices ended on {end}.")
        } else {
            format!("The push certificate of {devices} devices ends on {end}, in {} days.", left / DAY)
        },
        means: "Without it no device is woken: commands and changes wait until a device comes by itself, which may be never."
            .into(),
        remedy: format!(
            "Renew it at identity.apple.com/pushcert, signed in as {account}: choose Renew beside the certificate with serial \
             number {}, never Create. russet push-certificate request makes what Apple asks for.",
            one.serial_number
        ),
    }
}

fn of_account(one: &PushCertificate) -> Option<Finding> {
    one.apple_account.is_none().then(|| Finding {
        code: "push-certificate-account",
        subject: one.topic.clone(),
        severity: Severity::Info,
        seen: "Nobody wrote down which Apple Account made the push certificate.".into(),
        means: "Only that account can renew it, and in a year nobody may know which it was.".into(),
        remedy: format!(
            "Write it down: russet push-certificate describe {} --apple-account ACCOUNT",
            one.topic
        ),
    })
}

fn of_old_topic(
    conn: &Connection,
    topic: &str,
    devices: u64,
    newest: &PushCertificate,
    now: Seconds,
) -> Result<Finding> {
    let works = certificate::by_topic(conn, topic)?.filter(|one| one.not_after > now);
    let names = enrollment::names_on_topic(conn, topic, NAMED)?;
    let names: Vec<_> = names.iter().map(|name| id::printable(name)).collect();
    let more = usize::try_from(devices).unwrap_or(usize::MAX).saturating_sub(names.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Ok(Finding {
        code: "devices-on-lost-topic",
        subject: topic.to_owned(),
        severity: if works.is_some() { Severity::Warning } else { Severity::Failing },
        seen: format!(
            "{devices} devices are enrolled with another topic than new ones ({}): {}{more}.",
            newest.topic,
            names.join(", ")
        ),
        means: match works {
            Some(one) => format!(
                "They are woken with the certificate of their own topic, which ends on {} and has to be renewed beside the other.",
                rfc3339(one.not_after)
            ),
            None => "Nothing can wake them any more.".to_owned(),
        },
        remedy: "Renew the certificate of their topic with the account that made it, or let them enroll again one by one.".into(),
    })
}
