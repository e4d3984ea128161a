//! Who was a device in an earlier life, and who ends lives that are not theirs (THREATS D4, D5 23).

use plist::{Dictionary, Value};
use russet::clock::DAY;
use russet::enroll::invitation::Wanted;
use russet::mdm::enrollment;
use russet::simulator::{Channel, Device, Identity, Kind, Profile};

use super::raw::Request;
use super::scep::{Client, challenge, use_it};
use super::{authenticate, xml};
use crate::support::{Appliance, key};

/// The challenge of the renewal that a device is given two months before its identity ends.
async fn renewal_challenge(appliance: &Appliance, phone: &mut Device) -> String {
    appliance.clock.advance(i64::from(appliance.config.enrollment.identity_days - 59) * DAY);
    appliance.app().renew_certificates().await.unwrap();
    let command = phone.idle(Channel::Device).await.unwrap().unwrap();
    let profile = Profile::read(command.keys.get("Payload").and_then(Value::as_data).unwrap()).unwrap();
    let scep = profile.payloads_of("com.apple.security.scep").next().unwrap();
    let content: &Dictionary = scep.get("PayloadContent").and_then(Value::as_dictionary).unwrap();
    content.get("Challenge").and_then(Value::as_string).unwrap().to_owned()
}

/// Says Authenticate in the name of `udid` with a certificate for the key of this number.
async fn authenticate_as(appliance: &Appliance, certificate: &[u8], number: usize, udid: &str) -> u16 {
    let identity = Identity::new(key(number), certificate.to_vec());
    let message = Request::put("/mdm/checkin", xml(authenticate(udid))).presenting(&identity);
    message.send(appliance).await.status
}

#[tokio::test]
async fn a_renewal_of_an_earlier_life_does_not_speak_for_the_next() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let secret = renewal_challenge(&appliance, &mut phone).await;
    let earlier = Client::new(&appliance, 5).await;
    let certificate = earlier.ask(&appliance, Some(&secret)).await.unwrap();

    let link = appliance.invite_as(Wanted { reenroll: true, ..Wanted::default() }).await;
    let mut next = appliance.device(Kind::IPhone);
    next.udid.clone_from(&phone.udid);
    next.enroll(&link).await.unwrap();

    assert_eq!(use_it(&appliance, &certificate, 5, &phone.udid).await, (400, 400), "what it had");
    let again = Client::new(&appliance, 6).await.ask(&appliance, Some(&secret)).await;
    assert_eq!(again, None, "what it could have got");
    assert!(next.connect(Channel::Device).await.is_ok(), "the next one goes on");
}

#[tokio::test]
async fn a_link_for_reenrollment_ends_no_more_devices_than_it_was_made_for() {
    let mut appliance = Appliance::start().await;
    let one = appliance.enroll(Kind::IPhone).await;
    let mut other = appliance.enroll(Kind::IPad).await;
    let link = appliance.invite_as(Wanted { reenroll: true, ..Wanted::default() }).await;
    let mut statuses = Vec::new();
    let secrets = [challenge(&appliance, &link).await, challenge(&appliance, &link).await];
    let mut certificates = Vec::new();
    for (number, secret) in [5, 6].into_iter().zip(&secrets) {
        certificates.push(Client::new(&appliance, number).await.ask(&appliance, Some(secret)).await.unwrap());
    }
    // Neither says TokenUpdate, at which a use is counted otherwise.
    for (number, (certificate, udid)) in (5..).zip(certificates.iter().zip([&one.udid, &other.udid])) {
        statuses.push(authenticate_as(&appliance, certificate.der(), number, udid).await);
    }
    assert_eq!(statuses, [200, 400]);
    assert!(other.connect(Channel::Device).await.is_ok(), "the second one is still managed");
}

#[tokio::test]
async fn a_device_that_was_renewed_while_asked_to_leave_hears_that_it_is_to_leave() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.device(Kind::IPhone);
    phone.presents_certificate = false;
    let link = appliance.invite(1).await;
    phone.enroll(&link).await.unwrap();
    let secret = renewal_challenge(&appliance, &mut phone).await;
    let certificate = Client::new(&appliance, 5).await.ask(&appliance, Some(&secret)).await.unwrap();
    let udid = phone.udid.clone();
    appliance.app().store.write("test", move |tx| enrollment::ask_to_unenroll(tx, &udid)).await.unwrap();
    phone.identity = Some(Identity::new(key(5), certificate.der().to_vec()));
    let _ = phone.connect(Channel::Device).await;
    assert!(!phone.is_enrolled());
}

/// An erase that was acknowledged and did not happen opens the device to nobody.
#[tokio::test]
async fn a_device_that_is_still_here_after_its_erase_is_live_again() {
    let mut appliance = Appliance::start().await;
    for by_token_update in [true, false] {
        let mut phone = appliance.enroll(Kind::IPhone).await;
        let (udid, id) = (phone.udid.clone(), phone.udid.clone());
        appliance.app().store.write("test", move |tx| enrollment::erased(tx, &udid)).await.unwrap();
        let erased = |appliance: &Appliance| {
            appliance.value::<Option<i64>>("SELECT erased_at FROM enrollments WHERE id = ?1", &id)
        };
        assert!(phone.connect(Channel::Device).await.is_ok());
        assert!(erased(&appliance).is_some(), "it may still be about to go");
        if by_token_update {
            phone.token_update(Channel::Device).await.unwrap();
        } else {
            appliance.clock.advance(3600);
            phone.connect(Channel::Device).await.unwrap();
            // It is written down without the device waiting for it.
            appliance.app().store.write("test", |_| Ok(())).await.unwrap();
            while erased(&appliance).is_some() {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(erased(&appliance), None);
    }
}

/// Whoever comes next knows nothing of the users who were there.
#[tokio::test]
async fn users_of_an_earlier_life_leave_nothing_behind() {
    let mut appliance = Appliance::start().await;
    let mut mac = appliance.enroll(Kind::Mac).await;
    let user = format!("{}:{}", mac.udid, mac.user.as_ref().unwrap().id);
    mac.connect_all().await.unwrap();
    appliance.app().mdm.contacts.flush(&appliance.app().store).await.unwrap();
    let link = appliance.invite_as(Wanted { reenroll: true, ..Wanted::default() }).await;
    let mut next = appliance.device(Kind::Mac);
    next.udid.clone_from(&mac.udid);
    next.user = None;
    for (table, rows) in [("messages", 1), ("contacts", 1)] {
        let sql = format!("SELECT COUNT(*) FROM {table} WHERE enrollment_id = ?1");
        assert_eq!(appliance.value::<i64>(&sql, &user), rows, "{table}");
    }
    next.enroll(&link).await.unwrap();
    for table in ["messages", "contacts"] {
        let sql = format!("SELECT COUNT(*) FROM {table} WHERE enrollment_id = ?1");
        assert_eq!(appliance.value::<i64>(&sql, &user), 0, "{table}");
    }
}
