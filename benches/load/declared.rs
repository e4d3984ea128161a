//! What is declared for the devices of the bench, and what they report of it.
//!
//! Two hundred declarations in twenty groups of ten: the first group holds every device by its rule, and
//! each device is in two of the others by hand. With the shares of a hundred that the server sends out
//! there are some two thousand different sets.
//!
//! **Invariant:** everything is written by the functions that the API uses.

use russet::ddm::group::{self, Group};
use russet::ddm::{Edit, declaration};
use russet::error::Result;
use russet::schema::declarations::check;
use russet::storage::Tx;
use serde_json::{Value, json};

const GROUPS: usize = 20;
const EACH: usize = 10;
/// The declaration that every device has, and that is changed.
pub(crate) const EVERYBODYS: &str = "org.example.bench.0.0";

const EDIT: Edit<'_> = Edit { actor: "bench", notify: false };

/// A declaration of ours; those of different `text` differ.
pub(crate) fn body(identifier: &str, text: &str) -> Value {
    json!({
        "Type": "com.apple.configuration.management.test",
        "Identifier": identifier,
        "Payload": {"Echo": text},
    })
}

fn identifier(group: usize, number: usize) -> String {
    format!("org.example.bench.{group}.{number}")
}

/// Writes groups and declarations.
pub(crate) fn declare(tx: &Tx<'_>) -> Result<()> {
    for group in 0..GROUPS {
        let declarations: Vec<String> = (0..EACH).map(|number| identifier(group, number)).collect();
        for name in &declarations {
            declaration::put(tx, &check(&body(name, "as it was made"), false)?, false, EDIT)?;
        }
        let group = Group {
            name: name(group),
            order: 100,
            rule: (group == 0).then(|| "product_name BEGINSWITH 'iPhone'".to_owned()),
            declarations,
            ..Group::default()
        };
        group::put(tx, &group, &|_| Ok(true), EDIT)?;
    }
    Ok(())
}

fn name(group: usize) -> String {
    format!("Group {group}")
}

/// Puts a device, the `at`th, into its groups.
pub(crate) fn join(tx: &Tx<'_>, device: &str, at: usize) -> Result<()> {
    for group in [at, at + 1] {
        group::join(tx, device, &name(1 + group % (GROUPS - 1)))?;
    }
    Ok(())
}

/// A status report with the keys that an iPhone sends: what it is, and what it says of twenty declarations.
pub(crate) fn report(udid: &str, turn: usize) -> Vec<u8> {
    let states: Vec<Value> = (0..20)
        .map(|number| {
            let token =
                russet::id::hex(&russet::id::sha256(identifier(number / EACH, number % EACH).as_bytes()));
            json!({
                "identifier": identifier(number / EACH, number % EACH),
                "server-token": token, "active": true, "valid": "valid",
            })
        })
        .collect();
    let health = ["normal", "service-recommended", "unknown"][turn % 3];
    json!({
        "StatusItems": {
            "device": {
                "identifier": {"serial-number": &udid[..12], "udid": udid},
                "model": {
                    "family": "iPhone", "identifier": "iPhone17,3", "marketing-name": "iPhone 16", "number": "MYMF3LL/A",
                },
                "operating-system": {
                    "build-version": "23A341", "family": "iOS", "marketing-name": "iOS 26", "version": "26.0",
                    "supplemental": {"build-version": "23A341", "extra-version": ""},
                },
                "power": {"battery-health": health},
            },
            "passcode": {"is-compliant": true, "is-present": true},
            "management": {"declarations": {
                "activations": [], "assets": [], "management": [], "configurations": states,
            }},
        },
        "Errors": [],
    })
    .to_string()
    .into_bytes()
}
