//! `russet serve`: runs the server until it is told to stop.

use std::io::IsTerminal;

use clap::Args;
use hyper::Method;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::client::{self, Client};
use super::{Common, Done, Failure, say};
use crate::clock::{Clock, rfc3339};
use crate::config::{Config, Level, Log, LogFormat, Mistakes};
use crate::doctor::recent::Tee;
use crate::error::Error;
use crate::server::App;

#[derive(Args)]
pub(super) struct Serve {
    #[command(flatten)]
    common: Common,
}

impl Serve {
    pub(super) fn run(&self) -> Done {
        let reading = self.common.read()?;
        let (missing, warnings) = (reading.missing_files(), reading.warnings.clone());
        let config = reading.done()?.with_data_dir(self.common.data_dir.as_deref());
        if !missing.is_empty() {
            return Err(Failure::Wrong(Mistakes(missing).to_string()));
        }
        log(&config.log);
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        super::runtime()?.block_on(Box::pin(serve(&config)))
    }
}

async fn serve(config: &Config) -> Done {
    let lock = client::lock(&config.data_dir).await?;
    let app = App::open(config, lock, Clock::system()).await?;
    if !app.store.clock().is_sane() {
        tracing::error!(
            "the clock of this machine is wrong: it says {}. Nothing is issued until it is right; set the time",
            rfc3339(app.store.clock().now())
        );
    }
    let mut stop = Stop::new()?;
    let running = app.serve().await?;
    for address in &running.addresses {
        tracing::info!(%address, url = %config.server.public_url, "listening");
    }
    for address in &running.admin_addresses {
        tracing::info!(%address, "listening for people");
    }
    say(format!("Russet serves {}", config.server.public_url));
    if running.is_first().await? {
        // The same way as `russet admin link`, so that there is only one.
        let link = Client::connect(config).await?.json(Method::POST, "/api/v1/sign-in-links", None).await?;
        say(format!("Sign in once with {}", link["url"].as_str().unwrap_or_default()));
    }
    if let Some(obstacle) = running.app.enroll.obstacle()? {
        say(obstacle);
    }
    stop.asked().await;
    tracing::info!("stopping");
    running.stop().await;
    Ok(())
}

/// SIGTERM from a service manager, SIGINT from a terminal.
pub(super) struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    pub(super) fn new() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|source| Error::caused("signals cannot be listened for", source));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Log lines go to stderr; what a person asked for goes to stdout.
fn log(settings: &Log) {
    let level = match settings.level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    // Libraries tell more than anybody wants to read, and may tell what they should not.
    let filter = EnvFilter::new(format!("warn,russet={level}"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Tee::default);
    match settings.format {
        LogFormat::Json => lines.json().init(),
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
    }
}
