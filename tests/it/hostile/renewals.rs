//! Renewals by those who have nothing to renew (THREATS D5 23).

use plist::{Dictionary, Value};
use russet::clock::DAY;
use russet::pki::certificate::Certificate;
use russet::pki::key::PrivateKey;
use russet::simulator::{Channel, Identity, Kind, Profile};

use super::forge::{self, Csr};
use super::raw::Request;
use super::scep::{Client, challenge, post, use_it};
use super::{authenticate, say, token_update, xml};
use crate::support::{Appliance, key};

/// Time passes, and the server does what it does each day.
async fn let_pass(appliance: &Appliance, days: i64) {
    appliance.clock.advance(days * DAY);
    appliance.app().renew_certificates().await.unwrap();
}

/// A client that renews with an identity that it has or had.
fn renewing(client: &Client, identity: &Identity) -> Client {
    Client {
        ca: client.ca.clone(),
        key: PrivateKey::from_pkcs8(identity.pkcs8()).unwrap(),
        own: Certificate::from_der(&identity.certificate).unwrap(),
    }
}

async fn renew(appliance: &Appliance, client: &Client, with: &Identity) -> Option<Certificate> {
    let old = renewing(client, with);
    let csr = Csr::of(&client.key, None).signed_by(&client.key);
    old.issued(&post(appliance, old.message("17", &csr)).await)
}

/// 23: signed by what is not an identity in use.
#[tokio::test]
async fn a_renewal_signed_by_a_claim_a_dead_or_an_expired_identity_is_refused() {
    let mut appliance = Appliance::start().await;
    let client = Client::new(&appliance, 5).await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let live = phone.identity.clone().unwrap();

    let stranger = Identity::new(key(4), forge::throw_away(&forge::private(&key(4))).der().to_vec());
    assert_eq!(renew(&appliance, &client, &stranger).await, None, "not ours");

    let mut thief = appliance.device(Kind::IPhone);
    thief.udid.clone_from(&phone.udid);
    let link = appliance.invite(1).await;
    thief.enroll(&link).await.unwrap();
    assert_eq!(renew(&appliance, &client, thief.identity.as_ref().unwrap()).await, None, "a claim");

    let secret = challenge(&appliance, &appliance.invite(1).await).await;
    let unused = client.ask(&appliance, Some(&secret)).await.unwrap();
    let unused = Identity::new(key(5), unused.der().to_vec());
    assert_eq!(renew(&appliance, &client, &unused).await, None, "it has not said Authenticate");

    // Renewed by the server: the old one is superseded.
    let_pass(&appliance, i64::from(appliance.config.enrollment.identity_days - 59)).await;
    phone.connect(Channel::Device).await.unwrap();
    assert_ne!(phone.identity.as_ref().unwrap().certificate, live.certificate);
    assert_eq!(renew(&appliance, &client, &live).await, None, "superseded");
    let current = phone.identity.clone().unwrap();
    assert!(renew(&appliance, &client, &current).await.is_some(), "in use");

    let_pass(&appliance, i64::from(appliance.config.enrollment.identity_days + 1)).await;
    assert_eq!(renew(&appliance, &client, &current).await, None, "expired");
    let_pass(&appliance, -i64::from(appliance.config.enrollment.identity_days + 1)).await;
    phone.remove_management().await.unwrap();
    assert_eq!(renew(&appliance, &client, &current).await, None, "dead");
}

/// 23: a renewed identity speaks for the device that renewed it and for no other.
#[tokio::test]
async fn a_renewal_by_another_device_renews_that_device_only() {
    let mut appliance = Appliance::start().await;
    let phone = appliance.enroll(Kind::IPhone).await;
    let other = appliance.enroll(Kind::IPad).await;
    let client = Client::new(&appliance, 5).await;
    let renewed = renew(&appliance, &client, other.identity.as_ref().unwrap()).await.unwrap();
    assert_eq!(use_it(&appliance, &renewed, 5, &phone.udid).await, (400, 400));
    assert_eq!(use_it(&appliance, &renewed, 5, "NEW-UDID").await, (400, 400));
    assert_eq!(use_it(&appliance, &renewed, 5, &other.udid).await, (200, 200));
}

/// 23: endless renewals fill nothing.
#[tokio::test]
async fn a_flood_of_renewals_is_stopped() {
    let mut appliance = Appliance::start().await;
    let phone = appliance.enroll(Kind::IPhone).await;
    let client = Client::new(&appliance, 5).await;
    let identity = phone.identity.clone().unwrap();
    let mut got = 0;
    for number in 0..10 {
        let key = forge::private(&key(number));
        let own = forge::throw_away(&key);
        let client = Client { key, own, ca: client.ca.clone() };
        // Each key gets one certificate, until there are enough.
        got += usize::from(renew(&appliance, &client, &identity).await.is_some());
    }
    let in_use: i64 = appliance
        .value("SELECT COUNT(*) FROM identities WHERE enrollment_id = ?1 AND state = 'pinned'", &phone.udid);
    assert!(got >= 4 && in_use <= 5, "{got} answered, {in_use} in use");
}

/// The same request repeated gets the same certificate, whichever key it is for.
#[tokio::test]
async fn a_renewal_that_is_repeated_gets_the_same_certificate() {
    let mut appliance = Appliance::start().await;
    let phone = appliance.enroll(Kind::IPhone).await;
    let identity = phone.identity.clone().unwrap();
    // The key of the identity itself, and another.
    for number in [1, 5] {
        let client = Client::new(&appliance, number).await;
        let first = renew(&appliance, &client, &identity).await.unwrap();
        let again = renew(&appliance, &client, &identity).await.unwrap();
        assert_eq!(first.fingerprint(), again.fingerprint(), "{number}");
        assert_ne!(first.der(), identity.certificate);
    }
}

/// An identity that was never used ends with its dates: the year of grace is for devices.
#[tokio::test]
async fn an_unused_identity_that_expired_begins_nothing() {
    let appliance = Appliance::start().await;
    let wanted = russet::enroll::invitation::Wanted { expires_in: Some(365 * DAY), ..Default::default() };
    let secret = challenge(&appliance, &appliance.invite_as(wanted).await).await;
    let unused = Client::new(&appliance, 5).await.ask(&appliance, Some(&secret)).await.unwrap();
    let end = unused.not_after();
    appliance
        .app()
        .store
        .write("test", move |tx| Ok(tx.execute("UPDATE identities SET not_after = ?1", [tx.now() - 1])?))
        .await
        .unwrap();
    assert!(end > appliance.clock.now());
    assert_eq!(use_it(&appliance, &unused, 5, "LATE-UDID").await, (400, 400));
}

/// What the server sent to renew one device is worth nothing to another.
#[tokio::test]
async fn a_renewal_session_that_another_device_uses_renews_nobody() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let_pass(&appliance, i64::from(appliance.config.enrollment.identity_days - 59)).await;
    let command = phone.idle(Channel::Device).await.unwrap().unwrap();
    assert_eq!(command.request_type, "InstallProfile");
    let profile = command.keys.get("Payload").and_then(Value::as_data).unwrap();
    let profile = Profile::read(profile).unwrap();
    let scep = profile.payloads_of("com.apple.security.scep").next().unwrap();
    let content: &Dictionary = scep.get("PayloadContent").and_then(Value::as_dictionary).unwrap();
    let secret = content.get("Challenge").and_then(Value::as_string).unwrap();

    let thief = Client::new(&appliance, 5).await;
    let certificate = thief.ask(&appliance, Some(secret)).await.unwrap();
    assert_eq!(use_it(&appliance, &certificate, 5, "NEW-UDID").await, (400, 400));
    let victim = appliance.enroll(Kind::IPad).await;
    assert_eq!(use_it(&appliance, &certificate, 5, &victim.udid).await, (400, 400));
    phone.connect(Channel::Device).await.unwrap();
    assert!(phone.is_enrolled());
}

/// Between a renewal and its first use both identities speak; the old one does not retire the new.
#[tokio::test]
async fn an_old_identity_that_speaks_again_does_not_retire_the_newer_one() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let udid = phone.udid.clone();
    let client = Client::new(&appliance, 5).await;
    appliance.clock.advance(DAY);
    let renewed = renew(&appliance, &client, phone.identity.as_ref().unwrap()).await.unwrap();
    assert_eq!(say(&appliance, &mut phone, token_update(&udid)).await, 200, "the old one, once more");
    assert_eq!(use_it(&appliance, &renewed, 5, &udid).await, (200, 200));
    appliance.clock.advance(8 * DAY);
    let identity = Identity::new(key(5), renewed.der().to_vec());
    let body = xml(super::report("Idle", &udid, []));
    let answer = Request::put("/mdm/connect", body).presenting(&identity).send(&appliance).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    for ended in [token_update(&udid), authenticate(&udid)] {
        assert_eq!(say(&appliance, &mut phone, ended).await, 400, "and the old one has ended");
    }
}

/// An expired identity is heard to be renewed, and asks for everything else in vain.
#[tokio::test]
async fn an_expired_identity_gets_its_renewal_and_nothing_else() {
    let mut appliance = Appliance::start().await;
    let mut mac = appliance.enroll(Kind::Mac).await;
    let udid = mac.udid.clone();
    let waiting = appliance.send(&udid, serde_json::json!({"RequestType": "SecurityInfo"})).await;
    let_pass(&appliance, i64::from(appliance.config.enrollment.identity_days + 30)).await;
    for kind in
        ["GetBootstrapToken", "SetBootstrapToken", "DeclarativeManagement", "GetToken", "UserAuthenticate"]
    {
        let mut message = token_update(&udid);
        message.insert("MessageType".into(), kind.into());
        message.insert("Endpoint".into(), "tokens".into());
        assert_eq!(say(&appliance, &mut mac, message).await, 400, "{kind}");
    }
    for status in ["Idle", "NotNow"] {
        let report = super::report(status, &udid, [("CommandUUID", waiting.as_str().into())]);
        let (_, next) = super::tell(&appliance, &mut mac, report).await;
        let next = String::from_utf8(next).unwrap();
        assert!(next.contains("InstallProfile") && !next.contains(&waiting), "{next:.200}");
    }
}

/// A revoked identity proves nothing: it renews nothing by either way.
#[tokio::test]
async fn a_revoked_identity_renews_nothing_and_neither_does_the_renewal_that_was_under_way() {
    let mut appliance = Appliance::start().await;
    let client = Client::new(&appliance, 5).await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let own = phone.identity.clone().unwrap();
    let_pass(&appliance, i64::from(appliance.config.enrollment.identity_days - 59)).await;
    let command = phone.idle(Channel::Device).await.unwrap().unwrap();
    let profile = Profile::read(command.keys.get("Payload").and_then(Value::as_data).unwrap()).unwrap();
    let scep = profile.payloads_of("com.apple.security.scep").next().unwrap();
    let content = scep.get("PayloadContent").and_then(Value::as_dictionary).unwrap();
    let sent = content.get("Challenge").and_then(Value::as_string).unwrap().to_owned();

    let path = format!("/api/v1/enrollments/{}/revoke-identity", phone.udid);
    assert_eq!(appliance.api("POST", &path, None).await.0, 200);
    assert_eq!(renew(&appliance, &client, &own).await, None);
    assert_eq!(client.ask(&appliance, Some(&sent)).await, None);
}

/// A client that renews by itself and kept the CA of before is answered by that one's key.
#[tokio::test]
async fn an_identity_of_the_old_ca_is_renewed_after_the_new_one_took_over() {
    let mut appliance = Appliance::bare(|config| {
        config.enrollment.ca_days = 300;
        config.enrollment.identity_days = 90;
        config.enrollment.renew_before_days = 30;
    })
    .await;
    appliance.import_push_certificate(crate::support::TOPIC).await;
    let_pass(&appliance, 170).await;
    let phone = appliance.enroll(Kind::IPhone).await;
    let own = phone.identity.clone().unwrap();
    let client = Client::new(&appliance, 5).await;
    let_pass(&appliance, 80).await;
    let newest = Client::new(&appliance, 5).await.ca;
    assert_ne!(newest.der(), client.ca.der());
    let renewed = renew(&appliance, &client, &own).await.unwrap();
    assert!(renewed.verify_signed_by(&newest.public_key().unwrap()).is_ok());
    assert!(renewed.not_after() <= newest.not_after());
}
