//! What is read of apps and packages, and what is refused within bounds.

use std::io::Cursor;

use super::summary::{Kind, Summary};
use super::{CHUNK, hashes, read};
use crate::error::{Error, Result};
use crate::pki::certificate::Certificate;
use crate::pki::cms::{Signer, sign_attached};
use crate::pki::key::PrivateKey;
use crate::pki::pem;
use crate::plist::{self, Value};
use crate::simulator::artifact::{app, info_plist, installer, xar, xar_of, zip};

const NOW: i64 = 1_800_000_000;
const PLIST: &str = "Payload/Register.app/Info.plist";

fn reading(bytes: &[u8]) -> Result<Summary> {
    read(&mut Cursor::new(bytes), NOW)
}

/// The words with which it is refused.
fn refused(bytes: &[u8]) -> String {
    match reading(bytes) {
        Err(Error::Invalid { words, .. }) => {
            assert!(words.len() < 600, "{words}");
            words
        }
        Err(other) => panic!("{other:?}"),
        Ok(summary) => panic!("{summary:?}"),
    }
}

fn certificate() -> Vec<u8> {
    let text = std::str::from_utf8(include_bytes!("../../../tests/fixtures/cms/rsa.crt")).unwrap();
    pem::blocks(text).unwrap().remove(0).der.clone()
}

/// Writes a number over another, of as many bytes as the pattern has after it.
fn patched(archive: &[u8], signature: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut archive = archive.to_vec();
    let found = archive.windows(signature.len()).rposition(|window| window == signature).unwrap();
    archive[found + at..found + at + bytes.len()].copy_from_slice(bytes);
    archive
}

#[test]
fn an_app_says_what_it_is() {
    let summary = reading(&app("org.example.register", "1.2", 100)).unwrap();
    assert_eq!((summary.kind, summary.title.as_str()), (Kind::Ipa, "Class Register"));
    assert_eq!((summary.bundle_id.as_str(), summary.version.as_str()), ("org.example.register", "1.2"));
    assert_eq!(summary.minimum_os.as_deref(), Some("17.0"));
    assert_eq!(
        (summary.platforms, summary.families),
        (vec!["iOS".into()], vec!["iPhone".into(), "iPad".into()])
    );
    assert!(
        !summary.signed && summary.warnings[0].contains("provisioning profile"),
        "{:?}",
        summary.warnings
    );
}

#[test]
fn a_binary_info_plist_is_read_too() {
    let info = Value::from_reader_xml(&info_plist("org.example.register", "1")[..]).unwrap();
    let mut binary = Vec::new();
    info.to_writer_binary(&mut binary).unwrap();
    let summary = reading(&zip(&[(PLIST, binary)])).unwrap();
    assert_eq!(summary.bundle_id, "org.example.register");
}

#[test]
fn a_provisioning_profile_says_where_an_app_runs_and_how_long() {
    let key = PrivateKey::from_pem(include_str!("../../../tests/fixtures/cms/rsa.key")).unwrap();
    let certificate = Certificate::from_pem(include_str!("../../../tests/fixtures/cms/rsa.crt")).unwrap();
    let with = |more: &str, expires: &str| {
        let profile = format!(
            "<plist version=\"1.0\"><dict><key>Name</key><string>In-house</string><key>TeamIdentifier</key>\
             <array><string>ABCDE12345</string></array><key>ExpirationDate</key><date>{expires}</date>{more}</dict></plist>"
        );
        let signed = sign_attached(profile.as_bytes(), Signer::new(&key, &certificate), &[], NOW).unwrap();
        let app = zip(&[
            (PLIST, info_plist("org.example.register", "1")),
            ("Payload/Register.app/embedded.mobileprovision", signed),
        ]);
        reading(&app).unwrap()
    };
    let everywhere = "<key>ProvisionsAllDevices</key><true/>";
    let good = with(everywhere, "2027-06-01T00:00:00Z");
    assert!(good.signed && good.warnings.is_empty(), "{:?}", good.warnings);
    let profile = good.profile.unwrap();
    assert_eq!((profile.team.as_deref(), profile.all_devices), (Some("ABCDE12345"), true));
    assert!(with(everywhere, "2026-06-01T00:00:00Z").warnings[0].contains("ended at 2026-06-01"));
    let listed = "<key>ProvisionedDevices</key><array><string>x</string></array>";
    assert!(with(listed, "2027-06-01T00:00:00Z").warnings[0].contains("the 1 devices"));
}

#[test]
fn a_package_says_what_it_is() {
    let summary = reading(&installer("org.example.tools", "3.1", &certificate(), 10)).unwrap();
    assert_eq!((summary.kind, summary.title.as_str()), (Kind::Pkg, "Class Register"));
    assert_eq!((summary.bundle_id.as_str(), summary.version.as_str()), ("org.example.tools", "3.1"));
    assert_eq!(summary.minimum_os.as_deref(), Some("13.0"));
    assert_eq!(summary.packages.len(), 1, "{:?}", summary.packages);
    assert_eq!(summary.packages[0].version.as_deref(), Some("3.1"));
    assert!(summary.signed && summary.signed_by.is_some());
    assert_eq!(summary.warnings, Vec::<String>::new());

    let info = b"<pkg-info identifier=\"org.example.part\" version=\"2\"><payload/></pkg-info>".to_vec();
    let component = reading(&xar(&[("PackageInfo", info)], "")).unwrap();
    assert_eq!((component.bundle_id.as_str(), component.signed), ("org.example.part", false));
    assert_eq!(component.warnings.len(), 2, "{:?}", component.warnings);
}

#[test]
fn hashes_are_those_of_each_chunk() {
    let bytes = vec![7; CHUNK + 1];
    let found = hashes(&mut Cursor::new(&bytes)).unwrap();
    assert_eq!(found[..32], crate::id::sha256(&bytes[..CHUNK]));
    assert_eq!(found[32..], crate::id::sha256(&[7]));
    assert!(hashes(&mut Cursor::new(Vec::new())).unwrap().is_empty());
}

#[test]
fn what_is_neither_is_refused() {
    for bytes in [&b""[..], b"PK", b"<?xml version=\"1.0\"?>", b"#!/bin/sh\nPK\x03\x04", b"\xcf\xfa\xed\xfe"]
    {
        assert!(refused(bytes).contains("neither"), "{bytes:?}");
    }
}

#[test]
fn every_cut_and_every_changed_byte_ends() {
    let whole =
        [app("org.example.register", "1", 40), installer("org.example.tools", "1", &certificate(), 0)];
    for archive in whole {
        for length in 4..archive.len() {
            if let Err(error) = reading(&archive[..length]) {
                assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
            }
        }
        for at in 0..archive.len() {
            for value in [0, 0x7f, 0xff] {
                let mut archive = archive.clone();
                archive[at] = value;
                if let Err(error) = reading(&archive) {
                    assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
                }
            }
        }
    }
}

#[test]
fn archives_that_are_made_to_deceive_are_refused() {
    let info = || info_plist("org.example.register", "1");
    let good = zip(&[(PLIST, info()), ("Payload/Register.app/Register", vec![1; 50])]);
    for name in ["../../etc/passwd", "/etc/passwd", "Payload/../../x", "a\\..\\b", "a\0b"] {
        assert!(refused(&zip(&[(PLIST, info()), (name, Vec::new())])).contains("leads out"), "{name}");
    }
    assert!(
        refused(&zip(&[("Payload/A.app/Info.plist", info()), ("Payload/B.app/Info.plist", info())]))
            .contains("several apps")
    );
    assert!(refused(&zip(&[(PLIST, info()), (PLIST, info())])).contains("several apps"));
    assert!(refused(&zip(&[("Info.plist", info())])).contains("no Payload"));
    // Encrypted; two entries at one place; a directory somewhere else; one of several parts.
    assert!(refused(&patched(&good, b"PK\x01\x02", 8, &[1, 0])).contains("encrypted"));
    assert!(refused(&patched(&good, b"PK\x01\x02", 42, &[0; 4])).contains("overlap"));
    assert!(refused(&patched(&good, b"PK\x05\x06", 16, &[1])).contains("contradicts"));
    assert!(refused(&patched(&good, b"PK\x05\x06", 4, &[1])).contains("several parts"));
    assert!(refused(&patched(&good, b"PK\x05\x06", 8, &[0xff; 4])).contains("contradicts"));
    // Something before it, which another program would run.
    let mut polyglot = b"PK\x03\x04#!/bin/sh\n".to_vec();
    polyglot.extend(&good);
    refused(&polyglot);
    // Something after it.
    assert!(refused(&[&good[..], b"MZ"].concat()).contains("no end"));
    // The name in the local header is another.
    let mut two = good.clone();
    two[30] = b'p';
    assert!(refused(&two).contains("contradicts"));
}

/// As archives are that are too large for 32 bits, though this one is not.
fn wide(archive: &[u8]) -> Vec<u8> {
    let end = archive.len() - 22;
    let (head, record) = archive.split_at(end);
    let number = |at: usize, count: usize| {
        record[at..at + count].iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
    };
    let (entries, length, at) = (number(10, 2), number(12, 4), number(16, 4));
    let mut wide = head.to_vec();
    wide.extend(b"PK\x06\x06");
    wide.extend(44_u64.to_le_bytes());
    wide.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for number in [entries, entries, length, at] {
        wide.extend(number.to_le_bytes());
    }
    wide.extend(b"PK\x06\x07\0\0\0\0");
    wide.extend((end as u64).to_le_bytes());
    wide.extend(1_u32.to_le_bytes());
    wide.extend(b"PK\x05\x06\0\0\0\0");
    wide.extend([0xff; 12]);
    wide.extend([0, 0]);
    wide
}

#[test]
fn archives_beyond_four_gigabytes_are_read_and_their_lies_are_not() {
    let good = wide(&app("org.example.register", "1", 40));
    assert_eq!(reading(&good).unwrap().bundle_id, "org.example.register");
    assert!(refused(&patched(&good, b"PK\x06\x06", 32, &[0xff; 8])).contains("contradicts"));
    let endless = patched(&good, b"PK\x06\x06", 24, &[0xff; 16]);
    assert!(refused(&endless).contains("more than"), "as many entries as 64 bits can count");
    assert!(refused(&patched(&good, b"PK\x06\x06", 48, &[0xff; 8])).contains("contradicts"));
    assert!(refused(&patched(&good, b"PK\x06\x07", 8, &[0xff; 8])).contains("ends too early"));
}

#[test]
fn bombs_are_refused_at_once() {
    let bomb = zip(&[(PLIST, vec![b' '; 64 << 20])]);
    assert!(bomb.len() < 1 << 20);
    assert!(refused(&bomb).contains("larger"));
    // One that lies about its size.
    let lying = patched(&bomb, b"PK\x01\x02", 24, &100_u32.to_le_bytes());
    assert!(refused(&lying).contains("larger"), "what it says of itself is not believed");
    let huge = xar_of(&" ".repeat(40 << 20), b"");
    assert!(refused(&huge).contains("larger"));
    let mut lying = xar_of(&" ".repeat(40 << 20), b"");
    lying[16..24].copy_from_slice(&100_u64.to_be_bytes());
    assert!(refused(&lying).contains("larger"));
    let deep = format!("<xar><toc>{}</toc></xar>", "<file>".repeat(100_000));
    refused(&xar_of(&deep, b""));
    let many = format!("<xar><toc>{}</toc></xar>", "<file></file>".repeat(600_000));
    assert!(refused(&xar_of(&many, b"")).contains("more than"));
    // Long names of folders are not repeated for each file in them.
    let children = "<file><name>x</name></file>".repeat(50_000);
    let nested = format!("<xar><toc><file><name>{}</name>{children}</file></toc></xar>", "y".repeat(60_000));
    assert!(refused(&xar_of(&nested, b"")).contains("neither a Distribution"));
    let document = vec![b' '; 64 << 20];
    assert!(refused(&xar(&[("Distribution", document)], "")).contains("larger"));
}

#[test]
fn a_table_of_contents_expands_nothing_and_leads_nowhere() {
    let entity = "<!DOCTYPE xar [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><xar><toc>&x;</toc></xar>";
    refused(&xar_of(entity, b""));
    let info = || b"<pkg-info identifier=\"a\"/>".to_vec();
    for name in ["../x", "..", "a/b", ""] {
        assert!(
            refused(&xar(&[(name, Vec::new()), ("PackageInfo", info())], "")).contains("leads out"),
            "{name}"
        );
    }
    let far = "<xar><toc><file><name>PackageInfo</name><data><offset>18446744073709551615</offset>\
               <length>18446744073709551615</length></data></file></toc></xar>";
    assert!(refused(&xar_of(far, b"x")).contains("ends too early"));
    assert!(refused(&xar(&[("PackageInfo", info()), ("PackageInfo", info())], "")).contains("damaged"));
    assert!(refused(&xar(&[("Other", info())], "")).contains("neither a Distribution"));
    let bomb =
        b"<!DOCTYPE a [<!ENTITY l \"lol\"><!ENTITY m \"&l;&l;\">]><pkg-info identifier=\"&m;\"/>".to_vec();
    refused(&xar(&[("PackageInfo", bomb)], ""));
}

/// What a package calls itself is data, whatever it says (CVE-2026-34387).
#[test]
fn names_are_names_and_nothing_more() {
    for name in ["org.example; rm -rf /", "$(id)", "`id`", "a\nb", "a'b", "../x", "", "<x>"] {
        let info = info_plist(&name.replace('<', "&lt;"), "1");
        let words = refused(&zip(&[(PLIST, info)]));
        assert!(words.contains("CFBundleIdentifier"), "{words}");
    }
    let info = |name: &str| format!("<pkg-info identifier=\"{name}\" version=\"$(id)\"/>").into_bytes();
    let summary = reading(&xar(&[("PackageInfo", info("a\u{202e}b\u{7}; rm -rf /"))], "")).unwrap();
    assert_eq!(
        summary.bundle_id, "a\u{fffd}b\u{fffd}; rm -rf /",
        "it is shown, and nothing else is done with it"
    );
    assert_eq!(summary.version, "1.0");
    let long = reading(&xar(&[("PackageInfo", info(&"x".repeat(100_000)))], "")).unwrap();
    assert!(long.bundle_id.len() < 300);
    let list = plist::parse_dict(&super::manifest::manifest(&package(summary), "https://x/")).unwrap();
    let item = list["items"].as_array().unwrap()[0].as_dictionary().unwrap();
    let metadata = item["metadata"].as_dictionary().unwrap();
    assert_eq!(metadata["bundle-identifier"].as_string(), Some("a\u{fffd}b\u{fffd}; rm -rf /"));
}

fn package(summary: Summary) -> super::Package {
    super::Package {
        identifier: "x".into(),
        summary,
        kept: crate::content::Kept { id: "0".into(), size: 1, secret: false },
        hashes: vec![1; 64],
        created_at: 0,
        created_by: "test".into(),
        updated_at: 0,
        updated_by: "test".into(),
    }
}
