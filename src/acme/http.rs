//! How the ACME library's requests travel: through our own client, bounded in time and size.

use std::pin::Pin;
use std::time::Duration;

use http_body_util::{BodyExt, Collected, Full};
use hyper::body::Bytes;
use hyper::{Request, Response};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::RootCertStore;

use crate::error::Result;
use crate::https::Client;

/// CAs take their time to sign.
const PATIENCE: Duration = Duration::from_secs(60);
/// A chain in PEM has some kilobytes.
const LARGEST: usize = 512 * 1024;

/// The transport of an account.
pub(super) struct Transport(Client);

impl Transport {
    pub(super) fn new(roots: RootCertStore) -> Result<Box<Self>> {
        Ok(Box::new(Self(Client::new(roots, PATIENCE, LARGEST)?)))
    }
}

impl HttpClient for Transport {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let Ok(body) = body.collect().await.map(Collected::to_bytes);
            let host = parts.uri.authority().map(ToString::to_string).unwrap_or_default();
            let answer = client.send(Request::from_parts(parts, body)).await;
            let answer = answer.map_err(|error| Error::Other(format!("{host}: {error}").into()))?;
            let mut response = Response::new(Full::new(answer.body));
            *response.status_mut() = answer.status;
            *response.headers_mut() = answer.headers;
            Ok(response.into())
        })
    }
}
