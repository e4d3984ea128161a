//! Declarations as people send them, and what the table says of all of them.

use serde_json::{Map, Value as Json, json};

use super::*;
use crate::error::Error;
use crate::schema::status::status_item;

mod generated;
mod hostile;
mod targets;

/// Where it is wrong, in which words, and what is suggested.
#[track_caller]
fn refused(body: &Json, force: bool) -> (String, String, Option<String>) {
    match check(body, force) {
        Err(Error::Invalid { words, pointer, suggestion }) => (pointer.unwrap(), words, suggestion),
        other => panic!("{body} gave {other:?}"),
    }
}

fn passcode(payload: &Json) -> Json {
    json!({"Type": "com.apple.configuration.passcode.settings", "Identifier": "p", "Payload": payload})
}

fn activation(payload: &Json) -> Json {
    json!({"Type": "com.apple.activation.simple", "Identifier": "a", "Payload": payload})
}

#[test]
fn the_table_has_every_type_and_refers_only_to_what_is_there() {
    fn each<'t>(keys: &'t [Key], around: &mut Vec<&'t str>, see: &mut dyn FnMut(&'t Key, &[&str])) {
        for key in keys {
            see(key, around);
            around.push(&key.name);
            each(&key.keys, around, see);
            each(&key.items, around, see);
            around.pop();
        }
    }
    assert_eq!((table().items.len(), types().count()), (63, 59));
    let whole: Json = serde_json::from_str(include_str!("../data/declarations.json")).unwrap();
    for (name, declaration) in &table().items {
        let kind = whole["items"][name]["kind"].as_str().unwrap();
        assert_eq!(Kind::of(name).map(Kind::name), Some(kind).filter(|kind| *kind != "credential"), "{name}");
        assert_eq!(declaration.apply.is_some(), kind == "configuration", "{name}");
        assert!(declaration.status.iter().all(|item| status_item(item).is_some()), "{name}");
        each(&declaration.keys, &mut Vec::new(), &mut |key, around| {
            for asset in &key.assets {
                assert_eq!(Kind::of(asset), Some(Kind::Asset), "{name} {}", key.name);
                assert!(super::declaration(asset).is_some(), "{name} {asset}");
            }
            if let Some(path) = &key.same_as {
                assert!(around.contains(&path.split('/').next().unwrap()), "{name} {path}");
            }
        });
        for key in alternatives(name) {
            assert!(declaration.keys.iter().any(|known| known.name == *key), "{name} {key}");
        }
    }
}

#[test]
fn a_kind_is_the_third_part() {
    assert_eq!(Kind::of("com.apple.management.properties"), Some(Kind::Management));
    assert_eq!(Kind::of("com.apple.activation.from.next.year"), Some(Kind::Activation));
    for none in ["", "configuration", "com.apple.configuration", "com.apple.configuration.", "com.apple.x.y"]
    {
        assert_eq!(Kind::of(none), None, "{none}");
    }
    assert_eq!(Kind::ALL.map(Kind::manifest), ["Activations", "Configurations", "Assets", "Management"]);
    assert!(Kind::ALL.into_iter().all(|kind| Kind::named(kind.name()) == Some(kind)));
    assert_eq!(combine("com.apple.configuration.passcode.settings"), Combine::Combined);
    assert_eq!(combine("com.apple.configuration.watch.enrollment"), Combine::Single);
    assert_eq!(combine("com.apple.configuration.legacy"), Combine::Multiple);
    assert_eq!(combine("com.apple.configuration.unheardof"), Combine::Multiple);
}

#[test]
fn a_declaration_is_kept_as_it_was_sent() {
    let payload = json!({"MinimumLength": 6, "RequirePasscode": true, "CustomRegex": {
        "Regex": "^.{6}$", "Description": {"default": "six", "de": "sechs"}}});
    let mut body = passcode(&payload);
    body["ServerToken"] = json!({"anything": 1});
    let checked = check(&body, false).unwrap();
    assert_eq!(checked.kind, Kind::Configuration);
    assert_eq!((&*checked.identifier, checked.predicate), ("p", None));
    assert_eq!(serde_json::to_string(&checked.payload).unwrap(), payload.to_string());
    assert!(checked.warnings.is_empty() && checked.references.is_empty() && checked.beside.is_empty());
}

#[test]
fn what_people_really_write_is_understood_or_explained() {
    let (at, words, suggestion) = refused(&passcode(&json!({"RequirePasscode": "true"})), true);
    assert_eq!((&*at, suggestion.as_deref()), ("/Payload/RequirePasscode", Some("true")));
    assert_eq!(words, "This must be true or false, not a string. Write true instead.");
    let (at, _, suggestion) = refused(&passcode(&json!({"MinimumLength": "6"})), false);
    assert_eq!((&*at, suggestion.as_deref()), ("/Payload/MinimumLength", Some("6")));

    let mut body = passcode(&json!({}));
    body["Server Token"] = json!("abc");
    assert_eq!(
        check(&body, false).unwrap().warnings,
        ["\"Server Token\" was taken for ServerToken, which the server computes itself."]
    );

    let predicate = "@status(device.model.family) == 'iPad'";
    let mut body = activation(&json!({"StandardConfigurations": ["p"]}));
    body["Predicate"] = json!(predicate);
    let checked = check(&body, false).unwrap();
    assert_eq!(checked.predicate.as_deref(), Some(predicate));
    assert_eq!(
        Json::Object(checked.payload),
        json!({"StandardConfigurations": ["p"], "Predicate": predicate})
    );
    assert_eq!(checked.warnings, ["Predicate was moved into Payload, where it belongs."]);
    body["Payload"]["Predicate"] = json!(predicate);
    assert_eq!(check(&body, false).unwrap().warnings.len(), 1);
    body["Payload"]["Predicate"] = json!("TRUEPREDICATE");
    assert_eq!(refused(&body, true).0, "/Predicate");
    body["Predicate"] = json!(7);
    assert_eq!(refused(&body, true).0, "/Predicate");
    let mut body = passcode(&json!({}));
    body["Predicate"] = json!(predicate);
    assert_eq!(refused(&body, false).0, "/Predicate");
}

#[test]
fn references_are_found_wherever_they_stand() {
    let named = |body: &Json| {
        let references = check(body, false).unwrap().references;
        references.into_iter().map(|one| (one.pointer, one.identifier, one.wants)).collect::<Vec<_>>()
    };
    let asset =
        |types: &[&str]| Wants::Asset(types.iter().map(|name| format!("com.apple.asset.{name}")).collect());
    assert_eq!(
        named(&activation(&json!({"StandardConfigurations": ["p", "q"]}))),
        [
            ("/Payload/StandardConfigurations/0".into(), "p".into(), Wants::Configuration),
            ("/Payload/StandardConfigurations/1".into(), "q".into(), Wants::Configuration),
        ]
    );
    let identity = &["credential.identity", "credential.scep", "credential.acme"];
    assert_eq!(
        named(&json!({"Type": "com.apple.configuration.app.managed", "Identifier": "m", "Payload": {
            "BundleID": "org.example.app",
            "AppConfig": {"Passwords": [{"Identifier": "x", "AssetReference": "pw"}]},
            "ExtensionConfigs": {"org.example/ext": {
                "DataAssetReference": "data",
                "Identities": [{"Identifier": "y", "AssetReference": "id"}]}}}})),
        [
            (
                "/Payload/AppConfig/Passwords/0/AssetReference".into(),
                "pw".into(),
                asset(&["credential.userpassword"])
            ),
            (
                "/Payload/ExtensionConfigs/org.example~1ext/DataAssetReference".into(),
                "data".into(),
                asset(&["data"])
            ),
            (
                "/Payload/ExtensionConfigs/org.example~1ext/Identities/0/AssetReference".into(),
                "id".into(),
                asset(identity)
            ),
        ]
    );
    let relay = json!({"Type": "com.apple.configuration.network.relay", "Identifier": "r", "Payload": {
        "VisibleName": "Relay", "Relays": [{"PublicKeyData": ["one", "two"]}]}});
    let relay: Vec<_> = named(&relay).into_iter().map(|(pointer, ..)| pointer).collect();
    assert_eq!(relay, ["/Payload/Relays/0/PublicKeyData/0", "/Payload/Relays/0/PublicKeyData/1"]);
    let files = json!({"Type": "com.apple.configuration.services.configuration-files", "Identifier": "s",
        "Payload": {"ServiceType": "com.apple.sshd", "DataAssetReference": "sshd"}});
    assert_eq!(check(&files, false).unwrap().references[0].media, ["application/zip"]);

    let bad = activation(&json!({"StandardConfigurations": ["p", "no such/name"]}));
    assert_eq!(refused(&bad, true).0, "/Payload/StandardConfigurations/1");
    let bad = json!({"Type": "com.apple.configuration.security.identity", "Identifier": "i",
        "Payload": {"CredentialAssetReference": ""}});
    assert_eq!(refused(&bad, true).0, "/Payload/CredentialAssetReference");
}

#[test]
fn bookmarks_lie_in_folders_in_folders() {
    let body = |folder: Json| {
        json!({"Type": "com.apple.configuration.safari.bookmarks", "Identifier": "b", "Payload": {
            "ManagedBookmarks": [{"GroupIdentifier": "g", "Title": "G", "Bookmarks": [
                {"Title": "F", "Folder": folder}]}]}})
    };
    check(&body(json!([{"Title": "F", "Folder": [{"Title": "x", "URL": "https://example.org/"}]}])), false)
        .unwrap();
    let at = "/Payload/ManagedBookmarks/0/Bookmarks/0/Folder/0/Folder/0";
    let (pointer, ..) = refused(&body(json!([{"Title": "F", "Folder": [{"Title": "x", "URL": 7}]}])), false);
    assert_eq!(pointer, format!("{at}/URL"));
    let (pointer, ..) = refused(&body(json!([{"Title": "F", "Folder": [{}]}])), false);
    assert_eq!(pointer, format!("{at}/Title"));
}

#[test]
fn mistakes_are_refused_with_a_pointer() {
    let of = |name: &str| json!({"Type": name, "Identifier": "x", "Payload": {}});
    for (body, pointer, words) in [
        (json!([]), "", "JSON object"),
        (json!({}), "/Type", "missing"),
        (json!({"Type": 7}), "/Type", "a string"),
        (of("com.apple.configuration.passcode.setings"), "/Type", "passcode.settings\"?"),
        (of("passcode.settings"), "/Type", "\"com.apple.configuration.passcode.settings\"?"),
        (of("com.apple.credential.scep"), "/Type", "not a declaration"),
        (of("com.apple.configuration./../x"), "/Type", "no type"),
        (of(""), "/Type", "no type"),
        (json!({"Type": "com.apple.management.properties"}), "/Identifier", "missing"),
        (json!({"Type": "com.apple.management.properties", "Identifier": 1}), "/Identifier", "a string"),
        (json!({"Type": "com.apple.management.properties", "Identifier": "x"}), "/Payload", "missing"),
        (
            json!({"Type": "com.apple.management.properties", "Identifier": "x", "Payload": []}),
            "/Payload",
            "object",
        ),
        (passcode(&json!({"RequirePascode": true})), "/Payload/RequirePascode", "\"RequirePasscode\"?"),
        (passcode(&json!({"MinimumLength": 17})), "/Payload/MinimumLength", "0 to 16, not 17"),
        (passcode(&json!({"MinimumLength": null})), "/Payload/MinimumLength", "not null"),
        (passcode(&json!({"CustomRegex": {}})), "/Payload/CustomRegex/Regex", "missing"),
        (
            passcode(&json!({"CustomRegex": {"Regex": "x", "Description": {"a/b": 1}}})),
            "/Payload/CustomRegex/Description/a~1b",
            "a string, not a number",
        ),
        (activation(&json!({})), "/Payload/StandardConfigurations", "missing"),
        (
            json!({"Type": "com.apple.configuration.passcode.settings", "Identifier": "x", "Payload": {},
                "RequirePasscode": true}),
            "/RequirePasscode",
            "put it inside",
        ),
        (
            json!({"Type": "com.apple.management.properties", "Identifier": "x", "Payload": {},
                "payload": 1}),
            "/payload",
            "Did you mean \"Payload\"?",
        ),
    ] {
        let (at, said, _) = refused(&body, false);
        assert_eq!(at, pointer, "{body}: {said}");
        assert!(said.contains(words), "{body}: {said}");
    }
}

#[test]
fn force_accepts_unknown_names_with_a_warning_and_nothing_else() {
    let new = json!({"Type": "com.apple.configuration.from-next-year", "Identifier": "n",
        "Payload": {"Any": [1, {"x": "y"}]}, "Priority": 7});
    assert_eq!(refused(&new, false).0, "/Type");
    let checked = check(&new, true).unwrap();
    assert_eq!((checked.kind, checked.warnings.len()), (Kind::Configuration, 2));
    assert_eq!(Json::Object(checked.payload), new["Payload"]);
    assert_eq!(Json::Object(checked.beside), json!({"Priority": 7}));

    let new = json!({"Type": "com.apple.activation.fancy", "Identifier": "n",
        "Payload": {"StandardConfigurations": ["p"], "Predicate": "x"}});
    let checked = check(&new, true).unwrap();
    assert_eq!((checked.references.len(), checked.predicate.as_deref()), (1, Some("x")));

    let key = passcode(&json!({"NewKey": {"x": [1.5]}}));
    assert_eq!(refused(&key, false).0, "/Payload/NewKey");
    assert_eq!(check(&key, true).unwrap().warnings, ["Apple's schema has no key \"NewKey\" here."]);

    for body in [
        json!({"Type": "com.apple.unheardof.x", "Identifier": "n", "Payload": {}}),
        json!({"Type": "com.apple.configuration.new", "Identifier": "n", "Payload": {"x": null}}),
        json!({"Type": "com.apple.configuration.new", "Identifier": "a b", "Payload": {}}),
        passcode(&json!({"MinimumLength": 17})),
        passcode(&json!({"RequirePasscode": 2})),
        passcode(&json!({"NewKey": "a\u{0}b"})),
        activation(&json!({})),
    ] {
        refused(&body, true);
    }
}

#[test]
fn what_the_table_does_not_forbid_is_remarked() {
    let remarks = |name: &str, payload: Json| {
        check(&json!({"Type": name, "Identifier": "x", "Payload": payload}), false).unwrap().warnings
    };
    assert_eq!(
        remarks("com.apple.configuration.legacy", json!({})),
        ["Without ProfileURL or ProfileAssetReference there is nothing to install."]
    );
    let url = "https://example.org/c.pem";
    let certificate = |kind: &str| {
        let payload = json!({"Reference": {"DataURL": url, "ContentType": kind}});
        remarks("com.apple.asset.credential.certificate", payload)
    };
    assert!(certificate("application/PEM; x=y").is_empty());
    assert!(certificate("text/html")[0].contains("application/pkcs1 or application/pem"));
    let subscriptions = json!({"StatusItems": [{"Name": "device.model.famly"}, {"Name": "mdm.app"}]});
    let said = remarks("com.apple.configuration.management.status-subscriptions", subscriptions);
    assert!(said.len() == 1 && said[0].ends_with("Did you mean \"device.model.family\"?"), "{said:?}");
}

fn payload(json: Json) -> Map<String, Json> {
    match json {
        Json::Object(payload) => payload,
        other => panic!("{other}"),
    }
}
