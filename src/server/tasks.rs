//! What the server does without being asked.
//!
//! Each task is a loop around a function of the layer that owns the matter; tests call those
//! functions and never wait.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::App;
use super::catalogue;
use super::certificate_files::CertificateFiles;
use super::signer::self_signed;
use crate::acme::Acme;
use crate::admin::thin_audit;
use crate::clock::{DAY, rfc3339};
use crate::config::TlsMode;
use crate::ddm::{self, app_set};
use crate::enroll::{Signer, session};
use crate::error::Result;
use crate::expiry::{self, alert};
use crate::library::upload;
use crate::mdm::{event, outbox, queue, renewal, unfinished, wake};
use crate::pki::authority::Authority;
use crate::storage::Tx;

/// How many rows of history one transaction removes, so that devices never wait for it.
const AT_ONCE: u32 = 500;

pub(super) fn start(tasks: &mut JoinSet<()>, app: &Arc<App>) {
    tasks.spawn(wake::run(app.mdm.clone()));
    tasks.spawn(catalogue::follow(app.clone()));
    every(tasks, app, "contacts", Duration::from_secs(60), |app| async move {
        app.mdm.contacts.flush(&app.store).await
    });
    every(tasks, app, "renewals", Duration::from_secs(600), |app| async move {
        renewal::round(&app.mdm).await.map(drop)
    });
    every(tasks, app, "certificates", Duration::from_secs(60), |app| async move {
        app.renew_certificates().await
    });
    if app.acme.is_some() {
        every(tasks, app, "TLS certificate", Duration::from_secs(60), |app| async move {
            match &app.acme {
                Some(acme) => acme.round().await,
                None => Ok(()),
            }
        });
    }
    every(tasks, app, "expiry", Duration::from_secs(60), |app| async move {
        app.store.write("commands.expire", queue::expire_all).await
    });
    every(tasks, app, "alerts", Duration::from_secs(600), |app| async move {
        alert::round(&app.expiry).await.map(drop)
    });
    every(tasks, app, "mail", Duration::from_secs(60), |app| async move {
        expiry::outbox::round(&app.expiry).await.map(drop)
    });
    every(tasks, app, "app sets", Duration::from_secs(5), |app| async move { turn_sets(&app).await });
    every(tasks, app, "files", Duration::from_secs(3600), |app| async move {
        app.store.write("uploads.thin", upload::thin).await?;
        app.mdm.contents.sweep(&app.store).await
    });
    every(
        tasks,
        app,
        "backup",
        Duration::from_secs(60),
        |app| async move { app.backups.make_if_due().await },
    );
    if app.webhook.format().is_some() {
        every(tasks, app, "webhook", Duration::from_secs(1), |app| async move {
            app.webhook.round().await.map(drop)
        });
    }
    every(tasks, app, "history", Duration::from_secs(3600), |app| async move { history(&app).await });
}

/// Runs `work` at once and then every `pause`; a failure is said and it goes on.
fn every<W, F>(tasks: &mut JoinSet<()>, app: &Arc<App>, name: &'static str, pause: Duration, work: W)
where
    W: Fn(Arc<App>) -> F + Send + 'static,
    F: Future<Output = Result<()>> + Send,
{
    let app = app.clone();
    tasks.spawn(async move {
        let mut tick = interval(pause);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Err(error) = work(app.clone()).await {
                tracing::error!(
                    task = name,
                    error = error.chain(),
                    "a background task failed; it is tried again"
                );
            }
        }
    });
}

pub(super) fn watch_certificate(tasks: &mut JoinSet<()>, files: CertificateFiles, app: &App) {
    let (server, signer) = (app.server_certificate.clone(), app.signer.clone());
    tasks.spawn(async move {
        let changed = || match Signer::of_files(&server.pair()) {
            Ok(new) => signer.store(Arc::new(new)),
            Err(error) => {
                tracing::error!(error = error.chain(), "profiles are still signed with the old key");
            }
        };
        if let Err(error) = files.watch(server.clone(), changed).await {
            tracing::error!(error = error.chain(), "the TLS certificate files are not watched");
        }
    });
}

impl App {
    /// Makes what was missing while the clock was wrong, and renews what ends: the enrollment CA, and in
    /// self-signed mode the TLS authority, the TLS certificate and the signer of profiles.
    ///
    /// # Errors
    /// The database's.
    pub async fn renew_certificates(&self) -> Result<()> {
        let config = self.config();
        let organization = config.organization.name.as_str();
        let (lifetimes, now) = (self.lifetimes(), self.store.clock().now());
        let before = self.authority.load_full();
        if (*before).as_ref().is_none_or(|own| own.is_due(lifetimes, now) || own.knows_ended(now)) {
            let made = Authority::open(&self.store, &self.seal, organization, lifetimes).await?;
            if let Some(made) = made {
                let is_successor =
                    (*before).as_ref().is_some_and(|own| own.certificate_der() != made.certificate_der());
                if is_successor {
                    let words = format!(
                        "A new enrollment CA issues from now on, until {}; the one before it is still answered.",
                        rfc3339(made.not_after())
                    );
                    self.tell("enrollment-ca-succeeded", words).await?;
                }
                self.client_certificates.name_authority(made.subject_der());
                self.authority.store(Arc::new(Some(made)));
            }
        }
        // In mode `acme` ours is presented until a CA gave one.
        let waits = self.acme.as_ref().map(Acme::current).transpose()?.is_some_and(|issued| issued.is_none());
        if config.tls.mode == TlsMode::SelfSigned || waits {
            let used = self.server_certificate.pair();
            let (pair, signer) =
                self_signed(&self.store, &self.seal, organization, &self.names, lifetimes, Some(&used))
                    .await?;
            // While the clock is wrong there is no anchor, and what is in use stays.
            if signer.anchor.is_some() {
                let known = self.signer.load_full();
                if let Some(next) = signer.next.as_ref().filter(|next| known.next.as_ref() != Some(*next))
                    && known.anchor.is_some()
                    && next.made_at == now
                {
                    let words =
                        "The next TLS authority was made; devices are told of it with their profiles.";
                    self.tell("tls-authority-made", words.into()).await?;
                }
                if known.anchor.is_some() && known.anchor != signer.anchor {
                    let words = "The next TLS authority took over; the TLS certificate is from it now.";
                    self.tell("tls-authority-succeeded", words.into()).await?;
                }
                // Each ends by itself: the signer of profiles may be new where the TLS certificate is not.
                if used.chain != pair.chain {
                    self.server_certificate.replace(pair)?;
                }
                // What was signed by this very signer is kept (`enroll`), so it is replaced by another only.
                if known.certificate != signer.certificate || known.next != signer.next {
                    self.signer.store(Arc::new(signer));
                }
            }
        }
        Ok(())
    }
}

impl App {
    /// Says what happened to our own authorities, in the log and among the events.
    async fn tell(&self, kind: &'static str, words: String) -> Result<()> {
        tracing::info!(kind, "{words}");
        self.store.write("authority.told", move |tx| event::record(tx, kind, None, &words)).await
    }
}

/// Switches the sets of apps whose time has come.
///
/// # Errors
/// The database's.
pub(super) async fn turn_sets(app: &App) -> Result<()> {
    let now = app.store.clock().now();
    if !app.store.peek(|conn| app_set::is_due(conn, now))? {
        return Ok(());
    }
    for (name, active) in app.store.write("app_sets.turn", app_set::turn).await? {
        tracing::info!(set = name, active, "a set of apps was switched at its time");
    }
    Ok(())
}

/// Thins the history as `[retention]` says.
async fn history(app: &App) -> Result<()> {
    let clock = app.store.clock();
    if !clock.is_sane() {
        return Ok(());
    }
    let before = clock.now() - i64::from(app.config().retention.days) * DAY;
    // What is thrown away is found by a reader.
    for ids in app.store.read(move |conn| event::outlived(conn, before)).await?.chunks(AT_ONCE as usize) {
        let ids = ids.to_vec();
        app.store.write("events.thin", move |tx| event::remove(tx, &ids)).await?;
    }
    for ids in app.store.read(move |conn| queue::outlived(conn, before)).await?.chunks(AT_ONCE as usize) {
        let ids = ids.to_vec();
        app.store.write("commands.thin", move |tx| queue::remove(tx, &ids)).await?;
    }
    // Who did what is asked for later than what devices did.
    let year = before.min(clock.now() - 365 * DAY);
    while app.store.write("audit.thin", move |tx| thin_audit(tx, year, AT_ONCE)).await? > 0 {}
    if app.webhook.format().is_none() && app.store.peek(|conn| outbox::has_old(conn, clock.now()))? {
        app.store.write("outbox.thin", outbox::forget_old).await?;
    }
    while app.store.write("unfinished.thin", |tx| unfinished::thin(tx, AT_ONCE)).await? > 0 {}
    while app.store.write("sessions.thin", |tx| session::thin(tx, AT_ONCE)).await? > 0 {}
    let changes = move |tx: &Tx<'_>| ddm::status::change::thin(tx, before, AT_ONCE);
    while app.store.write("changes.thin", changes).await? > 0 {}
    let reports = move |tx: &Tx<'_>| ddm::status::report::thin(tx, before, AT_ONCE);
    while app.store.write("reports.thin", reports).await? > 0 {}
    let errors = move |tx: &Tx<'_>| ddm::status::error::thin(tx, before, AT_ONCE);
    while app.store.write("errors.thin", errors).await? > 0 {}
    snapshots(app).await
}

/// Removes sets of declarations that nobody has any more, and then what only those named.
async fn snapshots(app: &App) -> Result<()> {
    let now = app.store.clock().now();
    loop {
        let sets = app.store.read(move |conn| ddm::snapshot::outlived(conn, now, AT_ONCE)).await?;
        if sets.is_empty() {
            break;
        }
        app.store.write("snapshots.thin", move |tx| ddm::snapshot::remove(tx, &sets)).await?;
    }
    let versions = app.store.read(move |conn| ddm::snapshot::outlived_versions(conn, now)).await?;
    for some in versions.chunks(AT_ONCE as usize) {
        let some = some.to_vec();
        app.store.write("versions.thin", move |tx| ddm::snapshot::remove_versions(tx, &some)).await?;
    }
    Ok(())
}
