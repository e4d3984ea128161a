//! Retries, refusals, bounds, power cuts.

use std::collections::BTreeMap;

use hyper::StatusCode;
use russet::clock::{Clock, HOUR};
use russet::finding::Severity;
use russet::mdm::outbox;
use russet::webhook::findings;
use serde_json::{Value as Json, json};

use super::stand::{Answer, Stand, Told};
use super::{micromdm, telling_by_hand};
use crate::support::{Appliance, Process, TOPIC, over_socket};

const BUSY: Answer = Answer::Status(503, "");

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_tried_again_with_growing_pauses_and_the_order_is_kept() {
    let (appliance, mut stand, _folder) = telling_by_hand(|_| {}).await;
    let webhook = appliance.app().webhook.clone();
    for kind in ["one", "two", "three"] {
        appliance.happens(kind).await;
    }
    stand.answer(&[BUSY, Answer::Silence, Answer::Status(404, ""), Answer::Status(200, ""), BUSY]);
    let mut first = Vec::new();
    for pause in [2, 4, 8] {
        assert_eq!(webhook.round().await.unwrap(), 0);
        first.push(stand.told().await.json()["id"].clone());
        appliance.clock.advance(pause - 1);
        assert_eq!(webhook.round().await.unwrap(), 0);
        assert!(stand.so_far().is_empty(), "nothing is tried before its time");
        appliance.clock.advance(1);
    }
    assert!(first.windows(2).all(|pair| pair[0] == pair[1]), "it is the same each time: {first:?}");
    let found = &findings(&webhook).unwrap()[0];
    assert_eq!((found.code, found.severity), ("webhook-fails", Severity::Warning));
    assert!(found.seen.contains("404"), "{}", found.seen);
    let state = appliance.api("GET", "/api/v1/webhook", None).await.1;
    assert_eq!((&state["waiting"], &state["failures"]), (&json!(3), &json!(3)), "{state}");
    assert!(state["next_try_at"].is_string() && state["oldest_at"].is_string(), "{state}");
    assert!(!state.to_string().contains("hunter2"), "{state}");

    assert_eq!(webhook.round().await.unwrap(), 1, "the first came, the second did not");
    appliance.clock.advance(2);
    assert_eq!(webhook.round().await.unwrap(), 2);
    let kinds: Vec<Json> = stand.so_far().iter().map(|told| told.json()["kind"].clone()).collect();
    assert_eq!(kinds, ["one", "two", "two", "three"]);
    let state = appliance.api("GET", "/api/v1/webhook", None).await.1;
    assert_eq!((&state["waiting"], &state["failures"]), (&json!(0), &json!(0)), "{state}");
    assert_eq!(findings(&webhook).unwrap()[0].code, "webhook-delivers");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_body_that_the_target_never_takes_does_not_hold_up_the_others() {
    let (appliance, mut stand, _folder) = telling_by_hand(|_| {}).await;
    let webhook = appliance.app().webhook.clone();
    appliance.happens("poison").await;
    appliance.happens("good").await;
    stand.answer(&[const { Answer::Status(422, "") }; 8]);
    for _ in 0..8 {
        webhook.round().await.unwrap();
        appliance.clock.advance(HOUR);
    }
    let kinds: Vec<Json> = stand.so_far().iter().map(|told| told.json()["kind"].clone()).collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "poison").count(), 8);
    assert_eq!(kinds[8..], ["good", "webhook-dropped"], "the loss is told too");
    assert_eq!(findings(&webhook).unwrap()[0].code, "webhook-dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_to_this_machine_unless_the_configuration_says_so() {
    let (appliance, mut stand, _folder) =
        telling_by_hand(|config| config.webhook.allow_private = false).await;
    appliance.happens("one").await;
    assert_eq!(appliance.app().webhook.round().await.unwrap(), 0);
    let state = appliance.api("GET", "/api/v1/webhook", None).await.1;
    let words = state["last_failure"].as_str().unwrap();
    assert!(
        words.contains("127.0.0.1 may not be asked") || words.contains("::1 may not be asked"),
        "{words}"
    );
    assert!(words.contains("allow_private = true"), "{words}");
    let (status, tested) = appliance.api("POST", "/api/v1/webhook/test", None).await;
    assert_eq!(
        (status, &tested["delivered"], &tested["status"]),
        (StatusCode::OK, &json!(false), &Json::Null)
    );
    assert!(stand.so_far().is_empty(), "nobody was connected to");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed_and_bad_answers_are_bounded() {
    let (appliance, mut stand, _folder) = telling_by_hand(|config| config.webhook.timeout = 1).await;
    let webhook = appliance.app().webhook.clone();
    appliance.happens("one").await;
    let there = "location: http://169.254.169.254/latest/meta-data\r\n";
    for (answer, wanted) in [
        (Answer::Status(307, there), "leads elsewhere (307)"),
        (Answer::Drip, "no whole answer within 1 seconds"),
        (Answer::Huge, "more than 65536 bytes"),
        (Answer::Silence, "cannot be reached"),
    ] {
        stand.answer(&[answer]);
        webhook.round().await.unwrap();
        let state = appliance.api("GET", "/api/v1/webhook", None).await.1;
        let words = state["last_failure"].as_str().unwrap();
        assert!(words.contains(wanted), "{words} is not about {wanted}");
        appliance.clock.advance(HOUR);
    }
    assert_eq!(stand.so_far().len(), 4);
    assert_eq!(webhook.round().await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_says_what_the_target_said() {
    let (appliance, mut stand, _folder) = telling_by_hand(micromdm).await;
    let (status, tested) = appliance.api("POST", "/api/v1/webhook/test", None).await;
    assert_eq!(
        (status, &tested["delivered"], &tested["status"]),
        (StatusCode::OK, &json!(true), &json!(200))
    );
    assert_eq!(tested["answer"], "thank you");
    let told = stand.told().await;
    assert_eq!(told.topic(), "russet.test");
    assert!(told.header("x-hmac-signature").is_some());
    stand.answer(&[Answer::Status(403, "")]);
    let (_, tested) = appliance.api("POST", "/api/v1/webhook/test", None).await;
    assert_eq!((&tested["delivered"], &tested["status"]), (&json!(false), &json!(403)));
    assert!(tested["words"].as_str().unwrap().contains("does not let us in"), "{tested}");

    let without = Appliance::bare(|_| {}).await;
    assert_eq!(without.api("GET", "/api/v1/webhook", None).await.1, json!({"configured": false}));
    assert_eq!(without.api("POST", "/api/v1/webhook/test", None).await.0, StatusCode::CONFLICT);
    assert!(findings(&without.app().webhook).unwrap().is_empty());
}

/// A power cut between the write and the delivery.
#[tokio::test(flavor = "multi_thread")]
async fn what_happened_before_a_power_cut_is_told_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut stand = Stand::start(folder.path()).await;
    stand.always(BUSY);
    let mut appliance = Appliance::at(Clock::system(), |_| {}).await;
    appliance.import_push_certificate(TOPIC).await;
    let config = appliance.hand_over().await;
    let table = format!(
        "[webhook]\nurl = \"{}\"\nsecret = \"x\"\ntrust = {:?}\nallow_private = true\n",
        stand.url(),
        stand.trust
    );
    std::fs::write(&config, std::fs::read_to_string(&config).unwrap() + &table).unwrap();
    let data = appliance.config.data_dir.clone();

    let process = Process::start(&config, "warn", &[]);
    for _ in 0..3 {
        // Through the program itself: a device enrolls, and what it says is told.
        let (_, made) =
            over_socket(&data, "POST", "/api/v1/invitations", Some(json!({"uses": 1}))).await.unwrap();
        let mut device = appliance.device(russet::simulator::Kind::IPhone);
        device.enroll(made["url"].as_str().unwrap()).await.unwrap();
    }
    // The target is asked and refuses, so nothing was told when the power goes.
    let refused = stand.told().await.json()["id"].clone();
    process.kill();
    let mut store = BTreeMap::new();
    {
        let lock = russet::storage::Lock::take(&data).unwrap();
        let kept = russet::storage::Store::open(&data, Clock::system()).unwrap();
        let seal = russet::pki::seal::Seal::open(&data, None, false).unwrap();
        for one in kept.peek(|conn| outbox::next(conn, &seal, 1000, usize::MAX)).unwrap() {
            store.insert(one.uid.clone(), one.topic.clone());
        }
        let closed = kept.closed();
        drop(kept);
        closed.await;
        drop(lock);
    }
    for topic in ["mdm.Authenticate", "mdm.TokenUpdate", "event.enrolled"] {
        assert!(store.values().filter(|kept| *kept == topic).count() >= 3, "{store:?}");
    }
    assert!(store.contains_key(refused.as_str().unwrap()));

    stand.so_far();
    stand.always(Answer::Status(200, ""));
    let process = Process::start(&config, "warn", &[]);
    let mut missing = store.clone();
    while !missing.is_empty() {
        let told: Told = stand.told().await;
        missing.remove(told.json()["id"].as_str().unwrap());
    }
    loop {
        let (_, state) = over_socket(&data, "GET", "/api/v1/webhook", None).await.unwrap();
        if state["waiting"] == 0 {
            break;
        }
    }
    let russet = |command: &str| {
        let mut run = std::process::Command::new(env!("CARGO_BIN_EXE_russet"));
        let ended = run.args(["webhook", command, "--config"]).arg(&config).output().unwrap();
        (ended.status.success(), String::from_utf8(ended.stdout).unwrap())
    };
    let (well, shown) = russet("show");
    assert!(well && shown.contains("(russet bodies)\n0 wait to be told.\n"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_eq!(russet("test"), (true, "The target took it (200).\nIt said: thank you\n".into()));
    stand.always(Answer::Status(500, ""));
    assert_eq!(russet("test"), (false, "The target failed (500).\nIt said: no\n".into()));
    let log = process.kill();
    assert!(!log.contains("panicked"), "{log}");
}
