//! Backups that are made, damaged, forged and put back.

use std::io::Write;
use std::path::{Path, PathBuf};

use axum::body::Body;
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

use super::manifest::{DATABASE, Member, SEAL};
use super::*;
use crate::clock::{Clock, DAY, EARLIEST_SANE};
use crate::storage::{self, Lock};

/// A data folder with a database, files and a folder for backups.
struct Site {
    folder: tempfile::TempDir,
    store: Store,
    contents: Contents,
    backups: Backups,
}

impl Site {
    async fn new() -> Self {
        Self::configured(|_| {}).await
    }

    async fn configured(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config { data_dir: folder.path().join("data"), ..Config::default() };
        config.backup.directory = Some(folder.path().join("stick"));
        std::fs::create_dir_all(folder.path().join("stick")).unwrap();
        std::fs::create_dir(&config.data_dir).unwrap();
        change(&mut config);
        let store = Store::open(&config.data_dir, Clock::set_to(EARLIEST_SANE + DAY)).unwrap();
        let seal = Seal::open(&config.data_dir, None, true).unwrap();
        let lifetimes = crate::pki::authority::Lifetimes { ca_days: 400, identity_days: 90 };
        crate::pki::authority::Authority::open(&store, &seal, "Example School", lifetimes).await.unwrap();
        let contents = Contents::open(&config.data_dir, &seal).unwrap();
        let backups = Backups::open(&config, &store, &seal, &contents).await.unwrap();
        Self { folder, store, contents, backups }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn key(&self) -> PathBuf {
        self.data().join(RECOVERY_KEY)
    }

    /// A file of more than a mebibyte that `user` uses.
    async fn upload(&self, user: &'static str, byte: u8) -> PathBuf {
        let size = usize::try_from(crate::content::IN_DATABASE).unwrap() + 9;
        let received = self.contents.receive(Body::from(vec![byte; size])).await.unwrap();
        let contents = self.contents.clone();
        let kept =
            self.store.write("keep", move |tx| contents.keep(tx, user, &received, false)).await.unwrap();
        Path::new("files").join(kept.id)
    }

    async fn fact(&self, value: &'static str) {
        self.store
            .write("test.fact", move |tx| {
                tx.execute("INSERT OR REPLACE INTO facts (name, value) VALUES ('test', ?1)", [value])?;
                Ok(())
            })
            .await
            .unwrap();
    }

    async fn made(&self) -> PathBuf {
        let made = self.backups.make().await.unwrap();
        assert!(made.verified && made.size > 0);
        self.folder.path().join("stick").join(made.name)
    }

    /// Restores into a folder that is not there yet.
    fn restore(&self, file: &Path, into: &str) -> Result<PathBuf> {
        let data_dir = self.folder.path().join(into);
        let key = self.key();
        Restore { file, key_file: Some(&key), data_dir: &data_dir, now: 7 }.run()?;
        Ok(data_dir)
    }

    /// The sentence with which a file is refused; nothing is left of the attempt.
    fn refused(&self, file: &Path) -> String {
        let refused = self.restore(file, "refused").expect_err("it is restored").to_string();
        let left: Vec<_> =
            names(self.folder.path()).into_iter().filter(|name| name.contains("refused")).collect();
        assert!(left.is_empty(), "{left:?} is left");
        refused
    }

    /// A backup as somebody makes it who knows the public key.
    fn forge(&self, fill: impl FnOnce(&mut Builder<Vec<u8>>)) -> PathBuf {
        let mut tar = Builder::new(Vec::new());
        fill(&mut tar);
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&tar.into_inner().unwrap()).unwrap();
        self.encrypted(&packed.finish().unwrap())
    }

    fn encrypted(&self, plain: &[u8]) -> PathBuf {
        let known = self.store.peek(known).unwrap().unwrap();
        let path = self.folder.path().join("forged.backup");
        std::fs::write(&path, age::encrypt(&known.recipient().unwrap(), plain).unwrap()).unwrap();
        path
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn fact(data_dir: &Path) -> String {
    let store = Store::open(data_dir, Clock::set_to(EARLIEST_SANE)).unwrap();
    store
        .peek(|conn| Ok(conn.query_row("SELECT value FROM facts WHERE name = 'test'", [], |row| row.get(0))?))
        .unwrap()
}

fn member(name: &str, bytes: &[u8]) -> Member {
    Member { name: name.into(), size: bytes.len() as u64, sha256: crate::id::hex(&crate::id::sha256(bytes)) }
}

fn append(tar: &mut Builder<Vec<u8>>, name: &str, bytes: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    header.set_entry_type(EntryType::Regular);
    tar.append_data(&mut header, name, bytes).unwrap();
}

fn manifest(schema: i64, members: Vec<Member>) -> Vec<u8> {
    let manifest = Manifest::new(schema, "2026-12-01T00:00:00Z".into(), "https://a.example", false, members);
    serde_json::to_vec(&manifest).unwrap()
}

#[tokio::test]
async fn a_backup_brings_everything_back_and_leaves_nothing_beside_it() {
    let site = Site::new().await;
    site.fact("before").await;
    let (asset, package) = (site.upload("asset a", 1).await, site.upload("package b", 2).await);
    let file = site.made().await;
    assert_eq!(
        names(&site.folder.path().join("stick")),
        [file.file_name().unwrap().to_str().unwrap(), SEALING_KEY]
    );
    assert!(
        !names(&site.data()).iter().any(|name| name.contains("for-backup") || name.contains("unfinished"))
    );
    site.fact("after").await;

    let restored = site.restore(&file, "restored").unwrap();
    assert_eq!(fact(&restored), "before");
    assert_eq!(
        std::fs::read(restored.join(&asset)).unwrap(),
        std::fs::read(site.data().join(&asset)).unwrap()
    );
    assert!(!restored.join(&package).exists(), "packages were not asked for");
    for name in ["seal.key", RECOVERY_KEY] {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(restored.join(name).metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    assert_eq!(
        RecoveryKey::read(&restored.join(RECOVERY_KEY)).unwrap().public(),
        RecoveryKey::read(&site.key()).unwrap().public()
    );
    let marker: Marker = serde_json::from_slice(&std::fs::read(restored.join(MARKER)).unwrap()).unwrap();
    assert_eq!((marker.restored_at, marker.created_at.as_str()), (7, "2026-01-02T00:00:00Z"));

    let whole = Site::configured(|config| config.backup.packages = true).await;
    let package = whole.upload("package b", 2).await;
    let restored = whole.restore(&whole.made().await, "restored").unwrap();
    assert!(restored.join(package).exists());
}

#[tokio::test]
async fn what_is_there_is_moved_aside_each_time() {
    let site = Site::new().await;
    site.fact("before").await;
    let file = site.made().await;
    for (value, moved) in [("first", "restored.before-restore-7"), ("second", "restored.before-restore-8")] {
        let target = site.folder.path().join("restored");
        std::fs::create_dir_all(&target).unwrap();
        std::fs::write(target.join("note"), value).unwrap();
        site.restore(&file, "restored").unwrap();
        assert!(!target.join("note").exists());
        let old = site.folder.path().join(moved).join("note");
        assert_eq!(std::fs::read_to_string(old).unwrap(), value);
    }
    assert!(!names(site.folder.path()).iter().any(|name| name.contains("restoring")));
}

#[tokio::test]
async fn a_folder_that_a_server_has_is_left_alone_and_its_own_key_is_used() {
    let site = Site::new().await;
    let file = site.made().await;
    let data_dir = site.data();
    let own = Restore { file: &file, key_file: None, data_dir: &data_dir, now: 7 };
    let lock = Lock::take(&data_dir).unwrap();
    assert!(matches!(own.run(), Err(Error::Conflict { .. })));
    drop(lock);
    assert_eq!(own.run().unwrap().moved_to, Some(site.folder.path().join("data.before-restore-7")));
    let elsewhere = site.folder.path().join("elsewhere");
    let keyless = Restore { file: &file, key_file: None, data_dir: &elsewhere, now: 7 }.run().unwrap_err();
    assert!(keyless.to_string().contains("--key-file"), "{keyless}");
}

#[tokio::test]
async fn not_one_changed_bit_and_no_missing_or_added_byte_is_taken() {
    let site = Site::new().await;
    let file = site.made().await;
    let whole = std::fs::read(&file).unwrap();
    let other = site.folder.path().join("other.backup");
    let step = whole.len() / 60;
    let places = (0..40).chain((40..whole.len()).step_by(step)).chain(whole.len() - 40..whole.len());
    for at in places {
        let mut changed = whole.clone();
        changed[at] ^= 1 << (at % 8);
        std::fs::write(&other, &changed).unwrap();
        site.refused(&other);
        std::fs::write(&other, &whole[..at]).unwrap();
        let refused = site.refused(&other);
        assert!(refused.contains("not a whole backup"), "{refused}");
    }
    for more in [&b"x"[..], &[0; 100_000]] {
        std::fs::write(&other, [&whole, more].concat()).unwrap();
        site.refused(&other);
    }
    for odd in
        [&b""[..], b"holiday", &[0x1f, 0x8b, 8, 0], &std::fs::read(site.data().join(storage::FILE)).unwrap()]
    {
        std::fs::write(&other, odd).unwrap();
        let refused = site.refused(&other);
        assert!(refused.contains("not a whole backup") && refused.contains("take another file"), "{refused}");
    }
    assert!(site.refused(Path::new("/nowhere")).contains("cannot be read"));
}

#[tokio::test]
async fn a_backup_of_another_server_says_whose_key_is_needed() {
    let (site, other) = (Site::new().await, Site::new().await);
    let refused = site.refused(&other.made().await);
    assert!(refused.contains("--key-file") && refused.contains("another recovery key"), "{refused}");
    let data_dir = site.folder.path().join("new");
    let no_key = site.folder.path().join("no-key.txt");
    std::fs::write(&no_key, "AGE-SECRET-KEY-1").unwrap();
    let file = site.made().await;
    let refused =
        Restore { file: &file, key_file: Some(&no_key), data_dir: &data_dir, now: 7 }.run().unwrap_err();
    assert!(refused.to_string().contains("letter by letter"), "{refused}");
    assert!(!data_dir.exists());
}

#[tokio::test]
async fn newer_and_forged_files_are_refused_in_words() {
    let site = Site::new().await;
    // A whole one: what was written last still lies in the log beside the file.
    let copy = site.folder.path().join("copy.db");
    site.store
        .peek(|conn| {
            conn.execute_batch("PRAGMA query_only = OFF; COMMIT")?;
            conn.execute("VACUUM INTO ?1", [copy.to_str()])?;
            Ok(conn.execute_batch("BEGIN")?)
        })
        .unwrap();
    let database = std::fs::read(&copy).unwrap();
    let seal = std::fs::read(site.data().join("seal.key")).unwrap();
    let schema = storage::known_schema();
    let members = || vec![member(DATABASE, &database), member(SEAL, &seal)];
    let usual = |tar: &mut Builder<Vec<u8>>, table: &[u8]| {
        append(tar, "manifest.json", table);
        append(tar, DATABASE, &database);
        append(tar, SEAL, &seal);
    };
    let newer = site.forge(|tar| usual(tar, &manifest(schema + 1, members())));
    assert!(site.refused(&newer).contains("newer than this program"));
    let lied = site.forge(|tar| usual(tar, &manifest(schema - 1, members())));
    assert!(site.refused(&lied).contains("another schema than it says"));
    let more = site.forge(|tar| {
        usual(tar, &manifest(schema, members()));
        append(tar, "more", b"x");
    });
    assert!(site.refused(&more).contains("more in it than it says"));
    let swapped = site.forge(|tar| {
        append(tar, "manifest.json", &manifest(schema, members()));
        append(tar, SEAL, &seal);
        append(tar, DATABASE, &database);
    });
    assert!(site.refused(&swapped).contains("not where it should be"));
    let other_seal = [7; 32];
    let foreign = site.forge(|tar| {
        append(
            tar,
            "manifest.json",
            &manifest(schema, vec![member(DATABASE, &database), member(SEAL, &other_seal)]),
        );
        append(tar, DATABASE, &database);
        append(tar, SEAL, &other_seal);
    });
    assert!(site.refused(&foreign).contains("does not open with this sealing key"));
    let garbage = b"no database";
    let empty = site.forge(|tar| {
        append(tar, "manifest.json", &manifest(schema, vec![member(DATABASE, garbage), member(SEAL, &seal)]));
        append(tar, DATABASE, garbage);
        append(tar, SEAL, &seal);
    });
    assert!(site.refused(&empty).contains("not a whole backup"));
    let linked = site.forge(|tar| {
        append(tar, "manifest.json", &manifest(schema, members()));
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, DATABASE, "/etc/passwd").unwrap();
    });
    assert!(site.refused(&linked).contains("not where it should be"));
    let huge = Member { size: 1 << 41, ..member(DATABASE, &database) };
    let full = site.forge(|tar| usual(tar, &manifest(schema, vec![huge, member(SEAL, &seal)])));
    assert!(site.refused(&full).contains("make room"));
    assert!(site.refused(&site.encrypted(b"not even packed")).contains("not a whole backup"));
    assert!(site.refused(&site.forge(|_| {})).contains("it is empty"));
    let late = site.forge(|tar| append(tar, DATABASE, &database));
    assert!(site.refused(&late).contains("manifest.json is not where it should be"));
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_never_made_and_the_failure_is_told_once() {
    let site = Site::new().await;
    let stick = site.folder.path().join("stick");
    std::fs::remove_dir_all(&stick).unwrap();
    for _ in 0..2 {
        let refused = site.backups.make().await.unwrap_err().to_string();
        assert!(refused.contains("plug in or mount"), "{refused}");
        assert!(!stick.exists());
    }
    let events = site.store.peek(|conn| event::newest(conn, None, 10)).unwrap();
    assert_eq!(events.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(), ["backup-failed"]);
    let failing = findings(&site.backups).unwrap();
    assert_eq!((failing[0].code, failing[0].severity), ("backup-failed", crate::finding::Severity::Failing));
    assert!(failing[0].seen.contains("plug in or mount"), "{failing:?}");

    std::fs::create_dir(&stick).unwrap();
    site.backups.make_if_due().await.unwrap();
    assert!(site.backups.list().unwrap().is_empty(), "its pause is not over");
    site.store.clock().advance(DAY);
    site.backups.make_if_due().await.unwrap();
    site.backups.make_if_due().await.unwrap();
    let listed = site.backups.list().unwrap();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].verified && site.backups.file(&listed[0].name).is_some());
    assert!(site.backups.file("../data/seal.key").is_none());
    let codes = |found: Vec<crate::finding::Finding>| found.iter().map(|one| one.code).collect::<Vec<_>>();
    assert_eq!(codes(findings(&site.backups).unwrap()), ["backup-made", "recovery-key-not-written-down"]);
    site.store.clock().advance(3 * DAY);
    assert_eq!(codes(findings(&site.backups).unwrap())[0], "backup-old");
}

#[tokio::test]
async fn only_as_many_are_kept_as_are_wanted() {
    let site = Site::configured(|config| config.backup.keep = 2).await;
    for _ in 0..4 {
        site.made().await;
        site.store.clock().advance(DAY);
    }
    assert_eq!(site.backups.list().unwrap().len(), 2);
}

#[tokio::test]
async fn a_database_that_is_damaged_makes_no_backup_and_removes_none() {
    let site = Site::configured(|config| config.backup.keep = 1).await;
    let good = site.made().await;
    site.store.clock().advance(DAY);
    // A key that the sealing key does not open: it would not open after a restore either.
    site.store
        .write("test.damage", |tx| Ok(tx.execute("UPDATE authorities SET sealed_key = x'00'", [])?))
        .await
        .unwrap();
    let refused = site.backups.make().await.unwrap_err().to_string();
    assert!(refused.contains("sealing key"), "{refused}");
    assert!(good.exists());
    assert!(!names(&site.folder.path().join("stick")).iter().any(|name| name.contains("unfinished")));
}

#[tokio::test]
async fn a_key_in_a_safe_still_gets_backups_that_open_with_it() {
    let site = Site::new().await;
    let safe = site.folder.path().join("safe.txt");
    std::fs::rename(site.key(), &safe).unwrap();
    let made = site.backups.make().await.unwrap();
    assert!(!made.verified);
    let file = site.folder.path().join("stick").join(made.name);
    let data_dir = site.folder.path().join("restored");
    Restore { file: &file, key_file: Some(&safe), data_dir: &data_dir, now: 7 }.run().unwrap();
    assert_eq!(findings(&site.backups).unwrap()[0].code, "backup-unverified");
}

#[tokio::test]
async fn one_at_a_time_and_one_that_is_fetched_is_gone_afterwards() {
    use std::io::Read;
    let site = Site::new().await;
    let (made, once) = site.backups.make_once().await.unwrap();
    assert!(made.name.starts_with("russet-localhost-"));
    let mut file = once.open().unwrap();
    drop(once);
    assert!(!site.data().join("once.backup").exists());
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    assert_eq!(crate::id::hex(&crate::id::sha256(&bytes)), made.sha256);
    let _busy = site.backups.0.busy.lock().await;
    assert!(site.backups.make().await.unwrap_err().to_string().contains("is being made"));
}
