//! `GET, POST /api/v1/tokens`, `GET, DELETE /api/v1/tokens/{name}`: tokens of the API.
//!
//! A token is `russet_` and 256 random bits; what is kept is its SHA-256, so that neither the
//! database nor the time of a look-up tells anything of one.
//!
//! **Invariant:** a token is shown once, in the answer to the POST that made it.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Value, json};

use super::auth::{Caller, Scope};
use super::body::Object;
use super::query::{Parameters, page};
use super::reply::Refusal;
use super::{Admin, audit};
use crate::clock::{MINUTE, Seconds, rfc3339};
use crate::error::{Error, Result};
use crate::id;
use crate::storage::{Store, Tx};

const LONGEST_NAME: usize = 100;

/// One token, without what it is.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) name: String,
    pub(super) scope: Scope,
    created_at: Seconds,
    created_by: String,
    expires_at: Option<Seconds>,
    last_used_at: Option<Seconds>,
    pub(super) revoked_at: Option<Seconds>,
}

const COLUMNS: &str = "name, scope, created_at, created_by, expires_at, last_used_at, revoked_at";

fn read(row: &Row<'_>) -> rusqlite::Result<Token> {
    Ok(Token {
        name: row.get(0)?,
        // A scope that nobody knows any more may do the least.
        scope: Scope::from_word(row.get_ref(1)?.as_str()?).unwrap_or(Scope::Read),
        created_at: row.get(2)?,
        created_by: row.get(3)?,
        expires_at: row.get(4)?,
        last_used_at: row.get(5)?,
        revoked_at: row.get(6)?,
    })
}

impl Token {
    pub(super) fn is_expired(&self, now: Seconds) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }

    fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "scope": self.scope.word(),
            "created_at": rfc3339(self.created_at),
            "created_by": self.created_by,
            "expires_at": self.expires_at.map(rfc3339),
            "last_used_at": self.last_used_at.map(rfc3339),
            "revoked_at": self.revoked_at.map(rfc3339),
        })
    }
}

/// The token that this is, live or not.
pub(super) fn by_secret(conn: &Connection, secret: &str) -> Result<Option<Token>> {
    Ok(conn
        .prepare_cached(&format!("SELECT {COLUMNS} FROM tokens WHERE hash = ?1"))?
        .query_row([id::sha256(secret.as_bytes())], read)
        .optional()?)
}

fn by_name(conn: &Connection, name: &str) -> Result<Option<Token>> {
    Ok(conn
        .prepare_cached(&format!("SELECT {COLUMNS} FROM tokens WHERE name = ?1"))?
        .query_row([name], read)
        .optional()?)
}

/// Writes down that a token was used: once a minute, since a card wears out.
pub(super) async fn used(store: &Store, token: &Token, now: Seconds) {
    if token.last_used_at.is_some_and(|last| (last..last + MINUTE).contains(&now)) {
        return;
    }
    let name = token.name.clone();
    let noted = store
        .write("token.used", move |tx| {
            tx.prepare_cached("UPDATE tokens SET last_used_at = ?2 WHERE name = ?1")?
                .execute(params![name, tx.now()])?;
            Ok(())
        })
        .await;
    // A token works on a full disk too.
    if let Err(error) = noted {
        tracing::warn!(error = error.chain(), "when a token was last used was not written down");
    }
}

/// Makes a token; answers it, which nobody can do again. The name of one that was revoked or has
/// expired may be used again.
///
/// # Errors
/// `Conflict` when a live token has this name; `Invalid` for a name nobody could read.
fn create(tx: &Tx<'_>, name: &str, scope: Scope, life: Option<Seconds>, by: &str) -> Result<(String, Token)> {
    if name.is_empty() || name.len() > LONGEST_NAME || name.trim() != name || id::printable(name) != name {
        let words = format!("a token's name has 1 to {LONGEST_NAME} printable characters");
        return Err(Error::invalid_at("/name", words));
    }
    if by_name(tx, name)?.is_some_and(|other| other.revoked_at.is_none() && !other.is_expired(tx.now())) {
        return Err(Error::conflict(format!(
            "there is a token named {name} already; take another name, or revoke it first"
        )));
    }
    tx.prepare_cached("DELETE FROM tokens WHERE name = ?1")?.execute([name])?;
    let secret = format!("russet_{}", id::secret::<32>());
    let token = Token {
        name: name.to_owned(),
        scope,
        created_at: tx.now(),
        created_by: by.to_owned(),
        expires_at: life.map(|life| tx.now() + life),
        last_used_at: None,
        revoked_at: None,
    };
    tx.prepare_cached(
        "INSERT INTO tokens (name, hash, scope, created_at, created_by, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        token.name,
        id::sha256(secret.as_bytes()),
        scope.word(),
        token.created_at,
        by,
        token.expires_at
    ])?;
    Ok((secret, token))
}

pub(super) async fn list(State(admin): State<Admin>, parameters: Parameters) -> Result<Json<Value>, Refusal> {
    let (limit, after) = (parameters.limit()?, parameters.cursor::<String>()?);
    let tokens = admin.mdm.store.peek(|conn| {
        let mut statement = conn.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM tokens WHERE name > ?1 ORDER BY name LIMIT ?2"
        ))?;
        let rows = statement.query_map(params![after.unwrap_or_default(), limit + 1], read)?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?)
    })?;
    let items = tokens.into_iter().map(|token| (token.name.clone(), token.to_json())).collect();
    Ok(Json(page(items, limit)))
}

pub(super) async fn show(
    State(admin): State<Admin>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let token = admin.mdm.store.peek(|conn| by_name(conn, &name))?;
    Ok(Json(token.ok_or_else(|| Error::NotFound("such token".into()))?.to_json()))
}

pub(super) async fn post(
    State(admin): State<Admin>,
    caller: Caller,
    mut body: Object,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let name = body.needed_text("name")?;
    let scope = body.text("scope")?.unwrap_or_else(|| "read".into());
    let scope = Scope::from_word(&scope).ok_or_else(|| {
        Error::invalid_at("/scope", format!("scope must be one of {}", Scope::WORDS.join(", ")))
    })?;
    let life = body.duration("expires_in")?;
    body.finish()?;
    let made = admin.mdm.store.write("token.create", move |tx| {
        let (secret, token) = create(tx, &name, scope, life, &caller.actor)?;
        let detail = json!({"scope": scope.word(), "expires_at": token.expires_at.map(rfc3339)});
        audit::record(tx, &caller.actor, "token.create", &name, &detail)?;
        let mut shown = token.to_json();
        shown["token"] = secret.into();
        Ok(shown)
    });
    Ok((StatusCode::CREATED, Json(made.await?)))
}

pub(super) async fn delete(
    State(admin): State<Admin>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode, Refusal> {
    let revoked = admin.mdm.store.write("token.revoke", move |tx| {
        let changed = tx
            .prepare_cached("UPDATE tokens SET revoked_at = COALESCE(revoked_at, ?2) WHERE name = ?1")?
            .execute(params![name, tx.now()])?;
        if changed == 0 {
            return Err(Error::NotFound("such token".into()));
        }
        audit::record(tx, &caller.actor, "token.revoke", &name, &Value::Null)
    });
    revoked.await?;
    Ok(StatusCode::NO_CONTENT)
}
