//! Why a simulated device did not get what it wanted.
//!
//! The words are those of somebody who watches the device: they end up, grouped, in the
//! [`super::report::Report`] and name the server's mistake where there is one.
//!
//! **Invariant:** only [`Fault::Unenrolled`] ends management; after every other fault the device
//! keeps its profile and tries again later, as Apple's do.

use super::ber::Malformed;
use crate::error::Error;

/// What went wrong, from the device's side.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Fault {
    /// The server ended management: 401, or 403 with `com.apple.unrecognized.device`.
    #[error("{step} was answered {status}: the device removes its management profile")]
    Unenrolled {
        /// What the device had sent, e.g. `TokenUpdate`.
        step: String,
        /// 401 or 403.
        status: u16,
    },
    /// The server answered with a status that is not success.
    #[error("{step} was answered {status}{}", words(.body))]
    Refused {
        /// What the device had sent, e.g. `TokenUpdate`.
        step: String,
        /// The HTTP status.
        status: u16,
        /// The first 200 characters of the body.
        body: String,
    },
    /// No answer: name, connection, TLS or HTTP.
    #[error("{0}")]
    Unreachable(String),
    /// The server sent something that a device does not accept.
    #[error("{0}")]
    Unacceptable(String),
}

fn words(body: &str) -> String {
    if body.is_empty() { String::new() } else { format!(": {body}") }
}

impl Fault {
    pub(super) fn unacceptable(words: impl Into<String>) -> Self {
        Self::Unacceptable(words.into())
    }
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self::Unacceptable(malformed.to_string())
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::invalid(fault.to_string())
    }
}
