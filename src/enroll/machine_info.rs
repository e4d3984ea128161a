//! MachineInfo: what a device, or Apple Configurator in its name, says when it asks for a profile.
//!
//! The body is a CMS SignedData with the property list inside; see Apple's "MachineInfo". The signer
//! is a certificate from the factory under "Apple iPhone Device CA". Here the signature shows only
//! that the body is whole and that its sender holds the key: the link is the authorization, and who
//! has it could as well open the page. Whether the signer is Apple's is for Automated Device
//! Enrollment, where the serial number decides.
//!
//! **Invariant:** nothing in it is believed beyond this request; Authenticate says the facts again.

use crate::pki::cms::{self, CmsError};
use crate::plist::{self, Dictionary, PlistError};

/// The longest that a name of Apple's gets is 40 characters.
const LONGEST: usize = 128;

/// The keys that every device sends and we look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineInfo {
    pub udid: String,
    pub serial_number: String,
    /// The hardware, e.g. `iPad13,18`.
    pub product: String,
}

/// Why a MachineInfo was refused; each is a sentence for whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MachineInfoError {
    /// Not CMS, or a signature that does not hold.
    #[error(
        "This is not a MachineInfo signed by a device ({0}). Open the link without /profile in a browser, or give it to Apple Configurator."
    )]
    Signature(#[from] CmsError),
    /// Signed, but no property list, or a key is missing or of another type.
    #[error("The signed MachineInfo cannot be read: {0}.")]
    Content(#[from] PlistError),
    /// A key that is empty, too long or not text.
    #[error("The signed MachineInfo has no usable {0}: it has to be 1 to {LONGEST} printable characters.")]
    Unusable(&'static str),
}

impl MachineInfo {
    /// Reads a signed MachineInfo (BER or DER, content attached).
    ///
    /// # Errors
    /// As [`MachineInfoError`]; the caller has limited the size to [`super::BODY_LIMIT`].
    pub fn from_signed(body: &[u8]) -> Result<Self, MachineInfoError> {
        let (_signer, content) = cms::verify_attached(body)?;
        let content = plist::parse_dict(&content)?;
        Ok(Self {
            udid: name(&content, "UDID")?,
            serial_number: name(&content, "SERIAL")?,
            product: name(&content, "PRODUCT")?,
        })
    }
}

fn name(content: &Dictionary, key: &'static str) -> Result<String, MachineInfoError> {
    let text = plist::needed(key, plist::string(content, key)?)?;
    if text.is_empty() || text.len() > LONGEST || !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(MachineInfoError::Unusable(key));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plist::Value;

    fn read(entries: &[(&str, Value)]) -> Result<String, MachineInfoError> {
        let mut content = Dictionary::new();
        for (key, value) in entries {
            content.insert((*key).to_owned(), value.clone());
        }
        name(&content, "SERIAL")
    }

    #[test]
    fn what_is_not_signed_is_refused_in_words() {
        for body in [&b""[..], b"<plist/>", b"bplist00", &[0x30, 0x80, 0, 0], &[0x30; 4096]] {
            let refused = MachineInfo::from_signed(body).unwrap_err();
            assert!(matches!(refused, MachineInfoError::Signature(_)), "{refused:?}");
            assert!(refused.to_string().starts_with("This is not a MachineInfo signed by a device"));
        }
    }

    #[test]
    fn a_name_is_printable_and_short() {
        assert_eq!(read(&[("SERIAL", "C02X1234".into())]).unwrap(), "C02X1234");
        for bad in
            [String::new(), "x".repeat(LONGEST + 1), "\u{202e}C02".into(), "C02\0".into(), "C02\n".into()]
        {
            assert_eq!(read(&[("SERIAL", bad.into())]), Err(MachineInfoError::Unusable("SERIAL")));
        }
        assert!(matches!(read(&[]), Err(MachineInfoError::Content(_))));
        assert!(matches!(read(&[("SERIAL", 7.into())]), Err(MachineInfoError::Content(_))));
    }
}
