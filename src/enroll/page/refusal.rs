//! Why a link or a request is refused, in words: as a page for a person, as a line for a program.
//!
//! **Invariant:** 401 and 403 never appear here: to a device they can mean the end of management.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::text;
use super::visitor::Language;
use crate::enroll::invitation::Spent;
use crate::enroll::machine_info::MachineInfoError;
use crate::error::Error;

#[derive(Debug)]
pub(super) enum Refusal {
    /// No such link, or nothing that could be one.
    Unknown,
    /// No such link, too often.
    Guessing,
    Spent(Spent),
    /// Nobody can enroll now; what the administrator has to do.
    NotReady(String),
    /// The link is for another serial number.
    OtherDevice,
    MachineInfo(MachineInfoError),
    /// The body did not arrive; where it was too large or too slow, the server says so instead.
    Cut,
    Busy,
    Failed,
    /// There is no TLS root of our own.
    NothingToTrust,
}

impl From<Error> for Refusal {
    /// What [`crate::enroll::Enroll`] and the database answer.
    fn from(error: Error) -> Self {
        match error {
            Error::Conflict { words, .. } => Self::NotReady(words),
            // It was whole when it was looked up a moment ago, and only time has passed.
            Error::Invalid { .. } => Self::Spent(Spent::Expired),
            Error::Busy => Self::Busy,
            error => {
                tracing::error!(error = error.chain(), "an enrollment page could not be served");
                Self::Failed
            }
        }
    }
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Unknown | Self::NothingToTrust => StatusCode::NOT_FOUND,
            Self::Guessing => StatusCode::TOO_MANY_REQUESTS,
            Self::Spent(_) => StatusCode::GONE,
            Self::NotReady(_) | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::OtherDevice => StatusCode::CONFLICT,
            Self::MachineInfo(_) | Self::Cut => StatusCode::BAD_REQUEST,
            Self::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// A headline and a sentence for the person.
    fn words(&self, language: Language) -> (&'static str, String) {
        let (english, german): ((&str, &str), (&str, &str)) = match self {
            Self::Unknown => (
                (
                    "No such link",
                    "There is no such link. Copy it again as a whole, or ask your administrator for a new one.",
                ),
                (
                    "Diesen Link gibt es nicht",
                    "Diesen Link gibt es nicht. Kopiere ihn noch einmal ganz, oder bitte deine Administration um einen neuen.",
                ),
            ),
            Self::Guessing => (
                (
                    "Too many attempts",
                    "Too many links that do not exist were opened from your network. Wait a minute and try again.",
                ),
                (
                    "Zu viele Versuche",
                    "Aus deinem Netz wurden zu viele Links geöffnet, die es nicht gibt. Warte eine Minute und versuche es noch einmal.",
                ),
            ),
            Self::Spent(spent) => {
                (("This link has ended", spent.words()), ("Dieser Link gilt nicht mehr", in_german(*spent)))
            }
            Self::NotReady(_) => (
                (
                    "Not ready yet",
                    "Devices cannot be enrolled here at the moment. Nothing is wrong with your device; try again later.",
                ),
                (
                    "Noch nicht bereit",
                    "Im Moment können hier keine Geräte angemeldet werden. Mit deinem Gerät ist alles in Ordnung; versuche es später noch einmal.",
                ),
            ),
            Self::OtherDevice => (
                (
                    "For another device",
                    "This link was made for a device with another serial number. Ask your administrator for a link for this device.",
                ),
                (
                    "Für ein anderes Gerät",
                    "Dieser Link ist für ein Gerät mit einer anderen Seriennummer. Bitte deine Administration um einen Link für dieses Gerät.",
                ),
            ),
            Self::MachineInfo(error) => return ("Not understood", error.to_string()),
            Self::Cut => {
                return ("Incomplete", "The request did not arrive as a whole; send it again.".into());
            }
            Self::Busy => (
                ("Busy", "The server is busy. Try again in a moment."),
                ("Beschäftigt", "Der Server ist beschäftigt. Versuche es gleich noch einmal."),
            ),
            Self::Failed => (
                (
                    "Something went wrong",
                    "Something went wrong on the server. Try again; if it stays, tell your administrator, who finds the cause in the server's log.",
                ),
                (
                    "Etwas ist schiefgegangen",
                    "Auf dem Server ist etwas schiefgegangen. Versuche es noch einmal; bleibt es dabei, sage es deiner Administration: Die Ursache steht im Protokoll des Servers.",
                ),
            ),
            Self::NothingToTrust => (
                (
                    "Nothing to install",
                    "This server has no private certificate to trust: its certificate is publicly trusted. Go on with Install.",
                ),
                (
                    "Nichts zu installieren",
                    "Dieser Server hat kein eigenes Zertifikat, dem zu vertrauen wäre: Seines ist öffentlich anerkannt. Fahre mit Installieren fort.",
                ),
            ),
        };
        let (title, words) = match language {
            Language::English => english,
            Language::German => german,
        };
        (title, words.into())
    }
}

fn in_german(spent: Spent) -> &'static str {
    match spent {
        Spent::Revoked => "Dieser Link wurde zurückgezogen. Bitte deine Administration um einen neuen.",
        Spent::Expired => "Dieser Link ist abgelaufen. Bitte deine Administration um einen neuen.",
        Spent::UsedUp => {
            "Dieser Link wurde so oft benutzt, wie er gemacht war. Bitte deine Administration um einen neuen."
        }
    }
}

/// A refusal on its way out.
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    pub(super) language: Language,
    pub(super) as_page: bool,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (title, words) = self.refusal.words(self.language);
        let for_administrator = match &self.refusal {
            Refusal::NotReady(words) => Some(words.as_str()),
            _ => None,
        };
        let mut answer = if self.as_page {
            super::html(text::refusal(self.language, title, &words, for_administrator))
        } else {
            let line = match for_administrator {
                Some(more) => format!("{words} {more}\n"),
                None => format!("{words}\n"),
            };
            ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], line).into_response()
        };
        *answer.status_mut() = self.refusal.status();
        let seconds = match self.refusal {
            Refusal::Guessing => "60",
            Refusal::Busy => "10",
            _ => return answer,
        };
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        answer
    }
}
