//! The enrollment CA, and the table of everything that is certified by us for ourselves.
//!
//! [`Authority`] issues the identities that devices get by SCEP; it is RSA, because SCEP clients
//! encrypt to it (RFC 8894 section 3.1). It is made at the first start, by `server`, and loaded at
//! each later one. Long before it ends a successor of the same name takes over, and those who still
//! know the earlier one are answered with that. `tls_authority` keeps the other CA, which names this
//! server, in the same table.
//!
//! **Invariant:** a certificate says what the template here says; of a request nothing but its
//! public key is used. No identity outlives its issuer.

use std::fmt;
use std::sync::Arc;

use der::Encode;
use rcgen::{
    BasicConstraints, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_RSA_SHA256, RsaKeySize,
};
use rusqlite::{Connection, params};

use crate::clock::{DAY, Seconds, rfc3339};
use crate::error::{Error, Result};
use crate::pki::seal::Seal;
use crate::pki::template::{
    DeviceKey, common_name, damaged, issuer, not_made, parse, sane, self_signed, template, validity,
};
use crate::storage::{Store, Tx};

pub use crate::pki::template::Certified;

/// `authorities.purpose` of the enrollment CA.
const IDENTITY: &str = "identity";

/// How long before an authority must be succeeded its successor is there: whoever still asks the earlier
/// one meanwhile is given an identity by that.
pub const MARGIN: Seconds = 30 * DAY;

/// How long what we certify is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// An authority's days.
    pub ca_days: u32,
    /// An identity's days.
    pub identity_days: u32,
}

impl Lifetimes {
    /// How long before the end of an authority that is valid for `life` its successor is made: early enough
    /// that identities of their whole length never outlive their issuer, and in its second half at the latest.
    pub fn lead(self, life: Seconds) -> Seconds {
        (i64::from(self.identity_days) * DAY + MARGIN).min(life / 2)
    }
}

/// Who a device's certificate is for.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// CN; the enrollment session, by which the certificate is known again.
    pub common_name: &'a str,
    /// O.
    pub organization: &'a str,
    /// OU, where there is something to say.
    pub organizational_unit: Option<&'a str>,
}

/// The enrollment CA; cheap to clone.
#[derive(Clone)]
pub struct Authority(Arc<Loaded>);

struct Loaded {
    own: Certified,
    subject: Vec<u8>,
    not_before: Seconds,
    not_after: Seconds,
    issuer: Issuer<'static, KeyPair>,
    /// Those before it, the newest first, that clients may still know.
    earlier: Vec<Authority>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority(…)")
    }
}

impl Authority {
    /// Loads the enrollment CA that issues now, with those before it; makes the first where there is none,
    /// and a successor when it is time.
    ///
    /// `None` while there is none and the clock cannot be right: the server runs without identities
    /// and calls again when the time is set.
    ///
    /// # Errors
    /// The database's and the sealing key's, in words.
    pub async fn open(
        store: &Store,
        seal: &Seal,
        organization: &str,
        lifetimes: Lifetimes,
    ) -> Result<Option<Self>> {
        let now = store.clock().now();
        let stored = Self::in_use(store.peek(|conn| all(conn, seal, IDENTITY))?, now)?;
        if !store.clock().is_sane() || stored.as_ref().is_some_and(|own| !own.is_due(lifetimes, now)) {
            return Ok(stored);
        }
        // A successor has the name of the first, by which servers of TLS ask for certificates of either.
        let name = match &stored {
            Some(own) => own.name()?,
            None => common_name(organization, " Enrollment CA"),
        };
        let made = tokio::task::spawn_blocking(move || Self::make(&name, lifetimes.ca_days, now))
            .await
            .map_err(|source| Error::caused("the enrollment CA was not made", source))??;
        let (opener, predecessor) = (seal.clone(), stored.map(|own| own.certificate_der().to_vec()));
        let kept = store
            .write("make_enrollment_ca", move |tx| {
                let there = all(tx, &opener, IDENTITY)?;
                // Another has made one meanwhile.
                let current = Self::in_use(there, now)?.map(|own| own.certificate_der().to_vec());
                if current == predecessor {
                    insert(tx, &opener, IDENTITY, &made)?;
                }
                all(tx, &opener, IDENTITY)
            })
            .await?;
        Self::in_use(kept, now)
    }

    /// Of all rows, the newest first: the newest that is valid now, with the others that are. After the
    /// clock went astray an older one may be the one.
    fn in_use(rows: Vec<Certified>, now: Seconds) -> Result<Option<Self>> {
        let rows = rows.into_iter().map(Self::from_certified).collect::<Result<Vec<_>>>()?;
        let newest = rows.first().cloned();
        let mut valid = rows.into_iter().filter(|own| own.0.not_before <= now && now < own.0.not_after);
        let Some(current) = valid.next().or(newest) else { return Ok(None) };
        let earlier = valid.collect();
        let own = current.0.own.clone();
        Self::with_earlier(own, earlier).map(Some)
    }

    /// Makes a key and a certificate for the enrollment CA: seconds of work on a small machine.
    ///
    /// # Errors
    /// The clock cannot be right.
    pub fn generate(organization: &str, ca_days: u32, now: Seconds) -> Result<Certified> {
        Self::make(&common_name(organization, " Enrollment CA"), ca_days, now)
    }

    fn make(name: &str, ca_days: u32, now: Seconds) -> Result<Certified> {
        sane(now)?;
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).map_err(not_made)?;
        let mut params = template(name, now - DAY, now + i64::from(ca_days) * DAY)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            // SCEP: it signs the answers, and requests are encrypted to it.
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        self_signed(&params, &key)
    }

    /// An authority from its certificate and key.
    ///
    /// # Errors
    /// Either cannot be read: the database is damaged.
    pub fn from_certified(own: Certified) -> Result<Self> {
        Self::with_earlier(own, Vec::new())
    }

    fn with_earlier(own: Certified, earlier: Vec<Self>) -> Result<Self> {
        let certificate = parse(&own.certificate)?;
        let (not_before, not_after) = validity(&certificate);
        let subject = certificate.subject().to_der().map_err(damaged)?;
        let issuer = issuer(&certificate, &own)?;
        Ok(Self(Arc::new(Loaded { own, subject, not_before, not_after, issuer, earlier })))
    }

    fn name(&self) -> Result<String> {
        let certificate = parse(self.certificate_der())?;
        let name = certificate.subject().common_name().map_err(damaged)?;
        name.map(|name| name.value().to_string())
            .ok_or_else(|| Error::internal("the certificate of an authority has no name; restore a backup"))
    }

    /// This one, and those before it that clients may still know, the newest first.
    pub fn with_those_before(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.0.earlier)
    }

    /// Whether one of those before it has ended, and is to be forgotten.
    pub fn knows_ended(&self, now: Seconds) -> bool {
        self.0.earlier.iter().any(|own| own.0.not_after <= now)
    }

    /// Whether its successor has to be made now.
    pub fn is_due(&self, lifetimes: Lifetimes, now: Seconds) -> bool {
        let Loaded { not_before, not_after, .. } = *self.0;
        now < not_before || not_after - lifetimes.lead(not_after - not_before) <= now
    }

    /// The CA's certificate, DER.
    pub fn certificate_der(&self) -> &[u8] {
        &self.0.own.certificate
    }

    /// The CA's key, PKCS#8, for decrypting SCEP requests and signing the answers.
    pub fn key_pkcs8(&self) -> &[u8] {
        &self.0.own.key_pkcs8
    }

    /// The CA's subject, DER: what a TLS server names when it asks for a client certificate.
    pub fn subject_der(&self) -> &[u8] {
        &self.0.subject
    }

    /// When the CA expires.
    pub fn not_after(&self) -> Seconds {
        self.0.not_after
    }

    /// Issues a client certificate (DER) for the public key `spki_der`; it never outlives the CA.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a key that is not RSA of at least 2048 bits, P-256 or P-384;
    /// [`Error::Internal`] while the clock cannot be right or after the CA expired.
    pub fn issue(
        &self,
        spki_der: &[u8],
        subject: Subject<'_>,
        not_before: Seconds,
        not_after: Seconds,
        now: Seconds,
    ) -> Result<Vec<u8>> {
        sane(now)?;
        let not_before = not_before.max(self.0.not_before);
        let not_after = not_after.min(self.0.not_after);
        if now >= self.0.not_after || not_before >= not_after {
            return Err(Error::internal(format!(
                "the enrollment CA expired at {}: no identity can be issued; check the clock, or enroll anew \
                 with a new data folder",
                rfc3339(self.0.not_after)
            )));
        }
        let key = DeviceKey::parse(spki_der)?;
        let mut params = template(subject.common_name, not_before, not_after)?;
        params.distinguished_name.push(DnType::OrganizationName, subject.organization);
        if let Some(unit) = subject.organizational_unit {
            params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.0.issuer).map_err(not_made)?;
        Ok(certificate.der().to_vec())
    }
}

/// A certificate of ours, without its key.
#[derive(Clone, Debug)]
pub struct Listed {
    /// DER.
    pub certificate: Vec<u8>,
    /// When it was made.
    pub created_at: Seconds,
}

/// Our own certificates, for whoever shows when they end.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// Enrollment CAs, the newest first.
    pub enrollment_cas: Vec<Listed>,
    /// TLS roots, the newest first.
    pub tls_roots: Vec<Listed>,
    /// The signer of profiles, in self-signed mode.
    pub profile_signer: Option<Listed>,
}

/// What there is of our own certificates; no key is opened.
pub fn listed(conn: &Connection) -> Result<Own> {
    let mut own = Own::default();
    let mut statement =
        conn.prepare_cached("SELECT purpose, certificate, created_at FROM authorities ORDER BY id DESC")?;
    let rows = statement.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, Listed { certificate: row.get(1)?, created_at: row.get(2)? }))
    })?;
    for row in rows {
        let (purpose, listed) = row?;
        match purpose.as_str() {
            IDENTITY => own.enrollment_cas.push(listed),
            "tls" => own.tls_roots.push(listed),
            "profile-signer" => own.profile_signer = own.profile_signer.or(Some(listed)),
            _ => {}
        }
    }
    Ok(own)
}

/// All rows of a purpose, the newest first.
pub(super) fn all(conn: &Connection, seal: &Seal, purpose: &str) -> Result<Vec<Certified>> {
    let mut statement = conn.prepare_cached(
        "SELECT certificate, sealed_key
           FROM authorities
          WHERE purpose = ?1
          ORDER BY id DESC",
    )?;
    let rows = statement.query_map([purpose], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.map(|row| {
        let (certificate, sealed): (Vec<u8>, Vec<u8>) = row?;
        Ok(Certified { certificate, key_pkcs8: seal.open_sealed(&sealed_name(purpose), &sealed)? })
    })
    .collect()
}

/// The newest row of a purpose.
pub(super) fn newest(conn: &Connection, seal: &Seal, purpose: &str) -> Result<Option<Certified>> {
    Ok(all(conn, seal, purpose)?.into_iter().next())
}

/// Whether this database's keys open with this sealing key.
///
/// # Errors
/// They do not; the database's.
pub fn prove(conn: &Connection, seal: &Seal) -> Result<()> {
    let mut statement = conn.prepare("SELECT purpose, sealed_key FROM authorities")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
    for row in rows {
        let (purpose, sealed) = row?;
        seal.open_sealed(&sealed_name(&purpose), &sealed)?;
    }
    Ok(())
}

/// Adds a row.
pub(super) fn insert(tx: &Tx<'_>, seal: &Seal, purpose: &str, made: &Certified) -> Result<()> {
    let (_, not_after) = validity(&parse(&made.certificate)?);
    tx.prepare_cached(
        "INSERT INTO authorities (purpose, certificate, sealed_key, not_after, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        purpose,
        made.certificate,
        seal.seal(&sealed_name(purpose), &made.key_pkcs8),
        not_after,
        tx.now()
    ])?;
    Ok(())
}

/// Puts a row in the place of all others of its purpose.
pub(super) fn replace(tx: &Tx<'_>, seal: &Seal, purpose: &str, made: &Certified) -> Result<()> {
    tx.prepare_cached("DELETE FROM authorities WHERE purpose = ?1")?.execute([purpose])?;
    insert(tx, seal, purpose, made)
}

fn sealed_name(purpose: &str) -> String {
    format!("authority/{purpose}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, EARLIEST_SANE};
    use crate::id;
    use crate::storage::tests::temporary;
    use rcgen::PublicKeyData;
    use x509_cert::ext::pkix::{
        AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectKeyIdentifier,
    };

    const NOW: Seconds = EARLIEST_SANE + 100 * DAY;
    const SUBJECT: Subject<'_> =
        Subject { common_name: "session-1", organization: "Example School", organizational_unit: None };

    const LIFETIMES: Lifetimes = Lifetimes { ca_days: 7300, identity_days: 825 };

    fn authority(ca_days: u32) -> Authority {
        Authority::from_certified(Authority::generate("Example School", ca_days, NOW).unwrap()).unwrap()
    }

    fn spki() -> Vec<u8> {
        KeyPair::generate().unwrap().subject_public_key_info()
    }

    #[test]
    fn an_identity_says_what_the_template_says() {
        let authority = authority(7300);
        let spki = spki();
        let der = authority.issue(&spki, SUBJECT, NOW - 600, NOW + 825 * DAY, NOW).unwrap();
        let certificate = parse(&der).unwrap();
        let ca = parse(authority.certificate_der()).unwrap();
        assert_eq!(certificate.issuer(), ca.subject());
        assert_eq!(certificate.subject_public_key_info().to_der().unwrap(), spki);
        assert_eq!(certificate.subject().to_string(), "O=Example School,CN=session-1");
        assert_eq!(validity(&certificate), (NOW - 600, NOW + 825 * DAY));
        assert_eq!(certificate.serial_number().as_bytes().len(), 16);
        let (_, basic) = certificate.get_extension::<BasicConstraints>().unwrap().unwrap();
        assert!(!basic.ca);
        let (critical, usage) = certificate.get_extension::<KeyUsage>().unwrap().unwrap();
        assert!(critical);
        assert_eq!(usage.0, KeyUsages::DigitalSignature | KeyUsages::KeyEncipherment);
        let (_, extended) = certificate.get_extension::<ExtendedKeyUsage>().unwrap().unwrap();
        assert_eq!(extended.0.iter().map(ToString::to_string).collect::<Vec<_>>(), ["1.3.6.1.5.5.7.3.2"]);
        let (_, issuer_key) = certificate.get_extension::<AuthorityKeyIdentifier>().unwrap().unwrap();
        let (_, ca_key) = ca.get_extension::<SubjectKeyIdentifier>().unwrap().unwrap();
        assert_eq!(issuer_key.key_identifier.unwrap(), ca_key.0);
        assert!(certificate.get_extension::<SubjectKeyIdentifier>().unwrap().is_some());
    }

    #[test]
    fn no_identity_outlives_the_authority() {
        let authority = authority(30);
        let der = authority.issue(&spki(), SUBJECT, NOW, NOW + 825 * DAY, NOW).unwrap();
        assert_eq!(validity(&parse(&der).unwrap()).1, NOW + 30 * DAY);
        assert!(authority.issue(&spki(), SUBJECT, NOW, NOW + 825 * DAY, NOW + 31 * DAY).is_err());
    }

    #[test]
    fn weak_and_foreign_keys_are_refused() {
        let authority = authority(30);
        // Ed25519, which no device makes.
        let edwards = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().subject_public_key_info();
        // RSA of 512 bits: SEQUENCE { AlgorithmIdentifier, BIT STRING { modulus, 65537 } }.
        let mut short = id::from_hex("305c300d06092a864886f70d0101010500034b003048024100").unwrap();
        short.extend([0xc1; 64]);
        short.extend([0x02, 0x03, 0x01, 0x00, 0x01]);
        for key in [edwards, short, Vec::new(), vec![0x30, 0x80]] {
            let refused = authority.issue(&key, SUBJECT, NOW, NOW + DAY, NOW).unwrap_err();
            assert!(matches!(refused, Error::Invalid { .. }), "{refused}");
        }
    }

    #[test]
    fn nothing_is_issued_in_1970() {
        assert!(
            Authority::generate("Example School", 30, 5).unwrap_err().to_string().contains("set the time")
        );
        assert!(authority(30).issue(&spki(), SUBJECT, NOW, NOW + DAY, 5).is_err());
    }

    #[tokio::test]
    async fn the_authority_is_made_once_and_sealed() {
        let (folder, store) = temporary();
        let seal = Seal::open(folder.path(), None, true).unwrap();
        let made = Authority::open(&store, &seal, "Example School", LIFETIMES).await.unwrap().unwrap();
        let again = Authority::open(&store, &seal, "Another Name", Lifetimes { ca_days: 1, ..LIFETIMES })
            .await
            .unwrap()
            .unwrap();
        assert_eq!(made.certificate_der(), again.certificate_der());
        assert_eq!(made.key_pkcs8(), again.key_pkcs8());
        let sealed: Vec<u8> = store
            .peek(|conn| Ok(conn.query_row("SELECT sealed_key FROM authorities", [], |row| row.get(0))?))
            .unwrap();
        assert!(
            !sealed.windows(32).any(|window| made.key_pkcs8().windows(32).any(|secret| secret == window))
        );
    }

    #[tokio::test]
    async fn without_the_time_there_is_no_authority_until_the_clock_is_set() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::set_to(60);
        let store = Store::open(folder.path(), clock.clone()).unwrap();
        let seal = Seal::open(folder.path(), None, true).unwrap();
        assert!(Authority::open(&store, &seal, "Example School", LIFETIMES).await.unwrap().is_none());
        clock.advance(NOW);
        assert!(Authority::open(&store, &seal, "Example School", LIFETIMES).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_successor_takes_over_before_an_identity_would_outlive_its_issuer_and_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::set_to(NOW);
        let store = Store::open(folder.path(), clock.clone()).unwrap();
        let seal = Seal::open(folder.path(), None, true).unwrap();
        let lifetimes = Lifetimes { ca_days: 300, identity_days: 90 };
        let open =
            async || Authority::open(&store, &seal, "Example School", lifetimes).await.unwrap().unwrap();
        let first = open().await;
        clock.advance(179 * DAY);
        assert_eq!(open().await.certificate_der(), first.certificate_der());
        clock.advance(2 * DAY);
        let second = open().await;
        assert_ne!(second.certificate_der(), first.certificate_der());
        assert_eq!(second.subject_der(), first.subject_der(), "clients of TLS know it by its name");
        let known: Vec<_> = second.with_those_before().map(|own| own.certificate_der().to_vec()).collect();
        assert_eq!(known, [second.certificate_der().to_vec(), first.certificate_der().to_vec()]);
        assert_eq!(open().await.certificate_der(), second.certificate_der());
        // The earlier one ends and is known no more.
        clock.advance(121 * DAY);
        assert_eq!(open().await.with_those_before().count(), 1);
        // With the clock back where it was, the one that is valid then issues.
        clock.advance(-301 * DAY);
        assert_eq!(open().await.certificate_der(), first.certificate_der());
    }
}
