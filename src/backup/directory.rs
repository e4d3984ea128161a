//! The files in the folder for backups: their names, and which are too many.
//!
//! A name tells whose and of when: `russet-HOST-20261201T091500Z.backup`. Nothing else in the folder is
//! looked at or touched: it may be the root of somebody's USB stick.

use std::path::Path;

use time::OffsetDateTime;
use time::macros::format_description;

use crate::clock::Seconds;

const ENDING: &str = ".backup";

/// A backup that lies in the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    /// As its name says: `20261201T091500Z`.
    pub moment: String,
    /// In bytes.
    pub size: u64,
    /// Whether this server made it and opened it again then.
    pub verified: bool,
}

/// What a backup of this moment is called.
pub(super) fn name(host: &str, now: Seconds) -> String {
    let moment = OffsetDateTime::from_unix_timestamp(now).ok().and_then(|moment| {
        moment.format(format_description!("[year][month][day]T[hour][minute][second]Z")).ok()
    });
    // An address in place of a name has colons, which no FAT stick takes.
    format!("russet-{}-{}{ENDING}", host.replace(':', "_"), moment.unwrap_or_else(|| now.to_string()))
}

/// The backups of this host, newest first; none where there is no folder.
pub(super) fn list(directory: &Path, host: &str) -> Vec<Listed> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut found: Vec<Listed> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            let moment = moment(&name, host)?.to_owned();
            let known = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some(Listed { name, moment, size: known.len(), verified: false })
        })
        .collect();
    found.sort_by(|one, other| other.moment.cmp(&one.moment));
    found
}

/// Removes the oldest beyond `keep`, never the one that was just made.
pub(super) fn thin(directory: &Path, host: &str, just_made: &str, keep: usize) {
    let others = list(directory, host).into_iter().filter(|listed| listed.name != just_made);
    for old in others.skip(keep.saturating_sub(1)) {
        if let Err(error) = std::fs::remove_file(directory.join(&old.name)) {
            tracing::warn!(%error, backup = old.name, "a backup that is too old could not be removed");
        }
    }
}

fn moment<'a>(name: &'a str, host: &str) -> Option<&'a str> {
    let own = format!("russet-{}-", host.replace(':', "_"));
    let moment = name.strip_prefix(own.as_str())?.strip_suffix(ENDING)?;
    let is_moment = moment.len() == 16
        && moment.bytes().enumerate().all(|(at, byte)| match at {
            8 => byte == b'T',
            15 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        });
    is_moment.then_some(moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_ours_is_listed_and_only_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let host = "mdm.example.org";
        let made = name(host, 1_798_761_600);
        assert_eq!(made, "russet-mdm.example.org-20270101T000000Z.backup");
        let others = [
            "holiday.jpg",
            "russet-other.example.org-20200101T000000Z.backup",
            "russet-mdm.example.org-latest.backup",
            "russet-mdm.example.org-20270101T000000Z.backup.unfinished",
        ];
        let ours = ["20260103T000000Z", "20260101T000000Z", "20260102T000000Z"]
            .map(|moment| format!("russet-{host}-{moment}.backup"));
        for file in others.iter().map(|name| (*name).to_owned()).chain(ours.clone()).chain([made.clone()]) {
            std::fs::write(folder.path().join(file), "x").unwrap();
        }
        let names = || list(folder.path(), host).into_iter().map(|listed| listed.name).collect::<Vec<_>>();
        assert_eq!(names().join(" "), [&made, &ours[0], &ours[2], &ours[1]].map(String::as_str).join(" "));
        thin(folder.path(), host, &made, 3);
        assert_eq!(names().join(" "), [&made, &ours[0], &ours[2]].map(String::as_str).join(" "));
        // The clock was set back: what was just made is the oldest by its name, and stays.
        thin(folder.path(), host, &ours[2], 1);
        assert_eq!(names().join(" "), ours[2]);
        assert!(others.iter().all(|name| folder.path().join(name).exists()));
        assert!(list(Path::new("/nowhere"), host).is_empty());
        assert_eq!(name("::1", 0), "russet-__1-19700101T000000Z.backup");
    }
}
