//! `russet token create|list|revoke`.

use clap::{Args, Subcommand};
use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value as Json, json};

use super::client::{self, Client};
use super::{Common, Done, say};

#[derive(Subcommand)]
pub(super) enum Token {
    /// Makes a token and prints it, once, alone on stdout.
    Create(Create),
    /// Lists tokens: name, scope, expiry, last use.
    List(List),
    /// Revokes a token by its name.
    Revoke(Revoke),
}

#[derive(Args)]
pub(super) struct Create {
    name: String,
    /// What it may do: read, command or admin.
    #[arg(long, default_value = "read", value_parser = ["read", "command", "admin"])]
    scope: String,
    /// How long it works, e.g. 90d; for ever when left out.
    #[arg(long, value_name = "TIME", value_parser = super::length_of_time)]
    expires: Option<String>,
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub(super) struct List {
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub(super) struct Revoke {
    name: String,
    #[command(flatten)]
    common: Common,
}

impl Token {
    pub(super) async fn run(self) -> Done {
        match self {
            Self::Create(create) => {
                let client = Client::connect(&create.common.load()?).await?;
                let body = json!({"name": create.name, "scope": create.scope, "expires_in": create.expires});
                let made = client.json(Method::POST, "/api/v1/tokens", Some(&body)).await?;
                if create.json {
                    say(format!("{made:#}"));
                } else {
                    say(made["token"].as_str().unwrap_or_default());
                }
                Ok(())
            }
            Self::List(list) => {
                let tokens = client::all(&list.common.load()?, "/api/v1/tokens").await?;
                print(&tokens, list.json);
                Ok(())
            }
            Self::Revoke(revoke) => {
                let client = Client::connect(&revoke.common.load()?).await?;
                let path = format!("/api/v1/tokens/{}", utf8_percent_encode(&revoke.name, NON_ALPHANUMERIC));
                client.json(Method::DELETE, &path, None).await?;
                Ok(())
            }
        }
    }
}

fn print(tokens: &[Json], as_json: bool) {
    if as_json {
        return say(format!("{:#}", json!({"items": tokens})));
    }
    for token in tokens {
        let text = |key: &str| token[key].as_str().unwrap_or("-").to_owned();
        say(format!(
            "{:<24} {:<8} expires {:<21} last used {:<21}{}",
            text("name"),
            text("scope"),
            text("expires_at"),
            text("last_used_at"),
            if token["revoked_at"].is_null() { "" } else { " revoked" },
        ));
    }
}
