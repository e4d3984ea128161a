//! What is refused: each kind of mistake, at its place and in words.

use super::*;

#[test]
fn unknown_keys_name_their_line_and_what_was_meant() {
    assert_mistake("[server]\n\nlisen = []", "3: server.lisen: ", "did you mean `listen`?");
    assert_mistake("[sever]\nlisten = []", "1: sever: ", "did you mean `server`?");
    assert_mistake("listen = []", "1: listen: ", "belongs in the table [server]");
    assert_mistake("[log]\ncolour = true", "2: log.colour: ", "the keys here are format, level");
    assert_mistake("[tls.acme]\ncontacts = \"\"", "2: tls.acme.contacts: ", "`contact`");
    assert_mistake("[server.tls]\nmode = \"files\"", "1: server.tls: ", "no such key");
    assert_mistake("server = { lisen = [] }", "1: server.lisen: ", "`listen`");
    assert_mistake("[[server]]\nlisten = []", "1: server: ", "write [server]");
}

#[test]
fn every_mistake_is_told_in_order() {
    let text = "data-dir = 1\n[server]\npublic_url = \"http://x\"\nlisten = [\n  \"localhost:1\",\n  7,\n]\n[retention]\ndays = 0\n";
    let Mistakes(mistakes) =
        read_with(text, &[("RUSSET__LOG__LEVEL", "loud"), ("RUSSET__LOG__LEVLE", "info")]).unwrap_err();
    let places: Vec<_> = mistakes.iter().map(|mistake| (mistake.line, mistake.key.as_str())).collect();
    assert_eq!(
        places,
        [
            (Some(1), "data-dir"),
            (Some(3), "server.public_url"),
            (Some(5), "server.listen"),
            (Some(6), "server.listen"),
            (Some(9), "retention.days"),
            (None, "RUSSET__LOG__LEVEL"),
            (None, "RUSSET__LOG__LEVLE"),
        ]
    );
}

#[test]
fn broken_toml_names_its_line_and_hides_nothing_else() {
    assert_mistake("[log]\nlevel = info\n", "2: this is not TOML: ", "correct the line");
    assert_mistake("[log]\nlevel = \"info\"\nlevel = \"warn\"\n", "3: this is not TOML: ", "duplicate key");
    let Mistakes(mistakes) =
        read("[log]\nlevel = info\nformat = json\n[server]\nlisen = []\n[tls]\nmode = \"files\"\n")
            .unwrap_err();
    assert_eq!(
        mistakes.iter().filter_map(|mistake| mistake.line).collect::<Vec<_>>(),
        [2, 3, 5],
        "{mistakes:?}"
    );
}

#[test]
fn hostile_files_are_refused_without_a_panic() {
    let nested = format!("data_dir = {}", "[".repeat(100_000));
    assert!(read(&nested).is_err());
    for text in [
        "[",
        "]",
        "\"",
        "=",
        "a.b.c.d.e = 1",
        "\u{feff}[log]\nlevel = \"warn\"\n= 1",
        "'''",
        "data_dir = \"\\q\"",
    ] {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn values_of_another_type_are_refused_with_the_type_that_is_wanted() {
    assert_mistake("data_dir = 1", "1: data_dir: ", "this is a number; write a text in quotes");
    assert_mistake("[server]\nlisten = \"[::]:443\"", "2: server.listen: ", "write a list");
    assert_mistake("[server.listen]", "1: server.listen: ", "this is a table; write a list");
    assert_mistake("[backup]\npackages = \"yes\"", "2: backup.packages: ", "write true or false");
    assert_mistake("[backup]\nkeep = \"14\"", "2: backup.keep: ", "write a whole number from 1");
    assert_mistake("[backup]\nkeep = 1.5", "2: backup.keep: ", "a number with a fraction");
    assert_mistake("[backup]\nevery = 24", "2: backup.every: ", "write a text in quotes");
    assert_mistake("[backup]\nevery = 2026-01-01", "2: backup.every: ", "a date or time");
    assert_mistake("[log]\nformat = [\"text\"]", "2: log.format: ", "this is a list");
    assert_mistake("server = true", "1: server: ", "is a table");
}

#[test]
fn values_out_of_range_are_refused() {
    assert_mistake("[retention]\ndays = -1", "2: retention.days: ", "out of range");
    assert_mistake("[retention]\ndays = 99999999999999999999", "2: retention.days: ", "out of range");
    assert_mistake("[enrollment]\nidentity_days = 0", "2: enrollment.identity_days: ", "from 1 to");
    assert_mistake("[enrollment]\naccess_rights = 8192", "2: enrollment.access_rights: ", "from 1 to 8191");
    assert_mistake("[enrollment]\naccess_rights = 130", "2: enrollment.access_rights: ", "write 195");
    assert_mistake("data_dir = \"\"", "1: data_dir: ", "empty");
    assert_mistake("[backup]\nevery = \"soon\"", "2: backup.every: ", "24h");
    assert_mistake("[server]\nlisten = []", "2: server.listen: ", "no device could connect");
    assert_mistake("[server]\nlisten = [\":443\"]", "2: server.listen: ", "[::]:8443");
    assert_mistake("[log]\nlevel = \"warning\"", "2: log.level: ", "\"warn\"");
    assert_mistake("[organization]\nname = \"\"", "2: organization.name: ", "empty");
    assert_mistake("[organization]\nidentifier = \"school\"", "2: organization.identifier: ", "reverse DNS");
    assert_mistake(
        "[apns]\nserver = \"https://api.push.apple.com/3/device\"",
        "2: apns.server: ",
        "after the host",
    );
    assert_mistake("[updates]\ncatalogue = \"http://x.org/pmv\"", "2: updates.catalogue: ", "https://");
}

#[test]
fn what_this_version_does_not_serve_is_said() {
    assert_mistake("[enrollment]\nidentity = \"acme\"", "2: enrollment.identity: ", "write \"scep\"");
}

#[test]
fn mode_acme_asks_for_what_its_challenge_needs() {
    let host = "[server]\npublic_url = \"https://mdm.example.org\"\n[tls]\nmode = \"acme\"\n[tls.acme]\n";
    assert!(read(host).is_ok());
    assert_mistake("[tls]\nmode = \"acme\"", "2: tls.mode: ", "localhost is none");
    assert_mistake(&format!("{host}challenge = \"http-01\""), "6: tls.acme.challenge: ", "http_listen");
    assert_mistake(&format!("{host}challenge = \"dns-01\""), "6: tls.acme.challenge: ", "dns_hook");
    assert_mistake(&format!("{host}dns_key = \"c2VjcmV0\""), "6: tls.acme.dns_key: ", "dns_key_name");
    assert_mistake(&format!("{host}dns_key = \"?\""), "6: tls.acme.dns_key: ", "not base64");
    assert_mistake(&format!("{host}account_key = \"c2VjcmV0\""), "6: tls.acme.account_key: ", "key ID");
    assert_mistake(&format!("{host}dns_hook = [\"hook\"]"), "6: tls.acme.dns_hook: ", "whole path");
    let both = format!("{host}dns_hook = [\"/hook\"]\ndns_server = \"ns.example.org:53\"");
    assert_mistake(&both, "6: tls.acme.dns_hook: ", "take one of the two away");
    let wanted = "challenge = \"dns-01\"\ndns_server = \"ns.example.org:53\"\ndns_key_name = \"russet\"\ndns_key = \"c2VjcmV0\"";
    let config = read(&format!("{host}{wanted}")).unwrap();
    assert!(!report(&config, None, &[], &[]).contains("c2VjcmV0"));
    let Some(DnsWriter::Update { server, zone: None, key: Some(key) }) = config.tls.acme.dns else {
        panic!()
    };
    assert_eq!((server.to_string().as_str(), key.secret.reveal()), ("ns.example.org:53", "c2VjcmV0"));
}

#[test]
fn settings_that_contradict_each_other_are_refused_where_they_were_written() {
    let Mistakes(mistakes) = read("[tls]\nmode = \"files\"").unwrap_err();
    assert_eq!(mistakes.len(), 2);
    assert!(mistakes.iter().all(|mistake| mistake.line == Some(2)), "{mistakes:?}");
    assert_mistake("[tls]\nmode = \"files\"\ncertificate = \"a.pem\"", "2: tls.mode: ", "`private_key`");
    assert_mistake("[enrollment]\nca_days = 365", "2: enrollment.ca_days: ", "outlive");
    assert_mistake(
        "[proxy]\nclient_certificate_header = \"X-Cert\"",
        "2: proxy.client_certificate_header: ",
        "`trusted`",
    );
    assert_mistake(
        "[mail]\nserver = \"smtp.example.org:25\"\nfrom = \"a@x.org\"",
        "2: mail.server: ",
        "`to`",
    );
    assert_mistake("[webhook]\nsecret = \"hunter2\"", "2: webhook.secret: ", "`url`");
    assert_mistake("[server]\nhttp_listen = [\"[::]:8443\"]", "2: server.http_listen: ", "written twice");
}

#[test]
fn identities_that_are_always_due_are_allowed_with_a_warning() {
    let text = "[enrollment]\nidentity_days = 100\nrenew_before_days = 100";
    let reading = understand(text, Some(Path::new(FILE)), environment(&[]));
    let warnings: Vec<_> = reading.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with(&format!("{FILE}:3: enrollment.renew_before_days: ")), "{}", warnings[0]);
    let config = reading.done().unwrap();
    assert!(report(&config, None, &[], &warnings).contains("again and again"));
    assert!(read("[enrollment]\nidentity_days = 1").is_ok());
}

#[test]
fn a_file_that_is_missing_is_told_apart_from_one_that_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("russet.toml");
    let missing = super::super::read(Some(&file), environment(&[])).err().unwrap();
    assert!(missing.words.contains("no such file"), "{missing}");
    std::fs::write(&file, b"[log]\nlevel = \"\xff\"\n").unwrap();
    let reading = super::super::read(Some(&file), environment(&[])).unwrap();
    assert_eq!(reading.mistakes.0[0].line, Some(2));
    assert!(reading.mistakes.0[0].words.contains("UTF-8"));
}

#[test]
fn a_refused_value_is_not_said_to_contradict_another() {
    assert_mistake(
        "[enrollment]\nidentity_days = \"long\"\nrenew_before_days = 900",
        "2: enrollment.identity_days: ",
        "number",
    );
    assert_mistake("[server]\nlisten = [\"x\"]", "2: server.listen: ", "IP address");
}

#[test]
fn mistakes_and_debug_never_repeat_a_secret() {
    let short = mistake("[appliance.wifi]\nssid = \"x\"\npassword = \"hunter2\"");
    assert!(short.contains("8 to 63") && !short.contains("hunter2"), "{short}");
    let broken = read("[webhook]\nsecret = hunter2").unwrap_err().to_string();
    assert!(!broken.contains("hunter2"), "{broken}");
    let config = read("[webhook]\nurl = \"https://hook.example.org\"\nsecret = \"hunter2\"").unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(!report(&config, None, &[], &[]).contains("hunter2"));
}

#[test]
fn a_webhook_in_our_own_network_is_refused_unless_it_is_meant() {
    for url in
        ["https://127.0.0.1/x", "https://localhost:1/", "https://[fd00::1]/", "http://169.254.169.254/latest"]
    {
        let text = format!("[webhook]\nsecret = \"x\"\nurl = \"{url}\"");
        assert_mistake(&text, "3: webhook.url: ", "`allow_private = true`");
        read(&format!("{text}\nallow_private = true")).unwrap();
    }
    let plain = "[webhook]\nurl = \"http://hook.example.org/\"\nformat = \"micromdm\"";
    assert_mistake(plain, "2: webhook.url: ", "https://");
    assert_mistake("[webhook]\nformat = \"micro\"", "2: webhook.format: ", "micromdm");
    assert_mistake("[webhook]\ntimeout = \"1h\"", "2: webhook.timeout: ", "120 seconds");
}
