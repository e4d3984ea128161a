//! `russet calendar [list|revoke]`.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::json;

use super::client::{self, Client};
use super::{Common, Done, complain, say};

#[derive(Args)]
pub(super) struct Calendar {
    #[command(subcommand)]
    command: Option<Command>,
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Subcommand)]
enum Command {
    /// Lists the addresses that were made, without their tokens.
    List,
    /// Takes an address back.
    Revoke {
        /// Its number, as `calendar list` shows it.
        number: i64,
    },
}

impl Calendar {
    pub(super) async fn run(self) -> Done {
        let config = self.common.load()?;
        match self.command {
            None => {
                let client = Client::connect(&config).await?;
                let made = client.json(Method::POST, "/api/v1/calendar", None).await?;
                if self.json {
                    say(format!("{made:#}"));
                } else {
                    say(made["url"].as_str().unwrap_or_default());
                    complain(
                        "Whoever has this address can read when your certificates end, and nothing else.",
                    );
                }
            }
            Some(Command::List) => {
                let feeds = client::all(&config, "/api/v1/calendar").await?;
                if self.json {
                    say(format!("{:#}", json!({"items": feeds})));
                    return Ok(());
                }
                for feed in &feeds {
                    let text =
                        |key: &str| feed[key].as_str().map_or_else(|| "-".into(), crate::id::printable);
                    let revoked = if feed["revoked_at"].is_null() { "" } else { " revoked" };
                    say(format!(
                        "{:<5} {} by {}{revoked}",
                        feed["id"].to_string(),
                        text("created_at"),
                        text("created_by")
                    ));
                }
            }
            Some(Command::Revoke { number }) => {
                let client = Client::connect(&config).await?;
                client.json(Method::DELETE, &format!("/api/v1/calendar/{number}"), None).await?;
            }
        }
        Ok(())
    }
}
