//! `russet compliance`: which devices are as they should be, and what is wrong with the others.

use clap::Args;
use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value as Json, json};

use super::client::Client;
use super::{Common, Done, say};
use crate::id::printable;

#[derive(Args)]
pub(super) struct Compliance {
    /// Only the devices of this group.
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Facts that should be so, beyond those that always should, e.g. passcode_present,lockdown_mode.
    #[arg(long, value_name = "FACTS", default_value = "")]
    want: String,
    /// Facts that need not be so, e.g. filevault.
    #[arg(long, value_name = "FACTS", default_value = "")]
    ignore: String,
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn text(value: &Json) -> String {
    value.as_str().map_or_else(|| "-".to_owned(), printable)
}

impl Compliance {
    pub(super) async fn run(self) -> Done {
        let config = self.common.load()?;
        let path = match &self.group {
            Some(name) => format!("/api/v1/groups/{}/compliance", encoded(name)),
            None => "/api/v1/compliance".to_owned(),
        };
        let path = format!("{path}?limit=500&want={}&ignore={}", encoded(&self.want), encoded(&self.ignore));
        let (mut items, mut summary, mut next) = (Vec::new(), Json::Null, Some(path.clone()));
        while let Some(page) = next {
            let mut answer = Client::connect(&config).await?.json(Method::GET, &page, None).await?;
            if summary.is_null() {
                summary = answer["summary"].take();
            }
            items.extend(answer["items"].as_array().cloned().unwrap_or_default());
            next = answer["next"].as_str().map(|next| format!("{path}&cursor={}", encoded(next)));
        }
        if self.json {
            say(format!("{:#}", json!({"items": items, "summary": summary})));
            return Ok(());
        }
        for item in &items {
            print(item);
        }
        say(format!(
            "{} devices: {} as they should be, {} not, {} not known.",
            summary["devices"], summary["compliant"], summary["not_compliant"], summary["unknown"],
        ));
        Ok(())
    }
}

/// A line for the device, and one for each thing that is wrong or not known.
fn print(item: &Json) {
    let verdict = match item["compliant"].as_bool() {
        Some(true) => "ok",
        Some(false) => "failing",
        None => "unknown",
    };
    say(format!(
        "{verdict:<8} {:<40} {:<14} {:<20} {}",
        text(&item["id"]),
        text(&item["serial_number"]),
        text(&item["name"]),
        text(&item["os_version"]),
    ));
    for fact in item["facts"].as_array().into_iter().flatten() {
        if matches!(fact["state"].as_str(), Some("failing" | "unknown")) {
            say(format!("  {}: {} ({})", text(&fact["state"]), text(&fact["words"]), text(&fact["name"])));
        }
    }
}
