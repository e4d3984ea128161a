//! The plain page for people, and how a browser signs in to it.
//!
//! `GET, POST /sign-in/{code}` (a link from `russet serve`, `russet admin link` or `russet demo`),
//! `GET, POST /recovery-key` (`recovery_page`), `GET /` (devices, and their commands as they are answered), `POST /sign-out`, and the files in
//! `ui/`. The page is static and reads the API; whatever a device says reaches it as JSON only.
//!
//! **Invariant:** no text of a device or a person is ever written into HTML here, and [`POLICY`] lets
//! nothing run but our own files.

use axum::Extension;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::{
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY, SET_COOKIE, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::reply::Refusal;
use super::{Admin, auth, recovery_page, session};
use crate::request::Peer;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/", get(home))
        .route("/sign-in/{code}", get(offer).post(sign_in))
        .route("/sign-out", post(sign_out))
        .route("/recovery-key", get(recovery_page::show).post(recovery_page::written_down))
        .route("/ui/page.css", get(async || file("text/css; charset=utf-8", include_str!("ui/page.css"))))
        .route(
            "/ui/page.js",
            get(async || file("text/javascript; charset=utf-8", include_str!("ui/page.js"))),
        )
        .route_layer(middleware::map_response(harden))
}

async fn home(State(admin): State<Admin>, headers: HeaderMap) -> Result<Response, Refusal> {
    let signed_in = match auth::cookie(&headers) {
        Some(cookie) => {
            let now = admin.now();
            admin.mdm.store.peek(|conn| session::is_open(conn, &cookie, now))?
        }
        None => false,
    };
    Ok(html(if signed_in { include_str!("ui/devices.html") } else { include_str!("ui/signed-out.html") }))
}

/// A page with a button: programs that preview links open them, and would use this one up.
async fn offer(
    State(admin): State<Admin>,
    peer: Option<Extension<Peer>>,
    Path(code): Path<String>,
) -> Result<Response, Refusal> {
    let now = admin.now();
    if admin.mdm.store.peek(|conn| session::is_link(conn, &code, now))? {
        return Ok(html(include_str!("ui/sign-in.html")));
    }
    spent(&admin, peer)
}

async fn sign_in(
    State(admin): State<Admin>,
    peer: Option<Extension<Peer>>,
    Path(code): Path<String>,
) -> Result<Response, Refusal> {
    // Whoever guesses is answered by the readers: the writer is for links that may be good.
    let now = admin.now();
    if !admin.mdm.store.peek(|conn| session::is_link(conn, &code, now))? {
        return spent(&admin, peer);
    }
    let opened = admin.mdm.store.write("sign_in", move |tx| session::sign_in(tx, &code)).await?;
    match opened {
        Some(cookie) => {
            let place = if recovery_page::is_due(&admin)? { "/recovery-key" } else { "/" };
            Ok(redirect_with(place, &set_cookie(&cookie, session::SESSION_LIFE)))
        }
        None => spent(&admin, peer),
    }
}

async fn sign_out(State(admin): State<Admin>, headers: HeaderMap) -> Result<Response, Refusal> {
    // The cookie is SameSite=Strict: a page of somebody else's comes without it and ends nothing.
    // One that opens nothing is forgotten by the browser, and the writer never hears of it.
    let now = admin.now();
    if let Some(cookie) = auth::cookie(&headers)
        && admin.mdm.store.peek(|conn| session::is_open(conn, &cookie, now))?
    {
        admin.mdm.store.write("sign_out", move |tx| session::sign_out(tx, &cookie)).await?;
    }
    Ok(redirect_with("/", &set_cookie("", 0)))
}

/// A link that was used, has ended, or never was.
fn spent(admin: &Admin, peer: Option<Extension<Peer>>) -> Result<Response, Refusal> {
    let address = peer.and_then(|Extension(peer)| peer.address());
    if admin.guesses.miss(address, "sign-in links", admin.now()) {
        return Err(Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too many links that do not exist were opened from this address; wait a minute",
        ));
    }
    let page = html(include_str!("ui/link-spent.html"));
    Ok((StatusCode::NOT_FOUND, page).into_response())
}

fn set_cookie(value: &str, seconds: i64) -> String {
    format!("{}={value}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age={seconds}", session::COOKIE)
}

fn redirect_with(place: &str, cookie: &str) -> Response {
    let headers = [(LOCATION, place), (SET_COOKIE, cookie)];
    (StatusCode::SEE_OTHER, headers).into_response()
}

fn html(text: &'static str) -> Response {
    file("text/html; charset=utf-8", text)
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(CONTENT_TYPE, kind)], text).into_response()
}

async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    response
}
