//! Overrides by the environment, and where files and paths are looked for.

use super::*;
use crate::clock::HOUR;

#[test]
fn any_key_can_be_overridden() {
    let config = read_with(
        "[server]\nlisten = [\"[::]:443\"]\n[enrollment]\nidentity_days = 700",
        &[
            ("RUSSET__SERVER__LISTEN", r#"["127.0.0.1:9000", '127.0.0.1:9001']"#),
            ("RUSSET__SERVER__PUBLIC_URL", "https://mdm.example.org"),
            ("RUSSET__ENROLLMENT__IDENTITY_DAYS", "100"),
            ("RUSSET__TLS__ACME__CONTACT", "\"it@example.org\""),
            ("RUSSET__BACKUP__PACKAGES", "true"),
            ("RUSSET__BACKUP__EVERY", "12h"),
            ("RUSSET__ORGANIZATION__NAME", "2026"),
            ("RUSSET__MAIL", r#"{ server = "smtp.example.org:25", from = "a@x.org", to = ["b@x.org"] }"#),
            ("RUSSET__MAIL__FROM", "c@x.org"),
            ("RUSSET_CONFIG", "/elsewhere"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert_eq!(config.server.listen, ["127.0.0.1:9000".parse().unwrap(), "127.0.0.1:9001".parse().unwrap()]);
    assert_eq!(config.public_host(), "mdm.example.org");
    assert_eq!(config.enrollment.identity_days, 100);
    assert_eq!(config.tls.acme.contact.as_deref(), Some("it@example.org"));
    assert!(config.backup.packages);
    assert_eq!(config.backup.every, 12 * HOUR);
    assert_eq!(config.organization.name, "2026");
    assert_eq!(config.mail.from.as_deref(), Some("c@x.org"));
    assert_eq!(config.mail.to, ["b@x.org"]);
}

#[test]
fn an_override_of_a_table_replaces_the_table() {
    let config = read_with(
        "[organization]\nname = \"Old\"\nphone = \"1\"",
        &[("RUSSET__ORGANIZATION", "{ name = \"New\" }")],
    )
    .unwrap();
    assert_eq!((config.organization.name.as_str(), config.organization.phone), ("New", None));
}

#[test]
fn mistakes_in_overrides_name_the_variable() {
    for (variable, value, words) in [
        ("RUSSET__SERVER__LISEN", "[]", "did you mean `listen`?"),
        ("RUSSET__SERVER__LISTEN", "127.0.0.1:9000", "write a list, e.g. [\"…\""),
        ("RUSSET__SERVER__LISTEN", "[\"x\"]", "IP address"),
        ("RUSSET__ENROLLMENT__IDENTITY_DAYS", "many", "not a number"),
        ("RUSSET__ENROLLMENT__CA_DAYS", "365", "outlive"),
        ("RUSSET__BACKUP__PACKAGES", "yes", "true or false"),
        ("RUSSET__TLS", "files", "is a table"),
        ("RUSSET__TLS", "{ mod = \"files\" }", "did you mean `mode`?"),
        ("RUSSET__", "x", "no such key"),
        ("RUSSET__TLS__ACME__", "x", "no such key"),
    ] {
        let Mistakes(mistakes) = read_with("", &[(variable, value)]).expect_err(variable);
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert_eq!((mistakes[0].key.as_str(), &mistakes[0].file, mistakes[0].line), (variable, &None, None));
        assert!(mistakes[0].words.contains(words), "{}", mistakes[0]);
    }
}

#[test]
fn relative_paths_are_relative_to_where_they_were_written() {
    let here = std::env::current_dir().unwrap();
    let file = "data_dir = \"./data\"\n[apns]\ntrust = \"../roots.pem\"\n[updates]\nsource = \"bundles\"";
    let config = read_with(file, &[("RUSSET__BACKUP__DIRECTORY", "backups")]).unwrap();
    assert_eq!(config.data_dir, Path::new("/srv/russet/data"));
    assert_eq!(config.apns.trust.as_deref(), Some(Path::new("/srv/russet/../roots.pem")));
    assert_eq!(config.updates.source, Some(Location::Path("/srv/russet/bundles".into())));
    assert_eq!(config.backup.directory, Some(here.join("backups")));
    assert_eq!(config.clone().with_data_dir(Some(Path::new("other"))).data_dir, here.join("other"));
    assert_eq!(config.clone().with_data_dir(None), config);
    let config = parse("", Some(Path::new("russet.toml")), environment(&[])).unwrap();
    assert_eq!(config.data_dir, here.join("russet-data"));
}

#[test]
fn a_file_named_on_the_command_line_is_the_one_and_has_to_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    assert_eq!(find(Some(&file)), Some(file.clone()));
    let missing = load(Some(&file), environment(&[])).unwrap_err().to_string();
    assert!(missing.contains("mine.toml: there is no such file"), "{missing}");
    assert!(
        load(Some(folder.path()), environment(&[])).unwrap_err().to_string().contains("this is a folder")
    );
    std::fs::write(&file, b"[log]\nlevel = \"\xff\"").unwrap();
    assert!(
        load(Some(&file), environment(&[]))
            .unwrap_err()
            .to_string()
            .contains("mine.toml:2: the line is not UTF-8")
    );
    std::fs::write(&file, "[log]\nlevel = \"warn\"").unwrap();
    assert_eq!(load(Some(&file), environment(&[])).unwrap().log.level, Level::Warn);
}
