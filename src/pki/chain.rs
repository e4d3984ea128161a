//! The TLS certificate that the listeners present, for those who only look at it.
//!
//! `server` sets it with each change; the API, the findings and the alerts read it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::CertificateDer;

use super::certificate::Certificate;

/// A certificate chain, leaf first, that may be another at any time; a cheap handle.
#[derive(Clone, Debug, Default)]
pub struct Chain(Arc<ArcSwap<Vec<CertificateDer<'static>>>>);

impl Chain {
    /// Says that this one is presented from now on.
    pub fn set(&self, chain: &[CertificateDer<'static>]) {
        self.0.store(Arc::new(chain.to_vec()));
    }

    /// What is presented now, DER, leaf first.
    pub fn now(&self) -> Arc<Vec<CertificateDer<'static>>> {
        self.0.load_full()
    }

    /// The leaf of what is presented now.
    pub fn leaf(&self) -> Option<Certificate> {
        Certificate::from_der(self.now().first()?).ok()
    }
}
