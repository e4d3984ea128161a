//! BIND with one zone, `acme.test`, that takes updates signed with a key.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use russet::config::Secret;

use super::{HOST, Other, listening, support::Port};

pub const KEY_NAME: &str = "russet.acme.test";

pub struct Bind {
    _server: Other,
    port: Port,
    folder: PathBuf,
    secret: String,
    control: Port,
}

impl Bind {
    pub async fn start(folder: &Path) -> Self {
        let folder = folder.join("bind");
        std::fs::create_dir(&folder).unwrap();
        let (port, control) = (Port::reserve(), Port::reserve());
        let secret = STANDARD.encode(russet::id::random::<32>());
        let mut bind =
            Self { _server: Other(Command::new("true").spawn().unwrap()), port, folder, secret, control };
        bind.write_key(KEY_NAME);
        let zone = format!(
            "$TTL 60\n@ SOA ns root 1 60 60 60 60\n@ NS ns\nns A 127.0.0.1\n{} A 127.0.0.1\n",
            HOST.trim_end_matches(".acme.test")
        );
        std::fs::write(bind.folder.join("acme.test.zone"), zone).unwrap();
        let (number, control) = (bind.port.number(), bind.control.number());
        let path = |name: &str| bind.folder.join(name).display().to_string();
        let config = format!(
            "include \"{key}\";\nkey \"control\" {{ algorithm hmac-sha256; secret \"{secret}\"; }};\n\
             controls {{ inet 127.0.0.1 port {control} allow {{ 127.0.0.1; }} keys {{ control; }}; }};\n\
             options {{ directory \"{folder}\"; pid-file none; session-keyfile none; listen-on port {number} {{ 127.0.0.1; }};\n\
             listen-on-v6 {{ none; }}; recursion no; allow-query {{ any; }}; dnssec-validation no; }};\n\
             zone \"acme.test\" {{ type primary; file \"{zone}\"; update-policy {{ grant {KEY_NAME} zonesub TXT; }}; }};\n",
            key = path("key.conf"),
            secret = bind.secret,
            folder = bind.folder.display(),
            zone = path("acme.test.zone"),
        );
        std::fs::write(bind.folder.join("named.conf"), config).unwrap();
        let out = File::create(bind.folder.join("named.log")).unwrap();
        bind._server = Other::start(
            "named",
            "bind9",
            Command::new("/usr/sbin/named")
                .args(["-g", "-c"])
                .arg(bind.folder.join("named.conf"))
                .stdout(out.try_clone().unwrap())
                .stderr(out),
        );
        listening(&bind.address(), &bind.folder.join("named.log")).await;
        bind
    }

    fn write_key(&self, name: &str) {
        let text = format!("key \"{name}\" {{ algorithm hmac-sha256; secret \"{}\"; }};\n", self.secret);
        std::fs::write(self.key_file(), text).unwrap();
    }

    pub fn key_file(&self) -> PathBuf {
        self.folder.join("key.conf")
    }

    pub fn address(&self) -> String {
        self.port.address().to_string()
    }

    pub fn secret(&self) -> Secret {
        Secret::new(&self.secret)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("named.log")).unwrap()
    }

    /// The TXT records of a name.
    pub async fn texts(&self, name: &str) -> Vec<String> {
        let output = tokio::process::Command::new("dig")
            .args(["+short", "+tcp", "-p", &self.port.number().to_string(), "@127.0.0.1", name, "TXT"])
            .output()
            .await
            .expect("dig cannot be started; apt-get install dnsutils");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    /// From now on it knows the key by another name.
    pub async fn forget_the_key(&self) {
        self.write_key("other.acme.test");
        let config = std::fs::read_to_string(self.folder.join("named.conf")).unwrap();
        std::fs::write(
            self.folder.join("named.conf"),
            config.replace(&format!("grant {KEY_NAME}"), "grant other.acme.test"),
        )
        .unwrap();
        let control = self.folder.join("rndc.conf");
        let text = format!("key \"control\" {{ algorithm hmac-sha256; secret \"{}\"; }};\n", self.secret);
        std::fs::write(&control, text).unwrap();
        let told = tokio::process::Command::new("/usr/sbin/rndc")
            .args(["-s", "127.0.0.1", "-p", &self.control.number().to_string(), "-y", "control", "-c"])
            .arg(&control)
            .arg("reconfig")
            .output()
            .await
            .unwrap();
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    }
}
