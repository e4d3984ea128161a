//! The layers and the owners of tables, executed: `src/lib.rs` and the migrations say them, this
//! holds the code to it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Highest first. A module may use modules of lines beneath its own.
const LAYERS: [&[&str]; 11] = [
    &["cli"],
    &["server"],
    &["admin", "simulator"],
    &["doctor"],
    &["expiry", "backup", "webhook", "acme"],
    &["mdm"],
    &["enroll", "library"],
    &["ddm", "apns", "content"],
    &["pki"],
    &["schema", "storage", "https", "mail"],
    &["config", "error", "id", "clock", "request", "plist", "finding", "metric"],
];

/// Leaf files that others of the last line may use: they know nothing themselves.
const LEAVES_OF_LEAVES: [&str; 3] = ["error", "id", "clock"];

/// Files that spell a table of another owner, each with its reason.
const EXCEPTIONS: [(&str, &str, &str); 11] = [
    ("mdm/wake.rs", "enrollments", "who is due is a question about both, asked for every push"),
    ("mdm/contact.rs", "enrollments", "who was heard of last is a question about both"),
    ("mdm/queue.rs", "enrollments", "a device's commands are also those of its users"),
    ("enroll/session.rs", "identities", "a session is thrown away only if no certificate was issued for it"),
    ("server/app.rs", "facts", "facts of the installation belong to the wiring"),
    ("storage/mod.rs", "facts", "the store's own tests write the table that knows no noun"),
    (
        "ddm/sync.rs",
        "generations",
        "whether a channel has seen all edits is asked at every Idle, in one look",
    ),
    ("ddm/snapshot.rs", "syncs", "a set is thrown away only if no channel has it"),
    ("ddm/snapshot.rs", "declarations", "a content is thrown away only if it is not the present one"),
    ("mdm/ending.rs", "*", "what became of a renewal is told by its identity, session and command together"),
    ("mdm/listing.rs", "*", "the API's lists join what belongs to an enrollment"),
];

fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    found
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        // Tests that fill a folder of their own may look at anything.
        .filter(|path| !path.iter().any(|part| part == "tests") && !path.ends_with("tests.rs"))
        .map(|path| {
            let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The code without its tests, which may use anything.
fn product(source: &str) -> &str {
    source.split("\n#[cfg(test)]\nmod ").next().unwrap_or(source)
}

#[test]
fn every_module_uses_only_what_stands_beneath_it() {
    let mut wrong = BTreeSet::new();
    for (name, source) in sources() {
        let module = name.split(['/', '.']).next().unwrap();
        if matches!(module, "lib" | "main") {
            continue;
        }
        let own =
            layer(module).unwrap_or_else(|| panic!("src/{name} is in no layer: add it to lib.rs and here"));
        for used in product(&source).split("crate::").skip(1) {
            let end = used.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(used.len());
            let used = &used[..end];
            let Some(theirs) = layer(used) else { continue };
            let leaf = own == LAYERS.len() - 1 && LEAVES_OF_LEAVES.contains(&used);
            if used != module && theirs <= own && !leaf {
                wrong.insert(format!("{name} uses {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// `-- …. Owner: path` stands above each table in the migrations.
fn owners() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/storage/migrations");
    let mut owners = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let sql = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let mut owner = "server/app.rs".to_owned();
        for line in sql.lines() {
            if let Some((_, named)) = line.split_once("Owner: ") {
                named.trim().clone_into(&mut owner);
            }
            if let Some(table) = line.strip_prefix("CREATE TABLE ") {
                owners.insert(table.trim_end_matches(" (").to_owned(), owner.clone());
            }
        }
    }
    owners
}

/// Whether a line of SQL speaks of the table: after the words that name one.
fn spells(source: &str, table: &str) -> bool {
    ["FROM ", "INTO ", "UPDATE ", "JOIN ", "TABLE "].iter().any(|word| {
        source.match_indices(&format!("{word}{table}")).any(|(at, found)| {
            !source[at + found.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_')
        })
    })
}

#[test]
fn every_table_is_spelled_by_its_owner_alone() {
    let owners = owners();
    assert!(owners.len() > 10, "{owners:?}");
    let mut wrong = BTreeSet::new();
    for (name, source) in sources() {
        for (table, owner) in &owners {
            let excepted =
                EXCEPTIONS.iter().any(|(file, of, _)| *file == name && (of == table || *of == "*"));
            if &name != owner && !excepted && spells(product(&source), table) {
                wrong.insert(format!("{name} spells {table}, which {owner} owns"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (table, owner) in &owners {
        assert!(
            sources().iter().any(|(name, source)| name == owner && spells(source, table)),
            "{owner} owns {table} and never speaks of it"
        );
    }
}
