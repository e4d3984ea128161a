//! The record of challenge `dns-01`, by an update of the zone (RFC 2136) signed with a key (RFC 8945).
//!
//! Over TCP, one connection for each question; the zone is found by asking the server itself for the
//! SOA record of the name, then of the name without its first label, and so on.
//!
//! **Invariant:** only the record that was added is removed; others of that name stay.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::op::update_message::{append, delete_by_rdata};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name, RData, Record as DnsRecord, RecordSet, RecordType, TSigner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::clock::Seconds;
use crate::config::{HostPort, UpdateAlgorithm, UpdateKey};
use crate::error::{Error, Result};

/// For each question.
const PATIENCE: Duration = Duration::from_secs(20);
/// Seconds that others may keep the record: as short as is used.
const TTL: u32 = 60;
/// How far the two clocks may be apart (RFC 8945 section 10 recommends it).
const FUDGE: u16 = 300;

/// A TXT record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// With its last dot.
    pub(super) name: String,
    pub(super) value: String,
}

/// Adds the record, or removes it.
///
/// # Errors
/// [`Error::Invalid`] in words: the server cannot be reached, or refuses, with what it said.
pub(super) async fn update(
    server: &HostPort,
    zone: Option<&str>,
    key: Option<&UpdateKey>,
    record: &Record,
    present: bool,
    now: Seconds,
) -> Result<()> {
    let name = read_name(&record.name)?;
    let zone = match zone {
        Some(zone) => read_name(&format!("{zone}."))?,
        None => zone_of(server, &name).await?,
    };
    if !zone.zone_of(&name) {
        return Err(Error::invalid(format!(
            "{name} is not in the zone {zone}; correct [tls.acme] dns_zone, or leave it out"
        )));
    }
    let txt = RData::TXT(TXT::new(vec![record.value.clone()]));
    let set = RecordSet::from(DnsRecord::from_rdata(name, TTL, txt));
    let mut message =
        if present { append(set, zone, false, false) } else { delete_by_rdata(set, zone, false) };
    let verifier = match key {
        Some(key) => message
            .finalize(&signer(key)?, now.unsigned_abs())
            .map_err(|error| Error::invalid(format!("the update of the zone cannot be signed: {error}")))?,
        None => None,
    };
    let (bytes, answer) = ask(server, &message).await?;
    let code = answer.response_code;
    if code != ResponseCode::NoError {
        return Err(Error::invalid(format!("{server} refused the update: {}", reason(code, key.is_some()))));
    }
    if let Some(mut verifier) = verifier {
        verifier.verify(&bytes).map_err(|error| {
            Error::invalid(format!("the answer of {server} is not signed with the key: {error}"))
        })?;
    }
    Ok(())
}

fn reason(code: ResponseCode, signed: bool) -> String {
    match code {
        ResponseCode::Refused if signed => {
            "the key may not change this record; allow it in the zone's update policy".into()
        }
        ResponseCode::Refused => "it takes signed updates only; write dns_key_name and dns_key".into(),
        ResponseCode::NotAuth => {
            "it does not know the key, or the two clocks are more than 5 minutes apart; \
                                  compare dns_key_name, dns_key, dns_key_algorithm and the time"
                .into()
        }
        ResponseCode::NotZone => "the name is in another zone; correct dns_zone".into(),
        other => format!("{other}"),
    }
}

fn read_name(text: &str) -> Result<Name> {
    Name::from_ascii(text).map_err(|error| Error::invalid(format!("{text} is no name of the DNS: {error}")))
}

fn signer(key: &UpdateKey) -> Result<TSigner> {
    let wrong =
        |error: &dyn std::fmt::Display| Error::invalid(format!("[tls.acme] dns_key cannot be used: {error}"));
    let secret = STANDARD.decode(key.secret.reveal()).map_err(|error| wrong(&error))?;
    let algorithm = match key.algorithm {
        UpdateAlgorithm::HmacSha256 => TsigAlgorithm::HmacSha256,
        UpdateAlgorithm::HmacSha384 => TsigAlgorithm::HmacSha384,
        UpdateAlgorithm::HmacSha512 => TsigAlgorithm::HmacSha512,
    };
    TSigner::new(secret, algorithm, read_name(&format!("{}.", key.name))?, FUDGE)
        .map_err(|error| wrong(&error))
}

/// The zone that a name is in: the longest of its ends that has a SOA record of its own.
async fn zone_of(server: &HostPort, name: &Name) -> Result<Name> {
    let mut end = name.base_name();
    while end.num_labels() > 0 {
        let mut message = Message::query();
        message.add_query(Query::query(end.clone(), RecordType::SOA));
        let (_, answer) = ask(server, &message).await?;
        if answer.answers.iter().any(|found| found.record_type() == RecordType::SOA && found.name == end) {
            return Ok(end);
        }
        end = end.base_name();
    }
    Err(Error::invalid(format!("{server} knows no zone of {name}; write it as [tls.acme] dns_zone")))
}

/// Sends a message and reads the answer: its bytes, and what they say.
async fn ask(server: &HostPort, message: &Message) -> Result<(Vec<u8>, Message)> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::invalid(format!("the name server {server} cannot be asked: {error}"))
    };
    let question = message.to_vec().map_err(|error| failed(&error))?;
    let length = u16::try_from(question.len()).map_err(|error| failed(&error))?;
    let conversation = async {
        let mut stream = TcpStream::connect((server.host.as_str(), server.port)).await?;
        stream.write_all(&[&length.to_be_bytes()[..], &question].concat()).await?;
        let length = stream.read_u16().await?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let bytes = timeout(PATIENCE, conversation)
        .await
        .map_err(|_| failed(&"it did not answer in time"))?
        .map_err(|error| failed(&error))?;
    let answer = Message::from_vec(&bytes).map_err(|error| failed(&error))?;
    if answer.id != message.id {
        return Err(failed(&"its answer is one to another question"));
    }
    Ok((bytes, answer))
}
