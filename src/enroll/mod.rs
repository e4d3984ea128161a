//! Enrollment: invitations, the profile that enrolls, the SCEP endpoint, and the page a person opens.
//!
//! A link leads to a page, the page to a profile, the profile to SCEP; from then on `mdm` takes over.
//! Each fetched profile opens a [`session`] with a challenge of its own. See Apple's "Device
//! enrollment" and RFC 8894 (SCEP).
//!
//! **Invariant:** a certificate is only ever issued for a session's challenge, or to renew the
//! enrollment whose identity signed the request.

pub mod guesses;
pub mod invitation;
pub mod machine_info;
pub mod page;
pub mod profile;
pub mod refused_renewal;
pub mod scep;
pub mod session;
mod workshop;

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use axum::Router;

use crate::apns::certificate as push_certificate;
use crate::clock::{DAY, Seconds, rfc3339};
use crate::error::{Error, Result};
use crate::id;
use crate::pki::authority::Authority;
use crate::pki::certificate::Certificate;
use crate::pki::cms;
use crate::pki::key::PrivateKey;
use crate::pki::tls_authority::Next;
use crate::storage::Store;
use invitation::Invitation;
use session::{Origin, Parameters};
use workshop::Workshop;

/// The largest body that a device which is not enrolled may send: SCEP and MachineInfo.
pub const BODY_LIMIT: usize = scep::BODY_LIMIT;

/// What enrollment needs of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Without a slash at the end.
    pub public_url: String,
    pub public_url_is_localhost: bool,
    pub organization: String,
    /// Reverse DNS, the prefix of every PayloadIdentifier.
    pub identifier: String,
    pub email: Option<String>,
    pub phone: Option<String>,
    pub access_rights: u16,
    pub identity_days: u32,
}

/// Who signs profiles, and what devices have to trust; replaced when the TLS certificate is.
pub struct Signer {
    pub key: PrivateKey,
    pub certificate: Certificate,
    /// Intermediates, without the leaf.
    pub chain: Vec<Certificate>,
    /// The private TLS root (DER), in self-signed mode.
    pub anchor: Option<Vec<u8>>,
    /// The root that takes over when all devices trust it.
    pub next: Option<Next>,
}

impl Signer {
    /// What profiles tell devices to trust, DER.
    fn anchors(&self) -> Vec<&[u8]> {
        let next = self.next.as_ref().map(|next| next.certificate.as_slice());
        self.anchor.as_deref().into_iter().chain(next).collect()
    }
}

/// The enrollment side of the server; a cheap handle.
#[derive(Clone)]
pub struct Enroll {
    pub store: Store,
    pub settings: Arc<Settings>,
    signer: Arc<ArcSwap<Signer>>,
    authority: Arc<ArcSwap<Option<Authority>>>,
    kept: Arc<Kept>,
}

/// What is worked out once and used by every request.
#[derive(Default)]
struct Kept {
    workshop: Workshop,
    cas: ArcSwapOption<scep::Cas>,
    trust: ArcSwapOption<page::Trust>,
}

impl Enroll {
    /// Puts the parts together; opens nothing.
    pub fn new(
        store: &Store,
        settings: Settings,
        signer: Arc<ArcSwap<Signer>>,
        authority: Arc<ArcSwap<Option<Authority>>>,
    ) -> Self {
        Self { store: store.clone(), settings: Arc::new(settings), signer, authority, kept: Arc::default() }
    }

    /// The routes that a person's browser and a device that is not enrolled yet open.
    pub fn routes(&self) -> Router {
        page::routes().merge(scep::routes()).with_state(self.clone())
    }

    /// The routes that are served without TLS too: the trust anchor.
    pub fn trust_routes(&self) -> Router {
        page::trust_routes().with_state(self.clone())
    }

    /// The enrollment CA; missing while the clock is wrong at the very first start.
    ///
    /// # Errors
    /// `Conflict` in words for the person who has to set the clock.
    pub fn authority(&self) -> Result<Authority> {
        let authority = self.authority.load();
        (**authority).clone().ok_or_else(|| Error::conflict(wrong_clock(self.store.clock().now())))
    }

    /// The enrollment CA, to issue something now.
    ///
    /// # Errors
    /// As [`Enroll::authority`], and while the clock is wrong at any later start.
    fn issuing_authority(&self) -> Result<Authority> {
        let clock = self.store.clock();
        if clock.is_sane() { self.authority() } else { Err(Error::conflict(wrong_clock(clock.now()))) }
    }

    /// The DER of the private TLS root, in self-signed mode.
    pub fn anchor(&self) -> Option<Vec<u8>> {
        self.signer.load().anchor.clone()
    }

    /// The TLS root that devices have to be told of before the present one ends.
    pub fn next_anchor(&self) -> Option<Next> {
        self.signer.load().next.clone()
    }

    /// What is missing before devices can enroll, as a sentence; nothing when all is well.
    ///
    /// # Errors
    /// The database's.
    pub fn obstacle(&self) -> Result<Option<String>> {
        if !self.store.clock().is_sane() {
            return Ok(Some(wrong_clock(self.store.clock().now())));
        }
        let newest = self.store.peek(push_certificate::newest)?;
        Ok(match newest {
            None => Some(
                "There is no push certificate yet, and without one no device can be managed. \
                 Import one with: russet push-certificate import CERTIFICATE.pem --key KEY.pem"
                    .into(),
            ),
            Some(newest) if newest.not_after < self.store.clock().now() => Some(
                "The push certificate has expired. Renew it at Apple with the same Apple Account, then import it with: \
                 russet push-certificate import CERTIFICATE.pem --key KEY.pem"
                    .into(),
            ),
            Some(_) => None,
        })
    }

    /// A signed enrollment profile for a device that opened an invitation; each has a session and a
    /// challenge of its own.
    ///
    /// # Errors
    /// `Conflict` with the obstacle in words; `Invalid` when the invitation is spent.
    pub async fn profile(&self, invitation: &Invitation) -> Result<Vec<u8>> {
        if let Some(words) = self.obstacle()? {
            return Err(Error::conflict(words));
        }
        self.authority()?;
        if let Some(spent) = invitation.spent(self.store.clock().now()) {
            return Err(Error::invalid(spent.words()));
        }
        let topic = self
            .store
            .peek(push_certificate::newest)?
            .ok_or_else(|| Error::conflict("there is no push certificate"))?
            .topic;
        let parameters = self.parameters(topic);
        let (session, challenge) = (id::hex(&id::random::<16>()), id::secret::<32>());
        let signed = self.signed_profile(&parameters, &session, &challenge).await?;
        let (code, expires_at) = (invitation.code.clone(), invitation.expires_at);
        let kept = invitation.most_unfinished();
        self.store
            .write("enroll.session", move |tx| {
                session::keep_newest(tx, &code, kept)?;
                session::open_as(tx, &session, &challenge, &Origin::Invitation(code), &parameters, expires_at)
            })
            .await?;
        Ok(signed)
    }

    /// What a device that enrolls now is told, once and for all.
    fn parameters(&self, topic: String) -> Parameters {
        let Settings { public_url, organization, identifier, access_rights, .. } = &*self.settings;
        Parameters {
            topic,
            server_url: format!("{public_url}/mdm/connect"),
            check_in_url: format!("{public_url}/mdm/checkin"),
            scep_url: format!("{public_url}/scep"),
            access_rights: *access_rights,
            capabilities: profile::CAPABILITIES.iter().map(|&capability| capability.to_owned()).collect(),
            identifier: format!("{identifier}.enrollment"),
            organization: organization.clone(),
            mdm_uuid: id::uuid(),
        }
    }

    /// Builds and signs a profile, away from the threads that serve requests.
    ///
    /// # Errors
    /// `Busy` when too many wait for a signature; `Internal` when the signer's key does not sign.
    pub async fn signed_profile(
        &self,
        parameters: &Parameters,
        session: &str,
        challenge: &str,
    ) -> Result<Vec<u8>> {
        let turn = self.kept.workshop.enter()?;
        let signer = self.signer.load_full();
        let unsigned = profile::build(parameters, session, challenge, &signer.anchors());
        let now = self.store.clock().now();
        turn.work(move || sign(&signer, &unsigned, now)).await
    }

    /// When an identity issued now ends.
    fn identity_end(&self) -> Seconds {
        self.store.clock().now() + i64::from(self.settings.identity_days) * DAY
    }
}

fn wrong_clock(now: Seconds) -> String {
    format!(
        "The clock of this server is wrong: it says {}. Nothing is issued until it is right; \
         connect the server to the internet, or set its time.",
        rfc3339(now)
    )
}

fn sign(signer: &Signer, unsigned: &[u8], now: i64) -> Result<Vec<u8>> {
    let chain: Vec<&[u8]> = signer.chain.iter().map(Certificate::der).collect();
    let by = cms::Signer { chain: &chain, ..cms::Signer::new(&signer.key, &signer.certificate) };
    cms::sign_attached(unsigned, by, &[], now)
        .map_err(|source| Error::caused("a profile could not be signed", source))
}
