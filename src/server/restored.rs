//! The first start after `russet restore`.
//!
//! A restored database is one of the past: what it takes for unanswered may have been answered since, and a
//! second time would erase or lock a device again. The note that the restore left is acted on in one
//! transaction and then removed, so that a power cut in between does it twice, which changes nothing.

use std::path::Path;

use crate::admin;
use crate::backup::{MARKER, Marker};
use crate::error::{Error, Result};
use crate::mdm::{event, queue};
use crate::storage::Store;

/// Does what a restore leaves to be done, if there was one.
pub(super) async fn settle(store: &Store, data_dir: &Path) -> Result<()> {
    let path = data_dir.join(MARKER);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(Error::caused(format!("{} cannot be read", path.display()), source)),
    };
    let marker: Marker = serde_json::from_slice(&bytes)
        .map_err(|source| Error::caused(format!("{} is damaged; remove it", path.display()), source))?;
    let canceled = store
        .write("restored", move |tx| {
            let canceled = queue::cancel_asked(tx)?;
            admin::sign_out_everybody(tx)?;
            let words = format!(
                "The server was restored from {}, which was made at {}. {canceled} commands that it took for unanswered \
                 were canceled; send again what is still wanted.",
                marker.name, marker.created_at
            );
            event::record(tx, "server-restored", None, &words)?;
            Ok(canceled)
        })
        .await?;
    tracing::warn!(canceled, "the data folder was restored from a backup");
    std::fs::remove_file(&path)
        .map_err(|source| Error::caused(format!("{} cannot be removed", path.display()), source))
}
