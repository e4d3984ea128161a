//! Enrollment: from the link that a person opens to the first TokenUpdate.
//!
//! The steps are Apple's: fetch and check the profile, install its certificates, get the identity by
//! SCEP, say Authenticate and TokenUpdate, and on a Mac escrow the bootstrap token and say
//! TokenUpdate for the user. [`super::install`] repeats the later ones for a renewal.
//!
//! **Invariant:** a device that fails anywhere before its first TokenUpdate is answered has no
//! management afterwards.

use std::sync::Arc;

use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use plist::Dictionary;

use super::ber::Lengths;
use super::certificate::Digest;
use super::check_in::xml;
use super::cms;
use super::device::{Channel, Device};
use super::fault::Fault;
use super::identity::{self, Identity, Key};
use super::kind::Kind;
use super::profile::{Management, Profile};
use super::scep;
use super::wire::Reply;

const MOBILECONFIG: &str = "application/x-apple-aspen-config";

impl Device {
    /// Enrolls through an enrollment link: `https://…/enroll/{code}`.
    pub async fn enroll(&mut self, link: &str) -> Result<(), Fault> {
        let link = link.trim_end_matches('/');
        self.open(Method::GET, link, "page", Vec::new()).await?;
        let url = format!("{link}/profile");
        let reply = self.open(Method::GET, &url, "profile", Vec::new()).await?;
        self.install_reply(&reply).await
    }

    /// Enrolls as a device that Apple Configurator prepares: supervised, and with a MachineInfo signed
    /// by its own key, posted to `{link}/profile`.
    ///
    /// The certificate is of no authority, since Apple's factory ones cannot be had.
    pub async fn enroll_supervised(&mut self, link: &str) -> Result<(), Fault> {
        let key = match &self.key {
            Some(key) => key.clone(),
            None => generate(2048).await?,
        };
        let factory = Identity::new(key.clone(), identity::throw_away(&key, self.clock.now())?);
        let model = self.kind.model();
        let info = [
            ("UDID", self.udid.as_str()),
            ("SERIAL", &self.serial_number),
            ("PRODUCT", model.product_name),
            ("VERSION", &self.build_version),
            ("OS_VERSION", &self.os_version),
            ("LANGUAGE", "en"),
        ];
        let info = xml(Dictionary::from_iter(info))?;
        let body = cms::sign_attached(&factory, &info, Digest::Sha256, Vec::new(), Lengths::Indefinite)?;
        self.supervised = true;
        let url = format!("{}/profile", link.trim_end_matches('/'));
        let reply = self.open(Method::POST, &url, "profile", body).await?;
        self.install_reply(&reply).await
    }

    async fn install_reply(&mut self, reply: &Reply) -> Result<(), Fault> {
        if reply.content_type() != MOBILECONFIG {
            return Err(Fault::unacceptable(format!(
                "the enrollment profile came as `{}`, not as {MOBILECONFIG}",
                reply.content_type()
            )));
        }
        self.install_enrollment(&reply.body).await
    }

    async fn open(&mut self, method: Method, url: &str, step: &str, body: Vec<u8>) -> Result<Reply, Fault> {
        let mut headers = HeaderMap::new();
        if method == Method::POST {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/pkcs7-signature"));
        }
        let reply = self.wire.send(method, url, headers, body).await?;
        if reply.status == 200 {
            self.meter.took(step, reply.took);
            return Ok(reply);
        }
        let (step, status, body) = (format!("the enrollment {step}"), reply.status, reply.words());
        Err(Fault::Refused { step, status, body })
    }

    /// Enrolls with the bytes of an enrollment profile, as Apple Configurator would hand them over.
    pub async fn install_enrollment(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let profile = Profile::read(bytes)?;
        let management = Management::read(&profile)?;
        for root in &management.roots {
            self.wire.trust_also(root)?;
        }
        let done = self.begin_management(profile, management).await;
        if done.is_err() {
            self.forget_management();
        }
        done
    }

    async fn begin_management(&mut self, profile: Profile, management: Management) -> Result<(), Fault> {
        let identity = self.obtain_identity(&management).await?;
        self.adopt(profile, management, identity);
        self.authenticate().await?;
        self.token_update(Channel::Device).await?;
        if self.kind == Kind::Mac && self.managed()?.has("com.apple.mdm.bootstraptoken") {
            self.set_bootstrap_token().await?;
        }
        if self.channels().contains(&Channel::User) {
            self.token_update(Channel::User).await?;
        }
        self.meter.enrolled();
        self.wire.close();
        Ok(())
    }

    /// A new key, certified as the profile wants it.
    pub(super) async fn obtain_identity(&mut self, management: &Management) -> Result<Identity, Fault> {
        let key = match &self.key {
            Some(key) if key.bits() == management.identity.key_size => key.clone(),
            _ => generate(management.identity.key_size).await?,
        };
        let (payload, lengths, now) = (&management.identity, self.scep_lengths, self.clock.now());
        scep::request_identity(&mut self.wire, payload, key, lengths, now, &self.meter).await
    }

    /// Installs the enrollment profile and speaks with its identity from now on.
    pub(super) fn adopt(&mut self, profile: Profile, management: Management, identity: Identity) {
        self.profiles.retain(|installed| installed.identifier != profile.identifier);
        self.profiles.push(profile);
        self.wire.present(self.presents_certificate.then(|| identity.clone()));
        self.identity = Some(identity);
        self.management = Some(management);
    }
}

/// Generates a key off the threads that serve connections.
pub(super) async fn generate(bits: u64) -> Result<Arc<Key>, Fault> {
    let generated = tokio::task::spawn_blocking(move || Key::generate(bits)).await;
    let key = generated.map_err(|_| Fault::unacceptable("the key generation was interrupted"))??;
    Ok(Arc::new(key))
}
