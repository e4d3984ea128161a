//! `russet restore FILE`.

use std::path::PathBuf;

use clap::Args;

use super::{Common, Done, say};
use crate::backup::Restore as Work;
use crate::clock::Clock;
use crate::error::Error;
use crate::server::SOCKET;

#[derive(Args)]
pub(super) struct Restore {
    /// The backup.
    file: PathBuf,
    /// The recovery key, where it is not in the data folder: recovery-key.txt, or what was written down in a file.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

impl Restore {
    pub(super) fn run(&self) -> Done {
        let config = self.common.load()?;
        let work = Work {
            file: &self.file,
            key_file: self.key_file.as_deref(),
            data_dir: &config.data_dir,
            now: Clock::system().now(),
        };
        let restored = work.run().map_err(|error| match error {
            // A server answers on its socket; another command does not.
            Error::Conflict { .. } if config.data_dir.join(SOCKET).exists() => Error::conflict(format!(
                "a server runs on {}; stop it first, then restore",
                config.data_dir.display()
            )),
            error => error,
        })?;
        let manifest = restored.manifest;
        say(format!(
            "{} is restored, as it was at {} ({}).",
            config.data_dir.display(),
            manifest.created_at,
            manifest.public_url
        ));
        if let Some(old) = restored.moved_to {
            say(format!("What was there before is in {}.", old.display()));
        }
        if manifest.public_url != config.server.public_url.to_string() {
            say(format!(
                "Its devices know the server as {}; write public_url = \"{0}\" in russet.toml before you start it.",
                manifest.public_url
            ));
        }
        if !manifest.packages {
            say("Packages are not in it; upload them again if there were any.");
        }
        Ok(())
    }
}
