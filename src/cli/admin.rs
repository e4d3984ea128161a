//! `russet admin link`: a fresh one-time sign-in link.

use clap::{Args, Subcommand};
use hyper::Method;

use super::client::Client;
use super::{Common, Done};

#[derive(Subcommand)]
pub(super) enum Admin {
    /// Prints a fresh one-time sign-in link.
    Link(Link),
}

#[derive(Args)]
pub(super) struct Link {
    #[command(flatten)]
    common: Common,
}

impl Admin {
    pub(super) async fn run(self) -> Done {
        let Self::Link(link) = self;
        let client = Client::connect(&link.common.load()?).await?;
        let made = client.json(Method::POST, "/api/v1/sign-in-links", None).await?;
        println!("{}", made["url"].as_str().unwrap_or_default());
        Ok(())
    }
}
