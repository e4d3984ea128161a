//! A hostile device, a stolen link and a hostile network (THREATS D5), each with the wanted answer.
//!
//! What Apple's devices would never send goes through [`raw`]; what they would send, with other
//! content, through the simulated devices. A test is named after what it tries, and its comment
//! begins with the number in the list.
//!
//! **Invariant:** no refusal on a device route is 401 or 403 but the two that mean it; [`raw::Answer`]
//! and [`say`] assert it for every request that is made here.

mod checkin;
mod claims;
mod clock;
mod connect;
mod cuts;
mod disk;
mod enrollment;
mod forge;
mod library;
mod lives;
mod markup;
mod network;
mod odd;
mod parsers;
mod proof;
mod proxy;
mod raw;
mod renewals;
mod requests;
mod scep;
mod secrets;
mod users;

use plist::{Dictionary, Value};
use russet::simulator::{Device, Reply};

use crate::support::Appliance;

/// Every route on which a device proves who it is; `proof.rs` holds it to the source.
const DEVICE_ROUTES: [&str; 2] = ["/mdm/checkin", "/mdm/connect"];
/// Those of them that are fetched from.
const FETCH_ROUTES: [&str; 2] = ["/mdm/profiles/{identifier}", "/mdm/assets/{identifier}"];

/// A dictionary of these keys.
fn keys<const N: usize>(entries: [(&str, Value); N]) -> Dictionary {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// A check-in message in the name of `udid`.
fn message<const N: usize>(kind: &str, udid: &str, entries: [(&str, Value); N]) -> Dictionary {
    let mut message = keys(entries);
    message.insert("MessageType".into(), kind.into());
    message.insert("UDID".into(), udid.into());
    message
}

/// A TokenUpdate in the name of `udid` with everything that it needs.
fn token_update(udid: &str) -> Dictionary {
    message(
        "TokenUpdate",
        udid,
        [
            ("Topic", crate::support::TOPIC.into()),
            ("Token", Value::Data(vec![7; 32])),
            ("PushMagic", "magic".into()),
        ],
    )
}

/// An Authenticate in the name of `udid` with everything that it needs.
fn authenticate(udid: &str) -> Dictionary {
    message("Authenticate", udid, [("Topic", crate::support::TOPIC.into())])
}

/// A report in the name of `udid`.
fn report<const N: usize>(status: &str, udid: &str, entries: [(&str, Value); N]) -> Dictionary {
    let mut report = keys(entries);
    report.insert("Status".into(), status.into());
    report.insert("UDID".into(), udid.into());
    report
}

fn xml(message: Dictionary) -> Vec<u8> {
    russet::plist::to_xml(&Value::Dictionary(message))
}

/// Sends bytes as this device, with its real proof of identity, and judges nothing.
async fn send(appliance: &Appliance, device: &mut Device, path: &str, body: Vec<u8>) -> Reply {
    let url = format!("{}{path}", appliance.config.server.public_url);
    let kind = if path == "/mdm/connect" { "" } else { "-checkin" };
    let reply = device.put(&url, &format!("application/x-apple-aspen-mdm{kind}"), body).await.unwrap();
    assert!(![401, 403].contains(&reply.status), "{path} was answered {}", reply.status);
    reply
}

/// Says something at check-in as this device; answers the status.
async fn say(appliance: &Appliance, device: &mut Device, message: Dictionary) -> u16 {
    send(appliance, device, "/mdm/checkin", xml(message)).await.status
}

/// Reports something as this device; answers status and body.
async fn tell(appliance: &Appliance, device: &mut Device, report: Dictionary) -> (u16, Vec<u8>) {
    let reply = send(appliance, device, "/mdm/connect", xml(report)).await;
    (reply.status, reply.body)
}

/// How many events of a kind there are.
fn events(appliance: &Appliance, kind: &str) -> i64 {
    appliance.value("SELECT COUNT(*) FROM events WHERE kind = ?1", kind)
}
