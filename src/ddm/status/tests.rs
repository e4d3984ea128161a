//! Reports taken one after another, on a store of its own.

mod hostile;

use serde_json::{Value as Json, json};

use super::*;
use crate::storage::tests::temporary;

async fn told(reports: Vec<Json>, look: impl FnOnce(&Tx<'_>) + Send + 'static) {
    let (_folder, store) = temporary();
    store
        .write("test", move |tx| {
            for report in reports {
                take(tx, "A", report.to_string().as_bytes())?;
            }
            look(tx);
            Ok(())
        })
        .await
        .unwrap();
}

fn item(tx: &Tx<'_>, name: &str) -> Json {
    value(tx, "A", name).unwrap().unwrap_or_else(|| json!("unknown"))
}

#[tokio::test]
async fn reports_are_incremental_and_a_full_one_replaces_all() {
    let first = json!({"StatusItems": {
        "device": {"operating-system": {"version": "26.1"}, "model": {"family": "iPhone"}},
        "new-of-apple": {"thing": {"of": 1}},
    }});
    let second = json!({"StatusItems": {"device": {"operating-system": {"version": "26.2"}}}});
    let full = json!({"FullReport": true, "StatusItems": {"device": {"model": {"family": "iPad"}}}});
    told(vec![first.clone(), second.clone()], |tx| {
        assert_eq!(item(tx, "device.operating-system.version"), "26.2");
        assert_eq!(item(tx, "device.model.family"), "iPhone");
        assert_eq!(item(tx, "new-of-apple.thing.of"), 1);
        let history = change::changes(tx, "A", 10).unwrap();
        assert_eq!(
            history.iter().map(|change| change.value.clone().unwrap()).collect::<Vec<_>>(),
            ["26.2", "26.1"]
        );
        assert_eq!(report::reports(tx, "A").unwrap().len(), 2);
        assert_eq!(item::values(tx, "A", "device.").unwrap().len(), 2);
    })
    .await;
    told(vec![first, second, full], |tx| {
        assert_eq!(item(tx, "device.operating-system.version"), "unknown");
        assert_eq!(item(tx, "device.model.family"), "iPad");
        assert_eq!(item::values(tx, "A", "").unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn elements_of_lists_are_known_by_their_identifiers() {
    let apps = |list: Json| json!({"StatusItems": {"mdm": {"app": list}}});
    let reports = vec![
        apps(json!([{"identifier": "a", "state": "queued"}, {"identifier": "b"}, {"identifier": "gone"}])),
        apps(json!([{"identifier": "gone", "_removed": true}, {"identifier": "a", "state": "managed"}])),
        apps(json!([{"identifier": "never", "_removed": true}, {"identifier": "c", "_removed": false}])),
    ];
    told(reports, |tx| {
        let expected =
            json!([{"identifier": "a", "state": "managed"}, {"identifier": "b"}, {"identifier": "c"}]);
        assert_eq!(item(tx, "mdm.app"), expected);
    })
    .await;
}

#[tokio::test]
async fn states_are_replaced_when_a_report_speaks_of_them_and_else_stay() {
    let report = |configurations: Json| {
        json!({"StatusItems": {"management": {"declarations": {
            "activations": [], "assets": [], "management": [], "configurations": configurations,
        }}}})
    };
    let one = |token: &str, valid: &str| json!({"identifier": "c", "server-token": token, "active": true, "valid": valid});
    let both = report(json!([one("1", "valid"), one("2", "odd"), {"identifier": 7}, "x"]));
    let unrelated = json!({"StatusItems": {"device": {"model": {"family": "iPhone"}}}});
    told(vec![both.clone(), unrelated], |tx| {
        let states = declared::states(tx, "A").unwrap();
        assert_eq!(states.len(), 2);
        assert_eq!(states[&("c".into(), "1".into())].valid, "valid");
        assert_eq!(states[&("c".into(), "2".into())].valid, "unknown");
    })
    .await;
    told(vec![both, report(json!([]))], |tx| assert!(declared::states(tx, "A").unwrap().is_empty())).await;
}

#[tokio::test]
async fn errors_are_kept_once_and_bounded() {
    let error = |item: &str| json!({"StatusItem": item, "Reasons": [{"Code": "Error.X"}]});
    let mut reports = vec![json!({"Errors": [error("a"), error("a"), "x", {"StatusItem": 1}]})];
    told(reports.clone(), |tx| {
        let errors = error::errors(tx, "A").unwrap();
        assert_eq!((errors.len(), errors[0].item.as_str()), (1, "a"));
    })
    .await;
    reports.push(json!({"Errors": (0..300).map(|n| error(&n.to_string())).collect::<Vec<_>>()}));
    told(reports, |tx| assert_eq!(error::errors(tx, "A").unwrap().len(), 100)).await;
}

#[tokio::test]
async fn what_is_too_much_is_not_kept_and_disturbs_nothing() {
    let large = "x".repeat(item::LARGEST);
    let many: serde_json::Map<String, Json> = (0..3000).map(|n| (format!("i{n}"), n.into())).collect();
    let reports = vec![
        json!({"StatusItems": {"device": {"model": {"family": large, "number": "M"}}}}),
        json!({"StatusItems": many}),
        json!({"StatusItems": 7, "Errors": {}, "FullReport": "yes"}),
        json!({}),
    ];
    told(reports, |tx| {
        assert_eq!(item(tx, "device.model.family"), "unknown");
        assert_eq!(item(tx, "device.model.number"), "M");
        assert_eq!(item::values(tx, "A", "").unwrap().len(), MOST_ITEMS);
        assert!(error::errors(tx, "A").unwrap().iter().any(|error| error.item == "device.model.family"));
        for wrong in [&b"[]"[..], b"{", b"{\"a\": 1e309}", b"{\"a\": \"\\ud800\"}"] {
            assert!(take(tx, "A", wrong).is_err());
        }
    })
    .await;
}

#[tokio::test]
async fn a_list_that_was_not_kept_is_not_taken_for_its_last_part() {
    let list = |count: usize, first: usize| {
        let elements: Vec<Json> = (first..first + count)
            .map(|n| json!({"identifier": n.to_string(), "name": "x".repeat(100)}))
            .collect();
        json!({"StatusItems": {"mdm": {"app": elements}}})
    };
    told(vec![list(1000, 0), list(1, 5)], |tx| assert_eq!(item(tx, "mdm.app"), "unknown")).await;
    let full = json!({"FullReport": true, "StatusItems": {"mdm": {"app": [{"identifier": "1"}]}}});
    told(vec![list(1000, 0), full], |tx| assert_eq!(item(tx, "mdm.app"), json!([{"identifier": "1"}]))).await;
}
