//! Device management: what devices say and what they are answered.
//!
//! A request becomes a [`caller::Caller`] (the only way in), then a check-in message or a report,
//! then one transaction, then a [`reply::Reply`] or a [`reply::Refusal`]. The file names are Apple's
//! message names. `wake` and `renewal` are background tasks; the API (`admin`) reads and writes
//! through the functions here.
//!
//! **Invariant:** nothing but [`reply::Refusal::Unenroll`] can make a device leave management.

pub mod caller;
pub mod claim;
pub mod contact;
pub mod ending;
pub mod enrollment;
pub mod escrow;
pub mod event;
pub mod ids;
pub mod listing;
pub mod outbox;
pub mod pass;
pub mod pushable;
pub mod queue;
pub mod renewal;
pub mod reply;
pub mod subject;
pub mod sync;
pub mod unfinished;
pub mod wake;

mod authenticate;
mod begin;
mod bootstrap_token;
mod check_out;
mod checkin;
mod connect;
mod declarative_management;
mod download;
mod limit;
mod package;
mod token_update;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Extension, State as Handle};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use rusqlite::Connection;

use crate::apns::Apns;
use crate::clock::{DAY, HOUR, MINUTE, Seconds};
use crate::config::WebhookFormat;
use crate::content::Contents;
use crate::ddm;
use crate::enroll::guesses::Guesses;
use crate::enroll::{Enroll, refused_renewal, session};
use crate::error::{Error, Result};
use crate::pki::identity::{self, Fingerprint, Identity, State};
use crate::pki::seal::Seal;
use crate::request::{self, Peer};
use crate::storage::{Store, Tx};
use caller::{Caller, Proxy};
use contact::Contacts;
use ids::Ids;
use outbox::Draft;
use reply::{Refusal, Reply};

/// The largest check-in message or report.
pub const BODY_LIMIT: usize = 10 * 1024 * 1024;

/// How long a device may go on talking after it acknowledged EraseDevice.
const ERASING: Seconds = 10 * MINUTE;

/// The device side of the server; a cheap handle.
#[derive(Clone)]
pub struct Mdm {
    pub store: Store,
    pub seal: Seal,
    pub apns: Apns,
    pub enroll: Enroll,
    pub contacts: Contacts,
    pub contents: Contents,
    pub proxy: Arc<Proxy>,
    limits: Arc<limit::Limits>,
    /// Addresses of packages that were asked for and are none, by network.
    guesses: Arc<Guesses>,
    /// How long before its expiry an identity is renewed.
    renew_before: Seconds,
    /// How others are told, if anybody is.
    told_as: Option<WebhookFormat>,
}

impl Mdm {
    /// Puts the parts together; opens nothing.
    pub fn new(
        store: &Store,
        seal: &Seal,
        apns: &Apns,
        enroll: &Enroll,
        contents: &Contents,
        proxy: Proxy,
        renew_before_days: u32,
    ) -> Self {
        Self {
            store: store.clone(),
            seal: seal.clone(),
            apns: apns.clone(),
            enroll: enroll.clone(),
            contacts: Contacts::default(),
            contents: contents.clone(),
            proxy: Arc::new(proxy),
            limits: Arc::default(),
            guesses: Arc::default(),
            renew_before: i64::from(renew_before_days) * DAY,
            told_as: None,
        }
    }

    /// Tells others by webhook what devices say, in this format; the outbox is to be configured alike.
    #[must_use]
    pub fn telling(self, format: Option<WebhookFormat>) -> Self {
        Self { told_as: format, ..self }
    }

    /// Tells of something that is written nowhere: nobody waits for it, and a channel that repeats
    /// itself is told of a few times a minute.
    fn tell(&self, draft: impl FnOnce(WebhookFormat) -> Draft, what: &str, channel: &str) {
        let Some(format) = self.told_as.filter(|format| *format == WebhookFormat::MicroMdm) else { return };
        if !self.limits.spend_on(what, channel, self.store.clock().now()) {
            return;
        }
        let (draft, seal) = (draft(format), self.seal.clone());
        self.note("outbox", move |tx| draft.keep(tx, &seal));
    }

    /// The device routes. The caller sets [`BODY_LIMIT`] on them.
    pub fn routes(&self) -> Router {
        Router::new()
            .route("/mdm/checkin", put(checkin))
            .route("/mdm/connect", put(connect))
            .route("/mdm/profiles/{identifier}", get(download::profile))
            .route("/mdm/assets/{identifier}", get(download::asset))
            .merge(package::routes().layer(request::forwarded(&self.proxy.trusted)))
            .with_state(self.clone())
    }

    /// The identity is pinned to the device that the message names, or claims it.
    async fn speaks_for(&self, caller: &Caller, ids: &Ids) -> Result<(), Refusal> {
        self.check_ended(caller)?;
        self.is_pinned_to(caller, ids).await
    }

    /// As [`Mdm::speaks_for`], for callers who have heeded what ended.
    async fn is_pinned_to(&self, caller: &Caller, ids: &Ids) -> Result<(), Refusal> {
        let identity = &caller.identity;
        let ours = identity.enrollment_id.as_deref() == Some(ids.device_id.as_str());
        match identity.state {
            State::Claim if ours => Ok(()),
            State::Pinned | State::Superseded if ours => self.in_time(caller),
            State::Issued => Err(Refusal::bad("this identity has not said Authenticate yet")),
            State::Dead => {
                Err(Refusal::bad("this identity has ended; enroll the device again with a new link"))
            }
            State::Claim | State::Pinned | State::Superseded => {
                self.mismatch(caller, ids).await;
                Err(Refusal::bad("the certificate does not belong to the device that the message names"))
            }
        }
    }

    /// As [`Mdm::speaks_for`], but a device that left already may say so again.
    async fn may_leave(&self, caller: &Caller, ids: &Ids) -> Result<(), Refusal> {
        let identity = &caller.identity;
        let ours = identity.enrollment_id.as_deref() == Some(ids.device_id.as_str());
        if identity.state == State::Dead && ours { Ok(()) } else { self.speaks_for(caller, ids).await }
    }

    /// Whoever was asked to unenroll, or whose claim was rejected, hears so, whatever it said.
    fn check_ended(&self, caller: &Caller) -> Result<(), Refusal> {
        let ended = self.store.peek(|conn| ended(conn, &caller.identity))?;
        self.heed(ended)
    }

    /// Gives the answer that ends management, if there is one to give.
    fn heed(&self, ended: Option<Ended>) -> Result<(), Refusal> {
        match ended {
            None => Ok(()),
            Some(Ended::Told { answer, untold }) => {
                if let Some(device_id) = untold {
                    self.note_told(device_id);
                }
                Err(answer)
            }
            Some(Ended::NotErased { device_id, erased_at }) => {
                let clock = self.store.clock();
                if clock.is_sane() && clock.now() - erased_at > ERASING {
                    self.note_still_here(device_id, erased_at);
                }
                Ok(())
            }
        }
    }

    /// Writes down that a device was given the answer that ends management; the answer does not wait
    /// for it, since the device hears it again if this is lost.
    fn note_told(&self, device_id: String) {
        self.note("told_to_unenroll", move |tx| {
            let known = enrollment::find(tx, &device_id)?;
            if known.is_some_and(|known| known.unenroll_at.is_some()) {
                enrollment::told_to_unenroll(tx, &device_id)?;
                wake::nothing_due_for_all(tx, &device_id)?;
                let words = "The device was told that it is managed no more, as an administrator asked.";
                event::record(tx, "unenrolled", Some(&device_id), words)?;
            }
            Ok(())
        });
    }

    /// Writes down that a device was not erased, though it acknowledged the command; until then anybody
    /// with a link could take its place.
    fn note_still_here(&self, device_id: String, erased_at: Seconds) {
        self.note("still_here", move |tx| {
            if enrollment::is_still_here(tx, &device_id, erased_at)? {
                let words = "The device acknowledged that it is erasing itself, and is still here.";
                event::record(tx, "not-erased", Some(&device_id), words)?;
            }
            Ok(())
        });
    }

    /// Writes something down that nobody waits for.
    fn note(&self, name: &'static str, work: impl FnOnce(&Tx<'_>) -> Result<()> + Send + 'static) {
        let store = self.store.clone();
        tokio::spawn(async move {
            if let Err(error) = store.write(name, work).await {
                tracing::warn!(
                    error = error.chain(),
                    write = name,
                    "a device's contact was not written down"
                );
            }
        });
    }

    /// Superseded identities end, and expired ones too: at once if they were never used, and when they
    /// were not renewed for a year.
    fn in_time(&self, caller: &Caller) -> Result<(), Refusal> {
        let (identity, clock) = (&caller.identity, self.store.clock());
        let now = clock.now();
        if !clock.is_sane() {
            return Ok(());
        }
        if identity.state == State::Superseded && identity.state_since + identity::OVERLAP < now {
            return Err(Refusal::bad("this identity was replaced by a newer one; use that"));
        }
        if identity.state == State::Issued && identity.is_expired(now) {
            return Err(Refusal::bad(
                "this identity expired before it was used; enroll the device again with a new link",
            ));
        }
        if identity.not_after + identity::RENEWAL_GRACE < now {
            return Err(Refusal::bad(
                "this identity expired more than a year ago; enroll the device again with a new link",
            ));
        }
        Ok(())
    }

    fn is_expired(&self, caller: &Caller) -> bool {
        let clock = self.store.clock();
        clock.is_sane() && caller.identity.is_expired(clock.now())
    }

    fn not_expired(&self, caller: &Caller) -> Result<(), Refusal> {
        if self.is_expired(caller) {
            return Err(Refusal::bad(
                "this identity has expired; it may connect to be renewed and for nothing else",
            ));
        }
        Ok(())
    }

    /// The channel that speaks is enrolled: its TokenUpdate came.
    fn is_enrolled(&self, ids: &Ids, channel: &str) -> Result<(), Refusal> {
        let known = self.store.peek(|conn| enrollment::find(conn, channel))?;
        enrolled(ids, known.map(|known| known.state))
    }

    /// A device says it is another: refused, and an administrator can read it. Once an hour, so that
    /// a device cannot fill the disk with it.
    async fn mismatch(&self, caller: &Caller, ids: &Ids) {
        let device = caller.identity.enrollment_id.clone().unwrap_or_default();
        if !self.limits.once(&format!("mismatch {device}"), self.store.clock().now(), HOUR) {
            return;
        }
        let words =
            format!("The device used its certificate to speak for {}; it was refused.", ids.device_id);
        let noted = self
            .store
            .write("identity_mismatch", move |tx| {
                event::record(tx, "identity-mismatch", Some(&device), &words)
            })
            .await;
        if let Err(error) = noted {
            tracing::warn!(error = error.chain(), "an event was not written down");
        }
    }

    /// A place among the requests that may write; one device does not take those of all others.
    fn place(&self, caller: &Caller) -> Result<limit::Waiting, Refusal> {
        self.limits.wait(&caller.identity.fingerprint).ok_or(Refusal::Failed(Error::Busy))
    }

    /// A device that repeats what has to be written more than it ever needs to is asked to wait.
    fn limit(&self, caller: &Caller) -> Result<(), Refusal> {
        let now = self.store.clock().now();
        if self.limits.spend(&caller.identity.fingerprint, now) {
            Ok(())
        } else {
            Err(Refusal::Failed(Error::Busy))
        }
    }
}

/// Removes all that is known of a device that will never come, and of its users. What it entrusted to
/// us stays: it may be what opens its disk.
///
/// # Errors
/// The database's.
pub fn forget(tx: &Tx<'_>, device_id: &str) -> Result<()> {
    queue::forget(tx, device_id)?;
    wake::nothing_due_for_all(tx, device_id)?;
    claim::forget(tx, device_id)?;
    session::end_identities(tx, device_id)?;
    refused_renewal::forget(tx, device_id)?;
    for channel in enrollment::channels(tx, device_id)? {
        contact::forget(tx, &channel)?;
        ddm::erase(tx, &channel)?;
    }
    enrollment::forget(tx, device_id)?;
    Ok(())
}

/// Ends every identity that speaks for a device, and the renewals that were sent to it: from now on their
/// keys prove nothing. The device stays enrolled, is refused with 400 and told nothing that would end its
/// management; it comes back by enrolling again. Answers how many there were.
///
/// # Errors
/// `Conflict` when it has none; the database's.
pub fn revoke_identities(tx: &Tx<'_>, device_id: &str) -> Result<u32> {
    let count = identity::count_in_use(tx, device_id, tx.now())?;
    if count == 0 {
        return Err(Error::conflict(
            "this device has no identity that is in use: it has not enrolled yet, has left, or was revoked before",
        ));
    }
    session::end_identities(tx, device_id)?;
    queue::cancel_renewals(tx, device_id)?;
    wake::nothing_due_for_all(tx, device_id)?;
    event::record(
        tx,
        "identity-revoked",
        Some(device_id),
        "The device's identity was revoked: it is refused until it enrolls again.",
    )?;
    Ok(count)
}

/// Whether who was proven to be a device still is: between the proof and the transaction a claim may
/// have been approved, or the device may have left on another connection.
///
/// # Errors
/// `Unauthenticated` when it is not; then nothing is written or handed out for who it was.
fn still_speaks(tx: &Tx<'_>, fingerprint: &Fingerprint) -> Result<()> {
    match identity::find(tx, fingerprint)?.map(|identity| identity.state) {
        Some(State::Pinned | State::Superseded) => Ok(()),
        _ => Err(Error::Unauthenticated("this identity has ended meanwhile".into())),
    }
}

/// What has to be heeded before a device is answered.
enum Ended {
    /// It hears this and nothing else. `untold` is the device of which it is not written down yet.
    Told { answer: Refusal, untold: Option<String> },
    /// It acknowledged EraseDevice then, and speaks all the same.
    NotErased { device_id: String, erased_at: Seconds },
}

/// The answer that ends management, if this identity is to get it.
fn ended(conn: &Connection, identity: &Identity) -> Result<Option<Ended>> {
    let device = match identity.state {
        State::Dead => {
            let rejected = claim::rejected(conn, &identity.fingerprint)?;
            return Ok(rejected.map(|claim| Ended::Told {
                answer: Refusal::unenroll_as(claim.product_name.as_deref(), claim.os_version.as_deref()),
                untold: None,
            }));
        }
        State::Pinned | State::Superseded => identity.enrollment_id.clone(),
        // A device that was renewed while it was asked to leave speaks with what it has got.
        State::Issued => session::find(conn, &identity.session_id)?.and_then(session::Session::renewed),
        State::Claim => None,
    };
    let known = device.map(|device| enrollment::find(conn, &device)).transpose()?.flatten();
    Ok(known.and_then(|known| match (known.unenroll_at, known.erased_at) {
        (Some(_), _) => Some(Ended::Told {
            answer: Refusal::unenroll(&known),
            untold: known.unenroll_told_at.is_none().then_some(known.id),
        }),
        (None, Some(erased_at)) => Some(Ended::NotErased { device_id: known.id, erased_at }),
        (None, None) => None,
    }))
}

/// Whether a channel in this state may speak of more than its enrollment.
fn enrolled(ids: &Ids, state: Option<enrollment::State>) -> Result<(), Refusal> {
    match state {
        Some(enrollment::State::Enrolled) => Ok(()),
        Some(enrollment::State::Pending) => {
            Err(Refusal::bad("this channel has not sent its TokenUpdate yet"))
        }
        Some(enrollment::State::Unenrolled) => {
            Err(Refusal::bad("this enrollment has ended; enroll the device again with a new link"))
        }
        None if ids.kind.is_device() => Err(Refusal::bad("this device is not enrolled here")),
        None => Err(Refusal::bad("this user of the device has not sent a TokenUpdate yet")),
    }
}

async fn checkin(
    Handle(mdm): Handle<Mdm>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(async {
        let caller = caller::prove(&mdm, &*mdm.store.reading()?, &peer, &headers, &body)?;
        let _place = mdm.place(&caller)?;
        checkin::handle(&mdm, &caller, body).await
    })
    .await
}

async fn connect(
    Handle(mdm): Handle<Mdm>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(async {
        let reading = mdm.store.reading()?;
        let caller = caller::prove(&mdm, &reading, &peer, &headers, &body)?;
        // Apple allows one URL for both; a check-in that comes here is one all the same.
        let kind = headers.get(axum::http::header::CONTENT_TYPE).map(axum::http::HeaderValue::as_bytes);
        if kind.is_some_and(|kind| kind.starts_with(b"application/x-apple-aspen-mdm-checkin")) {
            drop(reading);
            let _place = mdm.place(&caller)?;
            return checkin::handle(&mdm, &caller, body).await;
        }
        connect::handle(&mdm, &caller, reading, body).await
    })
    .await
}

/// One line for each exchange, whose span says who and what; an Idle without work is not worth one.
async fn answer(work: impl Future<Output = Result<Reply, Refusal>>) -> Response {
    match work.await {
        Ok(reply) => {
            match &reply {
                Reply::Empty => tracing::debug!("a device was answered with nothing"),
                Reply::Plist(_) | Reply::Json(_) => tracing::info!("a device was answered"),
            }
            reply.into_response()
        }
        Err(refusal) => refusal.into_response(),
    }
}
