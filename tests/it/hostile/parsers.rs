//! Property lists and JSON that explode, lie about their size or have no end (THREATS D5 15, 16, 18).

use plist::{Dictionary, Value};
use russet::simulator::{Channel, Kind};
use serde_json::json;

use super::raw::Request;
use super::{message, send, xml};
use crate::support::Appliance;

const HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>";

/// 15: entities, nesting, encodings, addresses.
#[tokio::test]
async fn xml_bombs_are_refused_within_bounds() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let laughs: String =
        (1..10).map(|n| format!("<!ENTITY l{n} \"{}\">", format!("&l{};", n - 1).repeat(10))).collect();
    let idle = format!(
        "<plist version=\"1.0\"><dict><key>Status</key><string>Idle</string><key>UDID</key><string>{}</string></dict></plist>",
        phone.udid
    );
    let wide = |idle: &str| idle.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
    let bombs: Vec<Vec<u8>> = vec![
        format!("{HEAD}<!DOCTYPE plist [<!ENTITY l0 \"lol\">{laughs}]><plist version=\"1.0\"><string>&l9;</string></plist>").into(),
        format!("{HEAD}<!DOCTYPE plist [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><plist><string>&x;</string></plist>").into(),
        format!("{HEAD}<!DOCTYPE plist [<!ENTITY % x SYSTEM \"http://127.0.0.1:1/\"> %x;]>{idle}").into(),
        format!("{HEAD}<!DOCTYPE plist SYSTEM \"http://127.0.0.1:1/evil.dtd\">{idle}").into(),
        format!("{HEAD}<plist version=\"1.0\"><string>&undefined;</string></plist>").into(),
        format!("{HEAD}<plist version=\"1.0\">{}{}</plist>", "<array>".repeat(100_000), "</array>".repeat(100_000)).into(),
        format!("{HEAD}<plist version=\"1.0\">{}", "<dict><key>a</key>".repeat(100_000)).into(),
        format!("{HEAD}<plist version=\"1.0\"><array>{}</array></plist>", "<true/>".repeat(1_400_000)).into(),
        [&b"\xfe\xff"[..], &wide(&idle)].concat(),
        wide(&idle),
        format!("<?xml version=\"1.0\" encoding=\"UTF-16\"?>{idle}").into(),
        format!("<?xml version=\"1.0\" encoding=\"EBCDIC-CP-US\"?>{idle}").into(),
        [HEAD.as_bytes(), b"<plist><string>\xc0\xaf</string></plist>"].concat(),
        idle.replace("<key>UDID</key>", "<key>Status</key><string>NotNow</string><key>UDID</key>").into(),
        format!("{idle}{idle}").into(),
        idle.replace("Idle", "Idle\0").into(),
        "<!--".repeat(500_000).into(),
        "<".repeat(1 << 20).into(),
        format!("{HEAD}<plist version=\"1.0\"><dict><key>{}</key></dict></plist>", "k".repeat(9 << 20)).into(),
    ];
    for (number, bomb) in bombs.into_iter().enumerate() {
        for path in ["/mdm/connect", "/mdm/checkin"] {
            let reply = send(&appliance, &mut phone, path, bomb.clone()).await;
            assert_eq!(reply.status, 400, "{number}");
            assert!(reply.body.len() < 1000, "{number}: the answer is a sentence, not an echo");
        }
    }
    let bom = format!("\u{feff}{HEAD}{idle}").into_bytes();
    assert_eq!(send(&appliance, &mut phone, "/mdm/connect", bom).await.status, 200, "a mark is harmless");
}

/// 15: a key of megabytes, twice, is not thrown back or logged by the megabyte.
#[tokio::test]
async fn a_duplicate_key_of_megabytes_is_not_echoed() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let key = "k".repeat(2 << 20);
    let entry = format!("<key>{key}</key><true/>");
    let body = format!("<plist version=\"1.0\"><dict>{entry}{entry}</dict></plist>");
    let reply = send(&appliance, &mut phone, "/mdm/connect", body.into_bytes()).await;
    assert_eq!(reply.status, 400);
    assert!(reply.body.len() < 1000, "{} bytes", reply.body.len());
}

/// 15: a gigabyte in a megabyte is never unpacked.
#[tokio::test]
async fn a_compressed_body_is_415_before_anyone_is_asked_who_they_are() {
    let appliance = Appliance::start().await;
    for path in ["/mdm/connect", "/mdm/checkin", "/scep"] {
        for encoding in ["gzip", "deflate", "br", "identity, gzip", "GZIP"] {
            let request = Request::post(path, vec![0x1f, 0x8b, 8, 0]).header("Content-Encoding", encoding);
            assert_eq!(request.send(&appliance).await.status, 415, "{path} {encoding}");
        }
    }
}

/// 16: references that loop or point nowhere, counts beyond memory.
#[tokio::test]
async fn binary_plist_bombs_are_refused_within_bounds() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    // Objects, one after the other, each found by a table of one-byte offsets.
    let binary = |objects: &[&[u8]], top: u8| {
        let mut bytes = b"bplist00".to_vec();
        let mut offsets = Vec::new();
        for object in objects {
            offsets.push(u8::try_from(bytes.len()).unwrap());
            bytes.extend(*object);
        }
        let table = bytes.len() as u64;
        bytes.extend(&offsets);
        bytes.extend([0; 6]);
        bytes.extend([1, 1]);
        bytes.extend((offsets.len() as u64).to_be_bytes());
        bytes.extend(u64::from(top).to_be_bytes());
        bytes.extend(table.to_be_bytes());
        bytes
    };
    let doubling: Vec<[u8; 3]> = (1..=40).map(|next| [0xa2, next, next]).chain([[0xa0, 0, 0]]).collect();
    let doubling: Vec<&[u8]> = doubling.iter().map(|object| &object[..]).collect();
    let huge_table = {
        let mut bytes = binary(&[&[0xa0]], 0);
        let at = bytes.len() - 24;
        bytes[at..at + 8].copy_from_slice(&u64::MAX.to_be_bytes());
        bytes
    };
    let bombs: Vec<Vec<u8>> = vec![
        binary(&[&[0xa1, 0]], 0),
        binary(&[&[0xa1, 1], &[0xa1, 0]], 0),
        binary(&[&[0xd1, 1, 0], &[0x51, b'a']], 0),
        binary(&[&[0xa1, 200]], 0),
        binary(&[&[0xa0]], 9),
        binary(&[&[0xaf, 0x13, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]], 0),
        binary(&[&[0x4f, 0x13, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]], 0),
        binary(&[&[0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]], 0),
        binary(&[&[0x6f, 0x12, 0x80, 0, 0, 0]], 0),
        binary(&[&[0x61, 0xd8, 0x00]], 0),
        binary(&[&[0xd2, 1, 1, 1, 1], &[0x51, b'a']], 0),
        binary(&doubling, 0),
        huge_table,
        b"bplist00".to_vec(),
        b"bplist99".repeat(8),
        [&b"bplist00"[..], &[0xff; 64]].concat(),
    ];
    for (number, bomb) in bombs.into_iter().enumerate() {
        let reply = send(&appliance, &mut phone, "/mdm/connect", bomb).await;
        assert_eq!(reply.status, 400, "{number}");
        assert!(reply.body.len() < 1000, "{number}: the answer is a sentence, not an echo");
    }
}

/// 18: what is not JSON is refused; what is JSON is taken, since a refused report comes for ever.
#[tokio::test]
async fn hostile_status_reports_never_stop_the_sync() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let udid = phone.udid.clone();
    let status = |json: &[u8]| {
        let data = Value::Data(json.to_vec());
        xml(message("DeclarativeManagement", &udid, [("Endpoint", "status".into()), ("Data", data)]))
    };
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    for wrong in [
        &b""[..],
        b"{",
        b"[]",
        b"null",
        b"{\"a\":1e309}",
        b"{\"a\":NaN}",
        b"{\"a\":\"\xff\"}",
        b"{\"a\":\"\\ud800\"}",
        b"\xef\xbb\xbf{}",
        deep.as_bytes(),
    ] {
        let reply = send(&appliance, &mut phone, "/mdm/checkin", status(wrong)).await;
        assert_eq!(reply.status, 400, "{}", String::from_utf8_lossy(&wrong[..wrong.len().min(40)]));
    }
    for odd in [
        json!({}),
        json!({"StatusItems": {"x": "y".repeat(5 << 20)}}),
        json!({"StatusItems": 7, "Errors": "none"}),
        json!({"StatusItems": {"device": {"unknown": {"later": [1, null, {}]}}}, "Errors": []}),
        json!({"StatusItems": {"management": {"client-capabilities": "none",
            "declarations": {"configurations": [
                {"identifier": "a/../b", "server-token": "1", "active": "yes"},
                {"identifier": "a/../b", "server-token": "2", "valid": 7},
                {"identifier": "x".repeat(65)}, 7, null]}}}}),
    ] {
        let reply = send(&appliance, &mut phone, "/mdm/checkin", status(odd.to_string().as_bytes())).await;
        assert_eq!(reply.status, 200, "{odd}");
    }
    let twice = b"{\"StatusItems\":{},\"StatusItems\":{\"a\":1}}";
    assert_eq!(send(&appliance, &mut phone, "/mdm/checkin", status(twice)).await.status, 200);

    for (endpoint, expected) in [
        ("tokens", 200),
        ("declaration-items", 200),
        ("declaration/../tokens", 404),
        ("declaration/configuration/a", 404),
        ("%2e%2e", 404),
        ("", 404),
        ("/", 404),
        ("\u{202e}", 404),
        (&format!("declaration/configuration/{}", "x".repeat(64 * 1024)), 404),
    ] {
        let ask = xml(message("DeclarativeManagement", &udid, [("Endpoint", endpoint.into())]));
        assert_eq!(send(&appliance, &mut phone, "/mdm/checkin", ask).await.status, expected, "{endpoint}");
    }
    let uuid = appliance.send(&udid, json!({"RequestType": "SecurityInfo"})).await;
    phone.connect(Channel::Device).await.unwrap();
    assert_eq!(appliance.status(&udid, &uuid), "Acknowledged");
}

/// A status report without its Data, or with another type.
#[tokio::test]
async fn a_status_report_without_data_is_400() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let udid = phone.udid.clone();
    for data in [None, Some(Value::from("{}")), Some(Value::Dictionary(Dictionary::new()))] {
        let mut said = message("DeclarativeManagement", &udid, [("Endpoint", "status".into())]);
        if let Some(data) = data {
            said.insert("Data".into(), data);
        }
        assert_eq!(super::say(&appliance, &mut phone, said).await, 400);
    }
}
