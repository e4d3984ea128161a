//! `russet log`: what devices did, and what happened to the server.

use clap::Args;
use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value as Json, json};

use super::client::Client;
use super::{Common, Done, Failure, say};

#[derive(Args)]
pub(super) struct Log {
    /// Only of this enrollment.
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// Only of this kind, e.g. enrolled.
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// How many of the newest, 1 to 500.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    last: u32,
    /// What administrators and scripts did, in place of what devices did.
    #[arg(long, conflicts_with_all = ["device", "kind", "follow"])]
    audit: bool,
    /// Goes on with what happens from now on, until Ctrl-C; needs a running server.
    #[arg(long, short)]
    follow: bool,
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

impl Log {
    pub(super) async fn run(self) -> Done {
        let config = self.common.load()?;
        let what = if self.audit { "audit" } else { "events" };
        let filter = self.filter();
        let path = format!("/api/v1/{what}?limit={}{filter}", self.last);
        let answer = Client::connect(&config).await?.json(Method::GET, &path, None).await?;
        let items = answer["items"].as_array().cloned().unwrap_or_default();
        if self.json && !self.follow {
            say(format!("{:#}", json!({"items": items})));
            return Ok(());
        }
        // The API lists the newest first; a terminal ends with them.
        items.iter().rev().for_each(|item| self.print(item));
        if !self.follow {
            return Ok(());
        }
        let newest = items.first().and_then(|item| item["id"].as_i64());
        let mut last = newest.unwrap_or_default();
        loop {
            let client = Client::connect(&config).await?;
            if client.is_here() {
                return Err(Failure::Wrong(
                    "No server runs on this data folder, so nothing will happen; start it with: russet serve"
                        .into(),
                ));
            }
            let path = format!("/api/v1/events/stream?{}", filter.trim_start_matches('&'));
            client
                .follow(&path, last, |id, data| {
                    last = id;
                    self.print(&data);
                })
                .await?;
        }
    }

    fn filter(&self) -> String {
        [("enrollment", &self.device), ("kind", &self.kind)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_ref()?)))
            .map(|(name, value)| format!("&{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
            .collect()
    }

    fn print(&self, item: &Json) {
        if self.json {
            return say(item);
        }
        let text = |key: &str| item[key].as_str().unwrap_or("-");
        if self.audit {
            let detail =
                if item["detail"].is_null() { String::new() } else { format!("  {}", item["detail"]) };
            say(format!(
                "{}  {:<20} {:<28} {}{detail}",
                text("at"),
                text("actor"),
                text("action"),
                text("object")
            ));
        } else {
            say(format!(
                "{}  {:<24} {:<28} {}",
                text("at"),
                text("kind"),
                text("enrollment_id"),
                text("words")
            ));
        }
    }
}
