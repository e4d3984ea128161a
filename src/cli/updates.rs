//! `russet updates`: which version each device has, which it should have, and how far it is.

use clap::Args;
use serde_json::{Value as Json, json};

use super::{Common, Done, client, say};
use crate::id::printable;

#[derive(Args)]
pub(super) struct Updates {
    /// Only those in this state.
    #[arg(long, value_parser = ["current", "behind", "pending", "installing", "failed", "unknown", "no_target"])]
    state: Option<String>,
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

impl Updates {
    pub(super) async fn run(self) -> Done {
        let mut items = client::all(&self.common.load()?, "/api/v1/updates").await?;
        if let Some(state) = &self.state {
            items.retain(|item| item["state"] == state.as_str());
        }
        if self.json {
            say(format!("{:#}", json!({"items": items})));
            return Ok(());
        }
        for item in &items {
            say(line(item));
        }
        Ok(())
    }
}

/// A device in a line: what follows its dates is why it is where it is.
fn line(item: &Json) -> String {
    let text = |value: &Json| value.as_str().map_or_else(|| "-".to_owned(), printable);
    let version = |of: &Json| match of["build"].as_str() {
        Some(build) => format!("{} ({})", text(&of["version"]), printable(build)),
        None => text(&of["version"]),
    };
    let why = [&item["failure"]["words"], &item["no_target"]].into_iter().find_map(Json::as_str);
    let line = format!(
        "{:<40} {:<24} {:<10} {:<16} {:<16} {:<19} {:<12} {}",
        text(&item["id"]),
        text(&item["name"]),
        text(&item["state"]),
        version(&item["current"]),
        version(&item["target"]),
        text(&item["target"]["at"]),
        text(&item["group"]),
        why.map(printable).unwrap_or_default(),
    );
    line.trim_end().to_owned()
}
