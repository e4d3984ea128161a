//! Services of Macs and security facts, from the administrator's word to the device's report of it.

use russet::mdm::sync;
use russet::simulator::{Channel, Device, Kind};
use serde_json::{Value as Json, json};

use crate::support::{Appliance, settle};

const SSHD: &str = "/api/v1/service-configurations/school.sshd";

fn sshd(text: &str) -> Json {
    json!({"service": "com.apple.sshd", "files": {"etc/ssh/sshd_config": text}})
}

fn config_of(mac: &Device) -> Option<String> {
    let files = mac.service_files("com.apple.sshd")?;
    Some(String::from_utf8(files["etc/ssh/sshd_config"].clone()).unwrap())
}

fn fact<'a>(device: &'a Json, name: &str) -> &'a Json {
    let facts = device["facts"].as_array().unwrap();
    facts.iter().find(|fact| fact["name"] == name).unwrap()
}

fn state(device: &Json, name: &str) -> String {
    fact(device, name)["state"].as_str().unwrap().to_owned()
}

impl Appliance {
    async fn got(&self, path: &str) -> Json {
        let (status, answer) = self.api("GET", path, None).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    async fn sent(&self, path: &str, body: Json) -> Json {
        let (status, answer) = self.api("PUT", path, Some(body)).await;
        assert!(status.is_success(), "{answer}");
        answer
    }

    async fn facts_of(&self, device: &Device) -> Json {
        self.got(&format!("/api/v1/enrollments/{}/compliance", device.udid)).await
    }
}

#[tokio::test]
async fn an_sshd_configuration_reaches_its_macs_and_changed_text_reaches_exactly_them_again() {
    let mut appliance = Appliance::start().await;
    let mut macs = Vec::new();
    for _ in 0..3 {
        macs.push(appliance.enroll(Kind::Mac).await);
    }
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let answer = appliance.sent(SSHD, sshd("PermitRootLogin no\n")).await;
    assert_eq!((&answer["changed"], &answer["warnings"]), (&json!(true), &json!([])), "{answer}");
    let [one, two, other] = macs.as_mut_slice() else { unreachable!() };
    appliance.group(&[one, two, &phone], &["school.sshd"]).await;
    for device in [&mut *one, two, other, &mut phone] {
        settle(device).await;
    }
    for mac in [&*one, two] {
        assert_eq!(config_of(mac).as_deref(), Some("PermitRootLogin no\n"));
        for name in ["school.sshd", "school.sshd.files"] {
            let stands = appliance.stands(mac, name);
            assert_eq!((&stands["valid"], &stands["active"]), (&json!("valid"), &json!(true)), "{stands}");
        }
        assert_eq!(state(&appliance.facts_of(mac).await, "services"), "ok");
    }
    assert_eq!(config_of(other), None);
    assert_eq!(appliance.stands(&phone, "school.sshd")["left_out"], "school.sshd cannot be used on iOS.");
    let url = format!("{}/mdm/assets/school.sshd.files", appliance.config.server.public_url);
    assert_eq!((one.fetch(&url).await.unwrap().status, other.fetch(&url).await.unwrap().status), (200, 404));

    sync::round(&appliance.app().mdm).await.unwrap();
    assert_eq!(appliance.woken(), Vec::<String>::new());
    let same = appliance.sent(SSHD, sshd("PermitRootLogin no\n")).await;
    assert_eq!(same["changed"], false);
    let changed = appliance.sent(SSHD, sshd("PermitRootLogin no\nPasswordAuthentication no\n")).await;
    assert_eq!(changed["changed"], true);
    sync::round(&appliance.app().mdm).await.unwrap();
    let mut concerned = vec![one.udid.clone(), two.udid.clone()];
    concerned.sort();
    assert_eq!(appliance.woken(), concerned);
    let before = one.declarations.fetched;
    settle(one).await;
    assert_eq!(one.declarations.fetched, before + 1, "the archive's asset and nothing else");
    assert!(config_of(one).unwrap().contains("PasswordAuthentication no"));

    // In use it stays; out of use it goes from the Macs, and then from the server.
    assert_eq!(appliance.api("DELETE", SSHD, None).await.0, 409);
    appliance.group(&[], &[]).await;
    settle(one).await;
    assert_eq!(config_of(one), None);
    assert_eq!(appliance.api("DELETE", SSHD, None).await.0, 204);
    assert_eq!(appliance.api("GET", "/api/v1/assets/school.sshd.files", None).await.0, 404);
}

#[tokio::test]
async fn hostile_files_are_refused_where_they_stand_and_leave_nothing() {
    let appliance = Appliance::start().await;
    for (path, at) in [
        ("../etc/passwd", "/files/..~1etc~1passwd"),
        ("/etc/ssh/sshd_config", "/files/~1etc~1ssh~1sshd_config"),
        ("etc/ssh/../../x", "/files/etc~1ssh~1..~1..~1x"),
        ("etc/ssh/\u{0}", "/files/etc~1ssh~1\u{0}"),
        ("etc/ssh/\u{202e}", "/files/etc~1ssh~1\u{202e}"),
    ] {
        let body = json!({"service": "com.apple.sshd", "files": {path: "x\n"}});
        let (status, answer) = appliance.api("PUT", SSHD, Some(body)).await;
        assert_eq!((status.as_u16(), &answer["error"]["pointer"]), (400, &json!(at)), "{answer}");
    }
    for body in [
        json!({"service": "com.apple.nothing", "files": {"etc/x": "x"}}),
        json!({"service": "com.apple.sshd"}),
        json!({"service": "com.apple.sshd", "files": []}),
        json!({"service": 7, "files": {"etc/x": "x"}}),
        json!({"service": "com.apple.sshd", "files": {"etc/x": "x"}, "mode": "0755"}),
        json!({"service": "com.apple.sshd", "files": {"etc/x": "x"}, "identifier": "another"}),
    ] {
        assert_eq!(appliance.api("PUT", SSHD, Some(body)).await.0, 400);
    }
    let task = "/api/v1/background-tasks/task";
    let launchd =
        |context: &str| json!([{"context": context, "plist": {"Label": "a", "Program": "/bin/ls"}}]);
    for body in [
        json!({"task_type": "org.example.task"}),
        json!({"task_type": "../x", "launchd": launchd("daemon")}),
        json!({"task_type": "org.example.task", "launchd": launchd("root")}),
        json!({"task_type": "org.example.task", "launchd": [{"context": "agent", "plist": "<plist>"}]}),
        json!({"task_type": "org.example.task", "executable": "school.nothing"}),
    ] {
        assert_eq!(appliance.api("PUT", task, Some(body)).await.0, 400);
    }
    assert_eq!(appliance.got("/api/v1/assets").await["items"], json!([]));
    assert_eq!(appliance.got("/api/v1/declarations").await["items"], json!([]));
}

#[tokio::test]
async fn an_archive_that_a_mac_cannot_use_is_reported_in_words() {
    let mut appliance = Appliance::start().await;
    let mut mac = appliance.enroll(Kind::Mac).await;
    appliance.upload("/api/v1/assets/broken", "application/zip", "no archive").await;
    let payload = json!({"ServiceType": "com.apple.sshd", "DataAssetReference": "broken"});
    appliance.declare("sshd", "configuration.services.configuration-files", payload).await;
    appliance.group(&[&mac], &["sshd"]).await;
    settle(&mut mac).await;
    let stands = appliance.stands(&mac, "sshd");
    assert_eq!(
        (&stands["valid"], &stands["reasons"][0]["code"]),
        (&json!("invalid"), &json!("Error.ConfigurationCannotBeApplied"))
    );
    let found = appliance.facts_of(&mac).await;
    assert_eq!((state(&found, "services").as_str(), &found["compliant"]), ("failing", &json!(false)));
    let words = fact(&found, "declarations")["words"].as_str().unwrap();
    assert!(words.contains("sshd: ") && words.contains("not a zip archive"), "{words}");
}

#[tokio::test]
async fn a_background_task_is_loaded_reported_and_unloaded() {
    let mut appliance = Appliance::start().await;
    let mut mac = appliance.enroll(Kind::Mac).await;
    let place = "/var/db/ManagedConfigurationFiles/BackgroundTaskServices/Services/org.example.task/run";
    let plist = |interval: u32| json!({"Label": "org.example.task", "ProgramArguments": [place], "StartInterval": interval});
    let task = |interval: u32| {
        json!({
            "task_type": "org.example.task",
            "description": "Counts what there is",
            "executable": "task.bin",
            "launchd": [{"context": "daemon", "plist": plist(interval)}],
        })
    };
    let path = "/api/v1/background-tasks/school.task";
    let files = [("run".to_owned(), b"#!/bin/sh\n".to_vec())].into();
    appliance
        .upload("/api/v1/assets/task.bin", "application/zip", russet::library::zip::write(&files).unwrap())
        .await;
    let answer = appliance.sent(path, task(60)).await;
    assert_eq!(answer["warnings"].as_array().unwrap().len(), 1, "the file is not executable: {answer}");
    appliance.group(&[&mac], &["school.task"]).await;
    settle(&mut mac).await;
    assert_eq!(appliance.stands(&mac, "school.task")["valid"], "valid");
    let reported = format!("/api/v1/enrollments/{}/status?prefix=services.", mac.udid);
    let tasks = appliance.got(&reported).await["items"][0]["value"].clone();
    assert_eq!(tasks[0]["launchd"]["label"], "org.example.task", "{tasks}");
    assert_eq!(tasks[0]["launchd"]["device-management"]["configuration-identifier"], "school.task");
    assert_eq!(state(&appliance.facts_of(&mac).await, "services"), "ok");

    let checksum = tasks[0]["launchd"]["checksum"].clone();
    appliance.sent(path, task(120)).await;
    settle(&mut mac).await;
    let tasks = appliance.got(&reported).await["items"][0]["value"].clone();
    assert_ne!(tasks[0]["launchd"]["checksum"], checksum);
    appliance.group(&[], &[]).await;
    settle(&mut mac).await;
    assert_eq!(appliance.api("DELETE", path, None).await.0, 204);
    let left = appliance.got("/api/v1/assets").await;
    assert_eq!(left["items"].as_array().unwrap().len(), 1, "the executable stays: {left}");
}

#[tokio::test]
async fn facts_of_mixed_devices_say_who_fails_what() {
    let mut appliance = Appliance::start().await;
    let mut devices = Vec::new();
    for kind in [Kind::IPhone, Kind::Mac, Kind::Mac, Kind::AppleTv] {
        devices.push(appliance.enroll(kind).await);
    }
    appliance.declare("passcode", "configuration.passcode.settings", json!({"MinimumLength": 6})).await;
    let everybody: Vec<&Device> = devices.iter().collect();
    appliance.group(&everybody, &["passcode"]).await;
    devices[0].passcode = false;
    devices[2].filevault = false;
    for device in &mut devices {
        settle(device).await;
        device.report_changes(Channel::Device).await.unwrap();
    }
    let [phone, good, bad, tv] = devices.as_slice() else { unreachable!() };
    let found = appliance.facts_of(phone).await;
    assert_eq!(found["compliant"], false);
    for (name, expected) in [
        ("passcode_present", "failing"),
        ("passcode_compliant", "failing"),
        ("filevault", "not_applicable"),
        ("battery_health", "noted"),
        ("contact", "ok"),
        ("declarations", "ok"),
    ] {
        assert_eq!(state(&found, name), expected, "{name}: {found}");
    }
    assert_eq!(fact(&found, "passcode_present")["wanted"], true);
    assert!(fact(&found, "passcode_present")["since"].is_string());
    assert_eq!(appliance.facts_of(good).await["compliant"], true);
    let found = appliance.facts_of(bad).await;
    assert_eq!((&found["compliant"], state(&found, "filevault").as_str()), (&json!(false), "failing"));
    assert_eq!(appliance.facts_of(tv).await["compliant"], true, "{}", appliance.facts_of(tv).await);

    let all = appliance.got("/api/v1/compliance").await;
    let summary = &all["summary"];
    assert_eq!(
        (&summary["devices"], &summary["compliant"], &summary["not_compliant"]),
        (&json!(4), &json!(2), &json!(2))
    );
    let filevault =
        summary["facts"].as_array().unwrap().iter().find(|one| one["name"] == "filevault").unwrap();
    assert_eq!((&filevault["failing"], &filevault["not_applicable"]), (&json!(1), &json!(2)));
    assert_eq!(filevault["enrollments"][0]["id"], bad.udid);
    assert_eq!(all["items"].as_array().unwrap().len(), 4, "their users are not counted");
    let group = appliance.got("/api/v1/groups/library/compliance?ignore=filevault&limit=3").await;
    assert_eq!((&group["summary"]["devices"], &group["summary"]["not_compliant"]), (&json!(4), &json!(1)));
    let rest =
        format!("/api/v1/groups/library/compliance?limit=3&cursor={}", group["next"].as_str().unwrap());
    let rest = appliance.got(&rest).await;
    assert_eq!(
        (rest["items"].as_array().unwrap().len(), &rest["summary"], &rest["next"]),
        (1, &Json::Null, &Json::Null)
    );
    for wrong in ["/api/v1/compliance?want=x", "/api/v1/compliance?limit=0", "/api/v1/compliance?cursor=%25"]
    {
        assert_eq!(appliance.api("GET", wrong, None).await.0, 400);
    }
    for nobody in ["/api/v1/groups/none/compliance", "/api/v1/enrollments/none/compliance"] {
        assert_eq!(appliance.api("GET", nobody, None).await.0, 404);
    }
    appliance.clock.advance(30 * 86_400);
    assert_eq!(state(&appliance.facts_of(&devices[1]).await, "contact"), "failing");
}

#[tokio::test]
async fn what_is_exported_can_be_applied_and_is_no_change() {
    let appliance = Appliance::start().await;
    appliance.sent(SSHD, sshd("PermitRootLogin no\n")).await;
    let plist = json!({"Label": "org.example.task", "Program": "/usr/bin/true"});
    let task = json!({"task_type": "org.example.task", "launchd": [{"context": "daemon", "plist": plist}]});
    appliance.sent("/api/v1/background-tasks/school.task", task).await;
    appliance.group(&[], &["school.sshd", "school.task"]).await;
    let mut all = appliance.got("/api/v1/export").await;
    assert_eq!((&all["declarations"], &all["assets"]), (&json!([]), &json!([])), "nothing is said twice");
    assert_eq!(
        all["services"],
        json!([{
            "identifier": "school.sshd",
            "service": "com.apple.sshd",
            "files": {"etc/ssh/sshd_config": "PermitRootLogin no\n"},
        }])
    );
    all["prune"] = true.into();
    let done = async |body: &Json| {
        let (status, answer) = appliance.api("POST", "/api/v1/apply", Some(body.clone())).await;
        assert_eq!(status, 200, "{answer}");
        let changes = answer["changes"].as_array().unwrap().iter();
        changes
            .map(|one| format!("{} {} {}", one["action"], one["kind"], one["name"]).replace('"', ""))
            .collect::<Vec<_>>()
    };
    assert_eq!(done(&all).await, Vec::<String>::new());
    all["services"][0]["files"]["etc/ssh/sshd_config"] = "PermitRootLogin yes\n".into();
    all["dry_run"] = true.into();
    assert_eq!(done(&all).await, ["changed service configuration school.sshd"]);
    assert!(appliance.got(SSHD).await["files"]["etc/ssh/sshd_config"].as_str().unwrap().contains("no"));
    all["dry_run"] = false.into();
    assert_eq!(done(&all).await.len(), 1);
    all["services"] = json!([]);
    all["groups"][1]["declarations"] = json!(["school.task"]);
    assert!(done(&all).await.contains(&"deleted service configuration school.sshd".to_owned()));
    assert_eq!(appliance.got("/api/v1/background-tasks/school.task").await["task_type"], "org.example.task");
}
