//! `russet invite`: an enrollment link.

use clap::Args;
use hyper::Method;
use serde_json::json;

use super::client::Client;
use super::{Common, Done, Failure, complain, say};

#[derive(Args)]
pub(super) struct Invite {
    /// How many devices may enroll with it.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    uses: u32,
    /// How long it works, e.g. 7d.
    #[arg(long, value_name = "TIME", value_parser = super::length_of_time, default_value = "7d")]
    expires: String,
    /// Devices that enroll with it join this group.
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Only the device with this serial number, which may then take the place of its own record.
    #[arg(long, value_name = "NUMBER")]
    serial_number: Option<String>,
    /// Shows a QR code in the terminal.
    #[arg(long)]
    qr: bool,
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

impl Invite {
    pub(super) async fn run(self) -> Done {
        let client = Client::connect(&self.common.load()?).await?;
        let body = json!({
            "uses": self.uses,
            "expires_in": self.expires,
            "group": self.group,
            "serial_number": self.serial_number,
        });
        let made = client.json(Method::POST, "/api/v1/invitations", Some(&body)).await?;
        if self.json {
            say(format!("{made:#}"));
            return Ok(());
        }
        let url = made["url"].as_str().unwrap_or_default();
        say(url);
        if self.qr {
            say(qr(url)?);
        }
        if let Some(warning) = made["warning"].as_str() {
            complain(warning);
        }
        Ok(())
    }
}

/// Two rows of modules in each line of text, dark on light whatever the terminal's colours.
fn qr(text: &str) -> Result<String, Failure> {
    let code = qrcode::QrCode::new(text)
        .map_err(|error| Failure::Wrong(format!("the link does not fit a QR code: {error}")))?;
    Ok(code
        .render::<qrcode::render::unicode::Dense1x2>()
        .dark_color(qrcode::render::unicode::Dense1x2::Light)
        .light_color(qrcode::render::unicode::Dense1x2::Dark)
        .build())
}
