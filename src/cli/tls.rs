//! `russet tls show|renew`: the certificate that the listeners present.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::Value as Json;

use super::client::Client;
use super::{Common, Done, say};

#[derive(Subcommand)]
pub(super) enum Tls {
    /// Shows the TLS certificate: names, issuer, end, and how the last renewals went.
    Show(Plain),
    /// Asks the ACME server for a new certificate now.
    Renew(Plain),
}

#[derive(Args)]
pub(super) struct Plain {
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

impl Tls {
    pub(super) async fn run(self) -> Done {
        let (method, path, plain) = match &self {
            Self::Show(plain) => (Method::GET, "/api/v1/tls-certificate", plain),
            Self::Renew(plain) => (Method::POST, "/api/v1/tls-certificate/renew", plain),
        };
        let shown = Client::connect(&plain.common.load()?).await?.json(method, path, None).await?;
        if plain.json {
            say(format!("{shown:#}"));
        } else {
            print(&shown);
        }
        Ok(())
    }
}

fn print(shown: &Json) {
    let text = |value: &Json| match value {
        Json::String(text) => text.clone(),
        Json::Array(several) => several.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(", "),
        Json::Null => "-".into(),
        other => other.to_string(),
    };
    for (label, key) in [
        ("mode", "mode"),
        ("names", "names"),
        ("issuer", "issuer"),
        ("serial number", "serial_number"),
        ("valid until", "not_after"),
        ("asked", "directory"),
        ("renewed on", "renew_at"),
    ] {
        if !shown[key].is_null() {
            say(format!("{label:<14} {}", text(&shown[key])));
        }
    }
    for attempt in shown["attempts"].as_array().into_iter().flatten().take(5) {
        say(format!("  {}  {}", text(&attempt["at"]), text(&attempt["words"])));
    }
}
