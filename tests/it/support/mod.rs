//! The whole program on a free port with a temporary folder, a set clock and a loopback push service.

mod api;
mod keys;
mod port;
mod process;
mod tls;

use russet::apns::Pair;
use russet::apns::certificate::{self as push_certificates, Import};
use russet::clock::{Clock, EARLIEST_SANE, Seconds};
use russet::config::{Config, Location, Origin};
use russet::enroll::invitation::{self, Wanted};
use russet::pki::pem;
use russet::server::{App, Running};
use russet::simulator::{Apple, CATALOGUE, Device, Kind, Limits, Trust, push_certificate};
use russet::storage::Lock;
use tempfile::TempDir;

pub use api::over_socket;
pub use keys::key;
pub use port::Port;
pub use process::Process;
pub use tls::acceptor;

/// The topic of the push certificate that [`Appliance::start`] imports.
pub const TOPIC: &str = "com.apple.mgmt.External.5f2c7a0e-test";

/// The time at which every test begins.
pub const NOW: Seconds = EARLIEST_SANE + 300 * 86_400;

/// A running server, and what it runs with.
pub struct Appliance {
    pub running: Option<Running>,
    pub apple: Apple,
    pub clock: Clock,
    pub trust: Trust,
    pub config: Config,
    _folder: TempDir,
    _port: Port,
    devices: usize,
}

impl Appliance {
    /// A server with a push certificate.
    pub async fn start() -> Self {
        let appliance = Self::bare(|_| {}).await;
        appliance.import_push_certificate(TOPIC).await;
        appliance
    }

    /// A server without a push certificate; `change` changes its configuration.
    pub async fn bare(change: impl FnOnce(&mut Config)) -> Self {
        Self::at(Clock::set_to(NOW), change).await
    }

    /// As [`Appliance::bare`], at another time.
    pub async fn at(clock: Clock, change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let apple = Apple::start(Limits::default(), clock.clone()).await.unwrap();
        let trust = folder.path().join("apple.pem");
        std::fs::write(&trust, apple.root_pem()).unwrap();
        let mut config = Config { data_dir: folder.path().join("data"), ..Config::default() };
        let port = Port::reserve();
        config.server.listen = vec![port.address()];
        config.server.public_url = Origin::parse(&format!("https://localhost:{}", port.number())).unwrap();
        config.apns.server = Origin::parse(&apple.url()).unwrap();
        config.apns.trust = Some(trust);
        // Nothing leaves this machine.
        let hosts = folder.path().join("hosts.json");
        std::fs::write(&hosts, "[]").unwrap();
        config.doctor.hosts = Some(hosts);
        config.doctor.time.clear();
        let catalogue = folder.path().join("updates.json");
        std::fs::write(&catalogue, CATALOGUE).unwrap();
        config.updates.catalogue = Location::Path(catalogue);
        change(&mut config);
        let running = serve(&config, &clock).await;
        let trust = match running.app.enroll.anchor() {
            Some(anchor) => Trust::nobody().and_pem(pem::encode("CERTIFICATE", &anchor).as_bytes()).unwrap(),
            None => Trust::nobody(),
        };
        Self { running: Some(running), apple, clock, trust, config, _folder: folder, _port: port, devices: 0 }
    }

    pub fn app(&self) -> &App {
        &self.running.as_ref().expect("the server runs").app
    }

    /// Stops the server and starts it again on the same folder.
    pub async fn restart(&mut self, change: impl FnOnce(&mut Config)) {
        self.running.take().expect("the server runs").stop().await;
        change(&mut self.config);
        self.running = Some(serve(&self.config, &self.clock).await);
    }

    /// Starts a server that was stopped by hand.
    pub async fn restart_stopped(&mut self) {
        self.running = Some(serve(&self.config, &self.clock).await);
    }

    pub async fn import_push_certificate(&self, topic: &str) {
        let (certificate, key) = push_certificate(topic).unwrap();
        // The stand-in's certificates are dated by the machine's clock; the server's by the test's.
        let pair =
            Pair::from_parts(&[certificate.as_bytes(), key.as_bytes()], None, self.clock.now()).unwrap();
        let app = self.app();
        let seal = app.mdm.seal.clone();
        app.store
            .write("test.push_certificate", move |tx| {
                let import = Import {
                    apple_account: None,
                    signed_by: "import",
                    imported_by: "test",
                    replace_topic: None,
                };
                push_certificates::import(tx, &seal, &pair, &import, &[])
            })
            .await
            .unwrap();
        app.mdm.apns.reload().await;
    }

    /// A link for `uses` devices.
    pub async fn invite(&self, uses: u32) -> String {
        self.invite_as(Wanted { uses: Some(uses), ..Wanted::default() }).await
    }

    pub async fn invite_as(&self, wanted: Wanted) -> String {
        let invitation = self
            .app()
            .store
            .write("test.invite", move |tx| invitation::create(tx, &wanted, "test"))
            .await
            .unwrap();
        format!("{}/enroll/{}", self.config.server.public_url, invitation.code)
    }

    /// A device that is not enrolled yet and hears its pushes from the loopback push service.
    pub fn device(&mut self, kind: Kind) -> Device {
        self.devices += 1;
        let mut device = Device::new(kind, self.devices, &self.trust, self.clock.clone());
        device.key = Some(key(self.devices));
        device
    }

    /// A device that enrolled with a link of its own.
    pub async fn enroll(&mut self, kind: Kind) -> Device {
        let mut device = self.device(kind);
        let link = self.invite(1).await;
        device.enroll(&link).await.unwrap();
        settle(&mut device).await;
        device
    }
}

/// Lets a device that enrolled synchronise declarations, until there is nothing left to hear.
pub async fn settle(device: &mut Device) {
    let mut contacts = 0;
    while !device.connect_all().await.unwrap().is_empty() {
        contacts += 1;
        assert!(contacts < 5, "a device that has nothing to do is never left alone");
    }
}

async fn serve(config: &Config, clock: &Clock) -> Running {
    let lock = Lock::take(&config.data_dir).unwrap();
    App::open(config, lock, clock.clone()).await.unwrap().serve().await.unwrap()
}

impl Appliance {
    /// Queues a command for a channel; answers its UUID.
    pub async fn send(&self, enrollment_id: &str, command: serde_json::Value) -> String {
        let app = self.app();
        let request = russet::schema::commands::from_json(&command, false).unwrap();
        let (seal, id) = (app.mdm.seal.clone(), enrollment_id.to_owned());
        app.store
            .write("test.send", move |tx| {
                let new = russet::mdm::queue::New {
                    uuid: &request.uuid,
                    request_type: &request.request_type,
                    request: &request.plist,
                    secret: request.secret,
                    urgent: russet::schema::commands::urgent(&request.request_type),
                    purpose: russet::mdm::queue::Purpose::Asked,
                    queued_by: "test",
                    expires_at: None,
                };
                russet::mdm::queue::enqueue(tx, &seal, &id, &new)?;
                Ok(request.uuid.clone())
            })
            .await
            .unwrap()
    }

    /// What became of a command: its status.
    pub fn status(&self, enrollment_id: &str, uuid: &str) -> String {
        self.app()
            .store
            .peek(|conn| {
                Ok(conn.query_row(
                    "SELECT status FROM commands WHERE enrollment_id = ?1 AND uuid = ?2",
                    [enrollment_id, uuid],
                    |row| row.get(0),
                )?)
            })
            .unwrap()
    }

    /// One value of the database, for what no route shows yet.
    pub fn value<T: rusqlite::types::FromSql>(&self, sql: &str, id: &str) -> T {
        self.app().store.peek(|conn| Ok(conn.query_row(sql, [id], |row| row.get(0))?)).unwrap()
    }
}
