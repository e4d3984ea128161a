//! `russet doctor`: what is wrong, and what to do about it.

use std::path::PathBuf;

use clap::Args;
use hyper::Method;
use serde_json::json;

use super::client::Client;
use super::{Common, Done, Failure, complain, say};
use crate::clock::Clock;
use crate::config::Config;
use crate::doctor::hosts::{self, Surveyor};
use crate::finding;
use crate::pki::seal::write_private;

#[derive(Args)]
pub(super) struct Doctor {
    #[arg(long)]
    json: bool,
    /// Only which of Apple's hosts this network leads to; needs no server and no configuration.
    #[arg(long, conflicts_with = "bundle")]
    hosts: bool,
    /// Writes a support bundle there: findings, settings, versions and the last lines of the log, without any secret.
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

impl Doctor {
    pub(super) async fn run(self) -> Done {
        if self.hosts {
            return self.survey().await;
        }
        let config = self.common.load()?;
        if let Some(path) = &self.bundle {
            write_private(path, b"")?;
            let mut file = std::fs::File::create(path)
                .map_err(|error| Failure::Wrong(format!("{} cannot be written: {error}", path.display())))?;
            let client = Client::connect(&config).await?;
            client.download(Method::GET, "/api/v1/support-bundle", &mut file).await?;
            say(format!("{}: look what is in it before you give it away (tar -xzf).", path.display()));
            return Ok(());
        }
        let client = Client::connect(&config).await?;
        if client.is_here() {
            complain("No server runs on this data folder, so nothing answers at its address: russet serve.");
        }
        let answer = client.json(Method::GET, "/api/v1/findings?fresh=1", None).await?;
        if self.json {
            say(format!("{answer:#}"));
        } else {
            say(finding::text(&answer).trim_end());
        }
        match finding::is_failing(&answer) {
            true => Err(Failure::Said),
            false => Ok(()),
        }
    }

    /// The table, from this computer, whoever's it is.
    async fn survey(&self) -> Done {
        let settings = match self.common.file() {
            Some(_) => self.common.load()?.doctor,
            None => Config::default().doctor,
        };
        let survey = Surveyor::new(&settings)?.survey(Clock::system().now()).await;
        if self.json {
            say(format!("{:#}", json!({"items": survey.items, "no_route": survey.no_route})));
        } else {
            say(hosts::table(&survey).trim_start());
            say(hosts::advice(&survey));
        }
        match survey.is_failing() {
            true => Err(Failure::Said),
            false => Ok(()),
        }
    }
}
