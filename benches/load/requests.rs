//! What devices and administrators send, as the bytes that go over the connection.
//!
//! Everything that costs is done here, before any clock starts: property lists, RSA signatures,
//! CommandUUIDs. Bodies have the keys and about the size of what an iPhone sends.
//!
//! **Invariant:** each request names its own device and is signed with that device's identity.

use std::sync::Arc;

use axum::body::Bytes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use plist::{Dictionary, Value};
use russet::clock::Seconds;
use russet::simulator::{Digest, Form, Identity, sign_detached};

use crate::client::Expected;
use crate::{Result, declared};

/// The UnlockToken of a device has about this size.
const UNLOCK_TOKEN: usize = 2000;

/// A request as it goes over the connection.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) bytes: Bytes,
    body_at: usize,
    pub(crate) expected: Expected,
}

impl Request {
    /// What the server may have to keep.
    pub(crate) fn body(&self) -> &[u8] {
        &self.bytes[self.body_at..]
    }

    /// The same bytes, to be answered otherwise.
    pub(crate) fn expecting(&self, expected: Expected) -> Arc<Self> {
        Arc::new(Self { expected, ..self.clone() })
    }

    pub(crate) fn new(head: &str, kind: &str, body: &[u8], expected: Expected) -> Self {
        let head = format!(
            "{head}\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        Self { bytes: [head.as_bytes(), body].concat().into(), body_at: head.len(), expected }
    }
}

/// Requests that follow each other on one connection and are counted as one.
pub(crate) type Operation = Vec<Arc<Request>>;

/// A device as the load generator knows it.
pub(crate) struct Device {
    pub(crate) udid: String,
    pub(crate) identity: Identity,
    pub(crate) push_token: Vec<u8>,
    pub(crate) push_magic: String,
}

impl Device {
    /// Says Idle, expecting to hear nothing.
    pub(crate) fn idle(&self, now: Seconds) -> Result<Request> {
        self.connect(now, Dictionary::new(), "Idle", Expected::Empty)
    }

    /// An administrator asks something, the device comes for it with its `idle`, and answers.
    pub(crate) fn cycle(&self, now: Seconds, token: &str, idle: &Request) -> Result<Operation> {
        let uuid = russet::id::uuid();
        let command = dictionary([
            ("CommandUUID", Value::from(uuid.as_str())),
            (
                "Command",
                Value::from(dictionary([
                    ("RequestType", Value::from("DeviceInformation")),
                    ("Queries", Value::from(ANSWERS.map(|(query, _)| Value::from(query)).to_vec())),
                ])),
            ),
        ]);
        let head = format!(
            "POST /api/v1/enrollments/{}/commands HTTP/1.1\r\nAuthorization: Bearer {token}",
            self.udid
        );
        let ask = Request::new(&head, "application/x-plist", &xml(command)?, Expected::Something);
        let answers = dictionary(ANSWERS.map(|(query, answer)| (query, Value::from(answer))));
        let answer =
            dictionary([("CommandUUID", Value::from(uuid)), ("QueryResponses", Value::from(answers))]);
        let answer = self.connect(now, answer, "Acknowledged", Expected::Empty)?;
        Ok(vec![Arc::new(ask), idle.expecting(Expected::Something), Arc::new(answer)])
    }

    /// Asks something about declarations.
    pub(crate) fn ask(&self, now: Seconds, endpoint: &str) -> Result<Operation> {
        let message = self.declarative(endpoint);
        Ok(vec![Arc::new(self.check_in(now, message, Expected::Something)?)])
    }

    /// A status report of 3 KB; those of different `turn` differ in one value.
    pub(crate) fn report(&self, now: Seconds, turn: usize) -> Result<Operation> {
        let mut message = self.declarative("status");
        message.insert("Data".into(), Value::Data(declared::report(&self.udid, turn)));
        Ok(vec![Arc::new(self.check_in(now, message, Expected::Empty)?)])
    }

    fn declarative(&self, endpoint: &str) -> Dictionary {
        dictionary([
            ("MessageType", Value::from("DeclarativeManagement")),
            ("UDID", Value::from(self.udid.as_str())),
            ("Endpoint", Value::from(endpoint)),
        ])
    }

    fn check_in(&self, now: Seconds, message: Dictionary, expected: Expected) -> Result<Request> {
        self.signed(now, "/mdm/checkin", "application/x-apple-aspen-mdm-checkin", message, expected)
    }

    /// Authenticate and TokenUpdate.
    pub(crate) fn enroll(&self, now: Seconds, topic: &str) -> Result<Operation> {
        let messages = [self.authenticate(topic), self.token_update(topic)];
        let said = messages.into_iter().map(|message| self.check_in(now, message, Expected::Empty));
        said.map(|request| request.map(Arc::new)).collect()
    }

    /// The first message of an enrollment.
    pub(crate) fn authenticate(&self, topic: &str) -> Dictionary {
        dictionary([
            ("MessageType", Value::from("Authenticate")),
            ("UDID", Value::from(self.udid.as_str())),
            ("Topic", Value::from(topic)),
            ("BuildVersion", Value::from("23A341")),
            ("OSVersion", Value::from("26.0")),
            ("ProductName", Value::from("iPhone17,3")),
            ("Model", Value::from("MYMF3LL/A")),
            ("ModelName", Value::from("iPhone")),
            ("DeviceName", Value::from("Classroom iPhone")),
            ("SerialNumber", Value::from(&self.udid[..12])),
            ("IMEI", Value::from("35 123456 123456 7")),
            ("MEID", Value::from("35123456123456")),
        ])
    }

    /// The message that completes it.
    pub(crate) fn token_update(&self, topic: &str) -> Dictionary {
        dictionary([
            ("MessageType", Value::from("TokenUpdate")),
            ("UDID", Value::from(self.udid.as_str())),
            ("Topic", Value::from(topic)),
            ("Token", Value::Data(self.push_token.clone())),
            ("PushMagic", Value::from(self.push_magic.as_str())),
            ("UnlockToken", Value::Data(unlock_token())),
            ("AwaitingConfiguration", Value::from(false)),
        ])
    }

    fn connect(
        &self,
        now: Seconds,
        mut report: Dictionary,
        status: &str,
        expected: Expected,
    ) -> Result<Request> {
        report.insert("UDID".into(), Value::from(self.udid.as_str()));
        report.insert("Status".into(), Value::from(status));
        self.signed(now, "/mdm/connect", "application/x-apple-aspen-mdm", report, expected)
    }

    fn signed(
        &self,
        now: Seconds,
        path: &str,
        kind: &str,
        message: Dictionary,
        expected: Expected,
    ) -> Result<Request> {
        let body = xml(message)?;
        let form = Form { digest: Digest::Sha256, signed_attributes: true };
        let signature = STANDARD.encode(sign_detached(&self.identity, &body, form, now)?);
        let head = format!("PUT {path} HTTP/1.1\r\nUser-Agent: MDM/1.0\r\nMdm-Signature: {signature}");
        Ok(Request::new(&head, kind, &body, expected))
    }
}

pub(crate) fn unlock_token() -> Vec<u8> {
    vec![0x55; UNLOCK_TOKEN]
}

/// What is asked in DeviceInformation, and answered.
const ANSWERS: [(&str, &str); 9] = [
    ("DeviceName", "Classroom iPhone"),
    ("OSVersion", "26.0"),
    ("BuildVersion", "23A341"),
    ("ModelName", "iPhone"),
    ("Model", "MYMF3LL/A"),
    ("ProductName", "iPhone17,3"),
    ("SerialNumber", "C39XK1234567"),
    ("WiFiMAC", "00:00:5e:00:53:01"),
    ("BluetoothMAC", "00:00:5e:00:53:02"),
];

fn dictionary<const N: usize>(members: [(&str, Value); N]) -> Dictionary {
    members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

pub(crate) fn xml(message: Dictionary) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    Value::Dictionary(message).to_writer_xml(&mut body)?;
    Ok(body)
}
