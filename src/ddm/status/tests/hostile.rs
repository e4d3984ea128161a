//! Reports that are meant to be too much.

use super::*;
use crate::clock::{DAY, HOUR};

#[tokio::test]
async fn a_report_of_too_many_values_is_taken_and_not_read() {
    let report = json!({"StatusItems": {"device": {"model": {"family": vec![0; 120_000]}}}});
    told(vec![report], |tx| {
        assert!(item::values(tx, "A", "").unwrap().is_empty());
        let errors = error::errors(tx, "A").unwrap();
        assert_eq!((errors.len(), errors[0].item.as_str()), (1, ""));
        let words = errors[0].reasons[0]["Description"].as_str().unwrap().to_owned();
        assert!(words.contains("100000 values are the most"), "{words}");
    })
    .await;
}

#[tokio::test]
async fn remarks_on_a_report_are_few_and_stay_with_a_full_one() {
    let large = "x".repeat(item::LARGEST);
    let many: serde_json::Map<String, Json> =
        (0..31).map(|n| (format!("i{n:02}"), large.clone().into())).collect();
    told(vec![json!({"FullReport": true, "StatusItems": many})], |tx| {
        let errors = error::errors(tx, "A").unwrap();
        assert_eq!(errors.len(), 21);
        let last = errors[0].reasons[0]["Description"].as_str().unwrap();
        assert_eq!(last, "11 more items of a report were not kept.");
        assert!(item::values(tx, "A", "").unwrap().iter().all(|item| item.value.is_none()));
    })
    .await;
}

#[tokio::test]
async fn room_is_counted_in_bytes() {
    // Four bytes each, and one character.
    let large = "\u{1f600}".repeat(15_000);
    let many: serde_json::Map<String, Json> =
        (0..40).map(|n| (format!("i{n:02}"), large.clone().into())).collect();
    let one_by_one = many.into_iter().map(|(name, value)| json!({"StatusItems": {name: value}}));
    told(one_by_one.collect(), |tx| {
        let bytes: usize = item::values(tx, "A", "")
            .unwrap()
            .iter()
            .filter_map(|item| item.value.as_ref())
            .map(|value| value.to_string().len())
            .sum();
        assert!((900 * 1024..=1024 * 1024).contains(&bytes), "{bytes}");
    })
    .await;
}

#[tokio::test]
async fn the_history_of_a_large_value_says_how_large_it_was() {
    let says = |value: Json| json!({"StatusItems": {"device": {"power": {"battery-health": value}}}});
    let small = "x".repeat(change::LARGEST - 2);
    let reports = vec![
        says(small.clone().into()),
        says(format!("{small}y").into()),
        json!({"FullReport": true, "StatusItems": {}}),
    ];
    told(reports, |tx| {
        let changes = change::changes(tx, "A", 10).unwrap();
        let seen: Vec<_> = changes.iter().map(|change| (change.value.is_some(), change.size)).collect();
        assert_eq!(seen, [(false, None), (false, Some(1025)), (true, None)]);
    })
    .await;
}

#[tokio::test]
async fn what_is_said_again_within_the_hour_is_no_news_unless_something_was_said_between() {
    let (first, second) = (json!({"StatusItems": {"a": 1}}), json!({"StatusItems": {"a": 2}}));
    let long = json!({"StatusItems": {"a": "x".repeat(report::LONGEST)}});
    let repeated = |tx: &Tx<'_>, report: &Json, after: Seconds| {
        is_repeated(tx, "A", report.to_string().as_bytes(), tx.now() + after).unwrap()
    };
    let (one, other) = (first.clone(), second.clone());
    told(vec![first.clone()], move |tx| {
        assert!(repeated(tx, &one, HOUR - 1) && !repeated(tx, &one, HOUR) && !repeated(tx, &one, -1));
        assert!(!repeated(tx, &other, 0) && !is_repeated(tx, "B", b"{}", tx.now()).unwrap());
    })
    .await;
    let one = first.clone();
    told(vec![first.clone(), second], move |tx| assert!(!repeated(tx, &one, 0))).await;
    let (one, other) = (first.clone(), long.clone());
    told(vec![first, long], move |tx| {
        assert!(!repeated(tx, &one, 0) && !repeated(tx, &other, 0));
        let last = report::reports(tx, "A").unwrap().remove(0).1;
        assert!(String::from_utf8(last).unwrap().contains("is not shown"));
    })
    .await;
}

#[tokio::test]
async fn history_is_thinned_but_for_the_latest_of_each_kind() {
    let says = |version: u32, item: &str| {
        json!({
            "StatusItems": {"device": {"operating-system": {"version": version.to_string()}}},
            "Errors": [{"StatusItem": item, "Reasons": [{"Code": version.to_string()}]}],
        })
    };
    told(vec![says(1, "a"), says(2, "a"), says(3, "b")], |tx| {
        let later = tx.now() + DAY;
        for limit in [1, 100] {
            change::thin(tx, later, limit).unwrap();
            report::thin(tx, later, limit).unwrap();
            error::thin(tx, later, limit).unwrap();
        }
        let changes = change::changes(tx, "A", 10).unwrap();
        assert_eq!((changes.len(), changes[0].value.clone()), (1, Some(json!("3"))));
        assert_eq!(report::reports(tx, "A").unwrap().len(), 1);
        let errors = error::errors(tx, "A").unwrap();
        assert_eq!(errors.iter().map(|error| error.item.as_str()).collect::<Vec<_>>(), ["b", "a"]);
    })
    .await;
}
