//! One-time sign-in links and the browser sessions that they become.
//!
//! `POST /api/v1/sign-in-links` makes a link; `page.rs` turns it into a session. Both are 256 random
//! bits of which the SHA-256 is kept.
//!
//! **Invariant:** a link becomes at most one session, and neither outlives its time.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use rusqlite::{Connection, params};
use serde_json::{Value, json};

use super::auth::Caller;
use super::reply::Refusal;
use super::{Admin, audit};
use crate::clock::{HOUR, Seconds, rfc3339};
use crate::error::Result;
use crate::id;
use crate::storage::Tx;

/// The cookie's name; `__Host-` makes browsers refuse one that another host or plain HTTP set.
pub(super) const COOKIE: &str = "__Host-russet";
/// How long somebody stays signed in.
pub(super) const SESSION_LIFE: Seconds = 12 * HOUR;
/// How long a link can be used.
const LINK_LIFE: Seconds = HOUR;

fn insert(tx: &Tx<'_>, kind: &str, life: Seconds) -> Result<String> {
    tx.prepare_cached("DELETE FROM sign_ins WHERE expires_at <= ?1")?.execute([tx.now()])?;
    let secret = id::secret::<32>();
    tx.prepare_cached("INSERT INTO sign_ins (hash, kind, created_at, expires_at) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![id::sha256(secret.as_bytes()), kind, tx.now(), tx.now() + life])?;
    Ok(secret)
}

/// Whether a link can still be used.
pub(super) fn is_link(conn: &Connection, code: &str, now: Seconds) -> Result<bool> {
    is_live(conn, "link", code, now)
}

/// Whether somebody is signed in with this cookie.
pub(super) fn is_open(conn: &Connection, cookie: &str, now: Seconds) -> Result<bool> {
    is_live(conn, "session", cookie, now)
}

fn is_live(conn: &Connection, kind: &str, secret: &str, now: Seconds) -> Result<bool> {
    Ok(conn
        .prepare_cached("SELECT 1 FROM sign_ins WHERE hash = ?1 AND kind = ?2 AND expires_at > ?3")?
        .exists(params![id::sha256(secret.as_bytes()), kind, now])?)
}

/// Uses a link up and opens a session; answers its cookie, or nothing when the link is not good.
pub(super) fn sign_in(tx: &Tx<'_>, code: &str) -> Result<Option<String>> {
    let used = tx
        .prepare_cached("DELETE FROM sign_ins WHERE hash = ?1 AND kind = 'link' AND expires_at > ?2")?
        .execute(params![id::sha256(code.as_bytes()), tx.now()])?;
    if used == 0 {
        return Ok(None);
    }
    audit::record(tx, "session", "sign-in", "session", &Value::Null)?;
    insert(tx, "session", SESSION_LIFE).map(Some)
}

/// Ends a session.
pub(super) fn sign_out(tx: &Tx<'_>, cookie: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM sign_ins WHERE hash = ?1 AND kind = 'session'")?
        .execute([id::sha256(cookie.as_bytes())])?;
    Ok(())
}

/// Ends all sessions and links: the database was restored, and who was signed out since would be signed in again.
pub(crate) fn sign_out_everybody(tx: &Tx<'_>) -> Result<()> {
    tx.execute("DELETE FROM sign_ins", [])?;
    Ok(())
}

pub(super) async fn post_link(
    State(admin): State<Admin>,
    caller: Caller,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let made = admin.mdm.store.write("sign_in.link", move |tx| {
        let code = insert(tx, "link", LINK_LIFE)?;
        audit::record(tx, &caller.actor, "sign-in-link.create", "sign-in link", &Value::Null)?;
        Ok((code, tx.now() + LINK_LIFE))
    });
    let (code, expires_at) = made.await?;
    let url = format!("{}/sign-in/{code}", admin.page_url);
    Ok((StatusCode::CREATED, Json(json!({"url": url, "expires_at": rfc3339(expires_at)}))))
}
