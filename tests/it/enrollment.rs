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
