//! `russet apply DIR`: what the files say becomes what the server has, all of it or nothing.

use std::path::{Path, PathBuf};

use clap::Args;
use hyper::Method;
use serde_json::{Map, Value as Json};

use super::client::Client;
use super::files::{self, FOLDERS};
use super::{Common, Done, Failure, bytes, complain, difference, say};
use crate::id::printable;

#[derive(Args)]
pub(super) struct Apply {
    /// The folder that holds `declarations/<identifier>.json`, `groups/<name>.json`, `app-sets/<name>.json`,
    /// `updates/<group>.json`, `profiles/<identifier>.mobileconfig`, `assets/<identifier>.json` and
    /// `assets/<identifier>.data`, `services/<identifier>.json` and `background-tasks/<identifier>.json`.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Changes nothing; shows the difference and the enrollments that it would touch.
    #[arg(long)]
    dry_run: bool,
    /// Deletes what has no file.
    #[arg(long)]
    prune: bool,
    /// Accepts what this version does not know of Apple's schema.
    #[arg(long)]
    force: bool,
    /// Pushes nobody; devices learn of it at their next contact.
    #[arg(long)]
    no_notify: bool,
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

/// What stands in the folders, and where each object came from, in the order in which it is sent.
struct Found {
    body: Map<String, Json>,
    files: Vec<(&'static str, Vec<PathBuf>)>,
}

impl Apply {
    pub(super) async fn run(self) -> Done {
        let config = self.common.load()?;
        if !self.folder.is_dir() {
            let words = "there is no such folder; `russet export DIR` writes one, docs/declarations.md says what is in it";
            return Err(Failure::Wrong(format!("{}: {words}", self.folder.display())));
        }
        let mut found = find(&self.folder)?;
        for words in files::passed_over(&self.folder)? {
            complain(words);
        }
        for (kind, objects, paths) in bytes::read(&config, &self.folder, self.dry_run).await? {
            found.body.insert(kind.to_owned(), Json::Array(objects));
            found.files.push((kind, paths));
        }
        if found.files.is_empty() {
            let words = format!(
                "there is nothing to apply: none of the folders {} is in it",
                files::known().join(", ")
            );
            return Err(Failure::Wrong(format!("{}: {words}", self.folder.display())));
        }
        found.body.insert("prune".into(), self.prune.into());
        found.body.insert("dry_run".into(), self.dry_run.into());
        let path =
            format!("/api/v1/apply?force={}&nonotify={}", u8::from(self.force), u8::from(self.no_notify));
        let client = Client::connect(&config).await?;
        let body = Json::Object(std::mem::take(&mut found.body));
        let done = match client.ask_json(Method::POST, &path, &body).await? {
            Ok(done) => done,
            Err(refusal) => return Err(found.refused(&refusal["error"])),
        };
        for warning in done["warnings"].as_array().into_iter().flatten() {
            let place = found.place(warning["pointer"].as_str().unwrap_or_default());
            complain(format!(
                "{place}: {}",
                on_the_command_line(warning["words"].as_str().unwrap_or_default())
            ));
        }
        if self.json {
            say(format!("{done:#}"));
        } else {
            print(&done, self.dry_run);
        }
        Ok(())
    }
}

fn find(folder: &Path) -> Result<Found, Failure> {
    let mut found = Found { body: Map::new(), files: Vec::new() };
    for (kind, member) in FOLDERS {
        // A folder that is not there is left alone, also by --prune.
        let Some(paths) = files::files(&folder.join(kind), files::ENDING)? else { continue };
        let objects: Result<Vec<Json>, Failure> =
            paths.iter().map(|path| files::read(path, member)).collect();
        let list = files::list_of(kind);
        found.body.insert(list.to_owned(), Json::Array(objects?));
        found.files.push((list, paths));
    }
    Ok(found)
}

impl Found {
    /// The file, and the place in it, that a pointer into the whole means.
    fn place(&self, pointer: &str) -> String {
        let mut parts = pointer.splitn(4, '/').skip(1);
        let kind = parts.next().unwrap_or_default();
        let index = parts.next().and_then(|index| index.parse::<usize>().ok());
        let files = self.files.iter().find(|(name, _)| *name == kind).map(|(_, files)| files);
        let Some(file) = files.zip(index).and_then(|(files, index)| files.get(index)) else {
            return pointer.to_owned();
        };
        match parts.next() {
            Some(rest) => format!("{} /{rest}", file.display()),
            None => file.display().to_string(),
        }
    }

    fn refused(&self, error: &Json) -> Failure {
        let text = |name: &str| error[name].as_str().unwrap_or_default();
        let mut words = on_the_command_line(text("message"));
        if error["pointer"].is_string() {
            words = format!("{}: {words}", self.place(text("pointer")));
        }
        if error["suggestion"].is_string() {
            words = format!("{words} Write: {}", text("suggestion"));
        }
        for user in error["users"].as_array().into_iter().flatten() {
            words = format!("{words}\nused by {}", printable(&user.to_string()));
        }
        Failure::Wrong(format!("{words}\nNothing was changed."))
    }
}

/// What the API calls `?force=1` is a flag here.
fn on_the_command_line(words: &str) -> String {
    words.replace("?force=1", "--force").replace("?nonotify=1", "--no-notify")
}

fn print(done: &Json, dry_run: bool) {
    let list = |name: &str| done[name].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |value: &Json| printable(value.as_str().unwrap_or_default());
    for change in list("changes") {
        say(format!("{} {} {}", text(&change["action"]), text(&change["kind"]), text(&change["name"])));
        if change["action"] != "deleted" {
            for line in difference::lines(&change["before"], &change["after"]) {
                say(format!("  {line}"));
            }
        }
    }
    let (changes, unchanged) = (list("changes").len(), &done["unchanged"]);
    if !dry_run {
        say(format!("{changes} changed, {unchanged} unchanged."));
        return;
    }
    if changes == 0 {
        say(format!("No difference; {unchanged} unchanged."));
        return;
    }
    let enrollments = list("enrollments");
    say(format!("{changes} would change, {unchanged} unchanged; {} enrollments:", enrollments.len()));
    for enrollment in enrollments {
        say(format!("  {} {}", text(&enrollment["id"]), text(&enrollment["name"])));
    }
    say("This was a dry run; nothing was changed.");
}
