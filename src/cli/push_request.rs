//! `russet push-certificate request|requests|sign|check|signed`: the way to a push certificate.

use std::path::{Path, PathBuf};

use clap::Args;
use hyper::Method;
use serde_json::{Value as Json, json};

use super::client::{self, Client};
use super::push_certificate::read;
use super::{Common, Done, Failure, complain, say};
use crate::apns::vendor::{Given, Signed as SignedRequest, Vendor};
use crate::clock::{Clock, rfc3339};
use crate::pki::seal::write_private;

#[derive(Args)]
pub(super) struct Request {
    /// The Apple Account with which the certificate will be made; for a renewal the one that is known is kept.
    #[arg(long, value_name = "ACCOUNT")]
    apple_account: Option<String>,
    /// Writes the signing request there in place of stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Sends the request to mdmcert.download, which mails its answer to this address, registered there.
    #[arg(long, value_name = "EMAIL")]
    mdmcert: Option<String>,
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub(super) struct Requests {
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub(super) struct Sign {
    /// The signing request, PEM or DER.
    #[arg(long, value_name = "FILE")]
    csr: PathBuf,
    /// The MDM vendor's certificate; a .p12 may hold its key too.
    #[arg(long, value_name = "FILE")]
    vendor_cert: PathBuf,
    /// The key of the vendor's certificate.
    #[arg(long, value_name = "FILE")]
    vendor_key: Option<PathBuf>,
    /// Apple's intermediate (WWDR) and root, in any order.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    chain: Vec<PathBuf>,
    /// A file that holds the password of a .p12.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Writes what Apple's portal takes there in place of stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Check {
    /// The signed request: the property list, or base64 of it.
    file: PathBuf,
}

#[derive(Args)]
pub(super) struct Signed {
    /// What the vendor gave back, or the file that mdmcert.download mailed (with --mdmcert).
    file: PathBuf,
    /// Of which request; the newest if it is left out.
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// The file is the one that mdmcert.download mailed.
    #[arg(long)]
    mdmcert: bool,
    /// Writes what Apple's portal takes there in place of stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

impl Request {
    pub(super) async fn run(self) -> Done {
        let config = self.common.load()?;
        let body = json!({"apple_account": self.apple_account});
        let path = "/api/v1/push-certificates/request";
        let made = Client::connect(&config).await?.json(Method::POST, path, Some(&body)).await?;
        let id = made["id"].as_str().unwrap_or_default();
        if self.out.is_some() || !self.json {
            write(self.out.as_deref(), made["csr"].as_str().unwrap_or_default())?;
        }
        if self.json {
            say(format!("{made:#}"));
        } else {
            complain(format!("Request {id}. {}", made["advice"].as_str().unwrap_or_default()));
        }
        if let Some(email) = &self.mdmcert {
            let path = format!("{path}/{id}/mdmcert");
            let answer = Client::connect(&config)
                .await?
                .json(Method::POST, &path, Some(&json!({"email": email})))
                .await?;
            complain(answer["words"].as_str().unwrap_or_default());
        }
        Ok(())
    }
}

impl Requests {
    pub(super) async fn run(self) -> Done {
        let items = client::all(&self.common.load()?, "/api/v1/push-certificates/requests").await?;
        if self.json {
            say(format!("{:#}", json!({"items": items})));
            return Ok(());
        }
        for item in items {
            let text = |key: &str| item[key].as_str().unwrap_or("-").to_owned();
            say(format!(
                "{}  {}  signed by {:<17} {}",
                text("id"),
                text("made_at"),
                text("signed_by"),
                text("apple_account")
            ));
        }
        Ok(())
    }
}

impl Sign {
    pub(super) fn run(&self) -> Done {
        let csr = read(&self.csr)?;
        let certificate = read(&self.vendor_cert)?;
        let key = self.vendor_key.as_deref().map(read).transpose()?.unwrap_or_default();
        let chain = self.chain.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>()?;
        let password = self.password_file.as_deref().map(read).transpose()?;
        let password =
            password.map(|bytes| String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned());
        let now = Clock::system().now();
        let given = Given {
            certificate: &certificate,
            key: &key,
            chain: chain.iter().map(Vec::as_slice).collect(),
            password: password.as_deref(),
        };
        let signed = Vendor::read(&given, now)?.sign(&csr, now)?;
        write(self.out.as_deref(), &signed.text)?;
        if let Some(warning) = signed.warning(now) {
            complain(warning);
        }
        Ok(())
    }
}

impl Check {
    pub(super) fn run(&self) -> Done {
        let now = Clock::system().now();
        let signed = SignedRequest::read(&read(&self.file)?, now)?;
        say(format!(
            "The signature and the chain hold. Signed by {}, whose certificate is valid until {}.",
            signed.vendor,
            rfc3339(signed.vendor_not_after)
        ));
        if let Some(warning) = signed.warning(now) {
            say(warning);
        }
        Ok(())
    }
}

impl Signed {
    pub(super) async fn run(self) -> Done {
        let file = read(&self.file)?;
        let config = self.common.load()?;
        let id = match &self.request {
            Some(id) => id.clone(),
            None => newest(&client::all(&config, "/api/v1/push-certificates/requests").await?)?,
        };
        let what = if self.mdmcert { "mdmcert-answer" } else { "signed" };
        let path = format!("/api/v1/push-certificates/request/{id}/{what}");
        let body = Some(("application/octet-stream", file));
        let text = Client::connect(&config).await?.send(Method::POST, &path, body).await?;
        write(self.out.as_deref(), text.as_str().unwrap_or_default())?;
        complain(
            "Upload this at identity.apple.com/pushcert: Renew beside the certificate that is there, Create only for the first.",
        );
        Ok(())
    }
}

fn newest(requests: &[Json]) -> Result<String, Failure> {
    requests.first().and_then(|one| one["id"].as_str()).map(str::to_owned).ok_or_else(|| {
        Failure::Wrong(
            "There is no request that waits. Make one with: russet push-certificate request".into(),
        )
    })
}

/// To a file, or alone on stdout.
fn write(out: Option<&Path>, text: &str) -> Done {
    match out {
        Some(file) => Ok(write_private(file, text.as_bytes())?),
        None => {
            say(text.trim_end());
            Ok(())
        }
    }
}
