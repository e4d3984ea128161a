//! Asking for client certificates without judging them.
//!
//! Used by `tls`. A device whose identity expired has to come through to be renewed, and a foreign
//! certificate is refused where the route is known, in words; a handshake that fails says nothing.
//! See RFC 8446 sections 4.3.2 and 4.4.3, RFC 5246 sections 7.4.4 and 7.4.8.
//!
//! **Invariant:** a certificate that reaches a request was presented by somebody who holds its key.

use std::sync::{Arc, OnceLock};

use der::{Decode, Encode};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved, SignatureScheme,
};
use x509_cert::certificate::{CertificateInner, Raw};

/// Asks for a certificate of one authority and takes any; cheap to clone.
///
/// Nobody is asked before the authority is named: without its name browsers would offer people
/// every certificate that they have.
#[derive(Clone, Debug)]
pub struct ClientCertificates(Arc<Asked>);

#[derive(Debug)]
struct Asked {
    authority: OnceLock<Vec<DistinguishedName>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Default for ClientCertificates {
    fn default() -> Self {
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        Self(Arc::new(Asked { authority: OnceLock::new(), algorithms }))
    }
}

impl ClientCertificates {
    /// From now on asks for certificates of the authority with this subject (DER); the first counts.
    pub fn name_authority(&self, subject_der: &[u8]) {
        self.0.authority.get_or_init(|| vec![DistinguishedName::from(subject_der.to_vec())]);
    }

    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        self.0.clone()
    }
}

impl Asked {
    /// Whether the key of `certificate` signed `message`. The certificate is read loosely: some
    /// carry serial numbers or extensions that a verifier of chains refuses.
    fn prove(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
        first_only: bool,
    ) -> Result<HandshakeSignatureValid, Error> {
        let unreadable = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
        let certificate = CertificateInner::<Raw>::from_der(certificate).map_err(unreadable)?;
        let key = certificate.tbs_certificate().subject_public_key_info();
        // The library's identifiers are the contents of an AlgorithmIdentifier, without its header.
        let mut kind = key.algorithm.oid.to_der().map_err(unreadable)?;
        if let Some(parameters) = &key.algorithm.parameters {
            parameters.encode_to_vec(&mut kind).map_err(unreadable)?;
        }
        let bits = key.subject_public_key.raw_bytes();
        let (_, algorithms) = self
            .algorithms
            .mapping
            .iter()
            .find(|(scheme, _)| *scheme == signed.scheme)
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        // In TLS 1.3 a scheme names its curve; in 1.2 any curve goes with any hash.
        let tried = if first_only { 1 } else { algorithms.len() };
        let proven = algorithms.iter().take(tried).any(|algorithm| {
            algorithm.public_key_alg_id().as_ref() == kind.as_slice()
                && algorithm.verify_signature(bits, message, signed.signature()).is_ok()
        });
        if proven {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::BadSignature))
        }
    }
}

impl ClientCertVerifier for Asked {
    fn offer_client_auth(&self) -> bool {
        self.authority.get().is_some()
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authority.get().map_or(&[], Vec::as_slice)
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.prove(message, certificate, signed, false)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let pkcs1 = [
            SignatureScheme::RSA_PKCS1_SHA256,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::RSA_PKCS1_SHA512,
        ];
        // RFC 8446 section 4.2.3: in handshakes of TLS 1.3, RSA signs with PSS.
        if pkcs1.contains(&signed.scheme) {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        self.prove(message, certificate, signed, true)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
