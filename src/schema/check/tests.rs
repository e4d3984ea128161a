//! Values against keys that are written out here.

use super::*;
use serde_json::json;

fn key(definition: &str) -> Key {
    serde_json::from_str(definition).unwrap()
}

fn refusal(key: &Key, json: &Json) -> (String, String) {
    match Checker::new(false).value(key, json, "/K") {
        Err(Error::Invalid { words, pointer, .. }) => (pointer.unwrap(), words),
        other => panic!("{json} gave {other:?}"),
    }
}

#[test]
fn numbers_are_kept_in_their_range_and_arrays_in_their_length() {
    let number = key(r#"{"key": "K", "type": "int", "range": [1, 5]}"#);
    assert!(Checker::new(false).value(&number, &json!(5), "/K").is_ok());
    assert_eq!(refusal(&number, &json!(6)).1, "This must be 1 to 5, not 6.");
    assert_eq!(refusal(&number, &json!(1.5)).1, "This must be a whole number, not a number with a fraction.");
    let open = key(r#"{"key": "K", "type": "real", "range": [null, 5]}"#);
    assert!(Checker::new(false).value(&open, &json!(-1e9), "/K").is_ok());
    let array = key(r#"{"key": "K", "type": "array", "items": {"type": "string"}, "repeat": [1, 2]}"#);
    assert_eq!(refusal(&array, &json!([])).1, "This must have 1 to 2 elements, not 0.");
    assert_eq!(refusal(&array, &json!(["a", 1])).0, "/K/1");
}

#[test]
fn strings_become_data_and_dates_where_the_table_says_so() {
    let data = key(r#"{"key": "K", "type": "data"}"#);
    assert_eq!(Checker::new(false).value(&data, &json!("AQI="), "").unwrap(), Value::Data(vec![1, 2]));
    assert!(refusal(&data, &json!("AQI")).1.contains("base64"));
    let date = key(r#"{"key": "K", "type": "date"}"#);
    let value = Checker::new(false).value(&date, &json!("2026-11-22T10:30:00+01:00"), "").unwrap();
    assert_eq!(json::to_json(&value), "2026-11-22T09:30:00Z");
    for bad in ["9999-12-31T23:59:59-01:00", "0000-06-01T00:00:00Z", "yesterday", ""] {
        assert!(refusal(&date, &json!(bad)).1.contains("date"), "{bad}");
    }
}

#[test]
fn the_first_alternative_that_fits_is_taken_where_no_key_tells_them_apart() {
    let array = key(r#"{"key": "K", "type": "array", "items": [{"type": "string"}, {"type": "int"}]}"#);
    assert!(Checker::new(false).value(&array, &json!(["a", 1]), "").is_ok());
    assert_eq!(refusal(&array, &json!([true])).0, "/K/0");
}

#[test]
fn pointers_are_escaped() {
    assert_eq!(child("/a", "b/c~d"), "/a/b~1c~0d");
}

#[test]
fn a_constraint_that_the_model_does_not_know_stops_the_table() {
    assert!(serde_json::from_str::<Key>(r#"{"key": "K", "type": "string", "pattern": "x"}"#).is_err());
}

#[test]
fn what_can_only_have_meant_one_thing_is_suggested() {
    let suggestion =
        |definition: &str, json: Json| match Checker::new(false).value(&key(definition), &json, "/K") {
            Err(Error::Invalid { words, suggestion, .. }) => {
                assert_eq!(suggestion.is_some(), words.ends_with(" instead."), "{words}");
                suggestion
            }
            other => panic!("{json} gave {other:?}"),
        };
    let suggested = |definition: &str, json: Json| suggestion(definition, json).unwrap_or_default();
    let bool = r#"{"key": "K", "type": "bool"}"#;
    assert_eq!(suggested(bool, json!("true")), "true");
    assert_eq!(suggested(bool, json!(" No ")), "false");
    assert_eq!(suggested(bool, json!(1)), "true");
    for unclear in [json!("maybe"), json!(2), json!(null), json!(["true"])] {
        assert_eq!(suggestion(bool, unclear), None);
    }
    let int = r#"{"key": "K", "type": "int", "range": [1, 16]}"#;
    assert_eq!(suggested(int, json!("6")), "6");
    assert_eq!(suggested(int, json!(6.0)), "6");
    for unclear in [json!("six"), json!("17"), json!(6.5), json!("6.0"), json!("1e3"), json!(1e300)] {
        assert_eq!(suggestion(int, unclear), None);
    }
    let real = r#"{"key": "K", "type": "real"}"#;
    assert_eq!((suggested(real, json!("1")), suggested(real, json!("0.5"))), ("1".into(), "0.5".into()));
    assert_eq!((suggestion(real, json!("inf")), suggestion(real, json!("NaN"))), (None, None));
    let string = r#"{"key": "K", "type": "string"}"#;
    assert_eq!(suggested(string, json!(361_309_726)), "\"361309726\"");
    assert_eq!(suggestion(string, json!(26.1)), None);
    let list = r#"{"key": "K", "type": "array", "items": {"type": "string"}}"#;
    assert_eq!(suggested(list, json!("a\"b")), r#"["a\"b"]"#);
    assert_eq!(suggestion(list, json!("x".repeat(300))), None);
    let one_of = r#"{"key": "K", "type": "int", "enum": [14, 15]}"#;
    assert_eq!((suggested(one_of, json!("14")), suggestion(one_of, json!("1"))), ("14".into(), None));
}

#[test]
fn a_key_may_have_the_keys_of_what_it_lies_in() {
    let folder = key(r#"{"key": "Items", "type": "array", "items": {"type": "dict", "keys": [
        {"key": "Title", "type": "string", "req": true},
        {"key": "Asset", "type": "string", "assets": ["com.example.asset"]},
        {"key": "Folder", "type": "array", "items": {"type": "dict", "ref": "Items/item"}}]}}"#);
    let mut checker = Checker::new(false);
    let good = json!([{"Title": "a", "Folder": [{"Title": "b", "Folder": [{"Title": "c", "Asset": "x"}]}]}]);
    checker.value(&folder, &good, "").unwrap();
    let named: Vec<_> = checker.assets.iter().map(|asset| (&*asset.pointer, &*asset.identifier)).collect();
    assert_eq!(named, [("/0/Folder/0/Folder/0/Asset", "x")]);
    let bad = json!([{"Title": "a", "Folder": [{"Title": "b", "Folder": [{"Titel": "c"}]}]}]);
    assert_eq!(refusal(&folder, &bad).0, "/K/0/Folder/0/Folder/0/Titel");
    let deep = (0..100).fold(json!([]), |inner, _| json!([{"Title": "a", "Folder": inner}]));
    assert!(refusal(&folder, &deep).1.contains("too deeply"));
}

#[test]
fn an_alternative_that_did_not_fit_leaves_nothing_behind() {
    let array = key(r#"{"key": "K", "type": "array", "items": [
            {"type": "dict", "keys": [
                {"key": "A", "type": "string", "assets": ["x"]}, {"key": "B", "type": "bool"}]},
            {"type": "dict", "keys": [
                {"key": "A", "type": "string"}, {"key": "B", "type": "string"}]}]}"#);
    let mut checker = Checker::new(true);
    checker.value(&array, &json!([{"A": "a", "New": 1, "B": "b"}]), "").unwrap();
    assert_eq!((checker.assets.len(), checker.warnings.len()), (0, 1));
}
