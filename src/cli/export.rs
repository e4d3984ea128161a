//! `russet export DIR`: what is declared as files that `russet apply` reads.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use hyper::Method;

use super::client::Client;
use super::files::{self, FOLDERS};
use super::{Common, Done, Failure, bytes, say};

#[derive(Args)]
pub(super) struct Export {
    /// The folder, made if it is not there; files of objects that are there no more stay.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Deletes files in its subfolders that no object belongs to.
    #[arg(long)]
    prune: bool,
    /// Writes the members by hand of groups too. Without them the next apply leaves members as they are;
    /// with them it takes out everybody who came since.
    #[arg(long)]
    members: bool,
    #[command(flatten)]
    common: Common,
}

impl Export {
    pub(super) async fn run(self) -> Done {
        let config = self.common.load()?;
        let all =
            Client::connect(&config).await?.json(Method::GET, "/api/v1/export?relative=1", None).await?;
        for (kind, member) in FOLDERS {
            let folder = self.folder.join(kind);
            let objects = all[files::list_of(kind)].as_array().map(Vec::as_slice).unwrap_or_default();
            // Services are nothing that everybody has.
            if objects.is_empty() && !folder.is_dir() && !matches!(kind, "declarations" | "groups") {
                continue;
            }
            fs::create_dir_all(&folder)
                .map_err(|error| Failure::Wrong(format!("{}: {error}", folder.display())))?;
            let mut written = Vec::new();
            for object in objects {
                let path = files::path(&folder, object[member].as_str().unwrap_or_default(), files::ENDING)?;
                let mut object = object.clone();
                if let Some(group) = object.as_object_mut().filter(|_| kind == "groups" && !self.members) {
                    group.shift_remove("members");
                }
                files::write(&path, &object)?;
                written.push(path);
            }
            say(format!("{}: {} {kind}", folder.display(), written.len()));
            self.leave(&folder, files::ENDING, &written)?;
        }
        for (kind, endings) in bytes::FOLDERS {
            let folder = self.folder.join(kind);
            let objects = all[kind].as_array().map(Vec::as_slice).unwrap_or_default();
            // A folder that nobody needs is not made.
            if objects.is_empty() && !folder.is_dir() {
                continue;
            }
            let written = bytes::write(&config, kind, &folder, objects).await?;
            say(format!("{}: {} {kind}", folder.display(), objects.len()));
            for ending in endings {
                self.leave(&folder, ending, &written)?;
            }
        }
        Ok(())
    }

    /// Files that no object belongs to.
    fn leave(&self, folder: &Path, ending: &str, written: &[PathBuf]) -> Result<(), Failure> {
        for left in files::files(folder, ending)?.unwrap_or_default() {
            if written.contains(&left) {
                continue;
            }
            if self.prune {
                fs::remove_file(&left)
                    .map_err(|error| Failure::Wrong(format!("{}: {error}", left.display())))?;
                say(format!("deleted {}", left.display()));
            } else {
                eprintln!("{} is not on the server; --prune deletes the file", left.display());
            }
        }
        Ok(())
    }
}
