//! `GET, POST /scep`: the enrollment CA's SCEP endpoint (RFC 8894).
//!
//! GetCACaps, GetCACert, GetNextCACert and PKIOperation; of its messages PKCSReq and RenewalReq and
//! nothing else. A PKCSReq needs the challenge of an enrollment session, a RenewalReq the signature of an
//! identity in use. What the certificate says comes from the session, never from the request. A client that
//! knows an earlier CA only is answered with that one's key, until it ends; it issues too, as long as no
//! identity would outlive it.
//!
//! **Invariant:** of all certificates issued for one challenge, at most one is ever usable, and the
//! CA's key is used in the `workshop` alone, for refusals too.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State as Handle};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use percent_encoding::percent_decode;

use super::refused_renewal;
use super::session::{self, Origin, Session};
use super::workshop::Turn;
use super::{Enroll, invitation::Spent};
use crate::clock::{DAY, Seconds};
use crate::error::{Error, Result};
use crate::id;
use crate::pki::authority::{Authority, Subject};
use crate::pki::certificate::Certificate;
use crate::pki::cms;
use crate::pki::identity::{self, Fingerprint, State};
use crate::pki::key::PrivateKey;
use crate::pki::scep::message::{self, FailInfo, Message, MessageType, Request};
use crate::storage::Tx;

/// The largest pkiMessage, before and after base64.
pub const BODY_LIMIT: usize = 64 * 1024;

/// What we can do, best first (RFC 8894 section 3.5.2). Single DES is understood and not offered.
const CAPABILITIES: &str = "POSTPKIOperation\nRenewal\nSHA-256\nSHA-512\nAES\nDES3\nSHA-1\nSCEPStandard\n";

/// Offered while there is a CA that took over from another (RFC 8894 section 4.7).
const NEXT_CA: &str = "GetNextCACert\n";

/// A device that renews and never uses what it gets is broken or hostile.
const MOST_IN_USE: u32 = 5;

/// How long before now an identity begins, for devices whose clock is behind.
const BACKDATED: Seconds = DAY;

pub(super) fn routes() -> Router<Enroll> {
    Router::new().route("/scep", get(query).post(post))
}

async fn query(Handle(enroll): Handle<Enroll>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    match parameter(&query, "operation").as_deref() {
        Some(b"GetCACaps") => {
            let succeeded = enroll.authority().is_ok_and(|own| own.with_those_before().nth(1).is_some());
            let next = if succeeded { NEXT_CA } else { "" };
            plain("text/plain", format!("{CAPABILITIES}{next}").into())
        }
        Some(b"GetCACert") => match enroll.authority() {
            Ok(authority) => plain("application/x-x509-ca-cert", authority.certificate_der().to_vec()),
            Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
        },
        Some(b"GetNextCACert") => match next_ca(&enroll).await {
            Ok(Some(signed)) => plain("application/x-x509-next-ca-cert", signed),
            Ok(None) => bad("there is no next CA; GetCACert answers the one that is in use"),
            Err(error) => refused(error),
        },
        Some(b"PKIOperation") => match parameter(&query, "message").as_deref().and_then(from_base64) {
            Some(message) => operation(enroll, message.into()).await,
            None => bad("the message is not base64; send the pkiMessage as the parameter message"),
        },
        _ => unknown_operation(),
    }
}

async fn post(Handle(enroll): Handle<Enroll>, RawQuery(query): RawQuery, body: Bytes) -> Response {
    match parameter(&query.unwrap_or_default(), "operation").as_deref() {
        // Some clients leave the operation out of a POST: there is only one that it can be.
        Some(b"PKIOperation") | None => operation(enroll, body).await,
        _ => unknown_operation(),
    }
}

fn unknown_operation() -> Response {
    bad("this SCEP operation is not supported; use GetCACaps, GetCACert, GetNextCACert or PKIOperation")
}

fn bad(words: &'static str) -> Response {
    (StatusCode::BAD_REQUEST, words).into_response()
}

fn plain(kind: &'static str, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// The first parameter of that name, percent-decoded. A plus stays a plus: it is base64's here.
fn parameter(query: &str, name: &str) -> Option<Vec<u8>> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| percent_decode(value.as_bytes()).collect())
}

/// Base64 in any of the forms that clients send: with and without padding, URL-safe, and with spaces
/// where somebody on the way read the plus as one.
fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    if text.len() > BODY_LIMIT * 2 {
        return None;
    }
    let standard: Vec<u8> = text
        .iter()
        .filter(|byte| !matches!(byte, b'\r' | b'\n'))
        .map(|byte| match byte {
            b' ' | b'-' => b'+',
            b'_' => b'/',
            other => *other,
        })
        .collect();
    LENIENT.decode(standard).ok().filter(|decoded| decoded.len() <= BODY_LIMIT)
}

/// Parses, decrypts and signs away from the threads that serve requests: RSA takes milliseconds.
async fn operation(enroll: Enroll, body: Bytes) -> Response {
    match answer(&enroll, body).await {
        Ok(reply) => plain("application/x-pki-message", reply),
        Err(error) => refused(error),
    }
}

fn refused(error: Error) -> Response {
    match error {
        Error::Invalid { words, .. } => (StatusCode::BAD_REQUEST, words).into_response(),
        Error::Conflict { words, .. } => (StatusCode::SERVICE_UNAVAILABLE, words).into_response(),
        busy @ Error::Busy => {
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "10")], busy.to_string()).into_response()
        }
        error => {
            tracing::error!(error = error.chain(), "a SCEP request failed");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The CA that is in use, signed by the one before it, for those who know only that.
async fn next_ca(enroll: &Enroll) -> Result<Option<Vec<u8>>> {
    let turn = enroll.kept.workshop.enter()?;
    let (cas, now) = (Cas::of(enroll)?, enroll.store.clock().now());
    let work = move || {
        let Some(earlier) = cas.0.get(1) else { return Ok(None) };
        let next = cms::certs_only(&[cas.current().certificate.der()]);
        cms::sign_attached(&next, earlier.signer(), &[], now)
            .map(Some)
            .map_err(|source| Error::caused("the next CA could not be signed", source))
    };
    turn.work(work).await
}

/// What the CA works with: its certificate and key as SCEP needs them, read once.
pub(super) struct Ca {
    authority: Authority,
    certificate: Certificate,
    key: PrivateKey,
}

/// All CAs that clients may know, the one in use first; never empty.
pub(super) struct Cas(Vec<Ca>);

impl Cas {
    fn of(enroll: &Enroll) -> Result<Arc<Self>> {
        let authority = enroll.issuing_authority()?;
        let same = |cas: &Self| {
            let all = cas.0.iter().map(|ca| ca.authority.certificate_der());
            all.eq(authority.with_those_before().map(Authority::certificate_der))
        };
        if let Some(kept) = enroll.kept.cas.load_full().filter(|kept| same(kept)) {
            return Ok(kept);
        }
        let all = authority.with_those_before().map(|own| Ca::read(own.clone()));
        let read = Arc::new(Self(all.collect::<Result<_>>()?));
        enroll.kept.cas.store(Some(read.clone()));
        Ok(read)
    }

    fn current(&self) -> &Ca {
        &self.0[0]
    }

    /// The request, and which CA it was encrypted for; the refusal of the one in use if for none.
    fn open(&self, message: &Message) -> Result<(Request, usize), (message::Refusal, usize)> {
        let another = |refusal: &message::Refusal| {
            matches!(refusal, message::Refusal::Envelope(cms::CmsError::Recipient))
        };
        let mut refused = None;
        for (number, ca) in self.0.iter().enumerate() {
            match message.open(&ca.certificate, &ca.key) {
                Ok(request) => return Ok((request, number)),
                Err(refusal) if another(&refusal) => {
                    refused.get_or_insert((refusal, 0));
                }
                Err(refusal) => return Err((refusal, number)),
            }
        }
        Err(refused.unwrap_or((message::Refusal::Envelope(cms::CmsError::Recipient), 0)))
    }

    /// Who issues for a client that knows this CA: that one while no identity outlives it.
    fn issuer(&self, known: usize, identity_end: Seconds) -> &Ca {
        if self.0[known].authority.not_after() >= identity_end { &self.0[known] } else { self.current() }
    }
}

impl Ca {
    fn read(authority: Authority) -> Result<Self> {
        let damaged = |source| Error::caused("the enrollment CA's key cannot be read", source);
        let certificate = Certificate::from_der(authority.certificate_der())
            .map_err(|source| Error::caused("the enrollment CA's certificate cannot be read", source))?;
        let key = PrivateKey::from_pkcs8(authority.key_pkcs8()).map_err(damaged)?;
        Ok(Self { authority, certificate, key })
    }

    fn signer(&self) -> cms::Signer<'_> {
        cms::Signer::new(&self.key, &self.certificate)
    }
}

async fn answer(enroll: &Enroll, body: Bytes) -> Result<Vec<u8>> {
    let turn = enroll.kept.workshop.enter()?;
    let cas = Cas::of(enroll)?;
    let opener = cas.clone();
    let opened = turn.work(move || {
        let message = Message::parse(&body)
            .map_err(|error| Error::invalid(format!("this is not a SCEP message: {error}")))?;
        Ok(opener.open(&message).map_err(|refusal| (message.transaction, refusal)))
    });
    let opened = opened.await?;
    let now = enroll.store.clock().now();
    let (transaction, info, known) = match opened {
        Ok((request, known)) => {
            let issuer = cas.issuer(known, enroll.identity_end()).authority.clone();
            match issue(enroll, &turn, &issuer, &request).await {
                Ok(issued) => {
                    let reply = move || {
                        // Who knows an earlier CA finds it beside the one that issued.
                        let known = &cas.0[known];
                        let mut chain = vec![issuer.certificate_der()];
                        if known.certificate.der() != issuer.certificate_der() {
                            chain.push(known.certificate.der());
                        }
                        made(message::success(&request, &issued, &chain, known.signer(), now))
                    };
                    return turn.work(reply).await;
                }
                Err(Denied::Failed(error)) => return Err(error),
                Err(Denied::Policy(info, words)) => {
                    tracing::info!(refused = &*words, "a SCEP request was refused");
                    refused_renewal::note(enroll, &request, words).await?;
                    (request.transaction, info, known)
                }
            }
        }
        Err((transaction, (refusal, known))) => {
            tracing::info!(refused = %refusal, "a SCEP request was refused");
            (transaction, refusal.fail_info(), known)
        }
    };
    turn.work(move || made(message::failure(&transaction, info, cas.0[known].signer(), now))).await
}

fn made(reply: Result<Vec<u8>, cms::CmsError>) -> Result<Vec<u8>> {
    reply.map_err(|source| Error::caused("a SCEP answer could not be made", source))
}

/// Why there is no certificate.
enum Denied {
    Policy(FailInfo, Cow<'static, str>),
    Failed(Error),
}

impl Denied {
    fn policy(words: &'static str) -> Self {
        Self::Policy(FailInfo::BadRequest, words.into())
    }
}

impl From<Error> for Denied {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid { words, .. } => Self::Policy(FailInfo::BadRequest, words.into()),
            other => Self::Failed(other),
        }
    }
}

/// Who may have a certificate for this request.
enum Right {
    /// The holder of a session's challenge.
    Challenge(Box<Session>),
    /// The identity in use that signed the request, to renew its own enrollment.
    Renewal { signer: Fingerprint, enrollment_id: String, session: Box<Session> },
}

async fn issue(
    enroll: &Enroll,
    turn: &Turn<'_>,
    authority: &Authority,
    request: &Request,
) -> Result<Vec<u8>, Denied> {
    let now = enroll.store.clock().now();
    let right = enroll.store.peek(|conn| Ok(right(conn, request, now)))??;
    let public_key = id::sha256(request.csr.spki());
    let session = match &right {
        Right::Challenge(session) => session.clone(),
        Right::Renewal { session, .. } => session.clone(),
    };
    let same = enroll.store.peek(|conn| match &right {
        Right::Challenge(session) => identity::issued_for(conn, &session.id, &public_key),
        Right::Renewal { signer, enrollment_id, .. } => {
            identity::renewed_for(conn, enrollment_id, &public_key, signer, now)
        }
    })?;
    if let Some(same) = same {
        return Ok(same);
    }
    // A renewal by RenewalReq is a session of its own, so that its certificate has a name of its own.
    let session_id = match &right {
        Right::Challenge(session) => session.id.clone(),
        Right::Renewal { .. } => id::hex(&id::random::<16>()),
    };
    let not_before = now - BACKDATED;
    let not_after = enroll.identity_end();
    let (issuer, spki, subject) = (authority.clone(), request.csr.spki().to_vec(), session_id.clone());
    let organization = session.parameters.organization.clone();
    let issued = turn.work(move || {
        let subject =
            Subject { common_name: &subject, organization: &organization, organizational_unit: None };
        issuer.issue(&spki, subject, not_before, not_after, now)
    });
    let certificate = issued.await?;
    let parsed = Certificate::from_der(&certificate)
        .map_err(|source| Error::caused("an issued certificate cannot be read", source))?;
    let (serial_number, not_after) = (parsed.serial_hex(), parsed.not_after());
    enroll
        .store
        .write("scep.issue", move |tx| {
            let issued = identity::Issued {
                certificate: &certificate,
                serial_number: &serial_number,
                session_id: &session_id,
                public_key: &public_key,
                not_before,
                not_after,
            };
            match right {
                Right::Challenge(session) => for_challenge(tx, &session, &issued, &public_key),
                Right::Renewal { signer, enrollment_id, session } => {
                    renew(tx, &signer, &enrollment_id, &session, &issued)
                }
            }
        })
        .await
        .map_err(Denied::from)
}

fn right(conn: &rusqlite::Connection, request: &Request, now: Seconds) -> Result<Right, Denied> {
    match request.message_type {
        MessageType::PkcsReq => {
            let challenge = request.csr.challenge().filter(|challenge| !challenge.is_empty());
            let session =
                challenge.map(|challenge| session::by_challenge(conn, challenge)).transpose()?.flatten();
            let session =
                session.ok_or_else(|| Denied::policy("the challenge is missing or not one of ours"))?;
            may_ask(conn, &session, now)?;
            Ok(Right::Challenge(Box::new(session)))
        }
        MessageType::RenewalReq => {
            let denied = Denied::policy;
            let identity = identity::find(conn, request.signer.fingerprint())?
                .ok_or(denied("the certificate to be renewed is not ours"))?;
            if identity.state != State::Pinned || identity.is_expired(now) {
                return Err(denied("the certificate to be renewed is not in use or has expired"));
            }
            let enrollment_id =
                identity.enrollment_id.ok_or(denied("the certificate belongs to no device"))?;
            let session = session::find(conn, &identity.session_id)?
                .ok_or(denied("the enrollment session is missing"))?;
            Ok(Right::Renewal { signer: identity.fingerprint, enrollment_id, session: Box::new(session) })
        }
    }
}

fn may_ask(conn: &rusqlite::Connection, session: &Session, now: Seconds) -> Result<(), Denied> {
    let denied = |words| Err(Denied::policy(words));
    if session.expires_at <= now {
        return denied("the challenge has expired");
    }
    match session.invitation(conn)?.and_then(|invitation| invitation.spent(now)) {
        // A device whose use is counted already only repeats itself.
        Some(Spent::UsedUp) if session.counted => Ok(()),
        Some(spent) => denied(spent.words()),
        None => Ok(()),
    }
}

/// Issues for a challenge: the same key gets the same certificate, another key ends the earlier one,
/// and after the first Authenticate no other key gets anything.
fn for_challenge(
    tx: &Tx<'_>,
    session: &Session,
    issued: &identity::Issued<'_>,
    public_key: &[u8; 32],
) -> Result<Vec<u8>> {
    // Two requests may have raced to here.
    if let Some(same) = identity::issued_for(tx, &session.id, public_key)? {
        return Ok(same);
    }
    let session = session::find(tx, &session.id)?.ok_or_else(|| Error::internal("a session vanished"))?;
    if session.expires_at <= tx.now() {
        return Err(Error::invalid("the challenge has ended meanwhile"));
    }
    if session.enrollment_id.is_some() {
        return Err(Error::invalid("the challenge was used by another key, and its device has enrolled"));
    }
    identity::remove_unused(tx, &session.id)?;
    identity::insert(tx, issued)?;
    Ok(issued.certificate.to_vec())
}

/// A RenewalReq proves the old key, so the new identity speaks for the same device at once; both
/// work until the new one is used.
fn renew(
    tx: &Tx<'_>,
    signer: &Fingerprint,
    enrollment_id: &str,
    session: &Session,
    issued: &identity::Issued<'_>,
) -> Result<Vec<u8>> {
    // While the certificate was made, the device may have left or begun anew with another identity.
    if !identity::find(tx, signer)?.is_some_and(|signer| signer.state == State::Pinned) {
        return Err(Error::invalid("the certificate to be renewed has ended meanwhile"));
    }
    // Two requests may have raced to here.
    if let Some(same) = identity::renewed_for(tx, enrollment_id, issued.public_key, signer, tx.now())? {
        return Ok(same);
    }
    if identity::count_in_use(tx, enrollment_id, tx.now())? >= MOST_IN_USE {
        return Err(Error::invalid("this device has enough identities; it has to use one of them first"));
    }
    let origin = Origin::Renewal(enrollment_id.to_owned());
    let nobody_knows = id::secret::<32>();
    session::open_as(tx, issued.session_id, &nobody_knows, &origin, &session.parameters, tx.now())?;
    session::bind(tx, issued.session_id, enrollment_id)?;
    let fingerprint = identity::insert(tx, issued)?;
    identity::pin(tx, &fingerprint, enrollment_id)?;
    Ok(issued.certificate.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_in_the_query_is_read_as_clients_write_it() {
        let bytes = [0xfb, 0xef, 0xbe, 0xff];
        for text in ["++++/w==", "%2B%2B%2B%2B%2Fw%3D%3D", "----_w", "++++/w", "    /w==", "++%0A++/w=="] {
            let query = format!("operation=PKIOperation&message={text}");
            let message = parameter(&query, "message").and_then(|text| from_base64(&text));
            assert_eq!(message.as_deref(), Some(&bytes[..]), "{text}");
        }
        assert_eq!(from_base64(b"!"), None);
        assert_eq!(from_base64(&b"A".repeat(BODY_LIMIT * 2 + 4)), None);
    }
}
