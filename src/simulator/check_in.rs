//! Check-in: what a device says about itself (Apple: "Check-in", PROTOCOL of `CheckInURL`).
//!
//! One function for each message; each answers what the server said. Statuses are obeyed as devices
//! obey them: 401, and 403 with `com.apple.unrecognized.device`, remove the management profile.
//!
//! **Invariant:** the bytes that are signed are the bytes that are sent.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use plist::{Dictionary, Value};

use super::cms;
use super::device::{Channel, Device};
use super::fault::Fault;
use super::kind::Kind;
use super::wire::Reply;

const CHECK_IN: &str = "application/x-apple-aspen-mdm-checkin";
const UNRECOGNIZED: &str = "com.apple.unrecognized.device";

impl Device {
    /// Says who it is, for the first time with this identity.
    pub async fn authenticate(&mut self) -> Result<(), Fault> {
        let model = self.kind.model();
        let mut message = self.message("Authenticate", Channel::Device)?;
        let mut say = |key: &str, value: &str| message.insert(key.into(), Value::from(value));
        if self.kind == Kind::Mac {
            say("DeviceName", &self.name);
            say("Model", model.product_name);
            say("ModelName", model.model_name);
        }
        say("OSVersion", &self.os_version);
        say("BuildVersion", &self.build_version);
        say("ProductName", model.product_name);
        say("SerialNumber", &self.serial_number);
        self.check_in(message).await.map(drop)
    }

    /// Tells the tokens that wake a channel.
    pub async fn token_update(&mut self, channel: Channel) -> Result<(), Fault> {
        let mut message = self.message("TokenUpdate", channel)?;
        let push = match (channel, &self.user) {
            (Channel::User, Some(user)) => &user.push,
            _ => &self.push,
        };
        if let (Some(ear), Some(management)) = (&self.ear, &self.management) {
            let (topic, woken) = (&management.topic, ear.woken.clone());
            ear.apple.register(&push.token, topic, &push.magic, channel, woken);
        }
        message.insert("Token".into(), Value::Data(push.token.to_vec()));
        message.insert("PushMagic".into(), Value::from(push.magic.as_str()));
        if channel == Channel::Device {
            message.insert("AwaitingConfiguration".into(), Value::from(self.awaiting_configuration));
            if let Some(token) = &self.unlock_token {
                message.insert("UnlockToken".into(), Value::Data(token.clone()));
            }
        } else {
            message.insert("NotOnConsole".into(), Value::from(false));
        }
        self.check_in(message).await.map(drop)
    }

    /// Escrows a Mac's bootstrap token.
    pub async fn set_bootstrap_token(&mut self) -> Result<(), Fault> {
        let mut message = self.message("SetBootstrapToken", Channel::Device)?;
        message.insert("BootstrapToken".into(), Value::Data(self.bootstrap_token.clone()));
        message.insert("AwaitingConfiguration".into(), Value::from(self.awaiting_configuration));
        self.check_in(message).await.map(drop)
    }

    /// Asks for the escrowed bootstrap token; `None` if the server has none.
    pub async fn stored_bootstrap_token(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        let message = self.message("GetBootstrapToken", Channel::Device)?;
        let reply = self.check_in(message).await?;
        if reply.body.is_empty() {
            return Ok(None);
        }
        let token = dictionary(&reply.body, "the answer to GetBootstrapToken")?.remove("BootstrapToken");
        Ok(token.and_then(Value::into_data).filter(|token| !token.is_empty()))
    }

    /// Asks for a token of a service, e.g. `com.apple.maid`.
    pub async fn service_token(&mut self, service: &str) -> Result<Vec<u8>, Fault> {
        let mut message = self.message("GetToken", Channel::Device)?;
        message.insert("TokenServiceType".into(), Value::from(service));
        let reply = self.check_in(message).await?;
        let token = dictionary(&reply.body, "the answer to GetToken")?.remove("TokenData");
        token
            .and_then(Value::into_data)
            .ok_or_else(|| Fault::unacceptable("the answer to GetToken has no TokenData"))
    }

    /// A person removes the profile: CheckOut, if the profile wants it, and everything is forgotten.
    pub async fn remove_management(&mut self) -> Result<(), Fault> {
        let said = match &self.management {
            Some(management) if management.check_out_when_removed => {
                let message = self.message("CheckOut", Channel::Device)?;
                self.check_in(message).await.map(drop)
            }
            _ => Ok(()),
        };
        self.forget_management();
        said
    }

    /// Sends any check-in message and obeys the status. Answers only success.
    pub async fn check_in(&mut self, message: Dictionary) -> Result<Reply, Fault> {
        let step = super::profile::string(&message, "MessageType").unwrap_or("check-in").to_owned();
        let url = self.managed()?.check_in_url.clone();
        let reply = self.put(&url, CHECK_IN, xml(message)?).await?;
        self.obey(&step, reply)
    }

    /// A check-in message with the keys that all of them have.
    pub(super) fn message(&self, kind: &str, channel: Channel) -> Result<Dictionary, Fault> {
        let mut message = self.identify(channel);
        message.insert("MessageType".into(), Value::from(kind));
        if matches!(kind, "Authenticate" | "TokenUpdate" | "CheckOut") {
            message.insert("Topic".into(), Value::from(self.managed()?.topic.as_str()));
        }
        Ok(message)
    }

    pub(super) fn managed(&self) -> Result<&super::profile::Management, Fault> {
        self.management.as_ref().ok_or_else(|| Fault::unacceptable("the device is not enrolled"))
    }

    /// Sends bytes as this device would, signed where the profile wants it, and judges nothing.
    pub async fn put(&mut self, url: &str, content_type: &str, body: Vec<u8>) -> Result<Reply, Fault> {
        let mut headers = HeaderMap::new();
        let kind = HeaderValue::from_str(content_type)
            .map_err(|_| Fault::unacceptable("a content type that HTTP cannot carry"))?;
        headers.insert(CONTENT_TYPE, kind);
        self.sign_into(&mut headers, &body)?;
        self.wire.send(Method::PUT, url, headers, body).await
    }

    /// Fetches an asset or profile with the proof of identity that a message would carry.
    pub async fn fetch(&mut self, url: &str) -> Result<Reply, Fault> {
        let mut headers = HeaderMap::new();
        self.sign_into(&mut headers, b"")?;
        self.wire.send(Method::GET, url, headers, Vec::new()).await
    }

    fn sign_into(&self, headers: &mut HeaderMap, body: &[u8]) -> Result<(), Fault> {
        headers.insert(USER_AGENT, HeaderValue::from_static(self.kind.model().user_agent));
        if let (Some(management), Some(identity)) = (&self.management, &self.identity)
            && management.sign_message
        {
            let signature = cms::sign_detached(identity, body, self.form, self.clock.now())?;
            let value = HeaderValue::from_str(&STANDARD.encode(signature))
                .map_err(|_| Fault::unacceptable("a signature that HTTP cannot carry"))?;
            headers.insert(HeaderName::from_static("mdm-signature"), value);
        }
        Ok(())
    }

    /// What a device does when it sees a status.
    pub(super) fn obey(&mut self, step: &str, reply: Reply) -> Result<Reply, Fault> {
        let step = step.to_owned();
        let status = reply.status;
        match status {
            200 => {
                self.meter.took(&step, reply.took);
                Ok(reply)
            }
            401 => {
                self.forget_management();
                Err(Fault::Unenrolled { step, status })
            }
            403 if is_unrecognized(&reply) => {
                self.forget_management();
                Err(Fault::Unenrolled { step, status })
            }
            _ => Err(Fault::Refused { step, status, body: reply.words() }),
        }
    }
}

fn is_unrecognized(reply: &Reply) -> bool {
    let is_json = reply.content_type() == "application/json";
    let body: Option<serde_json::Value> = serde_json::from_slice(&reply.body).ok();
    is_json && body.is_some_and(|body| body["code"] == UNRECOGNIZED)
}

/// The XML property list of a message.
pub(super) fn xml(message: Dictionary) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    Value::Dictionary(message)
        .to_writer_xml(&mut bytes)
        .map_err(|error| Fault::unacceptable(format!("the device cannot write its message: {error}")))?;
    Ok(bytes)
}

/// Reads an XML property list with a dictionary; `what` it is, for the words of the fault.
pub(super) fn dictionary(bytes: &[u8], what: &str) -> Result<Dictionary, Fault> {
    match Value::from_reader_xml(bytes) {
        Ok(Value::Dictionary(dictionary)) => Ok(dictionary),
        _ => Err(Fault::unacceptable(format!("{what} is no XML property list with a dictionary"))),
    }
}
