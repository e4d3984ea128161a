//! Whom a device trusts for TLS: the roots of its system, and those that a profile brings.
//!
//! `wire` asks it for each connection; a profile with a root certificate adds to it, as on a device.
//!
//! **Invariant:** a root is added and never taken away; without one nobody is trusted.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::fault::Fault;
use crate::error::{Error, Result};

/// Where systems keep all their roots in one file: Debian and Alpine, Fedora, openSUSE, macOS and BSD.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Roots that devices trust for TLS.
#[derive(Clone, Debug)]
pub struct Trust(Arc<RootCertStore>);

impl Trust {
    /// The roots of the system, and those of `SSL_CERT_FILE` (PEM, or one in DER) beside them.
    ///
    /// # Errors
    /// `SSL_CERT_FILE` names a file that cannot be read or holds no certificate.
    pub fn system() -> Result<Self> {
        let named = std::env::var_os("SSL_CERT_FILE").filter(|file| !file.is_empty());
        let folder = std::env::var_os("SSL_CERT_DIR").filter(|folder| !folder.is_empty());
        let mut roots = RootCertStore::empty();
        // With either variable the library reads that and nothing of the system's.
        let found = if named.is_none() && folder.is_none() {
            rustls_native_certs::load_native_certs()
        } else {
            let file = BUNDLES.iter().map(Path::new).find(|file| file.exists());
            rustls_native_certs::load_certs_from_paths(file, folder.as_deref().map(Path::new))
        };
        roots.add_parsable_certificates(found.certs);
        let system = Self(Arc::new(roots));
        match named {
            None => Ok(system),
            Some(file) => system.and_file(Path::new(&file)),
        }
    }

    /// With the certificates of this file too, as [`Trust::and_pem`].
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn and_file(&self, file: &Path) -> Result<Self> {
        let bytes = std::fs::read(file)
            .map_err(|source| Error::caused(format!("{} cannot be read", file.display()), source))?;
        self.and_pem(&bytes).map_err(|error| Error::invalid(format!("{}: {error}", file.display())))
    }

    /// Nobody: only what is added.
    pub fn nobody() -> Self {
        Self(Arc::new(RootCertStore::empty()))
    }

    /// With the certificates of a PEM file too, or with the one of a DER file.
    pub fn and_pem(&self, pem: &[u8]) -> Result<Self> {
        use rustls::pki_types::pem::PemObject;
        let unreadable = || {
            Error::invalid(
                "the trust file holds no certificate that can be read; give the root certificate as PEM",
            )
        };
        // One that begins as DER does is what `/ca.crt` gives.
        if pem.first() == Some(&0x30) {
            return self.and_der(pem).map_err(Error::from);
        }
        let certificates: Vec<CertificateDer> = CertificateDer::pem_slice_iter(pem)
            .collect::<std::result::Result<_, _>>()
            .map_err(|_| unreadable())?;
        if certificates.is_empty() {
            return Err(unreadable());
        }
        certificates.iter().try_fold(self.clone(), |trust, der| trust.and_der(der)).map_err(Error::from)
    }

    /// As TLS takes them.
    pub(super) fn roots(&self) -> Arc<RootCertStore> {
        self.0.clone()
    }

    /// With one more root, DER; a root that is there already is not added again.
    pub(super) fn and_der(&self, der: &[u8]) -> std::result::Result<Self, Fault> {
        let mut one = RootCertStore::empty();
        one.add(CertificateDer::from(der.to_vec())).map_err(|error| {
            Fault::unacceptable(format!("a root certificate in the profile cannot be used: {error}"))
        })?;
        if one.roots.iter().all(|root| self.0.roots.contains(root)) {
            return Ok(self.clone());
        }
        one.roots.extend(self.0.roots.iter().cloned());
        Ok(Self(Arc::new(one)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_trusted_from_der_as_from_pem() {
        let key = crate::simulator::Key::generate(2048).unwrap();
        let der = crate::simulator::identity::throw_away(&key, 1_800_000_000).unwrap();
        let pem = crate::pki::pem::encode("CERTIFICATE", &der);
        for file in [der.as_slice(), pem.as_bytes()] {
            assert_eq!(Trust::nobody().and_pem(file).unwrap().0.roots.len(), 1);
        }
        assert!(Trust::nobody().and_pem(b"0").is_err());
    }
}
