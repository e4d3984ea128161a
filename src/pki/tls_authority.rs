//! The certificates by which this server is known: a root of our own, its TLS leaf, and the signer
//! of enrollment profiles.
//!
//! Used in TLS mode `self-signed`: `server` presents the leaf, `enroll` signs with the signer and
//! hands out the root. The root may only name this server (RFC 5280 section 4.2.1.10), so that who
//! trusts it gives nothing else away. The rows are in the table that `authority` owns.
//!
//! Long before a root ends the next is made and goes out beside it with every profile; the leaf stays
//! under the old one until all devices have the next, or the end is near.
//!
//! **Invariant:** the root signs the leaf and the signer and nothing else, and never an identity.

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize,
};
use rusqlite::Connection;
use x509_cert::TbsCertificate;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, SubjectKeyIdentifier};

use crate::clock::{DAY, Seconds};
use crate::error::{Error, Result};
use crate::pki::authority::{self, Lifetimes};
use crate::pki::seal::Seal;
use crate::pki::template::{self, Certified};
use crate::pki::tls_names::{Names, alternative_names, subject_alt_names};
use crate::storage::{Store, Tx};

const ROOT: &str = "tls";
const LEAF: &str = "tls-leaf";
const SIGNER: &str = "profile-signer";

/// A root's days, at most: as long as an enrollment CA if that is shorter.
const ROOT_DAYS: i64 = 3653;
/// Apple's limit is 398 days for public roots and 825 for private ones; the stricter is kept.
const LEAF_DAYS: i64 = 397;
/// What has fewer days left is made anew, or fewer than a third of its life.
const RENEW_DAYS: i64 = 30;
/// How long before the end of a root its devices are sent the next, if they have not got it by then.
const HURRY: Seconds = 90 * DAY;

/// The root and what it signed; the signer's chain is `[signer, root]`.
#[derive(Clone, Debug)]
pub struct TlsAuthority {
    /// What people and profiles trust (`/ca.crt`).
    pub root: Certified,
    /// What the listener presents.
    pub leaf: Certified,
    /// What signs the enrollment profile.
    pub signer: Certified,
    /// The root that takes over when all devices trust it.
    pub next: Option<Next>,
}

/// A root that goes out to devices before anything is issued from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// DER.
    pub certificate: Vec<u8>,
    /// Profiles that were made later have it.
    pub made_at: Seconds,
    /// From then on devices without it are sent it.
    pub urgent_from: Seconds,
}

impl TlsAuthority {
    /// Loads all, making and storing what is missing, about to expire, or names something
    /// else than it should. Called at the start and every minute.
    ///
    /// `since` answers when the oldest of the profiles was made that devices have now: roots that were made
    /// earlier are trusted by all. `None` while the clock cannot be right and something is missing;
    /// [`temporary`] serves then.
    ///
    /// # Errors
    /// The database's and the sealing key's, in words.
    pub async fn open(
        store: &Store,
        seal: &Seal,
        organization: &str,
        names: &Names,
        lifetimes: Lifetimes,
        since: impl FnOnce(&Connection) -> Result<Seconds>,
    ) -> Result<Option<Self>> {
        let (stored, since) = store.peek(|conn| {
            let stored = Stored::load(conn, seal)?;
            let since = if stored.roots.len() > 1 { since(conn)? } else { 0 };
            Ok((stored, since))
        })?;
        if !store.clock().is_sane() {
            return Ok(stored.unjudged());
        }
        let (organization, names, now) = (organization.to_owned(), names.clone(), store.clock().now());
        // A key of the signer takes seconds on a small machine.
        let renewed =
            tokio::task::spawn_blocking(move || stored.renew(&organization, &names, lifetimes, since, now))
                .await
                .map_err(|source| Error::caused("the server's certificates were not made", source))??;
        if !renewed.anything_new() {
            return Ok(Some(renewed.all));
        }
        let seal = seal.clone();
        store.write("renew_tls_authority", move |tx| renewed.keep(tx, &seal)).await.map(Some)
    }
}

/// A certificate for a server that does not know the time: self-signed, dated 1970 to 2049, kept
/// nowhere. Nobody trusts it; it lets a person open the page that says what is wrong.
///
/// # Errors
/// [`Error::Internal`], when the machine cannot make a key.
pub fn temporary(names: &Names) -> Result<Certified> {
    const END_OF_2049: Seconds = 2_524_607_999;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(template::not_made)?;
    let mut params = template::template("Russet without the time", 0, END_OF_2049)?;
    params.subject_alt_names = subject_alt_names(&names.general_names().collect::<Vec<_>>());
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.is_ca = IsCa::ExplicitNoCa;
    template::self_signed(&params, &key)
}

/// Says what of `names` a certificate under this root goes without.
///
/// # Errors
/// [`Error::Internal`], when the root cannot be read.
pub fn warn_of_names(names: &Names, root: &Certified) -> Result<()> {
    let left_out = names.left_out(&template::parse(&root.certificate)?)?;
    if !left_out.is_empty() {
        tracing::warn!(
            "the TLS certificate does not name {}: devices trust a root that was made without it, and a new \
             one would lose them; open the page by a name that it has ({}), or use [tls] mode = \"files\"",
            left_out.join(", "),
            names.host()
        );
    }
    Ok(())
}

/// What the table holds.
struct Stored {
    /// The newest first: after the clock went astray, an older root may be the one that is valid.
    roots: Vec<Certified>,
    leaf: Option<Certified>,
    signer: Option<Certified>,
}

/// What the server uses from now on, and what of it is not in the table yet.
struct Renewed {
    all: TlsAuthority,
    /// The root that was made now.
    made: Option<Certified>,
    new_leaf: bool,
    new_signer: bool,
}

impl Stored {
    fn load(conn: &Connection, seal: &Seal) -> Result<Self> {
        Ok(Self {
            roots: authority::all(conn, seal, ROOT)?,
            leaf: authority::newest(conn, seal, LEAF)?,
            signer: authority::newest(conn, seal, SIGNER)?,
        })
    }

    /// Without the time nothing is judged: what is there is used.
    fn unjudged(self) -> Option<TlsAuthority> {
        let (leaf, signer) = (self.leaf?, self.signer?);
        let signed = template::parse(&leaf.certificate).ok()?;
        let root = self.roots.into_iter().find(|root| {
            template::parse(&root.certificate).is_ok_and(|certificate| issued_by(&signed, &certificate))
        })?;
        Some(TlsAuthority { root, leaf, signer, next: None })
    }

    fn renew(
        self,
        organization: &str,
        names: &Names,
        lifetimes: Lifetimes,
        since: Seconds,
        now: Seconds,
    ) -> Result<Renewed> {
        let mut roots: Vec<(Certified, TbsCertificate)> = Vec::new();
        for root in self.roots {
            if let Ok(certificate) = template::parse(&root.certificate)
                && is_fresh(&certificate, now)
                && names.allow(&certificate)
            {
                roots.push((root, certificate));
            }
        }
        let is_due = |certificate: &TbsCertificate| {
            let (not_before, not_after) = template::validity(certificate);
            not_after - lifetimes.lead(not_after - not_before) <= now
        };
        let mut made = None;
        if roots.first().is_none_or(|(_, certificate)| is_due(certificate)) {
            let root = make_root(organization, names, lifetimes.ca_days, now)?;
            made = Some(root.clone());
            let certificate = template::parse(&root.certificate)?;
            roots.insert(0, (root, certificate));
        }
        let carried = self.leaf.as_ref().and_then(|leaf| {
            let leaf = template::parse(&leaf.certificate).ok()?;
            roots.iter().position(|(_, root)| issued_by(&leaf, root))
        });
        let made_at = roots.first().map_or(0, |(_, newest)| made_at(newest));
        let chosen = match carried {
            Some(old) if made_at >= since => old,
            _ => 0,
        };
        let next = roots.first().filter(|_| chosen > 0).map(|(newest, _)| newest.certificate.clone());
        let (root, certificate) = roots.swap_remove(chosen);
        let (not_before, not_after) = template::validity(&certificate);
        let next = next.map(|certificate| Next {
            certificate,
            made_at,
            urgent_from: not_after - HURRY.min((not_after - not_before) / 4),
        });
        let serves = |own: &Certified, wanted: &dyn Fn(&TbsCertificate) -> bool| {
            template::parse(&own.certificate)
                .is_ok_and(|own| is_fresh(&own, now) && issued_by(&own, &certificate) && wanted(&own))
        };

        let sans = names.permitted(&certificate)?;
        let kept = self.leaf.filter(|leaf| serves(leaf, &|leaf| alternative_names(leaf) == sans));
        let new_leaf = kept.is_none();
        let leaf = match kept {
            Some(leaf) => leaf,
            None => make_leaf(organization, &sans, &root, &certificate, now)?,
        };

        let name = template::common_name(organization, " Profile Signing");
        let named = |signer: &TbsCertificate| {
            signer.subject().common_name().is_ok_and(|own| own.is_some_and(|own| own.value() == name))
        };
        let kept = self.signer.filter(|signer| serves(signer, &named));
        let new_signer = kept.is_none();
        let signer = match kept {
            Some(signer) => signer,
            None => make_signer(&name, &root, &certificate, now)?,
        };
        Ok(Renewed { all: TlsAuthority { root, leaf, signer, next }, made, new_leaf, new_signer })
    }
}

impl Renewed {
    fn anything_new(&self) -> bool {
        self.made.is_some() || self.new_leaf || self.new_signer
    }

    fn keep(self, tx: &Tx<'_>, seal: &Seal) -> Result<TlsAuthority> {
        if let Some(root) = &self.made {
            authority::insert(tx, seal, ROOT, root)?;
        }
        if self.new_leaf {
            authority::replace(tx, seal, LEAF, &self.all.leaf)?;
        }
        if self.new_signer {
            authority::replace(tx, seal, SIGNER, &self.all.signer)?;
        }
        Ok(self.all)
    }
}

fn make_root(organization: &str, names: &Names, ca_days: u32, now: Seconds) -> Result<Certified> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(template::not_made)?;
    let name = template::common_name(organization, &format!(" TLS Root for {}", names.host()));
    let mut params =
        template::template(&name, now - DAY, now - DAY + ROOT_DAYS.min(i64::from(ca_days)) * DAY)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(names.constraints());
    template::self_signed(&params, &key)
}

fn make_leaf(
    organization: &str,
    sans: &[GeneralName],
    root: &Certified,
    parent: &TbsCertificate,
    now: Seconds,
) -> Result<Certified> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(template::not_made)?;
    // A common name with spaces cannot be mistaken for a DNS name, to which the constraints apply.
    let name = template::common_name(organization, " Device Management");
    let mut params = template::template(&name, now - DAY, last_day(parent, now))?;
    params.subject_alt_names = subject_alt_names(sans);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    sign(params, &key, root, parent)
}

/// RSA, which every version of the operating systems verifies in CMS.
fn make_signer(name: &str, root: &Certified, parent: &TbsCertificate, now: Seconds) -> Result<Certified> {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).map_err(template::not_made)?;
    let mut params = template::template(name, now - DAY, last_day(parent, now))?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // What `openssl cms -verify` asks of the signer of a message.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
    sign(params, &key, root, parent)
}

fn sign(
    mut params: CertificateParams,
    key: &KeyPair,
    root: &Certified,
    parent: &TbsCertificate,
) -> Result<Certified> {
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    let issuer = template::issuer(parent, root)?;
    let certificate = params.signed_by(key, &issuer).map_err(template::not_made)?;
    Ok(Certified { certificate: certificate.der().to_vec(), key_pkcs8: key.serialize_der() })
}

fn last_day(parent: &TbsCertificate, now: Seconds) -> Seconds {
    let (_, parents) = template::validity(parent);
    (now - DAY + LEAF_DAYS * DAY).min(parents)
}

fn is_fresh(certificate: &TbsCertificate, now: Seconds) -> bool {
    let (not_before, not_after) = template::validity(certificate);
    not_before <= now && now + renewed_before(not_after - not_before) < not_after
}

/// How long before its end a certificate that is valid for `life` is made anew.
pub fn renewed_before(life: Seconds) -> Seconds {
    (RENEW_DAYS * DAY).min(life / 3)
}

fn made_at(certificate: &TbsCertificate) -> Seconds {
    let (not_before, _) = template::validity(certificate);
    not_before + DAY
}

fn issued_by(certificate: &TbsCertificate, root: &TbsCertificate) -> bool {
    let Ok(Some((_, parent))) = certificate.get_extension::<AuthorityKeyIdentifier>() else { return false };
    let Ok(Some((_, own))) = root.get_extension::<SubjectKeyIdentifier>() else { return false };
    parent.key_identifier.is_some_and(|parent| parent == own.0)
}

#[cfg(test)]
mod tests;
