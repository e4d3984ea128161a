//! A finding: something that an administrator should know of, with what to do about it.
//!
//! Each part of the server that can tell what is wrong with its matter makes them; `doctor` gathers
//! them for `russet doctor` and `GET /api/v1/findings`.
//!
//! **Invariant:** every word of a finding may be shown to whoever may read the fleet: no secret, and
//! what a device or a stranger said is made printable before it comes in here.

use serde::Serialize;
use serde_json::Value;

/// How bad it is; the worst comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It was looked at and is well.
    Ok,
    /// Worth knowing; nothing has to be done.
    Info,
    /// Something will fail if nobody acts.
    Warning,
    /// Something fails now: `russet doctor` ends with exit code 1.
    Failing,
}

/// One finding, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind of finding it is, in kebab-case: `push-certificate-expires`. The documents explain each.
    pub code: &'static str,
    /// What it is about: a host, a certificate, a folder, an enrollment.
    pub subject: String,
    /// How bad it is.
    pub severity: Severity,
    /// What was seen, a sentence.
    pub seen: String,
    /// What it means, a sentence.
    pub means: String,
    /// What to do, a sentence; empty if nothing has to be done.
    pub remedy: String,
}

impl Finding {
    /// A finding of something that was looked at and is well.
    pub fn ok(code: &'static str, subject: impl Into<String>, seen: impl Into<String>) -> Self {
        Self {
            code,
            subject: subject.into(),
            severity: Severity::Ok,
            seen: seen.into(),
            means: String::new(),
            remedy: String::new(),
        }
    }
}

/// Findings as a terminal shows them; `answer` is `{"items": […]}` as the API answers it.
pub fn text(answer: &Value) -> String {
    let mut text = String::new();
    for (severity, word) in [("failing", "FAILS"), ("warning", "WARNS"), ("info", "NOTE"), ("ok", "ok")] {
        for one in items(answer, severity) {
            let of = |key: &str| one[key].as_str().unwrap_or_default();
            text.push_str(&format!("{word:<6} {} ({})\n", of("code"), of("subject")));
            for part in ["seen", "means", "remedy"].map(of) {
                if !part.is_empty() {
                    text.push_str(&format!("       {part}\n"));
                }
            }
        }
    }
    let count = |severity| items(answer, severity).count();
    text.push_str(&match (count("failing"), count("warning")) {
        (0, 0) => "Nothing fails.\n".to_owned(),
        (failing, warning) => format!("{failing} of these fail, {warning} warn.\n"),
    });
    text
}

/// Whether anything of an answer fails now.
pub fn is_failing(answer: &Value) -> bool {
    items(answer, "failing").next().is_some()
}

fn items<'a>(answer: &'a Value, severity: &'static str) -> impl Iterator<Item = &'a Value> {
    answer["items"].as_array().into_iter().flatten().filter(move |one| one["severity"] == severity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_are_ordered_and_written_in_lower_case() {
        assert!(Severity::Ok < Severity::Info && Severity::Warning < Severity::Failing);
        let json = serde_json::to_value(Finding::ok("clock", "clock", "It is right.")).unwrap();
        assert_eq!(json["severity"], "ok");
    }
}
