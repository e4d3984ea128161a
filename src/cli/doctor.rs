//! `russet doctor`: what is wrong, and what to do about it.

use std::path::PathBuf;

use clap::Args;
use hyper::Method;

use super::client::Client;
use super::{Common, Done, Failure, say};
use crate::finding;
use crate::pki::seal::write_private;

#[derive(Args)]
pub(super) struct Doctor {
    #[arg(long)]
    json: bool,
    /// Writes a support bundle there: findings, settings, versions and the last lines of the log, without any secret.
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

impl Doctor {
    pub(super) async fn run(self) -> Done {
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
        let answer =
            Client::connect(&config).await?.json(Method::GET, "/api/v1/findings?fresh=1", None).await?;
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
}
