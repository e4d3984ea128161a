//! What nobody sends by mistake.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{passcode, refused};
use crate::error::Error;
use crate::schema::declarations::check;

fn of(name: &str, payload: &Json) -> Json {
    json!({"Type": name, "Identifier": "x", "Payload": payload})
}

#[test]
fn hostile_names_and_sizes_are_refused_in_few_words() {
    let named =
        |name: &str| json!({"Type": "com.apple.management.properties", "Identifier": name, "Payload": {}});
    for good in ["a", "A-1_.", "..", &"x".repeat(64)] {
        check(&named(good), false).unwrap();
    }
    let long = "x".repeat(65);
    let huge = "x".repeat(900_000);
    for bad in [
        "",
        " a",
        "a b",
        "a/b",
        "../../x",
        "a%2f",
        "a\0",
        "é",
        "a\n",
        "'; DROP TABLE x",
        "\u{202e}a",
        &long,
        &huge,
    ] {
        let (at, words, _) = refused(&named(bad), true);
        assert!(at == "/Identifier" && words.len() < 300, "{words}");
    }
    let (_, words, _) = refused(&json!({"Type": huge, "Identifier": "x", "Payload": {}}), true);
    assert!(words.len() < 1000);
    let (_, words, _) = refused(&passcode(&json!({huge: 1})), false);
    assert!(words.len() < 1000);

    let properties = |value: Json| of("com.apple.management.properties", &json!({"deep": value}));
    let deep = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    check(&properties(deep(60)), false).unwrap();
    for force in [false, true] {
        assert!(refused(&properties(deep(120)), force).1.contains("deeper than 64"));
        assert!(refused(&properties(json!("x".repeat(10 << 20))), force).1.contains("1 MiB"));
        assert!(refused(&properties(vec![1; 2 << 20].into()), force).1.contains("1 MiB"));
    }
}

#[test]
fn hostile_json_is_refused_by_the_reader_or_by_the_check() {
    let sent = |payload: &str| {
        let kind = "com.apple.configuration.passcode.settings";
        let text = format!(r#"{{"Type": "{kind}", "Identifier": "x", "Payload": {payload}}}"#);
        serde_json::from_str::<Json>(&text).map(|body| check(&body, true))
    };
    let deep = format!("{{\"x\": {}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    for unreadable in
        [&*deep, r#"{"MinimumLength": 1e309}"#, r#"{"x": "\ud800"}"#, "{\"x\": \"\u{1}\"}", "{", ""]
    {
        assert!(sent(unreadable).is_err(), "{unreadable:.40}");
    }
    for wrong in [
        r#"{"MinimumLength": 1e30}"#,
        r#"{"MinimumLength": -1}"#,
        r#"{"MinimumLength": 18446744073709551615}"#,
        r#"{"MinimumLength": 6, "MinimumLength": "six"}"#,
        r#"{"x": "\u0000"}"#,
        r#"{"a\u0000b": 1}"#,
    ] {
        assert!(sent(wrong).unwrap().is_err(), "{wrong}");
    }
    // Of a key that is there twice the last counts, for us and for what devices get.
    let checked = sent(r#"{"MinimumLength": 99, "MinimumLength": 6}"#).unwrap().unwrap();
    assert_eq!(Json::Object(checked.payload), json!({"MinimumLength": 6}));
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        (0..20_i64).prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        ".{0,4}".prop_map(Json::from),
    ];
    let name = prop_oneof![
        4 => proptest::sample::select(vec!["RequirePasscode", "MinimumLength", "CustomRegex", "Regex", "Description"])
            .prop_map(str::to_owned),
        1 => ".{0,4}",
    ];
    leaf.prop_recursive(4, 40, 5, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Json::from),
            vec((name.clone(), inner), 0..4).prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_accepted_is_kept_and_what_is_refused_is_pointed_at(payload in any_json(), force: bool) {
        for name in ["com.apple.management.properties", "com.apple.configuration.passcode.settings"] {
            let body = of(name, &payload);
            match check(&body, force) {
                Ok(checked) => prop_assert_eq!(Json::Object(checked.payload), body["Payload"].clone()),
                Err(Error::Invalid { pointer: Some(pointer), .. }) => {
                    // What is missing is pointed at too; what it is missing from is there.
                    let parent = pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
                    prop_assert!(pointer.starts_with("/Payload"), "{}", pointer);
                    prop_assert!(body.pointer(parent).is_some(), "{}", pointer);
                }
                Err(other) => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
