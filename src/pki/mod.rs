//! Keys, certificates and the messages made with them.
//!
//! [`authority`] and [`tls_authority`] issue, [`identity`] knows what was issued, [`seal`] keeps keys
//! at rest; [`cms`], [`ber`], [`certificate`], [`key`] and [`scep`] read and write what others send,
//! within bounds and without a database.
//!
//! **Invariant:** no parser here panics or recurses without bound, whatever the bytes.

pub mod asn1;
pub mod authority;
pub mod ber;
pub mod certificate;
pub mod chain;
pub mod cms;
pub mod identity;
pub mod key;
pub mod name;
pub mod pem;
pub mod scep;
pub mod seal;
mod template;
pub mod tls_authority;
pub mod tls_judge;
pub mod tls_names;
