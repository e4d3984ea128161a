//! What is written against what a channel should have, on a store of its own.

mod rivals;
mod robust;

use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::{Map, Value as Json, json};

use super::declaration::{self, Put};
use super::group::{self, Group};
use super::manifest::{self, Manifest, Plan};
use super::{Edit, Subject, sync};
use crate::error::{Error, Result};
use crate::schema::declarations::check;
use crate::schema::platform::Platform;
use crate::schema::table::{Enrollment, Scope};
use crate::storage::tests::temporary;
use crate::storage::{Store, Tx};

const EDIT: Edit<'_> = Edit { actor: "test", notify: true };

fn phone(id: &str) -> Subject {
    let mut keys = Map::new();
    for (name, value) in [("id", id), ("os_version", "26.1"), ("product_name", "iPhone17,3")] {
        keys.insert(name.into(), value.into());
    }
    Subject {
        id: id.into(),
        device_id: id.into(),
        keys,
        tags: vec!["lab".into()],
        platform: Some(Platform::Ios),
        version: Some("26.1".into()),
        enrollment: Enrollment::Supervised,
        channel: Scope::System,
        shared_ipad: false,
        held: false,
    }
}

fn put(tx: &Tx<'_>, declaration: &Json) -> Result<Put> {
    declaration::put(tx, &check(declaration, false)?, false, EDIT)
}

fn configuration(identifier: &str, echo: &str) -> Json {
    json!({
        "Type": "com.apple.configuration.management.test",
        "Identifier": identifier,
        "Payload": {"Echo": echo},
    })
}

fn activation(identifier: &str, names: &[&str]) -> Json {
    json!({
        "Type": "com.apple.activation.simple",
        "Identifier": identifier,
        "Payload": {"StandardConfigurations": names},
    })
}

fn group(name: &str, order: i64, declarations: &[&str]) -> Group {
    Group {
        name: name.into(),
        order,
        declarations: declarations.iter().map(|name| (*name).to_owned()).collect(),
        ..Group::default()
    }
}

fn put_group(tx: &Tx<'_>, group: &Group) -> Result<bool> {
    group::put(tx, group, &|id| Ok(id != "nobody"), EDIT)
}

/// The identifiers of a set, but for those that the server makes for everybody.
fn identifiers(manifest: &Manifest) -> Vec<&str> {
    let all = manifest.items.iter().map(|item| item.identifier.as_str());
    all.filter(|name| !name.starts_with("russet.") || name.starts_with("russet.group.")).collect()
}

async fn with<T: Send + 'static>(
    store: &Store,
    work: impl FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
) -> T {
    store.write("test", work).await.unwrap()
}

fn set_of(conn: &Connection, id: &str) -> Manifest {
    manifest::of(conn, &phone(id)).unwrap()
}

fn refused<T: std::fmt::Debug>(answer: Result<T>) -> (String, String) {
    match answer {
        Err(Error::Invalid { words, pointer, .. }) => (pointer.unwrap_or_default(), words),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_declaration_that_names_what_is_not_there_is_refused_and_one_in_use_stays() {
    let (_folder, store) = temporary();
    with(&store, |tx| {
        let (pointer, words) = refused(put(tx, &activation("a", &["c"])));
        assert_eq!(pointer, "/Payload/StandardConfigurations/0");
        assert!(words.contains("no declaration c"), "{words}");
        let first = put(tx, &configuration("c", "1"))?;
        assert!(first.changed && first.server_token.len() == 64);
        assert!(!put(tx, &configuration("c", "1"))?.changed);
        put(tx, &activation("a", &["c"]))?;
        assert_eq!(refused(put(tx, &activation("b", &["a"]))).0, "/Payload/StandardConfigurations/0");
        put_group(tx, &group("g", 100, &["c"]))?;
        let Err(Error::Conflict { details, .. }) = declaration::delete(tx, "c", EDIT) else { panic!() };
        assert_eq!(details["users"], json!([{"declaration": "a"}, {"group": "g"}]));
        // What is named as a configuration cannot become something else.
        assert!(matches!(put(tx, &activation("c", &[])), Err(Error::Conflict { .. })));
        declaration::delete(tx, "a", EDIT)?;
        group::delete(tx, "g", EDIT)?;
        declaration::delete(tx, "c", EDIT)?;
        assert!(matches!(declaration::delete(tx, "c", EDIT), Err(Error::NotFound(_))));
        assert_eq!(refused(put(tx, &configuration("russet.x", "1"))).0, "/Identifier");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_predicate_that_does_not_parse_needs_force() {
    let (_folder, store) = temporary();
    with(&store, |tx| {
        let mut declaration = activation("a", &[]);
        declaration["Payload"]["Predicate"] = "(device.model.family == 'iPad')".into();
        let checked = check(&declaration, false)?;
        let Err(Error::Invalid { pointer, suggestion, .. }) = declaration::put(tx, &checked, false, EDIT)
        else {
            panic!()
        };
        assert_eq!(pointer.as_deref(), Some("/Payload/Predicate"));
        assert!(suggestion.unwrap().contains("@status(device.model.family)"));
        assert_eq!(declaration::put(tx, &checked, true, EDIT)?.warnings.len(), 1);
        declaration["Payload"]["Predicate"] = "@status(device.unheard.of) == 1".into();
        assert_eq!(put(tx, &declaration)?.warnings.len(), 1);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_group_is_refused_with_the_place_of_what_is_wrong() {
    let (_folder, store) = temporary();
    with(&store, |tx| {
        let wrong = |change: &dyn Fn(&mut Group)| {
            let mut group = group("g", 100, &[]);
            change(&mut group);
            refused(put_group(tx, &group)).0
        };
        assert_eq!(wrong(&|group| group.members = vec!["A".into(), "nobody".into()]), "/members/1");
        assert_eq!(wrong(&|group| group.declarations = vec!["none".into()]), "/declarations/0");
        assert_eq!(wrong(&|group| group.rule = Some("model ==".into())), "/rule");
        assert_eq!(wrong(&|group| group.rule = Some("name == iPad".into())), "/rule");
        assert_eq!(wrong(&|group| group.predicate = Some("x == 1".into())), "/predicate");
        assert_eq!(wrong(&|group| group.name = "a/b".into()), "/name");
        assert_eq!(wrong(&|group| group.name = String::new()), "/name");
        let everybody = Group { name: "default".into(), members: vec!["A".into()], ..Group::default() };
        assert_eq!(refused(put_group(tx, &everybody)).0, "/members");
        assert!(matches!(group::delete(tx, "default", EDIT), Err(Error::Conflict { .. })));
        assert!(matches!(group::add_member(tx, "g", "A", EDIT), Err(Error::NotFound(_))));
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn members_come_by_hand_by_rule_and_by_default() {
    let (_folder, store) = temporary();
    with(&store, |tx| {
        for (name, rule) in [
            ("hand", None),
            ("rule", Some("os_version >= '26' AND product_name BEGINSWITH 'iPhone'")),
            ("tag", Some("'lab' IN tags")),
            ("other", Some("product_name BEGINSWITH 'iPad'")),
            ("unknown", Some("@status(passcode.is-present) == true")),
        ] {
            put_group(tx, &Group { rule: rule.map(str::to_owned), ..group(name, 100, &[]) })?;
        }
        assert!(group::add_member(tx, "hand", "A", EDIT)?);
        assert!(!group::add_member(tx, "hand", "A", EDIT)?);
        assert_eq!(group::groups_of(tx, &phone("A"))?, ["hand", "rule", "tag"]);
        assert_eq!(group::groups_of(tx, &phone("B"))?, ["rule", "tag"]);
        let user = Subject { device_id: "A".into(), channel: Scope::User, ..phone("A:U") };
        assert_eq!(group::groups_of(tx, &user)?, ["hand", "rule", "tag"]);
        group::leave_all(tx, "A")?;
        group::join(tx, "A", "fresh")?;
        assert_eq!(group::groups_of(tx, &phone("A"))?, ["fresh", "rule", "tag"]);
        super::status::take(tx, "A", br#"{"StatusItems": {"passcode": {"is-present": true}}}"#)?;
        assert_eq!(group::groups_of(tx, &phone("A"))?, ["fresh", "rule", "tag", "unknown"]);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_set_is_closed_and_has_an_activation_for_what_nobody_activates() {
    let (_folder, store) = temporary();
    with(&store, |tx| {
        put(tx, &json!({
            "Type": "com.apple.asset.credential.userpassword",
            "Identifier": "secret",
            "Payload": {"Reference": {"DataURL": "https://example.org/x", "ContentType": "application/json"}},
        }))?;
        put(tx, &json!({
            "Type": "com.apple.configuration.account.caldav",
            "Identifier": "calendar",
            "Payload": {"HostName": "example.org", "AuthenticationCredentialsAssetReference": "secret"},
        }))?;
        put(tx, &configuration("named", "1"))?;
        put(tx, &activation("mine", &["named"]))?;
        let mut wanted = group("g", 100, &["calendar", "mine"]);
        wanted.predicate = Some("@property(shard) <= 50".into());
        wanted.members = vec!["A".into()];
        put_group(tx, &wanted)?;
        let set = set_of(tx, "A");
        let automatic = set.items.iter().find(|item| item.identifier.starts_with("russet.group.")).unwrap();
        assert_eq!(identifiers(&set), [
            "mine",
            automatic.identifier.as_str(),
            "calendar",
            "named",
            "secret"
        ]);
        let payload = &automatic.own.as_ref().unwrap()["Payload"];
        assert_eq!(payload["StandardConfigurations"], json!(["calendar"]));
        assert_eq!(payload["Predicate"], "@property(shard) <= 50");
        assert!(automatic.identifier.len() <= 64 && set.left_out.is_empty());
        assert_eq!(identifiers(&set_of(tx, "B")), Vec::<&str>::new());
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn what_a_device_cannot_have_is_left_out_with_a_sentence() {
    let (_folder, store) = temporary();
    with(&store, |tx| {
        put(
            tx,
            &json!({
                "Type": "com.apple.configuration.diskmanagement.settings",
                "Identifier": "disk",
                "Payload": {"Restrictions": {"ExternalStorage": "Disallowed"}},
            }),
        )?;
        put(tx, &configuration("fine", "1"))?;
        put(tx, &activation("both", &["disk", "fine"]))?;
        put_group(tx, &group("default", 1000, &["both", "fine"]))?;
        let set = set_of(tx, "A");
        assert_eq!(identifiers(&set), ["fine"], "{:?}", set.left_out);
        let words: Vec<&str> = set.left_out.iter().map(|out| out.words.as_str()).collect();
        assert_eq!(
            words,
            ["both is left out because it names disk, which is left out.", "disk cannot be used on iOS.",]
        );
        // Whose system is not known gets it all.
        let set = manifest::of(tx, &Subject { platform: None, ..phone("A") })?;
        assert_eq!(identifiers(&set), ["both", "disk", "fine"]);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn of_what_can_be_there_once_the_first_group_wins() {
    let (_folder, store) = temporary();
    with(&store, |tx| {
        let single = crate::schema::declarations::types()
            .find(|name| {
                use crate::schema::declarations::{Combine, combine, declaration};
                let known = declaration(name).unwrap();
                combine(name) == Combine::Single
                    && known.os.get("iOS").is_some_and(|os| os.includes(Some("26.1")))
                    && known.os["iOS"].scopes.as_ref().is_none_or(|scopes| scopes.contains(&Scope::System))
            })
            .unwrap();
        for name in ["one", "two"] {
            let mut example = crate::schema::declarations::example(single).unwrap();
            example["Identifier"] = name.into();
            put(tx, &example)?;
        }
        put_group(tx, &group("late", 200, &["one"]))?;
        put_group(tx, &group("early", 10, &["two"]))?;
        for name in ["late", "early"] {
            group::add_member(tx, name, "A", EDIT)?;
        }
        let set = set_of(tx, "A");
        assert_eq!(set.left_out.len(), 1);
        assert_eq!(set.left_out[0].identifier, "one");
        assert!(set.left_out[0].words.contains("two of the group early"), "{}", set.left_out[0].words);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_declaration_that_becomes_another_kind_does_not_name_itself() {
    let (_folder, store) = temporary();
    with(&store, |tx| {
        put(tx, &configuration("x", "1"))?;
        group::add_declaration(tx, "default", "x", EDIT)?;
        let itself = json!({
            "Type": "com.apple.activation.simple", "Identifier": "x",
            "Payload": {"StandardConfigurations": ["x"]},
        });
        let refused = put(tx, &itself).unwrap_err();
        assert!(refused.to_string().contains("cannot name itself"), "{refused}");
        // However it came about, it is gone through once.
        tx.execute("INSERT INTO declaration_references VALUES ('x', 'x')", [])?;
        assert!(set_of(tx, "A").items.iter().any(|item| item.identifier == "x"));
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_change_is_worth_one_push_and_a_quiet_one_none_until_it_is_said() {
    let (_folder, store) = temporary();
    with(&store, |tx| {
        let refresh = |subject: &Subject| sync::refresh(tx, &Plan::read(tx)?, subject);
        let subject = phone("A");
        let first = refresh(&subject)?;
        assert!(first.changed && !first.wake, "nothing is declared for it");
        assert!(!sync::is_pending(tx, "A", tx.now())?);
        put(tx, &configuration("first", "1"))?;
        group::add_declaration(tx, "default", "first", EDIT)?;
        assert!(refresh(&subject)?.wake);
        let again = refresh(&subject)?;
        assert!(!again.changed && !again.wake);
        let quietly = Edit { notify: false, ..EDIT };
        put(tx, &configuration("c", "1"))?;
        assert!(!refresh(&subject)?.changed, "no group has it");
        group::add_declaration(tx, "default", "c", quietly)?;
        let quiet = refresh(&subject)?;
        assert!(quiet.changed && !quiet.wake);
        put(tx, &configuration("of.others", "1"))?;
        let said = refresh(&subject)?;
        assert!(!said.changed && said.wake, "an edit that notifies says the earlier ones too");
        put(tx, &configuration("of.others", "2"))?;
        assert!(!refresh(&subject)?.wake, "once");
        // A device that is held hears when it no longer is.
        let held = Subject { held: true, ..phone("B") };
        assert!(!refresh(&held)?.wake);
        assert!(!sync::is_pending(tx, "B", tx.now())?);
        assert!(refresh(&phone("B"))?.wake);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_device_is_served_the_set_that_it_was_told() {
    let (_folder, store) = temporary();
    with(&store, |tx| {
        let answer = |endpoint: &str| {
            let endpoint = sync::Endpoint::named(endpoint)?;
            let answer = sync::answer(tx, "A", &endpoint, tx.now()).unwrap()?;
            if let Some(token) = &answer.tells {
                sync::told(tx, "A", token).unwrap();
            }
            Some(serde_json::from_slice::<Json>(&answer.body).unwrap())
        };
        let refresh = || sync::refresh(tx, &Plan::read(tx)?, &phone("A"));
        assert!(answer("tokens").is_none());
        put(tx, &configuration("c", "1"))?;
        group::add_declaration(tx, "default", "c", EDIT)?;
        refresh()?;
        assert!(sync::is_pending(tx, "A", tx.now())?);
        let items = answer("declaration-items").unwrap();
        assert_eq!(items["DeclarationsToken"], answer("tokens").unwrap()["SyncTokens"]["DeclarationsToken"]);
        assert!(!sync::is_pending(tx, "A", tx.now())?);
        put(tx, &configuration("c", "2"))?;
        refresh()?;
        super::snapshot::remove(tx, &super::snapshot::outlived(tx, tx.now(), 500)?)?;
        super::snapshot::remove_versions(tx, &super::snapshot::outlived_versions(tx, tx.now())?)?;
        assert_eq!(answer("declaration/configuration/c").unwrap()["Payload"]["Echo"], "1");
        let items = answer("declaration-items").unwrap();
        let fetched = answer("declaration/configuration/c").unwrap();
        assert_eq!(fetched["Payload"]["Echo"], "2");
        let list = items["Declarations"]["Configurations"].as_array().unwrap();
        let listed = list.iter().find(|item| item["Identifier"] == "c").unwrap();
        assert_eq!(listed["ServerToken"], fetched["ServerToken"]);
        for wrong in [
            "declaration/activation/c",
            "declaration/configuration/d",
            "declaration/configuration/../c",
            "declaration/configuration/c/",
            "declaration//c",
            "declaration",
            "/tokens",
            "tokens?x",
            "",
        ] {
            assert!(answer(wrong).is_none(), "{wrong}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn who_does_not_fetch_is_asked_again_with_growing_pauses() {
    let (_folder, store) = temporary();
    with(&store, |tx| {
        put(tx, &configuration("first", "1"))?;
        group::add_declaration(tx, "default", "first", EDIT)?;
        sync::refresh(tx, &Plan::read(tx)?, &phone("A"))?;
        let now = tx.now();
        assert!(sync::ask(tx, "A")?.is_some());
        assert!(sync::ask(tx, "A")?.is_none());
        assert!(!sync::is_pending(tx, "A", now + 14 * 60)?);
        assert!(sync::is_pending(tx, "A", now + 15 * 60)?);
        assert!(sync::is_pending(tx, "A", now - 1)?, "a clock that went back");
        put(tx, &configuration("c", "1"))?;
        group::add_declaration(tx, "default", "c", EDIT)?;
        sync::refresh(tx, &Plan::read(tx)?, &phone("A"))?;
        assert!(sync::ask(tx, "A")?.is_some(), "another set is said at once");
        Ok(())
    })
    .await;
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Touch(u8),
    Delete(u8),
    Assign(u8, u8),
    Withdraw(u8, u8),
    Join(u8, u8),
    Leave(u8, u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..4u8, 0..3u8).prop_map(|(name, echo)| Step::Put(name, echo)),
        (0..4u8).prop_map(Step::Touch),
        (0..4u8).prop_map(Step::Delete),
        (0..2u8, 0..4u8).prop_map(|(group, name)| Step::Assign(group, name)),
        (0..2u8, 0..4u8).prop_map(|(group, name)| Step::Withdraw(group, name)),
        (0..2u8, 0..2u8).prop_map(|(group, id)| Step::Join(group, id)),
        (0..2u8, 0..2u8).prop_map(|(group, id)| Step::Leave(group, id)),
    ];
    proptest::collection::vec(step, 1..30)
}

fn edit(tx: &Tx<'_>, step: &Step) -> Result<()> {
    let (group, id) = (|group: &u8| format!("g{group}"), |id: &u8| format!("D{id}"));
    match step {
        Step::Put(name, echo) => put(tx, &configuration(&format!("c{name}"), &echo.to_string())).map(drop),
        Step::Touch(name) => declaration::touch(tx, &format!("c{name}"), EDIT).map(drop),
        Step::Delete(name) => declaration::delete(tx, &format!("c{name}"), EDIT),
        Step::Assign(to, name) => group::add_declaration(tx, &group(to), &format!("c{name}"), EDIT).map(drop),
        Step::Withdraw(from, name) => {
            group::remove_declaration(tx, &group(from), &format!("c{name}"), EDIT).map(drop)
        }
        Step::Join(to, who) => group::add_member(tx, &group(to), &id(who), EDIT).map(drop),
        Step::Leave(from, who) => group::remove_member(tx, &group(from), &id(who), EDIT).map(drop),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However it came about: the token is equal exactly where the set is.
    #[test]
    fn tokens_are_equal_exactly_where_sets_are(steps in steps()) {
        let (_folder, store) = temporary();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let sets = runtime.block_on(with(&store, move |tx| {
            for name in ["g0", "g1"] {
                group::ensure(tx, name)?;
            }
            let mut sets: Vec<Manifest> = Vec::new();
            for step in &steps {
                match edit(tx, step) {
                    Ok(()) | Err(Error::NotFound(_) | Error::Conflict { .. }) => {}
                    Err(error) => return Err(error),
                }
                for id in ["D0", "D1"] {
                    let set = set_of(tx, id);
                    // What the channel is given is that set.
                    sync::refresh(tx, &Plan::read(tx)?, &phone(id))?;
                    assert_eq!(sync::find(tx, id)?.unwrap().token, set.token);
                    sets.push(set);
                }
            }
            Ok(sets)
        }));
        for one in &sets {
            for other in &sets {
                let key = |set: &Manifest| set.items.iter()
                    .map(|item| (item.kind, item.identifier.clone(), item.server_token.clone()))
                    .collect::<Vec<_>>();
                prop_assert_eq!(one.token == other.token, key(one) == key(other));
            }
        }
    }
}
