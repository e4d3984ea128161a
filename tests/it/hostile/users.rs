//! Users that are other devices, nobody's, or too many (THREATS D5 7, 14).

use plist::Value;
use russet::simulator::Kind;

use super::{message, say, token_update};
use crate::support::Appliance;

/// 7: a hostile device invents users until the disk is full; no device has so many.
#[tokio::test]
async fn a_device_with_endless_users_is_stopped() {
    let mut appliance = Appliance::start().await;
    let mut mac = appliance.enroll(Kind::Mac).await;
    let udid = mac.udid.clone();
    let filler = udid.clone();
    appliance
        .app()
        .store
        .write("test.users", move |tx| {
            for user in 0..russet::mdm::enrollment::MOST_USERS {
                tx.execute(
                    "INSERT INTO enrollments (id, type, channel, parent_id, state, created_at)
                     VALUES (?1 || ':' || ?2, 'User', 'user', ?1, 'enrolled', 0)",
                    rusqlite::params![filler, user],
                )?;
            }
            Ok(())
        })
        .await
        .unwrap();
    let mut update = token_update(&udid);
    update.insert("UserID".into(), "one-more".into());
    assert_eq!(say(&appliance, &mut mac, update.clone()).await, 400);
    update.insert("UserID".into(), "7".into());
    assert_eq!(say(&appliance, &mut mac, update).await, 200, "those who are known go on");
}

/// 14: the digest dance is answered "not managed", whatever stands in it.
#[tokio::test]
async fn user_authenticate_is_answered_not_managed_whatever_digest_comes() {
    let mut appliance = Appliance::start().await;
    let mut mac = appliance.enroll(Kind::Mac).await;
    let udid = mac.udid.clone();
    for digest in ["", "Digest username=\"x\", response=\"0\"", &"x".repeat(1 << 16)] {
        let message =
            message("UserAuthenticate", &udid, [("UserID", "U-1".into()), ("DigestResponse", digest.into())]);
        assert_eq!(say(&appliance, &mut mac, message).await, 410);
    }
}

/// 14: a user's ID can never be a device's, and no user can be of a device that is not the caller.
#[tokio::test]
async fn a_user_channel_never_collides_with_a_device() {
    let mut appliance = Appliance::start().await;
    let victim = appliance.enroll(Kind::Mac).await;
    let victims_user = format!("{}:{}", victim.udid, victim.user.as_ref().unwrap().id);
    let mut mac = appliance.enroll(Kind::Mac).await;
    let udid = mac.udid.clone();

    let mut as_user = message("TokenUpdate", &victims_user, [("PushMagic", "m".into())]);
    as_user.insert("Token".into(), Value::Data(vec![1; 32]));
    as_user.insert("Topic".into(), crate::support::TOPIC.into());
    assert_eq!(say(&appliance, &mut mac, as_user).await, 400, "a device's ID has no colon");

    let shared = "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF";
    for (user, name) in [
        (victims_user.as_str(), "x"),
        (shared, "a:b@example.org"),
        (shared, victims_user.as_str()),
        ("..", "x"),
        ("'; DROP TABLE enrollments", "x"),
    ] {
        let mut update = token_update(&udid);
        update.insert("UserID".into(), user.into());
        update.insert("UserShortName".into(), name.into());
        assert_eq!(say(&appliance, &mut mac, update).await, 200);
        let expected = format!("{udid}:{}", if user == shared { name } else { user });
        let parent: String = appliance.value("SELECT parent_id FROM enrollments WHERE id = ?1", &expected);
        assert_eq!(parent, udid, "whatever it is called, it is a user of the caller");
    }
    for (user, name) in [(shared, ""), ("", "x"), ("a\nb", "x"), ("\u{202e}", "x"), (&*"x".repeat(256), "x")]
    {
        let mut update = token_update(&udid);
        update.insert("UserID".into(), user.into());
        update.insert("UserShortName".into(), name.into());
        assert_eq!(say(&appliance, &mut mac, update).await, 400, "{user:?} {name:?}");
    }
    let magic: String = appliance.value("SELECT push_magic FROM enrollments WHERE id = ?1", &victims_user);
    assert_ne!(magic, "magic", "the victim's user is untouched");

    // An EnrollmentID that is another device's UDID is that device's name all the same.
    let mut update = token_update(&victim.udid);
    update.remove("UDID");
    update.insert("EnrollmentID".into(), victim.udid.as_str().into());
    assert_eq!(say(&appliance, &mut mac, update).await, 400);
}
