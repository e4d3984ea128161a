//! A year and more of simulated time: what ends renews by itself, each alert is given at its day, and no
//! device is lost.

use std::collections::{BTreeMap, BTreeSet};

use russet::clock::{DAY, Seconds};
use russet::expiry::alert;
use russet::mdm::renewal;
use russet::pki::certificate::Certificate;
use russet::simulator::{Channel, Device, Kind};

use crate::support::{Appliance, TOPIC, settle};

const DEVICES: u32 = 50;
const YEAR: i64 = 420;
/// How many days a device is silent between its contacts.
const PAUSE: i64 = 6;
/// When the push certificate ends, counted from the beginning.
const PUSH_ENDS: i64 = 200;

/// What the server does by itself, and then the devices whose turn it is.
async fn day(appliance: &Appliance, devices: &mut [Device], number: i64) {
    appliance.clock.advance(DAY);
    let app = appliance.app();
    app.renew_certificates().await.unwrap();
    renewal::round(&app.mdm).await.unwrap();
    alert::round(&app.expiry).await.unwrap();
    for (index, device) in devices.iter_mut().enumerate() {
        if (i64::try_from(index).unwrap() + number) % PAUSE == 0 {
            device.connect(Channel::Device).await.unwrap();
        }
    }
}

fn authorities(appliance: &Appliance, purpose: &str) -> i64 {
    appliance.value("SELECT COUNT(*) FROM authorities WHERE purpose = ?1", purpose)
}

/// Days and times of all alerts of a kind, by certificate.
fn alerts(appliance: &Appliance, kind: &str) -> BTreeMap<String, Vec<(i64, Seconds, Seconds)>> {
    let read = |conn: &rusqlite::Connection| {
        let mut all: BTreeMap<String, Vec<_>> = BTreeMap::new();
        let mut query =
            conn.prepare("SELECT certificate, days, at, not_after FROM alerts WHERE kind = ?1")?;
        let rows = query.query_map([kind], |row| {
            Ok((row.get::<_, String>(0)?, (row.get(1)?, row.get(2)?, row.get(3)?)))
        })?;
        for row in rows {
            let (certificate, alert) = row?;
            all.entry(certificate).or_default().push(alert);
        }
        Ok(all)
    };
    appliance.app().store.peek(read).unwrap()
}

#[tokio::test]
async fn in_a_year_everything_renews_itself_each_alert_is_given_at_its_day_and_no_device_is_lost() {
    let mut appliance = Appliance::bare(|config| {
        config.enrollment.identity_days = 90;
        config.enrollment.ca_days = 300;
        config.enrollment.renew_before_days = 30;
    })
    .await;
    appliance.import_push_certificate(TOPIC).await;
    let began = appliance.clock.now();
    let ends = began + PUSH_ENDS * DAY;
    let set = move |tx: &russet::storage::Tx<'_>| {
        Ok(tx.execute("UPDATE push_certificates SET not_after = ?1", [ends])?)
    };
    appliance.app().store.write("test.push", set).await.unwrap();
    let link = appliance.invite(DEVICES).await;
    let mut devices = Vec::new();
    for _ in 0..DEVICES {
        let mut device = appliance.device(Kind::IPhone);
        device.enroll(&link).await.unwrap();
        settle(&mut device).await;
        devices.push(device);
    }
    // One is put in a drawer and never comes again.
    let drawer = appliance.enroll(Kind::IPad).await;
    let first_root = appliance.app().enroll.anchor().unwrap();
    let first: Vec<_> = devices.iter().map(|device| device.identity.clone().unwrap().certificate).collect();

    let mut used = BTreeSet::new();
    for number in 0..YEAR {
        if number == PUSH_ENDS - 1 {
            // Somebody reads the last alert and renews it.
            let later = began + 2 * 365 * DAY;
            let renew = move |tx: &russet::storage::Tx<'_>| {
                Ok(tx.execute("UPDATE push_certificates SET not_after = ?1", [later])?)
            };
            alert::round(&appliance.app().expiry).await.unwrap();
            appliance.app().store.write("test.push", renew).await.unwrap();
        }
        if number == 150 {
            appliance.restart(|_| {}).await;
        }
        day(&appliance, &mut devices, number).await;
        used.insert(appliance.app().enroll.anchor().unwrap());
        let anchor = Certificate::from_der(&appliance.app().enroll.anchor().unwrap()).unwrap();
        assert!(anchor.not_after() > appliance.clock.now());
    }

    // Every device is there over a new connection with an identity that it was given by itself.
    appliance.restart(|_| {}).await;
    let now = appliance.clock.now();
    for (device, first) in devices.iter_mut().zip(&first) {
        device.connect(Channel::Device).await.unwrap();
        let identity = device.identity.clone().unwrap();
        assert_ne!(&identity.certificate, first);
        let certificate = Certificate::from_der(&identity.certificate).unwrap();
        assert!(certificate.not_after() > now);
        let state: String = appliance
            .value("SELECT state FROM identities WHERE hex(fingerprint) = upper(?1)", &{
                russet::id::hex(certificate.fingerprint())
            });
        assert_eq!(state, "pinned");
    }
    // Both authorities were succeeded in time, and the devices followed.
    assert!(authorities(&appliance, "identity") >= 2);
    assert!(authorities(&appliance, "tls") >= 2);
    assert!(used.len() >= 2 && !used.contains(&Vec::new()));
    assert_ne!(appliance.app().enroll.anchor().unwrap(), first_root);
    let refused: i64 = appliance.value("SELECT COUNT(*) FROM events WHERE kind = ?1", "renewal-failed");
    assert_eq!(refused, 0);

    // The push certificate was told of at each of its days, once; what renews itself never.
    let push = alerts(&appliance, "push-certificate");
    assert_eq!(push.len(), 1);
    let mut days: Vec<i64> = Vec::new();
    for (day, at, not_after) in push.values().flatten() {
        days.push(*day);
        let due = not_after - day * DAY;
        assert!(*at >= due && *at < due + DAY, "{day} days: {at} is not within a day of {due}");
    }
    days.sort_unstable();
    assert_eq!(days, [1, 3, 7, 14, 30, 60]);
    for kind in ["tls-certificate", "tls-authority", "enrollment-ca", "profile-signer"] {
        assert!(alerts(&appliance, kind).is_empty(), "{kind}");
    }
    // Of the devices, the one in the drawer alone was told of: when it was late, and at each day after that.
    let identities = alerts(&appliance, "device-identity");
    let drawer = Certificate::from_der(&drawer.identity.unwrap().certificate).unwrap();
    assert_eq!(identities.keys().collect::<Vec<_>>(), [&russet::id::hex(drawer.fingerprint())]);
    let mut days: Vec<i64> = identities.values().flatten().map(|(day, ..)| *day).collect();
    days.sort_unstable();
    assert_eq!(days, [1, 3, 7, 14, 30]);
}
