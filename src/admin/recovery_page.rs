//! `GET, POST /recovery-key`: the page that shows the recovery key until somebody wrote it down.
//!
//! Signing in leads here first. The key is written into the page here and nowhere else, since it is ours:
//! letters, digits and a dash, whatever anybody sends.
//!
//! **Invariant:** only an open session of a browser is shown it.

use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Response};

use super::reply::Refusal;
use super::{Admin, auth, backup, session};
use crate::error::Result;

/// Whether it is still to be shown after signing in.
pub(super) fn is_due(admin: &Admin) -> Result<bool> {
    let known = admin.mdm.store.peek(crate::backup::known)?;
    Ok(known.is_some_and(|known| known.written_down_at.is_none()))
}

pub(super) async fn show(State(admin): State<Admin>, headers: HeaderMap) -> Result<Response, Refusal> {
    if !is_signed_in(&admin, &headers)? {
        return Ok(home());
    }
    let known = backup::shown(&admin, "session".into()).await?;
    let page = match known["recovery_key"].as_str() {
        Some(secret) => include_str!("ui/recovery-key.html")
            .replace("{recovery-key}", &letters(secret))
            .replace("{public-key}", &letters(known["public_key"].as_str().unwrap_or_default())),
        None => include_str!("ui/recovery-key-elsewhere.html").to_owned(),
    };
    Ok(Html(page).into_response())
}

/// The cookie is SameSite=Strict: a page of somebody else's comes without it and says nothing.
pub(super) async fn written_down(
    State(admin): State<Admin>,
    headers: HeaderMap,
    public_key: String,
) -> Result<Response, Refusal> {
    if is_signed_in(&admin, &headers)? {
        let public_key = public_key.trim_end().strip_prefix("public_key=").unwrap_or_default().to_owned();
        backup::acknowledge(&admin, "session".into(), public_key).await?;
    }
    Ok(home())
}

fn is_signed_in(admin: &Admin, headers: &HeaderMap) -> Result<bool> {
    let Some(cookie) = auth::cookie(headers) else { return Ok(false) };
    let now = admin.now();
    admin.mdm.store.peek(|conn| session::is_open(conn, &cookie, now))
}

fn home() -> Response {
    (StatusCode::SEE_OTHER, [(LOCATION, "/")]).into_response()
}

fn letters(text: &str) -> String {
    text.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-').collect()
}
