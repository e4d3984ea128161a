//! The program itself, as a person at a terminal runs it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use russet::simulator::push_certificate;

use crate::support::{Port, TOPIC};

/// The program in a folder of its own, without anything of this machine's configuration.
fn russet(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_russet"));
    command.args(arguments).current_dir(folder).env_clear();
    command
}

pub(crate) fn run(folder: &Path, port: u16, arguments: &[&str]) -> Output {
    configured(russet(folder, arguments), port).output().unwrap()
}

fn configured(mut command: Command, port: u16) -> Command {
    command
        .env("RUSSET__SERVER__LISTEN", format!("[\"127.0.0.1:{port}\"]"))
        .env("RUSSET__SERVER__PUBLIC_URL", format!("https://localhost:{port}"))
        // Nothing leaves this machine.
        .env(
            "RUSSET__UPDATES__CATALOGUE",
            concat!(env!("CARGO_MANIFEST_DIR"), "/src/simulator/catalogue.json"),
        );
    command
}

pub(crate) fn said(output: &Output) -> (i32, String, String) {
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// A running server that ends with the test.
struct Server {
    child: Child,
    first_words: Vec<String>,
}

impl Server {
    fn start(folder: &Path, port: u16) -> Self {
        let mut child = configured(russet(folder, &["serve"]), port)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut first_words = Vec::new();
        for line in lines.by_ref() {
            let line = line.unwrap();
            let last = line.contains("push certificate") || line.starts_with("Sign in");
            first_words.push(line);
            if last && first_words.len() >= 2 {
                break;
            }
        }
        Self { child, first_words }
    }

    fn stop(&mut self) -> i32 {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The demo ends when it is told to, and takes everything with it.
#[test]
fn a_demo_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = russet(folder.path(), &["demo", "--devices", "2"])
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().any(|line| line.unwrap().contains(" answered ")));
    assert!(Command::new("kill").args(["-INT", &demo.id().to_string()]).status().unwrap().success());
    assert!(lines.any(|line| line.unwrap() == "Everything of the demo is removed."));
    let (code, _, error) = said(&demo.wait_with_output().unwrap());
    assert_eq!((code, error.as_str()), (0, ""));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

fn write_push_certificate(folder: &Path) {
    let (certificate, key) = push_certificate(TOPIC).unwrap();
    std::fs::write(folder.join("push.pem"), certificate).unwrap();
    std::fs::write(folder.join("push.key"), key).unwrap();
}

#[test]
fn a_server_in_an_empty_folder_enrolls_devices_with_four_commands() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let reserved = Port::reserve();
    let port = reserved.number();
    let mut server = Server::start(folder, port);
    let words = server.first_words.join("\n");
    assert!(words.contains(&format!("https://localhost:{port}/sign-in/")), "{words}");

    let (code, _, error) = said(&run(folder, port, &["invite"]));
    assert_eq!(code, 1);
    assert!(error.contains("russet push-certificate import"), "{error}");

    write_push_certificate(folder);
    let import =
        ["push-certificate", "import", "push.pem", "--key", "push.key", "--apple-account", "a@example.org"];
    let (code, shown, error) = said(&run(folder, port, &import));
    assert_eq!(code, 0, "{error}");
    assert!(shown.contains(TOPIC), "{shown}");

    let (code, link, error) = said(&run(folder, port, &["invite", "--uses", "4"]));
    assert_eq!(code, 0, "{error}");
    assert!(error.contains("public_url"), "localhost is said to be this machine only: {error}");
    let link = link.trim();
    let root = russet::pki::certificate::Certificate::from_der(&root_of(folder)).unwrap();
    std::fs::write(folder.join("ca.pem"), root.to_pem()).unwrap();
    let simulate =
        ["simulate", "--enroll", link, "--devices", "3", "--connects", "2", "--trust", "ca.pem", "--json"];
    let (code, report, error) = said(&run(folder, port, &simulate));
    assert_eq!(code, 0, "{report}{error}");
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["enrolled"], 3, "{report:#}");
    // SSL_CERT_FILE may be PEM, or what /ca.crt gives; one that is not there is said.
    std::fs::write(folder.join("ca.crt"), root_of(folder)).unwrap();
    let with_file = |file: &str| {
        let mut command = russet(folder, &["simulate", "--enroll", link]);
        said(&command.env("SSL_CERT_FILE", file).output().unwrap())
    };
    let (code, report, error) = with_file("ca.crt");
    assert_eq!(code, 0, "{report}{error}");
    let (code, _, error) = with_file("none.crt");
    assert!(code == 1 && error.contains("none.crt"), "{code}: {error}");

    let (code, list, _) = said(&run(folder, port, &["device", "list", "--json"]));
    assert_eq!(code, 0);
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let devices = list["items"].as_array().unwrap();
    assert!(devices.iter().filter(|device| device["channel"] == "device").count() == 4, "{list:#}");
    assert_eq!(server.stop(), 0);

    // Without a server the same commands open the folder themselves.
    let id = devices[0]["id"].as_str().unwrap();
    let (code, uuid, error) = said(&run(folder, port, &["device", "send", id, "SecurityInfo"]));
    assert_eq!(code, 0, "{error}");
    assert!(!uuid.trim().is_empty());
    let (code, token, error) = said(&run(folder, port, &["token", "create", "script", "--scope", "read"]));
    assert_eq!(code, 0, "{error}");
    assert_eq!(token.lines().count(), 1, "the token stands alone on stdout");
    let (code, _, error) = said(&run(folder, port, &["token", "create", "script"]));
    assert_eq!(code, 1);
    assert!(error.contains("script"), "{error}");
    assert_eq!(said(&run(folder, port, &["token", "revoke", "script"])).0, 0);
}

/// The root of the running server's TLS, out of its database.
fn root_of(folder: &Path) -> Vec<u8> {
    let database = rusqlite::Connection::open(folder.join("russet-data/russet.db")).unwrap();
    database
        .query_row("SELECT certificate FROM authorities WHERE purpose = 'tls'", [], |row| row.get(0))
        .unwrap()
}

#[test]
fn a_port_in_use_and_a_folder_in_use_are_said_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let reserved = Port::reserve();
    let port = reserved.number();
    let _server = Server::start(folder.path(), port);
    let (code, _, error) = said(&run(folder.path(), port, &["serve"]));
    assert_eq!(code, 1);
    assert!(error.contains("another russet works on"), "{error}");
    let other = tempfile::tempdir().unwrap();
    let (code, _, error) = said(&run(other.path(), port, &["serve"]));
    assert_eq!(code, 1);
    assert!(error.contains(&port.to_string()), "{error}");
}

#[test]
fn check_names_every_mistake_and_exits_with_two() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("russet.toml");
    std::fs::write(&file, "[server]\nlisten = 7\npublic_ulr = \"x\"\n[enrollment]\nidentity = \"acme\"\n")
        .unwrap();
    let (code, _, error) = said(&russet(folder.path(), &["check"]).output().unwrap());
    assert_eq!(code, 2);
    for named in ["russet.toml:2", "russet.toml:3", "public_ulr", "russet.toml:5", "scep"] {
        assert!(error.contains(named), "{named} in {error}");
    }
    // A file that is named and missing is one of them, and serve says of it that something is wrong.
    std::fs::write(
        &file,
        "[tls]\nmode = \"files\"\ncertificate = \"none.pem\"\nprivate_key = \"key.pem\"\n[log]\nlevel = 1\n",
    )
    .unwrap();
    let (code, _, error) = said(&russet(folder.path(), &["check"]).output().unwrap());
    assert_eq!(code, 2);
    let places: Vec<_> = error
        .lines()
        .filter_map(|line| Some(line.split_once("russet.toml:")?.1.split_once(": ")?.0))
        .collect();
    assert_eq!(places, ["3", "4", "6"], "{error}");
    assert!(error.contains("tls.certificate: ") && error.contains("none.pem does not exist"), "{error}");
    let text = std::fs::read_to_string(&file).unwrap().replace("level = 1", "level = \"info\"");
    std::fs::write(&file, text).unwrap();
    assert_eq!(said(&russet(folder.path(), &["check"]).output().unwrap()).0, 2);
    let (code, _, error) = said(&russet(folder.path(), &["serve"]).output().unwrap());
    assert!(code == 1 && error.contains("none.pem does not exist"), "{code}: {error}");

    std::fs::write(&file, "").unwrap();
    let (code, understood, error) = said(&russet(folder.path(), &["check"]).output().unwrap());
    assert_eq!(code, 0, "{error}");
    assert!(understood.contains("https://localhost:8443"), "{understood}");
    assert!(!folder.path().join("russet-data").exists(), "check opens nothing for writing");
}

#[test]
fn a_configuration_file_that_is_missing_is_something_wrong_and_no_usage() {
    let folder = tempfile::tempdir().unwrap();
    for command in [&["serve"][..], &["check"], &["device", "list"], &["invite"]] {
        let mut command = russet(folder.path(), command);
        let (code, _, error) = said(&command.args(["--config", "missing.toml"]).output().unwrap());
        assert_eq!(code, 1, "{error}");
        assert!(error.contains("missing.toml: there is no such file"), "{error}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_nothing_with_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["check"][..], &["token", "list", "--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let (code, _, error) = said(&russet(folder.path(), arguments).stdout(writer).output().unwrap());
        assert_eq!((code, error.as_str()), (0, ""));
    }
}

#[test]
fn commands_at_the_same_time_wait_for_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let create = |name: &str| russet(folder.path(), &["token", "create", name, "--json"]);
    // The first makes all keys.
    assert_eq!(said(&create("first").output().unwrap()).0, 0);
    let together: Vec<_> = ["a", "b", "c"]
        .map(|name| create(name).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
        .into_iter()
        .map(|child| said(&child.wait_with_output().unwrap()))
        .collect();
    for (code, made, error) in together {
        assert_eq!(code, 0, "{error}");
        let made: serde_json::Value = serde_json::from_str(&made).unwrap();
        assert!(made["token"].as_str().unwrap().starts_with("russet_"));
    }
}

#[test]
fn wrong_usage_exits_with_two() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(said(&russet(folder.path(), &["serve", "--nonsense"]).output().unwrap()).0, 2);
    assert_eq!(
        said(&russet(folder.path(), &["token", "create", "x", "--scope", "root"]).output().unwrap()).0,
        2
    );
    for uses in ["0", "100001", "-1", "many"] {
        assert_eq!(said(&russet(folder.path(), &["invite", "--uses", uses]).output().unwrap()).0, 2);
    }
    for usage in
        [["token", "create", "x", "--expires", "90x"], ["invite", "--uses", "1", "--expires", "soon"]]
    {
        let (code, _, error) = said(&russet(folder.path(), &usage).output().unwrap());
        assert_eq!(code, 2, "{error}");
        assert!(error.contains("7d"), "{error}");
    }
}

#[test]
fn groups_and_declarations_live_in_files() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let reserved = Port::reserve();
    let port = reserved.number();
    let write = |path: &str, text: &str| {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let (code, _, error) = said(&run(folder, port, &["apply", "mdm", "--prune"]));
    assert_eq!(code, 1);
    assert!(error.contains("declarations"), "an empty folder prunes nothing: {error}");

    let passcode = |length: u32| {
        format!(
            "{{\"Type\": \"com.apple.configuration.passcode.settings\", \"Payload\": {{\"MinimumLength\": {length}}}}}"
        )
    };
    write("mdm/declarations/org.example.passcode.json", &passcode(6));
    write("mdm/groups/Room 12.json", "{\"declarations\": [\"org.example.passcode\"]}");
    let (code, shown, error) = said(&run(folder, port, &["apply", "mdm", "--dry-run"]));
    assert_eq!(code, 0, "{error}");
    assert!(shown.contains("created declaration org.example.passcode"), "{shown}");
    assert!(shown.contains("+ /Payload/MinimumLength: 6") && shown.contains("dry run"), "{shown}");
    assert_eq!(said(&run(folder, port, &["apply", "mdm"])).0, 0);

    let (code, _, error) = said(&run(folder, port, &["export", "out"]));
    assert_eq!(code, 0, "{error}");
    assert!(
        folder.join("out/groups/Room 12.json").is_file() && folder.join("out/groups/default.json").is_file()
    );
    let (code, shown, _) = said(&run(folder, port, &["apply", "out", "--dry-run", "--prune"]));
    assert_eq!(code, 0);
    assert!(shown.starts_with("No difference"), "{shown}");

    write("out/declarations/org.example.passcode.json", &passcode(99));
    let (code, _, error) = said(&run(folder, port, &["apply", "out"]));
    assert_eq!(code, 1);
    assert!(error.contains("org.example.passcode.json /Payload/MinimumLength"), "{error}");
    for (text, words) in [
        ("{\"Identifier\": \"../../escape\"}".to_owned(), "name the file"),
        ("[".repeat(100_000), "not JSON"),
        ("7".to_owned(), "not a JSON object"),
    ] {
        write("out/declarations/org.example.passcode.json", &text);
        let (code, _, error) = said(&run(folder, port, &["apply", "out"]));
        assert_eq!(code, 1, "{error}");
        assert!(error.contains("org.example.passcode.json") && error.contains(words), "{error}");
    }
    std::fs::remove_file(folder.join("out/declarations/org.example.passcode.json")).unwrap();
    std::fs::remove_file(folder.join("out/groups/Room 12.json")).unwrap();
    let (code, shown, error) = said(&run(folder, port, &["apply", "out", "--prune"]));
    assert_eq!(code, 0, "{error}");
    assert!(shown.contains("deleted group Room 12") && shown.contains("2 changed"), "{shown}");
    let (code, _, error) = said(&run(folder, port, &["export", "mdm"]));
    assert_eq!(code, 0);
    assert!(error.contains("--prune deletes the file"), "{error}");
}

#[test]
fn profiles_and_assets_are_files_and_secrets_stay_on_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let reserved = Port::reserve();
    let port = reserved.number();
    let write = |path: &str, bytes: &[u8]| {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let profile = crate::library::wifi("000000000001", "School");
    let large: Vec<u8> = std::iter::repeat_n(b"0123456789abcdef", 100_000).flatten().copied().collect();
    write("mdm/profiles/org.example.wifi.mobileconfig", profile.as_bytes());
    write("mdm/assets/org.example.files.json", b"{\"content_type\": \"application/zip\"}");
    write("mdm/assets/org.example.files.data", &large);
    let login =
        "{\"type\": \"com.apple.asset.credential.userpassword\", \"content_type\": \"application/json\"}";
    write("mdm/assets/org.example.login.json", login.as_bytes());
    write("mdm/assets/org.example.login.data", b"{\"UserName\": \"x\", \"Password\": \"correct horse\"}");
    let url = format!("https://localhost:{port}/mdm/profiles/org.example.wifi");
    let legacy = format!(
        "{{\"Type\": \"com.apple.configuration.legacy\", \"Payload\": {{\"ProfileURL\": \"{url}\"}}}}"
    );
    write("mdm/declarations/wifi.json", legacy.as_bytes());

    let (code, shown, error) = said(&run(folder, port, &["apply", "mdm", "--dry-run"]));
    assert_eq!(code, 0, "{error}");
    for words in
        ["created profile org.example.wifi", "created asset org.example.files", "created declaration wifi"]
    {
        assert!(shown.contains(words), "{shown}");
    }
    let (code, shown, error) = said(&run(folder, port, &["apply", "mdm"]));
    assert_eq!(code, 0, "{error}");
    assert!(shown.contains("4 changed") && !shown.contains("horse"), "{shown}");

    let (code, _, error) = said(&run(folder, port, &["export", "out"]));
    assert_eq!(code, 0, "{error}");
    let read = |path: &str| std::fs::read(folder.join(path)).unwrap();
    assert_eq!(read("out/profiles/org.example.wifi.mobileconfig"), profile.as_bytes());
    assert_eq!(read("out/assets/org.example.files.data"), large);
    assert!(!folder.join("out/assets/org.example.login.data").exists());
    assert!(String::from_utf8_lossy(&read("out/assets/org.example.login.json")).contains("not exported"));
    assert!(!folder.join("out/declarations/org.example.files.json").exists(), "it is made of the asset");
    let (code, shown, error) = said(&run(folder, port, &["apply", "out", "--dry-run", "--prune"]));
    assert_eq!(code, 0, "{error}");
    assert!(shown.starts_with("No difference"), "{shown}");

    write("out/profiles/org.example.wifi.mobileconfig", b"PK");
    let (code, _, error) = said(&run(folder, port, &["apply", "out"]));
    assert_eq!(code, 1);
    assert!(error.contains("org.example.wifi.mobileconfig") && error.contains("profile"), "{error}");
    std::fs::remove_file(folder.join("out/profiles/org.example.wifi.mobileconfig")).unwrap();
    let (code, _, error) = said(&run(folder, port, &["apply", "out", "--prune"]));
    assert_eq!(code, 1, "a declaration points to it");
    assert!(error.contains("wifi"), "{error}");
    write("out/assets/stray.data", b"x");
    assert!(said(&run(folder, port, &["apply", "out"])).2.contains("stray.json"));
    std::fs::remove_file(folder.join("out/assets/stray.data")).unwrap();
    std::fs::remove_file(folder.join("out/declarations/wifi.json")).unwrap();
    std::fs::remove_file(folder.join("out/assets/org.example.files.json")).unwrap();
    std::fs::remove_file(folder.join("out/assets/org.example.files.data")).unwrap();
    let (code, shown, error) = said(&run(folder, port, &["apply", "out", "--prune"]));
    assert_eq!(code, 0, "{error}");
    assert!(shown.contains("deleted profile org.example.wifi"), "{shown}");
    assert!(
        shown.contains("deleted asset org.example.files") && !shown.contains("asset org.example.login"),
        "{shown}"
    );
}

#[test]
fn services_are_files_and_facts_are_lines() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let reserved = Port::reserve();
    let port = reserved.number();
    let file = folder.join("mdm/services/school.sshd.json");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let write = |path: &str| {
        let text = format!(
            "{{\"service\": \"com.apple.sshd\", \"files\": {{\"{path}\": \"PermitRootLogin no\\n\"}}}}"
        );
        std::fs::write(&file, text).unwrap();
    };
    write("../sshd_config");
    let (code, _, error) = said(&run(folder, port, &["apply", "mdm"]));
    assert_eq!(code, 1);
    assert!(error.contains("school.sshd.json /files/..~1sshd_config"), "{error}");
    write("etc/ssh/sshd_config");
    let (code, shown, error) = said(&run(folder, port, &["apply", "mdm"]));
    assert_eq!(code, 0, "{error}");
    assert!(shown.contains("created service configuration school.sshd"), "{shown}");
    let (code, _, error) = said(&run(folder, port, &["export", "out"]));
    assert_eq!(code, 0, "{error}");
    assert!(folder.join("out/services/school.sshd.json").is_file());
    assert!(!folder.join("out/assets").exists() && !folder.join("out/background-tasks").exists());
    let (code, shown, error) = said(&run(folder, port, &["apply", "out", "--dry-run", "--prune"]));
    assert_eq!(code, 0, "{error}");
    assert!(shown.starts_with("No difference"), "{shown}");

    let (code, shown, error) = said(&run(folder, port, &["compliance", "--ignore", "filevault"]));
    assert_eq!(code, 0, "{error}");
    assert!(shown.starts_with("0 devices"), "{shown}");
    let (code, shown, _) = said(&run(folder, port, &["compliance", "--group", "default", "--json"]));
    assert_eq!(code, 0);
    assert!(shown.contains("\"summary\""), "{shown}");
    assert_eq!(said(&run(folder, port, &["compliance", "--want", "x"])).0, 1);
    assert_eq!(said(&run(folder, port, &["compliance", "--group", "none"])).0, 1);
}
