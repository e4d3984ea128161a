//! The TLS certificate from a real ACME server: Pebble validates each kind of challenge, with BIND as its
//! name server, and issues. Both are Debian packages (`pebble`, `bind9`); without them this fails and says so.

#[allow(dead_code, unused_imports, unreachable_pub)]
#[path = "../it/support/mod.rs"]
mod support;

mod bind;
mod pebble;

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use russet::clock::{Clock, DAY};
use russet::config::{Challenge, DnsWriter, HostPort, Origin, TlsMode, UpdateAlgorithm, UpdateKey};
use russet::simulator::{Channel, Device, Kind, Trust};
use serde_json::Value as Json;
use support::{Appliance, TOPIC, key, settle};

use bind::Bind;
use pebble::Pebble;

/// The name that is proven; BIND says that it is this machine.
const HOST: &str = "mdm.acme.test";

/// A server of somebody else's, ended with the test.
struct Other(Child);

impl Other {
    /// Starts a Debian package's program.
    fn start(program: &str, package: &str, command: &mut Command) -> Self {
        match command.spawn() {
            Ok(child) => Self(child),
            Err(error) => panic!("{program} cannot be started ({error}); apt-get install {package}"),
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something listens.
async fn listening(address: &str, log: &Path) {
    for _ in 0..400 {
        if tokio::net::TcpStream::connect(address).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("nothing listens on {address}: {}", std::fs::read_to_string(log).unwrap_or_default());
}

/// A server in mode `acme` that has no certificate yet, with the CA and the name server it needs.
struct World {
    appliance: Appliance,
    pebble: Pebble,
    bind: Bind,
    _http: support::Port,
    _folder: tempfile::TempDir,
}

impl World {
    async fn start(challenge: Challenge, dns: impl FnOnce(&Bind, &Path) -> Option<DnsWriter>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bind = Bind::start(folder.path()).await;
        let dns = dns(&bind, folder.path());
        let http = support::Port::reserve();
        let clock = Clock::set_to(Clock::system().now());
        // The CA comes to the port that only the configuration knows, so the CA starts with the server.
        let mut pebble = None;
        let appliance = Appliance::at(clock, |config| {
            let port = config.server.public_url.port;
            config.server.public_url = Origin::parse(&format!("https://{HOST}:{port}")).unwrap();
            config.server.http_listen = vec![http.address()];
            let ca = Pebble::start(folder.path(), http.number(), port, &bind.address());
            config.tls.mode = TlsMode::Acme;
            config.tls.acme.directory = ca.directory();
            config.tls.acme.trust = Some(ca.trust.clone());
            config.tls.acme.challenge = challenge;
            config.tls.acme.contact = Some("it@acme.test".to_owned());
            config.tls.acme.dns = dns;
            config.tls.acme.dns_wait = 0;
            pebble = Some(ca);
        })
        .await;
        let pebble = pebble.unwrap();
        pebble.listening().await;
        Self { appliance, pebble, bind, _http: http, _folder: folder }
    }

    /// Asks for a certificate by the API; answers what is presented then.
    async fn renew(&self) -> Json {
        let (status, shown) = self.appliance.api("POST", "/api/v1/tls-certificate/renew", None).await;
        assert!(status.is_success(), "{shown:#}\n{}\n{}", self.pebble.log(), self.bind.log());
        // The CA's clock runs, and what it issues is valid from its now on.
        self.appliance.clock.advance(60);
        shown
    }

    /// A device that trusts this CA and knows where the name leads.
    async fn enroll(&mut self, trust: &Trust) -> Device {
        let mut device = Device::new(Kind::IPhone, 1, trust, self.appliance.clock.clone());
        device.key = Some(key(1));
        device.resolve(HOST, [127, 0, 0, 1].into());
        let link = self.appliance.invite(1).await;
        device.enroll(&link).await.unwrap();
        settle(&mut device).await;
        device
    }
}

fn serial(shown: &Json) -> String {
    shown["serial_number"].as_str().unwrap().to_owned()
}

/// Issuance, a device, a renewal, the device again, a restart.
async fn lives(mut world: World) {
    let (_, before) = world.appliance.api("GET", "/api/v1/tls-certificate", None).await;
    assert_eq!(before["mode"], "acme");
    assert_eq!(before["renew_at"], Json::Null, "the certificate is its own until a CA gives one");

    let first = world.renew().await;
    assert_eq!(first["names"][0], HOST);
    assert!(first["issuer"].as_str().unwrap().contains("Pebble"), "{first:#}");
    world.appliance.import_push_certificate(TOPIC).await;
    let trust = world.pebble.trust().await;
    let mut device = world.enroll(&trust).await;
    assert!(device.connect(Channel::Device).await.unwrap().is_empty());

    let second = world.renew().await;
    assert_ne!(serial(&first), serial(&second));
    assert!(device.connect(Channel::Device).await.unwrap().is_empty(), "it goes on after the renewal");
    assert_eq!(world.pebble.accounts().await, 1, "the account is kept");

    world.appliance.restart(|_| {}).await;
    let (_, after) = world.appliance.api("GET", "/api/v1/tls-certificate", None).await;
    assert_eq!(serial(&second), serial(&after), "it is presented again after a restart");
    assert!(device.connect(Channel::Device).await.unwrap().is_empty());
}

#[tokio::test]
async fn by_tls_alpn_01() {
    let world = World::start(Challenge::TlsAlpn01, |_, _| None).await;
    lives(world).await;
}

#[tokio::test]
async fn by_http_01() {
    let world = World::start(Challenge::Http01, |_, _| None).await;
    lives(world).await;
}

#[tokio::test]
async fn by_dns_01_with_signed_updates_of_the_zone() {
    let world =
        World::start(Challenge::Dns01, |bind, _| Some(update(bind, UpdateAlgorithm::HmacSha256))).await;
    lives(world).await;
}

#[tokio::test]
async fn by_dns_01_with_a_program_that_writes_the_record() {
    let world = World::start(Challenge::Dns01, |bind, folder| Some(hook(bind, folder))).await;
    lives(world).await;
}

fn update(bind: &Bind, algorithm: UpdateAlgorithm) -> DnsWriter {
    let (host, port) =
        bind.address().rsplit_once(':').map(|(host, port)| (host.to_owned(), port.parse().unwrap())).unwrap();
    let key = UpdateKey { name: bind::KEY_NAME.to_owned(), algorithm, secret: bind.secret() };
    DnsWriter::Update { server: HostPort { host, port }, zone: None, key: Some(key) }
}

/// A shell script around `nsupdate`, as an administrator would write it.
fn hook(bind: &Bind, folder: &Path) -> DnsWriter {
    use std::os::unix::fs::PermissionsExt;
    let script: PathBuf = folder.join("dns-hook");
    let (host, port) = bind.address().rsplit_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let text = format!(
        "#!/bin/sh\nset -eu\ncase $1 in\npresent) what=\"update add $2 60 TXT $3\" ;;\nremove) what=\"update delete $2 TXT $3\" ;;\nesac\n\
         printf 'server {host} {port}\\n%s\\nsend\\n' \"$what\" | nsupdate -v -k {}\n",
        bind.key_file().display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    DnsWriter::Hook(vec![script.display().to_string()])
}

#[tokio::test]
async fn no_record_is_left_in_the_zone() {
    let world =
        World::start(Challenge::Dns01, |bind, _| Some(update(bind, UpdateAlgorithm::HmacSha256))).await;
    world.renew().await;
    assert_eq!(world.bind.texts(&format!("_acme-challenge.{HOST}")).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_third_before_its_end_it_is_renewed_by_itself_and_not_before() {
    let world = World::start(Challenge::TlsAlpn01, |_, _| None).await;
    let first = world.renew().await;
    let acme = world.appliance.app().acme.clone().unwrap();
    world.appliance.clock.advance(50 * DAY);
    acme.round().await.unwrap();
    let (_, shown) = world.appliance.api("GET", "/api/v1/tls-certificate", None).await;
    assert_eq!(serial(&first), serial(&shown));
    world.appliance.clock.advance(11 * DAY);
    acme.round().await.unwrap();
    let (_, shown) = world.appliance.api("GET", "/api/v1/tls-certificate", None).await;
    assert_ne!(serial(&first), serial(&shown), "{shown:#}");
    // The CA's clock is real and ours is not, so the new one looks old at once; nobody is asked in a circle.
    let attempts = shown["attempts"].as_array().unwrap().len();
    acme.round().await.unwrap();
    let (_, again) = world.appliance.api("GET", "/api/v1/tls-certificate", None).await;
    assert_eq!(again["attempts"].as_array().unwrap().len(), attempts);
}

#[tokio::test]
async fn what_the_ca_refuses_is_said_kept_and_tried_again_later() {
    let world =
        World::start(Challenge::Dns01, |bind, _| Some(update(bind, UpdateAlgorithm::HmacSha256))).await;
    let working = world.renew().await;
    let acme = world.appliance.app().acme.clone().unwrap();

    // The name server takes no updates with that key any more.
    world.bind.forget_the_key().await;
    let (status, refused) = world.appliance.api("POST", "/api/v1/tls-certificate/renew", None).await;
    assert_eq!(status, 400, "{refused:#}");
    let words = refused["error"]["message"].as_str().unwrap();
    assert!(words.contains("it does not know the key"), "{words}");
    let (_, shown) = world.appliance.api("GET", "/api/v1/tls-certificate", None).await;
    assert_eq!(serial(&working), serial(&shown), "the working one stays");
    assert_eq!(shown["attempts"][0]["failed"], true);
    let found = russet::acme::findings(&acme).unwrap();
    assert_eq!(found[0].code, "acme-renewal-fails");
    assert!(found[0].seen.contains("it does not know the key"), "{found:?}");

    // The CA is left alone until the pause is over, across restarts too.
    world.appliance.clock.advance(61 * DAY);
    let attempts = || acme.attempts().unwrap().len();
    let before = attempts();
    acme.round().await.unwrap();
    assert_eq!(attempts(), before + 1, "due, and tried");
    acme.round().await.unwrap();
    assert_eq!(attempts(), before + 1, "and then left alone");
}

#[tokio::test]
async fn a_ca_that_is_no_ca_or_is_not_there_is_said_in_words() {
    let mut world = World::start(Challenge::TlsAlpn01, |_, _| None).await;
    let directory = world.pebble.directory();
    for (address, words) in [
        (directory.replace("/dir", "/nowhere"), "answers something that is no ACME"),
        ("https://127.0.0.1:1/dir".to_owned(), "127.0.0.1:1"),
    ] {
        world.appliance.restart(|config| config.tls.acme.directory = address.clone()).await;
        let (status, refused) = world.appliance.api("POST", "/api/v1/tls-certificate/renew", None).await;
        assert_eq!(status, 400);
        let message = refused["error"]["message"].as_str().unwrap();
        assert!(message.contains(words), "{message}");
    }
}

/// A leaf for this machine's address and the file of its root.
fn made_certificate(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let (file, key_file) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
    std::fs::write(&file, certificate.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    (file, key_file)
}
