//! Catalogues as Apple writes them, and as nobody should.

use proptest::prelude::*;
use serde_json::json;

use super::{document, release};
use crate::ddm::update::catalogue::{LARGEST, Parsed, compare_builds, parse};
use crate::schema::platform::Platform;

#[test]
fn a_document_is_read_whatever_else_is_in_it() {
    let Parsed { releases, skipped } = parse(document().to_string().as_bytes()).unwrap();
    assert_eq!((releases.len(), skipped), (7, 0));
    let tv = releases.iter().find(|release| release.version == "26.10").unwrap();
    assert_eq!((tv.platform(), tv.public), (Some(Platform::TvOs), true));
    let mac = releases.iter().find(|release| release.list == "macOS").unwrap();
    assert_eq!(mac.platform(), Some(Platform::MacOs));
    // The same release in both sets, and posted twice.
    let twice = json!({
        "PublicAssetSets": {"iOS": [release("26.2", "23C55", "2026-11-20", &["iPhone17,3"])]},
        "AssetSets": {"iOS": [
            release("26.2", "23C55", "2026-11-03", &["iPad15,7"]),
            release("26.2", "", "2026-11-03", &["iPad15,7"]),
            release("x", "23C55", "2026-11-03", &["iPad15,7"]),
            release("26.2", "23C55", "yesterday", &["iPad15,7"]),
            {"ProductVersion": "26.2"},
        ]},
    });
    let Parsed { releases, skipped } = parse(twice.to_string().as_bytes()).unwrap();
    assert_eq!((releases.len(), skipped), (1, 4));
    assert_eq!((releases[0].posted.as_str(), releases[0].public), ("2026-11-03", true));
    assert_eq!(releases[0].devices, ["iPad15,7", "iPhone17,3"]);
}

#[test]
fn hostile_documents_are_refused_in_words() {
    let releases = |count: usize| {
        let one = release("26.2", "23C55", "2026-11-03", &[]).to_string();
        format!("{{\"PublicAssetSets\": {{\"iOS\": [{}]}}}}", vec![one; count].join(","))
    };
    let devices = format!("[{}]", vec!["\"iPhone1,1\""; 1001].join(","));
    let many = releases(1).replace("[]", &devices);
    for (document, words) in [
        (String::new(), "not JSON"),
        ("[".repeat(100_000), "not JSON"),
        ("{\"PublicAssetSets\":".repeat(100_000), "not JSON"),
        ("{}".to_owned(), "no release"),
        ("[]".to_owned(), "not JSON"),
        ("{\"PublicAssetSets\": 7}".to_owned(), "not JSON"),
        ("{\"PublicAssetSets\": {\"iOS\": {}}}".to_owned(), "a list of at most"),
        ("{\"PublicAssetSets\": {\"iOS\": [{\"Build\": 7}]}}".to_owned(), "not JSON"),
        ("{\"PublicAssetSets\": {\"iOS\": [{\"ProductVersion\": \"\\ud800\"}]}}".to_owned(), "not JSON"),
        ("{\"PublicAssetSets\": {}, \"PublicAssetSets\": {}}".to_owned(), "not JSON"),
        (releases(4001), "a list of at most 4000"),
        (many, "a list of at most 1000"),
        (" ".repeat(LARGEST + 1), "are the most"),
    ] {
        let error = parse(document.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(words), "{}: {error}", &document[..document.len().min(60)]);
    }
    let long = "x".repeat(65);
    let odd = parse(releases(1).replace("[]", &format!("[\"{long}\", \"a b\", \"\", \"J1AP\"]")).as_bytes())
        .unwrap();
    assert_eq!(odd.releases[0].devices, ["J1AP"]);
}

#[test]
fn builds_compare_by_number() {
    for (older, newer) in
        [("23B85", "23C5"), ("23B85", "23B112"), ("9A1", "23A1"), ("23B85", "23B85a"), ("", "1A1")]
    {
        assert!(
            compare_builds(older, newer).is_lt() && compare_builds(newer, older).is_gt(),
            "{older} {newer}"
        );
    }
}

proptest! {
    #[test]
    fn no_document_brings_the_reader_down(document in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&document);
    }
}
