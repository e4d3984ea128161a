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
        // A state in which nobody is has no lines, and no heading over them.
        if !items.is_empty() {
            say(columns(
                ["ID", "NAME", "STATE", "HAS", "SHOULD HAVE", "BY", "GROUP", "WHY"].map(str::to_owned),
            ));
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
    let notes = item["notes"].as_array().into_iter().flatten();
    let why = [&item["failure"]["words"], &item["no_target"]].into_iter().chain(notes);
    let why: Vec<String> = why.filter_map(Json::as_str).map(printable).collect();
    columns([
        text(&item["id"]),
        text(&item["name"]),
        text(&item["state"]),
        version(&item["current"]),
        version(&item["target"]),
        text(&item["target"]["at"]),
        text(&item["group"]),
        why.join(" "),
    ])
}

fn columns([id, name, state, has, should, by, group, why]: [String; 8]) -> String {
    let line = format!("{id:<40} {name:<24} {state:<10} {has:<16} {should:<16} {by:<19} {group:<12} {why}");
    line.trim_end().to_owned()
}
