//! The lean side of the conversation: HTTP/1.1 over TLS, with requests that were written beforehand.
//!
//! Client and server share this machine, so whatever the client spends is missing to the server.
//! It sends bytes as they are and reads of a reply no more than its status and its length.
//!
//! **Invariant:** a reply that is not the one expected ends the whole run; nothing wrong is counted.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{Failed, Result};

/// What has to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// 200 without a body.
    Empty,
    /// A success with a body.
    Something,
    /// A success: what the ceilings answer is always empty.
    Success,
}

/// Where a server listens, and how it is trusted.
#[derive(Clone)]
pub(crate) struct Address {
    port: u16,
    tls: TlsConnector,
}

impl Address {
    pub(crate) fn new(port: u16, anchor: &[u8]) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(anchor.to_vec()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { port, tls: TlsConnector::from(Arc::new(config)) })
    }

    pub(crate) async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(ServerName::try_from("localhost")?, stream).await?;
        Ok(Connection { stream, read: Vec::with_capacity(8 * 1024) })
    }
}

/// One connection that is kept.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    read: Vec<u8>,
}

impl Connection {
    /// Sends one request and reads its reply to the end.
    pub(crate) async fn ask(&mut self, request: &[u8], expected: Expected) -> Result<()> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        self.read.clear();
        let head = loop {
            if let Some(at) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        let text = std::str::from_utf8(&self.read[..head])?;
        let status: u16 = text.get(9..12).unwrap_or_default().parse()?;
        let length = content_length(text)?;
        while self.read.len() < head + length {
            self.more().await?;
        }
        let fits = match expected {
            Expected::Empty => status == 200 && length == 0,
            Expected::Something => (200..300).contains(&status) && length > 0,
            Expected::Success => (200..300).contains(&status),
        };
        if fits {
            return Ok(());
        }
        let reply = String::from_utf8_lossy(&self.read);
        Err(Failed(format!("{expected:?} was expected, and this came back: {reply}")).into())
    }

    async fn more(&mut self) -> Result<()> {
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(Failed("the server closed the connection".into()).into()),
            _ => Ok(()),
        }
    }
}

fn content_length(head: &str) -> Result<usize> {
    let named = |line: &&str| line.get(..15).is_some_and(|name| name.eq_ignore_ascii_case("content-length:"));
    match head.split("\r\n").find(named) {
        Some(line) => Ok(line[15..].trim().parse()?),
        None => Err(Failed("a reply has no Content-Length".into()).into()),
    }
}
