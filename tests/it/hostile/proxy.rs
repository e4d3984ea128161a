//! Certificates in a header: believed from a configured proxy and from nobody else (THREATS D5 3).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use russet::config::Config;
use russet::pki::pem;
use russet::simulator::Kind;

use super::raw::Request;
use super::{report, xml};
use crate::support::{Appliance, TOPIC};

const HEADER: &str = "x-client-certificate";

async fn behind(trusted: &str) -> Appliance {
    let trusted = trusted.parse().unwrap();
    let change = |config: &mut Config| {
        config.proxy.trusted = vec![trusted];
        config.proxy.client_certificate_header = Some(HEADER.into());
    };
    let appliance = Appliance::bare(change).await;
    appliance.import_push_certificate(TOPIC).await;
    appliance
}

/// Both formats, and what is neither.
#[tokio::test]
async fn a_trusted_proxys_header_is_believed_in_both_formats_and_once() {
    let mut appliance = behind("127.0.0.0/8").await;
    let phone = appliance.enroll(Kind::IPhone).await;
    let other = appliance.enroll(Kind::IPad).await;
    let body = xml(report("Idle", &phone.udid, []));
    let certificate = &phone.identity.as_ref().unwrap().certificate;
    let rfc9440 = format!(":{}:", STANDARD.encode(certificate));
    let escaped = utf8_percent_encode(&pem::encode("CERTIFICATE", certificate), NON_ALPHANUMERIC).to_string();
    let request = Request::put("/mdm/connect", body);
    for value in [&rfc9440, &escaped] {
        assert_eq!(request.clone().header(HEADER, value).send(&appliance).await.status, 200, "{value}");
    }
    let twice = request.clone().header(HEADER, &rfc9440).header(HEADER, &rfc9440);
    assert_eq!(twice.send(&appliance).await.status, 400);
    for value in
        ["", ":", "::", ":!:", "(null)", "-----BEGIN%20CERTIFICATE-----", "%ff%fe", &"A".repeat(30_000)]
    {
        let answer = request.clone().header(HEADER, value).send(&appliance).await;
        assert_eq!(answer.status, 400, "{value}");
    }
    assert_eq!(request.clone().header(HEADER, b"\xff").send(&appliance).await.status, 400);

    let others = format!(":{}:", STANDARD.encode(&other.identity.as_ref().unwrap().certificate));
    assert_eq!(request.header(HEADER, others).send(&appliance).await.status, 400, "another device's");
}

/// A header that anybody can write is as if it were not there.
#[tokio::test]
async fn an_untrusted_peers_header_is_ignored() {
    let mut appliance = behind("192.0.2.0/24").await;
    let phone = appliance.enroll(Kind::IPhone).await;
    let body = xml(report("Idle", &phone.udid, []));
    let certificate = &phone.identity.as_ref().unwrap().certificate;
    let header = format!(":{}:", STANDARD.encode(certificate));
    let request = Request::put("/mdm/connect", body).header(HEADER, header);
    for forwarded in [None, Some("192.0.2.1"), Some("127.0.0.1")] {
        let mut request = request.clone();
        if let Some(address) = forwarded {
            request = request
                .header("X-Forwarded-For", address)
                .header("X-Real-IP", address)
                .header("Forwarded", format!("for={address}"));
        }
        let answer = request.send(&appliance).await;
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains("proves no identity"), "{}", answer.text());
    }
    // Beside a real proof it changes nothing, not even if it is nonsense.
    let honest = Request::put("/mdm/connect", xml(report("Idle", &phone.udid, [])))
        .header(HEADER, ":!:")
        .presenting(phone.identity.as_ref().unwrap());
    assert_eq!(honest.send(&appliance).await.status, 200);
}

/// The proxy's own certificate is nobody's proof, and in nobody's way.
#[tokio::test]
async fn a_trusted_proxys_own_certificate_does_not_hide_its_header() {
    let mut appliance = behind("127.0.0.0/8").await;
    let phone = appliance.enroll(Kind::IPhone).await;
    let other = appliance.enroll(Kind::IPad).await;
    let key = super::forge::private(&crate::support::key(9));
    let own = super::forge::throw_away(&key);
    let pkcs8 = russet::simulator::Identity::new(crate::support::key(9), Vec::new()).pkcs8().to_vec();
    let request = Request::put("/mdm/connect", xml(report("Idle", &phone.udid, [])));
    let header = format!(":{}:", STANDARD.encode(&phone.identity.as_ref().unwrap().certificate));
    let through = request.clone().header(HEADER, &header).presenting_der(own.der(), &pkcs8);
    assert_eq!(through.send(&appliance).await.status, 200);
    let as_other = request.clone().header(HEADER, &header).presenting(other.identity.as_ref().unwrap());
    assert_eq!(as_other.send(&appliance).await.status, 200, "the header counts");
    let without = request.presenting_der(own.der(), &pkcs8).send(&appliance).await;
    assert!(without.status == 400 && without.text().contains("proves no identity"), "{}", without.text());
}
