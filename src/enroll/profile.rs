//! The enrollment profile: one SCEP payload, one MDM payload, and our TLS root where it is needed.
//!
//! See Apple's "MDM", "SCEP" and "CertificateRoot" payload pages. The same function makes the first
//! profile and every renewal: a renewal repeats the parameters of the session that it renews and
//! brings a new identity payload.
//!
//! **Invariant:** topic, URLs, access rights and capabilities come from the session's
//! [`Parameters`] alone, since a device refuses a renewal that changes them.

use plist::{Dictionary, Value};

use super::session::Parameters;
use crate::id;

/// The content type of configuration profiles.
pub const CONTENT_TYPE: &str = "application/x-apple-aspen-config";

/// What the server can do, told to devices as ServerCapabilities.
pub const CAPABILITIES: &[&str] = &["com.apple.mdm.per-user-connections", "com.apple.mdm.bootstraptoken"];

/// The unsigned profile, as an XML property list.
///
/// `anchors` are DER certificates to trust for TLS (self-signed mode), none when the server's
/// certificate is publicly trusted.
pub fn build(parameters: &Parameters, session: &str, challenge: &str, anchors: &[&[u8]]) -> Vec<u8> {
    let identity_uuid = id::uuid();
    let mut content: Vec<Value> = anchors
        .iter()
        .enumerate()
        .map(|(number, anchor)| root(&parameters.identifier, &parameters.organization, number, anchor))
        .collect();
    content.push(scep(parameters, session, challenge, &identity_uuid));
    content.push(mdm(parameters, &identity_uuid));

    let organization = &parameters.organization;
    let mut profile = payload("Configuration", &parameters.identifier, &id::uuid());
    profile.insert("PayloadDisplayName".into(), format!("Management by {organization}").into());
    profile.insert("PayloadOrganization".into(), organization.clone().into());
    profile.insert(
        "PayloadDescription".into(),
        format!("Lets {organization} manage this device: settings, apps, restrictions, lock and erase.")
            .into(),
    );
    profile.insert("PayloadContent".into(), Value::Array(content));
    crate::plist::to_xml(&Value::Dictionary(profile))
}

/// A profile that carries nothing but TLS roots, for the step before Install on iPhone and iPad.
pub fn trust(identifier: &str, organization: &str, anchors: &[&[u8]]) -> Vec<u8> {
    let mut profile = payload("Configuration", &format!("{identifier}.trust"), &id::uuid());
    profile.insert("PayloadDisplayName".into(), format!("Trust the server of {organization}").into());
    profile.insert("PayloadOrganization".into(), organization.to_owned().into());
    let roots = anchors.iter().enumerate();
    let roots =
        roots.map(|(number, anchor)| root(&format!("{identifier}.trust"), organization, number, anchor));
    profile.insert("PayloadContent".into(), Value::Array(roots.collect()));
    crate::plist::to_xml(&Value::Dictionary(profile))
}

fn root(identifier: &str, organization: &str, number: usize, anchor: &[u8]) -> Value {
    let mut root =
        payload("com.apple.security.root", &format!("{identifier}.root.{number}"), &stable_uuid(anchor));
    root.insert("PayloadDisplayName".into(), format!("Server certificate of {organization}").into());
    root.insert("PayloadContent".into(), Value::Data(anchor.to_vec()));
    Value::Dictionary(root)
}

/// The SCEP payload; the settings sit in an inner dictionary, some with spaces in their names.
fn scep(parameters: &Parameters, session: &str, challenge: &str, uuid: &str) -> Value {
    let rdn = |kind: &str, value: &str| Value::Array(vec![Value::Array(vec![kind.into(), value.into()])]);
    let mut settings = Dictionary::new();
    settings.insert("URL".into(), parameters.scep_url.clone().into());
    settings.insert("Name".into(), parameters.identifier.clone().into());
    // What the CA writes into the certificate is decided by the session, not by this.
    settings
        .insert("Subject".into(), Value::Array(vec![rdn("O", &parameters.organization), rdn("CN", session)]));
    settings.insert("Challenge".into(), challenge.into());
    settings.insert("Keysize".into(), 2048.into());
    settings.insert("Key Type".into(), "RSA".into());
    settings.insert("Key Usage".into(), 5.into());
    settings.insert("Retries".into(), 3.into());
    settings.insert("RetryDelay".into(), 10.into());
    settings.insert("KeyIsExtractable".into(), false.into());
    let mut scep = payload("com.apple.security.scep", &format!("{}.identity", parameters.identifier), uuid);
    scep.insert("PayloadDisplayName".into(), "Identity of this device".into());
    scep.insert("PayloadContent".into(), Value::Dictionary(settings));
    Value::Dictionary(scep)
}

fn mdm(parameters: &Parameters, identity_uuid: &str) -> Value {
    let mut mdm = payload("com.apple.mdm", &format!("{}.mdm", parameters.identifier), &parameters.mdm_uuid);
    mdm.insert("PayloadDisplayName".into(), "Device management".into());
    mdm.insert("IdentityCertificateUUID".into(), identity_uuid.into());
    mdm.insert("Topic".into(), parameters.topic.clone().into());
    mdm.insert("ServerURL".into(), parameters.server_url.clone().into());
    mdm.insert("CheckInURL".into(), parameters.check_in_url.clone().into());
    mdm.insert("SignMessage".into(), true.into());
    mdm.insert("CheckOutWhenRemoved".into(), true.into());
    mdm.insert("AccessRights".into(), parameters.access_rights.into());
    mdm.insert(
        "ServerCapabilities".into(),
        Value::Array(parameters.capabilities.iter().cloned().map(Value::String).collect()),
    );
    Value::Dictionary(mdm)
}

fn payload(kind: &str, identifier: &str, uuid: &str) -> Dictionary {
    let mut payload = Dictionary::new();
    payload.insert("PayloadType".into(), kind.into());
    payload.insert("PayloadVersion".into(), 1.into());
    payload.insert("PayloadIdentifier".into(), identifier.into());
    payload.insert("PayloadUUID".into(), uuid.into());
    payload
}

/// The same root keeps the same UUID, so that a renewal replaces it instead of adding another.
fn stable_uuid(bytes: &[u8]) -> String {
    let hash = id::hex(&id::sha256(bytes)).to_uppercase();
    format!("{}-{}-{}-{}-{}", &hash[..8], &hash[8..12], &hash[12..16], &hash[16..20], &hash[20..32])
}
