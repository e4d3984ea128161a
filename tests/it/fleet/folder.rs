//! What the administrator begins with, and `russet apply`.

use std::path::Path;
use std::process::Command;

use serde_json::{Value as Json, json};

use super::condition;
use super::herd::Herd;
use super::random::Random;
use super::world::{ACTIVATION, Declared, Group, World};
use crate::support::Appliance;

const TEST: &str = "com.apple.configuration.management.test";
/// Of these a device may have only one.
const SINGLES: [&str; 2] =
    ["com.apple.configuration.screensharing.host.settings", "com.apple.configuration.watch.enrollment"];

/// A declaration of any kind that names nothing.
pub fn plain(random: &mut Random, number: u64) -> Declared {
    let (declaration_type, payload) = match random.below(16) {
        0 => ("com.apple.configuration.passcode.settings", json!({"MinimumLength": 4 + number % 10})),
        1 => {
            let restrictions = json!({"Restrictions": {"ExternalStorage": "Disallowed"}});
            ("com.apple.configuration.diskmanagement.settings", restrictions)
        }
        2 => (
            "com.apple.configuration.math.settings",
            json!({"Calculator": {"BasicMode": {"AddSquareRoot": true}}}),
        ),
        3 => ("com.apple.configuration.safari.settings", json!({"AllowSummary": number % 2 == 0})),
        4 => ("com.apple.asset.useridentity", json!({"FullName": format!("Person {number}")})),
        5 => ("com.apple.management.properties", json!({"ring": number % 5})),
        6 | 7 => single(random, number),
        _ => (TEST, json!({"Echo": format!("echo {number}")})),
    };
    Declared { declaration_type, payload, predicate: None, touched: 0 }
}

fn single(random: &mut Random, number: u64) -> (&'static str, Json) {
    match *random.pick(&SINGLES) {
        name if name == SINGLES[0] => (name, json!({"PortBase": 1024 + number % 1000})),
        name => (name, json!({"EnrollmentProfileURL": format!("https://example.org/{number}")})),
    }
}

/// An account that names an asset; nothing if there is no asset.
pub fn account(world: &World, random: &mut Random) -> Option<Declared> {
    let assets = of_kind(world, "asset");
    let asset = if assets.is_empty() { return None } else { random.pick(&assets) };
    Some(Declared {
        declaration_type: "com.apple.configuration.account.google",
        payload: json!({"VisibleName": "Mail", "UserIdentityAssetReference": asset}),
        predicate: None,
        touched: 0,
    })
}

/// An activation of some configurations; nothing if there are none.
pub fn activation(world: &World, random: &mut Random) -> Option<Declared> {
    let configurations = of_kind(world, "configuration");
    let names = random.some(&configurations, 3);
    if names.is_empty() {
        return None;
    }
    let predicate = (!random.once_in(3)).then(|| condition::predicate(random));
    let payload = json!({"StandardConfigurations": names});
    Some(Declared { declaration_type: ACTIVATION, payload, predicate, touched: 0 })
}

pub fn of_kind(world: &World, kind: &str) -> Vec<String> {
    let of_kind = world.declarations.iter().filter(|(_, of)| of.kind() == kind);
    of_kind.map(|(name, _)| name.clone()).collect()
}

/// A group of a few members, or with a rule, or both.
pub fn group(world: &World, herd: &Herd, random: &mut Random, others: &[String]) -> Group {
    let names: Vec<String> = world.declarations.keys().cloned().collect();
    let members = if random.once_in(3) { 0 } else { 8 };
    Group {
        order: i64::try_from(random.below(50)).unwrap(),
        rule: (!random.once_in(3)).then(|| condition::rule(random, others)),
        predicate: random.once_in(3).then(|| condition::predicate(random)),
        members: herd.sample(random, members),
        declarations: random.some(&names, 8).into_iter().collect(),
    }
}

/// Some sixty declarations of all kinds and twenty groups.
pub fn beginning(herd: &Herd, random: &mut Random) -> World {
    let mut world = World::default();
    let add = |world: &mut World, name: String, of: Option<Declared>| {
        world.declarations.extend(of.map(|of| (name, of)));
    };
    for number in 0..40 {
        let of = plain(random, number);
        add(&mut world, format!("org.example.{number:02}"), Some(of));
    }
    for number in 0..6 {
        let of = account(&world, random);
        add(&mut world, format!("org.example.account.{number}"), of);
    }
    for number in 0..10 {
        let of = activation(&world, random);
        add(&mut world, format!("org.example.when.{number}"), of);
    }
    let base = Declared {
        declaration_type: TEST,
        payload: json!({"Echo": "everybody"}),
        predicate: None,
        touched: 0,
    };
    add(&mut world, "org.example.base".to_owned(), Some(base));
    let names: Vec<String> = (0..20).map(|number| format!("g{number:02}")).collect();
    for name in &names {
        let group = group(&world, herd, random, &names);
        world.groups.insert(name.clone(), group);
    }
    let declarations = ["org.example.base".to_owned()].into();
    world.groups.insert("default".to_owned(), Group { order: 1000, declarations, ..Group::default() });
    world
}

/// Runs the program itself on a folder of this world: everything that is not in it goes.
pub async fn apply(appliance: &Appliance, world: &World, folder: &Path, notify: bool) -> String {
    world.write(folder);
    let mut command = Command::new(env!("CARGO_BIN_EXE_russet"));
    command.arg("apply").arg(folder).arg("--prune").env_clear();
    command.env("RUSSET__DATA_DIR", format!("{:?}", appliance.config.data_dir));
    if !notify {
        command.arg("--no-notify");
    }
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{error}");
    said.into_owned()
}
