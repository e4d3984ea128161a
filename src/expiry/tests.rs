//! What is told of what ends, and when.

use super::*;
use crate::clock::{Clock, EARLIEST_SANE, HOUR};
use crate::storage::Tx;

const NOW: Seconds = EARLIEST_SANE + 100 * DAY;

/// A list without a device, over a store with a set clock.
struct Bench {
    expiry: Expiry,
    clock: Clock,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::set_to(NOW);
        let store = Store::open(folder.path(), clock.clone()).unwrap();
        let mut config = Config::default();
        config.tls.mode = TlsMode::Files { certificate: "x".into(), private_key: "y".into() };
        let watched = Watched { tls_certificate: Arc::new(|| None), next_root: Arc::new(|| None) };
        let expiry = Expiry::open(&config, &store, watched).unwrap();
        Self { expiry, clock, _folder: folder }
    }

    async fn import(&self, topic: &str, not_after: Seconds) {
        let words = format!(
            "INSERT INTO push_certificates (topic, certificate, sealed_key, serial_number, subject, issuer,
                                            not_before, not_after, signed_by, imported_at, imported_by, current)
             VALUES ('{topic}', x'00', x'00', '{topic}-serial', 's', 'i', 0, {not_after}, 'import', 0, 'test', 1)"
        );
        let store = &self.expiry.0.store;
        store.write("test.push", move |tx: &Tx<'_>| Ok(tx.execute(&words, [])?)).await.unwrap();
    }

    async fn round(&self) -> Vec<i64> {
        alert::round(&self.expiry).await.unwrap().iter().map(|alert| alert.days).collect()
    }
}

fn ends(kind: Kind, subject: &str) -> Ends {
    Ends {
        kind,
        subject: subject.into(),
        enrollment_id: None,
        certificate: "ab".repeat(32),
        not_after: NOW + 20 * DAY,
        renews_itself: false,
        renewal_at: None,
        succeeded: false,
        late: false,
        first_alert: FIRST_ALERT,
        attempt: None,
    }
}

#[tokio::test]
async fn each_day_is_told_once_and_a_step_over_several_tells_the_least() {
    let bench = Bench::new();
    bench.import("com.apple.mgmt.External.a", NOW + 100 * DAY).await;
    let mut told = Vec::new();
    for day in 0..=101 {
        told.extend(bench.round().await.into_iter().map(|days| (day, days)));
        told.extend(bench.round().await.into_iter().map(|days| (-day, days)));
        bench.clock.advance(DAY);
    }
    assert_eq!(told, [(40, 60), (70, 30), (86, 14), (93, 7), (97, 3), (99, 1)]);

    bench.import("com.apple.mgmt.External.b", bench.clock.now() + 10 * DAY).await;
    assert_eq!(bench.round().await, [14]);
    bench.clock.advance(8 * DAY);
    assert_eq!(bench.round().await, [3], "the 7 days that were stepped over are not told any more");
    bench.clock.advance(-8 * DAY);
    assert!(bench.round().await.is_empty(), "nor when the clock is set back");
    bench.clock.advance(30 * DAY);
    assert_eq!(bench.round().await, [1]);
    bench.clock.advance(30 * DAY);
    assert!(bench.round().await.is_empty());
}

#[tokio::test]
async fn with_a_clock_of_1970_nothing_is_told() {
    let bench = Bench::new();
    bench.import("com.apple.mgmt.External.a", DAY).await;
    bench.clock.advance(-NOW);
    assert!(bench.round().await.is_empty());
}

#[tokio::test]
async fn a_topic_that_was_replaced_and_has_no_devices_is_told_to_nobody() {
    let bench = Bench::new();
    bench.import("com.apple.mgmt.External.old", NOW + 5 * DAY).await;
    bench.import("com.apple.mgmt.External.new", NOW + 400 * DAY).await;
    assert!(bench.round().await.is_empty());
    // What doctor says of push certificates is `mdm/pushable.rs`'s matter.
    assert_eq!(findings(&bench.expiry).unwrap(), []);
}

#[test]
fn what_renews_itself_needs_nobody_until_it_is_late() {
    let mut tls = Ends { renews_itself: true, ..ends(Kind::TlsCertificate, "CN=x") };
    assert!(!tls.needs_somebody());
    assert_eq!(tls.state(NOW), "good");
    tls.renewal_at = Some(NOW - HOUR);
    assert_eq!(tls.state(NOW), "renewing");
    tls.late = true;
    assert!(tls.needs_somebody());
    assert_eq!(tls.state(NOW), "late");
    tls.succeeded = true;
    assert!(!tls.needs_somebody());
    assert_eq!(ends(Kind::PushCertificate, "t").state(NOW + 30 * DAY), "ended");
}

#[test]
fn a_calendar_keeps_to_its_lines_whatever_a_subject_says() {
    let hostile = format!("ö;,\\\"\r\nBEGIN:VEVENT\r\nX-EVIL:1 {}", "ü".repeat(200));
    let all = [
        ends(Kind::PushCertificate, &hostile),
        Ends { renews_itself: true, ..ends(Kind::EnrollmentCa, "CN=Example CA") },
    ];
    let text = calendar::written(all.iter(), "Example; School", "mdm.example.org", NOW);
    assert!(text.ends_with("END:VCALENDAR\r\n"));
    for line in text.split("\r\n") {
        assert!(line.len() <= 75, "{line}");
        assert!(!line.contains(['\r', '\n']));
        assert!(!line.starts_with("X-EVIL"), "{line}");
    }
    let unfolded = text.replace("\r\n ", "");
    let count = |start: &str| unfolded.lines().filter(|line| *line == start).count();
    assert_eq!((count("BEGIN:VEVENT"), count("END:VEVENT")), (2, 2));
    // What renews by itself alarms nobody.
    assert_eq!((count("BEGIN:VALARM"), count("END:VALARM")), (6, 6));
    assert!(
        unfolded.contains("TRIGGER:-P60D\r\n")
            && unfolded.contains("X-WR-CALNAME:Certificates of Example\\; School")
    );
    assert!(unfolded.contains("DTSTART:20260501T000000Z\r\n"), "{unfolded}");
    assert!(unfolded.contains("ö\\;\\,\\\\"));
}

#[tokio::test]
async fn mail_waits_is_bounded_and_is_given_up_in_the_end() {
    let bench = Bench::new();
    let store = &bench.expiry.0.store;
    let waiting = store
        .write("test.mail", |tx| {
            for number in 0..250 {
                outbox::enqueue(tx, &format!("mail {number}"), "text")?;
            }
            let sql = "SELECT COUNT(*) FROM outbox_mail WHERE due_at IS NOT NULL";
            Ok(tx.query_row(sql, [], |row| row.get::<_, i64>(0))?)
        })
        .await
        .unwrap();
    assert_eq!(waiting, 200);
}

#[tokio::test]
async fn an_address_of_the_calendar_opens_until_it_is_revoked() {
    let bench = Bench::new();
    let store = &bench.expiry.0.store;
    let (number, token) = store.write("test.feed", |tx| feed::create(tx, "test")).await.unwrap();
    let opens = |token: &str| store.peek(|conn| feed::opens(conn, token)).unwrap();
    assert!(opens(&token) && !opens("") && !opens(&token[1..]));
    assert!(store.write("test.feed", move |tx| feed::revoke(tx, number)).await.unwrap());
    assert!(!opens(&token));
    assert!(!store.write("test.feed", move |tx| feed::revoke(tx, number)).await.unwrap());
    assert_eq!(store.peek(feed::list).unwrap().len(), 1);
}

#[tokio::test]
async fn the_numbers_name_what_ends() {
    let bench = Bench::new();
    bench.import("com.apple.mgmt.External.a", NOW + 20 * DAY + HOUR).await;
    bench.round().await;
    let samples = metrics(&bench.expiry).unwrap();
    let value = |name: &str| samples.iter().find(|sample| sample.name == name).unwrap().value;
    assert!((value("russet_certificate_days_left") - 20.0).abs() < f64::EPSILON);
    assert!((value("russet_alerts_given") - 1.0).abs() < f64::EPSILON);
    assert!(value("russet_identities_ended").abs() < f64::EPSILON);
}
