//! Policies and catalogues against what a device is told, on a store of its own.

mod documents;

use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

use super::catalogue::parse;
use super::standing::State;
use super::{kept, policy};
use crate::ddm::group::{self, Group};
use crate::ddm::manifest::{self, Manifest, Plan};
use crate::ddm::{Edit, Subject, generation, status};
use crate::error::{Error, Result};
use crate::schema::platform::Platform;
use crate::schema::table::{Enrollment, Scope};
use crate::storage::Tx;
use crate::storage::tests::temporary;

const EDIT: Edit<'_> = Edit { actor: "test", notify: true };

fn device(product: &str, version: &str) -> Subject {
    let mut keys = Map::new();
    for (name, value) in [("id", "A"), ("os_version", version), ("product_name", product)] {
        keys.insert(name.into(), value.into());
    }
    Subject {
        id: "A".into(),
        device_id: "A".into(),
        keys,
        tags: Vec::new(),
        platform: Platform::of_product(product),
        version: Some(version.into()),
        enrollment: Enrollment::Supervised,
        channel: Scope::System,
        shared_ipad: false,
        held: false,
    }
}

fn release(version: &str, build: &str, posted: &str, devices: &[&str]) -> Json {
    json!({"ProductVersion": version, "Build": build, "PostingDate": posted, "SupportedDevices": devices})
}

/// iPhones, one of them old, an Apple TV, and a Mac.
fn document() -> Json {
    json!({
        "PublicAssetSets": {
            "iOS": [
                release("26.2", "23C55", "2026-11-03", &["iPhone17,3"]),
                release("26.10", "23L1", "2026-10-01", &["AppleTV14,1"]),
                release("18.7.3", "22H217", "2026-11-03", &["iPhone11,2"]),
            ],
            "macOS": [release("26.2", "25C56", "2026-11-03", &["J715AP", "Mac-1E7E29AD0135F9BC"])],
        },
        "AssetSets": {
            "iOS": [
                release("27.0", "24A1", "2026-11-05", &["iPhone17,3"]),
                release("26.1", "23B85", "2026-09-08", &["iPhone17,3"]),
                release("18.7.2", "22H124", "2026-10-01", &["iPhone11,2", "iPhone17,3"]),
            ],
        },
        "PublicRapidSecurityResponses": {"iOS": "anything"},
    })
}

fn catalogue(tx: &Tx<'_>, document: &Json) -> Result<bool> {
    kept::keep(tx, parse(document.to_string().as_bytes())?, "test", None, true)
}

fn put(tx: &Tx<'_>, group: &str, said: &Json) -> Result<policy::Put> {
    policy::put(tx, &policy::check(group, said.as_object().unwrap())?, EDIT)
}

fn refused<T: std::fmt::Debug>(answer: Result<T>) -> (String, String) {
    match answer {
        Err(Error::Invalid { words, pointer, .. }) => (pointer.unwrap_or_default(), words),
        other => panic!("{other:?}"),
    }
}

fn payloads(manifest: &Manifest, ending: &str) -> Vec<Json> {
    let items = manifest.items.iter().filter(|item| item.declaration_type.ends_with(ending));
    items.map(|item| item.own.as_ref().unwrap()["Payload"].clone()).collect()
}

fn enforced(manifest: &Manifest) -> Option<Json> {
    let mut all = payloads(manifest, "enforcement.specific");
    assert!(all.len() < 2);
    all.pop()
}

fn words(manifest: &Manifest) -> Vec<&str> {
    manifest.left_out.iter().map(|out| out.words.as_str()).collect()
}

async fn with(work: impl FnOnce(&Tx<'_>) -> Result<()> + Send + 'static) {
    let (_folder, store) = temporary();
    store.write("test", work).await.unwrap();
}

const LATEST: &str = r#"{"enforce": {"latest": true, "days": 7, "at": "18:00"}}"#;

fn latest() -> Json {
    serde_json::from_str(LATEST).unwrap()
}

#[tokio::test]
async fn a_version_is_enforced_with_its_deadline_in_an_activation() {
    with(|tx| {
        let said = json!({
            "enforce": {"version": "26.2", "build": "23C55", "at": "2026-12-01T18:00"},
            "details_url": "https://example.org/why",
        });
        assert!(put(tx, "default", &said)?.changed && !put(tx, "default", &said)?.changed);
        let manifest = manifest::of(tx, &device("iPhone17,3", "26.1"))?;
        assert_eq!(
            enforced(&manifest).unwrap(),
            json!({
                "TargetOSVersion": "26.2",
                "TargetBuildVersion": "23C55",
                "TargetLocalDateTime": "2026-12-01T18:00:00",
                "DetailsURL": "https://example.org/why",
            })
        );
        let name = manifest.items.iter().find(|item| item.declaration_type.ends_with("specific")).unwrap();
        let activations = payloads(&manifest, "activation.simple");
        assert!(activations.contains(&json!({"StandardConfigurations": [name.identifier]})));
        assert!(name.identifier.starts_with("russet.update.") && name.identifier.len() <= 64);
        assert!(Plan::read(tx)?.wants_something_of(&manifest));
        assert!(words(&manifest).is_empty());
        // A user of a Mac has no part in it, and a watch cannot.
        let user = Subject { channel: Scope::User, ..device("Mac16,12", "26.1") };
        assert!(enforced(&manifest::of(tx, &user)?).is_none());
        let watch = manifest::of(tx, &device("Watch7,8", "26.1"))?;
        assert!(enforced(&watch).is_none());
        assert!(words(&watch)[0].contains("cannot be used on watchOS"), "{:?}", words(&watch));
        let old = device("iPhone17,3", "16.7");
        let left_out = manifest::of(tx, &old)?;
        assert!(words(&left_out)[0].contains("needs iOS 17.0 or later"), "{:?}", words(&left_out));
        let standing = Plan::read(tx)?.update_standing(tx, &kept::catalogue(tx)?, &old)?;
        assert_eq!(standing.state, State::NoTarget);
        assert!(
            standing.shown["no_target"].as_str().unwrap().contains("needs iOS 17.0"),
            "{}",
            standing.shown
        );
        policy::delete(tx, "default", EDIT)?;
        assert!(enforced(&manifest::of(tx, &device("iPhone17,3", "26.1"))?).is_none());
        assert!(matches!(policy::delete(tx, "default", EDIT), Err(Error::NotFound(_))));
        assert!(matches!(put(tx, "none", &said), Err(Error::NotFound(_))));
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn the_latest_is_that_of_the_model() {
    with(|tx| {
        assert_eq!(put(tx, "default", &latest())?.warnings.len(), 1, "no catalogue is known");
        let none = manifest::of(tx, &device("iPhone17,3", "26.1"))?;
        assert!(enforced(&none).is_none());
        assert!(words(&none)[0].contains("nothing is known of Apple's releases yet"), "{:?}", words(&none));
        assert!(catalogue(tx, &document())? && !catalogue(tx, &document())?);
        let of = |product: &str, version: &str, enrollment| {
            let subject = Subject { enrollment, ..device(product, version) };
            manifest::of(tx, &subject)
        };
        for (product, version, enrollment, target, at) in [
            ("iPhone17,3", "26.1", Enrollment::Supervised, "27.0", "2026-11-12T18:00:00"),
            ("iPhone17,3", "26.1", Enrollment::Device, "26.2", "2026-11-10T18:00:00"),
            ("iPhone11,2", "18.1", Enrollment::Supervised, "18.7.3", "2026-11-10T18:00:00"),
            ("AppleTV14,1", "26.1", Enrollment::Supervised, "26.10", "2026-10-08T18:00:00"),
            // It has more than Apple offers, and is told the same.
            ("iPhone17,3", "28.0", Enrollment::Supervised, "27.0", "2026-11-12T18:00:00"),
        ] {
            let payload = enforced(&of(product, version, enrollment)?).unwrap();
            let said = (&payload["TargetOSVersion"], &payload["TargetLocalDateTime"]);
            assert_eq!(said, (&json!(target), &json!(at)), "{product} {version}");
        }
        for (product, version, why) in [
            ("iPhone99,1", "26.1", "Apple's catalogue has no release for iPhone99,1"),
            ("Mac16,12", "26.1", "the Mac has not yet said"),
            ("Mac16,12", "14.6", "macOS 15"),
        ] {
            let manifest = of(product, version, Enrollment::Supervised)?;
            assert!(enforced(&manifest).is_none());
            assert!(words(&manifest)[0].contains(why), "{:?}", words(&manifest));
        }
        // A Mac is known by what it reports.
        let said = br#"{"StatusItems": {"softwareupdate": {"device-id": "J715AP"}}}"#;
        status::take(tx, "A", said)?;
        let mac = of("Mac16,12", "26.1", Enrollment::Device)?;
        assert_eq!(enforced(&mac).unwrap()["TargetBuildVersion"], "25C56");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn who_stays_within_a_major_version_gets_the_newest_of_it() {
    with(|tx| {
        catalogue(tx, &document())?;
        let said = json!({"enforce": {"latest": true, "days": 0, "at": "06:00", "major": false}});
        put(tx, "default", &said)?;
        for (version, target) in [("26.1", "26.2"), ("27.0", "27.0"), ("18.7", "18.7.2")] {
            let payload = enforced(&manifest::of(tx, &device("iPhone17,3", version))?).unwrap();
            assert_eq!(payload["TargetOSVersion"], target, "{version}");
        }
        let manifest = manifest::of(tx, &device("iPhone17,3", "17.2"))?;
        assert!(words(&manifest)[0].contains("no release 17 for iPhone17,3"), "{:?}", words(&manifest));
        let unknown = Subject { version: None, ..device("iPhone17,3", "17.2") };
        let manifest = manifest::of(tx, &unknown)?;
        assert!(words(&manifest)[0].contains("has not said which version"), "{:?}", words(&manifest));
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_version_that_apple_offers_to_others_only_is_left_out() {
    with(|tx| {
        catalogue(tx, &document())?;
        put(tx, "default", &json!({"enforce": {"version": "26.2", "at": "2026-12-01T18:00"}}))?;
        let manifest = manifest::of(tx, &device("iPhone11,2", "18.7"))?;
        assert!(enforced(&manifest).is_none());
        assert!(
            words(&manifest)[0].contains("does not offer 26.2 for iPhone11,2; the newest for it is 18.7.3")
        );
        // One that nobody has yet may come: the device waits for it. So does a model that is not known.
        assert!(enforced(&manifest::of(tx, &device("iPhone99,1", "26.1"))?).is_some());
        put(tx, "default", &json!({"enforce": {"version": "28.0", "at": "2026-12-01T18:00"}}))?;
        assert!(enforced(&manifest::of(tx, &device("iPhone11,2", "18.7"))?).is_some());
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn the_group_of_the_lowest_order_wins_and_settings_of_all_arrive() {
    with(|tx| {
        for (name, order) in [("first", 1), ("second", 2), ("third", 3)] {
            let group = Group { name: name.into(), order, members: vec!["A".into()], ..Group::default() };
            group::put(tx, &group, &|_| Ok(true), EDIT)?;
        }
        put(tx, "first", &json!({"notifications": false, "enforce_on": {"macOS": null}}))?;
        put(
            tx,
            "second",
            &json!({
                "enforce": {"version": "26.1", "at": "2026-12-01T18:00"},
                "enforce_on": {"macOS": {"version": "15.7.2", "at": "2026-12-01T18:00"}},
                "deferrals": {"combined_period_in_days": 30},
            }),
        )?;
        put(tx, "third", &json!({"enforce": {"version": "26.2", "at": "2026-12-02T18:00"}}))?;
        let phone = manifest::of(tx, &device("iPhone17,3", "26.1"))?;
        assert_eq!(enforced(&phone).unwrap()["TargetOSVersion"], "26.1");
        let settings = payloads(&phone, "softwareupdate.settings");
        assert!(settings.contains(&json!({"Notifications": false})));
        assert!(settings.contains(&json!({"Deferrals": {"CombinedPeriodInDays": 30}})));
        assert_eq!(words(&phone).len(), 1);
        assert!(
            words(&phone)[0].contains("group third enforces is left out")
                && words(&phone)[0].contains("group second")
        );
        let mac = manifest::of(tx, &device("Mac16,12", "26.1"))?;
        assert_eq!(enforced(&mac).unwrap()["TargetOSVersion"], "15.7.2");
        assert_eq!(payloads(&mac, "softwareupdate.settings"), [json!({"Notifications": false})]);
        assert!(
            words(&mac).iter().any(|words| words.contains("nothing that this device knows")),
            "{:?}",
            words(&mac)
        );
        // A group that goes takes its policy with it.
        group::delete(tx, "second", EDIT)?;
        assert!(policy::get(tx, "second")?.is_none());
        let phone = manifest::of(tx, &device("iPhone17,3", "26.1"))?;
        assert_eq!(enforced(&phone).unwrap()["TargetOSVersion"], "26.2");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_group_with_a_condition_enforces_under_it() {
    with(|tx| {
        let predicate = "@status(device.power.battery-health) == 'normal'";
        let group = Group { predicate: Some(predicate.into()), ..Group::default() };
        group::put(tx, &Group { name: "default".into(), ..group }, &|_| Ok(true), EDIT)?;
        put(tx, "default", &json!({"notifications": false}))?;
        let manifest = manifest::of(tx, &device("iPhone17,3", "26.1"))?;
        let activations = payloads(&manifest, "activation.simple");
        assert!(activations.iter().any(|activation| activation["Predicate"] == predicate));
        Ok(())
    })
    .await;
}

#[test]
fn policies_are_checked_with_the_place_of_what_is_wrong() {
    for (said, place, words) in [
        (json!({}), "", "empty policy"),
        (json!({"enforce": null}), "", "empty policy"),
        (json!({"enforse": {}}), "/enforse", "enforce"),
        (json!({"a/b~": 1}), "/a~1b~0", "not known"),
        (json!({"enforce": {"version": "26.1", "at": "2026-02-29T18:00"}}), "/enforce/at", "no day"),
        (json!({"enforce_on": {"iPadOS": null}}), "/enforce_on/iPadOS", "write iOS"),
        (json!({"enforce_on": {"watchOS": null}}), "/enforce_on/watchOS", "nobody"),
        (json!({"enforce_on": {"macOS": {"latest": true}}}), "/enforce_on/macOS/at", "missing"),
        (json!({"enforce_on": []}), "/enforce_on", "object"),
        (json!({"details_url": "http://example.org"}), "/details_url", "https://"),
        (json!({"details_url": "https://example.org/", "notifications": true}), "/details_url", "none"),
        (json!({"deferrals": {"major_period_in_days": 1000}}), "/deferrals/major_period_in_days", "1 to 90"),
        (json!({"notifications": "x".repeat(70_000)}), "", "at most"),
    ] {
        let (pointer, said_words) = refused(policy::check("g", said.as_object().unwrap()));
        assert_eq!(pointer, place, "{said}");
        assert!(said_words.contains(words), "{said}: {said_words}");
    }
}

#[tokio::test]
async fn a_deadline_that_has_passed_is_said() {
    with(|tx| {
        let warnings =
            put(tx, "default", &json!({"enforce": {"version": "26.1", "at": "2020-01-01T00:00"}}))?.warnings;
        assert!(warnings[0].contains("has passed"), "{warnings:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_release_that_is_posted_again_keeps_its_first_day_and_edits_wake_only_with_policies() {
    with(|tx| {
        let before = generation::now(tx)?;
        catalogue(tx, &document())?;
        assert_eq!(generation::now(tx)?, before, "nobody has a policy");
        put(tx, "default", &latest())?;
        let before = generation::now(tx)?;
        let mut again = document();
        again["PublicAssetSets"]["iOS"][0]["PostingDate"] = "2026-11-20".into();
        again["AssetSets"] = json!({});
        assert!(catalogue(tx, &again)?);
        assert_ne!(generation::now(tx)?, before);
        let payload = enforced(&manifest::of(tx, &device("iPhone17,3", "26.1"))?).unwrap();
        assert_eq!(payload["TargetLocalDateTime"], "2026-11-10T18:00:00");
        kept::failed(tx, "x: it cannot be read")?;
        assert_eq!(kept::read(tx)?.error.as_deref(), Some("x: it cannot be read"));
        assert_eq!(enforced(&manifest::of(tx, &device("iPhone17,3", "26.1"))?).unwrap(), payload);
        Ok(())
    })
    .await;
}

proptest! {
    #[test]
    fn no_policy_brings_the_check_down(at in ".{0,24}", version in ".{0,12}", zone in "[Z+-]?[0-9:]{0,6}") {
        for at in [at.clone(), format!("2026-12-01T18:00{zone}"), zone] {
            for said in [
                json!({"enforce": {"version": version, "build": version, "at": at}}),
                json!({"enforce": {"latest": true, "at": at}}),
            ] {
                if let Ok(policy) = policy::check("g", said.as_object().unwrap()) {
                    prop_assert_eq!(&policy.said, said.as_object().unwrap());
                }
            }
        }
    }
}
