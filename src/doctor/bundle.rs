//! The support bundle: what a person who helps has to know, and no secret.
//!
//! A tar.gz of JSON and text: findings, settings (secrets as `set`), versions, counts, the last lines of the log.
//!
//! **Invariant:** nothing in it opens anything: no key, token, code or password, and no name of a person or device
//! beyond what the log says.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::{Doctor, recent};
use crate::clock::rfc3339;
use crate::error::{Error, Result};
use crate::storage::known_schema;

impl Doctor {
    /// Makes the bundle. `settings` are the rows of `config::rows`.
    ///
    /// # Errors
    /// The database's.
    pub async fn bundle(&self, settings: &[(&'static str, String)]) -> Result<Vec<u8>> {
        let found = self.findings(true).await?;
        let counts = self.0.mdm.store.read(counts).await?;
        let now = self.0.mdm.store.clock().now();
        let settings: Value = settings
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone().into()))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let about = json!({
            "program": concat!("russet ", env!("CARGO_PKG_VERSION")),
            "schema": known_schema(),
            "made_at": rfc3339(now),
            "machine": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            "kernel": std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
            "rows": counts,
        });
        let files = [
            ("about.json", format!("{about:#}")),
            ("findings.json", serde_json::to_string_pretty(&found).unwrap_or_default()),
            ("settings.json", format!("{settings:#}")),
            ("log.txt", recent::lines().join("\n")),
        ];
        pack(&files, now.unsigned_abs()).map_err(|source| Error::caused("the bundle cannot be made", source))
    }
}

/// How many rows each table has.
fn counts(conn: &rusqlite::Connection) -> Result<Value> {
    let mut statement = conn.prepare(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name",
    )?;
    let names: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut counts = serde_json::Map::new();
    for name in names {
        let count: i64 = conn.query_row(&format!("SELECT COUNT(*) FROM \"{name}\""), [], |row| row.get(0))?;
        counts.insert(name, count.into());
    }
    Ok(counts.into())
}

fn pack(files: &[(&str, String)], now: u64) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(now);
        archive.append_data(&mut header, format!("russet-support/{name}"), text.as_bytes())?;
    }
    let mut packed = archive.into_inner()?;
    packed.flush()?;
    packed.finish()
}
