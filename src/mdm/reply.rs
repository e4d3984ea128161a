//! What devices are answered.
//!
//! A status code is protocol on this surface: 401, or 403 with `com.apple.unrecognized.device`,
//! makes a device unenroll (Apple: "Unrecognized device error"). So errors do not turn into
//! responses by themselves: each becomes a [`Refusal`], and nothing but [`Refusal::Unenroll`] can
//! end management.
//!
//! **Invariant:** every other refusal is 400, 404, 410, 500 or 503.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::enrollment::Enrollment;
use crate::error::Error;

/// A successful answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// 200 without a body: done.
    Empty,
    /// 200 with an XML property list.
    Plist(Vec<u8>),
    /// 200 with a JSON document (declarative management).
    Json(Vec<u8>),
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let (kind, body) = match self {
            Self::Empty => return Response::new(Body::empty()),
            Self::Plist(body) => ("application/xml", body),
            Self::Json(body) => ("application/json", body),
        };
        let mut response = Response::new(Body::from(body));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }
}

/// An answer that is not what was asked for.
#[derive(Debug)]
pub enum Refusal {
    /// 400: the message or its proof is not acceptable. The words go to the device's log.
    Bad(String),
    /// 404: not this enrollment's.
    NotFound,
    /// 410 to UserAuthenticate: this user is not managed.
    UserNotManaged,
    /// 500 or 503: our own failure; the device tries again later.
    Failed(Error),
    /// Ends management, on purpose. `by_401` for systems older than the 403 (iOS and tvOS 17,
    /// macOS 14, watchOS 10, visionOS 1.1).
    Unenroll { by_401: bool },
}

impl Refusal {
    /// A refusal in words.
    pub fn bad(words: impl Into<String>) -> Self {
        Self::Bad(words.into())
    }

    /// The answer that makes this device unenroll.
    pub fn unenroll(enrollment: &Enrollment) -> Self {
        Self::unenroll_as(enrollment.product_name.as_deref(), enrollment.os_version.as_deref())
    }

    /// As [`Refusal::unenroll`], by what it said of itself.
    pub fn unenroll_as(product_name: Option<&str>, os_version: Option<&str>) -> Self {
        let product = product_name.unwrap_or_default();
        let since = match product.split(|c: char| c.is_ascii_digit()).next() {
            Some("Watch") => 10,
            Some("RealityDevice") => 1,
            Some("iPhone" | "iPad" | "iPod" | "AppleTV") => 17,
            _ => 14,
        };
        let major = os_version.and_then(|version| version.split('.').next()?.parse().ok());
        Self::Unenroll { by_401: major.is_some_and(|major: u32| major < since) }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid { words, .. } | Error::Conflict { words, .. } => Self::Bad(words),
            Error::Unauthenticated(words) | Error::Forbidden(words) => Self::Bad(words),
            Error::NotFound(_) => Self::NotFound,
            failure @ (Error::Busy | Error::Apple { .. } | Error::Internal { .. }) => Self::Failed(failure),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Bad(words) => {
                tracing::info!(refused = words, "a device's request was refused");
                (StatusCode::BAD_REQUEST, words).into_response()
            }
            Self::NotFound => StatusCode::NOT_FOUND.into_response(),
            Self::UserNotManaged => StatusCode::GONE.into_response(),
            Self::Failed(Error::Busy) => {
                (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "10")]).into_response()
            }
            Self::Failed(error) => {
                tracing::error!(error = error.chain(), "a device's request failed");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
            Self::Unenroll { by_401: true } => StatusCode::UNAUTHORIZED.into_response(),
            Self::Unenroll { by_401: false } => {
                let body = r#"{"code":"com.apple.unrecognized.device","description":"This device is not managed by this server any more."}"#;
                (StatusCode::FORBIDDEN, [(header::CONTENT_TYPE, "application/json")], body).into_response()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mdm::enrollment::State;

    fn device(product: &str, os: &str) -> Enrollment {
        Enrollment {
            id: "U".into(),
            parent_id: None,
            state: State::Unenrolled,
            session_id: None,
            serial_number: None,
            os_version: Some(os.into()),
            product_name: Some(product.into()),
            topic: None,
            unenroll_at: Some(1),
            unenroll_told_at: None,
            erased_at: None,
        }
    }

    #[test]
    fn only_systems_that_know_no_403_are_told_by_401() {
        for (product, os, by_401) in [
            ("iPhone17,3", "26.1", false),
            ("iPhone12,1", "16.7.2", true),
            ("Mac14,2", "14.0", false),
            ("MacBookPro16,1", "13.6", true),
            ("Watch7,1", "11.0", false),
            ("RealityDevice14,1", "2.0", false),
            ("AppleTV14,1", "16.6", true),
        ] {
            let Refusal::Unenroll { by_401: told } = Refusal::unenroll(&device(product, os)) else {
                panic!("{product}")
            };
            assert_eq!(told, by_401, "{product} {os}");
        }
    }

    #[test]
    fn no_error_ends_management() {
        let errors = [
            Error::invalid("x"),
            Error::Unauthenticated("x".into()),
            Error::Forbidden("x".into()),
            Error::NotFound("x".into()),
            Error::conflict("x"),
            Error::Busy,
            Error::internal("x"),
        ];
        for error in errors {
            let status = Refusal::from(error).into_response().status().as_u16();
            assert!([400, 404, 500, 503].contains(&status), "{status}");
        }
    }
}
