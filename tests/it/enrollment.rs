//! How devices come: profile, SCEP, Authenticate, TokenUpdate.

use russet::mdm::enrollment::{self, State};
use russet::simulator::Kind;

use crate::support::Appliance;

fn state(appliance: &Appliance, id: &str) -> Option<State> {
    appliance.app().store.peek(|conn| Ok(enrollment::find(conn, id)?.map(|known| known.state))).unwrap()
}

#[tokio::test]
async fn every_kind_of_device_enrolls_over_tls_and_scep() {
    let mut appliance = Appliance::start().await;
    for kind in Kind::ALL {
        let device = appliance.enroll(kind).await;
        assert_eq!(state(&appliance, &device.udid), Some(State::Enrolled), "{kind:?}");
    }
}

#[tokio::test]
async fn a_link_for_one_device_enrolls_one() {
    let mut appliance = Appliance::start().await;
    let link = appliance.invite(1).await;
    let mut first = appliance.device(Kind::IPhone);
    first.enroll(&link).await.unwrap();
    let mut second = appliance.device(Kind::IPad);
    assert!(second.enroll(&link).await.is_err());
    assert_eq!(state(&appliance, &second.udid), None);
}

#[tokio::test]
async fn who_enrolled_with_what_is_shown_and_the_link_is_not() {
    let mut appliance = Appliance::start().await;
    let link = appliance.invite(2).await;
    let code = link.rsplit('/').next().unwrap();
    let mut phone = appliance.device(Kind::IPhone);
    phone.enroll(&link).await.unwrap();
    let (_, shown) = appliance.api("GET", &format!("/api/v1/invitations/{code}"), None).await;
    assert_eq!(shown["enrollments"], serde_json::json!([phone.udid]));
    let (_, device) = appliance.api("GET", &format!("/api/v1/enrollments/{}", phone.udid), None).await;
    assert_eq!(device["invitation"]["name"], shown["name"]);
    assert_eq!(device["invitation"]["created_by"], "test");
    assert!(device["invitation"]["created_at"].is_string());
    assert!(!device.to_string().contains(code));
}
