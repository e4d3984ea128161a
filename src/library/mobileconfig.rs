//! A configuration profile as a person hands it in: a property list, or one inside of a signature.
//!
//! Called for every upload, and to know what an InstallProfile command carries. What devices refuse is
//! refused here with words; what is only unusual becomes a warning. Apple: "TopLevel",
//! "CommonPayloadKeys", `com.apple.configuration.legacy`.
//!
//! **Invariant:** nothing that could manage a device is let in, in whatever it is wrapped.

use serde_json::{Value as Json, json};
use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::id::printable;
use crate::pki::cms::{self, Held};
use crate::plist::{self, Dictionary, Value};
use crate::schema::profiles::remarks;
use crate::schema::secrets::has_secrets;

/// The largest that is taken.
pub const LARGEST: u64 = 10 * 1024 * 1024;
/// As devices get it.
pub const MEDIA_TYPE: &str = "application/x-apple-aspen-config";
/// What only an enrollment may bring (Apple: `com.apple.configuration.legacy`).
const FORBIDDEN: [&str; 2] = ["com.apple.mdm", "com.apple.declarations"];
/// Each is named wherever the profile is; real ones have a few dozen.
const MOST_PAYLOADS: usize = 500;
/// How many signatures may lie around one piece of data; nobody needs two.
const MOST_WRAPPERS: usize = 8;
/// Nobody reads more warnings.
const MOST_WARNINGS: usize = 50;
/// Texts are shown in lists; nobody's are longer.
const LONGEST_TEXT: usize = 1024;

/// What stands in a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mobileconfig {
    pub identifier: String,
    pub uuid: String,
    pub name: Option<String>,
    pub description: Option<String>,
    pub organization: Option<String>,
    /// `System` or `User`.
    pub scope: Option<String>,
    pub removal_disallowed: bool,
    /// There is a password or another secret in it, as far as names tell.
    pub has_secrets: bool,
    /// The name in the signer's certificate.
    pub signed_by: Option<String>,
    /// In their order.
    pub payloads: Vec<Payload>,
    pub warnings: Vec<String>,
}

/// One of its payloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    pub payload_type: String,
    pub identifier: String,
    pub uuid: String,
    pub name: Option<String>,
}

impl Mobileconfig {
    /// Reads a profile, signed or not.
    ///
    /// # Errors
    /// `Invalid`, in words.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        if bytes.len() as u64 > LARGEST {
            return Err(Error::invalid("a profile has at most 10 MiB"));
        }
        let (signed_by, list) = unsigned(bytes)?;
        let list = plist::parse_dict(list.as_deref().unwrap_or(bytes)).map_err(|error| {
            Error::invalid(format!("this is no configuration profile (.mobileconfig): {error}"))
        })?;
        let mut profile = whole(&list)?;
        profile.signed_by = signed_by;
        profile.has_secrets = list.iter().any(|(_, value)| has_secrets("", value));
        let nodes = list.iter().map(|(_, value)| value).collect();
        refuse_what_is_nested(nodes)?;
        profile.read_payloads(&list)?;
        profile.warnings.truncate(MOST_WARNINGS);
        Ok(profile)
    }

    /// As the API shows it.
    pub fn shown(&self) -> Json {
        let payloads: Vec<Json> = self
            .payloads
            .iter()
            .map(|payload| {
                json!({
                    "type": payload.payload_type,
                    "identifier": payload.identifier,
                    "uuid": payload.uuid,
                    "name": payload.name,
                })
            })
            .collect();
        json!({
            "payload_identifier": self.identifier,
            "uuid": self.uuid,
            "name": self.name,
            "description": self.description,
            "organization": self.organization,
            "scope": self.scope,
            "removal_disallowed": self.removal_disallowed,
            "has_secrets": self.has_secrets,
            "signed_by": self.signed_by,
            "payloads": payloads,
        })
    }

    fn read_payloads(&mut self, list: &Dictionary) -> Result<()> {
        let content = list.get("PayloadContent").and_then(Value::as_array).map(Vec::as_slice);
        let content = content.unwrap_or_default();
        if content.len() > MOST_PAYLOADS {
            let words = format!("a profile has at most {MOST_PAYLOADS} payloads; make several of it");
            return Err(Error::invalid_at("/PayloadContent", words));
        }
        let (mut uuids, mut identifiers) = (BTreeSet::from([self.uuid.clone()]), BTreeSet::new());
        for (index, value) in content.iter().enumerate() {
            let at = format!("/PayloadContent/{index}");
            let Value::Dictionary(members) = value else {
                return Err(Error::invalid_at(
                    at,
                    format!("a payload is a dictionary, not {}", plist::kind(value)),
                ));
            };
            let payload = Payload {
                payload_type: needed(members, "PayloadType", &at)?,
                identifier: needed(members, "PayloadIdentifier", &at)?,
                uuid: needed(members, "PayloadUUID", &at)?,
                name: text(members, "PayloadDisplayName", &at)?,
            };
            version(members, &at, &mut self.warnings)?;
            if !uuids.insert(payload.uuid.clone()) {
                let words =
                    "two payloads, or a payload and the profile, have this PayloadUUID; give each its own";
                return Err(Error::invalid_at(format!("{at}/PayloadUUID"), words));
            }
            if !identifiers.insert(payload.identifier.clone()) {
                let words = "two payloads have this PayloadIdentifier; give each its own";
                return Err(Error::invalid_at(format!("{at}/PayloadIdentifier"), words));
            }
            if payload.identifier == self.identifier {
                self.warnings.push(format!("The payload {index} has the PayloadIdentifier of the profile."));
            }
            let remarks = remarks(&payload.payload_type, members);
            self.warnings.extend(remarks.into_iter().map(|words| format!("Payload {index}: {words}")));
            self.payloads.push(payload);
        }
        if self.payloads.is_empty() {
            self.warnings.push("The profile has no payloads: it does nothing.".to_owned());
        }
        Ok(())
    }
}

/// What was signed, and by whom, if anything was; the signature must be that of its certificate's key.
/// Whom devices trust, they know themselves.
fn unsigned(bytes: &[u8]) -> Result<(Option<String>, Option<Vec<u8>>)> {
    if bytes.starts_with(b"-----BEGIN") {
        return Err(Error::invalid(
            "a signed profile is sent as DER, not as PEM; convert it, or send it unsigned",
        ));
    }
    if bytes.first() != Some(&0x30) {
        return Ok((None, None));
    }
    let (verified, content) = cms::verify_attached(bytes).map_err(|error| {
        Error::invalid(format!(
            "the profile's signature is not accepted: {error}; sign it again, or send it unsigned"
        ))
    })?;
    if cms::held(&content) != Held::Nothing {
        return Err(Error::invalid("a signed profile lies inside of a signed profile; sign it once"));
    }
    let name = verified.signer.subject().common_name();
    let name = name.unwrap_or_else(|| format!("certificate {}", verified.signer.serial_hex()));
    Ok((Some(printable(&name)), Some(content)))
}

fn whole(list: &Dictionary) -> Result<Mobileconfig> {
    let mut warnings = Vec::new();
    let payload_type = needed(list, "PayloadType", "")?;
    if payload_type != "Configuration" {
        let words = "the outermost PayloadType of a profile must be Configuration";
        return Err(Error::invalid_at("/PayloadType", words));
    }
    version(list, "", &mut warnings)?;
    if list.contains_key("EncryptedPayloadContent") {
        let words = "an encrypted profile cannot be looked into; send it decrypted: devices fetch it encrypted by TLS";
        return Err(Error::invalid_at("/EncryptedPayloadContent", words));
    }
    match list.get("PayloadContent") {
        Some(Value::Array(_)) => {}
        Some(other) => {
            let words = format!("PayloadContent must be an array of payloads, not {}", plist::kind(other));
            return Err(Error::invalid_at("/PayloadContent", words));
        }
        None => {
            return Err(Error::invalid_at(
                "/PayloadContent",
                "PayloadContent, the array of payloads, is missing",
            ));
        }
    }
    let scope = text(list, "PayloadScope", "")?;
    if scope.as_deref().is_some_and(|scope| !["System", "User"].contains(&scope)) {
        return Err(Error::invalid_at("/PayloadScope", "PayloadScope must be System or User"));
    }
    let removal = plist::boolean(list, "PayloadRemovalDisallowed");
    let removal =
        removal.map_err(|error| Error::invalid_at("/PayloadRemovalDisallowed", error.to_string()))?;
    let uuid = needed(list, "PayloadUUID", "")?;
    let is_uuid = uuid.len() == 36 && uuid.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    if !is_uuid {
        warnings.push("The PayloadUUID of the profile is no UUID; `uuidgen` makes one.".to_owned());
    }
    Ok(Mobileconfig {
        identifier: needed(list, "PayloadIdentifier", "")?,
        uuid,
        name: text(list, "PayloadDisplayName", "")?,
        description: text(list, "PayloadDescription", "")?,
        organization: text(list, "PayloadOrganization", "")?,
        scope,
        removal_disallowed: removal.unwrap_or(false),
        has_secrets: false,
        signed_by: None,
        payloads: Vec::new(),
        warnings,
    })
}

/// Texts are for people to read; of a longer one they see the beginning.
fn text(list: &Dictionary, key: &str, at: &str) -> Result<Option<String>> {
    let text = plist::string(list, key)
        .map_err(|error| Error::invalid_at(format!("{at}/{key}"), error.to_string()))?;
    Ok(text.map(|text| text[..text.floor_char_boundary(LONGEST_TEXT)].to_owned()))
}

fn needed(list: &Dictionary, key: &str, at: &str) -> Result<String> {
    let refused = |words: String| Error::invalid_at(format!("{at}/{key}"), words);
    let text = text(list, key, at)?.filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| refused(format!("{key} is missing")))?;
    if text.len() >= LONGEST_TEXT {
        return Err(refused(format!("{key} is longer than any that devices have")));
    }
    Ok(text)
}

fn version(list: &Dictionary, at: &str, warnings: &mut Vec<String>) -> Result<()> {
    let refused = |words: String| Error::invalid_at(format!("{at}/PayloadVersion"), words);
    match plist::integer(list, "PayloadVersion").map_err(|error| refused(error.to_string()))? {
        None => Err(refused("PayloadVersion is missing; write the integer 1".to_owned())),
        Some(1) => Ok(()),
        Some(other) => {
            warnings.push(format!(
                "PayloadVersion{} should be 1, not {other}.",
                if at.is_empty() { "" } else { " of a payload" }
            ));
            Ok(())
        }
    }
}

/// Looks at every value, however deep, and into data that is a profile itself.
fn refuse_what_is_nested(mut waiting: Vec<&Value>) -> Result<()> {
    while let Some(value) = waiting.pop() {
        match value {
            Value::Array(list) => waiting.extend(list),
            Value::Dictionary(members) => {
                refuse_type(members)?;
                if members.contains_key("EncryptedPayloadContent") {
                    return Err(unreadable("an EncryptedPayloadContent"));
                }
                waiting.extend(members.iter().map(|(_, value)| value));
            }
            Value::Data(data) => refuse_data(data)?,
            Value::String(text) if text.trim_start().starts_with('<') => {
                refuse_data(text.trim_start().as_bytes())?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn refuse_type(members: &Dictionary) -> Result<()> {
    let Some(named) = members.get("PayloadType").and_then(Value::as_string) else { return Ok(()) };
    if let Some(forbidden) = FORBIDDEN.iter().find(|forbidden| forbidden.eq_ignore_ascii_case(named.trim())) {
        return Err(Error::invalid(format!(
            "the profile holds a {forbidden} payload; only an enrollment may bring it: take it out"
        )));
    }
    if named.trim().eq_ignore_ascii_case("Configuration") {
        return Err(nested());
    }
    Ok(())
}

/// Certificates, fonts and icons are data, and none of them is a profile. What is signed is looked into,
/// whoever signed it, and so is what is signed again.
fn refuse_data(data: &[u8]) -> Result<()> {
    let mut inside = Cow::Borrowed(data);
    for _ in 0..MOST_WRAPPERS {
        match cms::held(&inside) {
            Held::Content(content) => inside = Cow::Owned(content),
            Held::Unreadable => return Err(unreadable("an encrypted or damaged CMS message")),
            Held::Nothing => {
                return match plist::parse_dict(&inside) {
                    Ok(list) if list.contains_key("PayloadType") || list.contains_key("PayloadContent") => {
                        Err(nested())
                    }
                    Ok(list) if list.contains_key("EncryptedPayloadContent") => {
                        Err(unreadable("an EncryptedPayloadContent"))
                    }
                    _ => Ok(()),
                };
            }
        }
    }
    Err(unreadable("data that was signed again and again"))
}

fn unreadable(what: &str) -> Error {
    Error::invalid(format!(
        "{what} lies inside of the profile, and cannot be looked into: it could hold what manages a device; \
         send the payloads as they are, since devices fetch them encrypted by TLS"
    ))
}

fn nested() -> Error {
    Error::invalid(
        "a profile lies inside of the profile; devices take only payloads there: send it by itself",
    )
}
