//! Pebble, Let's Encrypt's small ACME server for tests. It really connects and really asks the name server.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use russet::simulator::Trust;
use serde_json::json;

use super::{Other, listening, made_certificate, support::Port};

pub struct Pebble {
    _server: Other,
    address: Port,
    management: Port,
    log: PathBuf,
    /// The root of its own TLS certificate.
    pub trust: PathBuf,
}

impl Pebble {
    /// Starts it: validates on these ports of the name, whose address it asks `dns` for.
    pub fn start(folder: &Path, http: u16, tls: u16, dns: &str) -> Self {
        let (certificate, key) = made_certificate(folder, "pebble");
        let (address, management) = (Port::reserve(), Port::reserve());
        let config = json!({"pebble": {
            "listenAddress": address.address(),
            "managementListenAddress": management.address(),
            "certificate": certificate,
            "privateKey": key,
            "httpPort": http,
            "tlsPort": tls,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
            "certificateValidityPeriod": 90 * 86_400,
        }});
        let file = folder.join("pebble.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let log = folder.join("pebble.log");
        let out = File::create(&log).unwrap();
        let server = Other::start(
            "pebble",
            "pebble",
            Command::new("pebble")
                .args(["-strict", "-dnsserver", dns, "-config"])
                .arg(&file)
                // It would wait up to 15 seconds before it looks, to be like a busy CA.
                .env("PEBBLE_VA_NOSLEEP", "1")
                .env("PEBBLE_AUTHZREUSE", "0")
                .stdout(out.try_clone().unwrap())
                .stderr(out),
        );
        Self { _server: server, address, management, log, trust: certificate }
    }

    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.address.address())
    }

    pub async fn listening(&self) {
        listening(&self.address.address().to_string(), &self.log).await;
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// The root of what it issues, which is another in each life.
    pub async fn trust(&self) -> Trust {
        let output = tokio::process::Command::new("curl")
            .args(["--silent", "--fail", "--cacert"])
            .arg(&self.trust)
            .arg(format!("https://{}/roots/0", self.management.address()))
            .output()
            .await
            .expect("curl cannot be started; apt-get install curl");
        Trust::nobody().and_pem(&output.stdout).unwrap()
    }

    /// How many accounts were made.
    pub async fn accounts(&self) -> usize {
        self.log()
            .lines()
            .filter(|line| line.contains("There are now") && line.contains("accounts in memory"))
            .count()
    }
}
