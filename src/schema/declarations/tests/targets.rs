//! Which devices can have what.

use serde_json::{Value as Json, json};

use super::payload;
use crate::schema::declarations::{Target, example, left_out, table, types};
use crate::schema::platform::Platform;
use crate::schema::table::{Enrollment, Scope};

fn target(platform: Platform, version: &str) -> Target {
    Target {
        platform,
        version: Some(version.to_owned()),
        enrollment: Enrollment::Supervised,
        channel: Scope::System,
        shared_ipad: false,
        supported: None,
    }
}

fn reason(name: &str, body: Json, target: &Target) -> String {
    let name = format!("com.apple.{name}");
    left_out(&name, &payload(body), target).unwrap_or_default()
}

#[test]
fn the_platform_and_its_version_decide() {
    let app = |target: &Target| reason("configuration.app.managed", json!({"BundleID": "x"}), target);
    assert_eq!(app(&target(Platform::Ios, "17.2")), "");
    assert_eq!(app(&target(Platform::Ios, "17.10")), "");
    assert_eq!(app(&target(Platform::Ios, "16.4")), "needs iOS 17.2 or later; this device has 16.4");
    assert_eq!(app(&target(Platform::TvOs, "26.0")), "cannot be used on tvOS");
    let unknown = Target { version: None, ..target(Platform::Ios, "") };
    assert_eq!(app(&unknown), "");
    let properties = |target: &Target| reason("management.properties", json!({}), target);
    assert_eq!(properties(&target(Platform::WatchOs, "10.0")), "");
    assert_eq!(properties(&target(Platform::Ios, "15.8")), "needs iOS 16.0 or later; this device has 15.8");
}

#[test]
fn the_enrollment_decides() {
    let with = |enrollment| Target { enrollment, ..target(Platform::Ios, "27.0") };
    let allowed = |name: &str, target: &Target| reason(name, json!({}), target);
    let supervised = "configuration.accessibility.settings";
    assert_eq!(allowed(supervised, &with(Enrollment::Supervised)), "");
    for enrollment in [Enrollment::Device, Enrollment::User] {
        assert_eq!(allowed(supervised, &with(enrollment)), "is for supervised devices only");
    }
    let update = "configuration.softwareupdate.enforcement.specific";
    assert_eq!(allowed(update, &with(Enrollment::Device)), "");
    assert_eq!(allowed(update, &with(Enrollment::User)), "cannot be used with User Enrollment");
    assert_eq!(allowed("configuration.passcode.settings", &with(Enrollment::User)), "");
    assert_eq!(allowed("asset.data", &with(Enrollment::User)), "");
}

#[test]
fn a_mac_that_is_not_yet_known_to_be_supervised_counts_as_one() {
    for (name, declaration) in &table().items {
        for os in ["macOS", "watchOS"] {
            let listed = declaration.os.get(os).and_then(|support| support.enrollments.as_deref());
            assert!(!listed.unwrap_or_default().contains(&Enrollment::Device), "{name} on {os}");
        }
    }
    let mac = Target { enrollment: Enrollment::Device, ..target(Platform::MacOs, "15.0") };
    assert_eq!(reason("configuration.passcode.settings", json!({}), &mac), "");
    let user = Target { enrollment: Enrollment::User, ..mac };
    assert_eq!(reason("configuration.passcode.settings", json!({}), &user), "is for supervised devices only");
}

#[test]
fn the_channel_decides() {
    let mac = target(Platform::MacOs, "15.0");
    let user = Target { channel: Scope::User, ..mac.clone() };
    let (caldav, passcode, files) = (
        "configuration.account.caldav",
        "configuration.passcode.settings",
        "configuration.services.configuration-files",
    );
    assert_eq!(reason(caldav, json!({}), &mac), "is for users, not for the device as a whole");
    assert_eq!(reason(caldav, json!({}), &user), "");
    assert_eq!(reason(passcode, json!({}), &mac) + &reason(passcode, json!({}), &user), "");
    assert_eq!(reason(files, json!({}), &user), "is for the device as a whole, not for a user");
    assert_eq!(reason("activation.simple", json!({}), &user), "");

    let ipad = target(Platform::Ios, "18.0");
    assert_eq!(reason(caldav, json!({}), &ipad), "");
    let shared = Target { shared_ipad: true, ..ipad };
    assert_eq!(reason(caldav, json!({}), &shared), "is for users, not for the device as a whole");
    assert_eq!(reason(caldav, json!({}), &Target { channel: Scope::User, ..shared.clone() }), "");
    assert_eq!(reason(passcode, json!({}), &shared), "cannot be used on Shared iPad");
}

#[test]
fn the_device_has_the_last_word() {
    let name = "com.apple.configuration.passcode.settings".to_owned();
    let only = Target { supported: Some([name].into()), ..target(Platform::Ios, "18.0") };
    assert_eq!(reason("configuration.passcode.settings", json!({}), &only), "");
    let denied = "is left out because the device says it does not support it";
    assert_eq!(reason("configuration.legacy", json!({"ProfileURL": "x"}), &only), denied);
    assert_eq!(reason("configuration.from-next-year", json!({}), &only), denied);
    let unknown = target(Platform::TvOs, "1.0");
    assert_eq!(reason("configuration.from-next-year", json!({"x": 1}), &unknown), "");
}

#[test]
fn optional_keys_of_newer_systems_are_no_reason_unless_nothing_else_is_there() {
    let old = target(Platform::Ios, "16.0");
    assert_eq!(reason("configuration.passcode.settings", json!({"MaximumPasscodeAgeInDays": 90}), &old), "");
    let math = json!({"Calculator": {"InputModes": {"UnitConversion": true, "RPN": true}}});
    assert_eq!(reason("configuration.math.settings", math, &target(Platform::Ios, "18.0")), "");
    let profile = |body| reason("configuration.legacy", body, &old);
    assert_eq!(profile(json!({"ProfileURL": "x", "ProfileAssetReference": "y"})), "");
    assert_eq!(
        profile(json!({"ProfileAssetReference": "y"})),
        "needs iOS 27.0 or later for ProfileAssetReference; this device has 16.0"
    );
    assert_eq!(profile(json!({})), "");
    let mac = target(Platform::MacOs, "26.0");
    let app = |body| reason("configuration.app.managed", body, &mac);
    assert_eq!(app(json!({"ManifestURL": "x"})), "cannot be used on macOS with ManifestURL");
    assert_eq!(app(json!({"AppStoreID": "1"})), "");
}

#[test]
fn every_type_is_for_some_device_and_says_why_it_is_not_for_another() {
    for name in types() {
        let body = payload(example(name).unwrap()["Payload"].take());
        let mut taken = 0;
        for platform in Platform::ALL {
            for version in ["1.0", "27.0"] {
                for channel in [Scope::System, Scope::User] {
                    let reason = left_out(name, &body, &Target { channel, ..target(platform, version) });
                    taken += usize::from(reason.is_none());
                    assert!(
                        reason.is_none_or(|reason| !reason.is_empty() && !reason.ends_with('.')),
                        "{name}"
                    );
                }
            }
        }
        assert!(taken > 0, "{name}");
    }
}
