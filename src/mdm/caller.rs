//! Who is calling: the only way into the device side.
//!
//! Proof is a TLS client certificate, an `Mdm-Signature` over the exact body (Apple: "Pass an
//! identity certificate through a proxy"), or the header of a configured proxy. What is proven is
//! possession of a key; whose it is stands in the table of the certificates that we issued, and
//! nowhere else: a foreign certificate with our issuer's name is as foreign as any.
//!
//! **Invariant:** without proof there is no [`Caller`], on every route.

use std::net::IpAddr;

use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use rusqlite::Connection;

use super::Mdm;
use super::reply::Refusal;
use crate::clock::{DAY, Seconds};
use crate::pki::ber;
use crate::pki::certificate::{self, Certificate, Fields};
use crate::pki::cms::{self, CmsError};
use crate::pki::identity::{self, Fingerprint, Identity};
use crate::pki::key::PublicKey;
use crate::request::Peer;

/// A longer header is no signature of a device's: theirs have two or three kilobytes.
const LONGEST_SIGNATURE: usize = 32 * 1024;
/// How far a signature's time may be from ours. Devices and a Pi both boot with wrong clocks.
const SKEW: Seconds = DAY;

/// A proven identity that we issued.
#[derive(Debug)]
pub struct Caller {
    pub identity: Identity,
    /// Where it speaks from, as far as this server sees.
    pub address: Option<IpAddr>,
}

/// The reverse proxies that may pass on a client certificate.
#[derive(Debug, Default)]
pub struct Proxy {
    pub trusted: Vec<IpNet>,
    /// Lower-case name of the header.
    pub header: Option<String>,
}

impl Proxy {
    fn trusts(&self, address: Option<IpAddr>) -> bool {
        let address = address.map(|address| address.to_canonical());
        address.is_some_and(|address| self.trusted.iter().any(|network| network.contains(&address)))
    }
}

/// Proves who sent a request.
///
/// # Errors
/// `Refusal::Bad` with one clear reason; never anything that could end management.
pub fn prove(
    mdm: &Mdm,
    conn: &Connection,
    peer: &Peer,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Caller, Refusal> {
    let signed = match single(headers, "mdm-signature")? {
        Some(header) => Some(signature(mdm, conn, header, body)?),
        None => None,
    };
    let presented = match mdm.proxy.header.as_deref().filter(|_| mdm.proxy.trusts(peer.address())) {
        // What stands in TLS is the proxy's own certificate, if it has one, and no device's.
        Some(header) => proxied(headers, header)?,
        None => peer.client_certificate().map(|certificate| certificate::fingerprint(certificate)),
    };
    let identity = match (signed, presented) {
        (Some(signed), Some(presented)) if signed.fingerprint != presented => {
            same_device(conn, &signed, &presented)?;
            signed
        }
        (Some(signed), _) => signed,
        (None, Some(presented)) => find(conn, &presented)?,
        (None, None) => {
            return Err(Refusal::bad(
                "the request proves no identity: it has neither a TLS client certificate nor an Mdm-Signature",
            ));
        }
    };
    Ok(Caller { identity, address: peer.address() })
}

/// A device that is being renewed signs with its new identity on a connection that it opened with
/// the old one. Two identities of different devices in one request are nobody's.
fn same_device(conn: &Connection, signed: &Identity, presented: &Fingerprint) -> Result<(), Refusal> {
    let presented = find(conn, presented)?;
    let differ =
        matches!((&signed.enrollment_id, &presented.enrollment_id), (Some(one), Some(other)) if one != other);
    if differ {
        return Err(Refusal::bad(
            "the Mdm-Signature and the TLS client certificate are identities of two different devices",
        ));
    }
    Ok(())
}

/// Only what stands in our table is ours.
fn find(conn: &Connection, fingerprint: &Fingerprint) -> Result<Identity, Refusal> {
    identity::find(conn, fingerprint)?
        .ok_or_else(|| Refusal::bad("this certificate was not issued by this server"))
}

/// The one value of a header; two are an attempt to be two callers.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a [u8]>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Refusal::bad(format!("the request has more than one {name} header")));
    }
    Ok(first.map(axum::http::HeaderValue::as_bytes))
}

fn signature(mdm: &Mdm, conn: &Connection, header: &[u8], body: &[u8]) -> Result<Identity, Refusal> {
    if header.is_empty() || header.len() > LONGEST_SIGNATURE {
        return Err(Refusal::bad("the Mdm-Signature is empty or too long"));
    }
    let ber = STANDARD.decode(header).map_err(|_| Refusal::bad("the Mdm-Signature is not base64"))?;
    let broken = |error: CmsError| Refusal::bad(format!("the Mdm-Signature is not accepted: {error}"));
    let der = ber::to_der(&ber).map_err(|error| broken(error.into()))?;
    let signed = cms::Signed::parse_detached(&der).map_err(broken)?;
    // Whose certificate it is comes first: a stranger is not worth the arithmetic.
    let fingerprint = signed.signer_fingerprint();
    let identity = find(conn, &fingerprint)?;
    let fields = Fields::read(signed.signer_der()).map_err(|_| broken(CmsError::Malformed))?;
    let key = PublicKey::from_spki(fields.spki).map_err(|error| broken(error.into()))?;
    signed.verify(body, &key).map_err(broken)?;
    let clock = mdm.store.clock();
    let signing_time = signed.signing_time().map_err(broken)?;
    let far = signing_time.is_some_and(|at| at.abs_diff(clock.now()) > SKEW.unsigned_abs());
    if far && clock.is_sane() {
        return Err(Refusal::bad(
            "the Mdm-Signature was made more than a day from now; set the clock of the device or of this server",
        ));
    }
    Ok(identity)
}

/// RFC 9440 (`:base64:`) or URL-encoded PEM, as nginx's `$ssl_client_escaped_cert`. From anyone but a
/// trusted proxy the header is as if it were not there.
fn proxied(headers: &HeaderMap, name: &str) -> Result<Option<Fingerprint>, Refusal> {
    let Some(value) = single(headers, name)?.filter(|value| !value.is_empty()) else { return Ok(None) };
    let unreadable = || Refusal::bad(format!("the proxy's {name} header holds no certificate"));
    let text = std::str::from_utf8(value).map_err(|_| unreadable())?;
    let fingerprint = match text.strip_prefix(':') {
        Some(rest) => {
            let der = STANDARD.decode(rest.strip_suffix(':').unwrap_or(rest)).map_err(|_| unreadable())?;
            certificate::fingerprint(&der)
        }
        None => {
            let pem = percent_decode_str(text).decode_utf8().map_err(|_| unreadable())?;
            *Certificate::from_pem(&pem).map_err(|_| unreadable())?.fingerprint()
        }
    };
    Ok(Some(fingerprint))
}
