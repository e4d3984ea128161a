//! `GET /enroll/{code}`, `GET, POST /enroll/{code}/profile`: what a person opens to have a device
//! managed, and what Apple Configurator asks in the person's place.
//!
//! `text` and `words` make the page, `visitor` reads who asks for it, `guesses` counts codes
//! that do not exist, `refusal` says no, `trust` hands out the TLS root. For POST see Apple's
//! "MachineInfo".
//!
//! **Invariant:** what is answered is a whole signed profile or a sentence, and a code that does not
//! exist is answered as one that never could.

mod refusal;
mod rights;
mod text;
mod trust;
mod visitor;
mod words;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router, middleware};

use super::guesses::Guesses;
use super::invitation::{self, Invitation};
use super::machine_info::MachineInfo;
use super::{Enroll, profile};
use refusal::{Refusal, Refused};
use visitor::Visitor;

pub(super) use trust::{Trust, routes as trust_routes};

/// Markup and one stylesheet of our own: nothing runs, nothing is sent anywhere, nobody frames it.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self' data:; \
                      form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

pub(super) fn routes() -> Router<Enroll> {
    Router::new()
        .route("/enroll/style.css", get(style))
        .route("/enroll/{code}", get(landing))
        .route("/enroll/{code}/profile", get(download).post(hand_over))
        .route_layer(middleware::map_response(harden))
        .layer(Extension(Arc::new(Guesses::default())))
}

type Code = Result<Path<String>, PathRejection>;

async fn landing(
    State(enroll): State<Enroll>,
    Extension(guesses): Extension<Arc<Guesses>>,
    visitor: Visitor,
    code: Code,
) -> Response {
    let invitation = match open(&enroll, &guesses, &visitor, code) {
        Ok(invitation) => invitation,
        Err(refusal) => {
            return Refused { refusal, language: visitor.language, as_page: true }.into_response();
        }
    };
    let self_signed = enroll.anchor().is_some();
    html(text::landing(&enroll.settings, &invitation, self_signed, &visitor))
}

async fn download(
    State(enroll): State<Enroll>,
    Extension(guesses): Extension<Arc<Guesses>>,
    visitor: Visitor,
    code: Code,
) -> Response {
    let given = match open(&enroll, &guesses, &visitor, code) {
        Ok(invitation) => signed(&enroll, &invitation).await,
        Err(refusal) => Err(refusal),
    };
    given.unwrap_or_else(|refusal| {
        Refused { refusal, language: visitor.language, as_page: visitor.reads_html }.into_response()
    })
}

async fn hand_over(
    State(enroll): State<Enroll>,
    Extension(guesses): Extension<Arc<Guesses>>,
    visitor: Visitor,
    code: Code,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let given = match open(&enroll, &guesses, &visitor, code) {
        Ok(invitation) => to_machine(&enroll, &invitation, body).await,
        Err(refusal) => Err(refusal),
    };
    given.unwrap_or_else(|refusal| {
        Refused { refusal, language: visitor.language, as_page: false }.into_response()
    })
}

/// The invitation behind a link, if it can be used now.
fn open(enroll: &Enroll, guesses: &Guesses, visitor: &Visitor, code: Code) -> Result<Invitation, Refusal> {
    let clock = enroll.store.clock();
    // A code that is not even text is looked up like any other, so that nobody learns what codes look like.
    let code = code.map(|Path(code)| code).unwrap_or_default();
    let found = enroll.store.peek(|conn| invitation::find(conn, &code)).map_err(Refusal::from)?;
    let Some(invitation) = found else {
        if guesses.miss(visitor.address, "enrollment links", clock.now()) {
            return Err(Refusal::Guessing);
        }
        // Before the first push certificate no link can be made, so whoever opens a page then is to read
        // what is missing; nobody learns from it whether a code exists.
        return Err(match enroll.obstacle().map_err(Refusal::from)? {
            Some(words) => Refusal::NotReady(words),
            None => Refusal::Unknown,
        });
    };
    // With a wrong clock nobody knows what has expired, and the obstacle says so.
    if clock.is_sane()
        && let Some(spent) = invitation.spent(clock.now())
    {
        return Err(Refusal::Spent(spent));
    }
    if let Some(words) = enroll.obstacle().map_err(Refusal::from)? {
        return Err(Refusal::NotReady(words));
    }
    Ok(invitation)
}

async fn to_machine(
    enroll: &Enroll,
    invitation: &Invitation,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let body = body.map_err(|_| Refusal::Cut)?;
    let machine = MachineInfo::from_signed(&body).map_err(Refusal::MachineInfo)?;
    if invitation.serial_number.as_ref().is_some_and(|wanted| *wanted != machine.serial_number) {
        return Err(Refusal::OtherDevice);
    }
    tracing::info!(
        udid = machine.udid,
        serial_number = machine.serial_number,
        product = machine.product,
        "a device or Apple Configurator asked for the enrollment profile"
    );
    signed(enroll, invitation).await
}

async fn signed(enroll: &Enroll, invitation: &Invitation) -> Result<Response, Refusal> {
    let profile = enroll.profile(invitation).await?;
    Ok(mobileconfig(profile, &file_name(&enroll.settings.organization)))
}

async fn style() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        // Long enough for one visit, short enough that an upgrade is seen.
        (header::CACHE_CONTROL, "max-age=300"),
    ];
    (headers, include_str!("page/style.css")).into_response()
}

fn html(page: String) -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
}

/// A signed profile, offered under a name that any browser and disk can keep.
fn mobileconfig(signed: impl Into<Body>, name: &str) -> Response {
    let disposition = format!("attachment; filename=\"{name}.mobileconfig\"");
    (
        [
            (header::CONTENT_TYPE, profile::CONTENT_TYPE.to_owned()),
            (header::CONTENT_DISPOSITION, disposition),
        ],
        signed.into(),
    )
        .into_response()
}

/// The organization's name in letters, digits and single hyphens of ASCII.
fn file_name(organization: &str) -> String {
    let words =
        organization.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name = words.take(8).collect::<Vec<_>>().join("-");
    if name.is_empty() || name.len() > 64 { "management".into() } else { name }
}

/// Puts the security headers on every answer.
async fn harden(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    answer
}
