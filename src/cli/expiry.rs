//! `russet expiry`.

use clap::Args;
use serde_json::{Value as Json, json};

use super::{Common, Done, client, say};

#[derive(Args)]
pub(super) struct Expiry {
    /// Only this kind: push-certificate, tls-certificate, tls-authority, enrollment-ca, profile-signer
    /// or device-identity.
    #[arg(long)]
    kind: Option<String>,
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

impl Expiry {
    pub(super) async fn run(self) -> Done {
        let mut items = client::all(&self.common.load()?, "/api/v1/expiry").await?;
        if let Some(kind) = &self.kind {
            items.retain(|item| item["kind"] == kind.as_str());
        }
        if self.json {
            say(format!("{:#}", json!({"items": items})));
            return Ok(());
        }
        for item in &items {
            let text = |key: &str| item[key].as_str().map_or_else(|| "-".into(), crate::id::printable);
            let mut line = format!(
                "{:<21} {:>5} days  {:<9} {:<17} {}",
                text("not_after"),
                item["days_left"],
                text("state"),
                text("kind"),
                text("subject"),
            );
            if let Some(answer) = item["last_attempt"]["answer"].as_str() {
                let at = |value: &Json| value.as_str().unwrap_or("-").to_owned();
                line.push_str(&format!(
                    "\n                        asked {}: {} Next: {}",
                    at(&item["last_attempt"]["at"]),
                    crate::id::printable(answer),
                    at(&item["next_attempt"]),
                ));
            }
            say(line);
        }
        Ok(())
    }
}
