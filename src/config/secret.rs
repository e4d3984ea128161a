//! A value that may be used and must not be seen.
//!
//! Holds `webhook.secret`, `mail.password` and `wifi.password`. Whoever needs the text asks for it by name, which is
//! easy to find in a review; everything that prints a configuration gets an ellipsis.
//!
//! **Invariant:** there is no `Display`, and `Debug` never shows the text.

use std::fmt;

/// A secret of the configuration.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// What was written.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown_by_debug() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{:?}", Some(&secret)), "Some(…)");
        assert_eq!(secret.reveal(), "hunter2");
    }
}
