//! Declarations from the administrator's word to the device's report of it.

use russet::ddm::group::{self, Group};
use russet::ddm::{Edit, declaration, standing};
use russet::enroll::invitation::Wanted;
use russet::error::Result;
use russet::mdm::{enrollment, subject, sync, wake};
use russet::schema::declarations::check;
use russet::simulator::{Answer, Channel, Device, Kind, Status};
use russet::storage::Tx;
use serde_json::{Value as Json, json};

use crate::support::{Appliance, settle};

const LOUD: Edit<'_> = Edit { actor: "test", notify: true };
const QUIET: Edit<'_> = Edit { actor: "test", notify: false };

fn echo(identifier: &str, text: &str) -> Json {
    json!({
        "Type": "com.apple.configuration.management.test",
        "Identifier": identifier,
        "Payload": {"Echo": text},
    })
}

/// Who has the tag lab gets the declaration c.
fn lab() -> Group {
    Group {
        name: "lab".into(),
        rule: Some("'lab' IN tags".into()),
        declarations: vec!["c".into()],
        ..Group::default()
    }
}

fn put(tx: &Tx<'_>, declaration: &Json, edit: Edit<'_>) -> Result<()> {
    declaration::put(tx, &check(declaration, false)?, false, edit).map(drop)
}

impl Appliance {
    async fn edit(&self, work: impl FnOnce(&Tx<'_>) -> Result<()> + Send + 'static) {
        self.app().store.write("test.edit", work).await.unwrap();
    }

    /// What `GET …/declarations` says of one declaration of a channel.
    fn standing(&self, enrollment_id: &str, identifier: &str) -> Option<Json> {
        let list = self.app().store.peek(|conn| {
            let subject = subject::of(conn, enrollment_id)?.unwrap();
            standing::standing(conn, &subject)
        });
        list.unwrap().into_iter().find(|one| one["identifier"] == identifier)
    }

    fn wakes(&self) -> Vec<String> {
        let due = self.app().store.peek(|conn| {
            let mut statement = conn.prepare("SELECT enrollment_id FROM wakes ORDER BY 1")?;
            Ok(statement.query_map([], |row| row.get(0))?.collect::<std::result::Result<_, _>>()?)
        });
        due.unwrap()
    }
}

fn echoed(device: &Device, identifier: &str) -> Option<String> {
    let had = device.declarations.declarations.get(identifier)?;
    had.payload["Echo"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn a_declaration_reaches_the_device_and_its_report_is_read() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let id = phone.udid.clone();
    assert!(phone.connect(Channel::Device).await.unwrap().is_empty(), "nothing is declared for it yet");

    appliance
        .edit(|tx| {
            put(tx, &echo("c", "1"), LOUD)?;
            group::add_declaration(tx, "default", "c", LOUD).map(drop)
        })
        .await;
    let before = appliance.standing(&id, "c").unwrap();
    assert_eq!((&before["received"], &before["valid"]), (&json!(false), &json!("unknown")));

    let exchanges = phone.connect(Channel::Device).await.unwrap();
    assert_eq!(exchanges.len(), 1);
    assert_eq!(exchanges[0].command.request_type, "DeclarativeManagement");
    assert_eq!(echoed(&phone, "c").as_deref(), Some("1"));
    let own = phone.declarations.declarations.keys().filter(|name| name.starts_with("russet."));
    assert!(own.count() >= 3, "what the server declares by itself comes along");
    let after = appliance.standing(&id, "c").unwrap();
    assert_eq!(after["server_token"], before["server_token"]);
    for (key, value) in [("received", json!(true)), ("active", json!(true)), ("valid", json!("valid"))] {
        assert_eq!(after[key], value, "{after}");
    }
    assert!(after["reported_at"].is_string() && after["left_out"].is_null());
    // What it said of its capabilities changes what it is asked to report.
    settle(&mut phone).await;

    appliance.edit(|tx| put(tx, &echo("c", "2"), LOUD)).await;
    assert_eq!(appliance.standing(&id, "c").unwrap()["received"], false);
    settle(&mut phone).await;
    assert_eq!(echoed(&phone, "c").as_deref(), Some("2"));

    appliance.edit(|tx| group::remove_declaration(tx, "default", "c", LOUD).map(drop)).await;
    settle(&mut phone).await;
    assert_eq!(echoed(&phone, "c"), None);
    assert!(appliance.standing(&id, "c").is_none());
}

#[tokio::test]
async fn edits_wake_exactly_the_devices_they_concern() {
    let mut appliance = Appliance::start().await;
    let (mut ears, mut ids) = (Vec::new(), Vec::new());
    for kind in [Kind::IPhone, Kind::IPhone, Kind::Mac] {
        let mut device = appliance.device(kind);
        ears.push(device.hear(&appliance.apple));
        let link = appliance.invite(1).await;
        device.enroll(&link).await.unwrap();
        settle(&mut device).await;
        ids.push(device.udid);
    }
    let [one, other, mac] = ids.try_into().unwrap();
    let mdm = appliance.app().mdm.clone();
    sync::round(&mdm).await.unwrap();
    assert_eq!(appliance.wakes(), Vec::<String>::new());

    let member = one.clone();
    appliance
        .edit(move |tx| {
            let lab = Group {
                name: "lab".into(),
                order: 1,
                members: vec![member],
                rule: Some("product_name BEGINSWITH 'Mac' AND channel == 'device'".into()),
                ..Group::default()
            };
            group::put(tx, &lab, &|_| Ok(true), LOUD)?;
            for n in 0..5 {
                put(tx, &echo(&format!("c{n}"), "1"), LOUD)?;
                group::add_declaration(tx, "lab", &format!("c{n}"), LOUD)?;
            }
            Ok(())
        })
        .await;
    wake::round(&mdm).await.unwrap();
    let mut concerned = vec![one, mac];
    concerned.sort();
    assert_eq!(appliance.wakes(), concerned, "and not {other}");
    let pushed = |appliance: &Appliance| -> i64 {
        appliance.value("SELECT SUM(attempts) FROM wakes WHERE ?1 <> ''", "x")
    };
    assert_eq!(pushed(&appliance), 2, "one push each, however many edits");
    appliance.edit(|tx| put(tx, &echo("of.nobody", "1"), LOUD)).await;
    assert_eq!(wake::round(&mdm).await.unwrap(), 0);
    assert_eq!(pushed(&appliance), 2);
}

#[tokio::test]
async fn a_quiet_edit_is_learned_at_the_next_contact() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    appliance
        .edit(|tx| {
            put(tx, &echo("c", "1"), QUIET)?;
            group::add_declaration(tx, "default", "c", QUIET).map(drop)
        })
        .await;
    sync::round(&appliance.app().mdm).await.unwrap();
    assert_eq!(appliance.wakes(), Vec::<String>::new());
    settle(&mut phone).await;
    assert_eq!(echoed(&phone, "c").as_deref(), Some("1"));
}

#[tokio::test]
async fn a_command_that_was_put_off_never_carries_an_old_token() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    appliance
        .edit(|tx| {
            put(tx, &echo("c", "1"), LOUD)?;
            group::add_declaration(tx, "default", "c", LOUD).map(drop)
        })
        .await;
    let first = phone.idle(Channel::Device).await.unwrap().unwrap();
    assert!(phone.report(&first, Answer::not_now(), Channel::Device).await.unwrap().is_none());
    let again = phone.idle(Channel::Device).await.unwrap().unwrap();
    assert_eq!(again.uuid, first.uuid);
    appliance.edit(|tx| put(tx, &echo("c", "2"), LOUD)).await;
    sync::round(&appliance.app().mdm).await.unwrap();
    let other = phone.idle(Channel::Device).await.unwrap().unwrap();
    assert_ne!(other.uuid, first.uuid);
    assert_ne!(other.keys["Data"], first.keys["Data"]);
    assert_eq!(appliance.status(&phone.udid, &first.uuid), "Canceled");
}

#[tokio::test]
async fn a_device_that_does_not_fetch_is_asked_again_later() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    appliance
        .edit(|tx| {
            put(tx, &echo("c", "1"), LOUD)?;
            group::add_declaration(tx, "default", "c", LOUD).map(drop)
        })
        .await;
    let command = phone.idle(Channel::Device).await.unwrap().unwrap();
    assert!(phone.report(&command, Answer::done(), Channel::Device).await.unwrap().is_none());
    assert!(phone.idle(Channel::Device).await.unwrap().is_none());
    appliance.clock.advance(16 * 60);
    let again = phone.connect(Channel::Device).await.unwrap();
    assert_eq!(again[0].status, Status::Acknowledged);
    assert_eq!(echoed(&phone, "c").as_deref(), Some("1"));
}

#[tokio::test]
async fn what_a_device_cannot_have_is_left_out_and_the_rest_arrives() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    appliance
        .edit(|tx| {
            let disk = json!({
                "Type": "com.apple.configuration.diskmanagement.settings",
                "Identifier": "disk",
                "Payload": {"Restrictions": {"ExternalStorage": "Disallowed"}},
            });
            put(tx, &disk, LOUD)?;
            put(tx, &echo("c", "1"), LOUD)?;
            group::add_declaration(tx, "default", "disk", LOUD)?;
            group::add_declaration(tx, "default", "c", LOUD).map(drop)
        })
        .await;
    settle(&mut phone).await;
    assert_eq!(echoed(&phone, "c").as_deref(), Some("1"));
    assert!(!phone.declarations.declarations.contains_key("disk"));
    let out = appliance.standing(&phone.udid, "disk").unwrap();
    assert_eq!(out["left_out"], "disk cannot be used on iOS.");
}

#[tokio::test]
async fn the_group_of_an_invitation_is_joined_and_a_new_life_begins_without_it() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.device(Kind::IPhone);
    let link = appliance.invite_as(Wanted { group: Some("Class 4b".into()), ..Wanted::default() }).await;
    phone.enroll(&link).await.unwrap();
    let path = format!("/api/v1/enrollments/{}", phone.udid);
    let (_, shown) = appliance.api("GET", &path, None).await;
    assert_eq!(shown["groups"], json!(["Class 4b"]));
    appliance
        .edit(|tx| {
            put(tx, &echo("c", "1"), LOUD)?;
            group::add_declaration(tx, "Class 4b", "c", LOUD).map(drop)
        })
        .await;
    settle(&mut phone).await;
    assert_eq!(echoed(&phone, "c").as_deref(), Some("1"));

    phone.remove_management().await.unwrap();
    let link = appliance.invite(1).await;
    phone.enroll(&link).await.unwrap();
    settle(&mut phone).await;
    assert_eq!(echoed(&phone, "c"), None);
    let (_, shown) = appliance.api("GET", &path, None).await;
    assert_eq!(shown["groups"], json!([]));
}

#[tokio::test]
async fn a_tag_changes_what_a_device_should_have() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    appliance
        .edit(|tx| {
            put(tx, &echo("c", "1"), LOUD)?;
            group::put(tx, &lab(), &|_| Ok(true), LOUD).map(drop)
        })
        .await;
    settle(&mut phone).await;
    assert_eq!(echoed(&phone, "c"), None);
    let path = format!("/api/v1/enrollments/{}", phone.udid);
    let (_, shown) = appliance.api("PATCH", &path, Some(json!({"tags": ["lab"]}))).await;
    assert_eq!(shown["groups"], json!(["lab"]));
    settle(&mut phone).await;
    assert_eq!(echoed(&phone, "c").as_deref(), Some("1"));
    let properties = &phone.declarations.declarations["russet.properties"].payload;
    assert_eq!((&properties["tags"], &properties["groups"]), (&json!(["lab"]), &json!(["lab"])));
}

#[tokio::test]
async fn a_new_system_version_brings_what_it_can_have() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.device(Kind::IPhone);
    phone.os_version = "15.7".into();
    let link = appliance.invite(1).await;
    phone.enroll(&link).await.unwrap();
    appliance
        .edit(|tx| {
            put(tx, &echo("c", "1"), LOUD)?;
            group::add_declaration(tx, "default", "c", LOUD).map(drop)
        })
        .await;
    assert!(phone.connect(Channel::Device).await.unwrap().is_empty(), "it can have no declarations yet");
    phone.os_version = "17.0".into();
    let command = json!({"RequestType": "DeviceInformation", "Queries": ["OSVersion"]});
    appliance.send(&phone.udid, command).await;
    let exchanges = phone.connect(Channel::Device).await.unwrap();
    let requests: Vec<&str> = exchanges.iter().map(|done| done.command.request_type.as_str()).collect();
    assert_eq!(requests, ["DeviceInformation", "DeclarativeManagement"]);
}

#[tokio::test]
async fn a_user_of_a_mac_has_declarations_of_their_own() {
    let mut appliance = Appliance::start().await;
    let mut mac = appliance.enroll(Kind::Mac).await;
    let user = format!("{}:{}", mac.udid, mac.user.as_ref().unwrap().id);
    appliance
        .edit(|tx| {
            let calendar = json!({
                "Type": "com.apple.configuration.account.caldav",
                "Identifier": "calendar",
                "Payload": {"HostName": "example.org"},
            });
            put(tx, &calendar, LOUD)?;
            group::add_declaration(tx, "default", "calendar", LOUD).map(drop)
        })
        .await;
    let out = appliance.standing(&mac.udid, "calendar").unwrap();
    assert_eq!(out["left_out"], "calendar is for users, not for the device as a whole.");
    let should = appliance.standing(&user, "calendar").unwrap();
    assert_eq!(should["left_out"], Json::Null);
    settle(&mut mac).await;
    assert!(!mac.declarations.declarations.contains_key("calendar"));
    assert!(mac.user.as_ref().unwrap().declarations.declarations.contains_key("calendar"));
}

#[tokio::test]
async fn a_channel_that_cannot_be_looked_at_holds_up_no_other() {
    let mut appliance = Appliance::start().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(appliance.enroll(Kind::IPhone).await.udid);
    }
    ids.sort();
    let broken = ids[0].clone();
    appliance
        .edit(move |tx| {
            tx.execute_batch(&format!(
                "CREATE TRIGGER broken BEFORE INSERT ON syncs WHEN NEW.enrollment_id = '{broken}'
                 BEGIN SELECT RAISE(ABORT, 'on purpose'); END"
            ))?;
            put(tx, &echo("c", "1"), LOUD)?;
            group::add_declaration(tx, "default", "c", LOUD).map(drop)
        })
        .await;
    wake::round(&appliance.app().mdm).await.unwrap();
    assert_eq!(appliance.wakes(), ids[1..]);
}

#[tokio::test]
async fn users_are_looked_at_in_the_background_when_their_device_changed() {
    let mut appliance = Appliance::start().await;
    let mut mac = appliance.enroll(Kind::Mac).await;
    let user = format!("{}:{}", mac.udid, mac.user.as_ref().unwrap().id);
    appliance
        .edit(|tx| {
            put(tx, &echo("c", "1"), LOUD)?;
            group::put(tx, &lab(), &|_| Ok(true), LOUD).map(drop)
        })
        .await;
    settle(&mut mac).await;
    sync::round(&appliance.app().mdm).await.unwrap();
    let stale = |appliance: &Appliance, id: &str| -> i64 {
        appliance.value("SELECT stale FROM syncs WHERE enrollment_id = ?1", id)
    };
    let (id, changed) = (mac.udid.clone(), mac.udid.clone());
    appliance
        .edit(move |tx| sync::noticing(tx, &changed, || enrollment::tag(tx, &changed, &["lab".to_owned()])))
        .await;
    assert_eq!((stale(&appliance, &id), stale(&appliance, &user)), (0, 1));
    sync::round(&appliance.app().mdm).await.unwrap();
    assert_eq!(stale(&appliance, &user), 0);
    assert_eq!(appliance.wakes(), [id, user]);
}

#[tokio::test]
async fn what_becomes_known_between_a_quiet_edit_and_its_way_through_all_channels_wakes() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    appliance
        .edit(|tx| {
            put(tx, &echo("c", "1"), LOUD)?;
            group::add_declaration(tx, "default", "c", LOUD).map(drop)
        })
        .await;
    settle(&mut phone).await;
    sync::round(&appliance.app().mdm).await.unwrap();
    assert_eq!(appliance.wakes(), Vec::<String>::new());
    let id = phone.udid.clone();
    appliance
        .edit(move |tx| {
            put(tx, &echo("c", "2"), QUIET)?;
            sync::noticing(tx, &id, || enrollment::tag(tx, &id, &["red".to_owned()]))
        })
        .await;
    assert_eq!(appliance.wakes(), [phone.udid.clone()]);
}
