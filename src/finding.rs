//! A finding: something that was looked at, what was seen, what it means, and what to do.
//!
//! Each part of the program makes its own (`findings` beside what they are about); `doctor` gathers them for
//! `russet doctor` and `GET /api/v1/findings`.

use serde::Serialize;

/// How much a finding matters. In order: the last is the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing to do.
    Info,
    /// It will hurt later, or hurts a little now.
    Warning,
    /// Something does not work. `russet doctor` ends with 1.
    Failing,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A name that stays, for scripts: `push-certificate.expires`, `clock.wrong`.
    pub code: &'static str,
    pub severity: Severity,
    /// What it is about: a topic, a host, a folder, an enrollment's ID.
    pub subject: String,
    /// What was seen: a sentence.
    pub seen: String,
    /// What that means for the people and the devices: a sentence. Empty if all is well.
    pub meaning: String,
    /// What to do: a sentence. Empty if there is nothing to do.
    pub remedy: String,
}

impl Finding {
    /// All is well with `subject`.
    pub fn ok(code: &'static str, subject: impl Into<String>, seen: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Ok,
            subject: subject.into(),
            seen: seen.into(),
            meaning: String::new(),
            remedy: String::new(),
        }
    }

    /// Something to know or to mend.
    pub fn new(
        severity: Severity,
        code: &'static str,
        subject: impl Into<String>,
        seen: impl Into<String>,
        meaning: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            code,
            severity,
            subject: subject.into(),
            seen: seen.into(),
            meaning: meaning.into(),
            remedy: remedy.into(),
        }
    }
}
