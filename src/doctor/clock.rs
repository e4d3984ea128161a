//! Whether this machine's clock is right: certificates, codes and pushes depend on it.

use std::path::Path;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::{Request, header};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::Inner;
use crate::clock::{MINUTE, Seconds, rfc3339};
use crate::finding::{Finding, Severity};
use crate::https::Client;

const PATIENCE: Duration = Duration::from_secs(5);
const LARGEST: usize = 1024 * 1024;
/// More than this is worth a word; more than the other makes certificates fail.
const APART: Seconds = MINUTE;
const FAR_APART: Seconds = 5 * MINUTE;

pub(super) async fn findings(inner: &Inner) -> Vec<Finding> {
    let clock = inner.mdm.store.clock();
    let kept_by = keeper();
    if !clock.is_sane() {
        return vec![wrong(
            "This machine's clock says ".to_owned() + &rfc3339(clock.now()) + ", which cannot be.",
            kept_by,
        )];
    }
    let mut words = Vec::new();
    for url in &inner.settings.time {
        match theirs(inner, url).await {
            Ok(theirs) => return vec![compared(clock.now() - theirs, url, kept_by)],
            Err(error) => words.push(format!("{url}: {error}")),
        }
    }
    let seen = match (words.is_empty(), kept_by) {
        (true, Some(keeper)) => format!("It says {}, and is kept by {keeper}.", rfc3339(clock.now())),
        (true, None) => format!("It says {}, and nobody was asked.", rfc3339(clock.now())),
        (false, _) => format!("It could not be compared: {}.", words.join("; ")),
    };
    vec![Finding {
        code: "clock-unchecked",
        subject: "clock".into(),
        severity: if kept_by.is_some() { Severity::Ok } else { Severity::Info },
        seen,
        means: if kept_by.is_some() { String::new() } else { "Whether it is right is not known.".into() },
        remedy: match kept_by {
            Some(_) => String::new(),
            None => "Compare it by eye with: date -u. Without an internet, a clock module keeps a Pi's time through a power cut.".into(),
        },
    }]
}

fn compared(ahead: Seconds, url: &str, kept_by: Option<&'static str>) -> Finding {
    let of = url.trim_start_matches("https://").trim_end_matches('/');
    if ahead.abs() <= APART {
        let kept = kept_by.map(|keeper| format!(", and is kept by {keeper}")).unwrap_or_default();
        return Finding::ok("clock", "clock", format!("It agrees with {of}{kept}."));
    }
    let way = if ahead > 0 { "ahead of" } else { "behind" };
    let seen = format!("This machine's clock is {} seconds {way} that of {of}.", ahead.abs());
    let mut found = wrong(seen, kept_by);
    if ahead.abs() <= FAR_APART {
        found.severity = Severity::Warning;
        found.means = "It will be wrong by more, and then certificates fail.".into();
    }
    found
}

fn wrong(seen: String, kept_by: Option<&'static str>) -> Finding {
    Finding {
        code: "clock-wrong",
        subject: "clock".into(),
        severity: Severity::Failing,
        seen,
        means: "Certificates are taken for expired or not valid yet: no device connects, and Apple takes no pushes.".into(),
        remedy: match kept_by {
            Some(keeper) => format!("{keeper} keeps it: see that it reaches its time server (UDP 123)."),
            None => "Let something keep it: sudo timedatectl set-ntp true.".into(),
        },
    }
}

/// What keeps the clock, as far as can be seen.
fn keeper() -> Option<&'static str> {
    [
        ("/run/systemd/timesync/synchronized", "systemd-timesyncd"),
        ("/run/chrony/chronyd.pid", "chrony"),
        ("/run/ntpd.pid", "ntpd"),
    ]
    .into_iter()
    .find(|(file, _)| Path::new(file).exists())
    .map(|(_, keeper)| keeper)
}

/// The time at another server, of its Date header (RFC 9110 section 6.6.1).
async fn theirs(inner: &Inner, url: &str) -> Result<Seconds, String> {
    let client = Client::new(inner.roots.clone(), PATIENCE, LARGEST).map_err(|error| error.to_string())?;
    let request = Request::head(url).body(Bytes::new()).map_err(|error| error.to_string())?;
    let answer = client.send(request).await.map_err(|error| error.to_string())?;
    let date =
        answer.headers.get(header::DATE).and_then(|date| date.to_str().ok()).ok_or("it says no date")?;
    let date = date.replace("GMT", "+0000");
    OffsetDateTime::parse(&date, &Rfc2822)
        .map(OffsetDateTime::unix_timestamp)
        .map_err(|_| "its date cannot be read".to_owned())
}
