//! Who did what: one row for each change that a person or a script made, and `GET /api/v1/audit`.
//!
//! **Invariant:** a row is written in the transaction of what it tells, so that neither exists
//! without the other, and never holds a secret.

use axum::Json;
use axum::extract::State;
use rusqlite::{Connection, params};
use serde_json::{Value, json};

use super::Admin;
use super::query::{Parameters, page};
use super::reply::Refusal;
use crate::clock::{Seconds, rfc3339};
use crate::error::Result;
use crate::id::printable;
use crate::storage::Tx;

/// How many rows there are at the most.
const KEPT: i64 = 200_000;

/// Records what `actor` did to `object`; `detail` is an object, or null where there is nothing to add.
pub(super) fn record(
    tx: &Tx<'_>,
    actor: &str,
    action: &'static str,
    object: &str,
    detail: &Value,
) -> Result<()> {
    tx.prepare_cached("INSERT INTO audit (at, actor, action, object, detail) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![
        tx.now(),
        printable(actor),
        action,
        printable(object),
        (!detail.is_null()).then(|| detail.to_string()),
    ])?;
    Ok(())
}

/// `GET /api/v1/audit`: newest first, of one actor, one action, one object, or of a time.
pub(super) async fn list(State(admin): State<Admin>, parameters: Parameters) -> Result<Json<Value>, Refusal> {
    let (limit, before) = (parameters.limit()?, parameters.cursor::<i64>()?);
    let text = |name: &str| parameters.text(name).map(str::to_owned);
    let wanted = (text("actor"), text("action"), text("object"));
    let (since, until) = (parameters.moment("since")?, parameters.moment("until")?);
    let rows = admin.mdm.store.read(move |conn| {
        let (actor, action, object) = &wanted;
        let mut statement = conn.prepare_cached(
            "SELECT id, at, actor, action, object, detail FROM audit
             WHERE (?1 IS NULL OR actor = ?1) AND (?2 IS NULL OR action = ?2) AND (?3 IS NULL OR object = ?3)
               AND (?4 IS NULL OR at >= ?4) AND (?5 IS NULL OR at < ?5) AND (?6 IS NULL OR id < ?6)
             ORDER BY id DESC LIMIT ?7",
        )?;
        let rows = statement.query_map(
            params![actor, action, object, since, until, before, limit.saturating_add(1)],
            |row| {
                let id: i64 = row.get(0)?;
                let detail =
                    row.get::<_, Option<String>>(5)?.and_then(|text| serde_json::from_str(&text).ok());
                let item = json!({
                    "id": id,
                    "at": rfc3339(row.get(1)?),
                    "actor": row.get::<_, String>(2)?,
                    "action": row.get::<_, String>(3)?,
                    "object": row.get::<_, String>(4)?,
                    "detail": detail.unwrap_or(Value::Null),
                });
                Ok((id, item))
            },
        )?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?)
    });
    Ok(Json(page(rows.await?, limit)))
}

/// Removes rows of before `before`, and the oldest of more than [`KEPT`]; at most `at_once`. Answers how many.
pub(super) fn thin(conn: &Connection, before: Seconds, at_once: u32) -> Result<usize> {
    Ok(conn
        .prepare_cached(
            "DELETE FROM audit WHERE id IN (
                 SELECT id FROM audit
                 WHERE at < ?1 OR id <= (SELECT IFNULL(MAX(id), 0) FROM audit) - ?2 ORDER BY id LIMIT ?3)",
        )?
        .execute(params![before, KEPT, at_once])?)
}

#[cfg(test)]
pub(super) mod tests {
    use rusqlite::Connection;

    use super::*;

    /// Every row as `actor action object detail`, oldest first.
    pub(in crate::admin) fn lines(conn: &Connection) -> Result<Vec<String>> {
        let mut query = conn.prepare("SELECT actor, action, object, detail FROM audit ORDER BY id")?;
        let rows = query.query_map([], |row| {
            let text = |column| row.get::<_, Option<String>>(column).map(Option::unwrap_or_default);
            Ok(format!("{} {} {} {}", text(0)?, text(1)?, text(2)?, text(3)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
