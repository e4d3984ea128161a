//! Folders that people apply and export, as they look when something is not as it should be.

use std::path::Path;

use crate::cli::{run, said};
use crate::support::Port;

fn write(folder: &Path, path: &str, bytes: impl AsRef<[u8]>) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn what_is_misspelt_or_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let port = Port::reserve();
    let apply = |arguments: &[&str]| {
        let all: Vec<&str> = ["apply"].iter().chain(arguments).copied().collect();
        said(&run(folder, port.number(), &all))
    };
    let (code, _, error) = apply(&["nowhere"]);
    assert!(code == 1 && error.contains("nowhere: there is no such folder"), "{error}");
    std::fs::create_dir(folder.join("empty")).unwrap();
    let (code, _, error) = apply(&["empty"]);
    assert!(code == 1 && error.contains("nothing to apply") && error.contains("background-tasks"), "{error}");

    let passcode =
        "{\"Type\": \"com.apple.configuration.passcode.settings\", \"Payload\": {\"MinimumLenght\": 6}}";
    write(folder, "mdm/declarations/pass.json", passcode);
    write(folder, "mdm/declarations/pass.jsn", passcode);
    write(folder, "mdm/group/a.json", "{}");
    write(folder, "mdm/stray.json", "{}");
    write(folder, "mdm/README.md", "ours");
    write(folder, "mdm/.git/config", "");
    let (code, _, error) = apply(&["mdm"]);
    assert_eq!(code, 1);
    assert!(error.contains("group: passed over") && error.contains("Did you mean \"groups\"?"), "{error}");
    assert!(error.contains("pass.jsn: passed over; files of declarations end in .json"), "{error}");
    assert!(error.contains("stray.json: passed over"), "{error}");
    assert!(!error.contains("README") && !error.contains(".git"), "{error}");
    assert!(!error.contains("?force=1"), "{error}");
    let (code, shown, error) = apply(&["mdm", "--force"]);
    assert_eq!(code, 0, "{error}");
    assert!(shown.contains("created declaration pass"), "{shown}");
}

#[test]
fn a_dry_run_sends_no_files() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let port = Port::reserve();
    let large: Vec<u8> = std::iter::repeat_n(b"0123456789abcdef", 100_000).flatten().copied().collect();
    write(folder, "mdm/assets/org.example.files.json", "{\"content_type\": \"application/zip\"}");
    write(folder, "mdm/assets/org.example.files.data", &large);
    let (code, shown, error) = said(&run(folder, port.number(), &["apply", "mdm", "--dry-run"]));
    assert_eq!(code, 0, "{error}");
    assert!(shown.contains("created asset org.example.files") && shown.contains("/size: 1600000"), "{shown}");
    assert!(error.contains("sends no files"), "{error}");
    let kept = std::fs::read_dir(folder.join("russet-data/files")).map_or(0, Iterator::count);
    assert_eq!(kept, 0);
    assert_eq!(said(&run(folder, port.number(), &["apply", "mdm"])).0, 0);
    let (_, shown, error) = said(&run(folder, port.number(), &["apply", "mdm", "--dry-run"]));
    assert!(shown.starts_with("No difference") && error.is_empty(), "{shown}{error}");
}

#[test]
fn members_are_exported_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let port = Port::reserve();
    write(folder, "mdm/groups/staff.json", "{\"tags\": [\"a\"]}");
    let russet = |arguments: &[&str]| said(&run(folder, port.number(), arguments));
    assert_eq!(russet(&["apply", "mdm"]).0, 0);
    let exported = |arguments: &[&str]| {
        let (code, _, error) = russet(arguments);
        assert_eq!(code, 0, "{error}");
        std::fs::read_to_string(folder.join("out/groups/staff.json")).unwrap()
    };
    let without = exported(&["export", "out"]);
    assert!(without.contains("tags") && !without.contains("members"), "{without}");
    assert!(russet(&["apply", "out", "--dry-run"]).1.starts_with("No difference"));
    assert!(exported(&["export", "out", "--members"]).contains("\"members\": []"));
}
