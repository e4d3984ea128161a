//! What became of a push: Apple's answer, what it means for us, and a sentence for people.
//!
//! `client.rs` reads a [`Reply`], `mod.rs` hands callers a [`PushResult`], and `mdm::wake` acts on its
//! [`Verdict`]. Statuses and reasons: "Handling notification responses from APNs". Reasons stay
//! strings, since Apple adds to them.
//!
//! **Invariant:** an answer that we do not know never marks a token as dead: only the reasons listed
//! in [`Reply::verdict`] do.

use serde_json::{Value, json};

use crate::clock::{Seconds, rfc3339};

/// What APNs answered to one push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Apple's name for this push.
    pub apns_id: Option<String>,
    /// Why it was not accepted, e.g. `Unregistered`.
    pub reason: Option<String>,
    /// With 410: since when the token has been invalid (Apple sends milliseconds).
    pub timestamp: Option<Seconds>,
    /// `Retry-After`, when it was given in seconds.
    pub retry_after: Option<Seconds>,
}

/// What a reply means for whoever asked for the push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Accepted; the device is woken when it is reachable.
    Delivered,
    /// This token is of no use with this certificate. With `since`, only a token that was stored
    /// before that moment is meant: a newer TokenUpdate wins.
    TokenRejected {
        /// Since when Apple has known that the token is dead.
        since: Option<Seconds>,
    },
    /// The push certificate is missing, expired, revoked or the wrong one: no push of this topic
    /// will work, and a person has to act.
    CertificateProblem,
    /// The same push may succeed later.
    TryAgain {
        /// Not sooner than this, if Apple said so.
        after: Option<Seconds>,
    },
    /// We asked for something that APNs does not do; asking again changes nothing.
    Refused,
}

/// The outcome of one push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushResult {
    /// Absent when APNs gave no answer.
    pub reply: Option<Reply>,
    /// What to do about it.
    pub verdict: Verdict,
    /// A sentence for people.
    pub words: String,
}

impl PushResult {
    pub(super) fn answered(reply: Reply) -> Self {
        Self { verdict: reply.verdict(), words: reply.words(), reply: Some(reply) }
    }

    pub(super) fn certificate_problem(words: impl Into<String>) -> Self {
        Self { reply: None, verdict: Verdict::CertificateProblem, words: words.into() }
    }

    pub(super) fn try_again(words: impl Into<String>) -> Self {
        Self { reply: None, verdict: Verdict::TryAgain { after: None }, words: words.into() }
    }

    pub(super) fn refused(words: impl Into<String>) -> Self {
        Self { reply: None, verdict: Verdict::Refused, words: words.into() }
    }

    /// Whether APNs accepted the push.
    pub fn is_delivered(&self) -> bool {
        self.verdict == Verdict::Delivered
    }

    /// `{"status", "apns_id", "reason", "timestamp", "words"}`. `status` is null when APNs gave no
    /// answer; `timestamp` is RFC 3339; `words` is null when the push was accepted.
    pub fn to_json(&self) -> Value {
        let reply = self.reply.as_ref();
        json!({
            "status": reply.map(|reply| reply.status),
            "apns_id": reply.and_then(|reply| reply.apns_id.as_deref()),
            "reason": reply.and_then(|reply| reply.reason.as_deref()),
            "timestamp": reply.and_then(|reply| reply.timestamp).map(rfc3339),
            "words": (!self.is_delivered()).then_some(&self.words),
        })
    }
}

impl Reply {
    /// Reads status, headers (already as text) and body. A body that is not Apple's JSON is ignored:
    /// the status alone decides then.
    pub(super) fn read(status: u16, apns_id: Option<&str>, retry_after: Option<&str>, body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        Self {
            status,
            apns_id: apns_id.map(str::to_owned),
            reason: body["reason"].as_str().map(|reason| reason.chars().take(100).collect()),
            timestamp: body["timestamp"].as_i64().map(|milliseconds| milliseconds / 1000),
            retry_after: retry_after.and_then(|text| text.trim().parse().ok()).filter(|after| *after >= 0),
        }
    }

    /// What this reply means.
    pub fn verdict(&self) -> Verdict {
        match (self.status, self.reason.as_deref().unwrap_or_default()) {
            (200, _) => Verdict::Delivered,
            (400, "BadDeviceToken" | "DeviceTokenNotForTopic" | "MissingDeviceToken") => {
                Verdict::TokenRejected { since: None }
            }
            (410, _) => Verdict::TokenRejected { since: self.timestamp },
            (403, _) => Verdict::CertificateProblem,
            // An idle connection that Apple is closing says nothing about this push.
            (400, "IdleTimeout") | (429 | 500..=599, _) => Verdict::TryAgain { after: self.retry_after },
            _ => Verdict::Refused,
        }
    }

    /// What happened and what to do, for people.
    pub fn words(&self) -> String {
        if let Some(words) = self.reason.as_deref().and_then(known_reason) {
            return words.to_owned();
        }
        let said = match &self.reason {
            Some(reason) => format!("{} {reason}", self.status),
            None => self.status.to_string(),
        };
        match self.verdict() {
            Verdict::Delivered => "APNs accepted the push.".to_owned(),
            Verdict::TokenRejected { .. } => format!(
                "APNs no longer knows this device's push token (it answered {said}). The device is pushed \
                 again after its next TokenUpdate."
            ),
            Verdict::CertificateProblem => format!(
                "APNs does not accept the push certificate (it answered {said}). Renew it in Apple's portal \
                 and import it."
            ),
            Verdict::TryAgain { .. } => {
                format!("APNs cannot take the push now (it answered {said}). It is sent again later.")
            }
            Verdict::Refused => format!(
                "APNs refused the push (it answered {said}). Check [apns] server in russet.toml; if it is \
                 Apple's, please report this."
            ),
        }
    }
}

/// The certificate reasons that Apple may send as GOAWAY data instead of in an answer, found in
/// the text of a broken connection.
pub(super) fn certificate_reason(text: &str) -> Option<&'static str> {
    ["BadCertificateEnvironment", "BadCertificate", "Forbidden"]
        .into_iter()
        .find(|reason| text.contains(reason))
        .and_then(known_reason)
}

fn known_reason(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "BadDeviceToken" => {
            "APNs does not know this device's push token. The device is pushed again after its next \
             TokenUpdate; if this happens to all devices, the push certificate is probably another one \
             than they enrolled with."
        }
        "DeviceTokenNotForTopic" => {
            "This device enrolled with another push certificate: its token does not belong to this topic. \
             Import the certificate with the topic that the device enrolled with, or enroll it again."
        }
        "MissingDeviceToken" => {
            "The device has not sent a usable push token. It is pushed after its next TokenUpdate."
        }
        "Unregistered" | "ExpiredToken" => {
            "The device no longer accepts pushes with this token: it was erased or unenrolled, or it got a \
             new one. It is pushed again after its next TokenUpdate."
        }
        "BadCertificate" => {
            "APNs does not accept the push certificate: it is expired, revoked or not a push certificate. \
             Renew it in Apple's portal (Renew, not Create) and import it."
        }
        "BadCertificateEnvironment" => {
            "The push certificate is for another of Apple's push environments than [apns] server. MDM \
             certificates work with api.push.apple.com."
        }
        "Forbidden" => {
            "APNs forbids pushes with this push certificate. Look in Apple's portal whether it was revoked; \
             renew it and import it."
        }
        "MissingProviderToken" | "InvalidProviderToken" | "ExpiredProviderToken" => {
            "APNs did not see our push certificate and asks for a token instead. If something between this \
             server and Apple inspects TLS, exclude Apple's hosts from it."
        }
        "BadTopic" | "MissingTopic" | "TopicDisallowed" => {
            "APNs does not let this push certificate push to this topic. Import the certificate that has the \
             topic with which the device enrolled."
        }
        "TooManyRequests" => {
            "APNs takes no more pushes for this device for now. It is sent again in a few minutes."
        }
        "InternalServerError" | "ServiceUnavailable" | "Shutdown" => {
            "APNs has a problem of its own. The push is sent again soon; see \
             https://www.apple.com/support/systemstatus/."
        }
        "IdleTimeout" => "APNs closed an idle connection. The push is sent again.",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply::read(status, Some("id"), Some("30"), body.as_bytes())
    }

    #[test]
    fn a_dead_token_is_told_with_the_moment_it_died() {
        let gone = reply(410, r#"{"reason":"Unregistered","timestamp":1767225600123}"#);
        assert_eq!(gone.verdict(), Verdict::TokenRejected { since: Some(1_767_225_600) });
        let new_reason = reply(410, r#"{"reason":"SomethingNew","timestamp":1767225600000}"#);
        assert_eq!(new_reason.verdict(), Verdict::TokenRejected { since: Some(1_767_225_600) });
        assert!(new_reason.words().contains("410 SomethingNew"));
        assert_eq!(
            reply(400, r#"{"reason":"BadDeviceToken"}"#).verdict(),
            Verdict::TokenRejected { since: None }
        );
    }

    #[test]
    fn each_status_means_what_apple_says() {
        assert_eq!(reply(200, "").verdict(), Verdict::Delivered);
        assert_eq!(reply(403, r#"{"reason":"BadCertificate"}"#).verdict(), Verdict::CertificateProblem);
        assert_eq!(
            reply(429, r#"{"reason":"TooManyRequests"}"#).verdict(),
            Verdict::TryAgain { after: Some(30) }
        );
        assert_eq!(reply(503, "<html>").verdict(), Verdict::TryAgain { after: Some(30) });
        assert_eq!(reply(400, r#"{"reason":"BadTopic"}"#).verdict(), Verdict::Refused);
        assert_eq!(reply(400, r#"{"reason":7}"#).verdict(), Verdict::Refused);
        assert_eq!(reply(404, "[]").verdict(), Verdict::Refused);
        assert_eq!(Reply::read(503, None, Some("-1"), b"").retry_after, None);
    }

    #[test]
    fn the_api_shows_apples_answer() {
        let delivered = PushResult::answered(Reply::read(200, Some("A-1"), None, b""));
        assert_eq!(
            delivered.to_json().to_string(),
            r#"{"status":200,"apns_id":"A-1","reason":null,"timestamp":null,"words":null}"#
        );
        let lost = PushResult::try_again("the network is down").to_json();
        assert_eq!((&lost["status"], &lost["words"]), (&Value::Null, &json!("the network is down")));
    }

    #[test]
    fn goaway_data_can_name_the_certificate() {
        let text =
            r#"connection error received: not a result of an error (b"{\"reason\":\"BadCertificate\"}")"#;
        assert!(certificate_reason(text).is_some_and(|words| words.contains("expired")));
        assert_eq!(certificate_reason("connection error received: enhance your calm"), None);
    }
}
