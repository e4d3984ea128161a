//! Certificates of the loopback push service: its own, and push certificates for it.
//!
//! Apple's portal issues push certificates whose subject carries the topic as UID (OID
//! 0.9.2342.19200300.100.1.1); [`push_certificate`] makes one like it, without Apple's chain.
//!
//! **Invariant:** any certificate is accepted as a client's once it proves its key: the topic in it
//! is all that the stand-in looks at.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_RSA_SHA256};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::aws_lc_rs as provider;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};

use super::ber::{self, Reader};
use super::certificate::Certificate;
use crate::error::{Error, Result};

const USER_ID: [u64; 7] = [0, 9, 2342, 19_200_300, 100, 1, 1];

/// A push certificate for `topic` with its key, both PEM, as Apple's portal would issue it.
///
/// RSA 2048, like Apple's: takes a tenth of a second and more.
pub fn push_certificate(topic: &str) -> Result<(String, String)> {
    let broken = |error| Error::caused("no push certificate could be made", error);
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).map_err(broken)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CustomDnType(USER_ID.to_vec()), topic);
    params.distinguished_name.push(DnType::CommonName, "APSP:simulated");
    params.distinguished_name.push(DnType::CountryName, "US");
    let certificate = params.self_signed(&key).map_err(broken)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// The service's TLS side and the root of its certificate, PEM.
pub(super) fn server() -> Result<(Arc<ServerConfig>, String)> {
    let broken = |error| Error::caused("the loopback push service has no certificate", error);
    let root_key = KeyPair::generate().map_err(broken)?;
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.distinguished_name.push(DnType::CommonName, "Loopback push service root");
    let root_certificate = root.self_signed(&root_key).map_err(broken)?;
    let issuer = Issuer::new(root, root_key);
    let key = KeyPair::generate().map_err(broken)?;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let leaf =
        CertificateParams::new(names).and_then(|leaf| leaf.signed_by(&key, &issuer)).map_err(broken)?;

    let unusable = |error| Error::caused("the loopback push service cannot speak TLS", error);
    let provider = provider::default_provider();
    let proof = Arc::new(AnyCertificate(provider.signature_verification_algorithms));
    let mut tls = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_client_cert_verifier(proof)
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .map_err(unusable)?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok((Arc::new(tls), root_certificate.pem()))
}

/// The UID in a certificate's subject.
pub(super) fn user_id(der: &[u8]) -> Option<String> {
    let dotted = USER_ID.map(|arc| arc.to_string()).join(".");
    let id = ber::oid(&dotted)?;
    let mut names = Reader(Certificate::read(der).ok()?.subject).enter(ber::SEQUENCE).ok()?;
    while let Some(relative) = names.next().ok()? {
        let mut pairs = Reader(relative.content);
        while let Some(pair) = pairs.next().ok()? {
            let mut pair = Reader(pair.content);
            if pair.expect(ber::OID).ok()?.whole == id {
                return String::from_utf8(pair.next().ok()??.content.to_vec()).ok();
            }
        }
    }
    None
}

#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for AnyCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer,
        _: &[CertificateDer],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
