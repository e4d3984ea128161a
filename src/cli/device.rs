//! `russet device list|show|apps|send|revoke`.

use std::io::Read;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value as Json, json};

use super::client::{self, Client};
use super::{Common, Done, Failure, complain, say};

#[derive(Subcommand)]
pub(super) enum Device {
    /// Lists devices and their users.
    List(List),
    /// Shows one device.
    Show(Show),
    /// Lists the apps and packages that one device should have or reports.
    Apps(Show),
    /// Queues a command and wakes the device.
    Send(Send),
    /// Revokes a device's identity, which is lost or stolen: it is refused until it enrolls again.
    Revoke(Show),
}

#[derive(Args)]
pub(super) struct List {
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub(super) struct Show {
    /// The enrollment ID, as `device list` shows it.
    id: String,
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub(super) struct Send {
    /// The enrollment ID, as `device list` shows it.
    id: String,
    /// A RequestType, e.g. DeviceInformation or RestartDevice.
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    request_type: Option<String>,
    /// Keys of the command as KEY=JSON, e.g. 'Queries=["DeviceName","OSVersion"]'.
    #[arg(value_name = "KEY=JSON")]
    keys: Vec<String>,
    /// A whole command from a file, JSON or property list; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

fn enrollment(id: &str) -> String {
    format!("/api/v1/enrollments/{}", utf8_percent_encode(id, NON_ALPHANUMERIC))
}

fn text(object: &Json, key: &str) -> String {
    match &object[key] {
        Json::String(text) => crate::id::printable(text),
        Json::Null => "-".into(),
        other => other.to_string(),
    }
}

impl Device {
    pub(super) async fn run(self) -> Done {
        match self {
            Self::List(list) => list.run().await,
            Self::Show(show) => {
                let client = Client::connect(&show.common.load()?).await?;
                let found = client.json(Method::GET, &enrollment(&show.id), None).await?;
                if show.json {
                    say(format!("{found:#}"));
                } else {
                    for key in found.as_object().into_iter().flat_map(serde_json::Map::keys) {
                        say(format!("{key:<18} {}", text(&found, key)));
                    }
                }
                Ok(())
            }
            Self::Apps(apps) => apps.apps().await,
            Self::Send(send) => send.run().await,
            Self::Revoke(revoke) => revoke.revoke().await,
        }
    }
}

impl List {
    async fn run(self) -> Done {
        let items = client::all(&self.common.load()?, "/api/v1/enrollments").await?;
        if self.json {
            say(format!("{:#}", json!({"items": items})));
            return Ok(());
        }
        for item in &items {
            say(format!(
                "{:<40} {:<12} {:<14} {:<20} {:<10} {}",
                text(item, "id"),
                text(item, "state"),
                text(item, "serial_number"),
                text(item, "name"),
                text(item, "os_version"),
                text(item, "last_seen_at"),
            ));
        }
        Ok(())
    }
}

impl Show {
    async fn revoke(self) -> Done {
        let client = Client::connect(&self.common.load()?).await?;
        let path = format!("{}/revoke-identity", enrollment(&self.id));
        let revoked = client.json(Method::POST, &path, None).await?;
        if self.json {
            say(format!("{revoked:#}"));
        } else {
            say(format!(
                "Revoked {}. The device is refused until it enrolls again with a link.",
                revoked["revoked"]
            ));
        }
        Ok(())
    }

    async fn apps(self) -> Done {
        let items = client::all(&self.common.load()?, &format!("{}/apps", enrollment(&self.id))).await?;
        if self.json {
            say(format!("{:#}", json!({"items": items})));
            return Ok(());
        }
        if items.is_empty() {
            complain("This device should have no apps or packages, and has reported none.");
            return Ok(());
        }
        say(format!("{:<32} {:<32} {:<12} {:<10} WHY", "DECLARATION", "APP OR PACKAGE", "STATE", "VERSION"));
        for item in &items {
            let reported = &item["reported"];
            let mut line = format!(
                "{:<32} {:<32} {:<12} {:<10} {}",
                text(item, "declaration"),
                text(reported, "identifier"),
                text(reported, "state"),
                text(reported, "version"),
                [&item["left_out"], &reported["words"]]
                    .into_iter()
                    .find_map(Json::as_str)
                    .map_or_else(String::new, crate::id::printable),
            );
            for reason in reported["reasons"].as_array().into_iter().flatten() {
                line.push(' ');
                line.push_str(&text(reason, "words"));
            }
            say(line.trim_end());
        }
        Ok(())
    }
}

impl Send {
    async fn run(self) -> Done {
        let (kind, body) = match &self.file {
            Some(file) => whole(file)?,
            None => ("application/json", self.command()?.to_string().into_bytes()),
        };
        let client = Client::connect(&self.common.load()?).await?;
        let path = format!("{}/commands", enrollment(&self.id));
        let queued = client.send(Method::POST, &path, Some((kind, body))).await?;
        if self.json {
            say(format!("{queued:#}"));
        } else {
            say(text(&queued, "uuid"));
        }
        for warning in queued["warnings"].as_array().into_iter().flatten().filter_map(Json::as_str) {
            complain(warning);
        }
        Ok(())
    }

    fn command(&self) -> Result<Json, Failure> {
        let mut command = serde_json::Map::new();
        command.insert("RequestType".into(), json!(self.request_type));
        for key in &self.keys {
            let (name, value) = key.split_once('=').ok_or_else(|| {
                Failure::Usage(format!(
                    "{key} is not KEY=JSON; write for example Message='\"Please return\"'"
                ))
            })?;
            // A bare word is a text: quoting twice for the shell is more than a person should have to do.
            let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
            command.insert(name.to_owned(), value);
        }
        Ok(Json::Object(command))
    }
}

fn whole(file: &std::path::Path) -> Result<(&'static str, Vec<u8>), Failure> {
    let mut body = Vec::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut body)
    } else {
        std::fs::File::open(file).and_then(|mut opened| opened.read_to_end(&mut body))
    };
    read.map_err(|error| Failure::Wrong(format!("{} cannot be read: {error}", file.display())))?;
    let is_json = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    Ok((if is_json { "application/json" } else { "application/x-plist" }, body))
}
