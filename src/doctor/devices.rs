//! What the devices say by not coming: a network that keeps pushes from them, or devices that nobody has seen for long.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use crate::clock::{DAY, HOUR, Seconds};
use crate::error::Result;
use crate::finding::{Finding, Severity};
use crate::mdm::contact::{self, Heard};
use crate::mdm::{Mdm, claim};

/// How long a device that Apple took a push for has to come. Most come within seconds, some sleep.
const AWAITED: Seconds = HOUR;
/// Pushes of before that say nothing of today's network.
const RECENT: Seconds = 2 * DAY;
/// A network of fewer devices says nothing.
const FEW: usize = 3;
const LONG_GONE: Seconds = 30 * DAY;

pub(super) fn findings(mdm: &Mdm) -> Result<Vec<Finding>> {
    let now = mdm.store.clock().now();
    let (heard, claims) =
        mdm.store.peek(|conn| Ok((contact::all_heard(conn)?, claim::waiting_in_all(conn)?)))?;
    let mut found = silent_networks(&heard, now);
    let gone = heard.iter().filter(|one| one.last_seen_at.is_some_and(|at| now - at > LONG_GONE)).count();
    if gone > 0 {
        found.push(Finding {
            code: "devices-gone",
            subject: "devices".into(),
            severity: Severity::Info,
            seen: format!("{gone} of {} devices were not here for 30 days.", heard.len()),
            means: "They may be lost, in a drawer, or erased.".into(),
            remedy: "Look which: russet device list. One that will never come again: DELETE /api/v1/enrollments/ID?forget=1.".into(),
        });
    }
    if claims > 0 {
        found.push(Finding {
            code: "claims-waiting",
            subject: "claims".into(),
            severity: Severity::Warning,
            seen: format!("{claims} new identities say that they are devices which are enrolled already."),
            means: "Most were erased and enrolled again; none of them is managed until somebody decides."
                .into(),
            remedy: "Decide: GET /api/v1/enrollments/ID/claims, then approve or reject.".into(),
        });
    }
    Ok(found)
}

/// Networks whose devices do not come although Apple took the pushes for them, while others' do.
fn silent_networks(heard: &[Heard], now: Seconds) -> Vec<Finding> {
    let mut networks: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for one in heard {
        let (Some(address), Some(accepted)) = (one.address, one.accepted_at) else { continue };
        if now - accepted > RECENT || now - accepted < AWAITED {
            continue;
        }
        let network = networks.entry(network_of(address)).or_default();
        network.0 += 1;
        if one.last_seen_at.is_none_or(|seen| seen < accepted) {
            network.1 += 1;
        }
    }
    networks
        .into_iter()
        .filter(|(_, (pushed, silent))| *pushed >= FEW && silent * 5 >= pushed * 4)
        .map(|(network, (pushed, silent))| Finding {
            code: "network-silent",
            subject: network.clone(),
            severity: Severity::Warning,
            seen: format!("Apple took pushes for {pushed} devices that were last heard from {network}; {silent} of them did not come."),
            means: "The devices are off, or their network keeps Apple's pushes from them: TCP 5223, or 443, to 17.0.0.0/8 has to be open there."
                .into(),
            remedy: "On a computer in that network, run: russet doctor --hosts. It tells which port is closed.".into(),
        })
        .collect()
}

/// The network of an address: /24, /48.
fn network_of(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            format!("{}/48", Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(address: &str, seen: Seconds, accepted: Seconds) -> Heard {
        Heard {
            enrollment_id: "A".into(),
            last_seen_at: Some(seen),
            address: Some(address.parse().unwrap()),
            accepted_at: Some(accepted),
        }
    }

    #[test]
    fn only_a_network_whose_devices_stay_away_after_accepted_pushes_is_named() {
        let now = 100 * DAY;
        let pushed = now - 3 * HOUR;
        let mut heard: Vec<_> =
            (1..=5).map(|n| device(&format!("10.0.1.{n}"), pushed - HOUR, pushed)).collect();
        heard.extend((1..=5).map(|n| device(&format!("10.0.2.{n}"), pushed + 5, pushed)));
        // Too few, too new, too old.
        heard.push(device("10.0.3.1", pushed - HOUR, pushed));
        heard.extend((1..=5).map(|n| device(&format!("10.0.4.{n}"), now - HOUR, now - 60)));
        heard.extend((1..=5).map(|n| device(&format!("10.0.5.{n}"), now - 9 * DAY, now - 8 * DAY)));
        heard.extend((1..=4).map(|n| device(&format!("2001:db8:1:{n}::1"), pushed - HOUR, pushed)));
        let found = silent_networks(&heard, now);
        let subjects: Vec<_> = found.iter().map(|one| one.subject.as_str()).collect();
        assert_eq!(subjects, ["10.0.1.0/24", "2001:db8:1::/48"]);
        assert!(found[0].seen.contains("for 5 devices") && found[0].seen.contains("5 of them did not come"));
        // One that came is a network that lets pushes through.
        heard[0].last_seen_at = Some(pushed + 5);
        heard[1].last_seen_at = Some(pushed + 5);
        assert_eq!(silent_networks(&heard, now).len(), 1);
    }
}
