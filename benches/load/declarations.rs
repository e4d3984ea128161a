//! Declarations for all devices, and what it takes until a change of one has reached everybody.
//!
//! Two hundred declarations in twenty groups, by the server's own functions, before the server starts:
//! each device is in one group, has its ten declarations and one that all have.
//!
//! **Invariant:** devices were told what they should have before anything is measured.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use russet::ddm::group::{self, DEFAULT, Group};
use russet::ddm::{self, Edit, declaration};
use russet::mdm::sync;
use russet::schema::declarations::check;
use russet::server::App;
use russet::simulator::Apple;
use russet::storage::Tx;
use serde_json::{Value as Json, json};

use crate::client::{Address, Expected};
use crate::prepare::Prepared;
use crate::process::Process;
use crate::requests::{Device, Request};
use crate::{Failed, Result};

const GROUPS: usize = 20;
const EACH: usize = 10;
/// The declaration that every device has.
pub(crate) const COMMON: &str = "common";
const QUIETLY: Edit<'_> = Edit { actor: "bench", notify: false };
/// How long a change may take to reach everybody.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a change of one declaration came to.
pub(crate) struct Changed {
    pub(crate) enrollments: usize,
    /// Until every channel's token was right.
    pub(crate) looked_at: Duration,
    /// Until every device was pushed.
    pub(crate) pushed: Duration,
    pub(crate) pushes: usize,
    /// Of the server process.
    pub(crate) cpu: Duration,
    /// Bytes that the server gave to the disk.
    pub(crate) written: u64,
}

fn text(identifier: &str, echo: &str) -> Json {
    json!({
        "Type": "com.apple.configuration.management.test",
        "Identifier": identifier,
        "Payload": {"Echo": echo},
    })
}

fn put(tx: &Tx<'_>, identifier: &str) -> russet::error::Result<()> {
    declaration::put(tx, &check(&text(identifier, "as it was"), false)?, false, QUIETLY).map(drop)
}

/// Declares, and tells everybody.
pub(crate) async fn declare(app: &App, devices: &[Device]) -> Result<()> {
    let ids: Vec<String> = devices.iter().map(|device| device.udid.clone()).collect();
    let members = ids.clone();
    app.store
        .write("bench.declare", move |tx| {
            put(tx, COMMON)?;
            group::add_declaration(tx, DEFAULT, COMMON, QUIETLY)?;
            for at in 0..GROUPS {
                let declarations: Vec<String> =
                    (0..EACH).map(|each| format!("declaration.{at}.{each}")).collect();
                declarations.iter().try_for_each(|identifier| put(tx, identifier))?;
                let group = Group {
                    name: format!("group {at}"),
                    order: 100,
                    members: members.iter().skip(at).step_by(GROUPS).cloned().collect(),
                    declarations,
                    ..Group::default()
                };
                group::put(tx, &group, &|_| Ok(true), QUIETLY)?;
            }
            Ok(())
        })
        .await?;
    sync::round(&app.mdm).await?;
    for some in ids.chunks(500) {
        let some = some.to_vec();
        let tell = move |tx: &Tx<'_>| {
            for id in &some {
                if let Some(sync) = ddm::sync::find(tx, id)? {
                    ddm::sync::told(tx, id, &sync.token)?;
                }
            }
            Ok(())
        };
        app.store.write("bench.tell", tell).await?;
    }
    Ok(())
}

/// A status report of 3 KB, in which something is new each time that `turn` differs.
pub(crate) fn report(device: &Device, turn: usize) -> Json {
    let apps: Vec<Json> = (0..20)
        .map(|at| {
            json!({
                "identifier": format!("org.example.app.{at}"), "name": format!("App {at}"),
                "state": "managed", "version": format!("{turn}.{at}"), "declaration-identifier": "apps",
            })
        })
        .collect();
    let state = |identifier: String| json!({"identifier": identifier, "server-token": device.udid, "active": turn == 0, "valid": "valid"});
    let configurations: Vec<Json> = (0..4).map(|at| state(format!("declaration.0.{at}"))).collect();
    json!({"StatusItems": {
        "device": {
            "identifier": {"serial-number": device.udid, "udid": device.udid},
            "power": {"battery-health": if turn == 0 { "normal" } else { "service-recommended" }},
        },
        "app": {"managed": {"list": apps}},
        "management": {"declarations": {
            "activations": [], "configurations": configurations, "assets": [], "management": [],
        }},
    }})
}

/// Changes the declaration that all have, and waits until everybody was pushed, once.
pub(crate) async fn change(
    prepared: &Prepared,
    (process, address): (&Process, &Address),
    apple: &Apple,
) -> Result<Changed> {
    let database = prepared.config.with_file_name("data").join(russet::storage::FILE);
    let database = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let left = || -> Result<i64> {
        let stale =
            "SELECT COUNT(*) FROM syncs, generations WHERE syncs.generation <> generations.generation";
        Ok(database.query_row(stale, [], |row| row.get(0))?)
    };
    let before = apple.received().len();
    let (cpu, written) = (process.cpu()?, process.written()?);
    let request =
        Request::api("PUT", &format!("/api/v1/declarations/{COMMON}"), &prepared.token, &text(COMMON, "new"));
    let began = Instant::now();
    address.connect().await?.ask(&request.bytes, Expected::Something).await?;
    let enrollments = prepared.enrolled.len();
    let all_pushed = apple.answered(before + enrollments);
    let all_looked_at = async {
        while left()? > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok::<_, crate::Error>(began.elapsed())
    };
    let both = async {
        tokio::join!(all_looked_at, async {
            all_pushed.await;
            began.elapsed()
        })
    };
    let Ok((looked_at, pushed)) = tokio::time::timeout(PATIENCE, both).await else {
        let pushes = apple.received().len() - before;
        return Err(Failed(format!("after two minutes there were {pushes} pushes for {enrollments}")).into());
    };
    // Whoever is pushed twice is so within a moment.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut each: BTreeMap<String, usize> = BTreeMap::new();
    for push in &apple.received()[before..] {
        *each.entry(push.token.clone()).or_default() += 1;
    }
    if each.len() != enrollments || each.values().any(|times| *times != 1) {
        return Err(
            Failed(format!("{} of {enrollments} devices were pushed, not each once", each.len())).into()
        );
    }
    Ok(Changed {
        enrollments,
        looked_at: looked_at?,
        pushed,
        pushes: each.values().sum(),
        cpu: process.cpu()?.saturating_sub(cpu),
        written: process.written()?.saturating_sub(written),
    })
}
