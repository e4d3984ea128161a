//! The target: where to, with which signature, and what its answers mean.
//!
//! **Invariant:** no redirect is followed, and what the target says is bounded and made printable before
//! anybody reads it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, LOCATION};
use hyper::{Request, StatusCode, Uri};

use crate::config::{self, Secret, WebhookFormat, is_public};
use crate::error::{Error, Result};
use crate::https::{self, Client};
use crate::id::{hex, printable};

/// The largest answer, in bytes; nobody reads more than its beginning.
const LARGEST: usize = 64 * 1024;
/// A part of a path that is longer is taken for a secret: addresses of chat services are made of them.
const LONGEST_SHOWN: usize = 12;

pub(super) struct Target {
    client: Client,
    uri: Uri,
    secret: Option<Secret>,
    format: WebhookFormat,
    allow_private: bool,
}

/// What came of sending.
pub(super) struct Said {
    pub(super) status: Option<u16>,
    /// A sentence.
    pub(super) words: String,
    /// The beginning of the answer.
    pub(super) answer: String,
}

impl Said {
    pub(super) fn took_it(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }

    /// Whether another body might be taken: these words are about this one, the others about the target.
    pub(super) fn is_about_the_body(&self) -> bool {
        matches!(self.status, Some(400 | 406 | 409 | 413 | 415 | 422))
    }
}

impl Target {
    /// # Errors
    /// The file of roots or the address, in words.
    pub(super) fn of(settings: &config::Webhook, url: &str) -> Result<Self> {
        let mut roots = https::system_roots();
        if let Some(path) = &settings.trust {
            https::add_file(&mut roots, path, "[webhook] trust")?;
        }
        let patience = Duration::from_secs(u64::try_from(settings.timeout).unwrap_or(15));
        let client = Client::new(roots, patience, LARGEST)?;
        let client = if settings.allow_private { client } else { client.only(is_foreign) };
        let uri =
            url.parse().map_err(|error| Error::invalid(format!("[webhook] url cannot be used: {error}")))?;
        let (secret, format) = (settings.secret.clone(), settings.format);
        Ok(Self { client, uri, secret, format, allow_private: settings.allow_private })
    }

    pub(super) fn is_signed(&self) -> bool {
        self.secret.is_some()
    }

    /// The address without what may be a secret in it: the query, and long parts of the path.
    pub(super) fn shown(&self) -> String {
        let host = self.uri.authority().map_or("", |authority| authority.as_str());
        let path: Vec<&str> = self
            .uri
            .path()
            .split('/')
            .map(|part| if part.len() > LONGEST_SHOWN { "…" } else { part })
            .collect();
        let query = if self.uri.query().is_some() { "?…" } else { "" };
        format!("{}://{host}{}{query}", self.uri.scheme_str().unwrap_or("https"), path.join("/"))
    }

    pub(super) async fn send(&self, uid: &str, topic: &str, body: Vec<u8>) -> Said {
        let mut request =
            Request::post(self.uri.clone()).header("x-russet-id", uid).header("x-russet-topic", topic);
        // Each as its readers know it: MicroMDM's and NanoMDM's names a character set.
        request = request.header(
            CONTENT_TYPE,
            match self.format {
                WebhookFormat::Russet => "application/json",
                WebhookFormat::MicroMdm => "application/json; charset=utf-8",
            },
        );
        if let Some(secret) = &self.secret {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes());
            let tag = hmac::sign(&key, &body);
            request = request.header("x-russet-signature", format!("sha256={}", hex(tag.as_ref())));
            if self.format == WebhookFormat::MicroMdm {
                request = request.header("x-hmac-signature", STANDARD.encode(tag));
            }
        }
        let request = match request.body(Bytes::from(body)) {
            Ok(request) => request,
            Err(error) => {
                return Said {
                    status: None,
                    words: format!("The request cannot be made: {error}."),
                    answer: String::new(),
                };
            }
        };
        match self.client.send(request).await {
            Ok(answer) => Said {
                status: Some(answer.status.as_u16()),
                words: words(answer.status, answer.headers.get(LOCATION).is_some()),
                answer: printable(&String::from_utf8_lossy(&answer.body)),
            },
            Err(error) => {
                let error = printable(&error.to_string());
                let own = !self.allow_private && error.ends_with("may not be asked");
                let why = if own {
                    ": it is in this machine's own network; write `allow_private = true` under [webhook] if that is what you want"
                } else {
                    ""
                };
                Said {
                    status: None,
                    words: format!("The webhook was not told: {error}{why}."),
                    answer: String::new(),
                }
            }
        }
    }
}

fn words(status: StatusCode, leads_elsewhere: bool) -> String {
    let code = status.as_u16();
    match code {
        200..300 => format!("The target took it ({code})."),
        300..400 if leads_elsewhere => format!(
            "The target leads elsewhere ({code}), which is not followed; write the last address as `url` under [webhook]."
        ),
        401 | 403 => format!(
            "The target does not let us in ({code}); is the address complete, and the `secret` the same there?"
        ),
        404 | 405 | 410 => {
            format!("The target has nothing at this address ({code}); look at `url` under [webhook].")
        }
        413 => format!("This event is too large for the target ({code})."),
        429 => format!("The target asks us to wait ({code})."),
        400..500 => format!("The target refused it ({code})."),
        _ => format!("The target failed ({code})."),
    }
}

/// Whether an address is neither ours nor in our network.
fn is_foreign(address: IpAddr) -> bool {
    is_public(address) && !is_neighbour(address)
}

/// Whether a public address is this machine's own, or of the network that it stands in: a home's or a
/// school's devices have public addresses of IPv6 that differ in their last 64 bits (RFC 4291, 2.5.1).
fn is_neighbour(address: IpAddr) -> bool {
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // Nothing is sent: the system only says which address of ours would be used. Without a way there,
    // the connection fails by itself.
    let ours = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    match (ours.map(|ours| ours.ip()), address) {
        (Ok(IpAddr::V6(ours)), IpAddr::V6(theirs)) => ours.segments()[..4] == theirs.segments()[..4],
        (Ok(ours), theirs) => ours == theirs,
        (Err(_), _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Target {
        let settings = config::Webhook {
            url: Some(url.into()),
            secret: None,
            format: WebhookFormat::Russet,
            trust: None,
            allow_private: false,
            timeout: 15,
        };
        Target::of(&settings, url).unwrap()
    }

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        for (url, shown) in [
            ("https://hook.example.org", "https://hook.example.org/"),
            ("https://hook.example.org:444/mdm/in?token=hunter2", "https://hook.example.org:444/mdm/in?…"),
            (
                "https://chat.example.org/services/T0/B0/abcdefghijklmnopqrstuvwx",
                "https://chat.example.org/services/T0/B0/…",
            ),
        ] {
            assert_eq!(target(url).shown(), shown);
        }
    }

    #[test]
    fn this_machine_and_its_network_are_not_foreign() {
        for own in
            ["127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "fe80::1", "fd00::1", "::ffff:127.0.0.1"]
        {
            assert!(!is_foreign(own.parse().unwrap()), "{own}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_to_this_machine_is_refused_when_it_is_asked() {
        let said = target("http://localhost:9/x").send("id", "topic", Vec::new()).await;
        assert!(!said.took_it() && said.words.contains("allow_private = true"), "{}", said.words);
    }
}
