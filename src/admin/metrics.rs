//! `GET /metrics`: figures for Prometheus.
//!
//! What is counted while the program runs comes from `metric`; the rest is looked up here when it is asked
//! for, a few look-ups by index. Other parts add theirs to `show`.
//!
//! **Invariant:** no figure names a device or a person: what devices say of themselves (platform, version)
//! is read, bounded, and made one of a few words.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::Admin;
use super::reply::Refusal;
use crate::apns::certificate;
use crate::clock::{DAY, Seconds};
use crate::error::Result;
use crate::expiry;
use crate::mdm::{listing, outbox};
use crate::metric::Text;
use crate::schema::platform::Platform;

/// Versions of operating systems that are told apart; a school has a few dozen.
const MOST_VERSIONS: usize = 100;

pub(super) async fn show(State(admin): State<Admin>) -> Result<Response, Refusal> {
    let mut text = Text::default();
    let version = env!("CARGO_PKG_VERSION");
    text.gauge("russet_build_info", "The program's version.", &[("version", version)], 1);
    let clock = admin.mdm.store.clock();
    let sane = "1 if the clock can be right; else nothing is issued, expires or is enforced.";
    text.gauge("russet_clock_is_sane", sane, &[], i32::from(clock.is_sane()));
    text.gauge("russet_clock_seconds", "The server's time, in seconds since 1970.", &[], clock.now());
    fleet(&admin, &mut text).await?;
    files(&admin, &mut text);
    process(&mut text);
    text.counted();
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text.finish()).into_response())
}

async fn fleet(admin: &Admin, text: &mut Text) -> Result<()> {
    let now = admin.now();
    let found = admin.mdm.store.read(move |conn| {
        Ok((
            listing::by_version(conn)?,
            listing::open_commands(conn)?,
            outbox::state(conn)?,
            outbox::oldest(conn)?,
            certificate::list(conn)?,
        ))
    });
    let (versions, commands, outbox, oldest, certificates) = found.await?;
    let help = "Channels of devices and users, by state, platform and version.";
    for ([channel, state, platform, version], count) in bounded(versions) {
        let labels =
            [("channel", &*channel), ("state", &*state), ("platform", &*platform), ("os_version", &*version)];
        text.gauge("russet_enrollments", help, &labels, count);
    }
    for (status, count) in ["Pending", "Sent", "NotNow"].map(|status| (status, commands.get(status))) {
        let count = count.copied().unwrap_or_default();
        text.gauge("russet_commands", "Commands without an answer.", &[("status", status)], count);
    }
    for (topic, not_after) in
        certificates.iter().filter(|one| one.current).map(|one| (&one.topic, one.not_after))
    {
        let help = "Days until a push certificate ends; below 0 it has ended.";
        text.gauge("russet_push_certificate_days", help, &[("topic", topic)], days(not_after - now));
    }
    for sample in expiry::metrics(&admin.expiry)? {
        let help = match sample.name {
            "russet_certificate_days_left" => {
                "Days until a certificate of this server ends; below 0 it has ended."
            }
            "russet_identities_ending" => "Identities of devices that end within so many days.",
            "russet_identities_ended" => "Identities of devices that have ended.",
            "russet_identities_renewal_late" => "Identities of devices whose renewal is late.",
            _ => "Alerts that were given, by how many days were left.",
        };
        let labels: Vec<_> = sample.labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        text.gauge(sample.name, help, &labels, sample.value);
    }
    if admin.webhook.format().is_some() {
        text.gauge("russet_webhook_waiting", "Events that wait to be told.", &[], outbox.waiting);
        text.gauge("russet_webhook_waiting_bytes", "Their bytes.", &[], outbox.bytes);
        let waits = oldest.map_or(0, |oldest| (now - oldest).max(0));
        text.gauge("russet_webhook_oldest_seconds", "How long the oldest of them waits.", &[], waits);
        text.gauge("russet_webhook_failures", "Failures in a row.", &[], outbox.attempts);
        text.gauge("russet_webhook_dropped", "Events that were never told.", &[], outbox.dropped);
    }
    Ok(())
}

fn days(seconds: Seconds) -> Seconds {
    seconds.div_euclid(DAY)
}

/// What devices say of themselves, as a few words: platforms that we know, versions that are numbers,
/// and no more of them than are told apart.
fn bounded(rows: Vec<listing::Version>) -> BTreeMap<[String; 4], i64> {
    let mut found: BTreeMap<[String; 4], i64> = BTreeMap::new();
    for row in rows {
        let platform =
            row.product_name.as_deref().and_then(Platform::of_product).map_or("unknown", Platform::name);
        let version =
            row.os_version.filter(|version| is_version(version)).unwrap_or_else(|| "unknown".into());
        let key = [row.channel, row.state, platform.to_owned(), version];
        let known = found.len() < MOST_VERSIONS || found.contains_key(&key);
        let [channel, state, platform, version] = key;
        let version = if known { version } else { "other".into() };
        *found.entry([channel, state, platform, version]).or_default() += row.count;
    }
    found
}

fn is_version(text: &str) -> bool {
    text.len() <= 16
        && text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

fn files(admin: &Admin, text: &mut Text) {
    let store = &admin.mdm.store;
    let size = |end: &str| {
        let path = store.path().with_file_name(format!("{}{end}", crate::storage::FILE));
        std::fs::metadata(path).map_or(0, |known| known.len())
    };
    text.gauge("russet_database_bytes", "The database file.", &[], size(""));
    text.gauge("russet_database_log_bytes", "The log beside it, which is copied into it.", &[], size("-wal"));
    text.gauge("russet_writes_waiting", "Writes that wait for the disk.", &[], store.writes_waiting());
}

/// What Linux says of this process; elsewhere nothing.
fn process(text: &mut Text) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    if let Some(kilobytes) = resident.and_then(|text| text.parse::<u64>().ok()) {
        text.gauge("process_resident_memory_bytes", "Memory in use.", &[], kilobytes * 1024);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        text.gauge("process_open_fds", "Open files and connections.", &[], open.count());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_devices_say_makes_few_series() {
        let row = |product: &str, version: &str| listing::Version {
            channel: "device".into(),
            state: "enrolled".into(),
            product_name: Some(product.into()),
            os_version: Some(version.into()),
            count: 1,
        };
        let hostile = (0..1000).map(|number| row("iPhone1,1", &format!("{number}")));
        let odd = [
            row("Toaster", "26.1"),
            row("Mac16,1", "26\"} 1\n"),
            row("Mac16,1", "26.1"),
            row("Mac15,3", "26.1"),
        ];
        let found = bounded(odd.into_iter().chain(hostile).collect());
        assert!(found.len() <= MOST_VERSIONS + 1, "{}", found.len());
        let count = |platform: &str, version: &str| {
            found[&["device", "enrolled", platform, version].map(str::to_owned)]
        };
        assert_eq!((count("unknown", "26.1"), count("macOS", "unknown"), count("macOS", "26.1")), (1, 1, 2));
        assert_eq!(found.values().sum::<i64>(), 1004);
        assert!(count("iOS", "other") > 800);
    }
}
