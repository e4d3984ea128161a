//! The names by which devices and people know the server, and when they may change.

use russet::config::{Config, Origin};
use russet::mdm::{enrollment, listing};
use russet::pki::certificate::Certificate;
use russet::server::App;
use russet::simulator::{Channel, Kind};
use russet::storage::Lock;

use crate::support::{Appliance, Port, TOPIC};

/// Why a server with this name does not start, if it does not.
async fn refusal(appliance: &Appliance, public_url: &str) -> Option<String> {
    let mut config: Config = appliance.config.clone();
    config.server.public_url = Origin::parse(public_url).unwrap();
    let lock = Lock::take(&config.data_dir).unwrap();
    match App::open(&config, lock, appliance.clock.clone()).await {
        Ok(app) => {
            app.close().await;
            None
        }
        Err(refused) => Some(refused.to_string()),
    }
}

#[tokio::test]
async fn only_what_enrolled_devices_know_locks_the_name() {
    let mut appliance = Appliance::start().await;
    let stop = async |appliance: &mut Appliance| appliance.running.take().unwrap().stop().await;
    stop(&mut appliance).await;
    assert_eq!(refusal(&appliance, "https://a.example").await, None, "nobody was told yet");
    appliance.restart_stopped().await;
    appliance.enroll(Kind::IPhone).await;
    stop(&mut appliance).await;
    for name in ["https://b.example", "https://c.example"] {
        assert_eq!(refusal(&appliance, name).await, None, "devices at localhost bind no name");
    }

    appliance.restart_stopped().await;
    let moved = appliance.app().store.write("test.moved", |tx| {
        let path = "UPDATE sessions SET parameters = json_set(parameters, '$.server_url', ?1)";
        Ok(tx.execute(path, ["https://b.example/mdm/connect"])?)
    });
    assert!(moved.await.unwrap() > 0);
    stop(&mut appliance).await;
    assert_eq!(refusal(&appliance, "https://b.example").await, None);
    for name in ["https://c.example", "https://b.example:8443", "https://localhost:8443"] {
        let refused = refusal(&appliance, name).await.unwrap();
        assert!(refused.contains("know this server as https://b.example"), "{refused}");
    }
}

#[tokio::test]
async fn a_device_that_is_asked_to_leave_locks_the_name_until_it_was_told() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let store = &appliance.app().store;
    let known =
        || (store.peek(listing::servers_known).unwrap(), store.peek(enrollment::is_any_enrolled).unwrap());
    let path = format!("/api/v1/enrollments/{}", phone.udid);
    let (_, gone) = appliance.api("DELETE", &path, None).await;
    assert_eq!(gone["state"], "unenrolled");
    let at = vec![appliance.config.server.public_url.to_string()];
    assert_eq!(known(), (at, true), "it has to find this server once more");
    let _ = phone.connect(Channel::Device).await;
    assert!(!phone.is_enrolled());
    // That it was told is written down behind its back.
    let written = async {
        while known() != (Vec::new(), false) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), written).await.unwrap();
}

#[tokio::test]
async fn people_sign_in_where_they_are_served_and_the_certificate_names_it() {
    let kept = Port::reserve();
    let admin = kept.address();
    let mut appliance = Appliance::bare(|config| config.server.admin_listen = vec![admin]).await;
    appliance.import_push_certificate(TOPIC).await;
    let (_, made) = appliance.api("POST", "/api/v1/sign-in-links", None).await;
    let link = made["url"].as_str().unwrap().to_owned();
    assert!(link.starts_with(&format!("https://{admin}/sign-in/")), "{link}");
    let mut browser = appliance.device(Kind::Mac);
    assert_eq!(browser.fetch(&link).await.unwrap().status, 200);
    let elsewhere =
        link.replace(&format!("https://{admin}"), &appliance.config.server.public_url.to_string());
    assert_eq!(browser.fetch(&elsewhere).await.unwrap().status, 404);

    // A name that the root may not name makes a new root, until devices trust it.
    let root = |appliance: &Appliance| appliance.app().enroll.anchor().unwrap();
    let first = root(&appliance);
    appliance.restart(|config| config.admin.host = Some("people.example.org".into())).await;
    let second = root(&appliance);
    assert_ne!(first, second);
    let constraints = russet::pki::asn1::Oid::new_unwrap("2.5.29.30");
    let second_root = Certificate::from_der(&second).unwrap();
    let permitted = second_root.extension(constraints).unwrap();
    assert!(permitted.windows(18).any(|window| window == b"people.example.org"));
    appliance.trust = russet::simulator::Trust::nobody().and_pem(&second).unwrap();
    appliance.enroll(Kind::IPhone).await;
    appliance.restart(|config| config.admin.host = Some("others.example.org".into())).await;
    assert_eq!(root(&appliance), second);
}
