//! Who did what: one row for each change that a person or a script made.
//!
//! **Invariant:** a row is written in the transaction of what it tells, so that neither exists
//! without the other, and never holds a secret.

use rusqlite::params;
use serde_json::Value;

use crate::error::Result;
use crate::id::printable;
use crate::storage::Tx;

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
