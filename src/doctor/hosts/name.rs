//! The name of an address, asked of a name server (RFC 1035 section 3.5).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::id;

const PATIENCE: Duration = Duration::from_secs(2);

/// The first name server of this machine.
pub(super) fn resolver_of_system() -> Option<SocketAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").ok()?;
    let address = text.lines().find_map(|line| line.trim().strip_prefix("nameserver"))?.trim();
    // An address with a zone (fe80::1%eth0) is left alone.
    Some(SocketAddr::new(address.parse().ok()?, 53))
}

/// The name of an address; none if there is none, or no answer in time.
pub(super) async fn reverse(address: IpAddr, resolver: SocketAddr) -> Option<String> {
    timeout(PATIENCE, ask(address, resolver)).await.ok().flatten()
}

async fn ask(address: IpAddr, resolver: SocketAddr) -> Option<String> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from(address), RecordType::PTR));
    let any: SocketAddr = if resolver.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await.ok()?;
    socket.connect(resolver).await.ok()?;
    socket.send(&message.to_vec().ok()?).await.ok()?;
    let mut answer = [0; 1500];
    let length = socket.recv(&mut answer).await.ok()?;
    let answer = Message::from_vec(&answer[..length]).ok().filter(|answer| answer.id == message.id)?;
    answer.answers.iter().find_map(|record| match &record.data {
        RData::PTR(name) => Some(id::printable(name.0.to_ascii().trim_end_matches('.'))),
        _ => None,
    })
}
