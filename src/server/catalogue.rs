//! Follows Apple's catalogue of operating systems: a URL every few hours, a file whenever it changes.
//!
//! What is read goes to [`crate::ddm::update::kept`], where it stays when the network goes. Apple's own
//! address shows a certificate of Apple's own authority, which no system trusts: its root is built in,
//! and `[updates] catalogue_trust` replaces it for another address.
//!
//! **Invariant:** one GET, to the host that is configured and no other, bounded in size and time; what
//! fails is said once and changes nothing.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::{Request, StatusCode, header};
use rustls::RootCertStore;
use tokio::time::sleep;

use super::App;
use crate::config::Location;
use crate::ddm::update::catalogue::{LARGEST, parse};
use crate::ddm::update::kept;
use crate::error::{Error, Result};
use crate::https::{self, Client};
use crate::id;
use crate::storage::Tx;

/// The root of what `gdmf.apple.com` shows.
const APPLE_ROOT: &[u8] = include_bytes!("apple-root.pem");
/// From the name to the last byte.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a URL that answers, and at a file.
const URL_AGAIN: Duration = Duration::from_secs(6 * 3600);
const FILE_AGAIN: Duration = Duration::from_secs(60);
/// After failures; the last repeats.
const AFTER_FAILURES: [Duration; 4] = [
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3600),
];

/// Follows it for ever.
pub(super) async fn follow(app: Arc<App>) {
    let mut failures = 0_usize;
    loop {
        let went = app.read_catalogue().await;
        failures = if matches!(went, Ok(true)) { 0 } else { failures + 1 };
        if let Err(error) = went {
            tracing::error!(
                error = error.chain(),
                "the catalogue of updates could not be kept; it is tried again"
            );
        }
        sleep(pause(&app.config().updates.catalogue, failures)).await;
    }
}

fn pause(location: &Location, failures: usize) -> Duration {
    match (location, failures) {
        (Location::Path(_), _) => FILE_AGAIN,
        (Location::Url(_), 0) => URL_AGAIN,
        (Location::Url(_), failures) => AFTER_FAILURES[(failures - 1).min(AFTER_FAILURES.len() - 1)],
    }
}

impl App {
    /// Reads Apple's catalogue from where the configuration says; answers whether that went well. What
    /// did not is in the log and in the catalogue's own `error`.
    ///
    /// # Errors
    /// The database's.
    pub async fn read_catalogue(&self) -> Result<bool> {
        let updates = &self.config().updates;
        let (read, source) = match &updates.catalogue {
            // A certificate cannot be judged by a clock that is wrong.
            Location::Url(_) if !self.store.clock().is_sane() => return Ok(false),
            Location::Url(url) => (fetch(url, updates.catalogue_trust.as_deref()).await, url.clone()),
            Location::Path(path) => (read_file(path).await, path.display().to_string()),
        };
        let read = match read {
            Ok(document) => self.take(document, &source).await,
            Err(error) => Err(error),
        };
        let Err(error) = read else { return Ok(true) };
        if !matches!(error, Error::Invalid { .. }) {
            return Err(error);
        }
        let words = format!("{source}: {}", error.chain());
        if self.store.peek(kept::read)?.error.as_ref() != Some(&words) {
            tracing::warn!(
                "Apple's catalogue of updates was not read, and what is known of it stays: {words}"
            );
            self.store.write("update_catalogue.failed", move |tx| kept::failed(tx, &words)).await?;
        }
        Ok(false)
    }

    async fn take(&self, document: Vec<u8>, source: &str) -> Result<()> {
        let digest = id::hex(&id::sha256(&document));
        // An upload counts until the file is another, or the URL is asked again.
        let is_url = matches!(self.config().updates.catalogue, Location::Url(_));
        if self.store.peek(|conn| kept::is_followed(conn, &digest, is_url.then_some(source)))? {
            if is_url {
                self.store.write("update_catalogue.confirm", kept::confirm).await?;
            }
            return Ok(());
        }
        let parsed = blocking(move || parse(&document)).await?;
        let (releases, skipped) = (parsed.releases.len(), parsed.skipped);
        let from = source.to_owned();
        let keep = move |tx: &Tx<'_>| kept::keep(tx, parsed, &from, Some(&digest), true);
        if self.store.write("update_catalogue.keep", keep).await? {
            tracing::info!(source, releases, skipped, "Apple's catalogue of updates was read");
        }
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|source| Error::caused("a background task ended before its time", source))?
}

fn unreadable(error: impl std::fmt::Display) -> Error {
    Error::invalid(format!("it cannot be read: {error}"))
}

async fn read_file(path: &Path) -> Result<Vec<u8>> {
    let path = path.to_owned();
    blocking(move || {
        // Asked before opening, because opening a pipe would wait for its writer.
        if !std::fs::metadata(&path).map_err(unreadable)?.is_file() {
            return Err(unreadable("it is not a file"));
        }
        let mut document = Vec::new();
        let file = std::fs::File::open(&path).map_err(unreadable)?;
        file.take(LARGEST as u64 + 1).read_to_end(&mut document).map_err(unreadable)?;
        Ok(document)
    })
    .await
}

async fn fetch(url: &str, trust: Option<&Path>) -> Result<Vec<u8>> {
    let client = Client::new(roots(trust)?, PATIENCE, LARGEST)?;
    let request = Request::get(url).header(header::ACCEPT, "application/json");
    let answer = client.send(request.body(Bytes::new()).map_err(unreadable)?).await.map_err(|error| {
        unreadable(format!("{error}; if that is wanted, name its root in [updates] catalogue_trust"))
    })?;
    if answer.status != StatusCode::OK {
        let hint = if answer.status.is_redirection() { "; write the address that it leads to" } else { "" };
        return Err(unreadable(format!("the server answered {}{hint}", answer.status)));
    }
    Ok(answer.body.to_vec())
}

/// Those of the file and no others; without one Apple's and those of the system.
fn roots(trust: Option<&Path>) -> Result<RootCertStore> {
    const KEY: &str = "[updates] catalogue_trust";
    match trust {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            https::add_file(&mut roots, path, KEY)?;
            Ok(roots)
        }
        None => {
            let mut roots = https::system_roots();
            https::add_pem(&mut roots, APPLE_ROOT, KEY)?;
            Ok(roots)
        }
    }
}

#[cfg(test)]
mod tests;
