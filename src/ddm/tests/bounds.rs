//! What one device may cost the others, and what is computed once for many.

use super::*;
use crate::ddm::status::{self, Said, change, error, item};

fn said(report: &Json) -> Said {
    Said::read(report.to_string().into_bytes()).unwrap()
}

#[tokio::test]
async fn what_was_written_is_read_once_and_never_from_an_edit_that_was_rolled_back() {
    let (_folder, store) = temporary();
    let edit = |name: &'static str, fails: bool| {
        move |tx: &Tx<'_>| {
            put_group(tx, &group(name, 1, &[]))?;
            let plan = Plan::current(tx)?;
            assert!(std::sync::Arc::ptr_eq(&plan, &Plan::current(tx)?));
            if fails { Err(Error::invalid("no")) } else { Ok(()) }
        }
    };
    store.write("test", edit("kept", false)).await.unwrap();
    assert!(store.write("test", edit("rolled back", true)).await.is_err());
    // It has the number that the other had.
    store.write("test", edit("new", false)).await.unwrap();
    let join = |tx: &Tx<'_>| {
        group::join(tx, "A", "of a link")?;
        let manifest = Plan::current(tx)?.manifest(tx, &phone("A"))?;
        Ok(manifest.groups)
    };
    assert_eq!(store.write("test", join).await.unwrap(), ["of a link"]);
    let names = |tx: &Tx<'_>| {
        for name in ["kept", "new", "rolled back"] {
            if group::get(tx, name)?.is_some() {
                group::add_member(tx, name, "A", EDIT)?;
            }
        }
        Ok(Plan::current(tx)?.manifest(tx, &phone("A"))?.groups)
    };
    assert_eq!(store.write("test", names).await.unwrap(), ["kept", "new", "of a link"]);
}

#[tokio::test]
async fn a_report_of_thousands_of_odd_things_leaves_a_few_words() {
    let (_folder, store) = temporary();
    with(&store, |tx| {
        let large = "x".repeat(item::LARGEST);
        let items: Map<String, Json> = (0..30).map(|n| (format!("i{n}"), large.as_str().into())).collect();
        status::take(tx, "A", &said(&json!({"StatusItems": items})))?;
        assert_eq!(error::errors(tx, "A")?.len(), 20);
        let wide: Map<String, Json> = (0..50_000).map(|n| (format!("w{n}"), n.into())).collect();
        status::take(tx, "A", &said(&json!({"StatusItems": {"deep": wide}})))?;
        assert!(item::values(tx, "A", "")?.len() <= 2000);
        let errors = error::errors(tx, "A")?;
        assert!(errors.iter().any(|error| error.reasons.to_string().contains("more than 2000 items")));
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_history_holds_no_long_values_and_goes_with_the_device() {
    let (_folder, store) = temporary();
    with(&store, |tx| {
        let long =
            json!({"StatusItems": {"softwareupdate": {"failure-reason": {"reason": "y".repeat(5000)}}}});
        status::take(tx, "A", &said(&long))?;
        let changes = change::changes(tx, "A", 10)?;
        assert_eq!(changes[0].value, Some("(a value too long for the history)".into()));
        assert_eq!(
            item::values(tx, "A", "softwareupdate")?[0].value,
            Some(json!({"reason": "y".repeat(5000)}))
        );
        change::forget(tx, "A")?;
        assert!(change::changes(tx, "A", 10)?.is_empty());
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_device_that_changes_all_day_and_fetches_nothing_is_woken_once() {
    let (_folder, store) = temporary();
    with(&store, |tx| {
        put(tx, &configuration("c", "1"))?;
        group::add_declaration(tx, "default", "c", EDIT)?;
        let version = |version: &str| Subject { version: Some(version.into()), ..phone("A") };
        // Tags are among the properties that a device gets.
        let tagged = |tag: usize| Subject { tags: vec![tag.to_string()], ..version("26.1") };
        let refresh = |subject: &Subject| sync::refresh(tx, &*Plan::current(tx)?, subject);
        assert!(refresh(&tagged(0))?.wake);
        assert!(sync::ask(tx, "A")?.is_some());
        for tag in 1..50 {
            let refreshed = refresh(&tagged(tag))?;
            assert!(refreshed.changed && !refreshed.wake, "{tag}");
            assert!(sync::ask(tx, "A")?.is_none(), "{tag}");
        }
        // An edit is news, and so is a change after it fetched what it was to have.
        put(tx, &configuration("c", "2"))?;
        assert!(refresh(&tagged(49))?.wake);
        let token = sync::find(tx, "A")?.unwrap().token;
        sync::told(tx, "A", &token)?;
        assert!(refresh(&tagged(50))?.wake);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_channel_of_which_something_else_is_known_is_looked_at_again() {
    let (_folder, store) = temporary();
    with(&store, |tx| {
        sync::refresh(tx, &*Plan::current(tx)?, &phone("A"))?;
        assert!(!sync::is_stale(tx, "A")? && sync::stale(tx, "", 10)?.is_empty());
        sync::mark_stale(tx, "A")?;
        assert!(sync::is_stale(tx, "A")? && sync::is_pending(tx, "A", tx.now())?);
        assert_eq!(sync::stale(tx, "", 10)?, ["A"]);
        sync::refresh(tx, &*Plan::current(tx)?, &phone("A"))?;
        assert!(!sync::is_stale(tx, "A")?);
        Ok(())
    })
    .await;
}
