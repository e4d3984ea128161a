//! The one error of the program.
//!
//! Parsers keep small enums of their own and convert where the context is known. `Display` never
//! includes the source: the chain is logged once, at the boundary that answers.
//!
//! **Invariant:** there is no HTTP in here. A status code is protocol on the device surface (401
//! can make a device unenroll), so each surface maps errors in its own `reply.rs`.

use std::error::Error as StdError;

/// What can go wrong, by who has to act.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The sender has to change what it sent; the words are for them.
    #[error("{words}")]
    Invalid {
        /// A sentence: what is wrong, and what to do.
        words: String,
        /// JSON Pointer (RFC 6901) from the root of what was sent, where that makes sense.
        pointer: Option<String>,
        /// What could stand there instead, as text (a value as JSON), where that can be told.
        suggestion: Option<String>,
    },
    /// No acceptable proof of who is calling.
    #[error("{0}")]
    Unauthenticated(String),
    /// The caller is known and may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// There is no such thing, or it is not the caller's; nobody is told which.
    #[error("there is no {0}")]
    NotFound(String),
    /// The request contradicts what is there; the words are for the sender.
    #[error("{words}")]
    Conflict {
        /// A sentence: what is in the way, and what to do.
        words: String,
        /// Members added to the `error` object, e.g. `existing_topic`, `enrollments`.
        details: serde_json::Map<String, serde_json::Value>,
    },
    /// A service of Apple's answered with an error or not at all.
    #[error("{service} did not do what was asked")]
    Apple {
        /// Which service, e.g. `APNs`.
        service: &'static str,
        /// What it answered.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Too much is waiting; the same request may succeed later.
    #[error("the server is busy; try again in a moment")]
    Busy,
    /// Our own failure, or the machine's: disk, database, a panic.
    #[error("{words}")]
    Internal {
        /// A sentence for the operator's log, never with secrets.
        words: String,
        /// What caused it.
        #[source]
        source: Option<Box<dyn StdError + Send + Sync>>,
    },
}

/// The result of everything fallible that is not a parser.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What was sent cannot be accepted; `words` say why and what to do.
    pub fn invalid(words: impl Into<String>) -> Self {
        Self::Invalid { words: words.into(), pointer: None, suggestion: None }
    }

    /// As [`Error::invalid`], pointing at the place in the body (RFC 6901).
    pub fn invalid_at(pointer: impl Into<String>, words: impl Into<String>) -> Self {
        Self::Invalid { words: words.into(), pointer: Some(pointer.into()), suggestion: None }
    }

    /// Points at this place, if it is about what was sent and points nowhere yet.
    #[must_use]
    pub fn or_at(mut self, place: &str) -> Self {
        if let Self::Invalid { pointer, .. } = &mut self {
            pointer.get_or_insert_with(|| place.to_owned());
        }
        self
    }

    /// Adds what could be sent instead; only what is invalid has such a thing.
    #[must_use]
    pub fn suggesting(mut self, text: impl Into<String>) -> Self {
        if let Self::Invalid { suggestion, .. } = &mut self {
            *suggestion = Some(text.into());
        }
        self
    }

    /// The request contradicts the state of the server.
    pub fn conflict(words: impl Into<String>) -> Self {
        Self::Conflict { words: words.into(), details: serde_json::Map::new() }
    }

    /// Our own failure, without a cause worth chaining.
    pub fn internal(words: impl Into<String>) -> Self {
        Self::Internal { words: words.into(), source: None }
    }

    /// Our own failure, with its cause.
    pub fn caused(words: impl Into<String>, source: impl StdError + Send + Sync + 'static) -> Self {
        Self::Internal { words: words.into(), source: Some(Box::new(source)) }
    }

    /// This error and its causes, joined by `: `, for a log line or a terminal.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let words = error.to_string();
            if !text.ends_with(&words) {
                text.push_str(": ");
                text.push_str(&words);
            }
            cause = error.source();
        }
        text
    }
}

impl From<rusqlite::Error> for Error {
    fn from(source: rusqlite::Error) -> Self {
        let words = match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => {
                "the disk is full: nothing was written; free space on the disk that holds the data folder"
            }
            Some(rusqlite::ErrorCode::ReadOnly) => {
                "the disk or the database is read-only: nothing was written; make the data folder writable"
            }
            Some(rusqlite::ErrorCode::SystemIoFailure) => {
                "the disk reports errors: nothing was written; check the card or disk that holds the data folder"
            }
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                "the database is damaged; stop the server and restore the newest backup"
            }
            _ => "the database refused an operation",
        };
        Self::caused(words, source)
    }
}
