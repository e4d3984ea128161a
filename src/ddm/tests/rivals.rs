//! Types of which a device may have only one: who wins, and that nobody gives way to what is not there.

use super::*;

const SINGLE: &str = "com.apple.configuration.watch.enrollment";

fn single(identifier: &str) -> Json {
    let payload = json!({"EnrollmentProfileURL": "https://example.org/"});
    json!({"Type": SINGLE, "Identifier": identifier, "Payload": payload})
}

fn of_mac(identifier: &str) -> Json {
    let name = "com.apple.configuration.diskmanagement.settings";
    json!({"Type": name, "Identifier": identifier, "Payload": {}})
}

fn words(set: &Manifest, identifier: &str) -> String {
    let out = set.left_out.iter().find(|out| out.identifier == identifier);
    out.unwrap_or_else(|| panic!("{identifier} is not left out")).words.clone()
}

#[tokio::test]
async fn a_winner_that_the_device_does_not_get_wins_nothing() {
    let (_folder, store) = temporary();
    with(&store, |tx| {
        put(tx, &single("first"))?;
        put(tx, &single("second"))?;
        put(tx, &of_mac("mac"))?;
        put(tx, &activation("both", &["first", "mac"]))?;
        put_group(tx, &group("early", 1, &["both"]))?;
        put_group(tx, &group("late", 2, &["second"]))?;
        for name in ["early", "late"] {
            group::add_member(tx, name, "A", EDIT)?;
        }
        let set = set_of(tx, "A");
        assert!(identifiers(&set).contains(&"second"), "{:?}", set.left_out);
        assert!(words(&set, "both").contains("names mac"));
        assert!(words(&set, "first").contains("together with what names it"));
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn the_group_that_has_it_decides_and_not_one_that_names_it_in_vain() {
    let (_folder, store) = temporary();
    with(&store, |tx| {
        put(tx, &single("x"))?;
        put(tx, &single("y"))?;
        put(tx, &of_mac("mac"))?;
        put(tx, &activation("vain", &["x", "mac"]))?;
        put_group(tx, &group("a", 1, &["vain"]))?;
        put_group(tx, &group("b", 2, &["y"]))?;
        put_group(tx, &group("c", 3, &["x"]))?;
        for name in ["a", "b", "c"] {
            group::add_member(tx, name, "A", EDIT)?;
        }
        let set = set_of(tx, "A");
        assert!(identifiers(&set).contains(&"y"));
        assert!(words(&set, "x").contains("y of the group b comes first"), "{}", words(&set, "x"));
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn what_names_a_loser_is_left_out_whole() {
    let (_folder, store) = temporary();
    with(&store, |tx| {
        put(tx, &single("x"))?;
        put(tx, &single("y"))?;
        put(tx, &configuration("c", "1"))?;
        put(tx, &activation("late", &["c", "y"]))?;
        put_group(tx, &group("a", 1, &["x"]))?;
        put_group(tx, &group("b", 2, &["late"]))?;
        for name in ["a", "b"] {
            group::add_member(tx, name, "A", EDIT)?;
        }
        let set = set_of(tx, "A");
        assert!(words(&set, "y").contains("x of the group a comes first"));
        assert!(words(&set, "late").contains("names y"));
        assert!(words(&set, "c").contains("together with what names it"));
        Ok(())
    })
    .await;
}
