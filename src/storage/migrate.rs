//! Numbered migrations, forward only, counted by `PRAGMA user_version`.
//!
//! All that are due run in one transaction. Before an existing database is upgraded, a copy of it
//! is laid beside it, so that the older program still has something to open.
//!
//! **Invariant:** a database that a newer program wrote is refused, never guessed at.

use std::path::Path;

use rusqlite::Connection;

use crate::clock::Seconds;
use crate::error::{Error, Result};

/// In order; the position plus one is the schema's version.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_foundation.sql"),
    include_str!("migrations/0002_declarations.sql"),
    include_str!("migrations/0003_contents.sql"),
    include_str!("migrations/0004_updates.sql"),
    include_str!("migrations/0005_packages.sql"),
    include_str!("migrations/0006_backups.sql"),
    include_str!("migrations/0007_acme.sql"),
    include_str!("migrations/0008_push_requests.sql"),
    include_str!("migrations/0009_doctor.sql"),
    include_str!("migrations/0010_webhook.sql"),
    include_str!("migrations/0011_expiry.sql"),
];

/// The newest schema that this program knows.
pub fn known_schema() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

pub(super) fn migrate(connection: &mut Connection, path: &Path, now: Seconds) -> Result<()> {
    apply(connection, path, now, MIGRATIONS)
}

fn apply(connection: &mut Connection, path: &Path, now: Seconds, migrations: &[&str]) -> Result<()> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
    if version > known {
        return Err(Error::internal(format!(
            "the database {} was written by a newer version of russet (schema {version}, this program knows {known}); \
             install that version again, or restore a backup made with this one",
            path.display()
        )));
    }
    let due = &migrations[usize::try_from(version).unwrap_or(0)..];
    if due.is_empty() {
        return Ok(());
    }
    if version > 0 {
        copy_beside(connection, path, version, now)?;
    }
    let tx = connection.transaction()?;
    for (number, sql) in (version + 1..).zip(due) {
        tx.execute_batch(sql)
            .map_err(|source| Error::caused(format!("migration {number} of the database failed"), source))?;
    }
    tx.pragma_update(None, "user_version", known)?;
    tx.commit()?;
    Ok(())
}

/// `VACUUM INTO` reads a consistent state and writes a file that needs no log beside it.
fn copy_beside(connection: &Connection, path: &Path, version: i64, now: Seconds) -> Result<()> {
    let copy = path.with_file_name(format!("russet.db.before-schema-{}-{now}", version + 1));
    connection
        .execute("VACUUM INTO ?1", [copy.to_string_lossy()])
        .map_err(|source| Error::caused("the database could not be copied before its upgrade", source))?;
    super::keep_private(&copy)?;
    tracing::info!(copy = %copy.display(), "the database was copied before its upgrade");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_leaves_a_copy_of_what_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("russet.db");
        let mut connection = Connection::open(&path).unwrap();
        let first = "CREATE TABLE a (x INTEGER) STRICT; INSERT INTO a VALUES (1);";
        apply(&mut connection, &path, 7, &[first]).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        apply(&mut connection, &path, 7, &[first, "DROP TABLE a;"]).unwrap();
        let copy = Connection::open(folder.path().join("russet.db.before-schema-2-7")).unwrap();
        let kept: i64 = copy.query_row("SELECT x FROM a", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, 1);
    }

    #[test]
    fn a_migration_that_fails_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("russet.db");
        let mut connection = Connection::open(&path).unwrap();
        assert!(
            apply(&mut connection, &path, 7, &["CREATE TABLE a (x INTEGER) STRICT;", "nonsense"]).is_err()
        );
        let tables: i64 =
            connection.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
        assert_eq!(tables, 0);
    }
}
