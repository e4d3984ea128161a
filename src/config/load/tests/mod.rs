//! What is understood and what is refused, told as files and environments.

use super::super::*;
use super::{find, keys, line, overrides, parse, understand};
use crate::clock::DAY;

mod mistakes;
mod overrides;

const FILE: &str = "/srv/russet/russet.toml";

fn read(text: &str) -> Result<Config, Mistakes> {
    read_with(text, &[])
}

fn read_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, Mistakes> {
    parse(text, Some(Path::new(FILE)), environment(variables))
}

fn environment(variables: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
}

/// The only mistake of a file, as a line without the file's name.
fn mistake(text: &str) -> String {
    let Mistakes(mistakes) = read(text).expect_err(text);
    assert_eq!(mistakes.len(), 1, "{text}: {mistakes:?}");
    mistakes[0].to_string().replace(&format!("{FILE}:"), "")
}

fn assert_mistake(text: &str, place: &str, words: &str) {
    let mistake = mistake(text);
    assert!(
        mistake.starts_with(place) && mistake.contains(words),
        "{text}\n{mistake}\nwanted {place} … {words}"
    );
}

#[test]
fn an_absent_or_empty_file_is_valid() {
    let config = load(None, environment(&[])).unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.data_dir, std::env::current_dir().unwrap().join("russet-data"));
    assert_eq!(config.server.listen, ["[::]:8443".parse().unwrap()]);
    assert_eq!(config.server.public_url.to_string(), "https://localhost:8443");
    assert!(config.public_url_is_localhost());
    assert_eq!(config.backup.every, DAY);
    let of_an_empty_file = read("").unwrap();
    assert_eq!(of_an_empty_file.data_dir, Path::new("/srv/russet/russet-data"));
    assert_eq!(Config { data_dir: config.data_dir.clone(), ..of_an_empty_file }, config);
}

#[test]
fn the_example_has_every_key_and_its_default() {
    let config = parse(EXAMPLE, None, environment(&[])).unwrap();
    assert_eq!(config, Config::default());

    let example: toml::Table = EXAMPLE.parse().unwrap();
    for key in keys() {
        let (tables, name) = key.rsplit_once('.').unwrap_or(("", key));
        let table = tables
            .split('.')
            .filter(|table| !table.is_empty())
            .fold(&example, |table, name| table[name].as_table().unwrap());
        assert!(table.contains_key(name), "example.toml does not have {key}");
        let above = EXAMPLE
            .lines()
            .zip(EXAMPLE.lines().skip(1))
            .any(|(sentence, line)| sentence.starts_with("# ") && line.starts_with(&format!("{name} = ")));
        assert!(above, "example.toml has no sentence above {key}");
    }
}

#[test]
fn an_installed_server_is_understood() {
    let text = r#"
        data_dir = "/var/lib/russet"
        [server]
        listen = ["[::]:443"]
        http_listen = ["[::]:80"]
        public_url = "https://MDM.example.org/"
        [tls]
        mode = "files"
        certificate = "tls/fullchain.pem"
        private_key = "/etc/key.pem"
        acme.contact = "it@example.org"
    "#;
    let config = read(text).unwrap();
    assert_eq!(config.data_dir, Path::new("/var/lib/russet"));
    assert_eq!(config.public_host(), "mdm.example.org");
    assert!(!config.public_url_is_localhost());
    assert_eq!(
        config.tls.mode,
        TlsMode::Files {
            certificate: "/srv/russet/tls/fullchain.pem".into(),
            private_key: "/etc/key.pem".into(),
        }
    );
    assert_eq!(config.tls.acme.contact.as_deref(), Some("it@example.org"));
    // Files that are named and not used are no mistake: one word changes the mode.
    assert_eq!(read(&text.replace("\"files\"", "\"self-signed\"")).unwrap().tls.mode, TlsMode::SelfSigned);
}

#[test]
fn shorter_identities_alone_are_still_renewed_in_time() {
    let config = read("[enrollment]\nidentity_days = 30").unwrap();
    assert_eq!(config.enrollment.renew_before_days, 10);
    assert_eq!(read("[enrollment]\nidentity_days = 2").unwrap().enrollment.renew_before_days, 1);
    assert_eq!(read("[enrollment]\nidentity_days = 1").unwrap().enrollment.renew_before_days, 0);
}

#[test]
fn the_appliance_is_checked_everywhere() {
    let config = read(
        "[appliance]\nhostname = \"Pi-1\"\ntimezone = \"America/Argentina/Buenos_Aires\"\nntp = [\"ntp.example.org\"]\n\
         ssh_keys = [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 me\"]\nrestore = \"old.backup\"\n\
         [appliance.network]\naddress = \"192.0.2.10/24\"\ngateway = \"192.0.2.1\"\ndns = [\"192.0.2.1\"]\n\
         [appliance.wifi]\nssid = \"School\"\npassword = \"correct horse\"\ncountry = \"DE\"\n",
    )
    .unwrap();
    assert_eq!(config.appliance.hostname, "pi-1");
    assert_eq!(config.appliance.restore.as_deref(), Some(Path::new("/srv/russet/old.backup")));
    assert_eq!(config.appliance.network.address.unwrap().to_string(), "192.0.2.10/24");
    assert_eq!(config.appliance.wifi.password.unwrap().reveal(), "correct horse");

    assert_mistake("[appliance]\nhostname = \"a.b\"", "2: appliance.hostname: ", "has a dot");
    assert_mistake("[appliance]\ntimezone = \"../etc/passwd\"", "2: appliance.timezone: ", "time zone");
    assert_mistake("[appliance]\nssh_keys = [\"-----BEGIN\"]", "2: appliance.ssh_keys: ", "public SSH key");
    assert_mistake("[appliance.network]\naddress = \"192.0.2.10\"", "2: appliance.network.address: ", "/24");
    assert_mistake(
        "[appliance.network]\ngateway = \"192.0.2.1\"",
        "2: appliance.network.gateway: ",
        "`address`",
    );
    assert_mistake(
        "[appliance.network]\naddress = \"192.0.2.10/24\"\ngateway = \"10.0.0.1\"",
        "3: appliance.network.gateway: ",
        "not in the network 192.0.2.0/24",
    );
    assert_mistake("[appliance.wifi]\npassword = \"longenough\"", "2: appliance.wifi.password: ", "`ssid`");
    assert_mistake("[appliance.wifi]\ncountry = \"de\"", "2: appliance.wifi.country: ", "capital");
}

#[test]
fn the_report_shows_every_setting_and_no_secret() {
    let config =
        read_with("[webhook]\nurl = \"https://hook.example.org\"\nsecret = \"hunter2\"", &[]).unwrap();
    let names =
        overrides(environment(&[("RUSSET__LOG__LEVEL", "warn"), ("HOME", "/"), ("RUSSET_CONFIG", "x")]));
    let text = report(&config, Some(Path::new(FILE)), &names, &[]);
    assert!(text.starts_with("Read /srv/russet/russet.toml.\nOverridden by RUSSET__LOG__LEVEL.\n"), "{text}");
    for key in keys() {
        assert!(text.lines().any(|line| line.starts_with(&format!("{key} "))), "{key} is not in\n{text}");
    }
    assert!(text.contains("webhook.secret                     set\n"), "{text}");
    assert!(text.contains("appliance.wifi.password            not set\n"), "{text}");
    assert!(text.contains("server.listen                      [::]:8443\n"), "{text}");
    assert!(
        text.contains("apns.server                        https://api.push.apple.com (port 443)\n"),
        "{text}"
    );
    assert!(text.contains("backup.every                       24h\n"), "{text}");
}

#[test]
fn lines_are_counted_from_one() {
    assert_eq!((line("", 0), line("a\nb", 1), line("a\nb", 2), line("a\n", 99)), (1, 1, 2, 2));
}
