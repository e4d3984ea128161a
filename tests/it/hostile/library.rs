//! What declarations point to, asked for by whom it is not for (THREATS D5 19, 26, 27).

use russet::simulator::{Device, Identity, Kind};
use serde_json::json;

use super::raw::{Answer, Request};
use crate::library::{PROFILE, wifi};
use crate::support::{Appliance, settle};

async fn get(appliance: &Appliance, identity: &Identity, path: &str) -> Answer {
    Request::get(path).presenting(identity).send(appliance).await
}

fn identity(device: &Device) -> Identity {
    device.identity.clone().unwrap()
}

/// 26, 27: a device gets what is declared for it, and of everything else not even that it is there.
#[tokio::test]
async fn nobody_gets_what_is_not_declared_for_them() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let other = appliance.enroll(Kind::IPhone).await;
    let profile = wifi("000000000001", "x");
    appliance.upload("/api/v1/profiles/wifi?declare=legacy", PROFILE, profile.clone()).await;
    appliance.upload("/api/v1/profiles/unused", PROFILE, profile.clone()).await;
    appliance.upload("/api/v1/assets/data", "text/plain", "bytes").await;
    appliance.group(&[&phone], &["wifi"]).await;
    settle(&mut phone).await;

    let answer = get(&appliance, &identity(&phone), "/mdm/profiles/wifi").await;
    assert_eq!((answer.status, answer.text()), (200, profile.clone()));
    assert_eq!(answer.header("content-type"), Some(PROFILE));
    let head =
        Request::new("HEAD", "/mdm/profiles/wifi").presenting(&identity(&phone)).send(&appliance).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some(profile.len().to_string().as_str()));

    let nothing = get(&appliance, &identity(&phone), "/mdm/profiles/none").await;
    assert_eq!(nothing.status, 404);
    for (device, path) in [
        (&other, "/mdm/profiles/wifi"),
        (&phone, "/mdm/profiles/unused"),
        (&phone, "/mdm/assets/data"),
        (&phone, "/mdm/assets/wifi"),
        (&phone, "/mdm/profiles/%77ifi%00"),
        (&phone, "/mdm/profiles/.."),
        (&phone, "/mdm/profiles/%2e%2e%2f%2e%2e%2frusset.db"),
        (&phone, "/mdm/profiles/..%5cseal.key"),
        (&phone, "/mdm/profiles/%ff"),
        (&phone, "/mdm/profiles/"),
        (&phone, "/mdm/profiles/wifi/"),
        (&phone, "/mdm/profiles/wifi/content"),
        (&phone, "/mdm//profiles/wifi"),
        (&phone, "/mdm/profiles/wifi' OR '1'='1"),
        (&phone, &format!("/mdm/profiles/{}", "a".repeat(6000))),
    ] {
        let answer = get(&appliance, &identity(device), path).await;
        assert!([400, 404].contains(&answer.status), "{path}: {}", answer.status);
        assert!(!answer.text().contains("SSID"), "{path}");
        if answer.status == 404 && path.starts_with("/mdm/profiles/w") && !path.contains("i/") {
            assert_eq!(answer.body, nothing.body, "{path} tells more than that there is nothing");
        }
    }
    // Somebody who proves nothing, or who is asked to leave.
    assert_eq!(Request::get("/mdm/profiles/wifi").send(&appliance).await.status, 400);
    let path = format!("/api/v1/enrollments/{}", phone.udid);
    let (status, answer) = appliance.api("DELETE", &path, None).await;
    assert!(status.is_success(), "{answer}");
    assert_eq!(get(&appliance, &identity(&phone), "/mdm/profiles/wifi").await.status, 404);
}

/// A device that lost its network goes on where it was; what it asks for wrongly it gets as a whole.
#[tokio::test]
async fn a_large_asset_is_served_in_ranges() {
    let mut appliance = Appliance::start().await;
    let mut mac = appliance.enroll(Kind::Mac).await;
    let large: Vec<u8> = (0..1_500_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    appliance.upload("/api/v1/assets/sshd", "application/zip", large.clone()).await;
    let payload = json!({"ServiceType": "com.apple.sshd", "DataAssetReference": "sshd"});
    appliance.declare("s", "configuration.services.configuration-files", payload).await;
    appliance.group(&[&mac], &["s"]).await;
    settle(&mut mac).await;
    let with = async |range: &str| {
        let request = Request::get("/mdm/assets/sshd").presenting(&identity(&mac)).header("Range", range);
        request.send(&appliance).await
    };
    let part = with("bytes=1200000-1200099").await;
    assert_eq!((part.status, &part.body[..]), (206, &large[1_200_000..1_200_100]));
    assert_eq!(part.header("content-range"), Some("bytes 1200000-1200099/1500000"));
    assert_eq!(with("bytes=1499990-").await.body, large[1_499_990..]);
    assert_eq!(with("bytes=1500000-").await.status, 416);
    let whole = with("bytes=0-1,5-6,7-8").await;
    assert_eq!((whole.status, whole.body.len()), (200, large.len()));
}

/// 19: an upload that breaks off leaves nothing behind.
#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;
    let appliance = Appliance::start().await;
    let mut stream =
        UnixStream::connect(appliance.config.data_dir.join(russet::server::SOCKET)).await.unwrap();
    let head = "PUT /api/v1/assets/x HTTP/1.1\r\nhost: a\r\ncontent-type: application/zip\r\n\
                content-length: 4000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![7; 2_000_000]).await.unwrap();
    let files = appliance.config.data_dir.join("files");
    let count = || std::fs::read_dir(&files).map_or(0, Iterator::count);
    while count() == 0 {
        tokio::task::yield_now().await;
    }
    drop(stream);
    while count() > 0 {
        tokio::task::yield_now().await;
    }
    let (status, _) = appliance.api("GET", "/api/v1/assets/x", None).await;
    assert_eq!(status, 404);
    assert_eq!(appliance.api("GET", "/api/v1/declarations/x", None).await.0, 404);
}
