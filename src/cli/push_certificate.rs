//! `russet push-certificate import|show|describe|test|rollback|support`; the way to a new one is in `push_request.rs`.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value as Json, json};

use super::client::{self, Client};
use super::{Common, Done, Failure, push_request, say};
use crate::pki::certificate::Certificate;
use crate::pki::key::PrivateKey;
use crate::pki::pem;

#[derive(Subcommand)]
pub(super) enum PushCertificate {
    /// Makes a key and a signing request for a new or renewed push certificate.
    Request(push_request::Request),
    /// Lists the requests that wait for their certificate.
    Requests(push_request::Requests),
    /// The MDM vendor's part: signs a request; needs no server and no configuration.
    Sign(push_request::Sign),
    /// Looks whether Apple's portal would take a signed request.
    Check(push_request::Check),
    /// Gives back what a vendor signed, or what mdmcert.download mailed.
    Signed(push_request::Signed),
    /// Takes a push certificate and its key: .pem, .cer or .p12.
    Import(Import),
    /// Shows the push certificates: topic, expiry, who issued them, devices on each.
    Show(Show),
    /// Writes down the Apple Account of a topic's certificate, or notes.
    Describe(Describe),
    /// Asks Apple whether it takes pushes with a topic's certificate.
    Test(Topic),
    /// Lets the certificate before the current one of a topic push again.
    Rollback(Topic),
    /// Prints what Apple's support asks for when a certificate has to move to another Apple Account.
    Support(Support),
}

#[derive(Args)]
pub(super) struct Describe {
    topic: String,
    #[arg(long, value_name = "ACCOUNT", required_unless_present = "notes")]
    apple_account: Option<String>,
    /// For whoever comes after you: where the password lies, who looks after it.
    #[arg(long)]
    notes: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub(super) struct Topic {
    topic: String,
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub(super) struct Support {
    topic: String,
    /// The Apple Account that it should move to.
    #[arg(long, value_name = "ACCOUNT")]
    new_account: Option<String>,
    #[command(flatten)]
    common: Common,
}

fn path(topic: &str, rest: &str) -> String {
    format!("/api/v1/push-certificates/{}{rest}", utf8_percent_encode(topic, NON_ALPHANUMERIC))
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
    #[arg(long)]
    json: bool,
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
            Self::Request(request) => request.run().await,
            Self::Requests(requests) => requests.run().await,
            Self::Sign(sign) => sign.run(),
            Self::Check(check) => check.run(),
            Self::Signed(signed) => signed.run().await,
            Self::Import(import) => import.run().await,
            Self::Describe(describe) => {
                let client = Client::connect(&describe.common.load()?).await?;
                let body = json!({"apple_account": describe.apple_account, "notes": describe.notes});
                print(&client.json(Method::PATCH, &path(&describe.topic, ""), Some(&body)).await?);
                Ok(())
            }
            Self::Test(topic) => {
                let client = Client::connect(&topic.common.load()?).await?;
                let answer = client.json(Method::POST, &path(&topic.topic, "/test"), None).await?;
                told(&answer, topic.json)
            }
            Self::Rollback(topic) => {
                let client = Client::connect(&topic.common.load()?).await?;
                let made = client.json(Method::POST, &path(&topic.topic, "/rollback"), None).await?;
                if topic.json {
                    say(format!("{made:#}"));
                    return Ok(());
                }
                print(&made);
                told(&made["test"], false)
            }
            Self::Support(support) => {
                let client = Client::connect(&support.common.load()?).await?;
                let account = support.new_account.as_deref().unwrap_or_default();
                let query =
                    format!("/support?new_account={}", utf8_percent_encode(account, NON_ALPHANUMERIC));
                say(client.text(Method::GET, &path(&support.topic, &query)).await?.trim_end());
                Ok(())
            }
            Self::Show(show) => {
                let items = client::all(&show.common.load()?, "/api/v1/push-certificates").await?;
                if show.json {
                    say(format!("{:#}", json!({"items": items})));
                    return Ok(());
                }
                if items.is_empty() {
                    return Err(Failure::Wrong(
                        "There is no push certificate yet. Begin with: russet push-certificate request; or import one with: \
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
        let files =
            self.files.iter().chain(&self.key).map(|file| read(file)).collect::<Result<Vec<_>, _>>()?;
        let (certificate, key) = texts(&files)?;
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
        if self.json {
            say(format!("{made:#}"));
        } else {
            print(&made);
            say(format!("  {}", made["test"]["words"].as_str().unwrap_or_default()));
        }
        Ok(())
    }
}

/// What Apple said; exit code 1 if it is no.
fn told(answer: &Json, as_json: bool) -> Done {
    let words = answer["words"].as_str().unwrap_or_default();
    if as_json {
        say(format!("{answer:#}"));
    } else if answer["works"] == true {
        say(words);
    }
    match (answer["works"] == true, as_json) {
        (true, _) => Ok(()),
        (false, true) => Err(Failure::Said),
        (false, false) => Err(Failure::Wrong(words.to_owned())),
    }
}

pub(super) fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|error| Failure::Wrong(format!("{} cannot be read: {error}", file.display())))
}

fn is_pem(bytes: &[u8]) -> bool {
    bytes.windows(11).any(|window| window == b"-----BEGIN ")
}

/// What the label of a PEM block with these bytes is; a .p12 has none.
fn label(der: &[u8]) -> Option<&'static str> {
    if Certificate::from_der(der).is_ok() {
        return Some("CERTIFICATE");
    }
    // The second look tells the forms apart, but takes a .p12 for one of them.
    PrivateKey::from_der(der).ok()?;
    match PrivateKeyDer::try_from(der).ok()? {
        PrivateKeyDer::Pkcs1(_) => Some("RSA PRIVATE KEY"),
        PrivateKeyDer::Sec1(_) => Some("EC PRIVATE KEY"),
        _ => Some("PRIVATE KEY"),
    }
}

/// The files as the API takes them, `certificate` and `private_key`: whatever has a form in PEM
/// together in one text, and a .p12 by itself in base64.
fn texts(files: &[Vec<u8>]) -> Result<(String, Option<String>), Failure> {
    let (mut pem, mut others) = (Vec::new(), Vec::new());
    for bytes in files {
        match label(bytes) {
            _ if is_pem(bytes) => pem.push(String::from_utf8_lossy(bytes).into_owned()),
            Some(label) => pem.push(pem::encode(label, bytes)),
            // What is no DER at all may be base64 already, or is refused in the server's words.
            None if bytes.first() != Some(&0x30) => others.push(String::from_utf8_lossy(bytes).into_owned()),
            None => others.push(STANDARD.encode(bytes)),
        }
    }
    let mut texts = others.into_iter();
    let texts = match pem.is_empty() {
        true => (texts.next(), texts.next(), texts.next()),
        false => (Some(pem.join("\n")), texts.next(), texts.next()),
    };
    match texts {
        (Some(certificate), key, None) => Ok((certificate, key)),
        _ => Err(Failure::Wrong(
            "these are several .p12 files; give the one with the certificate and its key".into(),
        )),
    }
}

fn print(certificate: &Json) {
    let text = |key: &str| match &certificate[key] {
        Json::String(text) => text.clone(),
        Json::Null => "-".into(),
        other => other.to_string(),
    };
    say(text("topic"));
    for (label, key) in [
        ("current", "current"),
        ("valid until", "not_after"),
        ("serial number", "serial_number"),
        ("subject", "subject"),
        ("issuer", "issuer"),
        ("Apple Account", "apple_account"),
        ("signed by", "signed_by"),
        ("imported at", "imported_at"),
        ("notes", "notes"),
        ("enrollments", "enrollments"),
    ] {
        say(format!("  {label:<14} {}", text(key)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apns::Pair;

    macro_rules! fixture {
        ($name:literal) => {
            include_bytes!(concat!("../../tests/fixtures/push/", $name)).to_vec()
        };
    }

    /// 2027-01-01, when the fixtures are valid.
    const NOW: i64 = 1_798_761_600;

    fn der(pem: &[u8]) -> Vec<u8> {
        use rustls::pki_types::pem::{self, SectionKind};
        let (_, der): (SectionKind, Vec<u8>) = pem::from_buf(&mut &*pem).unwrap().unwrap();
        der
    }

    #[test]
    fn files_of_every_kind_go_together() {
        let (certificate, key) = (fixture!("rsa.pem"), fixture!("rsa-pkcs1.key"));
        let base64 = STANDARD.encode(fixture!("rsa.p12")).into_bytes();
        for files in [
            vec![certificate.clone(), key.clone()],
            vec![der(&certificate), der(&key)],
            vec![key.clone(), der(&certificate)],
            vec![fixture!("rsa.p12")],
            vec![base64],
            vec![der(&certificate), fixture!("rsa.p12")],
            vec![fixture!("rsa.p12"), certificate, der(&key)],
            vec![der(&fixture!("ec.pem")), der(&fixture!("ec-sec1.key"))],
        ] {
            let (one, other) = texts(&files).map_err(|_| ()).unwrap();
            let parts: Vec<&[u8]> = std::iter::once(&one).chain(&other).map(String::as_bytes).collect();
            Pair::from_parts(&parts, Some("secret"), NOW).unwrap();
        }
        let twice = [fixture!("rsa.p12"), fixture!("rsa.p12"), fixture!("rsa.p12")];
        assert!(texts(&twice).is_err());
    }
}
