//! SCEP (RFC 8894): how a device asks for its identity certificate.
//!
//! [`message`] is the format of requests and replies; what is issued to whom is decided elsewhere.
//!
//! **Invariant:** only PKCSReq and RenewalReq are understood; every other message type is refused.

pub mod csr;
pub mod message;
