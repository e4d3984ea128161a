//! `russet demo`: the whole thing at work, for someone who owns no device.
//!
//! A throw-away server, a loopback stand-in for Apple's push service, and simulated devices that
//! enroll over real TLS and SCEP, are pushed and answer. Nothing leaves this machine, nothing stays.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value as Json, json};
use socket2::{Domain, Socket, Type};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::client::Client;
use super::serve::Stop;
use super::{Done, Failure, complain, say};
use crate::clock::Clock;
use crate::config::{Config, Location};
use crate::error::Error;
use crate::id;
use crate::pki::pem;
use crate::server::App;
use crate::simulator::{Apple, CATALOGUE, Event, Fleet, Happened, Limits, Trust, push_certificate};
use crate::storage::Lock;

/// The topic of the demo's push certificate.
const TOPIC: &str = "com.apple.mgmt.External.russet-demo";
/// How often somebody wants to know something of the devices.
const BETWEEN_COMMANDS: Duration = Duration::from_secs(4);

#[derive(Args)]
pub(super) struct Demo {
    /// How many devices.
    #[arg(long, default_value_t = 12)]
    devices: u32,
    /// Where the server listens; on a free port of this machine when left out.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
}

impl Demo {
    pub(super) async fn run(self) -> Done {
        let mut stop = Stop::new()?;
        let folder = Folder::new()?;
        let played = self.play(&folder.0, &mut stop).await;
        drop(folder);
        say("Everything of the demo is removed.");
        played
    }

    /// Runs until it is asked to stop, and ends when nothing works on the folder any more.
    async fn play(&self, folder: &Path, stop: &mut Stop) -> Done {
        say("Starting a throw-away server and a stand-in for Apple's push service …");
        let apple = Apple::start(Limits::default(), Clock::system()).await?;
        let (mut kept, listen) = match self.listen {
            Some(listen) => (None, listen),
            None => free_port().map(|(kept, listen)| (Some(kept), listen))?,
        };
        let config = config(folder, listen, &apple)?;
        let app = App::open(&config, Lock::take(&config.data_dir)?, Clock::system()).await?;
        let trust = match app.enroll.anchor() {
            Some(anchor) => Trust::nobody().and_pem(pem::encode("CERTIFICATE", &anchor).as_bytes())?,
            None => {
                return Err(Failure::Wrong("the clock of this machine is wrong; set it first".into()));
            }
        };
        // Only Linux lets a listener have an address that a socket keeps, if both reuse addresses.
        if cfg!(not(target_os = "linux")) {
            drop(kept.take());
        }
        let running = app.serve().await?;
        drop(kept);
        // The devices end before the server does: nobody fails at the end.
        let shown = tokio::select! {
            shown = Box::pin(self.show(&config, &apple, &trust)) => shown,
            () = stop.asked() => Ok(()),
        };
        running.stop().await;
        shown
    }

    /// Lets devices enroll and sends them commands, until it is dropped.
    async fn show(&self, config: &Config, apple: &Apple, trust: &Trust) -> Done {
        let api = async |method, path: String, body: Option<Json>| {
            Client::connect(config).await?.json(method, &path, body.as_ref()).await
        };
        let (certificate, key) = push_certificate(TOPIC)?;
        let import = json!({"certificate": certificate, "private_key": key});
        api(Method::POST, "/api/v1/push-certificates".into(), Some(import)).await?;
        // What should be true of every device; they see to it by themselves and report.
        let passcode = json!({"Type": "com.apple.configuration.passcode.settings", "Identifier": "passcode",
            "Payload": {"RequirePasscode": true, "MinimumLength": 6}});
        api(Method::PUT, "/api/v1/declarations/passcode".into(), Some(passcode)).await?;
        api(Method::PUT, "/api/v1/groups/default/declarations/passcode".into(), None).await?;
        // A few more than there are devices, so that a person can open the link too.
        let invitation = json!({"uses": self.devices.saturating_add(10), "expires_in": "1d"});
        let invitation = api(Method::POST, "/api/v1/invitations".into(), Some(invitation)).await?;
        let enroll_link = invitation["url"].as_str().unwrap_or_default().to_owned();
        let link = api(Method::POST, "/api/v1/sign-in-links".into(), None).await?;

        say("Watch in a browser (once; it will warn of the demo's own certificate):");
        say(format_args!("  {}", link["url"].as_str().unwrap_or_default()));
        say(format_args!("The devices enroll with {enroll_link}"));
        say("Ctrl-C ends it.\n");

        let (events, mut heard) = mpsc::unbounded_channel();
        let devices = usize::try_from(self.devices).unwrap_or(usize::MAX);
        let _fleet = Fleet::start(&enroll_link, devices, apple, trust, &events);
        let mut progress = Progress { devices, enrolled: Vec::new(), answered: 0, said_all: false };
        let mut round = 0_usize;
        let mut next = Instant::now() + BETWEEN_COMMANDS;
        loop {
            tokio::select! {
                Some(event) = heard.recv() => progress.tell(&event),
                () = sleep_until(next) => {
                    next = Instant::now() + BETWEEN_COMMANDS;
                    let command = &commands()[round % commands().len()];
                    round += 1;
                    for udid in &progress.enrolled {
                        let id = utf8_percent_encode(udid, NON_ALPHANUMERIC);
                        let path = format!("/api/v1/enrollments/{id}/commands");
                        // A device may leave at any moment; the others go on.
                        if let Err(refused) = api(Method::POST, path, Some(command.clone())).await {
                            say(format_args!("          FAILED    a command for {udid}: {}", refused.words()));
                        }
                    }
                }
            }
        }
    }
}

fn config(folder: &Path, listen: SocketAddr, apple: &Apple) -> Result<Config, Failure> {
    let trust = folder.join("apple.pem");
    std::fs::write(&trust, apple.root_pem())
        .map_err(|source| Error::caused(format!("{} cannot be written", trust.display()), source))?;
    let mut config = Config { data_dir: folder.join("data"), ..Config::default() };
    config.server.listen = vec![listen];
    config.server.public_url = origin(&format!("https://localhost:{}", listen.port()))?;
    config.apns.server = origin(&apple.url())?;
    config.apns.trust = Some(trust);
    // Apple's own list is elsewhere, and nothing leaves this machine.
    let catalogue = folder.join("updates.json");
    std::fs::write(&catalogue, CATALOGUE)
        .map_err(|source| Error::caused(format!("{} cannot be written", catalogue.display()), source))?;
    config.updates.catalogue = Location::Path(catalogue);
    "Russet Demo School".clone_into(&mut config.organization.name);
    Ok(config)
}

fn origin(url: &str) -> Result<crate::config::Origin, Failure> {
    crate::config::Origin::parse(url).map_err(Failure::Wrong)
}

/// A free port of this machine. Until the server listens on it, the socket keeps others from being given
/// it: bound, never listening, and no hindrance to a listener that reuses addresses.
fn free_port() -> Result<(Socket, SocketAddr), Failure> {
    let reserve = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let address = socket.local_addr()?.as_socket();
        Ok((socket, address.ok_or(std::io::ErrorKind::AddrNotAvailable)?))
    };
    reserve().map_err(|source: std::io::Error| Error::caused("this machine has no free port", source).into())
}

/// What administrators ask of devices all day.
fn commands() -> [Json; 4] {
    [
        json!({"RequestType": "DeviceInformation", "Queries": [
            "DeviceName", "OSVersion", "BuildVersion", "ModelName", "Model", "ProductName", "SerialNumber",
            "BatteryLevel", "DeviceCapacity", "AvailableDeviceCapacity", "IsSupervised",
        ]}),
        json!({"RequestType": "SecurityInfo"}),
        json!({"RequestType": "InstalledApplicationList"}),
        json!({"RequestType": "ProfileList"}),
    ]
}

struct Progress {
    devices: usize,
    /// UDIDs of those that are enrolled, in the order in which they came.
    enrolled: Vec<String>,
    answered: usize,
    said_all: bool,
}

impl Progress {
    fn tell(&mut self, event: &Event) {
        match &event.happened {
            Happened::Enrolled => {
                self.enrolled.push(event.udid.clone());
                say(format_args!("{:>3}/{} enrolled  {}", self.enrolled.len(), self.devices, event.device));
            }
            Happened::Woken(_) => say(format_args!("          pushed    {}", event.device)),
            Happened::Answered { request_type, status } => {
                self.answered += 1;
                let (number, device, word) = (self.answered, &event.device, status.name());
                say(format_args!("{number:>8}. answer    {device} answered {request_type}: {word}"));
            }
            Happened::Synchronised(count) => {
                say(format_args!("          in sync   {} ({count} declarations)", event.device));
            }
            Happened::Removed => {
                self.enrolled.retain(|udid| *udid != event.udid);
                say(format_args!("          left      {}", event.device));
            }
            Happened::Failed(words) => say(format_args!("          FAILED    {}: {words}", event.device)),
        }
        if self.enrolled.len() == self.devices && !self.said_all {
            self.said_all = true;
            say(format_args!(
                "All {} devices are enrolled. From now on they are sent a command every few seconds.",
                self.devices
            ));
        }
    }
}

/// A folder that goes with the demo, however it ends.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, Failure> {
        use std::os::unix::fs::DirBuilderExt;
        let path = std::env::temp_dir().join(format!("russet-demo-{}", id::hex(&id::random::<4>())));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|source| Error::caused(format!("{} cannot be made", path.display()), source))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            complain(format_args!("{} could not be removed: {error}", self.0.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::Kind;

    #[test]
    fn a_device_that_left_is_sent_nothing_more() {
        let mut progress = Progress { devices: 2, enrolled: Vec::new(), answered: 0, said_all: false };
        for (udid, happened) in
            [("A", Happened::Enrolled), ("B", Happened::Enrolled), ("A", Happened::Removed)]
        {
            let (device, udid) = ("a device".into(), udid.into());
            progress.tell(&Event { device, udid, kind: Kind::IPhone, happened });
        }
        assert!(progress.said_all && progress.enrolled == ["B"]);
    }
}
