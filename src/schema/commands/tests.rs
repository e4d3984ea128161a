//! Commands from JSON and property lists, as people send them.

use serde_json::{Value as Json, json};

use super::*;

fn command_of(request: &Request) -> Json {
    let whole = plist::parse_dict(&request.plist).unwrap();
    assert_eq!(plist::string(&whole, "CommandUUID").unwrap(), Some(request.uuid.as_str()));
    plist::json::dict_to_json(plist::dict(&whole, "Command").unwrap().unwrap()).into()
}

#[track_caller]
fn refused(body: &Json, force: bool) -> (String, String) {
    match from_json(body, force) {
        Err(Error::Invalid { words, pointer, .. }) => (pointer.unwrap(), words),
        other => panic!("{body} gave {other:?}"),
    }
}

fn deep(levels: usize) -> Json {
    (0..levels).fold(json!(1), |inner, _| json!([inner]))
}

#[test]
fn what_could_not_be_read_again_is_not_made() {
    let body = |levels| json!({"RequestType": "FromNextYear", "Key": deep(levels)});
    assert!(from_json(&body(60), true).is_ok());
    assert!(from_json(&body(63), true).unwrap_err().to_string().contains("deeper than 64"));
}

#[test]
fn the_table_has_every_command() {
    assert_eq!(table().items.len(), 68);
    assert_eq!(command("DeviceLock").unwrap().os["macOS"].since.as_deref(), Some("10.7"));
    assert!(command("Unheardof").is_none());
}

#[test]
fn a_query_is_typed_and_given_a_uuid() {
    let body = json!({"RequestType": "DeviceInformation", "Queries": ["UDID", "OSVersion"]});
    let request = from_json(&body, false).unwrap();
    assert_eq!(request.request_type, "DeviceInformation");
    assert_eq!(request.uuid.len(), 36);
    assert_eq!(command_of(&request), body);
    assert!(!request.secret && request.warnings.is_empty());
}

#[test]
fn both_forms_are_taken_with_a_uuid_of_the_senders() {
    let flat = json!({"RequestType": "ProfileList", "CommandUUID": "0001_ProfileList"});
    let nested = json!({"Command": {"RequestType": "ProfileList"}, "CommandUUID": "0001_ProfileList"});
    for body in [flat, nested] {
        let request = from_json(&body, false).unwrap();
        assert_eq!(request.uuid, "0001_ProfileList");
        assert_eq!(command_of(&request), json!({"RequestType": "ProfileList"}));
    }
    for uuid in [json!(""), json!("a\nb"), json!("x".repeat(256)), json!(7), json!(null)] {
        assert_eq!(
            refused(&json!({"RequestType": "ProfileList", "CommandUUID": uuid}), true).0,
            "/CommandUUID"
        );
    }
    assert_eq!(refused(&json!({"Command": {"RequestType": "ProfileList"}, "x/y": 1}), false).0, "/x~1y");
}

#[test]
fn data_reaches_the_device_as_data() {
    let request = from_json(&json!({"RequestType": "InstallProfile", "Payload": "AQID"}), false).unwrap();
    let whole = plist::parse_dict(&request.plist).unwrap();
    let command = plist::dict(&whole, "Command").unwrap().unwrap();
    assert_eq!(plist::data(command, "Payload").unwrap(), Some(&[1, 2, 3][..]));
    assert!(request.secret);
}

#[test]
fn mistakes_are_refused_with_a_pointer() {
    for (body, pointer, words) in [
        (json!([]), "", "JSON object"),
        (json!({}), "/RequestType", "missing"),
        (json!({"RequestType": 7}), "/RequestType", "must be a string"),
        (json!({"RequestType": "DeviceInfromation"}), "/RequestType", "Did you mean \"DeviceInformation\"?"),
        (json!({"RequestType": "DeviceInformation"}), "/Queries", "missing"),
        (
            json!({"RequestType": "DeviceInformation", "Queries": "UDID"}),
            "/Queries",
            "an array, not a string",
        ),
        (
            json!({"RequestType": "DeviceInformation", "Queries": ["UDID", 1]}),
            "/Queries/1",
            "a string, not a number",
        ),
        (
            json!({"RequestType": "DeviceInformation", "Queries": ["OSVersoin"]}),
            "/Queries/0",
            "\"OSVersion\"",
        ),
        (json!({"RequestType": "DeviceLock", "Pin": "123456"}), "/Pin", "Did you mean \"PIN\"?"),
        (json!({"RequestType": "DeviceLock", "a/b~c": 1}), "/a~1b~0c", "no key"),
        (
            json!({"RequestType": "EraseDevice", "ObliterationBehavior": "No"}),
            "/ObliterationBehavior",
            "one of \"Default\"",
        ),
        (json!({"RequestType": "EraseDevice", "ReturnToService": {}}), "/ReturnToService/Enabled", "missing"),
        (json!({"RequestType": "InstallProfile", "Payload": "%%"}), "/Payload", "base64"),
        (
            json!({"RequestType": "Settings", "Settings": [{"Item": "Bluetooth"}]}),
            "/Settings/0/Enabled",
            "missing",
        ),
        (
            json!({"RequestType": "Settings", "Settings": [{"Item": "Blutooth"}]}),
            "/Settings/0/Item",
            "\"Bluetooth\"",
        ),
        (json!({"RequestType": "Settings", "Settings": [{}]}), "/Settings/0/Item", "missing"),
        (json!({"RequestType": "Settings", "Settings": [7]}), "/Settings/0", "an object"),
        (
            json!({"RequestType": "ProfileList", "RequestRequiresNetworkTether": 1}),
            "/RequestRequiresNetworkTether",
            "true or false",
        ),
        (
            json!({"Command": {"RequestType": "DeviceLock", "PIN": 1}}),
            "/Command/PIN",
            "a string, not a number",
        ),
        (json!({"Command": 7}), "/Command", "an object"),
    ] {
        let (at, said) = refused(&body, false);
        assert_eq!(at, pointer, "{body}: {said}");
        assert!(said.contains(words), "{body}: {said}");
    }
}

#[test]
fn force_accepts_unknown_names_with_warnings_and_nothing_else() {
    let new = json!({"RequestType": "FromNextYear", "Number": 7, "List": ["a", {"Real": 1.5}]});
    let request = from_json(&new, true).unwrap();
    assert_eq!(command_of(&request), new);
    assert_eq!(request.warnings, ["Apple's schema has no command \"FromNextYear\"."]);
    for body in [
        json!({"RequestType": "DeviceLock", "NewKey": "x"}),
        json!({"RequestType": "DeviceInformation", "Queries": ["NewQuery"]}),
        json!({"RequestType": "Settings", "Settings": [{"Item": "NewItem", "Enabled": true}]}),
    ] {
        refused(&body, false);
        let request = from_json(&body, true).unwrap();
        assert_eq!((command_of(&request), request.warnings.len()), (body, 1));
    }
    for body in [
        json!({"RequestType": "DeviceInformation"}),
        json!({"RequestType": "DeviceLock", "PIN": 123_456}),
        json!({"RequestType": "EraseDevice", "ObliterationBehavior": "No"}),
        json!({"RequestType": "FromNextYear", "Key": null}),
        json!({"RequestType": "FromNextYear", "Key": deep(100)}),
        json!({"RequestType": "FromNextYear", "Key": "a\u{0}b"}),
    ] {
        refused(&body, true);
    }
}

#[test]
fn settings_are_told_apart_by_their_item() {
    let body = json!({"RequestType": "Settings", "Settings": [
        {"Item": "DeviceName", "DeviceName": "Cart 3"},
        {"Item": "ApplicationConfiguration", "Identifier": "com.example", "Configuration": {"any": [1, "x"]}},
    ]});
    assert_eq!(command_of(&from_json(&body, false).unwrap()), body);
    let swapped = json!({"RequestType": "Settings", "Settings": [{"Item": "DeviceName", "HostName": "x"}]});
    assert_eq!(refused(&swapped, false).0, "/Settings/0/HostName");
}

#[test]
fn the_sender_is_told_of_removed_commands_and_odd_pins() {
    let request = from_json(&json!({"RequestType": "AvailableOSUpdates"}), false).unwrap();
    assert!(request.warnings[0].contains("iOS 27.0, macOS 27.0, tvOS 27.0"), "{:?}", request.warnings);
    let request = from_json(&json!({"RequestType": "DeviceLock", "PIN": "1234"}), false).unwrap();
    assert!(request.secret && request.warnings[0].contains("six"));
}

#[test]
fn a_plist_with_a_uuid_stays_byte_for_byte() {
    let sent = b"<?xml version='1.0'?>\n<plist><dict>  <key>CommandUUID</key><string>u1</string>\
        <key>Command</key><dict><key>RequestType</key><string>FromNextYear</string></dict></dict></plist>";
    let request = from_plist(sent).unwrap();
    assert_eq!((request.uuid.as_str(), request.request_type.as_str()), ("u1", "FromNextYear"));
    assert_eq!(request.plist, sent);
}

#[test]
fn a_plist_without_a_uuid_is_given_one() {
    let sent = b"<plist><dict><key>Command</key><dict><key>RequestType</key><string>DeviceLock</string>\
        <key>PIN</key><string>123456</string></dict><key>Other</key><true/></dict></plist>";
    let request = from_plist(sent).unwrap();
    assert_eq!(command_of(&request), json!({"RequestType": "DeviceLock", "PIN": "123456"}));
    assert!(request.secret);
    assert!(String::from_utf8(request.plist).unwrap().contains("<key>Other</key>"));
}

#[test]
fn a_plist_that_the_queue_cannot_carry_is_refused_in_words() {
    for (content, place, words) in [
        ("<array/>", "", "dictionary"),
        ("<dict/>", "/Command", "Command is missing"),
        (
            "<dict><key>Command</key><string/></dict>",
            "/Command",
            "Command must be a dictionary, not a string",
        ),
        ("<dict><key>Command</key><dict/></dict>", "/Command/RequestType", "RequestType is missing"),
        (
            "<dict><key>Command</key><dict><key>RequestType</key><string/></dict></dict>",
            "/Command/RequestType",
            "1 to 255 bytes",
        ),
        (
            "<dict><key>Command</key><dict><key>RequestType</key><string>X</string></dict><key>CommandUUID</key><integer>1</integer></dict>",
            "/CommandUUID",
            "CommandUUID must be a string",
        ),
    ] {
        let error = from_plist(format!("<plist>{content}</plist>").as_bytes()).unwrap_err();
        assert!(error.to_string().contains(words), "{content}: {error}");
        assert!(matches!(error, Error::Invalid { pointer: Some(at), .. } if at == place), "{content}");
    }
}
