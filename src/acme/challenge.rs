//! What proves a name while the CA looks: answers of the listeners, or a record in the DNS.
//!
//! `server` asks [`Challenges`] in a TLS handshake that offers `acme-tls/1` (RFC 8737) and mounts
//! [`Challenges::routes`] on `http_listen` (RFC 8555 section 8.3).
//!
//! **Invariant:** an answer is there only while its `Answer` lives; a handshake without `acme-tls/1`
//! never sees one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;
use instant_acme::{ChallengeType, KeyAuthorization};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::sign::CertifiedKey;

use super::{Inner, dns, hook};
use crate::config::{self, DnsWriter};
use crate::error::{Error, Result};

/// The protocol of a validation's handshake (RFC 8737 section 6.2).
pub const ALPN: &[u8] = b"acme-tls/1";

/// What the listeners answer; a cheap handle.
#[derive(Clone, Debug, Default)]
pub struct Challenges(Arc<Mutex<Answers>>);

#[derive(Debug, Default)]
struct Answers {
    /// By the name in the handshake.
    tls: HashMap<String, Arc<CertifiedKey>>,
    /// By the token in the path.
    http: HashMap<String, String>,
}

impl Challenges {
    /// The certificate for a handshake that offers [`ALPN`].
    pub fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.with(|answers| answers.tls.get(&name.to_ascii_lowercase()).cloned())
    }

    /// `GET /.well-known/acme-challenge/{token}`.
    pub fn routes(&self) -> Router {
        let challenges = self.clone();
        let answer = move |Path(token): Path<String>| {
            let found = challenges.with(|answers| answers.http.get(&token).cloned());
            async move {
                match found {
                    Some(text) => (StatusCode::OK, text),
                    None => (StatusCode::NOT_FOUND, "no such name is being proven\n".to_owned()),
                }
            }
        };
        Router::new().route("/.well-known/acme-challenge/{token}", get(answer))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Answers) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An answer that is in place; it goes with [`Answer::end`], or when it is dropped.
pub(super) enum Answer<'a> {
    Tls { challenges: Challenges, name: String },
    Http { challenges: Challenges, token: String },
    Dns { writer: &'a DnsWriter, record: dns::Record },
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        match self {
            Self::Tls { challenges, name } => challenges.with(|answers| drop(answers.tls.remove(name))),
            Self::Http { challenges, token } => challenges.with(|answers| drop(answers.http.remove(token))),
            Self::Dns { .. } => {}
        }
    }
}

impl Answer<'_> {
    /// Answers handshakes for `name`, which is in lower case, with `certificate`.
    pub(super) fn put(challenges: &Challenges, name: &str, certificate: Arc<CertifiedKey>) -> Self {
        challenges.with(|answers| answers.tls.insert(name.to_owned(), certificate));
        Self::Tls { challenges: challenges.clone(), name: name.to_owned() }
    }

    /// Takes it away; a record in the DNS is one that only this can.
    pub(super) async fn end(self, inner: &Inner) {
        if let Self::Dns { writer, record } = &self
            && let Err(error) = write(inner, writer, record, false).await
        {
            tracing::warn!(
                record = record.name,
                error = error.chain(),
                "a record of a finished challenge was not removed from the DNS; remove it by hand"
            );
        }
    }
}

/// The challenge of the configuration, as the CA calls it.
pub(super) fn kind(settings: &config::Acme) -> ChallengeType {
    match settings.challenge {
        config::Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        config::Challenge::Http01 => ChallengeType::Http01,
        config::Challenge::Dns01 => ChallengeType::Dns01,
    }
}

/// Puts the answer in place.
pub(super) async fn answer<'a>(
    inner: &'a Inner,
    token: &str,
    authorization: &KeyAuthorization,
) -> Result<Answer<'a>> {
    let challenges = inner.challenges.clone();
    match inner.settings.challenge {
        config::Challenge::TlsAlpn01 => {
            let name = inner.host.to_ascii_lowercase();
            let certificate = Arc::new(validation(&name, authorization)?);
            Ok(Answer::put(&challenges, &name, certificate))
        }
        config::Challenge::Http01 => {
            let text = authorization.as_str().to_owned();
            challenges.with(|answers| answers.http.insert(token.to_owned(), text));
            Ok(Answer::Http { challenges, token: token.to_owned() })
        }
        config::Challenge::Dns01 => {
            let writer = inner.settings.dns.as_ref().ok_or_else(|| {
                Error::invalid("challenge dns-01 needs [tls.acme] dns_server or dns_hook; write one of them")
            })?;
            let record = dns::Record {
                name: format!("_acme-challenge.{}.", inner.host),
                value: authorization.dns_value(),
            };
            write(inner, writer, &record, true).await?;
            let wait = u64::try_from(inner.settings.dns_wait).unwrap_or_default();
            tokio::time::sleep(std::time::Duration::from_secs(wait)).await;
            Ok(Answer::Dns { writer, record })
        }
    }
}

async fn write(inner: &Inner, writer: &DnsWriter, record: &dns::Record, present: bool) -> Result<()> {
    match writer {
        DnsWriter::Update { server, zone, key } => {
            let now = inner.store.clock().now();
            dns::update(server, zone.as_deref(), key.as_ref(), record, present, now).await
        }
        DnsWriter::Hook(command) => hook::run(command, record, present).await,
    }
}

/// The self-signed certificate that answers `tls-alpn-01` (RFC 8737 section 3).
fn validation(name: &str, authorization: &KeyAuthorization) -> Result<CertifiedKey> {
    let failed = |source| Error::caused("the certificate of the TLS challenge cannot be made", source);
    let key = KeyPair::generate().map_err(failed)?;
    let mut parameters = CertificateParams::new([name.to_owned()]).map_err(failed)?;
    parameters.custom_extensions =
        vec![CustomExtension::new_acme_identifier(authorization.digest().as_ref())];
    let certificate = parameters.self_signed(&key).map_err(failed)?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let key = default_provider()
        .key_provider
        .load_private_key(key.into())
        .map_err(|source| Error::caused("the key of the TLS challenge cannot be used", source))?;
    // Put together unread: its critical extension is one that no reader of server certificates knows.
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}
