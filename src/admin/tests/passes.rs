//! The way through all channels after an edit, where some of them cannot be looked at.

use std::time::Duration;

use serde_json::json;

use super::House;
use super::declarations::passcode;
use crate::ddm;
use crate::error::Result;
use crate::mdm::sync::Pass;

/// Goes on until there is nothing more to do; answers in how many steps.
async fn walk(house: &House, pass: &mut Pass) -> Result<usize> {
    for steps in 1..100 {
        if !pass.step(&house.app.mdm).await? {
            return Ok(steps);
        }
    }
    panic!("it never ends");
}

async fn sql(house: &House, text: &'static str) {
    house.app.store.write("test.sql", move |tx| Ok(tx.execute_batch(text)?)).await.unwrap();
}

/// Those whose set was looked at since the last edit.
fn looked_at(house: &House) -> String {
    let now = house.clock.now();
    let is_fresh = |id: &&str| !house.app.store.peek(|conn| ddm::sync::is_stale(conn, id, now)).unwrap();
    ["A", "B", "C", "D"].into_iter().filter(is_fresh).collect()
}

async fn edit(house: &House, length: u32) {
    house.put("/api/v1/declarations/passcode", &passcode("passcode", length)).await.ok();
}

async fn four() -> House {
    let house = House::new().await;
    edit(&house, 4).await;
    house.put("/api/v1/groups/default", &json!({"declarations": ["passcode"]})).await.ok();
    for udid in ["A", "B", "C", "D"] {
        house.enrolled(udid).await;
    }
    walk(&house, &mut Pass::default()).await.unwrap();
    house
}

#[tokio::test]
async fn what_fails_is_set_aside_and_tried_again_also_if_all_fail() {
    let house = four().await;
    let mut pass = Pass::default();
    walk(&house, &mut pass).await.unwrap();
    assert_eq!(looked_at(&house), "ABCD");
    edit(&house, 5).await;
    sql(
        &house,
        "CREATE TRIGGER broken BEFORE UPDATE ON syncs WHEN NEW.enrollment_id > 'A'
         BEGIN SELECT RAISE(ABORT, 'broken'); END",
    )
    .await;
    walk(&house, &mut pass).await.unwrap();
    assert_eq!(looked_at(&house), "A");
    house.clock.advance(crate::clock::HOUR);
    walk(&house, &mut pass).await.unwrap();
    assert_eq!(looked_at(&house), "A");
    sql(&house, "DROP TRIGGER broken").await;
    walk(&house, &mut pass).await.unwrap();
    assert_eq!(looked_at(&house), "A", "it is not the time");
    house.clock.advance(crate::clock::HOUR);
    walk(&house, &mut pass).await.unwrap();
    assert_eq!(looked_at(&house), "ABCD");

    // All of them; and an edit does not wait for the hour.
    edit(&house, 6).await;
    sql(&house, "CREATE TRIGGER broken BEFORE UPDATE ON syncs BEGIN SELECT RAISE(ABORT, 'broken'); END")
        .await;
    walk(&house, &mut pass).await.unwrap();
    assert_eq!(looked_at(&house), "");
    sql(&house, "DROP TRIGGER broken").await;
    edit(&house, 7).await;
    walk(&house, &mut pass).await.unwrap();
    assert_eq!(looked_at(&house), "ABCD");
}

#[tokio::test]
async fn where_nothing_can_be_written_nobody_is_set_aside() {
    let house = four().await;
    let mut pass = Pass::default();
    edit(&house, 5).await;
    sql(
        &house,
        "CREATE TRIGGER full BEFORE UPDATE ON syncs BEGIN SELECT RAISE(ABORT, 'full'); END;
         CREATE TRIGGER fuller BEFORE UPDATE ON generations BEGIN SELECT RAISE(ABORT, 'full'); END",
    )
    .await;
    walk(&house, &mut pass).await.unwrap_err();
    sql(&house, "DROP TRIGGER full; DROP TRIGGER fuller").await;
    walk(&house, &mut pass).await.unwrap();
    assert_eq!(looked_at(&house), "ABCD");
}

#[tokio::test]
async fn dear_channels_are_looked_at_one_by_one() {
    let house = four().await;
    let mut pass = Pass::at_pace(Duration::ZERO);
    edit(&house, 5).await;
    for looked in ["A", "AB", "ABC", "ABCD"] {
        assert!(pass.step(&house.app.mdm).await.unwrap());
        assert_eq!(looked_at(&house), looked);
    }
}
