mod conversation;
mod server;

use serde_json::{Value as Json, json};

use super::report::When;
use super::sync::{read_declaration, sync_token};
use super::*;
use crate::clock::Clock;
use crate::simulator::{Kind, Trust};

const ON_DEVICE: Channel = Channel::Device;

fn new_device(kind: Kind) -> Device {
    Device::new(kind, 0, &Trust::nobody(), Clock::set_to(1_800_000_000))
}

/// Gives the device declarations as a synchronisation would: identifier, type without `com.apple.`,
/// payload.
fn declare<const N: usize>(device: &mut Device, declarations: [(&str, &str, Json); N]) {
    for (identifier, name, payload) in declarations {
        let kind = ["activation", "configuration", "asset", "management"];
        let kind = kind.into_iter().find(|kind| name.starts_with(kind)).unwrap();
        let token = device.declarations.declarations.get(identifier);
        let number = token.map_or(1, |had| had.server_token.parse::<u64>().unwrap() + 1);
        let declaration = Declaration {
            kind,
            declaration_type: format!("com.apple.{name}"),
            server_token: number.to_string(),
            payload,
        };
        device.declarations.declarations.insert(identifier.to_owned(), declaration);
    }
}

fn activates(names: &[&str]) -> Json {
    json!({ "StandardConfigurations": names })
}

fn code(device: &Device, identifier: &str) -> &'static str {
    let state = &device.declarations(ON_DEVICE)[identifier];
    state.reasons.first().map_or("", |reason| reason.code)
}

/// The report that is due, taken by the server.
fn told(device: &mut Device) -> Option<Json> {
    let (report, reported) = device.compose(ON_DEVICE, When::Changed);
    device.declarations.reported = Some(reported);
    report
}

#[tokio::test]
async fn status_says_what_is_active_and_why_not() {
    let mut phone = new_device(Kind::IPhone);
    declare(
        &mut phone,
        [
            ("a", "activation.simple", activates(&["b"])),
            ("b", "configuration.management.test", json!({ "Echo": "x" })),
            ("c", "configuration.management.test", json!({ "Echo": "y" })),
            ("m", "management.properties", json!({ "anything": 1 })),
        ],
    );
    phone.apply(ON_DEVICE).await;
    assert_eq!(phone.active_declarations(ON_DEVICE), BTreeSet::from(["a", "b"]));
    let listed = phone.declarations.listed();
    assert_eq!(listed["configurations"][0]["valid"], "valid");
    assert_eq!(listed["configurations"][1]["reasons"][0]["code"], "Info.NotReferencedByActivation");
    assert_eq!(
        (&listed["management"][0]["active"], &listed["management"][0]["valid"]),
        (&json!(false), &json!("valid"))
    );
}

#[tokio::test]
async fn what_the_platform_does_not_know_is_refused_with_apples_codes() {
    let mut phone = new_device(Kind::IPhone);
    let all = ["newer", "mac", "supervised", "keys", "typed", "assets", "failing", "partly", "fine"];
    declare(
        &mut phone,
        [
            ("act", "activation.simple", activates(&all)),
            ("lacking", "activation.simple", activates(&["fine", "gone"])),
            ("newer", "configuration.brand.new", json!({})),
            ("mac", "configuration.package", json!({ "ManifestURL": "https://example.org" })),
            ("supervised", "configuration.math.settings", json!({})),
            ("keys", "configuration.management.test", json!({ "Echo": "x", "Volume": 11 })),
            ("typed", "configuration.management.test", json!({ "Echo": 1 })),
            (
                "assets",
                "configuration.management.test",
                json!({ "Echo": "x", "EchoDataAssetReference": "nowhere" }),
            ),
            ("failing", "configuration.management.test", json!({ "Echo": "x", "ReturnStatus": "Failed" })),
            ("partly", "configuration.siri.settings", json!({})),
            ("fine", "configuration.management.test", json!({ "Echo": "x" })),
        ],
    );
    phone.apply(ON_DEVICE).await;
    let expected = [
        ("act", ""),
        ("lacking", "Error.MissingConfigurations"),
        ("newer", "Error.UnknownDeclarationType"),
        ("mac", "Error.UnknownDeclarationType"),
        ("supervised", "Error.ConfigurationNotSupported"),
        ("keys", "Error.UnknownPayloadKeys"),
        ("typed", "Error.InvalidPayload"),
        ("assets", "Error.MissingAssets"),
        ("failing", "Error.ConfigurationCannotBeApplied"),
        ("partly", "Error.UnknownDeclarationType"),
        ("fine", ""),
    ];
    for (identifier, wanted) in expected {
        assert_eq!(code(&phone, identifier), wanted, "{identifier}");
    }
    let missing = &phone.declarations(ON_DEVICE)["lacking"].reasons[0].details;
    assert_eq!(missing["ConfigurationIdentifiers"], json!(["gone"]));
    assert_eq!(phone.active_declarations(ON_DEVICE), BTreeSet::from(["act", "failing", "fine"]));
    // An update makes the device know more, without a new synchronisation.
    phone.os_version = "26.4".to_owned();
    phone.supervised = true;
    phone.apply(ON_DEVICE).await;
    assert_eq!((code(&phone, "partly"), code(&phone, "supervised")), ("", ""));
}

#[tokio::test]
async fn predicates_decide_and_are_evaluated_anew() {
    let mut mac = new_device(Kind::Mac);
    let when = |text: &str| json!({ "StandardConfigurations": ["c"], "Predicate": text });
    declare(
        &mut mac,
        [
            (
                "yes",
                "activation.simple",
                when("@property(shard) <= 75 AND @status(device.model.family) == 'Mac'"),
            ),
            ("vault", "activation.simple", when("@status(diskmanagement.filevault.enabled) == FALSE")),
            ("bad", "activation.simple", when("device.model.family == 'Mac'")),
            ("phones", "activation.simple", when("@status(passcode.is-present) == TRUE")),
            ("c", "configuration.management.test", json!({ "Echo": "x" })),
            ("p", "management.properties", json!({ "shard": 12 })),
        ],
    );
    mac.apply(ON_DEVICE).await;
    assert_eq!((code(&mac, "yes"), code(&mac, "vault")), ("", "Info.Predicate"));
    assert_eq!(code(&mac, "bad"), "Error.UnableToParsePredicate");
    assert_eq!(code(&mac, "phones"), "Error.UnableToEvaluatePredicate");
    mac.filevault = false;
    declare(&mut mac, [("p", "management.properties", json!({ "shard": 99 }))]);
    mac.apply(ON_DEVICE).await;
    assert_eq!(mac.active_declarations(ON_DEVICE), BTreeSet::from(["vault", "c"]));
}

#[tokio::test]
async fn reports_are_full_once_and_then_tell_what_changed() {
    let mut phone = new_device(Kind::IPhone);
    let subscribe = |names: &[&str]| json!({ "StatusItems": names.iter().map(|name| json!({ "Name": name })).collect::<Vec<_>>() });
    declare(
        &mut phone,
        [
            ("a", "activation.simple", activates(&["s", "passcode"])),
            ("s", "configuration.management.status-subscriptions", subscribe(&["passcode.is-compliant"])),
            ("passcode", "configuration.passcode.settings", json!({ "RequirePasscode": true })),
        ],
    );
    phone.apply(ON_DEVICE).await;
    let first = told(&mut phone).unwrap();
    assert_eq!(first["FullReport"], true);
    assert!(first["StatusItems"]["management"]["client-capabilities"].is_object());
    assert_eq!(first["StatusItems"]["passcode"], json!({ "is-compliant": true }));
    assert_eq!(first["StatusItems"]["device"], Json::Null);
    assert_eq!(told(&mut phone), None);

    phone.passcode = false;
    phone.apply(ON_DEVICE).await;
    let second = told(&mut phone).unwrap();
    assert_eq!(second, json!({ "StatusItems": { "passcode": { "is-compliant": false } }, "Errors": [] }));

    let names =
        ["passcode.is-compliant", "device.operating-system.version", "diskmanagement.filevault.enabled"];
    declare(&mut phone, [("s", "configuration.management.status-subscriptions", subscribe(&names))]);
    phone.apply(ON_DEVICE).await;
    let third = told(&mut phone).unwrap();
    assert_eq!(third["StatusItems"]["device"], json!({ "operating-system": { "version": "26.1" } }));
    assert_eq!(third["StatusItems"]["passcode"], Json::Null);
    assert_eq!(third["Errors"][0]["StatusItem"], "diskmanagement.filevault.enabled");
    assert!(third["StatusItems"]["management"]["declarations"].is_object(), "a ServerToken changed");
    assert_eq!(told(&mut phone), None);

    phone.clock.advance(24 * 60 * 60);
    let daily = told(&mut phone).unwrap();
    assert_eq!(
        (&daily["FullReport"], &daily["StatusItems"]["passcode"]),
        (&json!(true), &json!({ "is-compliant": false }))
    );
}

#[tokio::test]
async fn an_enforced_update_is_followed_to_its_version() {
    let mut tablet = new_device(Kind::IPad);
    let enforce = json!({ "TargetOSVersion": "26.2.1", "TargetLocalDateTime": "2027-01-15T12:00:00" });
    declare(
        &mut tablet,
        [
            ("a", "activation.simple", activates(&["u"])),
            ("u", "configuration.softwareupdate.enforcement.specific", enforce),
        ],
    );
    tablet.apply(ON_DEVICE).await;
    let state = |tablet: &Device| tablet.status_item("softwareupdate.install-state", ON_DEVICE).unwrap();
    assert_eq!(state(&tablet), "downloading");
    let pending = tablet.status_item("softwareupdate.pending-version", ON_DEVICE).unwrap();
    assert_eq!((&pending["os-version"], &pending["build-version"]), (&json!("26.2.1"), &json!("23C51")));
    assert!(tablet.continue_update());
    assert_eq!(state(&tablet), "prepared");
    // 1,800,000,000 is four hours before the time that was set.
    assert!(!tablet.continue_update());
    tablet.clock.advance(5 * 60 * 60);
    assert!(tablet.continue_update());
    assert_eq!(state(&tablet), "installing");
    tablet.fail_update("Not enough space.");
    tablet.apply(ON_DEVICE).await;
    let failure = tablet.status_item("softwareupdate.failure-reason", ON_DEVICE).unwrap();
    assert_eq!((state(&tablet), &failure["count"]), (json!("failed"), &json!(1)));
    for _ in 0..4 {
        tablet.advance_update();
        tablet.apply(ON_DEVICE).await;
    }
    assert_eq!((tablet.os_version.as_str(), tablet.build_version.as_str()), ("26.2.1", "23C51"));
    assert_eq!((state(&tablet), &tablet.update), (json!("none"), &None));
}

#[tokio::test]
async fn a_fault_fails_an_update_each_time() {
    let mut phone = new_device(Kind::IPhone);
    phone.update_fault = Some("Not enough space.".to_owned());
    let enforce = json!({ "TargetOSVersion": "26.2", "TargetLocalDateTime": "2026-01-01T00:00:00" });
    declare(
        &mut phone,
        [
            ("a", "activation.simple", activates(&["u"])),
            ("u", "configuration.softwareupdate.enforcement.specific", enforce),
        ],
    );
    phone.apply(ON_DEVICE).await;
    let mut states = Vec::new();
    for _ in 0..7 {
        assert!(phone.continue_update());
        phone.apply(ON_DEVICE).await;
        states.push(phone.update.as_ref().unwrap().state);
    }
    let once = ["prepared", "installing", "failed", "downloading"];
    assert_eq!(states, [&once[..], &once[..3]].concat());
    let failure = phone.status_item("softwareupdate.failure-reason", ON_DEVICE).unwrap();
    assert_eq!((&failure["count"], &failure["reason"]), (&json!(2), &json!("Not enough space.")));
    assert_eq!(phone.os_version, "26.1");
}

#[tokio::test]
async fn nothing_is_left_when_management_ends() {
    let mut mac = new_device(Kind::Mac);
    declare(&mut mac, [("a", "activation.simple", activates(&[]))]);
    mac.apply(ON_DEVICE).await;
    assert!(told(&mut mac).is_some());
    mac.forget_management();
    assert!(mac.declarations(ON_DEVICE).is_empty() && mac.declarations.reported.is_none());
}

#[test]
fn answers_that_apple_does_not_document_are_refused() {
    let fractions = br#"{"SyncTokens":{"DeclarationsToken":"x","Timestamp":"2026-01-31T12:00:00.5Z"}}"#;
    assert!(sync_token(fractions).is_err());
    let fine = br#"{"SyncTokens":{"DeclarationsToken":"x","Timestamp":"2026-01-31T12:00:00Z"}}"#;
    assert_eq!(sync_token(fine).unwrap(), "x");
    let wrong_kind = br#"{"Type":"com.apple.asset.data","Identifier":"a","ServerToken":"1","Payload":{}}"#;
    let fault = read_declaration(wrong_kind, "configuration", "a", "1").unwrap_err();
    assert!(fault.to_string().contains("com.apple.asset.data"));
}
