//! Facts of devices that reported this and that, on a store of its own.

use serde_json::{Map, Value as Json, json};

use super::*;
use crate::ddm::declaration;
use crate::ddm::group;
use crate::ddm::{Edit, status};
use crate::schema::declarations::check;
use crate::schema::platform::Platform;
use crate::schema::table::{Enrollment, Scope};
use crate::storage::Tx;
use crate::storage::tests::temporary;

const EDIT: Edit<'_> = Edit { actor: "test", notify: true };

fn device(id: &str, platform: Platform, version: &str) -> Subject {
    let mut keys = Map::new();
    keys.insert("supervised".into(), true.into());
    Subject {
        id: id.into(),
        device_id: id.into(),
        keys,
        tags: Vec::new(),
        platform: Some(platform),
        version: Some(version.into()),
        enrollment: Enrollment::Supervised,
        channel: Scope::System,
        shared_ipad: false,
        held: false,
    }
}

fn declare(tx: &Tx<'_>, declaration_type: &str, identifier: &str, payload: &Json) {
    let body = json!({"Type": declaration_type, "Identifier": identifier, "Payload": payload});
    declaration::put(tx, &check(&body, false).unwrap(), false, EDIT).unwrap();
    group::add_declaration(tx, "default", identifier, EDIT).unwrap();
}

fn look(tx: &Tx<'_>, subject: &Subject, wants: &Wants) -> Compliance {
    of(tx, &Plan::read(tx).unwrap(), subject, Some(tx.now()), tx.now(), wants).unwrap()
}

fn standing(found: &Compliance, name: &str) -> Standing {
    found.facts.iter().find(|fact| fact.name == name).unwrap().standing()
}

fn report(tx: &Tx<'_>, id: &str, items: &Json) {
    status::take(tx, id, json!({ "StatusItems": items }).to_string().as_bytes()).unwrap();
}

/// Says that everything a device should have is valid and active, but for what is named.
fn settle(tx: &Tx<'_>, subject: &Subject, invalid: &[&str]) {
    let mut lists = json!({"activations": [], "configurations": [], "assets": [], "management": []});
    for item in Plan::read(tx).unwrap().manifest(tx, subject).unwrap().items {
        let is_invalid = invalid.contains(&item.identifier.as_str());
        let reasons = json!([{"code": "Error.ConfigurationCannotBeApplied", "description": "No room."}]);
        let list = match item.kind.name() {
            "management" => "management".to_owned(),
            kind => format!("{kind}s"),
        };
        lists[list].as_array_mut().unwrap().push(json!({
            "identifier": item.identifier,
            "server-token": item.server_token,
            "active": true,
            "valid": if is_invalid { "invalid" } else { "valid" },
            "reasons": if is_invalid { reasons } else { json!([]) },
        }));
    }
    report(tx, &subject.id, &json!({"management": {"declarations": lists}}));
}

#[tokio::test]
async fn what_a_system_cannot_tell_is_not_held_against_it() {
    let (_folder, store) = temporary();
    let done = store.write("test", |tx| {
        let any = Wants::default();
        let phone = device("P", Platform::Ios, "26.1");
        let found = look(tx, &phone, &any);
        assert_eq!(found.facts.iter().map(|fact| fact.name).collect::<Vec<_>>(), NAMES);
        assert_eq!(standing(&found, "filevault"), Standing::NotApplicable);
        assert_eq!(standing(&found, "services"), Standing::NotApplicable);
        assert_eq!(standing(&found, "lockdown_mode"), Standing::NotApplicable, "26.1 is too old to tell");
        assert_eq!(standing(&found, "passcode_present"), Standing::Noted);
        assert_eq!(standing(&found, "declarations"), Standing::NotApplicable, "nobody declares anything");
        declare(tx, "com.apple.configuration.management.test", "test", &json!({"Echo": "x"}));
        let found = look(tx, &phone, &any);
        assert_eq!(standing(&found, "declarations"), Standing::Unknown);
        assert_eq!(found.compliant(), None, "it has not spoken yet");
        settle(tx, &phone, &[]);
        report(tx, "P", &json!({"passcode": {"is-present": false, "is-compliant": true}}));
        assert_eq!(look(tx, &phone, &any).compliant(), Some(true));
        // A value that came counts, expected or not.
        report(tx, "P", &json!({"diskmanagement": {"filevault": {"enabled": false}}}));
        assert_eq!(standing(&look(tx, &phone, &any), "filevault"), Standing::Failing);

        let mac = device("M", Platform::MacOs, "26.1");
        let found = look(tx, &mac, &any);
        assert_eq!(standing(&found, "passcode_compliant"), Standing::NotApplicable);
        assert_eq!(standing(&found, "filevault"), Standing::Unknown);
        assert_eq!(standing(&found, "services"), Standing::Noted);
        settle(tx, &mac, &[]);
        report(tx, "M", &json!({"diskmanagement": {"filevault": {"enabled": false}}}));
        assert_eq!(look(tx, &mac, &any).compliant(), Some(false));
        let lenient = Wants::read("", "filevault").unwrap();
        assert_eq!(look(tx, &mac, &lenient).compliant(), Some(true));
        let strict = Wants::read("supervised, os_current", "filevault").unwrap();
        assert_eq!(look(tx, &mac, &strict).compliant(), None, "nobody says which version it should run");
        assert!(Wants::read("file_vault", "").is_err());
        let old = device("O", Platform::MacOs, "13.0");
        assert_eq!(standing(&look(tx, &old, &any), "filevault"), Standing::NotApplicable);
        Ok(())
    });
    done.await.unwrap();
}

#[tokio::test]
async fn what_is_declared_is_wanted_and_what_failed_is_said() {
    let (_folder, store) = temporary();
    let done = store.write("test", |tx| {
        let any = Wants::default();
        let phone = device("P", Platform::Ios, "26.1");
        declare(tx, "com.apple.configuration.passcode.settings", "passcode", &json!({"MinimumLength": 6}));
        declare(tx, "com.apple.configuration.management.test", "test", &json!({"Echo": "x"}));
        report(tx, "P", &json!({"passcode": {"is-present": false, "is-compliant": false}}));
        settle(tx, &phone, &["test"]);
        let found = look(tx, &phone, &any);
        assert_eq!(standing(&found, "passcode_present"), Standing::Failing);
        let declarations = &found.facts[0];
        assert_eq!(
            (declarations.standing(), &declarations.reported["failed"]),
            (Standing::Failing, &json!(1))
        );
        assert!(
            declarations.words.contains("test: ") && declarations.words.contains("No room."),
            "{}",
            declarations.words
        );
        Ok(())
    });
    done.await.unwrap();
}

#[tokio::test]
async fn nobody_is_behind_before_the_time_until_which_they_may_be() {
    let (_folder, store) = temporary();
    let done = store.write("test", |tx| {
        let any = Wants::default();
        let phone = device("P", Platform::Ios, "26.1");
        let enforce = |version: &str, at: Seconds| {
            let at = rfc3339(at);
            let payload =
                json!({"TargetOSVersion": version, "TargetLocalDateTime": at.trim_end_matches('Z')});
            declare(tx, "com.apple.configuration.softwareupdate.enforcement.specific", "update", &payload);
        };
        enforce("26.2", tx.now() + DAY);
        assert_eq!(standing(&look(tx, &phone, &any), "os_current"), Standing::Noted);
        enforce("26.2", tx.now() - DAY);
        let failure = json!({"count": 1, "reason": "no space"});
        report(tx, "P", &json!({"softwareupdate": {"install-state": "failed", "failure-reason": failure}}));
        let found = look(tx, &phone, &any);
        assert_eq!(standing(&found, "os_current"), Standing::Failing);
        assert!(found.facts[5].words.contains("no space"), "{}", found.facts[5].words);
        report(tx, "P", &json!({"device": {"operating-system": {"version": "26.2"}}}));
        assert_eq!(standing(&look(tx, &phone, &any), "os_current"), Standing::Ok);
        Ok(())
    });
    done.await.unwrap();
}

#[test]
fn time_is_said_as_people_say_it() {
    for (past, words) in [
        (5, "just now"),
        (-5, "just now"),
        (HOUR, "60 minutes ago"),
        (5 * HOUR, "5 hours ago"),
        (40 * DAY, "40 days ago"),
    ] {
        assert_eq!(ago(1_000_000_000, 1_000_000_000 - past), words);
    }
}
