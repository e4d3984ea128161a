//! TLS as Apple wants it, and the certificate that the server presents.
//!
//! `server` makes a [`ServerCertificate`] at the start, from `pki::tls_authority` or from files, and
//! one configuration for each listener. TLS 1.2 and 1.3, ECDHE with AEAD suites, Extended Master
//! Secret (Apple support article 126655; App Transport Security).
//!
//! **Invariant:** a certificate is in use only with a key that belongs to it; a replacement that
//! does not fit changes nothing.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::acme::challenge::ALPN;
use crate::acme::{Challenges, Issued};
use crate::error::{Error, Result};
use crate::pki::authority::Certified;
use crate::pki::chain::Chain;
use crate::server::client_certificates::ClientCertificates;

/// A certificate chain, leaf first, with the leaf's key.
#[derive(Debug)]
pub struct Pair {
    /// DER, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// PKCS#8, PKCS#1 or SEC1, as it was found.
    pub key: PrivateKeyDer<'static>,
}

impl From<&Certified> for Pair {
    fn from(own: &Certified) -> Self {
        Self {
            chain: vec![CertificateDer::from(own.certificate.clone())],
            key: PrivatePkcs8KeyDer::from(own.key_pkcs8.clone()).into(),
        }
    }
}

impl From<&Issued> for Pair {
    fn from(issued: &Issued) -> Self {
        Self {
            chain: issued.chain.iter().map(|one| CertificateDer::from(one.der().to_vec())).collect(),
            key: PrivatePkcs8KeyDer::from(issued.key_pkcs8.clone()).into(),
        }
    }
}

impl Pair {
    /// Reads a chain and its key from two PEM files.
    ///
    /// # Errors
    /// A sentence that names the file and what to do.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self> {
        let read = |path: &Path, setting: &str| {
            std::fs::read(path).map_err(|source| {
                let path = path.display();
                Error::caused(
                    format!("{path} cannot be read; put it there or correct [tls] {setting}"),
                    source,
                )
            })
        };
        let chain = CertificateDer::pem_slice_iter(&read(certificate, "certificate")?)
            .collect::<Result<Vec<_>, _>>()
            .ok()
            .filter(|chain| !chain.is_empty())
            .ok_or_else(|| {
                let path = certificate.display();
                Error::internal(format!(
                    "{path} holds no certificate; it has to be PEM, the server's own first"
                ))
            })?;
        let key = PrivateKeyDer::from_pem_slice(&read(key, "private_key")?).map_err(|_| {
            Error::internal(format!(
                "{} holds no private key; it has to be PEM, without a password",
                key.display()
            ))
        })?;
        Ok(Self { chain, key })
    }

    /// A leaf, the rest of its chain, and its key in PKCS#8; all DER.
    pub fn from_der(leaf: &[u8], chain: &[Vec<u8>], key_pkcs8: &[u8]) -> Self {
        let chain = std::iter::once(leaf).chain(chain.iter().map(Vec::as_slice));
        Self {
            chain: chain.map(|der| CertificateDer::from(der.to_vec())).collect(),
            key: PrivateKeyDer::Pkcs8(key_pkcs8.to_vec().into()),
        }
    }
}

/// What the listeners present; cheap to clone, and replaced without a restart.
#[derive(Clone, Debug)]
pub struct ServerCertificate(Arc<Current>);

#[derive(Debug)]
struct Current {
    presented: ArcSwap<Presented>,
    /// What is answered to a CA that looks whether the name is ours (RFC 8737).
    challenges: Challenges,
    /// The same chain, for those who only look at it.
    seen: Chain,
}

#[derive(Debug)]
struct Presented {
    pair: Arc<Pair>,
    signing: Arc<CertifiedKey>,
}

impl Presented {
    fn new(pair: Pair) -> Result<Self> {
        let signing = CertifiedKey::from_der(pair.chain.clone(), pair.key.clone_key(), &default_provider())
            .map_err(|source| {
            let words = "the TLS private key does not belong to the certificate, or is of a kind that is not \
                             supported; put a matching pair of RSA or ECDSA there";
            Error::caused(words, source)
        })?;
        Ok(Self { pair: Arc::new(pair), signing: Arc::new(signing) })
    }
}

impl ServerCertificate {
    /// # Errors
    /// The key does not belong to the certificate.
    pub fn new(pair: Pair) -> Result<Self> {
        Self::with_challenges(pair, Challenges::default())
    }

    /// As [`ServerCertificate::new`], with what proves the name to an ACME server meanwhile.
    ///
    /// # Errors
    /// The key does not belong to the certificate.
    pub fn with_challenges(pair: Pair, challenges: Challenges) -> Result<Self> {
        let seen = Chain::default();
        seen.set(&pair.chain);
        let presented = ArcSwap::from_pointee(Presented::new(pair)?);
        Ok(Self(Arc::new(Current { presented, challenges, seen })))
    }

    /// Presents `pair` in all handshakes that begin after this.
    ///
    /// # Errors
    /// The key does not belong to the certificate; the old one stays.
    pub fn replace(&self, pair: Pair) -> Result<()> {
        let presented = Presented::new(pair)?;
        self.0.seen.set(&presented.pair.chain);
        self.0.presented.store(Arc::new(presented));
        Ok(())
    }

    /// What is presented, for those who only look at it.
    pub fn chain(&self) -> Chain {
        self.0.seen.clone()
    }

    /// What is presented now, for signing profiles with it.
    pub fn pair(&self) -> Arc<Pair> {
        self.0.presented.load().pair.clone()
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if hello.alpn().is_some_and(|mut offered| offered.any(|name| name == ALPN)) {
            // A validation gets its own certificate, and nobody else ever does.
            return self.challenges.certificate(hello.server_name()?);
        }
        Some(self.presented.load().signing.clone())
    }
}

/// The configuration of a listener. `asked` is none where clients are never asked for a certificate.
///
/// # Errors
/// [`Error::Internal`], when the library offers no such TLS.
pub fn config(
    certificate: &ServerCertificate,
    asked: Option<&ClientCertificates>,
) -> Result<Arc<ServerConfig>> {
    // All of the provider's suites are ECDHE with AES-GCM or ChaCha20.
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|source| Error::caused("TLS is not available", source))?;
    let builder = match asked {
        Some(asked) => builder.with_client_cert_verifier(asked.verifier()),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(certificate.0.clone());
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec(), ALPN.to_vec()];
    config.require_ems = true;
    // A device comes, speaks and goes; a second ticket would only be kept.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}
