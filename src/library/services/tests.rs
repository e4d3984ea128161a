//! What is made of files and property lists, on a store of its own.

use serde_json::{Value as Json, json};

use super::background_task::Sent;
use super::*;
use crate::ddm::served::{self, Kind};
use crate::library::tests::Shelf;
use crate::library::zip;

const EDIT: Edit<'_> = Edit { actor: "test", notify: true };

fn sshd(contents: &Contents, text: &str) -> Checked {
    let files = json!({"etc/ssh/sshd_config": text});
    prepare(contents, "com.apple.sshd", files.as_object().unwrap(), false).unwrap()
}

#[tokio::test]
async fn files_become_an_archive_and_two_declarations_and_go_with_them() {
    let shelf = Shelf::new().await;
    let contents = shelf.contents.clone();
    shelf
        .with(move |tx| {
            let put_text = |text: &str| put(tx, &contents, "school.sshd", &sshd(&contents, text), EDIT);
            let first = put_text("PermitRootLogin no\n")?;
            assert!(first.created && first.changed && first.warnings.is_empty(), "{first:?}");
            let token = || Ok::<_, Error>(declaration::get(tx, "school.sshd.files")?.unwrap().server_token);
            let before = token()?;
            let same = put_text("PermitRootLogin no\n")?;
            assert!(!same.created && !same.changed);
            assert_eq!(token()?, before, "the same files are no change");
            assert!(put_text("PermitRootLogin yes\n")?.changed);
            assert_ne!(token()?, before);

            let declared = declaration::get(tx, "school.sshd")?.unwrap();
            assert_eq!(
                Json::Object(declared.payload),
                json!({"ServiceType": "com.apple.sshd", "DataAssetReference": "school.sshd.files"})
            );
            let reference = declaration::get(tx, "school.sshd.files")?.unwrap().payload["Reference"].clone();
            assert_eq!(reference["ContentType"], "application/zip");
            let asset = asset::get(tx, "school.sshd.files")?.unwrap();
            let archive = contents.load(tx, &asset.kept)?;
            assert_eq!(reference["Hash-SHA-256"], crate::id::hex(&crate::id::sha256(&archive)));
            assert_eq!(zip::read(&archive).unwrap()["etc/ssh/sshd_config"], b"PermitRootLogin yes\n");

            let shown = get(tx, &contents, "school.sshd")?.unwrap();
            assert_eq!(shown["files"], json!({"etc/ssh/sshd_config": "PermitRootLogin yes\n"}));
            assert_eq!(list(tx, &contents, None, 10)?[0].1["files"], json!({"etc/ssh/sshd_config": 20}));
            let names: Vec<String> = generated(tx, &contents)?.into_iter().collect();
            assert_eq!(names, ["school.sshd", "school.sshd.files"]);

            delete(tx, &contents, "school.sshd", EDIT)?;
            assert!(declaration::get(tx, "school.sshd.files")?.is_none());
            assert!(served::find(tx, Kind::Asset, "school.sshd.files")?.is_none());
            assert!(matches!(delete(tx, &contents, "school.sshd", EDIT), Err(Error::NotFound(_))));
            Ok(())
        })
        .await;
}

#[tokio::test]
async fn what_is_something_else_is_left_alone() {
    let shelf = Shelf::new().await;
    let contents = shelf.contents.clone();
    shelf
        .with(move |tx| {
            let checked = sshd(&contents, "A b\n");
            let test = json!({"Echo": "x"});
            declare(tx, "com.apple.configuration.management.test", "other", &test, EDIT)?;
            assert!(matches!(put(tx, &contents, "other", &checked, EDIT), Err(Error::Conflict { .. })));
            for wrong in ["", "..", "a/b", &"x".repeat(59), "russet.sshd"] {
                assert!(
                    matches!(put(tx, &contents, wrong, &checked, EDIT), Err(Error::Invalid { .. })),
                    "{wrong}"
                );
            }
            put(tx, &contents, &"x".repeat(58), &checked, EDIT)?;
            // An archive that somebody made elsewhere is not one to edit here.
            let made = data(&contents, ZIP, b"PK no archive")?;
            asset::put(tx, &contents, "by.hand.files", &made, EDIT)?;
            let payload = json!({"ServiceType": "com.apple.cups", "DataAssetReference": "by.hand.files"});
            declare(tx, TYPE, "by.hand", &payload, EDIT)?;
            assert!(get(tx, &contents, "by.hand")?.is_none());
            assert_eq!(list(tx, &contents, None, 10)?.len(), 1);
            Ok(())
        })
        .await;
}

#[tokio::test]
async fn a_background_task_has_its_property_lists_and_no_others() {
    let shelf = Shelf::new().await;
    let contents = shelf.contents.clone();
    let plist =
        |label: &str| json!({"Label": label, "ProgramArguments": ["/usr/bin/true"], "RunAtLoad": true});
    let task = move |contents: &Contents, labels: &[&str], executable: Option<&str>| {
        let launchd = labels.iter().map(|label| json!({"context": "daemon", "plist": plist(label)}));
        let sent = Sent {
            task_type: "org.example.task".into(),
            description: Some("Counts".into()),
            executable: executable.map(str::to_owned),
            launchd: launchd.collect(),
        };
        background_task::prepare(contents, sent)
    };
    let is_invalid = |answer: Result<background_task::Checked>, at: &str| {
        let Err(Error::Invalid { pointer, .. }) = answer else { return false };
        pointer.as_deref() == Some(at)
    };
    assert!(is_invalid(task(&contents, &["a", "a"], None), "/launchd/1/plist/Label"));
    assert!(is_invalid(task(&contents, &[], None), "/launchd"));
    assert!(is_invalid(task(&contents, &["a"; 21], None), "/launchd"));
    shelf
        .with(move |tx| {
            let put =
                |checked: &background_task::Checked| background_task::put(tx, &contents, "t", checked, EDIT);
            assert!(put(&task(&contents, &["a", "b"], None)?)?.created);
            assert!(!put(&task(&contents, &["a", "b"], None)?)?.changed);
            let shown = background_task::get(tx, &contents, "t")?.unwrap();
            assert_eq!(shown["launchd"].as_array().unwrap().len(), 2);
            assert!(shown["launchd"][1]["plist"].as_str().unwrap().contains("<string>b</string>"));
            assert!(put(&task(&contents, &["a"], None)?)?.changed);
            assert!(asset::get(tx, "t.launchd-2")?.is_none());

            let missing = put(&task(&contents, &["a"], Some("bin"))?);
            assert!(matches!(missing, Err(Error::Invalid { pointer: Some(at), .. }) if at == "/executable"));
            let upload = |name: &str, bytes: &[u8]| {
                asset::put(tx, &contents, name, &data(&contents, ZIP, bytes)?, EDIT)
            };
            upload("bin", b"no archive")?;
            assert!(put(&task(&contents, &["a"], Some("bin"))?).is_err());
            let files = [("run".to_owned(), b"#!/bin/sh\n".to_vec())].into();
            upload("bin", &zip::write(&files)?)?;
            let warned = put(&task(&contents, &["a"], Some("bin"))?)?.warnings;
            assert!(warned.iter().any(|words| words.contains("chmod +x")), "{warned:?}");
            assert!(warned.iter().any(|words| words.contains("is expanded to")), "{warned:?}");
            let out = [("../run".to_owned(), Vec::new())].into();
            upload("bin", &zip::write(&out)?)?;
            assert!(put(&task(&contents, &["a"], Some("bin"))?).is_err());

            background_task::delete(tx, &contents, "t", EDIT)?;
            assert!(asset::get(tx, "t.launchd-1")?.is_none() && asset::get(tx, "bin")?.is_some());
            Ok(())
        })
        .await;
}
