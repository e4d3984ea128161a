//! `russet admin link`: a fresh one-time sign-in link.

use clap::{Args, Subcommand};
use hyper::Method;

use super::client::Client;
use super::{Common, Done, say};

#[derive(Subcommand)]
pub(super) enum Admin {
    /// Prints a fresh one-time sign-in link.
    Link(Link),
}

#[derive(Args)]
pub(super) struct Link {
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

impl Admin {
    pub(super) async fn run(self) -> Done {
        let Self::Link(link) = self;
        let client = Client::connect(&link.common.load()?).await?;
        let made = client.json(Method::POST, "/api/v1/sign-in-links", None).await?;
        if link.json {
            say(format!("{made:#}"));
        } else {
            say(made["url"].as_str().unwrap_or_default());
        }
        Ok(())
    }
}
