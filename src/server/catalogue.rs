//! Follows Apple's catalogue of operating systems: a URL every few hours, a file whenever it changes.
//!
//! What is read goes to [`crate::ddm::update::kept`], where it stays when the network goes. Apple's own
//! address shows a certificate of Apple's own authority, which no system trusts: its root is built in,
//! and `[updates] catalogue_trust` replaces it for another address.
//!
//! **Invariant:** one GET, to the host that is configured and no other, bounded in size and time; what
//! fails is said once and changes nothing.

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::App;
use crate::config::Location;
use crate::ddm::update::catalogue::{LARGEST, parse};
use crate::ddm::update::kept;
use crate::error::{Error, Result};
use crate::id;
use crate::storage::Tx;

/// The root of what `gdmf.apple.com` shows.
const APPLE_ROOT: &[u8] = include_bytes!("apple-root.pem");
/// From the name to the last byte.
const PATIENCE: Duration = Duration::from_secs(60);
/// One address of several.
const CONNECT_ONE: Duration = Duration::from_secs(10);
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
    match timeout(PATIENCE, get(url, trust)).await {
        Ok(fetched) => fetched,
        Err(_) => Err(unreadable(format!("there was no whole answer within {} seconds", PATIENCE.as_secs()))),
    }
}

async fn get(url: &str, trust: Option<&Path>) -> Result<Vec<u8>> {
    let uri: Uri = url.parse().map_err(unreadable)?;
    let authority = uri.authority().ok_or_else(|| unreadable("the address has no host"))?.clone();
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let stream = dial(&host, authority.port_u16().unwrap_or(443)).await?;
    let name = ServerName::try_from(host).map_err(unreadable)?;
    let stream = connector(trust)?.connect(name, stream).await.map_err(|error| {
        unreadable(format!(
            "{error}; if something in between inspects TLS, exclude Apple's hosts from it, or name its root in \
             [updates] catalogue_trust"
        ))
    })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(unreadable)?;
    let driver = tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(header::HOST, authority.as_str())
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("russet/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(unreadable)?;
    let answer = sender.send_request(request).await.map_err(unreadable)?;
    let status = answer.status();
    if status != StatusCode::OK {
        driver.abort();
        let hint = if status.is_redirection() { "; write the address that it leads to" } else { "" };
        return Err(unreadable(format!("the server answered {status}{hint}")));
    }
    let body = Limited::new(answer.into_body(), LARGEST).collect().await;
    driver.abort();
    let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
        Some(_) => unreadable(format!("the answer has more than {LARGEST} bytes")),
        None => unreadable(error),
    })?;
    Ok(body.to_bytes().to_vec())
}

async fn dial(host: &str, port: u16) -> Result<TcpStream> {
    let addresses: Vec<SocketAddr> =
        tokio::net::lookup_host((host, port)).await.map_err(unreadable)?.collect();
    let mut last = unreadable("the name has no address");
    for address in addresses {
        match timeout(CONNECT_ONE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = unreadable(error),
            Err(_) => last = unreadable(format!("{address} does not answer")),
        }
    }
    Err(last)
}

fn connector(trust: Option<&Path>) -> Result<TlsConnector> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unreadable)?
        .with_root_certificates(roots(trust)?)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(tls)))
}

/// Those of the file and no others; without one Apple's and those of the system.
fn roots(trust: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let pem = match trust {
        Some(path) => std::fs::read(path)
            .map_err(|error| unreadable(format!("[updates] catalogue_trust: {}: {error}", path.display())))?,
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            APPLE_ROOT.to_vec()
        }
    };
    let mut found = false;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate =
            certificate.map_err(|_| unreadable("[updates] catalogue_trust has a damaged PEM block"))?;
        roots.add(certificate).map_err(|error| {
            unreadable(format!("[updates] catalogue_trust has a certificate that cannot be a root: {error}"))
        })?;
        found = true;
    }
    if found { Ok(roots) } else { Err(unreadable("[updates] catalogue_trust holds no certificate in PEM")) }
}

#[cfg(test)]
mod tests;
