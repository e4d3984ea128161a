//! What the listener presents and what signs profiles, by the mode of `[tls]`.
//!
//! The two go together: in mode `files` devices trust the TLS certificate already, so its key signs
//! profiles too; in self-signed mode both come from our TLS root.

use super::tls::Pair;
use crate::enroll::Signer;
use crate::error::{Error, Result};
use crate::mdm::{ending, enrollment};
use crate::pki::authority::Lifetimes;
use crate::pki::certificate::Certificate;
use crate::pki::key::PrivateKey;
use crate::pki::seal::Seal;
use crate::pki::tls_authority::{self, TlsAuthority};
use crate::pki::tls_names::Names;
use crate::storage::Store;

/// What the listener presents and what signs profiles, in self-signed mode; while the clock cannot
/// be right, something that lets a person open the page that says so. `used` is what the listener
/// presents so far: only of a certificate that is new to it is said what it does not name.
pub(super) async fn self_signed(
    store: &Store,
    seal: &Seal,
    organization: &str,
    names: &Names,
    lifetimes: Lifetimes,
    used: Option<&Pair>,
) -> Result<(Pair, Signer)> {
    // Nobody has to be kept by a root that cannot name what the configuration wants named.
    let relied_on = store.peek(enrollment::is_any_enrolled)?;
    let names = &if relied_on { names.clone() } else { names.clone().all_needed() };
    let damaged = |source| Error::caused("a certificate of this server cannot be read", source);
    let wrong_key = |source| Error::caused("a key of this server cannot be read", source);
    let opened =
        TlsAuthority::open(store, seal, organization, names, lifetimes, ending::oldest_profile).await?;
    let (leaf, chain, signer, anchor, next) = match opened {
        Some(TlsAuthority { root, leaf, signer, next }) => {
            if used.is_none_or(|used| used.chain.first().is_none_or(|own| **own != *leaf.certificate)) {
                tls_authority::warn_of_names(names, &root)?;
            }
            (leaf, vec![root.certificate.clone()], signer, Some(root.certificate), next)
        }
        None => {
            let temporary = tls_authority::temporary(names)?;
            (temporary.clone(), Vec::new(), temporary, None, None)
        }
    };
    let pair = Pair::from_der(&leaf.certificate, &chain, &leaf.key_pkcs8);
    let signer = Signer {
        key: PrivateKey::from_pkcs8(&signer.key_pkcs8).map_err(wrong_key)?,
        certificate: Certificate::from_der(&signer.certificate).map_err(damaged)?,
        chain: chain
            .iter()
            .map(|der| Certificate::from_der(der))
            .collect::<Result<_, _>>()
            .map_err(damaged)?,
        anchor,
        next,
    };
    Ok((pair, signer))
}

impl Signer {
    /// In mode `files` the TLS key signs profiles too: devices trust it already.
    pub(super) fn of_files(pair: &Pair) -> Result<Self> {
        let damaged =
            |source| Error::caused("the TLS certificate cannot be read for signing profiles", source);
        let mut chain = pair
            .chain
            .iter()
            .map(|der| Certificate::from_der(der))
            .collect::<Result<Vec<_>, _>>()
            .map_err(damaged)?;
        if chain.is_empty() {
            return Err(Error::internal("the TLS certificate file holds no certificate"));
        }
        let certificate = chain.remove(0);
        let key = PrivateKey::from_der(pair.key.secret_der()).map_err(|source| {
            Error::caused("the TLS key cannot sign profiles; use an RSA or P-256 key", source)
        })?;
        Ok(Self { key, certificate, chain, anchor: None, next: None })
    }
}
