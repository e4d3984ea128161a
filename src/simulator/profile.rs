//! Configuration profiles as a device reads them, signed or not, and what enrollment demands of one.
//!
//! Checked as Apple documents it (TopLevel, CommonPayloadKeys, `com.apple.mdm`,
//! `com.apple.security.scep`): a profile that a device would refuse is refused here in words that
//! name the key. [`super::enrollment`] and [`super::install`] read profiles with it.
//!
//! **Invariant:** a [`Management`] exists only for a profile with exactly one `com.apple.mdm`
//! payload whose identity payload is in the same profile.

use std::collections::BTreeSet;

use plist::{Dictionary, Value};

use super::cms;
use super::fault::Fault;

/// A profile on a device.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Decides whether a profile replaces another.
    pub identifier: String,
    /// PayloadUUID of the whole.
    pub uuid: String,
    /// Every top-level key but PayloadContent.
    pub keys: Dictionary,
    /// The payloads, in order.
    pub payloads: Vec<Dictionary>,
    /// The certificate that signed it, DER.
    pub signer: Option<Vec<u8>>,
}

impl Profile {
    /// Reads a `.mobileconfig`: a property list, or one inside a CMS signature that verifies.
    pub fn read(bytes: &[u8]) -> Result<Self, Fault> {
        let (content, signer) = if bytes.first() == Some(&0x30) {
            let signed = cms::verify(bytes)?;
            (signed.content, Some(signed.signer))
        } else {
            (bytes.to_vec(), None)
        };
        let Ok(Value::Dictionary(mut keys)) = Value::from_reader_xml(content.as_slice()) else {
            return Err(Fault::unacceptable("the profile is no XML property list with a dictionary"));
        };
        if text(&keys, "PayloadType")? != "Configuration" {
            return Err(Fault::unacceptable("the profile's PayloadType is not Configuration"));
        }
        let (identifier, uuid) = common_keys(&keys, "the profile")?;
        let Some(Value::Array(content)) = keys.remove("PayloadContent") else {
            return Err(Fault::unacceptable("the profile's PayloadContent is not an array"));
        };
        let payloads: Vec<Dictionary> = content
            .into_iter()
            .map(Value::into_dictionary)
            .collect::<Option<_>>()
            .ok_or_else(|| Fault::unacceptable("a payload of the profile is not a dictionary"))?;
        let mut uuids = BTreeSet::from([uuid.clone()]);
        for payload in &payloads {
            let kind = text(payload, "PayloadType")?;
            let (_, uuid) = common_keys(payload, &format!("the payload {kind}"))?;
            if !uuids.insert(uuid.clone()) {
                return Err(Fault::unacceptable(format!(
                    "the PayloadUUID {uuid} stands twice in the profile"
                )));
            }
        }
        Ok(Self { identifier, uuid, keys, payloads, signer })
    }

    /// The payloads of one type.
    pub fn payloads_of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Dictionary> {
        self.payloads.iter().filter(move |payload| string(payload, "PayloadType") == Some(kind))
    }
}

fn common_keys(payload: &Dictionary, what: &str) -> Result<(String, String), Fault> {
    if payload.get("PayloadVersion").and_then(Value::as_unsigned_integer) != Some(1) {
        return Err(Fault::unacceptable(format!("the PayloadVersion of {what} is not 1")));
    }
    let identifier = text(payload, "PayloadIdentifier")?.to_owned();
    Ok((identifier, text(payload, "PayloadUUID")?.to_owned()))
}

/// What a device keeps of its enrollment profile.
#[derive(Clone, Debug)]
pub struct Management {
    /// PayloadIdentifier of the profile: another one with it is a renewal.
    pub identifier: String,
    /// APNs topic.
    pub topic: String,
    /// Where commands come from.
    pub server_url: String,
    /// Where check-ins go.
    pub check_in_url: String,
    /// Whether every message carries an `Mdm-Signature`.
    pub sign_message: bool,
    /// The sum of Apple's access rights; 0 only in user enrollment.
    pub access_rights: u64,
    /// ServerCapabilities.
    pub capabilities: Vec<String>,
    /// Whether to say CheckOut on removal.
    pub check_out_when_removed: bool,
    pub(super) identity: ScepPayload,
    /// Trust anchors to install with it, DER.
    pub(super) roots: Vec<Vec<u8>>,
}

/// What `com.apple.security.scep` asks for.
#[derive(Clone, Debug)]
pub(super) struct ScepPayload {
    pub(super) url: String,
    pub(super) name: Option<String>,
    pub(super) subject: Vec<Vec<(String, String)>>,
    pub(super) challenge: Option<String>,
    pub(super) key_size: u64,
    pub(super) key_usage: u64,
}

impl Management {
    /// Whether a profile would manage the device, well formed or not.
    pub(super) fn is_in(profile: &Profile) -> bool {
        profile.payloads_of("com.apple.mdm").next().is_some()
    }

    /// Reads the management part of a profile, as strictly as a device.
    pub fn read(profile: &Profile) -> Result<Self, Fault> {
        let mut found = profile.payloads_of("com.apple.mdm");
        let (Some(mdm), None) = (found.next(), found.next()) else {
            return Err(Fault::unacceptable("an enrollment profile needs exactly one com.apple.mdm payload"));
        };
        let topic = text(mdm, "Topic")?.to_owned();
        if !topic.starts_with("com.apple.mgmt.") {
            return Err(Fault::unacceptable(format!(
                "the Topic `{topic}` does not begin with com.apple.mgmt."
            )));
        }
        let server_url = https(mdm, "ServerURL")?;
        let check_in_url =
            if mdm.contains_key("CheckInURL") { https(mdm, "CheckInURL")? } else { server_url.clone() };
        let account_driven = mdm.contains_key("EnrollmentMode");
        let access_rights = match mdm.get("AccessRights").map(Value::as_unsigned_integer) {
            None if account_driven => 0,
            Some(Some(rights @ 1..=8191)) => rights,
            _ => return Err(Fault::unacceptable("AccessRights is missing or not from 1 to 8191")),
        };
        if access_rights & 3 == 2 || access_rights & 192 == 128 {
            return Err(Fault::unacceptable(format!(
                "AccessRights {access_rights} allows to install profiles without allowing to inspect them"
            )));
        }
        Ok(Self {
            identifier: profile.identifier.clone(),
            topic,
            server_url,
            check_in_url,
            sign_message: boolean(mdm, "SignMessage")?,
            access_rights,
            capabilities: capabilities(mdm)?,
            check_out_when_removed: boolean(mdm, "CheckOutWhenRemoved")?,
            identity: identity(profile, text(mdm, "IdentityCertificateUUID")?)?,
            roots: roots(profile)?,
        })
    }

    pub(super) fn has(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|name| name == capability)
    }

    /// Why `newer` may not replace this enrollment profile; Apple calls these keys immutable.
    pub(super) fn forbids(&self, newer: &Self) -> Option<String> {
        let immutable = [
            ("Topic", &self.topic, &newer.topic),
            ("ServerURL", &self.server_url, &newer.server_url),
            ("CheckInURL", &self.check_in_url, &newer.check_in_url),
        ];
        if let Some((key, old, new)) = immutable.into_iter().find(|(_, old, new)| old != new) {
            return Some(format!("{key} may not change on renewal, but went from {old} to {new}"));
        }
        if newer.access_rights & !self.access_rights != 0 {
            return Some(format!(
                "AccessRights may not grow on renewal, but went from {} to {}",
                self.access_rights, newer.access_rights
            ));
        }
        let per_user = "com.apple.mdm.per-user-connections";
        (self.has(per_user) != newer.has(per_user))
            .then(|| format!("{per_user} may be neither added nor removed on renewal"))
    }
}

fn capabilities(mdm: &Dictionary) -> Result<Vec<String>, Fault> {
    let Some(value) = mdm.get("ServerCapabilities") else { return Ok(Vec::new()) };
    let names: Vec<String> = value
        .as_array()
        .and_then(|names| names.iter().map(|name| name.as_string().map(str::to_owned)).collect())
        .ok_or_else(|| Fault::unacceptable("ServerCapabilities is not an array of strings"))?;
    if names.iter().collect::<BTreeSet<_>>().len() != names.len() {
        return Err(Fault::unacceptable("a name stands twice in ServerCapabilities"));
    }
    Ok(names)
}

fn identity(profile: &Profile, uuid: &str) -> Result<ScepPayload, Fault> {
    let payload =
        profile.payloads.iter().find(|payload| string(payload, "PayloadUUID") == Some(uuid)).ok_or_else(
            || Fault::unacceptable(format!("IdentityCertificateUUID {uuid} is no payload of the profile")),
        )?;
    let kind = text(payload, "PayloadType")?;
    if kind != "com.apple.security.scep" {
        return Err(Fault::unacceptable(format!(
            "the identity payload is {kind}; simulated devices know com.apple.security.scep only"
        )));
    }
    let settings = payload
        .get("PayloadContent")
        .and_then(Value::as_dictionary)
        .ok_or_else(|| Fault::unacceptable("the SCEP payload has no PayloadContent dictionary"))?;
    let number = |key: &str, default| match settings.get(key) {
        None => Ok(default),
        Some(value) => value
            .as_unsigned_integer()
            .ok_or_else(|| Fault::unacceptable(format!("{key} of the SCEP payload is not a number"))),
    };
    if settings.get("Key Type").is_some_and(|kind| kind.as_string() != Some("RSA")) {
        return Err(Fault::unacceptable("the Key Type of the SCEP payload is not RSA"));
    }
    let key_size = number("Keysize", 1024)?;
    if ![1024, 2048, 4096].contains(&key_size) {
        return Err(Fault::unacceptable(format!(
            "Keysize {key_size} of the SCEP payload is none of 1024, 2048 and 4096"
        )));
    }
    Ok(ScepPayload {
        url: text(settings, "URL")?.to_owned(),
        name: string(settings, "Name").map(str::to_owned),
        subject: subject(settings)?,
        challenge: string(settings, "Challenge").map(str::to_owned),
        key_size,
        key_usage: number("Key Usage", 0)?,
    })
}

fn subject(settings: &Dictionary) -> Result<Vec<Vec<(String, String)>>, Fault> {
    let Some(subject) = settings.get("Subject") else { return Ok(Vec::new()) };
    let pair = |value: &Value| match value.as_array().map(Vec::as_slice) {
        Some([kind, value]) => Some((kind.as_string()?.to_owned(), value.as_string()?.to_owned())),
        _ => None,
    };
    let relative = |value: &Value| value.as_array()?.iter().map(pair).collect::<Option<Vec<_>>>();
    subject.as_array().and_then(|names| names.iter().map(relative).collect()).ok_or_else(|| {
        Fault::unacceptable("the Subject of the SCEP payload is not an array of arrays of pairs")
    })
}

fn roots(profile: &Profile) -> Result<Vec<Vec<u8>>, Fault> {
    let kinds = ["com.apple.security.root", "com.apple.security.pkcs1", "com.apple.security.pem"];
    let mut roots = Vec::new();
    for payload in kinds.into_iter().flat_map(|kind| profile.payloads_of(kind)) {
        let content = payload
            .get("PayloadContent")
            .and_then(Value::as_data)
            .ok_or_else(|| Fault::unacceptable("a certificate payload has no PayloadContent of type data"))?;
        roots.push(certificate(content)?);
    }
    Ok(roots)
}

/// A certificate payload holds DER or PEM.
pub(super) fn certificate(content: &[u8]) -> Result<Vec<u8>, Fault> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let der = match content.first() {
        Some(0x30) => content.to_vec(),
        _ => CertificateDer::from_pem_slice(content)
            .map_err(|_| Fault::unacceptable("a certificate payload is neither DER nor PEM"))?
            .to_vec(),
    };
    super::certificate::Certificate::read(&der)?;
    Ok(der)
}

fn https(mdm: &Dictionary, key: &str) -> Result<String, Fault> {
    let url = text(mdm, key)?;
    if url.starts_with("https://") {
        return Ok(url.to_owned());
    }
    Err(Fault::unacceptable(format!("{key} `{url}` does not begin with https://")))
}

fn boolean(dictionary: &Dictionary, key: &str) -> Result<bool, Fault> {
    match dictionary.get(key) {
        None => Ok(false),
        Some(value) => {
            value.as_boolean().ok_or_else(|| Fault::unacceptable(format!("{key} is not a boolean")))
        }
    }
}

pub(super) fn string<'a>(dictionary: &'a Dictionary, key: &str) -> Option<&'a str> {
    dictionary.get(key).and_then(Value::as_string)
}

fn text<'a>(dictionary: &'a Dictionary, key: &str) -> Result<&'a str, Fault> {
    string(dictionary, key)
        .filter(|text| !text.is_empty())
        .ok_or_else(|| Fault::unacceptable(format!("{key} is missing, empty or not a string")))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A minimal enrollment profile whose `com.apple.mdm` payload is changed by `change`.
    pub(crate) fn enrollment(change: impl FnOnce(&mut Dictionary)) -> Vec<u8> {
        let common = |kind: &str, name: &str| {
            Dictionary::from_iter([
                ("PayloadType", Value::from(kind)),
                ("PayloadVersion", Value::from(1)),
                ("PayloadIdentifier", Value::from(format!("org.example.{name}"))),
                ("PayloadUUID", Value::from(format!("UUID-{name}"))),
            ])
        };
        let mut scep = common("com.apple.security.scep", "scep");
        let settings = Dictionary::from_iter([
            ("URL", Value::from("https://mdm.example.org/scep")),
            ("Keysize", Value::from(2048)),
            ("Subject", Value::Array(vec![Value::Array(vec![Value::Array(vec!["CN".into(), "x".into()])])])),
        ]);
        scep.insert("PayloadContent".into(), Value::Dictionary(settings));
        let mut mdm = common("com.apple.mdm", "mdm");
        mdm.insert("IdentityCertificateUUID".into(), "UUID-scep".into());
        mdm.insert("Topic".into(), "com.apple.mgmt.External.test".into());
        mdm.insert("ServerURL".into(), "https://mdm.example.org/mdm/connect".into());
        mdm.insert("AccessRights".into(), 8191.into());
        change(&mut mdm);
        let mut profile = common("Configuration", "profile");
        profile.insert(
            "PayloadContent".into(),
            Value::Array(vec![Value::Dictionary(scep), Value::Dictionary(mdm)]),
        );
        let mut xml = Vec::new();
        Value::Dictionary(profile).to_writer_xml(&mut xml).unwrap();
        xml
    }

    fn read(change: impl FnOnce(&mut Dictionary)) -> Result<Management, Fault> {
        Management::read(&Profile::read(&enrollment(change))?)
    }

    #[test]
    fn a_complete_enrollment_profile_is_accepted() {
        let management = read(|_| ()).unwrap();
        assert_eq!(management.check_in_url, management.server_url);
        assert_eq!(management.identity.subject, [[("CN".to_owned(), "x".to_owned())]]);
    }

    #[test]
    fn what_a_device_would_refuse_is_refused_by_name() {
        let changes: [(&str, Value); 6] = [
            ("Topic", "com.example.push".into()),
            ("ServerURL", "http://mdm.example.org".into()),
            ("AccessRights", 0.into()),
            ("AccessRights", 2.into()),
            ("IdentityCertificateUUID", "elsewhere".into()),
            ("SignMessage", "true".into()),
        ];
        for (key, value) in changes {
            let fault = read(|mdm| {
                mdm.insert(key.into(), value);
            });
            assert!(fault.unwrap_err().to_string().contains(key));
        }
    }

    #[test]
    fn a_signed_profile_is_read_and_an_altered_one_refused() {
        let key = crate::simulator::Key::generate(2048).unwrap();
        let certificate = crate::simulator::identity::throw_away(&key, 1_800_000_000).unwrap();
        let signer = crate::simulator::Identity::new(std::sync::Arc::new(key), certificate);
        let (digest, lengths) = (crate::simulator::Digest::Sha256, crate::simulator::Lengths::Definite);
        let mut signed =
            cms::sign_attached(&signer, &enrollment(|_| ()), digest, Vec::new(), lengths).unwrap();
        assert_eq!(Profile::read(&signed).unwrap().signer, Some(signer.certificate));
        let at = signed.windows(15).position(|bytes| bytes == b"mdm.example.org").unwrap();
        signed[at] = b'n';
        assert!(Profile::read(&signed).unwrap_err().to_string().contains("digest"));
    }

    #[test]
    fn a_renewal_may_take_rights_away_but_add_none() {
        let whole = read(|_| ()).unwrap();
        let part = read(|mdm| {
            mdm.insert("AccessRights".into(), 1.into());
        })
        .unwrap();
        assert_eq!(whole.forbids(&part), None);
        assert!(part.forbids(&whole).unwrap().contains("AccessRights"));
    }
}
