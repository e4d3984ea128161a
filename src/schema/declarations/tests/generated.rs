//! For every type: an example is accepted, and each constraint is broken once.

use serde_json::{Value as Json, json};

use super::refused;
use crate::schema::check::child;
use crate::schema::declarations::{check, declaration, example, types, whole_example};
use crate::schema::table::{Key, Kind};

#[test]
fn every_type_has_an_example_that_is_accepted() {
    for name in types() {
        for body in [example(name).unwrap(), whole_example(name).unwrap()] {
            let checked = check(&body, false).unwrap_or_else(|error| panic!("{body}: {error:?}"));
            assert_eq!(checked.declaration_type, name);
            assert_eq!(Json::Object(checked.payload), body["Payload"]);
        }
    }
    assert!(example("com.apple.configuration.unheardof").is_none());
    assert!(example("com.apple.credential.scep").is_none());
}

#[test]
fn every_constraint_is_held() {
    let mut broken = 0;
    for name in types() {
        let good = whole_example(name).unwrap();
        let keys = &declaration(name).unwrap().keys;
        for (at, bad) in violations(keys, "/Payload", &good) {
            let (pointer, words, _) = refused(&bad, false);
            assert_eq!(pointer, at, "{name}: {words}");
            broken += 1;
        }
        // The smallest example must lose nothing.
        for key in keys.iter().filter(|key| key.required) {
            let mut bad = example(name).unwrap();
            bad["Payload"].as_object_mut().unwrap().shift_remove(&key.name);
            assert_eq!(refused(&bad, true).0, format!("/Payload/{}", key.name), "{name}");
        }
    }
    assert_eq!(broken, 1424, "as many as the table says");
}

#[test]
fn quotes_around_numbers_and_booleans_are_explained() {
    for name in types() {
        let good = whole_example(name).unwrap();
        walk(&declaration(name).unwrap().keys, "/Payload", &mut |key, at| {
            let mut bad = good.clone();
            let place = bad.pointer_mut(at).unwrap();
            if matches!(key.kind, Kind::Bool | Kind::Int | Kind::Real) {
                let right = place.to_string();
                *place = json!(right);
                let (pointer, _, suggestion) = refused(&bad, false);
                assert_eq!((pointer.as_str(), suggestion), (at, Some(right)), "{name}");
            }
        });
    }
}

#[test]
fn what_is_named_must_be_an_identifier_wherever_it_is_named() {
    let mut broken = 0;
    for name in types() {
        let good = whole_example(name).unwrap();
        for reference in check(&good, false).unwrap().references {
            for wrong in ["", "a/b", "..%2f", &"x".repeat(65)] {
                let mut bad = good.clone();
                *bad.pointer_mut(&reference.pointer).unwrap() = json!(wrong);
                assert_eq!(refused(&bad, true).0, reference.pointer, "{name} {wrong}");
                broken += 1;
            }
        }
    }
    assert!(broken > 4 * 30, "{broken}");
}

#[test]
fn what_no_type_has_is_refused_inside_the_payload_and_beside_it() {
    for name in types() {
        let takes_any = declaration(name).unwrap().keys.iter().any(|key| key.name == "*");
        for (at, is_known) in [("/Payload/Unheardof", takes_any), ("/Unheardof", false)] {
            let mut bad = whole_example(name).unwrap();
            let (parent, key) = at.rsplit_once('/').unwrap();
            bad.pointer_mut(parent).unwrap()[key] = json!(1);
            if is_known {
                check(&bad, false).unwrap();
            } else {
                assert_eq!(refused(&bad, false).0, at, "{name}");
            }
            assert!(check(&bad, true).is_ok(), "{name}: a newer key can be forced in");
        }
    }
}

/// Each key that the whole example has, with its pointer.
fn walk<'t>(keys: &'t [Key], at: &str, see: &mut dyn FnMut(&'t Key, &str)) {
    for key in keys {
        let here = child(at, if key.name == "*" { "org.example.name" } else { &key.name });
        see(key, &here);
        walk_within(key, &here, see);
    }
}

fn walk_within<'t>(key: &'t Key, here: &str, see: &mut dyn FnMut(&'t Key, &str)) {
    walk(&key.keys, here, see);
    if let [item] = key.items.as_slice()
        && item.same_as.is_none()
    {
        let first = format!("{here}/0");
        see(item, &first);
        walk_within(item, &first, see);
    }
}

/// Bodies that are wrong in one thing, and where.
fn violations(keys: &[Key], at: &str, good: &Json) -> Vec<(String, Json)> {
    let mut violations = Vec::new();
    walk(keys, at, &mut |key, here| {
        let mut instead = |value: Json| {
            let mut bad = good.clone();
            *bad.pointer_mut(here).unwrap() = value;
            violations.push((here.to_owned(), bad));
        };
        instead(match key.kind {
            Kind::Bool | Kind::Int | Kind::Real | Kind::Date | Kind::Dict => json!("something"),
            Kind::Data => json!("%%"),
            Kind::String | Kind::Array => json!(true),
            Kind::Any => Json::Null,
        });
        if let Some(first) = key.allowed.first() {
            instead(if first.is_string() { json!("unheard of") } else { json!(987_654) });
        }
        if let Some([least, most]) = key.range {
            let whole = |number: f64| number.to_string().parse::<i64>().unwrap();
            least.into_iter().for_each(|least| instead(json!(whole(least) - 1)));
            most.into_iter().for_each(|most| instead(json!(whole(most) + 1)));
        }
        if let Some([least, most]) = key.repeat {
            let element = &good.pointer(here).unwrap()[0];
            least.into_iter().for_each(|least| instead(vec![element.clone(); least - 1].into()));
            most.into_iter().for_each(|most| instead(vec![element.clone(); most + 1].into()));
        }
        if key.required && !matches!(key.name.as_str(), "" | "*") {
            let mut bad = good.clone();
            let (parent, name) = here.rsplit_once('/').unwrap();
            bad.pointer_mut(parent).unwrap().as_object_mut().unwrap().shift_remove(name).unwrap();
            violations.push((here.to_owned(), bad));
        }
        if !key.keys.is_empty() && key.keys.iter().all(|key| key.name != "*") {
            let mut bad = good.clone();
            bad.pointer_mut(here).unwrap()["Unheardof"] = json!(1);
            violations.push((format!("{here}/Unheardof"), bad));
        }
    });
    violations
}
