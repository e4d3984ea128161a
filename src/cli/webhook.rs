//! `russet webhook show|test`.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::Value as Json;

use super::client::Client;
use super::{Common, Done, Failure, say};
use crate::id::printable;

#[derive(Subcommand)]
pub(super) enum Webhook {
    /// Shows where events are sent, what waits, and how the last delivery went.
    Show(Options),
    /// Sends a test and says what the target answered.
    Test(Options),
}

#[derive(Args)]
pub(super) struct Options {
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

impl Webhook {
    pub(super) async fn run(self) -> Done {
        match self {
            Self::Show(options) => {
                let state = options.ask(Method::GET, "/api/v1/webhook").await?;
                if options.json {
                    say(format!("{state:#}"));
                    return Ok(());
                }
                if state["configured"] != true {
                    return Err(Failure::Wrong(
                        "There is no webhook. Write where events are sent as `url` under [webhook].".into(),
                    ));
                }
                show(&state);
                Ok(())
            }
            Self::Test(options) => {
                let tested = options.ask(Method::POST, "/api/v1/webhook/test").await?;
                if options.json {
                    say(format!("{tested:#}"));
                } else {
                    let answer = text(&tested["answer"]);
                    say(text(&tested["words"]));
                    if !answer.is_empty() {
                        say(format!("It said: {answer}"));
                    }
                }
                if tested["delivered"] == true { Ok(()) } else { Err(Failure::Said) }
            }
        }
    }
}

impl Options {
    async fn ask(&self, method: Method, path: &str) -> Result<Json, Failure> {
        Client::connect(&self.common.load()?).await?.json(method, path, None).await
    }
}

fn show(state: &Json) {
    say(format!("{} ({} bodies)", text(&state["url"]), text(&state["format"])));
    if state["signed"] != true {
        say("Bodies are not signed: there is no `secret` under [webhook].");
    }
    say(format!("{} wait to be told.", state["waiting"]));
    for (name, words) in [("last_success_at", "Last told at"), ("next_try_at", "Tried again at")] {
        if let Some(at) = state[name].as_str() {
            say(format!("{words} {at}."));
        }
    }
    if let (Some(at), Some(failure)) = (state["last_failure_at"].as_str(), state["last_failure"].as_str()) {
        say(format!("Last failure at {at}: {}", printable(failure)));
    }
    if state["dropped"].as_i64().is_some_and(|dropped| dropped > 0) {
        say(format!("{} were lost, the last at {}.", state["dropped"], text(&state["dropped_at"])));
    }
}

fn text(value: &Json) -> String {
    value.as_str().map(printable).unwrap_or_default()
}
