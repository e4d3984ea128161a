//! Whether the data folder's disk has room, is quick enough, and keeps what was written.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::finding::{Finding, Severity};

const MIB: u64 = 1024 * 1024;
/// A commit waits for one flush; more than this is felt.
const SLOW: Duration = Duration::from_millis(250);
const FLUSHES: usize = 5;
/// Kinds of file systems, with what they do to a database.
const KINDS: [(&str, &str); 8] = [
    ("nfs", "locks over a network fail"),
    ("nfs4", "locks over a network fail"),
    ("cifs", "locks over a network fail"),
    ("smb3", "locks over a network fail"),
    ("fuse.sshfs", "locks over a network fail"),
    ("9p", "locks over a network fail"),
    ("tmpfs", "all is gone at the next power cut"),
    ("overlay", "what is written may be gone at the next start"),
];

pub(super) fn findings(folder: &Path, wanted_mib: u32) -> Vec<Finding> {
    let mut found = vec![room(folder, u64::from(wanted_mib))];
    found.extend(kind(folder));
    found.extend(speed(folder));
    found
}

fn room(folder: &Path, wanted: u64) -> Finding {
    let subject = folder.display().to_string();
    let Ok(space) = rustix::fs::statvfs(folder) else {
        return Finding {
            code: "disk-unreadable",
            subject,
            severity: Severity::Failing,
            seen: "The data folder's disk cannot be asked how full it is.".into(),
            means: "It may be gone.".into(),
            remedy: "See whether the disk is still there: df, dmesg.".into(),
        };
    };
    let free = space.f_bavail.saturating_mul(space.f_frsize) / MIB;
    let size = space.f_blocks.saturating_mul(space.f_frsize) / MIB;
    let written = written_per_day()
        .map(|mib| format!(" This server writes about {mib} MiB a day."))
        .unwrap_or_default();
    let seen = format!("{free} of {size} MiB are free.{written}");
    if free >= wanted {
        return Finding::ok("disk-space", subject, seen);
    }
    Finding {
        code: "disk-full",
        subject,
        severity: if free < wanted / 4 { Severity::Failing } else { Severity::Warning },
        seen,
        means: "When it is full nothing is accepted any more: what devices say is refused and told again later, and nothing is lost."
            .into(),
        remedy: "Make room: packages that are not needed, old backups, the system's logs; or keep less history ([retention] days).".into(),
    }
}

/// The kernel's count since this process began, where that is long enough ago to say something.
fn written_per_day() -> Option<u64> {
    let io = std::fs::read_to_string("/proc/self/io").ok()?;
    let bytes: u64 = io.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.parse().ok()?;
    let started = std::fs::metadata("/proc/self").ok()?.modified().ok()?.elapsed().ok()?.as_secs();
    (started > 3600).then(|| bytes * 86_400 / started / MIB)
}

fn kind(folder: &Path) -> Option<Finding> {
    let folder = folder.canonicalize().ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    // The longest mount point above the folder is the one it is on; of two at one place, the later.
    let (_, kind, options) = mounts
        .lines()
        .filter_map(|line| {
            let mut parts = line.split(' ').skip(1);
            let (point, kind, options) = (parts.next()?, parts.next()?, parts.next()?);
            folder.starts_with(point).then_some((point.len(), kind, options))
        })
        .max_by_key(|(length, ..)| *length)?;
    let subject = folder.display().to_string();
    if options.split(',').any(|option| option == "ro") {
        return Some(Finding {
            code: "disk-read-only",
            subject,
            severity: Severity::Failing,
            seen: "The data folder's disk is read-only.".into(),
            means: "Nothing that devices say is kept; a memory card turns read-only when it wears out."
                .into(),
            remedy: "Make a backup at once, and put it back on a new card: russet restore.".into(),
        });
    }
    let (_, harm) = KINDS.iter().find(|(known, _)| *known == kind)?;
    Some(Finding {
        code: "disk-kind",
        subject,
        severity: Severity::Warning,
        seen: format!("The data folder is on a file system of the kind {kind}."),
        means: format!("There {harm}."),
        remedy: "Put data_dir on a disk of this machine.".into(),
    })
}

/// How long a small write takes until it is on the disk.
fn speed(folder: &Path) -> Option<Finding> {
    let path = folder.join(".doctor");
    let flush = || -> std::io::Result<Duration> {
        let mut file = File::create(&path)?;
        let mut worst = Vec::new();
        for _ in 0..FLUSHES {
            let begun = Instant::now();
            file.write_all(&[0; 4096])?;
            file.sync_all()?;
            worst.push(begun.elapsed());
        }
        worst.sort_unstable();
        Ok(worst[FLUSHES / 2])
    };
    let took = flush();
    let _ = std::fs::remove_file(&path);
    let subject = folder.display().to_string();
    match took {
        Ok(took) if took < SLOW => Some(Finding::ok(
            "disk-speed",
            subject,
            format!("A small write is on the disk after {} ms.", took.as_millis()),
        )),
        Ok(took) => Some(Finding {
            code: "disk-slow",
            subject,
            severity: Severity::Warning,
            seen: format!("A small write takes {} ms until it is on the disk.", took.as_millis()),
            means:
                "Each answer to a device waits for one; a card that has become slow is often about to fail."
                    .into(),
            remedy: "Make a backup, and move to another card or to a disk.".into(),
        }),
        Err(error) => Some(Finding {
            code: "disk-write",
            subject,
            severity: Severity::Failing,
            seen: format!("Nothing can be written there: {error}."),
            means: "Nothing that devices say is kept.".into(),
            remedy: "Make room, or see whether the disk is still whole: dmesg.".into(),
        }),
    }
}
