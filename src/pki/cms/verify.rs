//! Verifying a signature in one step, for callers who see a signer once: MachineInfo, uploaded profiles.
//!
//! The hot path (`Mdm-Signature`) uses [`Signed`] directly, with a key that it keeps.
//!
//! **Invariant:** a [`Verified`] exists only after the signature over its content was checked.

use super::super::ber;
use super::super::certificate::Certificate;
use super::super::key::Hash;
use super::{CmsError, Signed};
use crate::clock::Seconds;

/// What a verified message said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub signer: Certificate,
    /// The DER of all certificates of the message, the signer's among them.
    pub certificates: Vec<Vec<u8>>,
    pub signing_time: Option<Seconds>,
    pub hash: Hash,
}

/// Verifies a detached signature (BER or DER) over `content`.
pub fn verify_detached(signature: &[u8], content: &[u8]) -> Result<Verified, CmsError> {
    let der = ber::to_der(signature)?;
    verified(&Signed::parse_detached(&der)?, content)
}

/// Verifies a signature (BER or DER) that embeds its content; answers both.
pub fn verify_attached(signature: &[u8]) -> Result<(Verified, Vec<u8>), CmsError> {
    let der = ber::to_der(signature)?;
    let signed = Signed::parse(&der)?;
    let content = signed.content().ok_or(CmsError::Detached)?;
    Ok((verified(&signed, content)?, content.to_vec()))
}

fn verified(signed: &Signed<'_>, content: &[u8]) -> Result<Verified, CmsError> {
    let signer = Certificate::from_der(signed.signer_der())?;
    signed.verify(content, &signer.public_key()?)?;
    Ok(Verified {
        signer,
        certificates: signed.certificates().iter().map(|der| der.to_vec()).collect(),
        signing_time: signed.signing_time()?,
        hash: signed.hash(),
    })
}
