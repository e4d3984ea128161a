//! `[appliance]`: what the machine image sets up at first boot; checked everywhere.
//!
//! Read by `tables`. The image alone acts on it, but it is checked on every machine, so that a
//! mistake shows at the desk and not on a screenless box in a cupboard.
//!
//! **Invariant:** what is in here can be written into the files of systemd, of the SSH server and
//! of wpa_supplicant as it is: no value has a line break.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use super::address::host;
use super::check::line;
use super::secret::Secret;
use super::settings::Settings;

/// The machine itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appliance {
    /// One DNS label.
    pub hostname: String,
    /// As in the tz database, e.g. `Europe/Berlin`.
    pub timezone: String,
    /// Names or addresses; empty means those of the image.
    pub ntp: Vec<String>,
    /// Lines as in `authorized_keys`; empty means that SSH is off.
    pub ssh_keys: Vec<String>,
    /// A backup to begin with.
    pub restore: Option<PathBuf>,
    pub network: Network,
    pub wifi: Wifi,
}

/// A fixed address; without one it is asked for by DHCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The machine's address and the length of its network's prefix.
    pub address: Option<IpNet>,
    pub gateway: Option<IpAddr>,
    pub dns: Vec<IpAddr>,
}

/// The wireless network to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wifi {
    pub ssid: Option<String>,
    /// `None` joins an open network.
    pub password: Option<Secret>,
    /// ISO 3166, two capitals: which channels are allowed.
    pub country: Option<String>,
}

pub(super) fn table(settings: &mut Settings) -> Appliance {
    Appliance {
        hostname: settings.text("appliance.hostname", "russet".into(), hostname),
        timezone: settings.text("appliance.timezone", "UTC".into(), timezone),
        ntp: settings.list("appliance.ntp", Vec::new(), host),
        ssh_keys: settings.list("appliance.ssh_keys", Vec::new(), ssh_key),
        restore: settings.path("appliance.restore"),
        network: network(settings),
        wifi: wifi(settings),
    }
}

fn network(settings: &mut Settings) -> Network {
    let ip = |text: &str| {
        text.parse::<IpAddr>()
            .map_err(|_| format!("{text:?} is not an IP address; write for example \"192.0.2.1\""))
    };
    let address = settings.optional("appliance.network.address", |text| match text.parse::<IpNet>() {
        Ok(net) => Ok(net),
        Err(_) => {
            Err(format!("{text:?} is not an address with its prefix; write for example \"192.0.2.10/24\""))
        }
    });
    let gateway = settings.optional("appliance.network.gateway", ip);
    let dns = settings.list("appliance.network.dns", Vec::new(), ip);
    match (address, gateway) {
        (None, Some(_)) => settings.contradiction(
            &["appliance.network.gateway", "appliance.network.address"],
            "a gateway alone sets nothing; write `address` too, or take the gateway away for DHCP",
        ),
        // An IPv6 gateway is usually a link-local address, outside every network of ours.
        (Some(address @ IpNet::V4(_)), Some(gateway)) if !address.contains(&gateway) => settings
            .contradiction(
                &["appliance.network.gateway", "appliance.network.address"],
                format!(
                    "{gateway} is not in the network {}; write a gateway that is, or correct `address`",
                    address.trunc()
                ),
            ),
        _ => {}
    }
    Network { address, gateway, dns }
}

fn wifi(settings: &mut Settings) -> Wifi {
    let ssid = settings.optional("appliance.wifi.ssid", |text| match text.len() {
        1..=32 if !text.contains(char::is_control) => Ok(text.to_owned()),
        _ => Err("the name of a wireless network has at most 32 bytes and no control characters; write it as the router shows it".into()),
    });
    let password = settings.optional("appliance.wifi.password", wifi_password);
    let country = settings.optional("appliance.wifi.country", |text| match text.as_bytes() {
        [a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is not a country; write its two capital letters, e.g. \"DE\"")),
    });
    if password.is_some() && ssid.is_none() {
        settings.contradiction(
            &["appliance.wifi.password", "appliance.wifi.ssid"],
            "there is a password and no `ssid`; write the name of the network",
        );
    }
    Wifi { ssid, password, country }
}

fn hostname(text: &str) -> Result<String, String> {
    if text.contains('.') {
        return Err(format!("{text:?} has a dot; write the first part alone, e.g. \"russet\""));
    }
    host(text)
}

fn timezone(text: &str) -> Result<String, String> {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+-".contains(&byte))
    };
    if text.len() <= 64 && text.split('/').all(part) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not a time zone; write for example \"Europe/Berlin\" or \"UTC\""))
    }
}

fn ssh_key(text: &str) -> Result<String, String> {
    let text = line(text, 4096, "a public key, as in authorized_keys")?;
    let mut words = text.split_ascii_whitespace();
    let (kind, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let kinds = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-sha2-"];
    // Base64 of a length of 0 to 255: what every public key begins with (RFC 4253 section 6.6).
    if kinds.iter().any(|known| kind.starts_with(known)) && key.starts_with("AAAA") {
        return Ok(text);
    }
    // The text is not repeated: it may be a private key, pasted by mistake.
    Err("this is not a public SSH key; write the line of the file that ends in .pub, e.g. \"ssh-ed25519 AAAA… name\"".into())
}

/// A passphrase of 8 to 63 printable ASCII characters or a key of 64 hexadecimal digits (IEEE 802.11).
fn wifi_password(text: &str) -> Result<Secret, String> {
    let printable = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    let hexadecimal = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if printable && (8..=63).contains(&text.len()) || hexadecimal && text.len() == 64 {
        Ok(Secret::new(text))
    } else {
        Err("a Wi-Fi password has 8 to 63 characters of ASCII; write it as the router has it".into())
    }
}
