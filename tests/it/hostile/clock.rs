//! A machine that does not know the time (THREATS D5 41).

use russet::clock::{Clock, DAY, EARLIEST_SANE, Seconds};
use russet::pki::pem;
use russet::simulator::{Channel, Kind, Trust};
use serde_json::json;

use super::raw::Request;
use super::{report, xml};
use crate::support::{Appliance, NOW, TOPIC};

/// 2000-01-01.
const Y2K: Seconds = 946_684_800;
const TEN_YEARS: Seconds = 3653 * DAY;

/// Times at which a machine without a battery, or with a spoofed one, may boot.
const WRONG: [Seconds; 4] = [0, Y2K, EARLIEST_SANE - 60 * DAY, NOW + TEN_YEARS];

/// 41: the very first start.
#[tokio::test]
async fn a_first_start_with_a_wrong_clock_serves_the_page_issues_nothing_and_begins_when_it_is_set() {
    for wrong in WRONG {
        let mut appliance = Appliance::at(Clock::set_to(wrong), |_| {}).await;
        let link = appliance.invite(1).await;
        let path = link.strip_prefix(&appliance.config.server.public_url.to_string()).unwrap().to_owned();
        let page = Request::get(&path).header("accept", "text/html").send(&appliance).await;
        assert_eq!(page.status, 503, "{wrong}");
        assert!(page.text().contains("clock"), "{wrong}: {}", page.text());
        let profile = Request::get(format!("{path}/profile")).send(&appliance).await;
        assert_eq!(profile.status, 503, "{wrong}");
        let scep = Request::get("/scep?operation=GetCACert").send(&appliance).await;
        assert_eq!(scep.status, 503, "{wrong}");
        for table in ["authorities", "identities"] {
            let sql = format!("SELECT COUNT(*) FROM {table} WHERE ?1 = ''");
            assert_eq!(appliance.value::<i64>(&sql, ""), 0, "{wrong}: nothing in {table}");
        }

        appliance.clock.advance(NOW - wrong);
        appliance.app().renew_certificates().await.unwrap();
        let anchor = appliance.app().enroll.anchor().unwrap();
        appliance.trust = Trust::nobody().and_pem(pem::encode("CERTIFICATE", &anchor).as_bytes()).unwrap();
        appliance.import_push_certificate(TOPIC).await;
        let mut phone = appliance.enroll(Kind::IPhone).await;
        phone.connect(Channel::Device).await.unwrap();
    }
}

/// 41: a later start: devices go on, nothing is called expired, nothing is issued.
#[tokio::test]
async fn a_later_start_with_a_wrong_clock_loses_no_device_and_expires_nothing() {
    for wrong in WRONG {
        let mut appliance = Appliance::start().await;
        let mut phone = appliance.enroll(Kind::IPhone).await;
        let waiting = appliance.send(&phone.udid, json!({"RequestType": "SecurityInfo"})).await;
        expire_in(&appliance, 30 * DAY).await;
        let challenge = super::scep::challenge(&appliance, &appliance.invite(1).await).await;
        let link = appliance.invite(1).await;
        let path = link.strip_prefix(&appliance.config.server.public_url.to_string()).unwrap().to_owned();
        appliance.clock.advance(wrong - NOW);
        appliance.restart(|_| {}).await;
        let app = appliance.app();
        app.renew_certificates().await.unwrap();
        russet::mdm::renewal::round(&app.mdm).await.unwrap();

        let idle = Request::put("/mdm/connect", xml(report("Idle", &phone.udid, [])))
            .presenting(phone.identity.as_ref().unwrap());
        let answer = idle.send(&appliance).await;
        assert_eq!(answer.status, 200, "{wrong}: {}", answer.text());
        assert!(answer.text().contains(&waiting), "{wrong}: the command has not expired");
        let escrow = super::message("GetBootstrapToken", &phone.udid, []);
        let escrow = Request::put("/mdm/checkin", xml(escrow)).presenting(phone.identity.as_ref().unwrap());
        assert_eq!(escrow.send(&appliance).await.status, 200, "{wrong}: not expired");
        for path in [path.clone(), format!("{path}/profile")] {
            let answer = Request::get(&path).send(&appliance).await;
            assert_eq!(answer.status, 503, "{wrong}");
            assert!(answer.text().contains("clock"), "{wrong}: {}", answer.text());
        }
        let before: i64 = appliance.value("SELECT COUNT(*) FROM identities WHERE ?1 = ''", "");
        let answer = super::scep::ask_with(&appliance, 5, &challenge).await;
        assert_eq!(answer.status, 503, "{wrong}: {}", answer.text());
        assert!(answer.text().contains("clock"), "{}", answer.text());
        let after: i64 = appliance.value("SELECT COUNT(*) FROM identities WHERE ?1 = ''", "");
        assert_eq!(before, after);
        let renewals: i64 = appliance.value("SELECT COUNT(*) FROM events WHERE kind = ?1", "renewal-sent");
        assert_eq!(renewals, 0);

        appliance.clock.advance(NOW - wrong);
        appliance.app().renew_certificates().await.unwrap();
        phone.connect(Channel::Device).await.unwrap();
        assert_eq!(appliance.status(&phone.udid, &waiting), "Acknowledged");
        appliance.device(Kind::IPad).enroll(&link).await.unwrap();
    }
}

/// Every command that waits ends after so long.
async fn expire_in(appliance: &Appliance, seconds: Seconds) {
    let expire = move |tx: &russet::storage::Tx<'_>| {
        tx.execute("UPDATE commands SET expires_at = ?1", [tx.now() + seconds])?;
        Ok(())
    };
    appliance.app().store.write("test.expire", expire).await.unwrap();
}

/// 41: what a clock in the future put off until then is not put off when the clock is right.
#[tokio::test]
async fn a_push_that_a_wrong_clock_put_off_for_years_is_sent() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.device(Kind::IPhone);
    let mut woken = phone.hear(&appliance.apple);
    let link = appliance.invite(1).await;
    phone.enroll(&link).await.unwrap();
    let uuid = appliance.send(&phone.udid, json!({"RequestType": "SecurityInfo"})).await;
    assert_eq!(woken.recv().await, Some(Channel::Device));
    let app = appliance.app();
    app.store
        .write("test.put_off", |tx| Ok(tx.execute("UPDATE wakes SET due_at = due_at + ?1", [TEN_YEARS])?))
        .await
        .unwrap();
    russet::mdm::wake::round(&app.mdm).await.unwrap();
    assert_eq!(woken.recv().await, Some(Channel::Device));
    assert_eq!(appliance.status(&phone.udid, &uuid), "Pending");
}
