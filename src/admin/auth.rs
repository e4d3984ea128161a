//! Who is asking, and whether they may.
//!
//! [`require`] stands before every route of the API: a token as `Authorization: Bearer` or as the
//! password of HTTP Basic, the browser's session, or the socket on this machine. The routes' table in
//! `mod.rs` says which scope each needs.
//!
//! **Invariant:** no handler of the API runs without a [`Caller`] of at least its route's scope, and
//! nothing that a request says of itself (`X-Forwarded-For` …) changes whose misses are counted, unless
//! a trusted proxy says it (`request::forwarded`).

use std::net::IpAddr;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::reply::Refusal;
use super::{Admin, session, token};
use crate::request::Peer;

/// What somebody may do; each includes what stands before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// Every GET, without secrets and invitation codes.
    Read,
    /// Commands and pushes that take nothing from anyone.
    Command,
    Admin,
}

impl Scope {
    pub(super) const WORDS: [&'static str; 3] = ["read", "command", "admin"];

    /// As the API and the database write it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Command => "command",
            Self::Admin => "admin",
        }
    }

    pub(super) fn from_word(word: &str) -> Option<Self> {
        [Self::Read, Self::Command, Self::Admin].into_iter().find(|scope| scope.word() == word)
    }
}

/// Who asked.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// As the audit names them: `token NAME`, `session`, `socket`.
    pub(super) actor: String,
    pub(super) scope: Scope,
}

impl Caller {
    /// Refuses who has less than `scope`, for what only the body of a request tells.
    pub(super) fn needs(&self, scope: Scope, what: &str) -> Result<(), Refusal> {
        if self.scope >= scope {
            return Ok(());
        }
        Err(Refusal::forbidden(format!(
            "{what} needs a token of scope {}; this one has {}",
            scope.word(),
            self.scope.word()
        )))
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        // Only `require` puts one there.
        parts.extensions.get::<Self>().cloned().ok_or_else(nobody)
    }
}

/// Lets a request through to its handler, if whoever sent it may.
pub(super) async fn require(
    State((admin, scope)): State<(Admin, Scope)>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let (mut parts, body) = request.into_parts();
    let caller = identify(&admin, &parts, scope).await?;
    caller.needs(scope, "this")?;
    parts.extensions.insert(caller);
    Ok(next.run(Request::from_parts(parts, body)).await)
}

async fn identify(admin: &Admin, request: &Parts, scope: Scope) -> Result<Caller, Refusal> {
    let peer = request.extensions.get::<Peer>();
    if matches!(peer, Some(Peer::Socket)) {
        return Ok(Caller { actor: "socket".into(), scope: Scope::Admin });
    }
    let address = peer.and_then(Peer::address);
    let headers = &request.headers;
    if headers.contains_key(AUTHORIZATION) {
        let secret = secret(headers).ok_or_else(|| {
            Refusal::unauthenticated(
                "the Authorization header cannot be read; send `Bearer TOKEN`, or Basic with the token as password",
            )
        })?;
        return by_token(admin, &secret, address).await;
    }
    let Some(cookie) = cookie(headers) else { return Err(nobody()) };
    let now = admin.now();
    if !admin.mdm.store.peek(|conn| session::is_open(conn, &cookie, now))? {
        return Err(Refusal::unauthenticated(
            "the session has ended; sign in again with a link from `russet admin link`",
        ));
    }
    // What changes nothing is all that a browser may be made to send by a page of somebody else's;
    // NanoMDM's push is a GET that does something.
    if scope > Scope::Read || !matches!(request.method, Method::GET | Method::HEAD) {
        return Err(Refusal::forbidden("a browser's session may only read; use a token for everything else"));
    }
    Ok(Caller { actor: "session".into(), scope: Scope::Admin })
}

async fn by_token(admin: &Admin, secret: &str, address: Option<IpAddr>) -> Result<Caller, Refusal> {
    let now = admin.now();
    let Some(token) = admin.mdm.store.peek(|conn| token::by_secret(conn, secret))? else {
        return Err(miss(admin, address, "there is no such token"));
    };
    if token.revoked_at.is_some() {
        return Err(miss(admin, address, "this token was revoked; use another"));
    }
    if token.is_expired(now) {
        return Err(miss(admin, address, "this token has expired; make another with `russet token create`"));
    }
    token::used(&admin.mdm.store, &token, now).await;
    Ok(Caller { actor: format!("token {}", token.name), scope: token.scope })
}

/// Counts a wrong token against the address that the request comes from.
fn miss(admin: &Admin, address: Option<IpAddr>, words: &str) -> Refusal {
    if admin.guesses.miss(address, "API tokens", admin.now()) {
        Refusal::too_many()
    } else {
        Refusal::unauthenticated(words)
    }
}

fn nobody() -> Refusal {
    Refusal::unauthenticated(
        "this needs a token: send it as `Authorization: Bearer TOKEN`; `russet token create` makes one",
    )
}

/// The token of the one Authorization header.
fn secret(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, rest) = value.to_str().ok()?.trim().split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
    text.split_once(':').map(|(_, password)| password.to_owned())
}

/// The browser's session.
pub(super) fn cookie(headers: &HeaderMap) -> Option<String> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == session::COOKIE).then(|| value.to_owned()))
}
