//! What devices and edits do again and again, and what is left of it.

use super::*;
use crate::clock::{DAY, HOUR};
use crate::ddm::{erase, generation, plans, snapshot};

fn count(conn: &Connection, table: &str) -> i64 {
    conn.query_row(&format!("SELECT COUNT(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

/// A group of its own for everybody, with one configuration.
fn everybody_has(tx: &Tx<'_>, echo: &str) -> Result<()> {
    put(tx, &configuration("c", echo))?;
    group::add_declaration(tx, "default", "c", EDIT).map(drop)
}

#[tokio::test]
async fn a_plan_that_was_rolled_back_is_never_taken_for_another() {
    let (_folder, store) = temporary();
    with(&store, |tx| {
        everybody_has(tx, "before")?;
        let before = set_of(tx, "A");
        tx.execute_batch("SAVEPOINT rolled_back")?;
        put(tx, &configuration("c", "rolled back"))?;
        let (lost, counted) = (set_of(tx, "A"), generation::now(tx)?.generation);
        tx.execute_batch("ROLLBACK TO rolled_back; RELEASE rolled_back")?;
        assert_eq!(set_of(tx, "A"), before);
        put(tx, &configuration("c", "after"))?;
        assert_eq!(generation::now(tx)?.generation, counted, "it counts the same");
        assert_ne!(set_of(tx, "A").token, lost.token);
        assert_eq!(plans::present(tx)?.generation, generation::now(tx)?);
        Ok(())
    })
    .await;
    // Readers see the commit, whatever the writer has kept.
    let token = store.peek(|conn| Ok(set_of(conn, "A").token)).unwrap();
    let held = store.write("test", move |tx| {
        put(tx, &configuration("c", "not yet"))?;
        Ok(set_of(tx, "A").token != token)
    });
    assert!(held.await.unwrap());
}

#[tokio::test]
async fn a_group_that_is_made_is_an_edit_and_a_device_that_joins_one_is_none() {
    let (_folder, store) = temporary();
    with(&store, |tx| {
        let first = generation::now(tx)?;
        group::ensure(tx, "Class 4b")?;
        let made = generation::now(tx)?;
        assert_eq!((made.generation, made.notify), (first.generation + 1, first.notify));
        group::ensure(tx, "Class 4b")?;
        for id in ["A", "B"] {
            sync::refresh(tx, &Plan::read(tx)?, &phone(id))?;
        }
        group::join(tx, "A", "Class 4b")?;
        assert_eq!(generation::now(tx)?, made);
        assert!(sync::is_stale(tx, "A", tx.now())? && !sync::is_stale(tx, "B", tx.now())?);
        assert_eq!(sync::marked(tx, "", 10)?, ["A"]);
        sync::refresh(tx, &Plan::read(tx)?, &phone("A"))?;
        group::join(tx, "A", "Class 4b")?;
        assert!(!sync::is_stale(tx, "A", tx.now())?, "it was in it already");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_device_that_changes_its_own_set_is_not_woken_for_ever() {
    let (_folder, store) = temporary();
    with(&store, |tx| {
        everybody_has(tx, "1")?;
        let say = |version: u32| {
            let mut subject = phone("A");
            // The tag is in what the server makes for it, so that its set is another each time.
            subject.tags = vec![version.to_string()];
            sync::refresh(tx, &*plans::present(tx)?, &subject)
        };
        say(0)?;
        let mut asked = 0;
        let mut sets = std::collections::BTreeSet::new();
        for version in 1..50 {
            let refreshed = say(version)?;
            assert!(refreshed.wake);
            if refreshed.changed {
                assert_eq!(refreshed.not_before, None);
                assert!(sync::ask(tx, "A")?.is_some());
                asked += 1;
            } else {
                assert_eq!(refreshed.not_before, Some(tx.now() + HOUR));
                assert!(sync::ask(tx, "A")?.is_none());
            }
            sets.insert(sync::find(tx, "A")?.unwrap().token);
        }
        assert_eq!(sets.len(), 6, "nor does it fill the disk with sets that nobody asks for");
        let kept: i64 = tx.query_row("SELECT COUNT(*) FROM snapshots", [], |row| row.get(0))?;
        assert_eq!(kept, 7, "these and the first");
        assert_eq!(asked, 6);
        assert_eq!(sync::pause(tx, "A", tx.now())?, Some(HOUR));
        assert!(!sync::is_pending(tx, "A", tx.now() + HOUR - 1)?);
        assert!(sync::is_pending(tx, "A", tx.now() + HOUR)?, "in the end it is told");
        assert!(sync::is_pending(tx, "A", tx.now() - 1)?, "a clock that went back");
        assert!(sync::is_stale(tx, "A", tx.now() + HOUR)? && !sync::is_stale(tx, "A", tx.now() + HOUR - 1)?);
        sync::calm(tx, "A")?;
        assert!(say(50)?.changed, "what a person says of it is heeded at once");
        everybody_has(tx, "2")?;
        assert_eq!(say(51)?.not_before, None);
        assert!(sync::ask(tx, "A")?.is_some(), "what a person changed is said at once");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn sets_that_nobody_has_go_and_contents_with_them() {
    let (folder, store) = temporary();
    with(&store, |tx| {
        for echo in 0..20 {
            everybody_has(tx, &echo.to_string())?;
            sync::refresh(tx, &Plan::read(tx)?, &phone("A"))?;
            if echo == 0 {
                sync::told(tx, "A", &sync::find(tx, "A")?.unwrap().token)?;
            }
        }
        assert_eq!((snapshot::outlived(tx, tx.now(), 100)?.len(), count(tx, "snapshots")), (0, 20));
        // Two days later.
        for table in ["snapshots", "versions"] {
            tx.execute(&format!("UPDATE {table} SET used_at = used_at - ?1"), [2 * DAY])?;
        }
        assert!(snapshot::outlived_versions(tx, tx.now())?.is_empty(), "a set names each of them");
        while let some @ [_, ..] = &*snapshot::outlived(tx, tx.now(), 7)? {
            assert!(some.len() <= 7);
            snapshot::remove(tx, some)?;
        }
        assert_eq!(count(tx, "snapshots"), 2, "the one that it should have, and the one that it was told");
        let old = snapshot::outlived_versions(tx, tx.now())?;
        assert_eq!(old.len(), 18);
        // What is used again meanwhile stays.
        everybody_has(tx, "5")?;
        snapshot::remove_versions(tx, &old)?;
        let answer = |echo: &str| {
            let endpoint = sync::Endpoint::named("declaration/configuration/c").unwrap();
            let body = sync::answer(tx, "A", &endpoint, tx.now()).unwrap().unwrap().body;
            assert_eq!(serde_json::from_slice::<Json>(&body).unwrap()["Payload"]["Echo"], echo);
        };
        answer("0");
        sync::refresh(tx, &Plan::read(tx)?, &phone("A"))?;
        sync::told(tx, "A", &sync::find(tx, "A")?.unwrap().token)?;
        answer("5");
        Ok(())
    })
    .await;
    drop(folder);
}

#[tokio::test]
async fn of_a_channel_that_is_erased_nothing_is_left() {
    let (_folder, store) = temporary();
    with(&store, |tx| {
        everybody_has(tx, "1")?;
        group::join(tx, "A", "g")?;
        sync::refresh(tx, &Plan::read(tx)?, &phone("A"))?;
        let report = json!({
            "StatusItems": {
                "device": {"operating-system": {"version": "26.1"}},
                "management": {"declarations": {"configurations": [{"identifier": "c", "server-token": "1"}]}},
            },
            "Errors": [{"StatusItem": "a"}],
        });
        crate::ddm::status::take(tx, "A", report.to_string().as_bytes())?;
        let mut statement = tx.prepare(
            "SELECT m.name FROM sqlite_schema AS m JOIN pragma_table_info(m.name) AS c
             WHERE m.type = 'table' AND c.name = 'enrollment_id'",
        )?;
        let tables = statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        let held = |name: &&String| {
            let sql = format!("SELECT COUNT(*) FROM {name} WHERE enrollment_id = 'A'");
            tx.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap() > 0
        };
        assert_eq!(tables.iter().filter(held).count(), 7, "{tables:?}");
        erase(tx, "A")?;
        assert_eq!(tables.iter().filter(held).count(), 0);
        Ok(())
    })
    .await;
}
