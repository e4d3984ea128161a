//! `russet push-certificate import|show`.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value as Json, json};

use super::client::Client;
use super::{Common, Done, Failure};

#[derive(Subcommand)]
pub(super) enum PushCertificate {
    /// Takes a push certificate and its key: .pem, .cer or .p12.
    Import(Import),
    /// Shows the push certificates: topic, expiry, who issued them, devices on each.
    Show(Show),
}

#[derive(Args)]
pub(super) struct Import {
    /// The certificate, and its key unless --key names it; several files together are one import.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The private key, when it is a file of its own.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// A file that holds the password of a .p12.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The Apple Account that the certificate was made with; kept, since Apple asks for it.
    #[arg(long, value_name = "ACCOUNT")]
    apple_account: Option<String>,
    /// Takes a certificate of another topic although N enrolled devices are lost by it.
    #[arg(long, value_name = "N")]
    replace_topic: Option<u64>,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub(super) struct Show {
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

impl PushCertificate {
    pub(super) async fn run(self) -> Done {
        match self {
            Self::Import(import) => import.run().await,
            Self::Show(show) => {
                let client = Client::connect(&show.common.load()?).await?;
                let list = client.json(Method::GET, "/api/v1/push-certificates?limit=500", None).await?;
                if show.json {
                    println!("{list:#}");
                    return Ok(());
                }
                let items = list["items"].as_array().cloned().unwrap_or_default();
                if items.is_empty() {
                    return Err(Failure::Wrong(
                        "There is no push certificate yet. Import one with: \
                         russet push-certificate import CERTIFICATE.pem --key KEY.pem"
                            .into(),
                    ));
                }
                items.iter().for_each(print);
                Ok(())
            }
        }
    }
}

impl Import {
    async fn run(self) -> Done {
        let certificate = self.files.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>()?;
        // Several files are PEM or fit no single text; one that is not PEM travels as base64.
        let certificate = if certificate.len() == 1 {
            as_text(&certificate[0])
        } else {
            certificate.iter().map(|bytes| as_pem(bytes)).collect::<Vec<_>>().join("\n")
        };
        let key = self.key.as_deref().map(read).transpose()?.map(|bytes| as_text(&bytes));
        let password = self.password_file.as_deref().map(read).transpose()?;
        let password =
            password.map(|bytes| String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned());
        let client = Client::connect(&self.common.load()?).await?;
        let body = json!({
            "certificate": certificate,
            "private_key": key,
            "password": password,
            "apple_account": self.apple_account,
            "replace_topic": self.replace_topic,
        });
        let made = client.json(Method::POST, "/api/v1/push-certificates", Some(&body)).await?;
        print(&made);
        Ok(())
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|error| Failure::Wrong(format!("{} cannot be read: {error}", file.display())))
}

fn is_pem(bytes: &[u8]) -> bool {
    bytes.windows(11).any(|window| window == b"-----BEGIN ")
}

fn as_text(bytes: &[u8]) -> String {
    if is_pem(bytes) { String::from_utf8_lossy(bytes).into_owned() } else { STANDARD.encode(bytes) }
}

fn as_pem(bytes: &[u8]) -> String {
    if is_pem(bytes) {
        String::from_utf8_lossy(bytes).into_owned()
    } else {
        crate::pki::pem::encode("CERTIFICATE", bytes)
    }
}

fn print(certificate: &Json) {
    let text = |key: &str| match &certificate[key] {
        Json::String(text) => text.clone(),
        Json::Null => "-".into(),
        other => other.to_string(),
    };
    println!("{}", text("topic"));
    for (label, key) in [
        ("current", "current"),
        ("valid until", "not_after"),
        ("serial number", "serial_number"),
        ("subject", "subject"),
        ("issuer", "issuer"),
        ("Apple Account", "apple_account"),
        ("imported at", "imported_at"),
        ("enrollments", "enrollments"),
    ] {
        println!("  {label:<14} {}", text(key));
    }
}
